//! The door of portal links (promise O13): a page with one button. Whoever only looks at a link, as scanners of mail and previews in chats do,
//! is not signed in by that and uses nothing up. The link's secret is a token; with the button it becomes a session, as a token does that is
//! signed in with.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tollgate_api::whoami::WhoAmI;
use tollgate_api::{Nothing, calls};
use tollgate_core::access::Capability;
use tollgate_core::limits;
use tollgate_core::secret::Secret;

use crate::asked::Trouble;
use crate::guard::{Framed, is_framed, read_form};
use crate::page::{Frame, ends, show_as};
use crate::session::{BY_LINK, Newcomer, is_link};
use crate::sign_in::{OPEN_FOR_TOO_LONG, form_key, is_own_form, no_randomness, welcome};
use crate::visit::{Reached, SESSION_COOKIE, Theme, cookie, set_cookie};
use crate::{Console, ROOT, assets};

/// The link's secret is in the address of its door: no request tells it to anybody, not even to this host.
const NO_REFERRER: (HeaderName, HeaderValue) = (header::REFERRER_POLICY, HeaderValue::from_static("strict-origin"));

#[derive(Template)]
#[template(path = "portal.html")]
struct Door {
    frame: Frame,
    /// What is wrong, or was.
    says: &'static str,
    key: String,
    tenant: String,
    may: Vec<&'static str>,
    ends_at: String,
}

#[derive(Template)]
#[template(path = "portal_over.html")]
struct Over {
    frame: Frame,
}

/// `GET /console/portal/{secret}`: says what the link opens, and asks whether to go in.
pub(crate) async fn door(
    State(console): State<Arc<Console>>,
    Path(secret): Path<String>,
    headers: HeaderMap,
) -> Response {
    match opened(&console, &Secret::new(secret)).await {
        Ok(Some(who)) => ask_in(&console, &headers, StatusCode::OK, "", &who),
        Ok(None) => closed(&console, &headers),
        Err(Trouble { status, .. }) => status.into_response(),
    }
}

/// `POST /console/portal/{secret}`: goes in.
pub(crate) async fn come_in(
    State(console): State<Arc<Console>>,
    Path(secret): Path<String>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let (headers, token) = (&parts.headers, Secret::new(secret));
    let who = match opened(&console, &token).await {
        Ok(Some(who)) => who,
        Ok(None) => return closed(&console, headers),
        Err(Trouble { status, .. }) => return status.into_response(),
    };
    let again = |status, says| ask_in(&console, headers, status, says, &who);
    match read_form(&parts, body, limits::CONSOLE_FORM_BYTES_MAX).await {
        Ok(form) if is_own_form(headers, &form) => {}
        Ok(_) => return again(StatusCode::FORBIDDEN, OPEN_FOR_TOO_LONG),
        Err(Trouble { status, .. }) => return again(status, "Another site sent this form. Go in from here."),
    }
    let is_framed = is_framed(&console, headers);
    let newcomer = Newcomer { token, who, is_framed };
    welcome(&console, headers, newcomer, Reached::framed(headers, is_framed), ROOT)
}

/// `GET /console/portal`: what is read when a link, or the session that it opened, is over.
///
/// Then the browser forgets the session: with what is left of it, nobody would ever be asked to sign in there again.
pub(crate) async fn over(State(console): State<Arc<Console>>, headers: HeaderMap) -> Response {
    let mut page = closed_as(&console, &headers, StatusCode::OK);
    let session = cookie(&headers, SESSION_COOKIE).unwrap_or_default();
    let is_open = console
        .sessions()
        .visitor(session.as_bytes(), (console.host.now)())
        .is_some();
    if session.starts_with(BY_LINK) && !is_open {
        let reached = Reached::framed(&headers, is_framed(&console, &headers));
        let gone = set_cookie(reached, SESSION_COOKIE, "", Some(0));
        page.headers_mut().append(header::SET_COOKIE, gone);
    }
    page
}

/// What a link lets its holder do; none when it is no link, or none that is open.
///
/// # Errors
/// When the host cannot say.
async fn opened(console: &Console, secret: &Secret) -> Result<Option<WhoAmI>, Trouble> {
    match console.read::<calls::WhoAmI>(secret, &Nothing {}).await {
        // A token of another kind is none to be put into an address.
        Ok(who) => Ok(Some(who).filter(is_link)),
        Err(trouble) if matches!(trouble.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Ok(None),
        Err(trouble) => Err(trouble),
    }
}

fn ask_in(console: &Console, headers: &HeaderMap, status: StatusCode, says: &'static str, who: &WhoAmI) -> Response {
    let is_framed = is_framed(console, headers);
    let Some((key, key_cookie)) = form_key(console, Reached::framed(headers, is_framed)) else {
        return no_randomness();
    };
    let listed = Capability::ALL.into_iter();
    let listed = listed.filter(|capability| who.may.iter().any(|word| word == capability.as_str()));
    let page = Door {
        frame: Frame {
            theme: Theme::of(headers, who.scheme.as_deref()),
            colours: assets::colours(who.accent.as_deref()),
            ..Frame::outside(headers, "Come in")
        },
        says,
        key,
        tenant: who.tenant.as_ref().map(ToString::to_string).unwrap_or_default(),
        may: listed.map(Capability::says).collect(),
        ends_at: who.ends_at.as_deref().map(ends).unwrap_or_default(),
    };
    let page = (
        [(header::SET_COOKIE, key_cookie)],
        [NO_REFERRER],
        show_as(status, &page),
    )
        .into_response();
    framed(console, is_framed, page)
}

fn closed(console: &Console, headers: &HeaderMap) -> Response {
    closed_as(console, headers, StatusCode::NOT_FOUND)
}

fn closed_as(console: &Console, headers: &HeaderMap, status: StatusCode) -> Response {
    let page = Over {
        frame: Frame::outside(headers, "This link is over"),
    };
    let page = ([NO_REFERRER], show_as(status, &page)).into_response();
    framed(console, is_framed(console, headers), page)
}

fn framed(console: &Console, is_framed: bool, mut page: Response) -> Response {
    if is_framed {
        page.extensions_mut().insert(Framed((console.host.embed)()));
    }
    page
}
