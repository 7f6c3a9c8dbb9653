//! The usual document, read in one pass over its bytes: the grammar is checked and the wanted scalars are picked out.
//!
//! It gives up on whatever is wrong or rare, and the careful reader beside it decides, with serde_json and with words for
//! what is wrong. One property must hold: a document that is taken here is taken there too, with the same values. The tests compare them.

use std::borrow::Cow;

use super::{Node, Pointers, Scalar, Values};
use crate::limits::JSON_DEPTH_MAX;

/// Longer numbers are rare, and not all of them are exact or within what a float holds.
const DIGITS_MAX: usize = 18;

/// Reads a whole document; `None` when the careful reader has to.
pub(super) fn read<'a>(pointers: &Pointers, text: &'a str) -> Option<Values<'a>> {
    let mut scan = Scan {
        pointers,
        text,
        bytes: text.as_bytes(),
        values: vec![None; pointers.slots],
    };
    let end = scan.value(0, pointers.nodes.first(), 0)?;
    match scan.token(end) {
        None => Some(Values(scan.values)),
        Some(_) => None,
    }
}

/// Its methods take where something begins and return what is behind it, so that the place stays in a register.
struct Scan<'p, 'a> {
    pointers: &'p Pointers,
    text: &'a str,
    bytes: &'a [u8],
    values: Vec<Option<Scalar<'a>>>,
}

impl<'p, 'a> Scan<'p, 'a> {
    /// A value that has so many containers around it; `node` is its place among the wanted ones.
    fn value(&mut self, at: usize, node: Option<&'p Node>, depth: usize) -> Option<usize> {
        let slot = node.and_then(|node| node.slot);
        let (token, at) = self.token(at)?;
        match token {
            b'"' => {
                let (end, escaped) = self.string(at)?;
                if let Some(slot) = slot {
                    let inner = self.text.get(at..end)?;
                    self.values[slot] = Some(Scalar::Text(if escaped {
                        Cow::Owned(serde_json::from_str(self.text.get(at - 1..=end)?).ok()?)
                    } else {
                        Cow::Borrowed(inner)
                    }));
                }
                Some(end + 1)
            }
            b'{' if depth < JSON_DEPTH_MAX => self.object(at, node, depth + 1),
            b'[' if depth < JSON_DEPTH_MAX => self.array(at, node, depth + 1),
            b'-' | b'0'..=b'9' => self.number(at - 1, slot),
            b't' => self.word(at, b"rue", slot, Some(Scalar::Bool(true))),
            b'f' => self.word(at, b"alse", slot, Some(Scalar::Bool(false))),
            b'n' => self.word(at, b"ull", slot, None),
            _ => None,
        }
    }

    fn object(&mut self, at: usize, node: Option<&'p Node>, depth: usize) -> Option<usize> {
        let mut seen = 0_u64;
        let (mut token, mut at) = self.token(at)?;
        if token == b'}' {
            return Some(at);
        }
        loop {
            if token != b'"' {
                return None;
            }
            let (end, escaped) = self.string(at)?;
            let inner = match node {
                None => None,
                // With its escapes undone it may be a wanted one.
                Some(_) if escaped => return None,
                Some(node) => {
                    let key = self.bytes.get(at..end)?;
                    let found = node.children.iter().position(|child| child.key.as_bytes() == key);
                    match found {
                        None => None,
                        Some(found) if seen & (1 << found) != 0 => return None,
                        Some(found) => {
                            seen |= 1 << found;
                            self.pointers.nodes.get(node.children[found].node)
                        }
                    }
                }
            };
            let (b':', value_at) = self.token(end + 1)? else {
                return None;
            };
            let end = self.value(value_at, inner, depth)?;
            match self.token(end)? {
                (b',', next) => (token, at) = self.token(next)?,
                (b'}', end) => return Some(end),
                _ => return None,
            }
        }
    }

