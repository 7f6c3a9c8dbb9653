//! Static credentials beside a signature: a bearer token, or basic auth.

use data_encoding::{BASE64, BASE64_NOPAD};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use tollgate_core::secret::Secret;

/// One accepted credential.
#[derive(Debug, Clone)]
pub(crate) enum Credential {
    Bearer(Secret),
    /// `user:password`.
    Basic(Secret),
}

/// Why a request's credential is refused. Says nothing of what was presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoCredential {
    Missing,
    Repeated,
    Wrong,
}

impl NoCredential {
    /// The name under which it is counted and logged.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Missing => "missing-credential",
            Self::Repeated => "repeated-credential",
            Self::Wrong => "wrong-credential",
        }
    }
}

impl Credential {
    pub(crate) fn bearer(token: &Secret) -> Self {
        Self::Bearer(token.clone())
    }

    pub(crate) fn basic(user: &str, password: &Secret) -> Self {
        let mut pair = user.as_bytes().to_vec();
        pair.push(b':');
        pair.extend_from_slice(password.expose());
        Self::Basic(Secret::new(pair))
    }

    fn matches(&self, presented: &[u8]) -> bool {
        match self {
            Self::Bearer(token) => of_scheme(presented, b"bearer").is_some_and(|given| token.matches(given)),
            Self::Basic(pair) => of_scheme(presented, b"basic")
                .and_then(|given| BASE64.decode(given).or_else(|_| BASE64_NOPAD.decode(given)).ok())
                .is_some_and(|given| pair.matches(Secret::new(given).expose())),
        }
    }
}

/// Asks for one of `accepted`; nothing is asked for when there are none. Each is compared in constant time.
pub(super) fn check(accepted: &[Credential], headers: &HeaderMap) -> Result<(), NoCredential> {
    if accepted.is_empty() {
        return Ok(());
    }
    let mut presented = headers.get_all(AUTHORIZATION).iter();
    match (presented.next(), presented.next()) {
        (None, _) => Err(NoCredential::Missing),
        (Some(_), Some(_)) => Err(NoCredential::Repeated),
        (Some(one), None) if accepted.iter().any(|credential| credential.matches(one.as_bytes())) => Ok(()),
        (Some(_), None) => Err(NoCredential::Wrong),
    }
}

/// What a 401 must say where basic auth is asked for (RFC 9110, 11.6.1): some senders present nothing before they are asked.
pub(super) fn asked_for(accepted: &[Credential]) -> Option<HeaderValue> {
    accepted
        .iter()
        .any(|credential| matches!(credential, Credential::Basic(_)))
        .then(|| HeaderValue::from_static("Basic realm=\"tollgate\", charset=\"UTF-8\""))
}

/// The credential after its scheme's name, which is read in any case (RFC 9110, 11.1).
fn of_scheme<'a>(presented: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (name, rest) = presented.split_at_checked(scheme.len())?;
    if !name.eq_ignore_ascii_case(scheme) {
        return None;
    }
    rest.strip_prefix(b" ").map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_credential_gets_in() {
        let accepted = [
            Credential::bearer(&Secret::new("t0ken")),
            Credential::bearer(&Secret::new("next")),
        ];
        let basic = [Credential::basic("adyen", &Secret::new("pa:ss"))];
        let check = |accepted: &[Credential], presented: &[&str], expect: Result<(), NoCredential>| {
            let mut headers = HeaderMap::new();
            for value in presented {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            assert_eq!(super::check(accepted, &headers), expect, "{presented:?}");
        };
        check(&[], &[], Ok(()));
        check(&accepted, &["Bearer t0ken"], Ok(()));
        check(&accepted, &["bearer  next "], Ok(()));
        check(&accepted, &["Bearer t0ke"], Err(NoCredential::Wrong));
        check(&accepted, &["Bearer "], Err(NoCredential::Wrong));
        check(&accepted, &["Bearert0ken"], Err(NoCredential::Wrong));
        check(&accepted, &["t0ken"], Err(NoCredential::Wrong));
        check(&accepted, &[""], Err(NoCredential::Wrong));
        check(&accepted, &[], Err(NoCredential::Missing));
        check(
            &accepted,
            &["Bearer t0ken", "Bearer t0ken"],
            Err(NoCredential::Repeated),
        );
        check(&basic, &["Basic YWR5ZW46cGE6c3M="], Ok(()));
        check(&basic, &["basic YWR5ZW46cGE6c3M"], Ok(()));
        check(&basic, &["Basic YWR5ZW46cGE6c3N="], Err(NoCredential::Wrong));
        check(&basic, &["Basic adyen:pa:ss"], Err(NoCredential::Wrong));
        check(&basic, &["Bearer YWR5ZW46cGE6c3M="], Err(NoCredential::Wrong));
        assert!(asked_for(&basic).is_some());
        assert!(asked_for(&accepted).is_none());
    }

    #[test]
    fn a_credential_does_not_print() {
        let shown = format!("{:?}", Credential::basic("adyen", &Secret::new("hunter2")));
        assert!(!shown.contains("adyen") && !shown.contains("hunter2"), "{shown}");
    }
}
