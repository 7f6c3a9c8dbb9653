//! `application/x-www-form-urlencoded` bodies (WHATWG URL, section 5.1). A `%` that begins no escape stands for itself, as that standard
//! says, and a value may be bytes that are no text: what a field holds is its sender's, and must not refuse the others.

use std::borrow::Cow;

use crate::limits::FORM_FIELDS_MAX;

/// Name and value, decoded, in the order they came.
pub(crate) type Field<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// Reads a form.
///
/// # Errors
/// When there are more than [`FORM_FIELDS_MAX`] fields; says so.
pub(crate) fn parse(text: &str) -> Result<Vec<Field<'_>>, &'static str> {
    let mut fields = Vec::new();
    for entry in text.split('&').filter(|entry| !entry.is_empty()) {
        if fields.len() == FORM_FIELDS_MAX {
            return Err("it has too many fields");
        }
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        fields.push((bytes(name, true), bytes(value, true)));
    }
    Ok(fields)
}

/// The only value of a field of a query; `None` when it is absent or comes more than once.
pub(crate) fn single<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    let mut values = query?
        .split('&')
        .filter_map(|entry| entry.split_once('='))
        .filter(|(key, _)| *key == name);
    match (values.next(), values.next()) {
        (Some((_, value)), None) => Some(value),
        _ => None,
    }
}

/// Undoes percent-encoding once, and `+` for a space where `plus` says so.
///
/// # Errors
/// When what comes out is not UTF-8.
pub(crate) fn decode(text: &str, plus: bool) -> Result<Cow<'_, str>, &'static str> {
    let not_utf8 = "an escape in it is not UTF-8";
    match bytes(text, plus) {
        Cow::Borrowed(_) => Ok(Cow::Borrowed(text)),
        Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).map_err(|_| not_utf8),
    }
}

/// Like [`decode`], but returns bytes, which need not be UTF-8.
pub(crate) fn bytes(text: &str, plus: bool) -> Cow<'_, [u8]> {
    if !text.bytes().any(|b| b == b'%' || (plus && b == b'+')) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    while let Some((&b, behind)) = rest.split_first() {
        let escape = match behind {
            [high, low, ..] if b == b'%' => digit(*high).zip(digit(*low)),
            _ => None,
        };
        let (byte, taken) = match escape {
            Some((high, low)) => (high * 16 + low, 3),
            None if b == b'+' && plus => (b' ', 1),
            None => (b, 1),
        };
        bytes.push(byte);
        rest = rest.get(taken..).unwrap_or_default();
    }
    Cow::Owned(bytes)
}

/// Percent-encodes every character that a form cannot hold as it is.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(b));
        } else {
            encoded.push_str(&format!("%{b:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_read_as_they_are_written_whatever_a_value_holds() {
        let fields = |text: &str| -> Vec<(String, Vec<u8>)> {
            let fields = parse(text).unwrap().into_iter();
            fields
                .map(|(name, value)| (String::from_utf8(name.into_owned()).unwrap(), value.into_owned()))
                .collect()
        };
        let field = |name: &str, value: &[u8]| (name.to_owned(), value.to_vec());
        assert_eq!(
            fields("From=%2B14158675309&Body=a+b&&Empty=&Flag"),
            [
                field("From", b"+14158675309"),
                field("Body", b"a b"),
                field("Empty", b""),
                field("Flag", b"")
            ]
        );
        assert_eq!(
            fields("a=%4&b=%zz&c=%ff&d=%&e=100%25%"),
            [
                field("a", b"%4"),
                field("b", b"%zz"),
                field("c", b"\xff"),
                field("d", b"%"),
                field("e", b"100%%")
            ]
        );
        assert!(parse(&"a=1&".repeat(FORM_FIELDS_MAX)).is_ok());
        assert!(parse(&"a=1&".repeat(FORM_FIELDS_MAX + 1)).is_err());
        assert_eq!(decode("a%20b+c", false).unwrap(), "a b+c");
        assert!(decode("%ff", false).is_err());
        assert_eq!(single(Some("a=1&b=2"), "b"), Some("2"));
        assert_eq!(single(Some("b=1&b=2"), "b"), None);
        assert_eq!(decode(&encode("ä +/%"), true).unwrap(), "ä +/%");
    }
}
