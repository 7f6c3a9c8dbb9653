//! Prints answers for people.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Effects, Style};
use tollgate_api::resend::ResendReport;
use tollgate_api::tokens::TokenView;
use tollgate_core::action::Verdict;
use tollgate_core::admission::Disposition;
use tollgate_core::delivery::AttemptEnd;
use tollgate_core::mask;
use tollgate_core::review::Reviewed;
use tollgate_store::{
    ActionView, AttemptView, DeadLetter, DeadWork, DeliveryView, JobView, OutboxView, ReceiptView, Redelivered,
    ReplayReport, ReplayedWork, ReviewReport, RunView, Sent, SetAside, SetAsideCount, Trace,
};

pub(super) const GOOD: Style = AnsiColor::Green.on_default().effects(Effects::BOLD);
pub(super) const BAD: Style = AnsiColor::Red.on_default().effects(Effects::BOLD);
pub(super) const WARN: Style = AnsiColor::Yellow.on_default().effects(Effects::BOLD);
pub(super) const BOLD: Style = Style::new().effects(Effects::BOLD);
pub(super) const DIM: Style = Style::new().effects(Effects::DIMMED);

/// A word in the colour of what it means.
pub(super) fn state(word: &str) -> String {
    let style = match word {
        "accepted" | "done" | "delivered" | "recorded" | "completed" => GOOD,
        "dead" | "conflict" | "suspected-replay" => BAD,
        "held" | "superseded" | "dismissed" | "same" | "already done" | "ready" | "leased" | "blocked" | "waiting"
        | "refused" => WARN,
        _ => Style::new(),
    };
    format!("{style}{word}{style:#}")
}

fn disposition(receipt: &ReceiptView) -> String {
    match &receipt.disposition {
        Disposition::Accepted => state("accepted"),
        Disposition::Superseded { current } => format!("{} (the subject is already {current})", state("superseded")),
        Disposition::Held { reason } => format!("{} ({})", state("held"), mask::line(&reason.to_string(), 300)),
    }
}

/// One line a receipt.
pub(super) fn receipts(traces: &[Trace]) {
    for Trace {
        receipt,
        redelivered,
        jobs,
        ..
    } in traces
    {
        let count = |of: fn(&Redelivered) -> u64| redelivered.as_ref().map_or(0, of);
        let again = match count(|again| again.same) {
            0 => String::new(),
            1 => format!("  {DIM}+1 delivery{DIM:#}"),
            count => format!("  {DIM}+{count} deliveries{DIM:#}"),
        };
        let conflicts = match count(|again| again.conflicts) {
            0 => String::new(),
            1 => format!("  {BAD}1 conflict{BAD:#}"),
            count => format!("  {BAD}{count} conflicts{BAD:#}"),
        };
        let suspected = match count(|again| again.suspected_replays) {
            0 => String::new(),
            1 => format!("  {BAD}1 suspected replay{BAD:#}"),
            count => format!("  {BAD}{count} suspected replays{BAD:#}"),
        };
        let finished = jobs.iter().filter(|job| job.state == "done").count();
        anstream::println!(
            "{}  {}  {BOLD}{}{BOLD:#}  {}/{}  {}  {DIM}{finished}/{} jobs done{DIM:#}{again}{conflicts}{suspected}",
            receipt.received_at,
            receipt.id,
            mask::shown(receipt.event_type.as_str()),
            receipt.tenant,
            receipt.source,
            disposition(receipt),
            jobs.len(),
        );
    }
}

