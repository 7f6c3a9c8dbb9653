//! The lists of the filter language: events, jobs, runs, actions, deliveries, and what did not arrive. The address of a page is its filter
//! and its place, so that it can be sent to somebody, and a page does not move while events come in.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderName, StatusCode, Uri};
use tollgate_api::lists::{
    ActionRow, DeliveryRow, EventRow, JobRow, ListQuery, Listed, OfEvent, Page, RefusedRow, RunRow, UndeliveredRow,
};
use tollgate_api::{Call, Nothing, calls, read_query};
use tollgate_core::access::Permission;
use tollgate_core::admission::Disposition;
use tollgate_core::filter::{Filter, Listing};
use tollgate_core::time::UnixMillis;

use crate::asked::Trouble;
use crate::page::{Frame, may, show, show_as};
use crate::table::{Cell, Part, Table, address, event_page};
use crate::visit::Visit;
use crate::words::{counted, number, size, took};
use crate::{Console, bulks};

/// Rows of a page, unless its address says another number.
const ROWS: u64 = 50;
/// Where a list that is followed has come to.
const NEWEST: HeaderName = HeaderName::from_static("tollgate-newest");

#[derive(Template)]
#[template(path = "list.html")]
struct ListPage {
    frame: Frame,
    list: &'static str,
    /// What the list has, in a sentence.
    about: &'static str,
    filter: String,
    /// What is wrong with the filter: the message, the filter before the place, and from there on.
    wrong: Option<(String, String)>,
    keys: String,
    examples: Vec<(&'static str, String)>,
    table: Table,
    /// Where the next page is.
    next: Option<String>,
    /// Where the newest is, from a later page.
    first: Option<String>,
    /// Where a script asks for what is new; empty where the page is not the newest.
    news: String,
    /// How far was looked, where that is not all.
    looked: String,
    /// Where one thing is done to all that fit.
    bulk: Option<String>,
    empty: Empty,
}

/// What a page says when it has nothing.
struct Empty {
    says: &'static str,
    /// What to do first.
    then: &'static str,
    command: &'static str,
}

#[derive(Template)]
#[template(path = "rows.html")]
struct Rows {
    table: Table,
}

/// A page of a list.
pub(crate) async fn list(
    list: Listing,
    State(console): State<Arc<Console>>,
    visit: Visit,
    uri: Uri,
) -> Result<Response, Trouble> {
    let query = asked(&uri)?;
    let filter = query.filter.clone().unwrap_or_default();
    let now = (console.host.now)();
    if let Err(error) = Filter::read(&filter, list, now) {
        // What the API says, and the place in the filter besides.
        let pointed = error.pointed(&filter);
        let (message, place) = pointed.split_once('\n').unwrap_or((&pointed, ""));
        let wrong = Some((message.to_owned(), place.to_owned()));
        let page = page(list, &visit, filter, Piece::empty(list), wrong);
        return Ok(show_as(StatusCode::BAD_REQUEST, &page));
    }
    let is_first = query.after.is_none();
    let found = read(&console, list, &visit, query.clone()).await?;
    let mut page = page(list, &visit, filter, found, None);
    if !is_first {
        page.first = Some(address(&format!("/{}", list.as_str()), &[("filter", &page.filter)]));
        page.news = String::new();
    }
    Ok(show(&page))
}

/// What came behind a place, for the script that follows a list.
pub(crate) async fn news(
    list: Listing,
    State(console): State<Arc<Console>>,
    visit: Visit,
    uri: Uri,
) -> Result<Response, Trouble> {
    let found = read(&console, list, &visit, asked(&uri)?).await?;
    let rows = show(&Rows { table: found.table });
    Ok(match found.newest {
        Some(newest) => ([(NEWEST, newest)], rows).into_response(),
        None => rows,
    })
}

fn asked(uri: &Uri) -> Result<ListQuery, Trouble> {
    // All lists are asked by the same parameters.
    let query = read_query::<calls::Events>(uri.query().unwrap_or_default()).map_err(Trouble::bad)?;
    Ok(ListQuery {
        limit: query.limit.or(Some(ROWS)),
        ..query
    })
}

/// A part of a list, as its page shows it.
struct Piece {
    table: Table,
    next: Option<String>,
    newest: Option<String>,
    looked: String,
}

impl Piece {
    fn empty(list: Listing) -> Self {
        Self {
            table: Table::new(list.as_str(), &[]),
            next: None,
            newest: None,
            looked: String::new(),
        }
    }
}

async fn read(console: &Console, list: Listing, visit: &Visit, query: ListQuery) -> Result<Piece, Trouble> {
    match list {
        Listing::Events => part::<calls::Events, EventRow>(console, visit, query).await,
        Listing::Jobs => part::<calls::Jobs, JobRow>(console, visit, query).await,
        Listing::Runs => part::<calls::Runs, RunRow>(console, visit, query).await,
        Listing::Actions => part::<calls::Actions, ActionRow>(console, visit, query).await,
        Listing::Deliveries => part::<calls::Deliveries, DeliveryRow>(console, visit, query).await,
        Listing::Undelivered => part::<calls::Undelivered, UndeliveredRow>(console, visit, query).await,
        Listing::Refused => part::<calls::Refused, RefusedRow>(console, visit, query).await,
    }
}

async fn part<C, L>(console: &Console, visit: &Visit, query: ListQuery) -> Result<Piece, Trouble>
where
    C: Call<Path = Nothing, Query = ListQuery, Body = Nothing, Answer = Page<L>>,
    L: Row,
{
    let page = console.read::<C>(&visit.visitor.token, &query).await?;
    let shown = Shown::to(console, visit);
    let mut table = Table::new(L::LIST.as_str(), L::COLUMNS);
    table.rows = page.items.iter().map(|row| row.cells(&shown)).collect();
    let looked = match (&page.looked_back_to, &page.next) {
        (Some(back_to), Some(_)) if page.items.len() < query.limit.unwrap_or(ROWS) as usize => format!(
            "looked at {} back to {back_to}, as many as one page may; the next page goes on",
            counted(page.looked_at, "place")
        ),
        _ => String::new(),
    };
    let filter = query.filter.unwrap_or_default();
    let path = format!("/{}", L::LIST.as_str());
    let next = page.next.as_deref();
    Ok(Piece {
        table,
        next: next.map(|next| address(&path, &[("filter", &filter), ("after", next)])),
        newest: page.newest,
        looked,
    })
}

/// The newest events of whoever visits, for the overview.
pub(crate) async fn newest(console: &Console, visit: &Visit, rows: u64) -> Result<Table, Trouble> {
    let query = ListQuery {
        limit: Some(rows),
        ..ListQuery::default()
    };
    Ok(read(console, Listing::Events, visit, query).await?.table)
}

fn page(list: Listing, visit: &Visit, filter: String, found: Piece, wrong: Option<(String, String)>) -> ListPage {
    let Texts {
        title,
        about,
        examples,
        empty,
    } = texts(list);
    let path = format!("/{}", list.as_str());
    let examples = examples
        .iter()
        .map(|example| (*example, address(&path, &[("filter", example)])));
    let newest = found.newest.unwrap_or_default();
    let news = address(&format!("{path}/news"), &[("filter", &filter), ("newer", &newest)]);
    let keys: Vec<_> = list.keys().map(|key| key.word()).collect();
    ListPage {
        frame: Frame::of(visit, title),
        list: list.as_str(),
        about,
        wrong,
        keys: keys.join("  "),
        examples: examples.collect(),
        table: found.table,
        next: found.next,
        first: None,
        news: if newest.is_empty() { String::new() } else { news },
        looked: found.looked,
        bulk: bulk_href(visit, list, &filter),
        empty: if filter.trim().is_empty() {
            empty
        } else {
            Empty {
                says: "Nothing fits this filter.",
                then: "Take a term out, or look further back.",
                command: "",
            }
        },
        filter,
    }
}

/// Where one thing is done to all that fit; none where nothing narrows them, or nothing can be done.
fn bulk_href(visit: &Visit, list: Listing, filter: &str) -> Option<String> {
    let is_offered = !filter.trim().is_empty() && !bulks::actions(visit, list).is_empty();
    is_offered.then(|| address("/make/bulk", &[("of", list.as_str()), ("filter", filter)]))
}

/// What the page of a list says.
struct Texts {
    title: &'static str,
    about: &'static str,
    examples: &'static [&'static str],
    empty: Empty,
}

