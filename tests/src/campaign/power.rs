//! The power campaign: the power goes at moments of a real host's life, and what a disk may hold then is opened and looked through.
//!
//! A *session* is a host under load on a disk that records itself (`tests/disk`). From its recording, for each *crash point*, several
//! *images* are made of what the disk may hold when the power goes there (`crate::disk::image` says what may be lost), each is
//! opened as a store, and everything that was promised up to that point is looked for. The next session starts on such
//! an image, so that the real host recovers from it, and the power goes again while it does.
//!
//! A loss that nobody could see would prove nothing. So the same is tried on a disk whose syncs do nothing, of all files or of
//! one: each of these `CONTROLS` must lose something.

use std::collections::BTreeSet;
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use super::postmortem::{Case, advance, keep, look_through, scratch};
use super::promises::{self, Books, Load, Promises, judge, judge_done, send};
use super::{Asked, Campaign, Found, Progress};
use crate::destination::{Destination, Reply};
use crate::disk::{Image, Model, Operation, Outcome, Recording, STORE, Said, Watch};
use crate::random::Random;

/// The campaign as the command line offers it.
pub const CAMPAIGN: Campaign = Campaign {
    name: "power",
    summary: "the power goes at any write, and what was not synced is dropped, torn, reordered",
    unit: "crash points",
    short: 90,
    full: 3_000,
    run,
};

/// Disks whose syncs do nothing, for files of these names. A store on each must lose what it promised: that is why its syncs are there.
/// The index is not among them: what it loses is in the log.
/// The folder's own name is `.`.
const CONTROLS: [Control; 3] = [
    ("every file's", |_| true),
    ("the log's", |name| name.contains("-log-")),
    ("the folder's", |name| name == "."),
];

