//! `tollgate status`: how a running host is doing, on one screen.

use anstyle::Style;
use tollgate_api::counts::in_words;
use tollgate_api::lately::{Lately, Took};
use tollgate_api::status::HostStatus;
use tollgate_api::{Nothing, calls, question};
use tollgate_core::mask;

use super::show::{BAD, BOLD, DIM, GOOD, WARN};
use super::{Exit, Target, Usage, ask, print_json, wire};

/// Yes while every part of the host works.
pub(super) fn run(target: &Target) -> anyhow::Result<Exit> {
    if target.spin.is_some() {
        return Err(Usage(
            "a Spin app has no status of its own: ask its /healthz, and its calls one by one".to_owned(),
        )
        .into());
    }
    let (base, token) = ask::host(target)?;
    let question = question::<calls::Status>(&Nothing {}, &Nothing {})?;
    let asked = wire::Operated { base, token: &token };
    let status: HostStatus = ask::runtime()?.block_on(asked.ask(&question))?;
    if target.json {
        print_json(&status)?;
    } else {
        show(&status);
    }
    Ok(if status.ready { Exit::Yes } else { Exit::No })
}

/// The last hour, a line a step, the newest last.
pub(super) fn lately(target: &Target) -> anyhow::Result<Exit> {
    let (base, token) = ask::host(target)?;
    let question = question::<calls::Lately>(&Nothing {}, &Nothing {})?;
    let asked = wire::Operated { base, token: &token };
    let lately: Lately = ask::runtime()?.block_on(asked.ask(&question))?;
    if target.json {
        print_json(&lately)?;
        return Ok(Exit::Yes);
    }
    if lately.steps.is_empty() {
        anstream::println!("nothing yet: a step has {} s", lately.step_s);
        return Ok(Exit::Yes);
    }
    anstream::println!(
        "{DIM}until                       kept   again refused    jobs deliveries  commit p95     run p95{DIM:#}"
    );
    let count = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
    let p95 = |took: &Took| {
        took.p95_us
            .map_or_else(|| "-".to_owned(), |us| format!("{:.1} ms", us as f64 / 1e3))
    };
    for step in &lately.steps {
        anstream::println!(
            "{}  {:>6}  {:>6}  {:>6}  {:>6}     {:>6}  {:>10}  {:>10}",
            step.at,
            step.kept,
            step.again,
            step.refused,
            count(step.jobs_waiting),
            count(step.deliveries_waiting),
            p95(&step.admit),
            p95(&step.run),
        );
    }
    Ok(Exit::Yes)
}

fn show(status: &HostStatus) {
    let (style, word) = if status.ready {
        (GOOD, "ready")
    } else {
        (BAD, "not ready")
    };
    let up_s = u64::try_from(status.at.since(status.started_at) / 1000).unwrap_or(0);
    anstream::println!(
        "{BOLD}tollgate {}{BOLD:#}  {style}{word}{style:#}  {DIM}up for {}{DIM:#}",
        mask::shown(&status.version),
        span(up_s)
    );
    for part in status.parts.iter().filter(|part| !part.works) {
        line(BAD, &part.name, &mask::line(&part.says, 300));
    }
    let store = &status.store;
    let disk = match (store.disk_free_bytes, store.disk_bytes) {
        (Some(free), Some(all)) => format!(", {} of {} left on its disk", size(free), size(all)),
        _ => String::new(),
    };
    line(DIM, "store", &format!("{}{disk}", mask::shown(&store.kind)));
    let configured = status.configured;
    line(
        DIM,
        "serves",
        &[
            counted(configured.tenants, "tenant"),
            counted(configured.sources, "source"),
            counted(configured.routes, "route"),
            counted(configured.destinations, "destination"),
        ]
        .join(", "),
    );
    if let Some(counts) = &status.counts {
        let again = counts.redeliveries + counts.conflicts + counts.suspected_replays;
        line(DIM, "events", &format!("{} kept, {again} came again", counts.receipts));
        let done = |count: u64| match counts.bounded {
            true => format!("at most {count} done"),
            false => format!("{count} done"),
        };
        let jobs = format!(
            "{}, {}",
            done(counts.jobs_done),
            waiting(counts.jobs_waiting, status.oldest_job_s)
        );
        line(DIM, "jobs", &jobs);
        let deliveries = waiting(counts.outbox_waiting, status.oldest_delivery_s);
        line(DIM, "deliveries", &format!("{}, {deliveries}", done(counts.delivered)));
    }
    if status.attention.is_empty() {
        anstream::println!("nothing needs a person");
        return;
    }
    anstream::println!(
        "{WARN}needs a person{WARN:#}  {DIM}what to do is in docs/operate.md, section by section{DIM:#}"
    );
    for one in &status.attention {
        anstream::println!(
            "{BOLD}{:>7}{BOLD:#}  {}\n         {DIM}{}; begin with{DIM:#} {}",
            one.count,
            mask::line(&one.says, 300),
            mask::shown(&one.section),
            mask::line(&one.first, 120),
        );
    }
}

fn line(style: Style, name: &str, says: &str) {
    anstream::println!("  {style}{name:10}{style:#} {says}");
}

fn counted(count: usize, thing: &str) -> String {
    super::show::counted(count as u64, thing)
}

fn waiting(count: u64, oldest_s: Option<u64>) -> String {
    let said = in_words(count);
    match oldest_s {
        Some(age_s) if count > 0 => format!("{said} waiting, the oldest for {}", span(age_s)),
        _ => format!("{said} waiting"),
    }
}

/// A length of time as a person says it.
fn span(s: u64) -> String {
    match s {
        0..120 => format!("{s} s"),
        120..7_200 => format!("{} min", s / 60),
        7_200..172_800 => format!("{} h", s / 3_600),
        _ => format!("{} days", s / 86_400),
    }
}

fn size(bytes: u64) -> String {
    const GIB: f64 = (1_u64 << 30) as f64;
    format!("{:.1} GiB", bytes as f64 / GIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o7_ages_are_said_as_people_say_them() {
        for (s, said) in [
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7_199, "119 min"),
            (7_200, "2 h"),
            (172_800, "2 days"),
        ] {
            assert_eq!(span(s), said);
        }
    }
}
