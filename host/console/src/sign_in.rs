//! Signing in with a token, signing out, and how pages look.

use std::sync::Arc;

use askama::Template;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use data_encoding::BASE64URL_NOPAD;
use http::{HeaderMap, StatusCode, Uri, header};
use tollgate_api::calls;
use tollgate_core::secret::Secret;

use crate::asked::Trouble;
use crate::guard::read_form;
use crate::page::{Frame, show_as};
use crate::session::Random;
use crate::visit::{Filled, SESSION_COOKIE, THEME_COOKIE, Theme, Visit, cookie, field, go, own_place, set_cookie};
use crate::{Console, ROOT};

/// The cookie that has the key of a form to sign in: it is of no session yet, so the browser brings it along twice.
const SIGN_IN_COOKIE: &str = "tollgate_sign_in";
/// How long a form to sign in may stay open, in seconds.
const SIGN_IN_S_MAX: u32 = 3600;
/// How long a choice of colours is kept, in seconds: a year.
const THEME_S_MAX: u32 = 365 * 24 * 3600;

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignIn {
    frame: Frame,
    /// What is wrong, or was.
    says: String,
    key: String,
    next: String,
}

/// `GET /console/sign-in`.
pub(crate) async fn form(State(console): State<Arc<Console>>, headers: HeaderMap, uri: Uri) -> Response {
    let asked: Vec<(String, String)> = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
        .into_owned()
        .collect();
    let says = match field(&asked, "over") {
        "" => "",
        _ => "Your session is over. Sign in again to go on.",
    };
    ask_for_token(&console, &headers, StatusCode::OK, says, field(&asked, "next"))
}

/// The form, with a fresh key.
fn ask_for_token(console: &Console, headers: &HeaderMap, status: StatusCode, says: &str, next: &str) -> Response {
    let Some(key) = drawn(console) else {
        return no_randomness();
    };
    let key = BASE64URL_NOPAD.encode(&key);
    let cookie = set_cookie(headers, SIGN_IN_COOKIE, &key, Some(SIGN_IN_S_MAX));
    let page = SignIn {
        frame: Frame::outside(headers, "Sign in"),
        says: says.to_owned(),
        key,
        next: own_place(next).to_owned(),
    };
    ([(header::SET_COOKIE, cookie)], show_as(status, &page)).into_response()
}

/// `POST /console/sign-in`.
pub(crate) async fn sign_in(State(console): State<Arc<Console>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let headers = &parts.headers;
    let form = match read_form(&parts, body).await {
        Ok(form) => form,
        Err(Trouble { status, says }) => return ask_for_token(&console, headers, status, &says, ""),
    };
    let next = own_place(form.get("next"));
    let again = |status, says: &str| ask_for_token(&console, headers, status, says, next);
    let key = cookie(headers, SIGN_IN_COOKIE).unwrap_or_default();
    if key.is_empty() || !Secret::new(key).matches(form.get("key").as_bytes()) {
        return again(
            StatusCode::FORBIDDEN,
            "The form was open for too long, or the browser keeps no cookies. Try again.",
        );
    }
    let token = Secret::new(form.get("token").trim());
    let who = match console.read::<calls::WhoAmI>(&token, &tollgate_api::Nothing {}).await {
        Ok(who) => who,
        Err(trouble) if trouble.status == StatusCode::UNAUTHORIZED => {
            return again(
                StatusCode::UNAUTHORIZED,
                "This token is not valid here: it is mistyped, revoked or over.",
            );
        }
        Err(Trouble { status, says }) => return again(status, &says),
    };
    let (Some(name), Some(form_key)) = (drawn(&console), drawn(&console)) else {
        return no_randomness();
    };
    let mut sessions = console.sessions();
    // Whatever name the browser came with: it is not the new session's, and what it named is over.
    if let Some(old) = cookie(headers, SESSION_COOKIE) {
        sessions.end(old.as_bytes());
    }
    let name = sessions.open(token, who, [name, form_key], (console.host.now)());
    drop(sessions);
    let name = String::from_utf8_lossy(name.expose()).into_owned();
    let mut response = go(next);
    for cookie in [
        set_cookie(headers, SESSION_COOKIE, &name, None),
        set_cookie(headers, SIGN_IN_COOKIE, "", Some(0)),
    ] {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// `POST /console/sign-out`.
pub(crate) async fn sign_out(State(console): State<Arc<Console>>, visit: Visit, headers: HeaderMap) -> Response {
    console.sessions().end(visit.session.expose());
    let cookie = set_cookie(&headers, SESSION_COOKIE, "", Some(0));
    ([(header::SET_COOKIE, cookie)], go(&format!("{ROOT}/sign-in"))).into_response()
}

/// `POST /console/theme`.
pub(crate) async fn theme(form: Filled, headers: HeaderMap) -> Result<Response, Trouble> {
    let theme = Theme::named(form.get("theme")).ok_or_else(|| Trouble::bad("theme: system, light or dark"))?;
    let cookie = set_cookie(&headers, THEME_COOKIE, theme.as_str(), Some(THEME_S_MAX));
    let place = own_place(form.get("place"));
    Ok(([(header::SET_COOKIE, cookie)], go(place)).into_response())
}

fn drawn(console: &Console) -> Option<Random> {
    let mut bytes = [0; 32];
    (console.host.random)(&mut bytes).then_some(bytes)
}

fn no_randomness() -> Response {
    let says = "the system has no randomness, and without it nobody is signed in\n";
    (StatusCode::SERVICE_UNAVAILABLE, Body::from(says)).into_response()
}