fn texts(list: Listing) -> Texts {
    let none_yet = |says| Empty {
        says,
        then: "Nothing has come in yet. Paste a source's URL into its provider, or send a signed event yourself:",
        command: "tollgate send --url http://HOST/in/TENANT/SOURCE --secret-file FILE --sample voucherify-rewarded",
    };
    match list {
        Listing::Events => Texts {
            title: "Events",
            about: "Everything that was proved and kept, newest first.",
            examples: &["status:dead", "status:held", "since:24h", "code:5xx", "status:unrouted"],
            empty: none_yet("No events."),
        },
        Listing::Jobs => Texts {
            title: "Jobs",
            about: "An event on a route: what has to be worked off.",
            examples: &["status:waiting", "status:dead", "status:held", "attempts:>1"],
            empty: none_yet("No jobs."),
        },
        Listing::Runs => Texts {
            title: "Runs",
            about: "Executions of plugins, with what they used.",
            examples: &["outcome:trap", "outcome:out-of-fuel", "-outcome:completed", "since:1h"],
            empty: none_yet("No runs."),
        },
        Listing::Actions => Texts {
            title: "Actions",
            about: "The ledger: each business effect has one entry, whatever came twice.",
            examples: &["kind:credit", "status:conflict", "since:24h"],
            empty: none_yet("No actions."),
        },
        Listing::Deliveries => Texts {
            title: "Deliveries",
            about: "Actions on their way to destinations.",
            examples: &["status:waiting", "status:dead", "code:5xx,none", "attempts:>3"],
            empty: none_yet("No deliveries."),
        },
        Listing::Undelivered => Texts {
            title: "Undelivered",
            about: "For each event and destination: what is due there and has not arrived, and why.",
            examples: &["status:dead", "status:held", "status:waiting", "since:7d"],
            empty: Empty {
                says: "Nothing is missing anywhere.",
                then: "Whatever was due at a destination has arrived there.",
                command: "",
            },
        },
        Listing::Refused => Texts {
            title: "Refused",
            about: "Requests that were not taken, the newest of each source, kept in memory alone.",
            examples: &["cause:no-match", "code:401", "since:1h"],
            empty: Empty {
                says: "Nothing was refused.",
                then: "Every request since this host started was taken. What is refused from now on is shown here, with the reason:",
                command: "tollgate refused",
            },
        },
    }
}

