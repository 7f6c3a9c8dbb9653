//! Tokens and portal links, without what they are.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::Uri;
use tollgate_api::portal::{LinkView, LinksQuery};
use tollgate_api::tokens::TokenView;
use tollgate_api::{Nothing, calls};
use tollgate_core::access::Permission;
use tollgate_core::time::UnixMillis;

use crate::Console;
use crate::asked::Trouble;
use crate::page::{Frame, may, show};
use crate::sheets::{Empty, Narrower, Sheet, Sheets};
use crate::table::{Cell, Part, Table, address};
use crate::visit::{Visit, asked, field};

/// `GET /console/tokens`.
pub(crate) async fn tokens(State(console): State<Arc<Console>>, visit: Visit, uri: Uri) -> Result<Response, Trouble> {
    let token = &visit.visitor.token;
    let is_all = field(&asked(&uri), "all") == "true";
    let query = LinksQuery {
        tenant: None,
        all: is_all,
    };
    let tokens = console.read::<calls::Tokens>(token, &Nothing {}).await?;
    let links = console.read::<calls::PortalLinks>(token, &query).await?;
    let (now, may_write) = ((console.host.now)(), may(&visit, Permission::TokenWrite));
    let mut of_roles = Table::new(
        "tokens",
        &[
            ("Made", "time"),
            ("Token", "main"),
            ("Role", "short"),
            ("Of", "short"),
            ("Ends", "time"),
            ("By", "wide"),
            ("", "act"),
        ],
    );
    let of_role = tokens.iter().filter(|token| token.may.is_empty());
    of_roles.rows = of_role
        .filter(|token| is_all || is_valid(token, now))
        .map(|token| token_row(token, may_write, now))
        .collect();
    let mut by_link = Table::new(
        "portal links",
        &[
            ("Made", "time"),
            ("Link", "main"),
            ("May", ""),
            ("Of", "short"),
            ("Ends", "time"),
            ("By", "wide"),
            ("", "act"),
        ],
    );
    by_link.rows = links.iter().map(|link| link_row(link, may_write, now)).collect();
    let narrower = |name: &str, all: &str, is_here| Narrower {
        name: name.to_owned(),
        count: String::new(),
        href: address("/tokens", &[("all", all)]),
        is_here,
    };
    let add = |name, what| may_write.then(|| (name, address(&format!("/make/{what}"), &[])));
    Ok(show(&Sheets {
        frame: Frame::of(&visit, "Tokens"),
        about: "Who may ask this host what. A token or a link is shown once, when it is made; here is what each may, and who made it and why.",
        kinds: vec![
            narrower("those that are valid", "", !is_all),
            narrower("those that are over as well", "true", is_all),
        ],
        problems: Vec::new(),
        whose: None,
        sheets: vec![
            Sheet {
                title: "Tokens",
                about: "For programs, and for people who sign in.",
                table: of_roles,
                empty: Empty {
                    says: "No token yet.",
                    then: "The operator's own is in the configuration, and is not listed.",
                    command: "",
                },
                add: add("Make a token", "token"),
            },
            Sheet {
                title: "Portal links",
                about: "Each opens this console for one tenant, for a time and for what it lists.",
                table: by_link,
                empty: Empty {
                    says: "No link is open.",
                    then: "Make one for somebody of a tenant who has no token.",
                    command: "",
                },
                add: add("Make a link", "link"),
            },
        ],
    }))
}

fn is_valid(token: &TokenView, now: UnixMillis) -> bool {
    let end = token.expires_at.as_deref().and_then(UnixMillis::from_rfc3339);
    token.revoked_at.is_none() && end.is_none_or(|end| now < end)
}

/// Who made it and why; or who ended it, and why.
fn by(created: (&str, &str), revoked: Option<(&str, &str)>) -> Cell {
    let told = |by: &str, why: &str| match why {
        "" => by.to_owned(),
        why => format!("{by}: {why}"),
    };
    let by = match created.0 {
        "" => "the operator",
        by => by,
    };
    let made = Cell::from(Part::told(&told(by, created.1)).class("dim"));
    match revoked {
        Some((by, why)) => made.below(Part::told(&format!("revoked by {}", told(by, why))).marked("dead")),
        None => made,
    }
}

fn ends(expires_at: Option<&str>, revoked_at: Option<&str>, now: UnixMillis) -> Cell {
    match (revoked_at, expires_at) {
        (Some(at), _) => Cell::from(Part::at(at, now).class("time")).below(Part::said("revoked")),
        (None, Some(at)) => {
            let end = Cell::from(Part::at(at, now).class("time"));
            match UnixMillis::from_rfc3339(at).is_some_and(|end| end <= now) {
                true => end.below(Part::said("over")),
                false => end,
            }
        }
        (None, None) => Part::said("when it is revoked").class("dim").into(),
    }
}

fn revoke(id: &str, is_valid: bool, may_write: bool) -> Cell {
    let link = || Part::said("Revoke").to(address("/act/revoke", &[("token", id)]));
    Cell::maybe((is_valid && may_write).then(link))
}

fn token_row(token: &TokenView, may_write: bool, now: UnixMillis) -> Vec<Cell> {
    let id = token.id.to_string();
    let of = token.tenant.as_ref().map_or("the whole host", |tenant| tenant.as_str());
    let revoked = token
        .revoked_by
        .as_deref()
        .map(|by| (by, token.revoked_why.as_deref().unwrap_or_default()));
    vec![
        Part::at(&token.created_at, now).class("time").into(),
        Cell::from(Part::told(&token.name)).below(Part::said(id.clone()).class("code")),
        Part::told(&token.role).into(),
        Part::said(of).into(),
        ends(token.expires_at.as_deref(), token.revoked_at.as_deref(), now),
        by((&token.created_by, &token.why), revoked),
        revoke(&id, is_valid(token, now), may_write),
    ]
}

fn link_row(link: &LinkView, may_write: bool, now: UnixMillis) -> Vec<Cell> {
    let id = link.id.to_string();
    let revoked = link
        .revoked_by
        .as_deref()
        .map(|by| (by, link.revoked_why.as_deref().unwrap_or_default()));
    vec![
        Part::at(&link.created_at, now).class("time").into(),
        Cell::from(Part::told(&link.name)).below(Part::said(id.clone()).class("code")),
        Part::told(&link.may.join(", ")).into(),
        Part::said(link.tenant.to_string()).into(),
        ends(Some(&link.ends_at), link.revoked_at.as_deref(), now),
        by((&link.created_by, &link.why), revoked),
        revoke(&id, link.is_open(), may_write),
    ]
}
