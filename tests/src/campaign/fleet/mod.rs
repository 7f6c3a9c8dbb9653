//! The fleet campaign: hosts that share a primary with a synchronous standby are killed and frozen, and have clocks that are an hour off; the servers
//! behind them are killed, restarted, promoted and left without room on their disks, and the pooler before these is killed; their connections are cut, all under load.
//!
//! Cast: *senders* post signed events to any host, some of them again to another; the *wire* between hosts and PostgreSQL cuts connections; the
//! *pooler* leads to the primary of the moment, where there is one, and else the wire does; the *cluster* is both servers. In the end all work is finished, and everything that was acknowledged or
//! delivered is looked for: no event is lost, each operation is recorded once, no run is settled under an epoch that was over, and the chain is whole.

mod cluster;
mod pooler;
mod wire;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cluster::Cluster;
use pooler::Pooler;
use tollgate_core::secret::Secret;
use tollgate_store::{AnyStore, PostgresStore};
use wire::{Counted, Cut, Wire};

use super::promises::{self, Books, Promises, Sent, judge, judge_done};
use super::{Asked, Campaign, Found, Progress};
use crate::client::Client;
use crate::destination::Destination;
use crate::disk::Said;
use crate::disk_library;
use crate::events;
use crate::postgres::is_there;
use crate::random::Random;
use crate::stage::{Stage, wait_until};

/// The campaign as the command line offers it.
pub const CAMPAIGN: Campaign = Campaign {
    name: "fleet",
    summary: "hosts on one PostgreSQL with a synchronous standby: kills, freezes, promotions, cut connections",
    unit: "faults",
    short: 30,
    full: 500,
    run: |asked, progress| run(asked, Control::None, progress),
};

/// Hosts that share the store.
const HOSTS: usize = 3;
/// The one whose clock is ahead.
const AHEAD: usize = 1;
/// How far the clock of each is off, in seconds. The last, which is frozen now and then, wakes up in the past.
const OFF_S: [i64; HOSTS] = [0, 3600, -3600];
/// Senders at once.
const SENDERS: u64 = 4;
/// A sender waits for an answer no longer, and sends again, elsewhere.
const ANSWER_MAX: Duration = Duration::from_secs(4);
/// A frozen host is woken when the leases of its jobs are over.
const FROZEN: Duration = Duration::from_secs(33);
/// From so many faults on, the end waits for leases to run out; before, all hosts are started anew, which frees them.
const PATIENT_FROM: u64 = 100;

/// What is broken on purpose, so that a campaign which finds nothing is known to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Nothing.
    None,
    /// The servers answer a commit before it is anywhere (`synchronous_commit = off`), and are killed.
    ServerForgets,
    /// The hosts take a commit for made whose answer was lost, and connections are cut. Only hosts with debug assertions can be had to.
    HostGuesses,
}

/// What is done to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    HostKilled,
    ServerKilled,
    ServerRestarted,
    StandbyPromoted,
    PoolerKilled,
    DiskFull,
    CutBefore,
    CutAfter,
}

impl Fault {
    /// Cuts are most, since it is one message among many that matters; promotions take longest.
    fn any(control: Control, random: &mut Random) -> Self {
        match random.below(20) {
            _ if control == Control::ServerForgets => Self::ServerKilled,
            _ if control == Control::HostGuesses => Self::CutBefore,
            0..3 => Self::HostKilled,
            3..5 => Self::ServerKilled,
            5 => Self::ServerRestarted,
            6 => Self::StandbyPromoted,
            7 => Self::PoolerKilled,
            8 => Self::DiskFull,
            9..13 => Self::CutBefore,
            _ => Self::CutAfter,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::HostKilled => "kill -9 of a host",
            Self::ServerKilled => "kill -9 of the primary, started again",
            Self::ServerRestarted => "immediate restart of the primary",
            Self::StandbyPromoted => "the primary gone, its standby promoted",
            Self::PoolerKilled => "kill -9 of the pooler, started again",
            Self::DiskFull => "no room on the primary's disk, for a while",
            Self::CutBefore => "connections cut before a message",
            Self::CutAfter => "connections cut after a message",
        }
    }
}

/// What the senders share.
struct Senders {
    books: Mutex<Books>,
    promises: Mutex<Promises>,
    /// Where the hosts listen; another place after each start.
    edges: Mutex<Vec<SocketAddr>>,
    is_over: AtomicBool,
    last_acknowledged: Mutex<Instant>,
    /// The longest that none was, and who waited.
    longest: Mutex<Duration>,
    fail_overs: Mutex<Vec<FailOver>>,
}

/// A primary that was killed and whose standby took its place.
struct FailOver {
    killed: Instant,
    /// When the hosts' way led to it.
    promoted: Option<Instant>,
    /// When the first event was acknowledged by it.
    acknowledged: Option<Instant>,
    /// When it had a standby of its own, without which it commits nothing.
    followed: Option<Instant>,
}