    fn array(&mut self, mut at: usize, node: Option<&'p Node>, depth: usize) -> Option<usize> {
        if let (b']', end) = self.token(at)? {
            return Some(end);
        }
        let children = node.map_or(&[][..], |node| &node.children);
        for position in 0.. {
            let child = children.iter().find(|child| child.index == Some(position));
            let inner = child.and_then(|child| self.pointers.nodes.get(child.node));
            let end = self.value(at, inner, depth)?;
            match self.token(end)? {
                (b',', next) => at = next,
                (b']', end) => return Some(end),
                _ => break,
            }
        }
        None
    }

    /// The next byte that is no white space, and what is behind it.
    #[inline(always)]
    fn token(&self, mut at: usize) -> Option<(u8, usize)> {
        loop {
            let byte = *self.bytes.get(at)?;
            at += 1;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some((byte, at));
            }
        }
    }

    /// Where a string ends that begins behind its quote, and whether something in it is escaped.
    #[inline(always)]
    fn string(&self, at: usize) -> Option<(usize, bool)> {
        let end = plain_end(self.bytes, at);
        match self.bytes.get(end)? {
            b'"' => Some((end, false)),
            b'\\' => Some((self.escaped_string(end)?, true)),
            // A control character.
            _ => None,
        }
    }

    /// The same from the first backslash on.
    fn escaped_string(&self, mut at: usize) -> Option<usize> {
        loop {
            match self.bytes.get(at)? {
                b'"' => return Some(at),
                b'\\' => at = self.escape(at + 1)?,
                _ => return None,
            }
            at = plain_end(self.bytes, at);
        }
    }

    fn escape(&self, at: usize) -> Option<usize> {
        match self.bytes.get(at)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(at + 1),
            b'u' => {
                let digits = self.bytes.get(at + 1..at + 5)?;
                // Halves of a pair must match, which is not looked at here.
                let is_half = matches!(digits, [b'd' | b'D', b'8'..=u8::MAX, ..]);
                (!is_half && digits.iter().all(u8::is_ascii_hexdigit)).then_some(at + 5)
            }
            _ => None,
        }
    }

    fn number(&mut self, start: usize, slot: Option<usize>) -> Option<usize> {
        let bytes = self.bytes;
        let digits = |from: usize| {
            let rest = bytes.get(from..)?;
            let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            (1..=DIGITS_MAX).contains(&count).then_some(from + count)
        };
        let is_negative = bytes.get(start) == Some(&b'-');
        let whole = start + usize::from(is_negative);
        let mut end = digits(whole)?;
        // A number has no zero before other digits, and minus zero is no integer.
        if bytes.get(whole) == Some(&b'0') && (end > whole + 1 || is_negative) {
            return None;
        }
        let is_integer = bytes.get(end) != Some(&b'.');
        if !is_integer {
            end = digits(end + 1)?;
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            return None;
        }
        if let Some(slot) = slot {
            let text = self.text.get(start..end)?;
            self.values[slot] = Some(if is_integer {
                Scalar::Integer(text.parse::<i64>().ok()?.into())
            } else {
                Scalar::Float(text.parse().ok()?, text.into())
            });
        }
        Some(end)
    }

    fn word(&mut self, at: usize, rest: &[u8], slot: Option<usize>, scalar: Option<Scalar<'a>>) -> Option<usize> {
        let end = at + rest.len();
        if self.bytes.get(at..end) != Some(rest) {
            return None;
        }
        if let (Some(slot), Some(_)) = (slot, &scalar) {
            self.values[slot] = scalar;
        }
        Some(end)
    }
}