/// What rows need to be shown.
struct Shown {
    now: UnixMillis,
    /// Whether tenants are told apart.
    of_all: bool,
    may_resend: bool,
}

impl Shown {
    fn to(console: &Console, visit: &Visit) -> Self {
        Self {
            now: (console.host.now)(),
            of_all: visit.visitor.who.tenant.is_none(),
            may_resend: may(visit, Permission::DeliveryResend),
        }
    }

    /// When the event came, and its page.
    fn when(&self, at: &str) -> Cell {
        Part::at(at, self.now).class("time").into()
    }

    fn event(&self, event: &OfEvent) -> Cell {
        let name = Part::told(&event.event_type).to(event_page(event.receipt));
        Cell::from(name).below(Part::told(&event.event_id).class("code"))
    }

    fn place(&self, event: &OfEvent) -> Cell {
        let source = Part::said(event.source.to_string());
        let cell = Cell::from(source);
        if self.of_all {
            cell.below(Part::said(event.tenant.to_string()))
        } else {
            cell
        }
    }
}

/// A row of a list.
trait Row: Listed {
    const COLUMNS: &'static [(&'static str, &'static str)];

    fn cells(&self, shown: &Shown) -> Vec<Cell>;
}

const TIME: (&str, &str) = ("Time", "time");
const EVENT: (&str, &str) = ("Event", "main");
const PLACE: (&str, &str) = ("Source", "");

impl Row for EventRow {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        TIME,
        EVENT,
        PLACE,
        ("Subject", "wide"),
        ("Amount", "number"),
        ("Size", "number"),
        ("State", ""),
    ];

    fn cells(&self, shown: &Shown) -> Vec<Cell> {
        let subject = self
            .event
            .subject
            .as_deref()
            .map(|subject| Part::told(subject).class("code"));
        let subject = Cell::maybe(subject);
        let subject = match (&self.family, &self.lifecycle) {
            (Some(_), Some(status)) => subject.below(Part::told(status)),
            _ => subject,
        };
        let mut became: Vec<_> = match &self.disposition {
            Disposition::Accepted => Vec::new(),
            Disposition::Superseded { .. } => vec![Part::state("superseded")],
            Disposition::Held { .. } => vec![Part::state("held")],
        };
        for (word, count) in &self.work {
            let many = if *count > 1 {
                format!("{} {word}", number(*count))
            } else {
                word.clone()
            };
            became.push(Part::told(&many).marked(word));
        }
        if became.is_empty() {
            became.push(Part::state("unrouted"));
        }
        vec![
            shown.when(&self.event.received_at),
            shown.event(&self.event),
            shown.place(&self.event),
            subject,
            Cell::maybe(self.amount.as_deref().map(Part::told)),
            Part::said(size(self.body_bytes)).class("dim").into(),
            Cell::of(became),
        ]
    }
}

impl Row for JobRow {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        TIME,
        EVENT,
        PLACE,
        ("Job", ""),
        ("Route", ""),
        ("Tries", "number"),
        ("Status", ""),
        ("Reason", "wide"),
    ];

    fn cells(&self, shown: &Shown) -> Vec<Cell> {
        vec![
            shown.when(&self.event.received_at),
            shown.event(&self.event),
            shown.place(&self.event),
            Part::said(self.job.to_string()).class("code").into(),
            Part::said(self.route.to_string()).into(),
            Part::said(number(self.attempts)).into(),
            Part::state(&self.status).into(),
            Cell::maybe(self.reason.as_deref().map(|reason| Part::told(reason).class("dim"))),
        ]
    }
}

