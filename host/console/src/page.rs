//! What every page has around it: who is signed in, where one can go, how it looks.

use askama::Template;
use axum::response::{Html, IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use tollgate_core::access::Permission;
use tollgate_core::mask;

use crate::asked::Trouble;
use crate::session::is_link;
use crate::visit::{Theme, Visit};
use crate::{ROOT, assets};

/// Pages that belong together in the menu.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) links: Vec<Link>,
}

/// A page of the menu.
pub(crate) struct Link {
    pub(crate) name: &'static str,
    pub(crate) href: String,
    pub(crate) is_here: bool,
}

/// Each page of the menu: group, name, address below [`ROOT`], and what its reader must be allowed.
const MENU: [(&str, &str, &str, Permission); 23] = [
    ("", "Overview", "", Permission::PluginRead),
    ("Needs a person", "Undelivered", "/undelivered", Permission::ReceiptRead),
    ("Needs a person", "Issues", "/issues", Permission::ReceiptRead),
    ("Needs a person", "Held", "/held", Permission::ReceiptRead),
    (
        "Needs a person",
        "Dead letters",
        "/dead-letters",
        Permission::ReceiptRead,
    ),
    ("What happened", "Events", "/events", Permission::ReceiptRead),
    ("What happened", "Jobs", "/jobs", Permission::ReceiptRead),
    ("What happened", "Runs", "/runs", Permission::ReceiptRead),
    ("What happened", "Actions", "/actions", Permission::ReceiptRead),
    ("What happened", "Deliveries", "/deliveries", Permission::ReceiptRead),
    ("What happened", "Refused", "/refused", Permission::ReceiptRead),
    ("What happened", "Bulk actions", "/bulk", Permission::ReceiptRead),
    ("What happened", "Audit", "/audit", Permission::PluginRead),
    ("What runs", "Plugins", "/plugins", Permission::PluginRead),
    ("What runs", "Budgets", "/budgets", Permission::ReceiptRead),
    ("What runs", "Pauses", "/pauses", Permission::PluginRead),
    ("What runs", "Hosts", "/hosts", Permission::HostRead),
    ("Set up", "Sources", "/sources", Permission::SettingsRead),
    ("Set up", "Routes", "/routes", Permission::SettingsRead),
    ("Set up", "Destinations", "/destinations", Permission::SettingsRead),
    ("Set up", "Secrets", "/secrets", Permission::SettingsRead),
    ("Set up", "Settings", "/settings", Permission::SettingsRead),
    ("Set up", "Tokens", "/tokens", Permission::TokenRead),
];

/// What every page has around it.
pub(crate) struct Frame {
    pub(crate) title: String,
    pub(crate) assets: String,
    pub(crate) theme: Theme,
    /// Where the colours of a portal link are; empty where the page has the console's own.
    pub(crate) colours: String,
    pub(crate) menu: Vec<Group>,
    /// Who is signed in, in words; empty where nobody is.
    pub(crate) who: String,
    /// What they are, and of whom.
    pub(crate) whose: String,
    pub(crate) form_key: String,
    /// Where the page is, to come back to.
    pub(crate) place: String,
    pub(crate) may_read: bool,
}

impl Frame {
    pub(crate) fn of(visit: &Visit, title: impl Into<String>) -> Self {
        let who = &visit.visitor.who;
        let path = visit.place.split('?').next().unwrap_or_default();
        let mut menu: Vec<Group> = Vec::new();
        for (group, name, below, permission) in MENU {
            if !may(visit, permission) {
                continue;
            }
            let href = format!("{ROOT}{below}");
            let is_here = is_at(path, &href);
            let link = Link { name, href, is_here };
            match menu.last_mut().filter(|last| last.name == group) {
                Some(last) => last.links.push(link),
                None => menu.push(Group {
                    name: group,
                    links: vec![link],
                }),
            }
        }
        Self {
            title: title.into(),
            assets: assets::folder(),
            theme: visit.theme,
            colours: assets::colours(who.accent.as_deref()),
            menu,
            who: who.name.clone(),
            whose: match (&who.tenant, &who.ends_at) {
                (Some(tenant), Some(end)) if is_link(who) => format!("by link to {tenant}, until {}", ends(end)),
                (Some(tenant), _) => format!("{} of {tenant}", who.role),
                (None, _) => format!("{} of the whole host", who.role),
            },
            form_key: visit.visitor.form_key.clone(),
            place: visit.place.clone(),
            may_read: may(visit, Permission::ReceiptRead),
        }
    }

    /// The same around a form: the menu shows the page that it belongs to, which it goes back to.
    pub(crate) fn within(mut self, place: &str) -> Self {
        let path = place.split('?').next().unwrap_or_default();
        for link in self.menu.iter_mut().flat_map(|group| &mut group.links) {
            link.is_here |= is_at(path, &link.href);
        }
        self
    }

    /// Around a page that somebody reads who is not signed in.
    pub(crate) fn outside(headers: &HeaderMap, title: &str) -> Self {
        Self {
            title: title.to_owned(),
            assets: assets::folder(),
            theme: Theme::of(headers, None),
            colours: String::new(),
            menu: Vec::new(),
            who: String::new(),
            whose: String::new(),
            form_key: String::new(),
            place: String::new(),
            may_read: false,
        }
    }
}

/// Whether a path is that of a page of the menu, or below it; all are below the first.
fn is_at(path: &str, href: &str) -> bool {
    path == href || href != ROOT && path.strip_prefix(href).is_some_and(|rest| rest.starts_with('/'))
}

/// An end, without what nobody reads of it.
pub(crate) fn ends(at: &str) -> String {
    match (at.get(..10), at.get(11..16)) {
        (Some(day), Some(time)) => format!("{day} {time}"),
        _ => mask::line(at, 40),
    }
}

/// Whether somebody may do something. A page only leaves out what would be refused: the calls decide.
pub(crate) fn may(visit: &Visit, permission: Permission) -> bool {
    let who = &visit.visitor.who;
    who.permissions.iter().any(|allowed| allowed == permission.as_str())
}

/// A page as an answer.
pub(crate) fn show(page: &impl Template) -> Response {
    show_as(StatusCode::OK, page)
}

pub(crate) fn show_as(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => (status, Html(text)).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[derive(Template)]
#[template(path = "trouble.html")]
struct TroublePage<'a> {
    frame: Frame,
    status: u16,
    says: &'a str,
}

/// The page of something that did not work.
pub(crate) fn trouble(visit: &Visit, trouble: &Trouble) -> Response {
    let title = match trouble.status {
        StatusCode::NOT_FOUND => "Not here",
        StatusCode::FORBIDDEN => "Not allowed",
        StatusCode::CONFLICT => "Not done",
        StatusCode::SERVICE_UNAVAILABLE => "The host does not answer now",
        status if status.is_client_error() => "Not understood",
        _ => "Something failed",
    };
    let page = TroublePage {
        frame: Frame::of(visit, title),
        status: trouble.status.as_u16(),
        says: &trouble.says,
    };
    show_as(trouble.status, &page)
}
