//! The I/O campaign: one call of a real host to its disk fails, now this one, now that one, once or from there on.
//!
//! A *case* is a host on a store that has receipts, on a disk (`tests/disk`) that is told which call to fail: while the host starts,
//! or under load. What the host has to do then is the kind's `Duty`. And whatever it does: its disk as it is at the end, and as it
//! may be when the power goes at the end or at any moment after the failure, holds everything that was promised. For
//! that a sync that failed has made nothing durable, and no later one makes up for it: that is what systems do.
//!
//! One kind is the proof that a loss would be seen: syncs that do nothing and say that they went well. No host can notice those, so
//! in one of their cases something must be lost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use super::postmortem::{Case, advance, look_through, scratch};
use super::promises::{self, Books, Load, Promises, judge, send, send_one};
use super::{Asked, Campaign, Found, Progress};
use crate::destination::Destination;
use crate::disk::{EIO, ENOSPC, Fault, Image, Model, Operation, Outcome, Watch, What};
use crate::random::Random;
use crate::stage::{PATIENCE, Setup, Stage};

/// The campaign as the command line offers it.
pub const CAMPAIGN: Campaign = Campaign {
    name: "io",
    summary: "a write or sync of the store fails: EIO, ENOSPC, half a write, once or for good",
    unit: "cases",
    short: KINDS.len() as u64,
    full: 20 * KINDS.len() as u64,
    run,
};

/// What a host has to do when its disk fails in some way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Duty {
    /// Nobody knows what is on the disk: it says so, and ends with status 3.
    Stop,
    /// It answers 503 as long as there is no space, stays, and takes events again when there is.
    Stay,
    /// One or the other.
    StopOrStay,
    /// It loses nothing, and nobody notices anything.
    Carry,
    /// Nothing; and it must lose something.
    Control,
}

/// A way in which a disk fails.
#[derive(Debug, Clone, Copy)]
struct Kind {
    what: What,
    suffix: &'static str,
    error: u64,
    /// The fault hits one of so many calls of its kind.
    calls: u64,
    duty: Duty,
}

const LOG: &str = "-log-0000000000000000";
const WAL: &str = "-wal";
const DATABASE: &str = ".db";
const FOLDER: &str = ".";

const fn kind(what: What, suffix: &'static str, error: u64, calls: u64, duty: Duty) -> Kind {
    Kind {
        what,
        suffix,
        error,
        calls,
        duty,
    }
}

/// Every kind. A case of a kind draws by itself which call it is, whether that is while starting, and whether it lasts.
const KINDS: [Kind; 23] = [
    kind(What::Write, LOG, EIO, 20, Duty::Stop),
    kind(What::Write, WAL, EIO, 400, Duty::Stop),
    kind(What::Write, DATABASE, EIO, 60, Duty::Stop),
    kind(What::Write, LOG, ENOSPC, 20, Duty::Stay),
    kind(What::Write, WAL, ENOSPC, 400, Duty::Stay),
    kind(What::Write, DATABASE, ENOSPC, 60, Duty::Stay),
    kind(What::TornWrite, LOG, EIO, 20, Duty::Stop),
    kind(What::TornWrite, WAL, EIO, 400, Duty::Stop),
    kind(What::TornWrite, DATABASE, EIO, 60, Duty::Stop),
    kind(What::TornWrite, LOG, ENOSPC, 20, Duty::Stay),
    kind(What::TornWrite, WAL, ENOSPC, 400, Duty::Stay),
    kind(What::TornWrite, DATABASE, ENOSPC, 60, Duty::Stay),
    kind(What::ShortWrite, LOG, 0, 20, Duty::Carry),
    kind(What::ShortWrite, WAL, 0, 400, Duty::Carry),
    kind(What::ShortWrite, DATABASE, 0, 60, Duty::Carry),
    kind(What::Sync, LOG, EIO, 20, Duty::Stop),
    kind(What::Sync, WAL, EIO, 3, Duty::Stop),
    kind(What::Sync, DATABASE, EIO, 3, Duty::Stop),
    kind(What::Sync, FOLDER, EIO, 1, Duty::Stop),
    kind(What::Sync, LOG, ENOSPC, 20, Duty::StopOrStay),
    kind(What::Sync, WAL, ENOSPC, 3, Duty::StopOrStay),
    kind(What::Sync, DATABASE, ENOSPC, 3, Duty::StopOrStay),
    kind(What::LyingSync, LOG, 0, 1, Duty::Control),
];

