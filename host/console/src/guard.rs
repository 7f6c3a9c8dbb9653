//! What stands between a request and a page: whoever is not signed in is asked to, a form must come from a page of this session, and
//! every answer says to browsers what they may do with it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use tollgate_api::{Nothing, calls};
use tollgate_core::access::Permission;
use tollgate_core::limits;
use tollgate_core::portal::Origin;
use tollgate_core::secret::Secret;

use crate::asked::Trouble;
use crate::page;
use crate::session::{BY_LINK, Visitor, is_link};
use crate::set_up;
use crate::upload;
use crate::visit::{FORM_KEY, Filled, Reached, SESSION_COOKIE, Theme, Visit, cookie, go};
use crate::{Console, OVER, ROOT};

/// What browsers may do with an answer. Nothing is loaded from anywhere but here, no script or style stands in a page, no page is framed,
/// and a form goes here only. A referrer is for this origin alone: with none at all, browsers would not say either where a form is from.
const HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=(), payment=()",
    ),
];

/// Answers every request of somebody who is signed in, and sends everybody else to sign in.
pub(crate) async fn let_in(State(console): State<Arc<Console>>, request: Request, next: Next) -> Response {
    let now = (console.host.now)();
    let (parts, body) = request.into_parts();
    let session = cookie(&parts.headers, SESSION_COOKIE).unwrap_or_default();
    let visitor = console.sessions().visitor(session.as_bytes(), now);
    let visitor = match visitor {
        Some(visitor) => match still(&console, visitor, &session).await {
            Ok(visitor) => visitor,
            Err(trouble) => return trouble.status.into_response(),
        },
        None => None,
    };
    let place = parts
        .uri
        .path_and_query()
        .map_or(ROOT, |place| place.as_str())
        .to_owned();
    let is_reading = matches!(parts.method, Method::GET | Method::HEAD);
    let Some(visitor) = visitor else {
        if session.starts_with(BY_LINK) || session.is_empty() && is_framed(&console, &parts.headers) {
            return go(OVER);
        }
        if session.is_empty() && is_reading && site(&parts.headers) == Some(b"cross-site") {
            return come_from_here(&place);
        }
        return to_sign_in(if is_reading { &place } else { "" }, !session.is_empty());
    };
    let visit = Visit {
        theme: Theme::of(&parts.headers, visitor.who.scheme.as_deref()),
        visitor,
        session: Secret::new(session),
        place,
    };
    let mut response = shown(&console, &visit, parts, body, next).await;
    if visit.visitor.is_framed {
        response.extensions_mut().insert(Framed((console.host.embed)()));
    }
    response
}

/// Asks whether a session's token is still valid, since some pages ask nothing else with it. None when it is not: it is revoked or over, and so
/// is everything that was opened with it.
///
/// # Errors
/// When the host cannot say.
async fn still(console: &Console, visitor: Visitor, session: &str) -> Result<Option<Visitor>, Trouble> {
    match console.read::<calls::WhoAmI>(&visitor.token, &Nothing {}).await {
        Ok(who) => Ok(Some(Visitor { who, ..visitor })),
        Err(trouble) if trouble.status == StatusCode::UNAUTHORIZED => {
            console.sessions().end(session.as_bytes());
            Ok(None)
        }
        Err(trouble) => Err(trouble),
    }
}

/// The page that somebody who is signed in asks for.
async fn shown(console: &Console, visit: &Visit, mut parts: Parts, body: Body, next: Next) -> Response {
    let is_reading = matches!(parts.method, Method::GET | Method::HEAD);
    // A file is in memory until it is handed on.
    let mut held = None;
    if !is_reading {
        let read = if parts.uri.path() == upload::PATH {
            handed_in(console, &mut parts, body, visit)
                .await
                .map(|place| held = Some(place))
        } else {
            filled(&parts, body, &visit.visitor).await.map(|form| {
                parts.extensions.insert(form);
            })
        };
        if let Err(trouble) = read {
            return page::trouble(visit, &trouble);
        }
    }
    parts.extensions.insert(visit.clone());
    let mut response = next.run(Request::from_parts(parts, Body::empty())).await;
    match response.extensions_mut().remove::<Trouble>() {
        Some(trouble) if trouble.status == StatusCode::UNAUTHORIZED => {
            // It ended while the page was made.
            console.sessions().end(visit.session.expose());
            match is_link(&visit.visitor.who) {
                true => go(OVER),
                false => to_sign_in(&visit.place, true),
            }
        }
        Some(trouble) => page::trouble(visit, &trouble),
        None => response,
    }
}

/// Reads the one form that has a file, when it is one of a page of this session and its sender may hand plugins in. Of anybody else's nothing is
/// read.
async fn handed_in(console: &Console, parts: &mut Parts, body: Body, visit: &Visit) -> Result<upload::Held, Trouble> {
    is_ours(parts)?;
    if !page::may(visit, Permission::PluginUpload) {
        return Err(Trouble::new(StatusCode::FORBIDDEN, "your token hands no plugins in"));
    }
    let place = upload::Held::take(&console.uploads)?;
    let (form, handed) = upload::read(&parts.headers, body).await?;
    is_of_session(&form, &visit.visitor)?;
    let handed = handed.ok_or_else(|| Trouble::bad("component: choose a file"))?;
    parts.extensions.insert(form);
    parts.extensions.insert(handed);
    Ok(place)
}