impl FailOver {
    fn begins() -> Self {
        Self {
            killed: Instant::now(),
            promoted: None,
            acknowledged: None,
            followed: None,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Senders {
    /// Posts to a host, and enters what came of it.
    fn post(&self, client: &mut Client, sent: &Sent) -> Option<u16> {
        let Ok(answer) = client.post("/in/acme/shop", &sent.message) else {
            lock(&self.books).unanswered += 1;
            return None;
        };
        let receipt = matches!(answer.status, 200 | 202).then(|| answer.receipt());
        lock(&self.books).note(sent, answer.status, receipt.clone());
        if let Some(receipt) = receipt {
            let mut last = lock(&self.last_acknowledged);
            let mut longest = lock(&self.longest);
            *longest = longest.max(last.elapsed());
            *last = Instant::now();
            if let Some(last) = lock(&self.fail_overs).last_mut()
                && last.promoted.is_some()
            {
                last.acknowledged.get_or_insert_with(Instant::now);
            }
            let said = Said::Acknowledged {
                status: answer.status,
                receipt,
            };
            if let Some(problem) = lock(&self.promises).note(&said) {
                lock(&self.books).problems.push(problem);
            }
        }
        Some(answer.status)
    }

    /// Until it is over: new events and earlier ones, each to any host.
    fn send(&self, random: &mut Random) {
        let signer = events::signer("shop");
        let mut clients: BTreeMap<SocketAddr, Client> = BTreeMap::new();
        while !self.is_over.load(Ordering::Relaxed) {
            let edge = {
                let edges = lock(&self.edges);
                edges[random.below(edges.len() as u64) as usize]
            };
            let sent = {
                let mut books = lock(&self.books);
                let earlier = random.below(4) == 0 && !books.sent.is_empty();
                match books.sent.values().nth(random.below(books.sent.len() as u64) as usize) {
                    Some(sent) if earlier => sent.clone(),
                    _ => books.make(&signer, random),
                }
            };
            let client = clients
                .remove(&edge)
                .map_or_else(|| Client::connect_within(edge, ANSWER_MAX), Ok);
            if let Ok(mut client) = client
                && self.post(&mut client, &sent).is_some()
            {
                clients.insert(edge, client);
            }
            thread::sleep(Duration::from_millis(random.below(12)));
        }
    }
}

/// Runs a campaign.
///
/// # Panics
/// When a host or a server does not start.
pub fn run(asked: Asked, control: Control, progress: &mut Progress) -> Found {
    let mut found = Found::default();
    if !is_there() {
        found.fact("SKIPPED: there is no PostgreSQL", "");
        return found;
    }
    let mut random = Random(asked.seed);
    let destination = Destination::start();
    let mut cluster = Cluster::start(match control {
        Control::ServerForgets => "off",
        Control::None | Control::HostGuesses => "on",
    });
    // Without one, the fault that is about it is passed over.
    let mut pooler = Pooler::start(&cluster.socket());
    let wire = match &pooler {
        Some(pooler) => Wire::to(&pooler.socket()),
        None => Wire::to(&cluster.socket()),
    };
    let clocks = tempfile::tempdir().expect("a folder");
    let mut hosts: Vec<Stage> = (0..HOSTS)
        .map(|number| {
            let lines = format!(
                "url = {{ file = \"secrets/store\" }}\n[host]\nname = \"{}\"",
                ["a", "b", "c"][number]
            );
            let setup = promises::setup(&destination)
                .secret("store", &wire.url())
                .store_lines(&lines);
            let clock = clocks.path().join(number.to_string());
            std::fs::write(&clock, OFF_S[number].to_string()).expect("a file");
            let setup = setup
                .variable("LD_PRELOAD", &disk_library().display().to_string())
                .variable("TOLLGATE_TEST_CLOCK", &clock.display().to_string());
            match control {
                Control::HostGuesses => setup.variable("TOLLGATE_GUESS_COMMITS", "1").start(),
                Control::None | Control::ServerForgets => setup.start(),
            }
        })
        .collect();
    let senders = Senders {
        books: Mutex::default(),
        promises: Mutex::default(),
        edges: Mutex::new(hosts.iter().map(|host| host.edge).collect()),
        is_over: AtomicBool::new(false),
        last_acknowledged: Mutex::new(Instant::now()),
        longest: Mutex::default(),
        fail_overs: Mutex::default(),
    };
    let mut made: BTreeMap<Fault, u64> = BTreeMap::new();
    let (mut freezes, mut refused_room) = (0, 0);
    thread::scope(|scope| {
        let _over = UntilDropped(&senders);
        for _ in 0..SENDERS {
            let (mut random, senders) = (random.fork(), &senders);
            scope.spawn(move || senders.send(&mut random));
        }
        // The last host is frozen, woken and frozen again, while the others go on.
        let mut frozen: Option<Instant> = None;
        for number in 1..=asked.count {
            thread::sleep(Duration::from_millis(200 + random.below(500)));
            match frozen {
                None if control != Control::None => {}
                None => {
                    hosts[HOSTS - 1].signal("STOP");
                    frozen = Some(Instant::now());
                    freezes += 1;
                }
                Some(since) if since.elapsed() > FROZEN => {
                    hosts[HOSTS - 1].signal("CONT");
                    frozen = None;
                }
                Some(_) => {}
            }
            let fault = Fault::any(control, &mut random);
            *made.entry(fault).or_default() += 1;
            progress.line(&format!("{number:>4}/{}  {}", asked.count, fault.name()));
            match fault {
                Fault::HostKilled => {
                    let host = random.below(HOSTS as u64 - 1) as usize;
                    hosts[host].kill();
                    thread::sleep(Duration::from_millis(random.below(800)));
                    start(&mut hosts[host]);
                    lock(&senders.edges)[host] = hosts[host].edge;
                }
                Fault::ServerKilled => cluster.kill_and_start(),
                Fault::ServerRestarted => cluster.restart_at_once(),
                Fault::StandbyPromoted => {
                    lock(&senders.fail_overs).push(FailOver::begins());
                    let at = |moment: fn(&mut FailOver) -> &mut Option<Instant>| {
                        if let Some(last) = lock(&senders.fail_overs).last_mut() {
                            *moment(last) = Some(Instant::now());
                        }
                    };
                    cluster.fail_over(|socket| {
                        match &pooler {
                            Some(pooler) => pooler.lead_to(socket),
                            None => wire.lead_to(socket),
                        }
                        at(|last| &mut last.promoted);
                    });
                    at(|last| &mut last.followed);
                }
                Fault::PoolerKilled => {
                    if let Some(pooler) = &mut pooler {
                        pooler.kill_and_start();
                    }
                }
                Fault::DiskFull => {
                    let lasts = Duration::from_millis(500 + random.below(2_500));
                    if cluster.has_disks() && cluster.fill_disk(lasts) {
                        refused_room += 1;
                    }
                }
                Fault::CutBefore | Fault::CutAfter => {
                    let cut = match fault {
                        Fault::CutBefore => Cut::Before,
                        _ => Cut::After,
                    };
                    let (messages, counted) = match random.below(2) {
                        0 if control == Control::None => (60, Counted::All),
                        _ => (4, Counted::Commits),
                    };
                    wire.cut_behind(random.below(messages), counted, cut);
                }
            }
        }
        if let Some(since) = frozen {
            thread::sleep(FROZEN.saturating_sub(since.elapsed()));
            hosts[HOSTS - 1].signal("CONT");
        }
    });
    finish(&mut hosts, &senders, asked);
    let mut books = senders.books.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut promises = senders.promises.into_inner().unwrap_or_else(PoisonError::into_inner);
    let arrivals = destination.arrivals();
    // A host signs by its own clock.
    for arrival in arrivals.iter().filter(|arrival| arrival.is_signed) {
        let problem = promises.note(&delivery(&arrival.json(), &arrival.body));
        books.problems.extend(problem);
    }
    let url = Secret::new(cluster.url().into_bytes());
    match PostgresStore::open_read_only(&url).map(AnyStore::Shared) {
        Ok(store) => {
            found.problems.extend(judge(&store, &books, &promises));
            found.problems.extend(judge_done(&store, &promises));
        }
        Err(error) => found.problems.push(format!("the store cannot be opened: {error}")),
    }
    found.problems.extend(judge_epochs(&cluster));
    found.problems.append(&mut books.problems);
    if pooler.is_none() {
        made.remove(&Fault::PoolerKilled);
        found.fact("SKIPPED: there is no pgbouncer", "");
    }
    if !cluster.has_disks() {
        made.remove(&Fault::DiskFull);
        found.fact("SKIPPED: a disk of the test's own cannot be mounted", "");
    }
    for (fault, times) in made {
        found.fact(fault.name(), times);
    }
    found.fact("times that a server found no room", refused_room);
    found.fact("a host frozen beyond a lease", freezes);
    found.fact("connections that were cut", wire.cuts());
    found.fact("events acknowledged", promises.receipts.len());
    found.fact("acknowledgements, of redeliveries too", promises.acknowledgements);
    let away = books.answers.get(&503).copied().unwrap_or_default();
    found.fact(
        "posts answered 503, and not answered",
        format!("{away} / {}", books.unanswered),
    );
    found.fact("operations delivered", promises.delivered.len());
    found.fact(
        "deliveries beyond the first of an operation",
        arrivals.len() - promises.delivered.len().min(arrivals.len()),
    );
    let fail_overs = lock(&senders.fail_overs);
    let between = |from: fn(&FailOver) -> Option<Instant>| {
        let between = |last: &FailOver| Some(last.acknowledged?.saturating_duration_since(from(last)?).as_millis());
        let mut took: Vec<u128> = fail_overs.iter().filter_map(between).collect();
        took.sort_unstable();
        let median = took.get(took.len() / 2).copied().unwrap_or_default();
        format!("{median} / {}", took.last().copied().unwrap_or_default())
    };
    if !fail_overs.is_empty() {
        found.fact(
            "from the primary's end to the first acknowledgement, in ms: median / longest",
            between(|last| Some(last.killed)),
        );
        found.fact(
            "of that, once the promoted one had a standby of its own",
            between(|last| last.followed),
        );
    }
    drop(fail_overs);
    found.fact(
        "longest without an acknowledgement, in ms",
        lock(&senders.longest).as_millis(),
    );
    found
}

/// Starts a host, again and again as its supervisor would: a start whose connection is cut ends with an error.
fn start(host: &mut Stage) {
    let mut said = String::new();
    for _ in 0..20 {
        match host.try_start() {
            Ok(_) => return,
            Err(error) => said = error,
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("the host does not come up:\n{said}");
}

/// Ends the senders however the campaign ends: else it would wait for them when it panics.
struct UntilDropped<'s>(&'s Senders);

impl Drop for UntilDropped<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

/// Sends what was never acknowledged until it is, and has all work finished: by the others, where the host whose clock is ahead is gone for good.
fn finish(hosts: &mut Vec<Stage>, senders: &Senders, asked: Asked) {
    hosts.remove(AHEAD).kill();
    if asked.count < PATIENT_FROM {
        for host in hosts.iter_mut() {
            host.kill();
        }
    }
    for host in hosts.iter_mut() {
        if asked.count < PATIENT_FROM {
            start(host);
        }
    }
    let open: Vec<Sent> = {
        let books = lock(&senders.books);
        let known: std::collections::BTreeSet<_> = books.events.values().cloned().collect();
        books
            .sent
            .values()
            .filter(|sent| !known.contains(&sent.id))
            .cloned()
            .collect()
    };
    for (number, sent) in open.iter().enumerate() {
        let edge = hosts[number % hosts.len()].edge;
        wait_until("what was never acknowledged is", || {
            let mut client = Client::connect_within(edge, ANSWER_MAX).ok()?;
            senders
                .post(&mut client, sent)
                .filter(|status| matches!(status, 200 | 202))
        });
    }
    let begun = Instant::now();
    loop {
        let counts = hosts[0].counts();
        if counts["jobs_waiting"] == 0 && counts["outbox_waiting"] == 0 {
            return;
        }
        // A delivery that a host was killed with is free after a minute.
        assert!(
            begun.elapsed() < Duration::from_secs(150),
            "the work is not finished: {counts}"
        );
        thread::sleep(Duration::from_millis(50));
    }
}

/// What a message to the destination said.
fn delivery(message: &serde_json::Value, body: &[u8]) -> Said {
    let text = |pointer: &str| {
        message
            .pointer(pointer)
            .and_then(|value| value.as_str())
            .unwrap_or_default()
            .to_owned()
    };
    Said::Delivery {
        kind: text("/action/kind"),
        operation_key: text("/operation_key"),
        body: String::from_utf8_lossy(body).into_owned(),
    }
}

/// Each run was settled under the newest epoch of its job: no epoch has two, later ones have later epochs, and the last is the job's own.
fn judge_epochs(cluster: &Cluster) -> Vec<String> {
    [
        (
            "an epoch settled twice",
            "SELECT count(*) FROM (SELECT 1 FROM tollgate.runs GROUP BY job, epoch HAVING count(*) > 1) a",
        ),
        (
            "a run settled under an epoch that was over",
            "SELECT count(*) FROM (SELECT epoch, lag(epoch) OVER (PARTITION BY job ORDER BY id) AS before FROM tollgate.runs) a \
             WHERE before >= epoch",
        ),
        (
            "a job ended by a lease that was not its newest",
            "SELECT count(*) FROM tollgate.jobs j WHERE j.epoch <> (SELECT max(epoch) FROM tollgate.runs r WHERE r.job = j.id)",
        ),
    ]
    .into_iter()
    .filter_map(|(what, sql)| match cluster.ask(sql) {
        Some(count) if count == "0" => None,
        Some(count) => Some(format!("{what}: {count}")),
        None => Some(format!("{what}: it cannot be asked")),
    })
    .collect()
}
