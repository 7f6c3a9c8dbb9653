//! The console: pages for people, on the private listener, below `/console` (promise O8).
//!
//! Every page asks the calls of `tollgate_api` through the private listener's own router, with the token that its reader signed in with:
//! what the API refuses to that token, the console does not show. This crate has no store to ask and no other way in.
//!
//! `session` knows who is signed in, `guard` lets requests through to pages and dresses answers, `asked` asks calls, `page` is what
//! all pages have around them, and each page has a file of its own. `portal` lets those in who have a link. Reading works without JavaScript; `assets/console.js` only follows a list.
#![forbid(unsafe_code)]

mod act;
mod acting;
mod asked;
mod assets;
mod audit;
mod bulks;
mod charts;
mod destination_form;
mod did;
mod event;
mod fields;
mod given;
mod grants;
mod guard;
mod hosts;
mod issues;
mod lists;
mod make;
mod outcome;
mod overseen;
mod overview;
mod page;
mod pauses;
mod plugins;
mod portal;
mod promoting;
mod route;
mod route_form;
mod session;
mod set_aside;
mod set_up;
mod settings;
mod sheets;
mod sign_in;
mod source_form;
mod table;
mod timeline;
mod tokens;
mod trial;
mod upload;
mod visit;
mod words;
mod written;

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Redirect;
use axum::routing::{any, get, post};
use tollgate_core::filter::Listing;
use tollgate_core::portal::Origin;
use tollgate_core::time::UnixMillis;

use session::Sessions;

/// Where the console is.
pub const ROOT: &str = "/console";
/// Where portal links lead, each with its secret behind.
pub const DOOR: &str = "/console/portal";
/// What is read when a link, or the session that it opened, is over.
const OVER: &str = "/console/portal";

/// What the console needs of its host.
#[derive(Clone)]
pub struct Host {
    /// Answers the calls of the operator API to whoever sends a token.
    pub calls: Router,
    /// The time; it never goes back.
    pub now: fn() -> UnixMillis,
    /// Fills the bytes at random. Returns whether the system had any randomness.
    pub random: fn(&mut [u8; 32]) -> bool,
    /// Whose pages may have those of portal links in a frame, now.
    pub embed: Arc<dyn Fn() -> Vec<Origin> + Send + Sync>,
}

/// The console of one host.
struct Console {
    host: Host,
    sessions: Mutex<Sessions>,
    /// How many files of forms are in memory.
    uploads: Arc<AtomicUsize>,
}

impl Console {
    /// Sessions are looked up and changed, and never held over an await.
    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pages, to be served beside the calls.
pub fn router(host: Host) -> Router {
    let console = Arc::new(Console {
        host,
        sessions: Mutex::default(),
        uploads: Arc::default(),
    });
    let mut pages = Router::new()
        .route("/console", get(overview::overview))
        .route("/console/find", get(event::find))
        .route("/console/events/{receipt}", get(event::event))
        .route("/console/events/{receipt}/body", get(event::body))
        .route("/console/held", get(set_aside::held))
        .route("/console/dead-letters", get(set_aside::dead_letters))
        .route("/console/issues", get(issues::issues))
        .route("/console/bulk", get(bulks::bulks))
        .route("/console/bulk/{bulk}", get(bulks::bulk))
        .route("/console/pauses", get(pauses::pauses))
        .route("/console/hosts", get(hosts::hosts))
        .route("/console/tokens", get(tokens::tokens))
        .route("/console/audit", get(audit::audit))
        .route("/console/plugins", get(plugins::plugins))
        .route(upload::PATH, get(upload::form).post(upload::upload))
        .route("/console/plugins/{digest}", get(plugins::plugin))
        .route("/console/routes/{tenant}/{route}", get(route::route))
        .route("/console/sources/{tenant}/{source}", get(settings::source))
        .route("/console/bring/{what}", get(promoting::form).post(promoting::preview))
        .route("/console/trial", get(trial::form).post(trial::run))
        .route("/console/budgets", get(plugins::budgets))
        .route("/console/sources", get(settings::sources))
        .route("/console/routes", get(settings::routes))
        .route("/console/destinations", get(settings::destinations))
        .route("/console/secrets", get(settings::secrets))
        .route("/console/settings", get(settings::settings))
        .route("/console/set/{what}", get(set_up::form).post(set_up::preview))
        .route("/console/make/{what}", get(make::form).post(make::preview))
        .route("/console/act/{what}", get(acting::form).post(acting::preview))
        .route("/console/acts/{number}", post(acting::confirm))
        .route("/console/theme", post(sign_in::theme))
        .route("/console/sign-out", post(sign_in::sign_out));
    for list in Listing::ALL {
        let page = move |state, visit, uri| lists::list(list, state, visit, uri);
        pages = pages.route(&format!("/console/{}", list.as_str()), get(page));
        let news = move |state, visit, uri| lists::news(list, state, visit, uri);
        pages = pages.route(&format!("/console/{}/news", list.as_str()), get(news));
    }
    let pages = pages
        .route("/console/{*rest}", any(guard::no_such_page))
        .route_layer(from_fn_with_state(Arc::clone(&console), guard::let_in));
    Router::new()
        .route("/", get(async || Redirect::to(ROOT)))
        .route("/console/sign-in", get(sign_in::form).post(sign_in::sign_in))
        .route("/console/portal", get(portal::over))
        .route("/console/portal/{secret}", get(portal::door).post(portal::come_in))
        .route("/console/assets/{digest}/{name}", get(assets::asset))
        .route("/console/colours/{digits}", get(assets::colours_of))
        .merge(pages)
        .route_layer(from_fn(guard::dress))
        .with_state(console)
}
