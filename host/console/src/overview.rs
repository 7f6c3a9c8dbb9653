//! The first page: how the host is doing, what needs a person, and what came in last. What `tollgate status` says, and for a tenant
//! what there is of theirs.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use tollgate_api::issues::IssuesQuery;
use tollgate_api::lists::CountQuery;
use tollgate_api::set_aside::HeldCountsQuery;
use tollgate_api::status::HostStatus;
use tollgate_api::{Nothing, calls};
use tollgate_core::access::Permission;
use tollgate_core::issue::IssueState;
use tollgate_core::limits::COUNTED_MAX;
use tollgate_core::mask;

use crate::asked::Trouble;
use crate::charts::{Chart, charts};
use crate::page::{Frame, may, show};
use crate::settings::{tenants, view};
use crate::table::{Table, address};
use crate::visit::{Visit, go};
use crate::words::{counted, number, size, span};
use crate::{Console, ROOT, lists};

/// Events of the first page.
const NEWEST: u64 = 10;
/// Issues of the first page.
const ISSUES_SHOWN: u64 = 5;

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    frame: Frame,
    /// Of the host; a tenant's reader is told nothing of it.
    host: Option<OfHost>,
    attention: Vec<Needs>,
    figures: Vec<Figure>,
    charts: Vec<Chart>,
    /// What to do first, in order, until events have come in and have somewhere to go.
    steps: Vec<Step>,
    newest: Table,
}

/// A step of whoever sets things up.
struct Step {
    says: &'static str,
    more: &'static str,
    /// Where it is done; empty where it is not done here.
    href: String,
    command: &'static str,
    is_done: bool,
    is_next: bool,
}