/// Everything that became of one receipt, as a tree.
pub(super) fn trace(trace: &Trace) {
    let receipt = &trace.receipt;
    anstream::println!(
        "{BOLD}{}{BOLD:#}  {}  {}",
        mask::shown(receipt.event_type.as_str()),
        receipt.id,
        disposition(receipt)
    );
    let field = |name: &str, value: &str| anstream::println!("  {DIM}{name:9}{DIM:#} {value}");
    field(
        "event",
        &format!(
            "{} from {}/{}",
            mask::shown(receipt.event_id.as_str()),
            receipt.tenant,
            receipt.source
        ),
    );
    if let Some(subject) = &receipt.subject {
        let status = match (&receipt.family, &receipt.status) {
            (Some(family), Some(status)) => {
                format!(
                    "  ({family}: {status}, lifecycle v{})",
                    receipt.lifecycle_version.unwrap_or(0)
                )
            }
            _ => String::new(),
        };
        field("subject", &format!("{}{status}", mask::shown(subject.as_str())));
    }
    if let Some(amount) = &receipt.amount {
        field("amount", amount);
    }
    if let Some(occurred_at) = &receipt.occurred_at {
        field("occurred", occurred_at);
    }
    if receipt.host_test {
        field("a test", "the host made it itself, for somebody who tried the source");
    }
    if let Some(notes) = &receipt.reading_notes {
        field("notes", notes);
    }
    for (name, value) in &receipt.kept_headers {
        field("header", &format!("{name}: {}", mask::line(value, 200)));
    }
    let proof = &receipt.proof;
    field(
        "received",
        &format!("{}, {} bytes", receipt.received_at, receipt.body_bytes),
    );
    field(
        "proved by",
        &format!("{} scheme {}, key {}", proof.provider, proof.scheme, proof.key_id),
    );
    if let Some(review) = &trace.review {
        let why = review.why.as_deref().unwrap_or_default();
        field(
            "reviewed",
            &format!(
                "{} by {}  {}",
                reviewed(&review.reviewed),
                mask::shown(&review.actor),
                mask::line(why, 200)
            ),
        );
    }
    for delivery in &trace.deliveries {
        field("again", &again(delivery));
    }
    if let Some(all) = &trace.redelivered {
        let shown: u64 = trace.deliveries.iter().map(|delivery| delivery.times).sum();
        let more = (all.same + all.conflicts + all.suspected_replays).saturating_sub(shown);
        if more > 0 {
            field("again", &format!("{more} more times, the last {}", all.last_at));
        }
    }
    for entry in &trace.history {
        field(
            "history",
            &format!("{}  {}: {}", entry.at, entry.what, mask::line(&entry.detail, 300)),
        );
    }
    if trace.jobs.is_empty() {
        anstream::println!("  {DIM}no jobs{DIM:#}");
    }
    for (at, job) in trace.jobs.iter().enumerate() {
        print_job(job, at + 1 == trace.jobs.len());
    }
    anstream::println!();
}

/// One further delivery.
fn again(delivery: &DeliveryView) -> String {
    let mut line = format!(
        "{}  delivery {}: {}",
        delivery.received_at,
        delivery.number,
        state(&delivery.decision)
    );
    if delivery.decision != "same" {
        let _ = write!(line, "  {}", delivery.id);
        if let (2.., Some(last)) = (delivery.times, &delivery.last_at) {
            let _ = write!(line, ", {} times, the last {last}", delivery.times);
        }
        match &delivery.review {
            Some(review) => {
                let _ = write!(
                    line,
                    "  {} by {}",
                    reviewed(&review.reviewed),
                    mask::line(&review.actor, 100)
                );
            }
            None => {
                let _ = write!(line, "  {WARN}waits for review{WARN:#}");
            }
        }
    }
    line
}

pub(super) fn reviewed(reviewed: &Reviewed) -> String {
    match reviewed {
        Reviewed::Accepted { status } => format!("{}, mapped to {status}", state("accepted")),
        Reviewed::Superseded { status, current } => format!(
            "{}, mapped to {status} (the subject is already {current})",
            state("superseded")
        ),
        Reviewed::Dismissed => state("dismissed"),
        Reviewed::RunAgain => "run again".to_owned(),
        Reviewed::RunBeyondBudget => "run again beyond its budgets".to_owned(),
        Reviewed::Replaced {
            delivery,
            own_receipt,
            disposition,
        } => format!("replaced with {delivery}: {own_receipt}, {}", standing(disposition)),
        Reviewed::Admitted {
            own_receipt,
            disposition,
        } => format!("an event of its own: {own_receipt}, {}", standing(disposition)),
        Reviewed::Kept { action } => format!("without effect: {action} stands"),
        Reviewed::Recorded { operation_key, action } => {
            let number = action.map(|action| format!(" as {action}")).unwrap_or_default();
            format!(
                "{} under {}{number}",
                state("recorded"),
                mask::shown(operation_key.as_str())
            )
        }
    }
}

fn standing(disposition: &Disposition) -> String {
    match disposition {
        Disposition::Accepted => state("accepted"),
        Disposition::Superseded { current } => format!("{} (the subject is already {current})", state("superseded")),
        Disposition::Held { reason } => format!("{} ({})", state("held"), mask::line(reason, 200)),
    }
}