impl Row for RunRow {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("Began", "time"),
        EVENT,
        PLACE,
        ("Plugin", ""),
        ("Outcome", "wide"),
        ("Took", "number"),
        ("Fuel", "number"),
    ];

    fn cells(&self, shown: &Shown) -> Vec<Cell> {
        let outcome = Cell::from(Part::state(&self.outcome));
        vec![
            shown.when(&self.started_at),
            shown.event(&self.event),
            shown.place(&self.event),
            Cell::from(Part::said(self.plugin.to_string()))
                .below(Part::said(format!("{} on {}", self.run, self.route))),
            match self.message.as_str() {
                "" => outcome,
                message => outcome.below(Part::told(message)),
            },
            Part::said(took(self.duration_us)).into(),
            Part::said(number(self.fuel)).into(),
        ]
    }
}

impl Row for ActionRow {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("Recorded", "time"),
        ("Action", "main"),
        ("Operation", "wide"),
        ("Event", ""),
        PLACE,
        ("Status", ""),
    ];

    fn cells(&self, shown: &Shown) -> Vec<Cell> {
        vec![
            shown.when(&self.recorded_at),
            Cell::from(Part::told(&self.summary).to(event_page(self.event.receipt)))
                .below(Part::said(format!("{} by {}", self.action, self.plugin))),
            Part::told(&format!("{}/{}", self.namespace, self.operation_key))
                .class("code")
                .into(),
            Cell::from(Part::told(&self.event.event_type)).below(Part::told(&self.event.event_id).class("code")),
            shown.place(&self.event),
            Part::state(&self.status).into(),
        ]
    }
}

impl Row for DeliveryRow {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("Recorded", "time"),
        ("To", "main"),
        ("Action", "wide"),
        ("Event", ""),
        PLACE,
        ("Tries", "number"),
        ("Code", "number"),
        ("Status", ""),
        ("", "act"),
    ];

    fn cells(&self, shown: &Shown) -> Vec<Cell> {
        let entry = self.entry.to_string();
        let status = Cell::from(Part::state(&self.status));
        let act = (shown.may_resend && self.status == "delivered")
            .then(|| Part::said("Send again").to(address("/act/resend", &[("id", &entry)])));
        vec![
            shown.when(&self.recorded_at),
            Cell::from(Part::said(self.destination.to_string()).to(event_page(self.event.receipt)))
                .below(Part::said(entry).class("code")),
            Cell::from(Part::told(&self.kind)).below(Part::told(&self.operation_key).class("code")),
            Cell::from(Part::told(&self.event.event_type)).below(Part::told(&self.event.event_id).class("code")),
            shown.place(&self.event),
            Part::said(number(self.attempts)).into(),
            Cell::maybe(self.code.map(|code| Part::said(code.to_string()))),
            match &self.reason {
                Some(reason) => status.below(Part::told(reason)),
                None => status,
            },
            Cell::maybe(act),
        ]
    }
}

impl Row for UndeliveredRow {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("Since", "time"),
        EVENT,
        PLACE,
        ("To", ""),
        ("Routes", ""),
        ("Status", ""),
        ("Reason", "wide"),
    ];

    fn cells(&self, shown: &Shown) -> Vec<Cell> {
        let routes: Vec<_> = self.routes.iter().map(ToString::to_string).collect();
        vec![
            shown.when(&self.since),
            shown.event(&self.event),
            shown.place(&self.event),
            Part::said(self.destination.to_string()).into(),
            Part::told(&routes.join(", ")).into(),
            Part::state(&self.status).into(),
            Part::told(&self.reason).class("dim").into(),
        ]
    }
}

impl Row for RefusedRow {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("Time", "time"),
        ("Place", ""),
        ("Answer", "number"),
        ("Cause", ""),
        ("From", ""),
        ("Headers", "number"),
        ("Body", "number"),
        ("Reason", "wide"),
    ];

    fn cells(&self, shown: &Shown) -> Vec<Cell> {
        let place = match (&self.tenant, &self.source) {
            (Some(tenant), Some(source)) => format!("{tenant}/{source}"),
            _ => self.path.clone().unwrap_or_default(),
        };
        let bytes = self.body_bytes.map(|bytes| format!("{bytes} B"));
        vec![
            shown.when(&self.refused_at),
            Part::told(&place).into(),
            Part::said(self.code.to_string()).into(),
            Part::told(&self.cause).into(),
            Part::told(self.from.as_deref().unwrap_or("–")).into(),
            Part::said(self.header_count.to_string()).into(),
            Part::said(bytes.unwrap_or_else(|| "–".to_owned())).into(),
            Part::told(&self.reason).class("dim").into(),
        ]
    }
}
