//! `tollgate source test` and `tollgate destination test`: whether what somebody set up works, tried on a running host.

use clap::Subcommand;
use tollgate_api::pauses::DestinationPath;
use tollgate_api::tryouts::{EdgeAnswer, SourcePath, TestDelivery, TestDeliveryBody, TestEvent, TestEventBody};
use tollgate_api::{Nothing, calls};
use tollgate_core::delivery::AttemptEnd;
use tollgate_core::mask;

use super::registry::{asked_at, named};
use super::settings::Of;
use super::show::{BAD, BOLD, DIM, GOOD, WARN};
use super::{Exit, ask, print_json};

/// What is done with a source of a running host.
#[derive(Subcommand)]
pub(super) enum SourceCommand {
    /// Send a source an event that the host signs with the source's own secret, and show what became of it
    #[command(
        after_help = "The event goes through the edge as the provider's do, and has a receipt like theirs. Its id begins with tollgate-test- (or is a UUID, where \
                      the provider's are), its attribute tollgate_test is true, and its type is tollgate.test unless --type says otherwise: only routes \
                      that ask for no types take that. Routes that take it do what they do with any event.\n\n\
                      Providers that sign with a private key cannot be played: nobody but them has it.\n\n\
                      Exit status: 0 the event was kept, 1 it was refused, or cannot be made."
    )]
    Test {
        #[command(flatten)]
        of: Of,
        /// The source
        source: String,
        /// The event's type, for example one that a route takes
        #[arg(long = "type", value_name = "TYPE")]
        event_type: Option<String>,
        /// Show the event and the routes that would take it, and send nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// What is done with a destination of a running host.
#[derive(Subcommand)]
pub(super) enum DestinationCommand {
    /// Send a destination one signed request that is marked as a test, and show what it answers
    #[command(
        after_help = "It is sent as every delivery is: to the same addresses, with the same signature and headers, and with tollgate-test: true beside them. \
                      Nothing of it is kept, and it is not tried again.\n\n\
                      Exit status: 0 the destination took it, 1 it did not."
    )]
    Test {
        #[command(flatten)]
        of: Of,
        /// The destination
        destination: String,
        /// Show what would be sent, and send nothing
        #[arg(long)]
        dry_run: bool,
    },
}

pub(super) fn source(command: SourceCommand) -> anyhow::Result<Exit> {
    let SourceCommand::Test {
        of,
        source,
        event_type,
        dry_run,
    } = command;
    let path = SourcePath {
        tenant: of.path()?.tenant,
        source: named("source", &source)?,
    };
    let body = TestEventBody {
        event_type,
        dry_run,
        actor: ask::actor(),
    };
    let event = asked_at::<calls::TestSource>(ask::host(&of.target)?, &path, &Nothing {}, &body)?;
    let is_kept = |answer: &EdgeAnswer| answer.receipt.is_some();
    let exit = match &event.answer {
        Some(answer) if !is_kept(answer) => Exit::No,
        Some(_) | None => Exit::Yes,
    };
    if of.target.json {
        print_json(&event)?;
    } else {
        show_event(&event);
    }
    Ok(exit)
}

fn show_event(event: &TestEvent) {
    let line = |text: &str| mask::line(text, 500);
    anstream::println!(
        "{BOLD}{}{BOLD:#}  {}  {DIM}signed with {}{DIM:#}",
        line(&event.event_id),
        line(&event.event_type),
        event.signed_with
    );
    match &event.answer {
        None => {
            anstream::println!("  nothing was sent; its body would be");
            for line in event.body.lines() {
                anstream::println!("  {DIM}{}{DIM:#}", mask::line(line, 2000));
            }
        }
        Some(answer) => {
            let (style, kept) = match answer.receipt {
                Some(_) => (GOOD, "kept"),
                None => (BAD, "not kept"),
            };
            anstream::println!(
                "  {style}{kept}{style:#}  the edge answered {} in {:.1} ms  {DIM}{}{DIM:#}",
                answer.http_status,
                answer.duration_us as f64 / 1e3,
                line(&answer.says)
            );
            if let Some(receipt) = &answer.receipt {
                anstream::println!("  what becomes of it:  tollgate trace {receipt}");
            }
        }
    }
    if event.routes.is_empty() {
        anstream::println!("  {DIM}no route takes it{DIM:#}");
    } else {
        let routes: Vec<_> = event.routes.iter().map(ToString::to_string).collect();
        anstream::println!("  routes that take it: {}", routes.join(", "));
    }
    for passed in &event.passes_over {
        anstream::println!("  {WARN}not tried{WARN:#}  {}", line(passed));
    }
}

pub(super) fn destination(command: DestinationCommand) -> anyhow::Result<Exit> {
    let DestinationCommand::Test {
        of,
        destination,
        dry_run,
    } = command;
    let path = DestinationPath {
        tenant: of.path()?.tenant,
        destination: named("destination", &destination)?,
    };
    let body = TestDeliveryBody {
        dry_run,
        actor: ask::actor(),
    };
    let delivery = asked_at::<calls::TestDestination>(ask::host(&of.target)?, &path, &Nothing {}, &body)?;
    if of.target.json {
        print_json(&delivery)?;
    } else {
        show_delivery(&delivery);
    }
    Ok(match delivery.delivered {
        Some(false) => Exit::No,
        Some(true) | None => Exit::Yes,
    })
}

fn show_delivery(delivery: &TestDelivery) {
    let line = |text: &str| mask::line(text, 1000);
    anstream::println!(
        "{BOLD}{}{BOLD:#}  to {}",
        line(&delivery.message_id),
        line(&delivery.url)
    );
    let Some(end) = &delivery.end else {
        anstream::println!(
            "  nothing was sent; its headers would be {}, its body",
            delivery.headers.join(", ")
        );
        anstream::println!("  {DIM}{}{DIM:#}", line(&delivery.body));
        return;
    };
    let (style, says) = match (delivery.delivered, end) {
        (Some(true), _) => (GOOD, "delivered"),
        (_, AttemptEnd::Forbidden { .. }) => (BAD, "not sent"),
        _ => (BAD, "not delivered"),
    };
    let how = match end {
        AttemptEnd::Answered { http_status, .. } => format!("answered {http_status}"),
        AttemptEnd::Failed { reason } | AttemptEnd::Forbidden { reason } | AttemptEnd::GivenBack { reason, .. } => {
            line(reason)
        }
        AttemptEnd::Confirmed => "confirmed".to_owned(),
        AttemptEnd::Mailed { smtp_status, .. } => format!("answered {smtp_status}"),
    };
    anstream::println!(
        "  {style}{says}{style:#}  {how} after {:.1} ms",
        delivery.duration_us as f64 / 1e3
    );
    if !delivery.answer.is_empty() {
        anstream::println!("  {DIM}{}{DIM:#}", line(&delivery.answer));
    }
}