/// How much is set aside, by place and kind.
pub(super) fn held_counts(counts: &[SetAsideCount]) {
    for count in counts {
        let place = match (&count.route, &count.source) {
            (Some(route), _) => format!("route {route}"),
            (None, Some(source)) => format!("source {source}"),
            (None, None) => String::new(),
        };
        anstream::println!(
            "{BOLD}{:>7}{BOLD:#}  {:<16} {}, {place}  {DIM}the oldest since {}{DIM:#}",
            format!("{}{}", count.count, if count.at_least { "+" } else { "" }),
            count.kind.as_str(),
            count.tenant,
            count.oldest_at,
        );
    }
}

/// What is set aside, with what was decided about it.
pub(super) fn held(held: &[SetAside]) {
    for one in held {
        let place = match &one.route {
            Some(route) => format!("{}/{} on route {route}", one.tenant, one.source),
            None => format!("{}/{}", one.tenant, one.source),
        };
        let review = one
            .review
            .as_ref()
            .map(|review| {
                format!(
                    "\n  {DIM}reviewed{DIM:#} {} by {}",
                    reviewed(&review.reviewed),
                    mask::shown(&review.actor)
                )
            })
            .unwrap_or_default();
        anstream::println!(
            "{BOLD}{}{BOLD:#}  {}  {}  {place}\n  {DIM}event{DIM:#}    {} {}\n  {DIM}reason{DIM:#}   {}{review}",
            one.id,
            one.since,
            one.kind.as_str(),
            mask::shown(one.event_type.as_str()),
            mask::shown(one.event_id.as_str()),
            mask::line(&one.reason, 300),
        );
    }
}

/// A token, in a line.
pub(super) fn token(token: &TokenView) {
    let of = token.tenant.as_ref().map_or("the whole host", |tenant| tenant.as_str());
    let end = match (&token.revoked_at, &token.expires_at) {
        (Some(at), _) => format!(
            "  {BAD}revoked {at}{BAD:#} by {}{}",
            mask::line(token.revoked_by.as_deref().unwrap_or_default(), 100),
            because(token.revoked_why.as_deref().unwrap_or_default())
        ),
        (None, Some(at)) => format!("  until {at}"),
        (None, None) => String::new(),
    };
    anstream::println!(
        "{BOLD}{}{BOLD:#}  {:<13}  {of}  {}  {DIM}made {} by {}{}{DIM:#}{end}",
        token.id,
        token.role,
        mask::line(&token.name, 100),
        token.created_at,
        mask::line(&token.created_by, 100),
        because(&token.why),
    );
}

/// A reason behind what was done; nothing where nobody gave one.
pub(super) fn because(why: &str) -> String {
    if why.is_empty() {
        String::new()
    } else {
        format!(": {}", mask::line(why, 200))
    }
}

/// What a decision did, or would do.
pub(super) fn review(id: &str, report: &ReviewReport) {
    let would = if report.dry_run { "would be " } else { "" };
    anstream::println!("{id}  {would}{}", reviewed(&report.reviewed));
    for route in &report.routes {
        anstream::println!("  {DIM}job on route{DIM:#} {route}");
    }
    for destination in &report.destinations {
        anstream::println!("  {DIM}sent to{DIM:#} {destination}");
    }
    let is_accepted = match &report.reviewed {
        Reviewed::Accepted { .. } => true,
        Reviewed::Replaced { disposition, .. } | Reviewed::Admitted { disposition, .. } => {
            *disposition == Disposition::Accepted
        }
        Reviewed::Superseded { .. }
        | Reviewed::Dismissed
        | Reviewed::RunAgain
        | Reviewed::RunBeyondBudget
        | Reviewed::Kept { .. }
        | Reviewed::Recorded { .. } => false,
    };
    if is_accepted && report.routes.is_empty() {
        anstream::println!("  {WARN}no route takes it{WARN:#}: nothing is run");
    }
}

fn branch(last: bool) -> (&'static str, &'static str) {
    if last { ("└─", "  ") } else { ("├─", "│ ") }
}