/// Whose syncs do nothing, and which names those are.
type Control = (&'static str, fn(&str) -> bool);

/// Crash points that each control is tried at.
const CONTROL_POINTS: u64 = 40;
/// Crash points of one session.
const SESSION_POINTS: u64 = 60;
/// Sessions of one store. What is looked through gets longer with each.
const LIFE_SESSIONS: u64 = 4;
/// So that there are checkpoints in a short session.
const WAL_BYTES_MAX: u64 = 128 * 1024;
/// One image of so many is also written to, closed and opened again.
const REOPENED: u64 = 4;

fn run(asked: Asked, progress: &mut Progress) -> Found {
    let mut random = Random(asked.seed);
    let destination = Destination::start();
    let mut campaign = Tally::default();
    while campaign.points < asked.count && campaign.problems.is_empty() {
        one_life(asked.count, &destination, &mut campaign, &mut random, progress);
    }
    campaign.found()
}

/// A store from its making over several power losses to the end of all its work.
fn one_life(
    points_max: u64,
    destination: &Destination,
    campaign: &mut Tally,
    random: &mut Random,
    progress: &mut Progress,
) {
    let mut books = Books::default();
    let (mut image, mut promises) = (Image::default(), Promises::default());
    for session in 0..LIFE_SESSIONS {
        let points = (points_max - campaign.points).min(SESSION_POINTS);
        if points == 0 || !campaign.problems.is_empty() {
            break;
        }
        let watch = Watch::over(&image);
        let before = books.acknowledgements;
        live(&watch, destination, &mut books, random, campaign);
        campaign.sessions += 1;
        let recording = watch.recording();
        let given = books.acknowledgements - before;
        campaign.acknowledgements += given;
        campaign.hold_recording(&recording, &watch.files(), given);
        let crashes = choose(&recording, points, random);
        let step = |done: u64, campaign: &Tally| {
            let text = format!("session {}, {} images", campaign.sessions, campaign.images);
            progress.step(campaign.points + done, points_max, &text);
        };
        (image, promises) = campaign.crash_all(&recording, &crashes, &books, &promises, random, step);
        campaign.points += crashes.len() as u64;
        if session == 0 && campaign.controls.is_empty() {
            campaign.hold_controls(&recording, &books, random);
        }
    }
    // A host takes the last image to the end of all work: everything is still there, and done once.
    if campaign.problems.is_empty() {
        finish(&image, &promises, destination, &books, campaign);
    }
    campaign.problems.append(&mut books.problems);
}

/// Runs a host on the watched disk until its work is done or cut off.
fn live(watch: &Watch, destination: &Destination, books: &mut Books, random: &mut Random, campaign: &mut Tally) {
    let arrived = destination.arrivals().len();
    let wrapper = watch.wrapper();
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let mut stage = promises::setup(destination)
        .store(&watch.store().to_string_lossy())
        .store_lines(&format!("wal_bytes_max = {WAL_BYTES_MAX}"))
        .wrapper(&wrapper)
        .start();
    // Retries are under way when the power goes.
    destination.script((0..random.below(4)).map(|_| Reply::Status(503)));
    let load = Load {
        posts: 120,
        connections: 1 + random.below(6),
        pause_ms: 3,
    };
    send(&stage, books, load, random);
    if random.below(2) == 0 {
        stage.quiet();
    }
    let status = stage.stop();
    if status != Some(0) {
        campaign
            .problems
            .push(format!("the host ended with {status:?}: {:#?}", stage.log()));
    }
    if destination.arrivals()[arrived..]
        .iter()
        .any(|arrival| !arrival.is_authentic)
    {
        campaign.problems.push("a delivery has no valid signature".to_owned());
    }
}

/// Has a host finish its work on an image, and holds the store against everything that was ever promised on the way there.
fn finish(image: &Image, promises: &Promises, destination: &Destination, books: &Books, campaign: &mut Tally) {
    let watch = Watch::over(image);
    let wrapper = watch.wrapper();
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let mut stage = promises::setup(destination)
        .store(&watch.store().to_string_lossy())
        .wrapper(&wrapper)
        .start();
    let counts = stage.quiet();
    let status = stage.stop();
    if status != Some(0) {
        campaign.problems.push(format!("the last host ended with {status:?}"));
    }
    let mut promises = promises.clone();
    promises.restart();
    for operation in &watch.recording().operations {
        if let Operation::Said(said) = operation {
            campaign.problems.extend(promises.note(said));
        }
    }
    campaign.problems.extend(judge(&stage.store(), books, &promises));
    campaign.problems.extend(judge_done(&stage.store(), &promises));
    campaign.lives += 1;
    campaign.receipts += counts["receipts"].as_u64().unwrap_or(0);
    campaign.deliveries += promises.delivered.len();
}

/// Moments between operations at which the power goes, in their order. As many are around syncs as right after an acknowledgement, right after
/// a delivery, where the database itself or the folder is written, before the host has said anything, and anywhere.
fn choose(recording: &Recording, points: u64, random: &mut Random) -> Vec<usize> {
    let names = recording.names();
    let [mut syncs, mut acknowledged, mut delivered, mut moves] = [const { Vec::new() }; 4];
    let first_said = |operation: &Operation| matches!(operation, Operation::Said(_));
    let starting = recording.operations.iter().position(first_said).unwrap_or(0);
    let starting: Vec<usize> = (1..=starting).collect();
    for (number, operation) in recording.operations.iter().enumerate() {
        match operation {
            Operation::Sync { .. } | Operation::Synced { .. } => syncs.extend([number, number + 1]),
            Operation::Said(Said::Acknowledged { .. }) => acknowledged.push(number + 1),
            Operation::Said(Said::Delivery { .. }) => delivered.push(number + 1),
            Operation::Create { .. } | Operation::Unlink { .. } | Operation::Rename { .. } => moves.push(number + 1),
            Operation::Truncate { .. } => moves.extend([number, number + 1]),
            Operation::Write { inode, .. } if names.get(inode).is_some_and(|name| name == STORE) => {
                moves.push(number + 1);
            }
            _ => {}
        }
    }
    let places = [syncs, acknowledged, delivered, moves, starting, Vec::new()];
    let all = recording.operations.len() as u64;
    let mut chosen = BTreeSet::new();
    // A recording that has fewer moments than were asked for gives those that it has.
    for _ in 0..points * 20 {
        let of = &places[random.below(places.len() as u64) as usize];
        let point = match of.get(random.below(of.len() as u64) as usize) {
            Some(point) => *point,
            None => 1 + random.below(all) as usize,
        };
        chosen.insert(point);
        if chosen.len() as u64 == points {
            break;
        }
    }
    chosen.into_iter().collect()
}

/// What a campaign did and found.
#[derive(Debug, Default)]
struct Tally {
    sessions: u64,
    points: u64,
    images: u64,
    reopened: u64,
    operations: usize,
    writes: usize,
    syncs: usize,
    truncates: usize,
    database_writes: usize,
    /// Promises that were looked for, all images together.
    looked_for: u64,
    acknowledgements: usize,
    lives: u64,
    receipts: u64,
    deliveries: usize,
    controls: Vec<(String, String)>,
    problems: Vec<String>,
}

impl Tally {
    /// What was recorded must be what happened: the files that it makes are those that are there, and it has every answer.
    fn hold_recording(&mut self, recording: &Recording, files: &Image, acknowledgements: usize) {
        let names = recording.names();
        self.operations += recording.operations.len();
        self.writes += recording.count(|operation| matches!(operation, Operation::Write { .. }));
        self.syncs += recording.count(|operation| matches!(operation, Operation::Synced { .. }));
        self.truncates += recording.count(|operation| matches!(operation, Operation::Truncate { .. }));
        self.database_writes += recording.count(|operation| {
            matches!(operation, Operation::Write { inode, .. } if names.get(inode).is_some_and(|name| name == STORE))
        });
        let mut model = Model::new(recording, |_| false);
        let mut said = Promises::default();
        while let Some(operation) = model.step() {
            if let Operation::Said(promise) = operation {
                said.note(promise);
            }
        }
        let whole = model.crash(Outcome::All, &mut Random(0));
        let differences = whole.differences(files).into_iter();
        self.problems
            .extend(differences.map(|difference| format!("the recording is not what happened: {difference}")));
        if said.acknowledgements != acknowledgements {
            self.problems.push(format!(
                "{acknowledgements} acknowledgements arrived, and the recording has {}",
                said.acknowledgements
            ));
        }
    }

    /// Lets the power go at each of the points. Answers one of the images, chosen at random, and what was promised until then.
    fn crash_all(
        &mut self,
        recording: &Recording,
        points: &[usize],
        books: &Books,
        before: &Promises,
        random: &mut Random,
        mut step: impl FnMut(u64, &Self),
    ) -> (Image, Promises) {
        // Late, so that the next session has something to lose.
        let half = points.len() / 2;
        let chosen = half + random.below((points.len() - half) as u64) as usize;
        let mut next = (Image::default(), Promises::default());
        let problems = Mutex::new(std::mem::take(&mut self.problems));
        let said = |problem: String| problems.lock().unwrap_or_else(PoisonError::into_inner).push(problem);
        let (cases, queue) = sync_channel::<Case>(4);
        let queue = Mutex::new(queue);
        let kept = OnceLock::new();
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let session = self.sessions;
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let folder = scratch();
                    loop {
                        let Ok(case) = queue.lock().unwrap_or_else(PoisonError::into_inner).recv() else {
                            return;
                        };
                        let problems = look_through(folder.path(), &case, books);
                        if !problems.is_empty() {
                            kept.get_or_init(|| said(format!("the first such image is kept: {}", keep(&case.image))));
                        }
                        for problem in problems {
                            let (point, outcome) = (case.point, case.outcome);
                            said(format!(
                                "session {session}, power lost after operation {point}, {outcome:?}: {problem}"
                            ));
                        }
                    }
                });
            }
            let mut model = Model::new(recording, |_| false);
            let mut promises = before.clone();
            promises.restart();
            for (number, point) in points.iter().enumerate() {
                advance(&mut model, *point, &mut promises, &said);
                let mut seen = BTreeSet::new();
                for outcome in Outcome::ALL {
                    let image = model.crash(outcome, random);
                    if number == chosen && outcome == Outcome::Random {
                        next = (image.clone(), promises.clone());
                    }
                    if !seen.insert(image.fingerprint()) {
                        continue;
                    }
                    self.images += 1;
                    self.looked_for += (promises.receipts.len() + promises.delivered.len()) as u64;
                    let reopens = random.below(REOPENED) == 0;
                    self.reopened += u64::from(reopens);
                    let stale = if random.below(4) == 0 { 32 * 1024 } else { 0 };
                    let case = Case {
                        point: *point,
                        outcome,
                        image,
                        promises: promises.clone(),
                        reopens,
                        stale_index: (0..stale).map(|_| random.number() as u8).collect(),
                    };
                    // The other end is there as long as the threads are.
                    let _ = cases.send(case);
                }
                step(number as u64 + 1, self);
            }
            drop(cases);
        });
        self.problems = problems.into_inner().unwrap_or_else(PoisonError::into_inner);
        next
    }

    /// On a disk whose syncs do nothing a loss must be seen.
    fn hold_controls(&mut self, recording: &Recording, books: &Books, random: &mut Random) {
        for (whose, ignores) in CONTROLS {
            let folder = scratch();
            let mut model = Model::new(recording, ignores);
            let mut promises = Promises::default();
            let (mut tried, mut lost) = (0, 0);
            for point in choose(recording, CONTROL_POINTS, random) {
                advance(&mut model, point, &mut promises, |_| {});
                // Before the first promise there is nothing to lose, and a store that is being made may be found half made.
                if promises.receipts.is_empty() {
                    continue;
                }
                tried += 1;
                let case = Case {
                    point,
                    outcome: Outcome::Nothing,
                    image: model.crash(Outcome::Nothing, random),
                    promises: promises.clone(),
                    reopens: false,
                    stale_index: Vec::new(),
                };
                lost += u64::from(!look_through(folder.path(), &case, books).is_empty());
            }
            self.controls.push((
                format!("control, {whose} syncs do nothing: loses at"),
                format!("{lost} of {tried} points"),
            ));
            if lost == 0 {
                let problem =
                    format!("control: {whose} syncs do nothing, and none of {tried} crash points shows a loss");
                self.problems.push(problem);
            }
        }
    }

    fn found(self) -> Found {
        let mut found = Found::default();
        found.fact("crash points", self.points);
        found.fact("disk images opened and looked through", self.images);
        found.fact("of these written to and opened again", self.reopened);
        found.fact("promises looked for, over all images", self.looked_for);
        found.fact("sessions of a host, most on such an image", self.sessions);
        found.fact("operations recorded", self.operations);
        found.fact(
            "writes / syncs / truncations",
            format!("{} / {} / {}", self.writes, self.syncs, self.truncates),
        );
        found.fact("writes to the database itself, by checkpoints", self.database_writes);
        found.fact("acknowledgements given", self.acknowledgements);
        found.fact("stores taken to the end of their work", self.lives);
        found.fact("receipts there", self.receipts);
        found.fact("operations delivered on the way there", self.deliveries);
        for (control, result) in self.controls {
            found.fact(&control, result);
        }
        found.problems = self.problems;
        found
    }
}
