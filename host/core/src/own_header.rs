//! Headers that somebody chose: those that a destination has of its own, beside those that every delivery carries, and those of a request
//! that a source keeps. Which names and values they may have.

use crate::limits::{KEPT_HEADERS_MAX, OWN_HEADER_BYTES_MAX, OWN_HEADER_NAME_BYTES_MAX};

/// What begins the name of the attribute that holds a kept header. No profile may name one of its own so.
pub const KEPT: &str = "header.";

/// Names that belong to every delivery or to the connection: whoever set them could pass for another sender, or cut a message short.
const TAKEN: [&str; 17] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "http2-settings",
    "idempotency-key",
    "keep-alive",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// The same for whole groups of names.
const TAKEN_PREFIXES: [&str; 3] = ["webhook-", "tollgate-", "proxy-"];

/// What names of headers that carry a credential hold.
const CREDENTIAL_WORDS: [&str; 10] = [
    "auth",
    "token",
    "secret",
    "password",
    "apikey",
    "api-key",
    "api_key",
    "access-key",
    "cookie",
    "credential",
];

/// Reads the name of a header that a destination has of its own, and returns it in lower case.
///
/// # Errors
/// In words: it is no name (RFC 9110 section 5.1), too long, or one that deliveries have anyhow.
pub fn name(text: &str) -> Result<String, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.is_empty() || text.len() > OWN_HEADER_NAME_BYTES_MAX || !text.bytes().all(is_token) {
        return Err(format!(
            "a header's name has 1 to {OWN_HEADER_NAME_BYTES_MAX} letters, digits and hyphens"
        ));
    }
    let name = text.to_ascii_lowercase();
    if TAKEN.contains(&name.as_str()) || TAKEN_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return Err(format!(
            "the header `{name}` is Tollgate's own or the connection's, and not one to choose"
        ));
    }
    Ok(name)
}

/// Words of names that prove who sent a request, beside those of credentials.
const PROOF_WORDS: [&str; 7] = ["hmac", "jws", "jwt", "session", "sig", "sign", "signatures"];

/// Reads the names of the headers that a source keeps of each request, and returns them in lower case.
///
/// # Errors
/// In words: there are too many, one comes twice, is no name that can be sent on (as [`name`]), or is of a header that proves who sent the
/// request: such a value would be kept, shown and handed on.
pub fn kept(texts: &[&str]) -> Result<Vec<String>, String> {
    if texts.len() > KEPT_HEADERS_MAX {
        return Err(format!("at most {KEPT_HEADERS_MAX} headers are kept of a request"));
    }
    let mut names: Vec<String> = Vec::with_capacity(texts.len());
    for text in texts {
        let name = name(text)?;
        let proves = name.contains("signature") || name.split(['-', '_']).any(|word| PROOF_WORDS.contains(&word));
        if proves || carries_credential(&name) {
            return Err(format!(
                "the header `{name}` carries a credential or a signature, and such a one is never kept"
            ));
        }
        if names.contains(&name) {
            return Err(format!("the header `{name}` is named twice"));
        }
        names.push(name);
    }
    Ok(names)
}

/// Whether a header of this name, in lower case, carries a credential by its look: then its value is a secret, and stands in no file.
pub fn carries_credential(name: &str) -> bool {
    CREDENTIAL_WORDS.iter().any(|word| name.contains(word))
}

/// Checks the value of such a header.
///
/// # Errors
/// In words that show nothing of it: it is empty, too long, or not one line of visible ASCII.
pub fn check_value(value: &[u8]) -> Result<(), String> {
    if value.is_empty() || value.len() > OWN_HEADER_BYTES_MAX {
        return Err(format!("a header's value has 1 to {OWN_HEADER_BYTES_MAX} bytes"));
    }
    let is_edged = value.first() == Some(&b' ') || value.last() == Some(&b' ');
    if is_edged || !value.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err("a header's value is one line of visible ASCII, without a blank at its ends".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destinations_own_headers_take_no_name_of_ours() {
        assert_eq!(name("X-Team").as_deref(), Ok("x-team"));
        assert_eq!(name("Authorization").as_deref(), Ok("authorization"));
        for taken in TAKEN.into_iter().chain([
            "webhook-id",
            "Webhook-Signature",
            "webhook-timestamp",
            "tollgate-resend",
            "Proxy-Authorization",
        ]) {
            for text in [taken.to_owned(), taken.to_ascii_uppercase()] {
                assert!(name(&text).is_err(), "{text}");
            }
        }
        for no_name in ["", "a b", "a:b", "x\r\ny", "naïve", ":path", &"x".repeat(65)] {
            assert!(name(no_name).is_err(), "{no_name:?}");
        }
    }

    #[test]
    fn a_header_that_carries_a_credential_is_known_by_its_name() {
        for secret in [
            "authorization",
            "x-auth",
            "x-api-key",
            "x-acme-token",
            "cookie",
            "x-client-secret",
        ] {
            assert!(carries_credential(secret), "{secret}");
        }
        for plain in ["x-team", "x-environment", "accept-language", "x-monkey"] {
            assert!(!carries_credential(plain), "{plain}");
        }
    }

    #[test]
    fn what_proves_a_sender_is_no_header_to_keep() {
        assert_eq!(
            kept(&["X-Request-Id", "x-design", "x-monkey"]).unwrap(),
            ["x-request-id", "x-design", "x-monkey"]
        );
        for refused in [
            "Authorization",
            "Cookie",
            "Set-Cookie",
            "X-Api-Key",
            "Stripe-Signature",
            "HmacSignature",
            "X-Hub-Signature-256",
            "X-Shopify-Hmac-Sha256",
            "Paypal-Transmission-Sig",
            "x-amz-security-token",
            "X-Session-Id",
            "Signature-Input",
            "Webhook-Signature",
            "Content-Type",
            "a b",
        ] {
            assert!(kept(&[refused]).is_err(), "{refused}");
        }
        assert!(kept(&["x-a", "X-A"]).unwrap_err().contains("twice"));
        let many: Vec<_> = (0..=KEPT_HEADERS_MAX).map(|at| format!("x-{at}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert!(kept(&many).unwrap_err().contains("at most"));
        assert!(kept(&many[1..]).is_ok());
    }

    #[test]
    fn a_headers_value_is_one_line() {
        for good in ["payments", "Bearer abc def", "a", &"x".repeat(OWN_HEADER_BYTES_MAX)] {
            assert_eq!(check_value(good.as_bytes()), Ok(()), "{good}");
        }
        for bad in [
            "",
            " a",
            "a ",
            "a\r\nx-b: c",
            "a\tb",
            "ä",
            "a\0",
            &"x".repeat(OWN_HEADER_BYTES_MAX + 1),
        ] {
            assert!(check_value(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