/// Posts of one round of load; there are more rounds until the fault has come.
const ROUND_POSTS: u64 = 40;
const ROUNDS_MAX: usize = 8;
/// What a host says that ends because of its disk.
const DISK_FAILED: &str = "the store's disk failed";
/// How long space is gone at least.
const WITHOUT_SPACE: Duration = Duration::from_millis(100);
/// One case of so many fails while the host starts.
const STARTING: u64 = 5;
/// So that there are checkpoints in a short case.
const WAL_BYTES_MAX: u64 = 128 * 1024;
/// Moments after the failure at which the power goes.
const CRASH_POINTS: u64 = 4;
/// Operations that are soon after another.
const SOON: u64 = 60;
/// Of so many cases under load one goes on with a host on the mended disk; of those while starting each.
const MENDED: u64 = 4;
/// A call that is under way when a host is killed is done, and not recorded: the writer is left to finish what nobody waits for.
const WRITER_ENDS: Duration = Duration::from_millis(150);
/// And in one of so many of those where the host stops it is started again at once.
const GOES_ON: u64 = 2;

/// A case as it is drawn.
#[derive(Debug, Clone, Copy)]
struct Draw {
    kind: Kind,
    nth: u64,
    lasts: bool,
    starting: bool,
    /// On the disk as a kill left it, and not as a clean end did.
    killed: bool,
}

fn run(asked: Asked, progress: &mut Progress) -> Found {
    let mut random = Random(asked.seed);
    let destination = Destination::start();
    let mut books = Books::default();
    let (clean, killed) = prepare(&destination, &mut books, &mut random);
    let mut tally = Tally::default();
    for number in 0..asked.count {
        let mut random = random.fork();
        let draw = Draw::of(KINDS[number as usize % KINDS.len()], &mut random);
        let (image, promises) = if draw.killed { &killed } else { &clean };
        let mut case = Bench {
            watch: Watch::over(image),
            destination: &destination,
            books: books.clone(),
            before: promises,
            problems: Vec::new(),
        };
        let ended = catch_unwind(AssertUnwindSafe(|| case.run(draw, &mut random, &mut tally)));
        if let Err(panic) = ended {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            case.problems.push(text.unwrap_or_default());
        }
        case.problems.append(&mut case.books.problems);
        if draw.kind.duty == Duty::Control {
            tally.controls += 1;
            tally.controls_lost += u64::from(!case.problems.is_empty());
        } else {
            let label = |problem: String| format!("case {number}, {draw}: {problem}");
            tally.problems.extend(case.problems.into_iter().map(label));
        }
        tally.cases += 1;
        progress.step(number + 1, asked.count, &draw.to_string());
    }
    tally.found()
}

/// What a case begins with: a disk, and what was promised to that day.
type Begin = (Image, Promises);

/// A store with receipts as a clean end left it, and the same with work under way as a kill left it.
fn prepare(destination: &Destination, books: &mut Books, random: &mut Random) -> (Begin, Begin) {
    let (mut image, mut promises) = Begin::default();
    let mut session = |kills: bool| {
        let watch = Watch::over(&image);
        let mut stage = setup(&watch, destination).start();
        send(&stage, books, load(4), random);
        if kills {
            stage.kill();
        } else {
            stage.quiet();
            stage.stop();
        }
        for operation in &watch.recording().operations {
            if let Operation::Said(said) = operation {
                promises.note(said);
            }
        }
        promises.restart();
        image = watch.files();
        (image.clone(), promises.clone())
    };
    (session(false), session(true))
}

fn setup(watch: &Watch, destination: &Destination) -> Setup {
    let wrapper = watch.wrapper();
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    promises::setup(destination)
        .store(&watch.store().to_string_lossy())
        .store_lines(&format!("wal_bytes_max = {WAL_BYTES_MAX}"))
        .wrapper(&wrapper)
}

fn load(connections: u64) -> Load {
    Load {
        posts: ROUND_POSTS,
        connections,
        pause_ms: 2,
    }
}

