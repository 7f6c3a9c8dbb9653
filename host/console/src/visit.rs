//! One visit: who reads, how they want pages to look, and what a form of theirs said. The guard makes visits; pages take them.

use std::fmt::Display;
use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use tollgate_core::secret::Secret;

use crate::ROOT;
use crate::asked::Trouble;
use crate::session::Visitor;

/// The cookie that has a session's name.
pub(crate) const SESSION_COOKIE: &str = "tollgate_session";
/// The field that has the session's form key.
pub(crate) const FORM_KEY: &str = "form_key";

/// The cookie that says how somebody wants pages to look.
pub(crate) const THEME_COOKIE: &str = "tollgate_theme";

/// How pages look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Theme {
    /// As the browser says.
    #[default]
    System,
    Light,
    Dark,
}

impl Theme {
    pub(crate) const ALL: [Self; 3] = [Self::System, Self::Light, Self::Dark];

    /// As its reader chose, or as their link says.
    pub(crate) fn of(headers: &HeaderMap, scheme: Option<&str>) -> Self {
        let chosen = cookie(headers, THEME_COOKIE).and_then(|word| Self::named(&word));
        chosen.or_else(|| scheme.and_then(Self::named)).unwrap_or_default()
    }

    pub(crate) fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|theme| theme.as_str() == word)
    }

    pub(crate) fn is(self, other: &Self) -> bool {
        self == *other
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// One visit of somebody who is signed in.
#[derive(Clone)]
pub(crate) struct Visit {
    pub(crate) visitor: Visitor,
    /// The session's name, to end it or to keep something in it.
    pub(crate) session: Secret,
    pub(crate) theme: Theme,
    /// Path and query of the page.
    pub(crate) place: String,
}

/// A form that came from a page of this session.
#[derive(Clone)]
pub(crate) struct Filled(pub(crate) Vec<(String, String)>);

/// The file of a form that had one.
#[derive(Clone)]
pub(crate) struct Handed(pub(crate) Bytes);

impl Filled {
    /// The value of a field; empty where it was not sent.
    pub(crate) fn get(&self, name: &str) -> &str {
        field(&self.0, name)
    }

    #[cfg(test)]
    pub(crate) fn of(fields: &[(&str, &str)]) -> Self {
        let owned = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self(owned.collect())
    }

    /// All values of a field that may have several, without empty ones.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let found = self
            .0
            .iter()
            .filter(|(field, value)| field == name && !value.trim().is_empty());
        found.map(|(_, value)| value.trim()).collect()
    }

    /// The value of a field, where somebody wrote one.
    pub(crate) fn given(&self, name: &str) -> Option<String> {
        let value = self.get(name).trim();
        (!value.is_empty()).then(|| value.to_owned())
    }
}

/// What an address asks.
pub(crate) fn asked(uri: &Uri) -> Vec<(String, String)> {
    form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
        .into_owned()
        .collect()
}

/// What a field names.
///
/// # Errors
/// In words, behind the field's name, when it is none.
pub(crate) fn named<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<T, String> {
    text.trim().parse().map_err(|error| format!("{field}: {error}"))
}

pub(crate) fn field<'f>(fields: &'f [(String, String)], name: &str) -> &'f str {
    let found = fields.iter().find(|(field, _)| field == name);
    found.map_or("", |(_, value)| value)
}

/// Has the browser ask for a page.
pub(crate) fn go(place: &str) -> Response {
    match HeaderValue::from_str(place) {
        Ok(place) => (StatusCode::SEE_OTHER, [(header::LOCATION, place)]).into_response(),
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}

/// A place of the console that somebody named, or its first page: nobody is sent anywhere else.
pub(crate) fn own_place(place: &str) -> &str {
    let rest = place.strip_prefix(ROOT);
    let is_own = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
    let is_plain = place.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_own && is_plain { place } else { ROOT }
}

/// The value of a cookie.
pub(crate) fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter();
    cookies
        .filter_map(|cookies| cookies.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find(|(found, _)| *found == name)
        .map(|(_, value)| value.to_owned())
}

/// Where a request is answered from: whether by HTTPS, as a proxy in front of the listener says, and into a frame of another page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached {
    /// By plain HTTP.
    Plainly,
    /// By HTTPS.
    ByHttps,
    /// By HTTPS, in a frame of a page that may have it there.
    InFrame,
}

impl Reached {
    /// As the request says. What it says of a proxy may be a lie; that only keeps the liar's own cookie back.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let by_https = headers
            .get("x-forwarded-proto")
            .is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"));
        if by_https { Self::ByHttps } else { Self::Plainly }
    }

    /// As the request says, of the door, or of a session that was opened in a frame.
    pub(crate) fn framed(headers: &HeaderMap, is_framed: bool) -> Self {
        match Self::of(headers) {
            Self::ByHttps if is_framed => Self::InFrame,
            other => other,
        }
    }
}

/// A cookie of the console. Scripts do not see it, and no other site has a browser send it: in a frame it is kept apart for the page
/// around it. Where the request came by HTTPS, it goes by HTTPS only.
pub(crate) fn set_cookie(reached: Reached, name: &str, value: &str, lasts_s: Option<u32>) -> HeaderValue {
    let age = lasts_s.map(|age| format!("; Max-Age={age}")).unwrap_or_default();
    let kept = match reached {
        Reached::Plainly => "SameSite=Strict",
        Reached::ByHttps => "SameSite=Strict; Secure",
        Reached::InFrame => "SameSite=None; Secure; Partitioned",
    };
    let cookie = format!("{name}={value}; Path={ROOT}; HttpOnly; {kept}{age}");
    HeaderValue::from_str(&cookie).unwrap_or(HeaderValue::from_static(""))
}

macro_rules! from_the_guard {
    ($($kind:ty),+) => {
        $(
            impl<S: Send + Sync> FromRequestParts<S> for $kind {
                type Rejection = Trouble;

                async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Trouble> {
                    let found = parts.extensions.get::<Self>().cloned();
                    found.ok_or_else(|| Trouble::new(StatusCode::INTERNAL_SERVER_ERROR, "nobody looked at this request"))
                }
            }
        )+
    };
}
from_the_guard!(Visit, Filled, Handed);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o8_nobody_is_sent_anywhere_but_into_the_console() {
        for place in ["/console", "/console?x=1", "/console/events?filter=a%20b"] {
            assert_eq!(own_place(place), place);
        }
        for place in [
            "",
            "/",
            "//evil.example",
            "/console.evil.example",
            "/consolers",
            "https://evil.example/console",
            "/console/\r\nset-cookie: a=b",
            "/console/\\evil.example",
        ] {
            assert_eq!(own_place(place), ROOT, "{place}");
        }
    }

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        let cookies = "a=1; tollgate_sessions=2;tollgate_session=3; b=4";
        let headers = HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_static(cookies))]);
        assert_eq!(cookie(&headers, SESSION_COOKIE).as_deref(), Some("3"));
        assert_eq!(cookie(&headers, "session"), None);
    }
}