struct OfHost {
    ready: bool,
    says: String,
    /// Parts that do not work, each with what is wrong.
    broken: Vec<(String, String)>,
    facts: Vec<(&'static str, String)>,
}

/// Something that does not mend itself.
struct Needs {
    count: String,
    says: String,
    href: String,
    /// The command to begin with, where no page is of it.
    first: String,
}

struct Figure {
    name: &'static str,
    number: String,
    says: String,
    href: String,
    class: &'static str,
}

/// `GET /console`.
pub(crate) async fn overview(State(console): State<Arc<Console>>, visit: Visit) -> Result<Response, Trouble> {
    if !may(&visit, Permission::ReceiptRead) {
        // Whoever writes plugins, or sets things up, sees nothing of events.
        let first = if may(&visit, Permission::SettingsRead) {
            "sources"
        } else {
            "plugins"
        };
        return Ok(go(&format!("{ROOT}/{first}")));
    }
    let status = match console.read::<calls::Status>(&visit.visitor.token, &Nothing {}).await {
        Ok(status) => Some(status),
        Err(trouble) if trouble.is_denied() => None,
        Err(trouble) => return Err(trouble),
    };
    let newest = lists::newest(&console, &visit, NEWEST).await?;
    let steps = steps(&console, &visit, status.as_ref(), !newest.rows.is_empty()).await?;
    let page = match status {
        Some(status) => {
            let lately = console.read::<calls::Lately>(&visit.visitor.token, &Nothing {}).await?;
            Overview {
                charts: charts(&lately, (console.host.now)()),
                steps,
                ..of_host(&visit, &status, issues(&console, &visit).await?, newest)
            }
        }
        None => Overview {
            steps,
            ..of_tenant(&console, &visit, newest).await?
        },
    };
    Ok(show(&page))
}

/// What to do until events have come in and have somewhere to go; nothing for whoever sets nothing up, and when it is done.
async fn steps(
    console: &Console,
    visit: &Visit,
    status: Option<&HostStatus>,
    has_events: bool,
) -> Result<Vec<Step>, Trouble> {
    if !may(visit, Permission::SettingsWrite) {
        return Ok(Vec::new());
    }
    let tenants = tenants(console, visit).await?;
    let (has_source, has_route, has_destination) = match (status, tenants.as_slice()) {
        (Some(status), _) => {
            let configured = &status.configured;
            (
                configured.sources > 0,
                configured.routes > 0,
                configured.destinations > 0,
            )
        }
        (None, [tenant]) => {
            let found = view(console, visit, tenant).await?;
            (
                !found.sources.is_empty(),
                !found.routes.is_empty(),
                !found.destinations.is_empty(),
            )
        }
        (None, _) => return Ok(Vec::new()),
    };
    if has_events && has_route {
        return Ok(Vec::new());
    }
    // Of several tenants its page asks which is meant.
    let page = |form: &str, list: &str| match tenants.as_slice() {
        [] => String::new(),
        [only] => address(&format!("/set/{form}"), &[("tenant", only.as_str())]),
        _ => address(list, &[]),
    };
    let step = |says, more, href, is_done| Step {
        says,
        more,
        href,
        command: "",
        is_done,
        is_next: false,
    };
    let mut steps = Vec::new();
    if visit.visitor.who.tenant.is_none() {
        steps.push(Step {
            command: "touch tenants/acme.toml && kill -HUP $(pidof tollgate)",
            ..step(
                "A tenant",
                "Whoever owns sources, routes and destinations. Its name is a file beside tollgate.toml, which may be empty.",
                String::new(),
                !tenants.is_empty(),
            )
        });
    }
    steps.extend([
        step(
            "A source",
            "Where one provider sends its events: choose the provider, paste its secret, and take the URL to it.",
            page("source", "/sources"),
            has_source,
        ),
        step(
            "A destination",
            "Where what follows goes: an HTTPS endpoint of yours, a place to fetch from, or e-mail.",
            page("destination", "/destinations"),
            has_destination,
        ),
        step(
            "A route",
            "Which events go there, as they are or through a plugin.",
            page("route", "/routes"),
            has_route,
        ),
        step(
            "An event",
            "From the provider; or a test event, which the source's page sends.",
            if has_source {
                address("/sources", &[])
            } else {
                String::new()
            },
            has_events,
        ),
    ]);
    if let Some(next) = steps.iter_mut().find(|step| !step.is_done) {
        next.is_next = true;
    }
    Ok(steps)
}

/// Issues that are open, as what needs a person.
async fn issues(console: &Console, visit: &Visit) -> Result<Vec<Needs>, Trouble> {
    let open = IssuesQuery {
        state: Some(IssueState::Open.as_str().to_owned()),
        limit: Some(ISSUES_SHOWN),
        ..IssuesQuery::default()
    };
    let found = console.read::<calls::Issues>(&visit.visitor.token, &open).await?;
    let needs = found.into_iter().map(|issue| Needs {
        count: number(issue.count),
        says: mask::line(
            &format!("given up at {} ({}): {}", issue.place, issue.code, issue.first_action),
            300,
        ),
        href: address("/issues", &[]),
        first: String::new(),
    });
    Ok(needs.collect())
}

fn of_host(visit: &Visit, status: &HostStatus, mut attention: Vec<Needs>, newest: Table) -> Overview {
    let up_s = u64::try_from(status.at.since(status.started_at) / 1000).unwrap_or(0);
    let store = &status.store;
    let mut facts = vec![("Up for", span(up_s)), ("Store", store.kind.clone())];
    if let (Some(free), Some(all)) = (store.disk_free_bytes, store.disk_bytes) {
        facts.push(("Disk", format!("{} of {} left", size(free), size(all))));
    }
    let configured = status.configured;
    for (name, count) in [
        ("Tenants", configured.tenants),
        ("Sources", configured.sources),
        ("Routes", configured.routes),
        ("Destinations", configured.destinations),
    ] {
        facts.push((name, number(count as u64)));
    }
    let broken = status.parts.iter().filter(|part| !part.works);
    let host = OfHost {
        ready: status.ready,
        says: format!("Tollgate {}", status.version),
        broken: broken.map(|part| (part.name.clone(), part.says.clone())).collect(),
        facts,
    };
    attention.extend(status.attention.iter().map(|one| {
        let page = page_of(&one.section);
        Needs {
            count: number(one.count),
            says: one.says.clone(),
            // The command is for what no page shows.
            first: if page.is_some() {
                String::new()
            } else {
                one.first.clone()
            },
            href: page
                .map(|(path, filter)| address(path, &[("filter", filter)]))
                .unwrap_or_default(),
        }
    }));
    let mut figures = Vec::new();
    if let Some(counts) = &status.counts {
        let again = counts.redeliveries + counts.conflicts + counts.suspected_replays;
        let oldest = |age: Option<u64>, count: u64| match age {
            Some(age) if count > 0 => with_more(format!("the oldest for {}", span(age)), count >= COUNTED_MAX),
            _ => "none is late".to_owned(),
        };
        let at_most = |says: String| match counts.bounded {
            true => format!("at most; {says}"),
            false => says,
        };
        figures = vec![
            Figure::new(
                "Events kept",
                counts.receipts,
                format!("{} came again", number(again)),
                "/events",
                "",
            ),
            Figure::new(
                "Jobs waiting",
                counts.jobs_waiting,
                oldest(status.oldest_job_s, counts.jobs_waiting),
                "/jobs",
                "status:waiting",
            ),
            Figure::new(
                "Deliveries waiting",
                counts.outbox_waiting,
                oldest(status.oldest_delivery_s, counts.outbox_waiting),
                "/deliveries",
                "status:waiting",
            ),
            Figure::new(
                "Actions",
                counts.actions,
                at_most(format!("of {}", counted(counts.runs, "run"))),
                "/actions",
                "",
            ),
            Figure::new(
                "Delivered",
                counts.delivered,
                at_most("taken by their destination".to_owned()),
                "/deliveries",
                "status:delivered",
            ),
            Figure::new(
                "Dead letters",
                counts.dead_letters_open,
                with_more(
                    "given up, not replayed".to_owned(),
                    counts.dead_letters_open >= COUNTED_MAX,
                ),
                "/dead-letters",
                "",
            )
            .bad(),
        ];
    }
    Overview {
        frame: Frame::of(visit, "Overview"),
        host: Some(host),
        attention,
        figures,
        charts: Vec::new(),
        steps: Vec::new(),
        newest,
    }
}

/// What is said of a number, where it is only as far as a count goes.
fn with_more(says: String, is_more: bool) -> String {
    if is_more {
        format!("{says}; there may be more")
    } else {
        says
    }
}

/// Counts of a tenant's own, by the lists that they stand for.
async fn of_tenant(console: &Console, visit: &Visit, newest: Table) -> Result<Overview, Trouble> {
    let token = &visit.visitor.token;
    let count = async |of: &str, filter: &str| {
        let query = CountQuery {
            of: of.to_owned(),
            filter: Some(filter.to_owned()),
            after: None,
        };
        console.read::<calls::Count>(token, &query).await
    };
    let held = console
        .read::<calls::HeldCounts>(token, &HeldCountsQuery::default())
        .await?;
    let mut attention = Vec::new();
    let waiting = || held.iter().filter(|count| count.kind.waits());
    let waits = waiting().map(|count| count.count).sum();
    let is_more = waiting().any(|count| count.at_least);
    let mut figures = Vec::new();
    for (name, of, filter, says) in [
        ("Events today", "events", "since:24h", "in the last 24 hours"),
        ("Jobs waiting", "jobs", "status:waiting", "not finished yet"),
        ("Deliveries waiting", "deliveries", "status:waiting", "not taken yet"),
        ("Dead jobs", "jobs", "status:dead", "given up"),
        ("Dead deliveries", "deliveries", "status:dead", "given up"),
    ] {
        let count = count(of, filter).await?;
        let says = with_more(says.to_owned(), !count.complete);
        let figure = Figure::new(name, count.count, says, &format!("/{of}"), filter);
        figures.push(if filter == "status:dead" { figure.bad() } else { figure });
    }
    figures.push(Figure::new(
        "Held",
        waits,
        with_more("until somebody decides".to_owned(), is_more),
        "/held",
        "",
    ));
    if waits > 0 {
        attention.push(Needs {
            count: number(waits),
            says: "set aside until somebody decides".to_owned(),
            href: address("/held", &[]),
            first: String::new(),
        });
    }
    attention.extend(issues(console, visit).await?);
    Ok(Overview {
        frame: Frame::of(visit, "Overview"),
        host: None,
        attention,
        figures,
        charts: Vec::new(),
        steps: Vec::new(),
        newest,
    })
}

impl Figure {
    fn new(name: &'static str, count: u64, says: String, path: &str, filter: &str) -> Self {
        Self {
            name,
            number: number(count),
            says,
            href: address(path, &[("filter", filter)]),
            class: "",
        }
    }

    /// It is a bad sign, where it is not zero.
    fn bad(self) -> Self {
        let class = if self.number == "0" { "" } else { "bad" };
        Self { class, ..self }
    }
}

/// The page for what a section of docs/operate.md is about, and its filter.
fn page_of(section: &str) -> Option<(&'static str, &'static str)> {
    Some(match section {
        "TollgateDeadLetters" => ("/dead-letters", ""),
        "TollgateReviewWaits" => ("/held", ""),
        "TollgateSourceRefused" => ("/refused", ""),
        "Paused" => ("/pauses", ""),
        "TollgatePluginQuarantined" => ("/plugins", ""),
        "TollgateJobsLate" => ("/jobs", "status:waiting"),
        "TollgateDeliveriesLate" | "TollgateBreakerOpen" => ("/deliveries", "status:waiting"),
        _ => return None,
    })
}