impl Draw {
    fn of(kind: Kind, random: &mut Random) -> Self {
        let lasts = random.below(2) == 0;
        Self {
            kind,
            nth: 1 + random.below(kind.calls),
            // The control's loss has to last, and a folder is synced only while a host starts; SQLite makes nothing of its own sync of it.
            lasts: lasts || kind.duty == Duty::Control || kind.suffix == FOLDER,
            starting: kind.suffix == FOLDER || kind.duty != Duty::Control && random.below(STARTING) == 0,
            killed: kind.suffix != FOLDER && random.below(2) == 0,
        }
    }

    fn fault(&self) -> Fault {
        Fault {
            what: self.kind.what,
            suffix: self.kind.suffix,
            nth: self.nth,
            lasts: self.lasts,
            error: self.kind.error,
        }
    }
}

impl std::fmt::Display for Draw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Kind {
            what, suffix, error, ..
        } = self.kind;
        let error = match error {
            EIO => "EIO",
            ENOSPC => "ENOSPC",
            _ => "no error",
        };
        let nth = self.nth;
        let from = if self.lasts { "from call" } else { "at call" };
        let when = if self.starting { "while starting" } else { "under load" };
        let after = if self.killed { "a kill" } else { "a clean end" };
        write!(
            f,
            "{what:?} of *{suffix} with {error} {from} {nth}, {when}, after {after}"
        )
    }
}

/// What one case works with.
struct Bench<'a> {
    watch: Watch,
    destination: &'a Destination,
    books: Books,
    before: &'a Promises,
    problems: Vec<String>,
}