fn print_job(job: &JobView, last: bool) {
    let (fork, stem) = branch(last);
    let replays = if job.replays > 0 {
        format!(", replayed {}×", job.replays)
    } else {
        String::new()
    };
    let due = job
        .due_at
        .as_ref()
        .map(|due| format!(", due {due}"))
        .unwrap_or_default();
    let reason = job
        .reason
        .as_ref()
        .map(|reason| format!("  {}", mask::line(reason, 160)))
        .unwrap_or_default();
    anstream::println!(
        "  {DIM}{fork}{DIM:#} {} route {BOLD}{}{BOLD:#}: {}{DIM}{replays}{due}{DIM:#}{reason}",
        job.id,
        job.route,
        state(&job.state)
    );
    for (at, run) in job.runs.iter().enumerate() {
        print_run(run, stem, at + 1 == job.runs.len());
    }
}

fn print_run(run: &RunView, stem: &str, last: bool) {
    let (fork, inner) = branch(last);
    let message = if run.message.is_empty() {
        String::new()
    } else {
        format!("  {}", mask::line(&run.message, 160))
    };
    let version = run
        .version
        .as_ref()
        .map(|version| format!("@{}", mask::line(version, 40)))
        .unwrap_or_default();
    anstream::println!(
        "  {DIM}{stem} {fork}{DIM:#} {} {}{version} {DIM}{}{DIM:#}: {}{message}  {DIM}{:.1} ms, {} fuel{DIM:#}",
        run.id,
        run.plugin,
        mask::identifier(&run.digest.to_string()),
        state(&run.outcome),
        run.duration_us as f64 / 1000.0,
        run.fuel,
    );
    for (at, action) in run.actions.iter().enumerate() {
        print_action(action, &format!("{stem}  {inner}"), at + 1 == run.actions.len());
    }
}

fn print_action(action: &ActionView, stem: &str, last: bool) {
    let (fork, inner) = branch(last);
    let review = match (&action.review, action.verdict) {
        (Some(review), _) => format!("  {} by {}", reviewed(&review.reviewed), mask::line(&review.actor, 100)),
        (None, Verdict::Conflict) => format!("  {WARN}waits for review{WARN:#}"),
        (None, Verdict::Recorded | Verdict::AlreadyDone) => String::new(),
    };
    anstream::println!(
        "  {DIM}{stem} {fork}{DIM:#} {} {BOLD}{}{BOLD:#}: {}  {DIM}{}{DIM:#}{review}",
        action.id,
        // Accounts and recipients are whatever the event said.
        mask::line(&action.summary, 300),
        state(verdict(action.verdict)),
        mask::shown(&format!("{}/{}", action.namespace, action.operation_key))
    );
    for (at, entry) in action.deliveries.iter().enumerate() {
        print_entry(entry, &format!("{stem}  {inner}"), at + 1 == action.deliveries.len());
    }
}

fn print_entry(entry: &OutboxView, stem: &str, last: bool) {
    let (fork, inner) = branch(last);
    let attempts: Vec<String> = entry.attempts.iter().map(attempted).collect();
    let attempts = if attempts.is_empty() {
        "not tried yet".to_owned()
    } else {
        attempts.join(", then ")
    };
    anstream::println!(
        "  {DIM}{stem} {fork}{DIM:#} {} to {}: {}  {DIM}{attempts}  {}{DIM:#}",
        entry.id,
        entry.destination,
        state(&entry.state),
        entry.message_id
    );
    // What the destination had to say, the last time that it said anything.
    let said = entry.attempts.iter().rfind(|attempt| !attempt.answer.is_empty());
    if let Some(said) = said {
        anstream::println!(
            "  {DIM}{stem} {inner} it answered: {}{DIM:#}",
            mask::line(&said.answer, 300)
        );
    }
}

fn attempted(attempt: &AttemptView) -> String {
    let ended = ended(&attempt.end);
    match &attempt.resend {
        Some(resend) => format!("{ended} (sent again by {})", mask::line(&resend.actor, 60)),
        None => ended,
    }
}

fn ended(end: &AttemptEnd) -> String {
    match end {
        AttemptEnd::Answered {
            http_status: status, ..
        }
        | AttemptEnd::Mailed {
            smtp_status: status, ..
        } => status.to_string(),
        AttemptEnd::Confirmed => "confirmed".to_owned(),
        AttemptEnd::GivenBack { reason, .. } if reason.is_empty() => "given back".to_owned(),
        AttemptEnd::GivenBack { reason, .. } => format!("given back: {}", mask::line(reason, 80)),
        AttemptEnd::Failed { reason } | AttemptEnd::Forbidden { reason } => mask::line(reason, 80),
    }
}

