//! The points campaign: a host under load dies at each named point between the steps of an event, again and again, and is started
//! on the same store; at the end everything that it ever acknowledged is looked for, as in the kill campaign.
//!
//! The points are those of `host/server/src/failpoints.rs`, which only a build with debug assertions has. The host lists them itself
//! and must die by SIGKILL at the one that it is told, so that a point that is gone or never passed is a problem and not a silence.

use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use super::kill::{self, Books, Options, Report};
use super::{Asked, Campaign, Found, Progress};
use crate::destination::{Destination, Reply};
use crate::random::Random;
use crate::stage::Stage;

/// The campaign as the command line offers it.
pub const CAMPAIGN: Campaign = Campaign {
    name: "points",
    summary: "death at every named point between claim, run, settle, deliver and mark, under load",
    unit: "crashes a point",
    short: 3,
    full: 50,
    run,
};

/// Every point that the host is expected to have.
pub const POINTS: [&str; 12] = [
    "before-admit",
    "after-admit",
    "after-claim",
    "before-run",
    "after-run",
    "before-settle",
    "after-settle",
    "after-outbox-claim",
    "before-deliver",
    "after-deliver",
    "before-mark",
    "after-mark",
];

/// What stands in each delivery to the destination that asks for order.
const ORDERED: &str = "\"type\":\"action.flag\"";
/// The host dies when it passes its point for the n-th time, and n is at most this.
const PASSING_MAX: u64 = 12;
/// Under load, any point is passed so often within far less.
const DEATH_PATIENCE: Duration = Duration::from_secs(30);
const SIGKILL: i32 = 9;

/// What happened to the hosts of a campaign.
#[derive(Debug, Default)]
struct Deaths {
    /// At each of [`POINTS`].
    at: [u64; POINTS.len()],
    /// Of those, before the host was up: of work that the one before had left.
    before_up: u64,
    /// By a kill at a random moment in between, at no point.
    in_between: u64,
    unanswered: usize,
}

fn run(asked: Asked, progress: &mut Progress) -> Found {
    let mut random = Random(asked.seed);
    let mut books = Books::default();
    let mut report = Report::default();
    let mut deaths = Deaths::default();
    let destination = Destination::start();
    let mut stage = kill::setup(&destination).set();
    let options = Options::new(0, asked.seed);
    if let Some(problem) = lacks_points(&mut stage) {
        return Found {
            problems: vec![problem],
            ..Found::default()
        };
    }
    // The first start compiles the plugins and makes the store.
    stage.drop_wrapper();
    stage.start();
    stage.stop();
    let crashes = asked.count * POINTS.len() as u64;
    for crash in 0..crashes {
        // Each round visits every point, each time from another one on, so that each meets what any other leaves behind.
        let round = crash / POINTS.len() as u64;
        let point = ((crash + round * 5) % POINTS.len() as u64) as usize;
        // A destination that fails now and then, so that retries are under way when the host dies.
        destination.script((0..random.below(3)).map(|_| Reply::Status(503)));
        // And one that takes nothing of what is ordered for a whole life: several of one subject wait then, and would come as they please.
        if random.below(2) == 0 {
            destination.answer_apart(ORDERED, Reply::Status(503));
        } else {
            destination.answer_alike();
        }
        die_at(
            point,
            &mut stage,
            options,
            &mut random,
            &mut books,
            &mut deaths,
            &mut report.problems,
        );
        if random.below(6) == 0 {
            live_without_point(&mut stage, options, &mut random, &mut books, &mut report.problems);
            deaths.in_between += 1;
        }
        progress.step(crash + 1, crashes, POINTS[point]);
    }
    stage.drop_wrapper();
    destination.answer_alike();
    kill::finish(&mut stage, &destination, &mut books, &mut report);
    found(deaths, report)
}

/// Starts the host with a point to die at, under load, and waits until it is dead.
fn die_at(
    point: usize,
    stage: &mut Stage,
    options: Options,
    random: &mut Random,
    books: &mut Books,
    deaths: &mut Deaths,
    problems: &mut Vec<String>,
) {
    let told = format!("{}:{}", POINTS[point], 1 + random.below(PASSING_MAX));
    stage.wrap(&["env", &format!("TOLLGATE_DIE_AT={told}")]);
    let death = match stage.try_start() {
        Ok(_) => {
            let load = kill::load(stage, options, random, books, problems, |stage, _| {
                let death = stage.death(DEATH_PATIENCE);
                stage.kill();
                death
            });
            deaths.unanswered += load.unanswered;
            load.end
        }
        // It may die of what was left to do, before it says that it is up.
        Err(_) => {
            deaths.before_up += 1;
            stage.death(Duration::ZERO)
        }
    };
    match death.map(|status| status.signal()) {
        Some(Some(SIGKILL)) => deaths.at[point] += 1,
        Some(_) => problems.push(format!(
            "{told}: the host did not die there but by itself: {:?}\n{}",
            death,
            stage.log().join("\n")
        )),
        None => problems.push(format!(
            "{told}: the host was still alive after {DEATH_PATIENCE:?} of load"
        )),
    }
}

/// One life without a point, which a kill ends somewhere.
fn live_without_point(
    stage: &mut Stage,
    options: Options,
    random: &mut Random,
    books: &mut Books,
    problems: &mut Vec<String>,
) {
    let live = Duration::from_millis(random.below(150));
    stage.drop_wrapper();
    stage.start();
    kill::load(stage, options, random, books, problems, |stage, _| {
        std::thread::sleep(live);
        stage.kill();
    });
}

/// What is wrong with the host's own list of points. It says it when it is told to die at one that there is not.
fn lacks_points(stage: &mut Stage) -> Option<String> {
    stage.wrap(&["env", "TOLLGATE_DIE_AT=nowhere"]);
    let said = match stage.try_start() {
        Ok(_) => {
            stage.kill();
            return Some("the host has no points: it is a build without debug assertions".to_owned());
        }
        Err(said) => said,
    };
    let listed = said.rsplit("one of ").next().unwrap_or_default();
    let names = listed
        .lines()
        .next()
        .unwrap_or_default()
        .trim_end_matches(|c: char| !c.is_alphanumeric());
    (!names.split(", ").eq(POINTS))
        .then(|| format!("the host's points are `{names}`, and those of this campaign {POINTS:?}; it said:\n{said}"))
}

fn found(deaths: Deaths, report: Report) -> Found {
    let mut found = Found::default();
    for (name, times) in POINTS.iter().zip(deaths.at) {
        found.fact(&format!("deaths {}", name.replacen('-', " ", 1)), times);
    }
    found.fact("of all those, before the host was up again", deaths.before_up);
    found.fact("kills in between, at no point", deaths.in_between);
    found.fact("events acknowledged", report.acknowledged);
    found.fact("receipts found", report.receipts);
    found.fact("posts cut off, sent again", deaths.unanswered);
    found.fact("runs of plugins", report.runs);
    found.fact("operations recorded, each once", report.operations);
    found.fact("operations that arrived at the destination", report.deliverable);
    found.fact(
        "deliveries beyond the first of an operation",
        report.repeated_deliveries,
    );
    report.pulled_and_budgeted(&mut found);
    found.problems = report.problems;
    found
}