impl Bench<'_> {
    fn run(&mut self, draw: Draw, random: &mut Random, tally: &mut Tally) {
        let acknowledgements = self.books.acknowledgements;
        let mut stage = setup(&self.watch, self.destination).set();
        if draw.starting {
            self.watch.arm(draw.fault());
        }
        match start(&mut stage) {
            Ok(()) => {
                if !draw.starting {
                    send(&stage, &mut self.books, load(2), random);
                    self.watch.arm(draw.fault());
                }
                self.under_load(draw, &mut stage, random, tally);
            }
            Err(said) => self.refused(draw, &said, tally),
        }
        thread::sleep(WRITER_ENDS);
        stage.kill();
        if draw.kind.duty == Duty::Stop && random.below(GOES_ON) == 0 {
            self.goes_on(&mut stage, random, tally);
        }
        let given = self.books.acknowledgements - acknowledgements;
        let begin = self.look_back(given, random, tally);
        if draw.kind.duty != Duty::Control && (draw.starting || random.below(MENDED) == 0) {
            self.mended(&begin, random, tally);
        }
    }

    /// The host did not start.
    fn refused(&mut self, draw: Draw, said: &str, tally: &mut Tally) {
        tally.refused += 1;
        if self.watch.fired() == 0 || matches!(draw.kind.duty, Duty::Carry | Duty::Control) {
            self.problems.push(format!("the host did not start: {said}"));
        } else if !(said.contains("store") || said.contains("disk")) {
            self.problems
                .push(format!("the host does not say that it is its store: {said}"));
        }
    }

    /// Whoever watches over the host starts it again at once, on a disk that is well again. The system still shows what a sync that failed
    /// has left nowhere, so what the host acknowledges now must not stand behind that.
    fn goes_on(&mut self, stage: &mut Stage, random: &mut Random, tally: &mut Tally) {
        self.watch.lift();
        if let Err(said) = start(stage) {
            self.problems
                .push(format!("where it had stopped the host does not start again: {said}"));
            return;
        }
        send(stage, &mut self.books, load(2), random);
        thread::sleep(WRITER_ENDS);
        stage.kill();
        tally.went_on += 1;
    }

    /// A host starts on a disk as the power left it, with the disk mended, and takes events.
    fn mended(&mut self, (image, promises): &Begin, random: &mut Random, tally: &mut Tally) {
        self.watch = Watch::over(image);
        let mut stage = setup(&self.watch, self.destination).set();
        if let Err(said) = start(&mut stage) {
            self.problems
                .push(format!("on a mended disk the host does not start: {said}"));
            return;
        }
        self.takes_events(&stage, random);
        let status = stage.stop();
        if status != Some(0) {
            self.problems
                .push(format!("on a mended disk the host ends with {status:?}"));
        }
        self.problems.extend(judge(&stage.store(), &self.books, promises));
        tally.mended += 1;
    }

    fn under_load(&mut self, draw: Draw, stage: &mut Stage, random: &mut Random, tally: &mut Tally) {
        let mut ended = None;
        for _ in 0..ROUNDS_MAX {
            let (answers, unanswered) = (self.books.answers.clone(), self.books.unanswered);
            send(stage, &mut self.books, load(3), random);
            ended = stage.ends_within(Duration::ZERO);
            let came = self.watch.fired() > 0;
            if draw.kind.duty == Duty::Carry {
                let refused = self.books.answers.get(&503) != answers.get(&503);
                if refused || self.books.unanswered > unanswered || ended.is_some() {
                    self.problems.push("half a write was noticed".to_owned());
                }
            }
            if came || ended.is_some() {
                break;
            }
        }
        if self.watch.fired() == 0 {
            tally.never_came += 1;
            if ended.is_some() {
                self.problems
                    .push(format!("the host ended with {ended:?} and nothing had failed"));
            }
        }
        match draw.kind.duty {
            _ if self.watch.fired() == 0 => {}
            Duty::Stop => self.stops(stage, ended, tally),
            Duty::Stay => self.stays(stage, ended, random, tally),
            // Who has said that the disk failed is about to end, however long that takes on a busy machine.
            Duty::StopOrStay => match ended.or_else(|| stage.ends_within(Duration::from_secs(1))) {
                None if stage.log_with(DISK_FAILED).is_empty() => self.stays(stage, None, random, tally),
                ended => self.stops(stage, ended, tally),
            },
            Duty::Carry | Duty::Control => {}
        }
        // A run whose settlement found no space waits for its lease to end, which is longer than a test does.
        if matches!(draw.kind.duty, Duty::Stay | Duty::Carry) && stage.ends_within(Duration::ZERO).is_none() {
            self.watch.lift();
            let status = stage.stop();
            if status != Some(0) {
                self.problems.push(format!("the host ended with {status:?}"));
            }
        }
    }

    fn stops(&mut self, stage: &mut Stage, ended: Option<i32>, tally: &mut Tally) {
        let ended = ended.or_else(|| stage.ends_within(PATIENCE));
        if ended != Some(3) {
            self.problems
                .push(format!("the host should stop with status 3; it has {ended:?}"));
        }
        if stage.log_with(DISK_FAILED).is_empty() {
            self.problems
                .push(format!("the host does not say why it stopped: {:?}", stage.log()));
        }
        tally.stopped += 1;
    }

    fn stays(&mut self, stage: &mut Stage, ended: Option<i32>, random: &mut Random, tally: &mut Tally) {
        thread::sleep(WITHOUT_SPACE);
        for _ in 0..3 {
            match send_one(stage, &mut self.books, random) {
                Some(503) => tally.without_space += 1,
                Some(_) => {}
                None => self.problems.push("the host gives no answer".to_owned()),
            }
        }
        if let Some(status) = ended.or_else(|| stage.ends_within(Duration::ZERO)) {
            self.problems
                .push(format!("without space the host ended with {status}: {:?}", stage.log()));
            return;
        }
        self.watch.lift();
        self.takes_events(stage, random);
        tally.stayed += 1;
    }

    /// On a disk that is well again an event is acknowledged.
    fn takes_events(&mut self, stage: &Stage, random: &mut Random) {
        let begun = Instant::now();
        while send_one(stage, &mut self.books, random) != Some(202) {
            if begun.elapsed() > Duration::from_secs(10) {
                self.problems
                    .push("the disk is well again, and the host takes no events".to_owned());
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The disk as it is, and as the power may leave it at the end or at some moments after the failure.
    /// Answers one of the latter.
    fn look_back(&mut self, acknowledgements: usize, random: &mut Random, tally: &mut Tally) -> Begin {
        let recording = self.watch.recording();
        let files = self.watch.files();
        let operations = &recording.operations;
        let end = operations.len();
        let failed = operations
            .iter()
            .position(|operation| matches!(operation, Operation::Fault { .. }))
            .unwrap_or(end);
        tally.faults += recording.count(|operation| matches!(operation, Operation::Fault { .. }));
        // Right after the failure, when a host that stops is about to end; and anywhere until the end.
        let mut points: Vec<usize> = (0..CRASH_POINTS)
            .map(|number| {
                let rest = (end - failed) as u64 + 1;
                let within = if number % 2 == 0 { rest.min(SOON) } else { rest };
                failed + random.below(within) as usize
            })
            .collect();
        points.sort_unstable();
        points.push(end);
        let folder = scratch();
        let mut model = Model::new(&recording, |_| false);
        let mut promises = self.before.clone();
        let mut found = Vec::new();
        for point in points {
            advance(&mut model, point, &mut promises, |problem| found.push(problem));
            for outcome in [Outcome::Nothing, Outcome::Random, Outcome::Torn] {
                let case = Case {
                    point,
                    outcome,
                    image: model.crash(outcome, random),
                    promises: promises.clone(),
                    reopens: point == end,
                    stale_index: Vec::new(),
                };
                tally.images += 1;
                let problems = look_through(folder.path(), &case, &self.books);
                let label = |problem| format!("power lost after operation {point} of {end}, {outcome:?}: {problem}");
                found.extend(problems.into_iter().map(label));
            }
        }
        // Without a power loss, the disk is what it is.
        let begin = (model.crash(Outcome::Random, random), promises.clone());
        let whole = model.crash(Outcome::All, random);
        let differences = whole.differences(&files).into_iter();
        found.extend(differences.map(|difference| format!("the recording is not what happened: {difference}")));
        let said = promises.acknowledgements - self.before.acknowledgements;
        if said < acknowledgements {
            found.push(format!(
                "{acknowledgements} acknowledgements arrived, and the recording has {said}"
            ));
        }
        let case = Case {
            point: end,
            outcome: Outcome::All,
            image: files,
            promises,
            reopens: true,
            stale_index: Vec::new(),
        };
        tally.images += 1;
        found.extend(look_through(folder.path(), &case, &self.books));
        self.problems.append(&mut found);
        begin
    }
}

/// Starts the host; what it said when it did not come up.
fn start(stage: &mut Stage) -> Result<(), String> {
    loop {
        match stage.try_start() {
            Ok(_) => return Ok(()),
            // Between choosing the operator's port and taking it, somebody else may have.
            Err(said) if said.contains("is the port taken?") => stage.operator.set_port(0),
            Err(said) => return Err(said),
        }
    }
}

/// What a campaign did and found.
#[derive(Debug, Default)]
struct Tally {
    cases: u64,
    faults: usize,
    never_came: u64,
    refused: u64,
    mended: u64,
    went_on: u64,
    stopped: u64,
    stayed: u64,
    without_space: u64,
    images: u64,
    controls: u64,
    controls_lost: u64,
    problems: Vec<String>,
}

impl Tally {
    fn found(mut self) -> Found {
        if self.controls > 0 && self.controls_lost == 0 {
            self.problems.push(format!(
                "control: syncs that do nothing and say nothing, and none of {} cases shows a loss",
                self.controls
            ));
        }
        if self.never_came * 4 > self.cases {
            self.problems
                .push(format!("in {} of {} cases nothing failed", self.never_came, self.cases));
        }
        let mut found = Found::default();
        found.fact("cases", self.cases);
        found.fact("calls that failed", self.faults);
        found.fact("cases whose call was never made", self.never_came);
        found.fact("hosts that stopped with status 3 and said why", self.stopped);
        found.fact("hosts that refused to start and said why", self.refused);
        found.fact("hosts on the disk that was left, mended", self.mended);
        found.fact("hosts that stopped and were started again at once", self.went_on);
        found.fact("hosts that stayed and took events when space returned", self.stayed);
        found.fact("503 for want of space", self.without_space);
        found.fact("disk images opened and looked through", self.images);
        found.fact(
            "control, lying syncs: cases with a loss",
            format!("{} of {}", self.controls_lost, self.controls),
        );
        found.problems = self.problems;
        found
    }
}