/// Whether a page is asked for into a frame, where somebody may have one.
pub(crate) fn is_framed(console: &Console, headers: &HeaderMap) -> bool {
    let into_frame = headers
        .get("sec-fetch-dest")
        .is_some_and(|dest| matches!(dest.as_bytes(), b"iframe" | b"frame"));
    into_frame && Reached::of(headers) == Reached::ByHttps && !(console.host.embed)().is_empty()
}

/// The form of a request, when it is one of a page of this session.
async fn filled(parts: &Parts, body: Body, visitor: &Visitor) -> Result<Filled, Trouble> {
    let bytes_max = match parts.uri.path().starts_with(set_up::PATH) {
        true => limits::CONSOLE_SETTINGS_FORM_BYTES_MAX,
        false => limits::CONSOLE_FORM_BYTES_MAX,
    };
    let form = read_form(parts, body, bytes_max).await?;
    is_of_session(&form, visitor)?;
    Ok(form)
}

/// # Errors
/// When a form has not the key of this session.
fn is_of_session(form: &Filled, visitor: &Visitor) -> Result<(), Trouble> {
    // Compared in constant time; the key is of this session and of nobody else's.
    if Secret::new(visitor.form_key.as_str()).matches(form.get(FORM_KEY).as_bytes()) {
        return Ok(());
    }
    Err(Trouble::new(
        StatusCode::FORBIDDEN,
        "this form is not of your session: nothing was done. Open its page again and send it from there",
    ))
}

/// # Errors
/// When another site sent a form.
fn is_ours(parts: &Parts) -> Result<(), Trouble> {
    if is_from_here(&parts.headers) {
        return Ok(());
    }
    Err(Trouble::new(
        StatusCode::FORBIDDEN,
        "another site sent this form: nothing was done",
    ))
}

/// Reads a form of at most so many bytes that one of these pages sent.
///
/// # Errors
/// When another site sent it, or it is too long.
pub(crate) async fn read_form(parts: &Parts, body: Body, bytes_max: usize) -> Result<Filled, Trouble> {
    is_ours(parts)?;
    let bytes = axum::body::to_bytes(body, bytes_max).await.map_err(|_| {
        let says = format!("a form has at most {bytes_max} bytes");
        Trouble::new(StatusCode::PAYLOAD_TOO_LARGE, says)
    })?;
    Ok(Filled(form_urlencoded::parse(&bytes).into_owned().collect()))
}

/// Whether a request is from a page of this origin, as far as the browser says. One that says nothing is no browser of today, and has
/// the form's key to show.
fn is_from_here(headers: &HeaderMap) -> bool {
    if let Some(site) = site(headers) {
        return site == b"same-origin";
    }
    let (Some(origin), host) = (headers.get(header::ORIGIN), headers.get(header::HOST)) else {
        return true;
    };
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    authority.is_some_and(|(_, authority)| host.is_some_and(|host| host == authority))
}

/// Where a request comes from, as browsers say it where they trust the connection.
fn site(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get("sec-fetch-site").map(HeaderValue::as_bytes)
}

/// Has the browser ask again from here: whoever follows a link in a chat brings no cookie along, since another site sent them.
fn come_from_here(place: &str) -> Response {
    match HeaderValue::from_str(&format!("0; url={place}")) {
        Ok(again) => ([(header::REFRESH, again)], "").into_response(),
        Err(_) => to_sign_in("", false),
    }
}

/// Sends somebody to sign in, and back to this place afterwards.
fn to_sign_in(place: &str, is_over: bool) -> Response {
    let mut question = form_urlencoded::Serializer::new(String::new());
    if place.len() > ROOT.len() {
        question.append_pair("next", place);
    }
    if is_over {
        question.append_pair("over", "1");
    }
    let question = question.finish();
    let mark = if question.is_empty() { "" } else { "?" };
    go(&format!("{ROOT}/sign-in{mark}{question}"))
}

/// Says to browsers what they may do with an answer.
pub(crate) async fn dress(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let framed = response.extensions_mut().remove::<Framed>();
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        // A page may say less of where it is than others do.
        if name != header::REFERRER_POLICY || !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    if let Some(Framed(origins)) = framed.filter(|Framed(origins)| !origins.is_empty()) {
        let origins: Vec<_> = origins.iter().map(Origin::as_str).collect();
        let by_whom = format!("frame-ancestors {}", origins.join(" "));
        let policy = HEADERS[0].1.replace("frame-ancestors 'none'", &by_whom);
        if let Ok(policy) = HeaderValue::from_str(&policy) {
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
            // It knows no origins but the page's own.
            headers.remove(header::X_FRAME_OPTIONS);
        }
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Goes with an answer that a page of these origins may have in a frame.
#[derive(Clone)]
pub(crate) struct Framed(pub(crate) Vec<Origin>);

pub(crate) async fn no_such_page() -> Trouble {
    Trouble::not_found("there is no such page")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        pairs.collect()
    }

    #[test]
    fn o8_a_form_of_another_site_is_none_of_ours() {
        for (pairs, expect) in [
            (&[("sec-fetch-site", "same-origin")][..], true),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("origin", "http://10.0.0.5:9901"), ("host", "10.0.0.5:9901")], true),
            (&[("origin", "http://10.0.0.5:9901"), ("host", "10.0.0.5:9902")], false),
            (&[("origin", "null"), ("host", "10.0.0.5:9901")], false),
            (&[("origin", "https://evil.example")], false),
            (&[("host", "10.0.0.5:9901")], true),
        ] {
            assert_eq!(is_from_here(&headers(pairs)), expect, "{pairs:?}");
        }
    }
}