/// From `at` on, the first byte that does not stand for itself in a string: a quote, a backslash or a control character. Eight are
/// looked at together; of the marks in a word the lowest is right, and those above it may not be.
#[inline(always)]
fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    let below = |word: u64, bound: u64| word.wrapping_sub(ONES * bound) & !word & HIGHS;
    while let Some(piece) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let word = u64::from_le_bytes(*piece);
        let marks = below(word ^ (ONES * 0x22), 1) | below(word ^ (ONES * 0x5C), 1) | below(word, 0x20);
        if marks != 0 {
            return at + (marks.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let is_plain = |byte: &&u8| !matches!(byte, b'"' | b'\\' | ..0x20);
    at + rest.iter().take_while(is_plain).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BODY: &str = include_str!("../../../../tests/samples/voucherify-customer.reward_redemptions.pending.json");

    fn pointers() -> Pointers {
        let mut pointers = Pointers::new();
        for pointer in [
            "/id",
            "/type",
            "/data/reward/id",
            "/data/voucher/active",
            "/a",
            "/a/b",
            "/list/1",
            "/list/1/a",
        ] {
            pointers.add(pointer).unwrap();
        }
        pointers
    }

    /// Whether it was taken; and then the careful reader takes it as well and finds the same.
    fn is_taken(text: &str) -> bool {
        let pointers = pointers();
        let Some(Values(found)) = read(&pointers, text) else {
            return false;
        };
        let careful = pointers.read_carefully(text).map(|values| values.0);
        assert_eq!(careful.as_ref(), Ok(&found), "{text:?}");
        true
    }

    #[test]
    fn the_usual_document_is_taken() {
        for text in [
            BODY,
            "{}",
            " [ ] ",
            "\t{\"a\" : null\r\n, \"c\":[true,false, {}]}\n",
            r#"{"a":"x","list":[0,{"a":"y"},2]}"#,
            r#"{"a":"tab\t, \"quoted\", \u00e9 \/","c":"\u20AC\\"}"#,
            r#"{"a":{"b":-12},"id":123456789012345678,"type":0}"#,
            r#"{"a":12.5,"c":0.123456789012345678,"id":"ü € 𝄞"}"#,
            r#"{"x":1,"x":2,"y":{"a":1,"a":2}}"#,
            "\"alone\"",
            "7",
        ] {
            assert!(is_taken(text), "{text:?}");
        }
    }

    #[test]
    fn what_is_wrong_or_rare_is_left_to_the_careful_reader() {
        let deep = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(is_taken(&deep(JSON_DEPTH_MAX)));
        let texts = [
            "",
            " ",
            "{",
            "[",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "[1,]",
            "[,]",
            "{,}",
            "[1 2]",
            "{\"a\" 1}",
            "{} {}",
            "1,",
            "tru",
            "nul",
            "True",
            "01",
            "-",
            "-0",
            "1.",
            ".5",
            "1.2.3",
            "1e3",
            "1E3",
            "+1",
            "1234567890123456789",
            "\"",
            "\"\\",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\\ud834\\udd1e\"",
            "\"\\ud834\"",
            "\"\n\"",
            "\"\u{1f}\"",
            "'a'",
            "{a:1}",
            "\u{feff}{}",
            "[1]\0",
            // A wanted key twice, the second time in disguise as well.
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"\u0061":2}"#,
        ];
        for text in texts.into_iter().chain([deep(JSON_DEPTH_MAX + 1).as_str()]) {
            assert!(!is_taken(text), "{text:?}");
        }
    }

    proptest! {
        /// Mutated documents are refused by both, or mean the same to both.
        #[test]
        fn what_is_taken_is_what_the_careful_reader_finds(
            edits in prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8, "[ \\n\"\\\\{}\\[\\]:,0-9a-fnrtuE.eü-]"), 0..4),
            small in any::<bool>(),
        ) {
            let document = if small {
                r#"{"id":"a\n","type":1.5,"a":{"b":-7},"list":[null,{"a":true}],"x":"\u00e9 0"}"#
            } else {
                BODY
            };
            let mut text: Vec<char> = document.chars().collect();
            for (index, kind, with) in edits {
                let at = index.index(text.len());
                match kind {
                    0 => text[at] = with.chars().next().unwrap_or(' '),
                    1 => text.insert(at, with.chars().next().unwrap_or(' ')),
                    _ => drop(text.remove(at)),
                }
            }
            is_taken(&text.into_iter().collect::<String>());
        }

        /// Every place in a word, and every byte there.
        #[test]
        fn a_string_ends_where_it_ends(before in "[ -~]{0,20}", byte in 0_u8.., after in "[ -~]{0,20}") {
            let text: Vec<u8> = before.bytes().chain([byte]).chain(after.bytes()).collect();
            let expect = text.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20)).unwrap_or(text.len());
            prop_assert_eq!(plain_end(&text, 0), expect);
        }
    }
}
