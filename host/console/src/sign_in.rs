//! Signing in with a token, signing out, and how pages look.

use std::sync::Arc;

use askama::Template;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use data_encoding::BASE64URL_NOPAD;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use tollgate_api::calls;
use tollgate_api::whoami::WhoAmI;
use tollgate_core::limits;
use tollgate_core::secret::Secret;

use crate::asked::Trouble;
use crate::guard::read_form;
use crate::page::{Frame, show_as};
use crate::session::{Newcomer, Random, is_link};
use crate::visit::{
    Filled, Reached, SESSION_COOKIE, THEME_COOKIE, Theme, Visit, asked, cookie, field, go, own_place, set_cookie,
};
use crate::{Console, OVER, ROOT};

/// The cookie that has the key of a form to sign in: it is of no session yet, so the browser brings it along twice.
const SIGN_IN_COOKIE: &str = "tollgate_sign_in";
/// What is said of a form to come in that is not this browser's.
pub(crate) const OPEN_FOR_TOO_LONG: &str =
    "The form was open for too long, or the browser keeps no cookies. Try again.";
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
    let asked = asked(&uri);
    let says = match field(&asked, "over") {
        "" => "",
        _ => "Your session is over. Sign in again to go on.",
    };
    ask_for_token(&console, &headers, StatusCode::OK, says, field(&asked, "next"))
}

/// The form, with a fresh key.
fn ask_for_token(console: &Console, headers: &HeaderMap, status: StatusCode, says: &str, next: &str) -> Response {
    let Some((key, cookie)) = form_key(console, Reached::of(headers)) else {
        return no_randomness();
    };
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
    let form = match read_form(&parts, body, limits::CONSOLE_FORM_BYTES_MAX).await {
        Ok(form) => form,
        Err(Trouble { status, says, .. }) => return ask_for_token(&console, headers, status, &says, ""),
    };
    let next = own_place(form.get("next"));
    let again = |status, says: &str| ask_for_token(&console, headers, status, says, next);
    if !is_own_form(headers, &form) {
        return again(StatusCode::FORBIDDEN, OPEN_FOR_TOO_LONG);
    }
    let token = Secret::new(form.get("token").trim());
    let who = match console.read::<calls::WhoAmI>(&token, &tollgate_api::Nothing {}).await {
        // Which tenants there are is asked when somebody chooses one: by then it may be others.
        Ok(who) => WhoAmI {
            tenants: Vec::new(),
            ..who
        },
        Err(trouble) if trouble.status == StatusCode::UNAUTHORIZED => {
            return again(
                StatusCode::UNAUTHORIZED,
                "This token is not valid here: it is mistyped, revoked or over.",
            );
        }
        Err(Trouble { status, says, .. }) => return again(status, &says),
    };
    let newcomer = Newcomer {
        token,
        who,
        is_framed: false,
    };
    welcome(&console, headers, newcomer, Reached::of(headers), next)
}

/// Opens a session, and sends whoever has it to a page.
pub(crate) fn welcome(
    console: &Console,
    headers: &HeaderMap,
    newcomer: Newcomer,
    reached: Reached,
    next: &str,
) -> Response {
    let (Some(name), Some(form_key)) = (drawn(console), drawn(console)) else {
        return no_randomness();
    };
    let mut sessions = console.sessions();
    // Whatever name the browser came with: it is not the new session's, and what it named is over.
    if let Some(old) = cookie(headers, SESSION_COOKIE) {
        sessions.end(old.as_bytes());
    }
    let name = sessions.open(newcomer, [name, form_key], (console.host.now)());
    drop(sessions);
    let name = String::from_utf8_lossy(name.expose()).into_owned();
    let mut response = go(next);
    for cookie in [
        set_cookie(reached, SESSION_COOKIE, &name, None),
        set_cookie(reached, SIGN_IN_COOKIE, "", Some(0)),
    ] {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// Whether a form to come in is one that this browser was given: it brings the form's key twice.
pub(crate) fn is_own_form(headers: &HeaderMap, form: &Filled) -> bool {
    let key = cookie(headers, SIGN_IN_COOKIE).unwrap_or_default();
    !key.is_empty() && Secret::new(key).matches(form.get("key").as_bytes())
}

/// A key for a form to come in, and the cookie that has it as well. None where the system has no randomness.
pub(crate) fn form_key(console: &Console, reached: Reached) -> Option<(String, HeaderValue)> {
    let key = BASE64URL_NOPAD.encode(&drawn(console)?);
    let cookie = set_cookie(reached, SIGN_IN_COOKIE, &key, Some(SIGN_IN_S_MAX));
    Some((key, cookie))
}

/// `POST /console/sign-out`.
pub(crate) async fn sign_out(State(console): State<Arc<Console>>, visit: Visit, headers: HeaderMap) -> Response {
    console.sessions().end(visit.session.expose());
    let reached = Reached::framed(&headers, visit.visitor.is_framed);
    let cookie = set_cookie(reached, SESSION_COOKIE, "", Some(0));
    let place = match is_link(&visit.visitor.who) {
        true => OVER.to_owned(),
        false => format!("{ROOT}/sign-in"),
    };
    ([(header::SET_COOKIE, cookie)], go(&place)).into_response()
}

/// `POST /console/theme`.
pub(crate) async fn theme(visit: Visit, form: Filled, headers: HeaderMap) -> Result<Response, Trouble> {
    let theme = Theme::named(form.get("theme")).ok_or_else(|| Trouble::bad("theme: system, light or dark"))?;
    let reached = Reached::framed(&headers, visit.visitor.is_framed);
    let cookie = set_cookie(reached, THEME_COOKIE, theme.as_str(), Some(THEME_S_MAX));
    let place = own_place(form.get("place"));
    Ok(([(header::SET_COOKIE, cookie)], go(place)).into_response())
}

fn drawn(console: &Console) -> Option<Random> {
    let mut bytes = [0; 32];
    (console.host.random)(&mut bytes).then_some(bytes)
}

pub(crate) fn no_randomness() -> Response {
    let says = "the system has no randomness, and without it nobody is signed in\n";
    (StatusCode::SERVICE_UNAVAILABLE, Body::from(says)).into_response()
}
