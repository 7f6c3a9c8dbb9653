//! What people may see in logs and lists. The store keeps whole values; here they are cut, and characters that would not be seen, or
//! would change how others are seen, are written out.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character is not seen where it stands, or moves what stands beside it: control characters, line and paragraph
/// separators, directions of writing, and what has no width (Unicode's categories Cc, Cf, Zl and Zp).
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
            | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0001}' | '\u{e0020}'..='\u{e007f}')
}

/// The whole text with each hidden character written out, for example `\u{202e}`: for identifiers, of which nothing may be cut.
pub fn shown(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_hidden(c) {
            let _ = write!(shown, "{}", c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// A JSON text in which no string has a hidden character as it is: the same JSON, of which nothing hides from whoever reads it.
pub fn json(text: &str) -> Cow<'_, str> {
    let hides = |c: char| is_hidden(c) && c != '\n';
    if !text.chars().any(hides) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if hides(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// Checks a text or a name that a person gives for the history: it must be one line, with no hidden character.
///
/// # Errors
/// In words, beginning with the field's name: it is too long, or has a hidden character, which it names with its place.
pub fn check_note(field: &str, text: &str, bytes_max: usize) -> Result<(), String> {
    if text.len() > bytes_max {
        return Err(format!("{field}: {} bytes; at most {bytes_max} are kept", text.len()));
    }
    match text.char_indices().find(|(_, c)| is_hidden(*c)) {
        None => Ok(()),
        Some((at, hidden)) => Err(format!(
            "{field}: byte {at} is the character {}, which people would not see; write one line of plain text",
            hidden.escape_unicode()
        )),
    }
}

/// Keeps the ends of an identifier so that two lines can be told apart, and hides the middle. Short texts are hidden whole.
pub fn identifier(text: &str) -> String {
    let chars: Vec<char> = text.chars().filter(|c| !is_hidden(*c)).collect();
    if chars.len() < 12 {
        return "…".to_owned();
    }
    let head: String = chars[..4].iter().collect();
    let tail: String = chars[chars.len() - 4..].iter().collect();
    format!("{head}…{tail}")
}

/// Cuts a text that came from outside to `bytes_max` bytes at a character boundary, with a space for each control character and
/// other hidden ones written out, so that it can stand in one line.
pub fn line(text: &str, bytes_max: usize) -> String {
    let mut line = String::with_capacity(text.len().min(bytes_max));
    for c in text.chars() {
        let hidden = is_hidden(c) && !c.is_control();
        let bytes = if hidden { c.escape_unicode().len() } else { c.len_utf8() };
        if line.len() + bytes > bytes_max {
            line.push('…');
            break;
        }
        if hidden {
            let _ = write!(line, "{}", c.escape_unicode());
        } else {
            line.push(if c.is_control() { ' ' } else { c });
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_keep_their_ends_and_lines_stay_lines() {
        assert_eq!(identifier("cust_2myfc5acSBgoMV72R5tyTBc8"), "cust…TBc8");
        assert_eq!(identifier("short"), "…");
        assert_eq!(line("a\nb\u{1b}[31mc", 100), "a b [31mc");
        assert_eq!(line("äöü", 4), "äö…");
        assert_eq!(line("a\u{202e}b\u{2028}c", 100), "a\\u{202e}b\\u{2028}c");
        assert_eq!(line("a\u{202e}b", 8), "a…", "an escape is not cut");
    }

    #[test]
    fn json_hides_nothing_and_says_the_same() {
        let hidden = serde_json::json!({ "a\u{202e}": ["\u{9b}31m\u{7f}", "\u{e0041}", "ä€😀", "\n"] });
        for text in [hidden.to_string(), serde_json::to_string_pretty(&hidden).unwrap()] {
            let shown = json(&text);
            assert!(shown.lines().all(|line| !line.chars().any(is_hidden)), "{shown}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), hidden);
        }
        assert!(json(&hidden.to_string()).contains("a\\u202e") && json("{\n}") == "{\n}");
    }

    #[test]
    fn hidden_characters_of_an_identifier_are_written_out_and_nothing_else_is() {
        for plain in ["", "evt_1", "Überweisung №7 – 完了 🎁", "a\u{301}"] {
            assert!(matches!(shown(plain), Cow::Borrowed(text) if text == plain), "{plain}");
        }
        assert_eq!(shown("evt\u{202e}drawer\u{202c}"), "evt\\u{202e}drawer\\u{202c}");
        assert_eq!(shown("a\nb\u{1b}[2Kc\u{200b}"), "a\\u{a}b\\u{1b}[2Kc\\u{200b}");
        for c in "\u{ad}\u{61c}\u{200e}\u{2066}\u{2069}\u{feff}\u{e0041}\u{2029}\u{85}\u{7f}".chars() {
            assert!(is_hidden(c), "{c:?}");
        }
    }

    #[test]
    fn a_note_for_the_history_is_one_line_in_which_nothing_hides() {
        assert_eq!(check_note("why", "the partner's mistake, see ticket №7", 100), Ok(()));
        assert_eq!(
            check_note("actor", "ana\n  again  forged", 100),
            Err(
                "actor: byte 3 is the character \\u{a}, which people would not see; write one line of plain text"
                    .into()
            )
        );
        assert!(check_note("why", "a\u{202e}b", 100).unwrap_err().contains("\\u{202e}"));
        assert!(
            check_note("why", &"x".repeat(101), 100)
                .unwrap_err()
                .contains("101 bytes; at most 100")
        );
    }
}