pub(super) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Recorded => "recorded",
        Verdict::AlreadyDone => "already done",
        Verdict::Conflict => "conflict",
    }
}

/// A number of things, as a person says it.
pub(super) fn counted(count: u64, thing: &str) -> String {
    match count {
        1 => format!("1 {thing}"),
        _ => format!("{count} {thing}s"),
    }
}

pub(super) fn dead_letters(letters: &[DeadLetter]) {
    for letter in letters {
        let replayed = letter
            .replayed_at
            .as_ref()
            .map(|at| format!("  {GOOD}replayed {at}{GOOD:#}"))
            .unwrap_or_default();
        anstream::println!(
            "{BOLD}{}{BOLD:#}  {}  {}/{}  {}{replayed}\n  {DIM}event{DIM:#}   {} {}\n  {DIM}reason{DIM:#}  {} {DIM}({}){DIM:#}",
            letter.id,
            letter.died_at,
            letter.tenant,
            letter.source,
            work(&letter.work),
            mask::shown(letter.event_type.as_str()),
            mask::shown(letter.event_id.as_str()),
            mask::line(&letter.reason, 300),
            counted(u64::from(letter.attempts), "attempt"),
        );
        if let Some(answer) = &letter.answer {
            anstream::println!("  {DIM}answer{DIM:#}  {}", mask::line(answer, 300));
        }
    }
}

fn work(work: &DeadWork) -> String {
    match work {
        DeadWork::Job { job, route } => format!("{job} on route {route}"),
        DeadWork::Delivery {
            entry,
            destination,
            operation_key,
            ..
        } => {
            format!("{entry} to {destination} ({})", mask::shown(operation_key.as_str()))
        }
    }
}

fn replayed(work: &ReplayedWork) -> String {
    match work {
        ReplayedWork::Job { job, route } => format!("{job} on route {route}"),
        ReplayedWork::NewJob { route } => format!("a new job on route {route}"),
        ReplayedWork::Delivery {
            entry,
            destination,
            operation_key,
            ..
        } => format!("{entry} to {destination} ({operation_key})"),
    }
}

pub(super) fn replay(report: &ReplayReport) {
    let what = if report.dry_run {
        "would be replayed"
    } else {
        "replayed"
    };
    for item in &report.replayed {
        anstream::println!(
            "{}  {} {} {DIM}{}{DIM:#}",
            replayed(&item.work),
            mask::shown(item.event_type.as_str()),
            mask::shown(item.event_id.as_str()),
            mask::line(&item.reason, 120)
        );
        for added in &item.adds {
            anstream::println!(
                "  {DIM}adds{DIM:#} {} ({}) to {}, where it never went",
                added.action,
                mask::shown(&added.operation_key),
                added.destination
            );
        }
    }
    match report.replayed.len() {
        0 => anstream::println!("nothing to replay"),
        1 => anstream::println!("1 {what}"),
        count => anstream::println!("{count} {what}"),
    }
    if let Some(next) = report.next {
        anstream::println!("looked at receipts up to {next}; there are more");
    }
}

pub(super) fn resend(report: &ResendReport) {
    let what = if report.dry_run {
        "would be sent again"
    } else {
        "sent again"
    };
    for sent in &report.resent {
        anstream::println!("{}", delivery(sent));
    }
    for passed_over in &report.passed_over {
        anstream::println!(
            "{}  {WARN}not sent{WARN:#}: {}",
            delivery(&passed_over.sent),
            mask::line(&passed_over.because, 200)
        );
    }
    match report.resent.len() {
        0 => anstream::println!("nothing to send again"),
        count => anstream::println!("{count} {what}"),
    }
    if let Some(next) = report.next {
        anstream::println!("looked at deliveries up to {next}; there are more: --after {next}");
    }
}

fn delivery(sent: &Sent) -> String {
    format!(
        "{} to {}  {DIM}{}/{}  {} {}{DIM:#}",
        sent.entry,
        sent.destination,
        sent.namespace,
        mask::shown(&sent.operation_key),
        mask::shown(&sent.event_type),
        mask::shown(&sent.event_id)
    )
}
