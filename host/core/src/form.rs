//! `application/x-www-form-urlencoded` bodies (WHATWG URL, section 5.1), strictly: what two readers could read differently is
//! refused.

use std::borrow::Cow;

use crate::limits::FORM_FIELDS_MAX;

/// Name and value, decoded, in the order they came.
pub(crate) type Field<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Reads a form.
///
/// # Errors
/// When an escape is broken, the text is not UTF-8, or there are more than [`FORM_FIELDS_MAX`] fields; says what.
pub(crate) fn parse(text: &str) -> Result<Vec<Field<'_>>, &'static str> {
    let mut fields = Vec::new();
    for entry in text.split('&').filter(|entry| !entry.is_empty()) {
        if fields.len() == FORM_FIELDS_MAX {
            return Err("it has too many fields");
        }
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        fields.push((decode(name, true)?, decode(value, true)?));
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
pub(crate) fn decode(text: &str, plus: bool) -> Result<Cow<'_, str>, &'static str> {
    if !text.bytes().any(|b| b == b'%' || (plus && b == b'+')) {
        return Ok(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(b) = rest.next() {
        bytes.push(match b {
            b'+' if plus => b' ',
            b'%' => {
                let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
                let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
                    return Err("it has a `%` without two hexadecimal digits after it");
                };
                u8::try_from(high * 16 + low).map_err(|_| "it has a broken escape")?
            }
            b => b,
        });
    }
    String::from_utf8(bytes)
        .map(Cow::Owned)
        .map_err(|_| "an escape in it is not UTF-8")
}

/// Encodes what may not stand in a form as it is.
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
    fn forms_are_read_as_they_are_written_and_refused_when_broken() {
        let fields = parse("From=%2B14158675309&Body=a+b&&Empty=&Flag").unwrap();
        let plain: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(
            plain,
            [("From", "+14158675309"), ("Body", "a b"), ("Empty", ""), ("Flag", "")]
        );
        assert!(parse("a=%4").is_err());
        assert!(parse("a=%zz").is_err());
        assert!(parse("a=%ff").is_err());
        assert!(parse(&"a=1&".repeat(FORM_FIELDS_MAX)).is_ok());
        assert!(parse(&"a=1&".repeat(FORM_FIELDS_MAX + 1)).is_err());
        assert_eq!(decode("a%20b+c", false).unwrap(), "a b+c");
        assert_eq!(single(Some("a=1&b=2"), "b"), Some("2"));
        assert_eq!(single(Some("b=1&b=2"), "b"), None);
        assert_eq!(decode(&encode("ä +/%"), true).unwrap(), "ä +/%");
    }
}
