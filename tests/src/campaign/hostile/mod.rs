//! The campaign of hostile clients: signed events at a steady pace, measured quiet and then beside each attack, turn by turn.
//!
//! The host runs as a service manager would start it, with 1,024 open files allowed and more to be had for the asking. What the
//! campaign asks: is every signed event acknowledged, and how much later than in the quiet stretch before; how much memory does the
//! host take; and is nothing in its files that was not signed. Attackers share the machine with the host and the senders, and have
//! what those leave of it. What the disk does by itself is no attacker's: `TMPDIR` on a file system in memory leaves it out.

mod attack;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use attack::{Attack, Script, Tally};
use tollgate_core::limits;

use super::pace::{Pace, Stretch, median};
use super::vitals::{self, Watch, mib};
use super::{Asked, Campaign, Found, Progress};
use crate::client::request;
use crate::events::{self, Message, signer};
use crate::random::Random;
use crate::stage::{Setup, Stage};

/// The campaign as the command line offers it.
pub const CAMPAIGN: Campaign = Campaign {
    name: "hostile",
    summary: "hostile clients beside signed traffic: slow, huge, nested, idle, many, unsigned",
    unit: "rounds",
    short: 1,
    full: 5,
    run,
};

/// From so many rounds on the bound on latency is asserted; one short stretch has too few events for a p99.
const ROUNDS_STRICT: u64 = 3;
/// Signed events per second.
const PER_SECOND: u32 = 200;
/// A p99 beside an attack: so many times the quiet one at most.
const SLOWER_MAX: f64 = 3.0;
/// In the short form, on any machine and unoptimised: nobody is locked out, which would take until those who say nothing are let go,
/// five seconds.
const SHORT_P99_MAX: Duration = Duration::from_secs(3);
/// What the host may hold in memory, whatever is done to it: its bound on bodies twice, because a buffer grows by doubling, the head of
/// every connection, and what it holds when nothing is done to it.
const RESIDENT_BYTES_MAX: u64 =
    (2 * limits::EDGE_BODY_BYTES_MAX + IDLE * limits::HEADER_BYTES_MAX + 160 * 1024 * 1024) as u64;
/// Stands in every body that is not signed, with the seed.
const MARKER: &str = "never-signed";

const IDLE: usize = 10_000;
const PATH: &str = "/in/acme/shop";

/// One kind of attack: its name, and its crowds.
type Kind = (&'static str, Vec<(usize, Script)>);

fn kinds(seed: u64, idle: usize) -> Vec<Kind> {
    let mut random = Random(seed);
    let marker = format!("{MARKER}-{seed}");
    let head = |rest: &str| format!("POST {PATH} HTTP/1.1\r\nhost: test\r\n{rest}").into_bytes();
    let millis = Duration::from_millis;
    let drip = |opening: Vec<u8>, then: &[u8]| Script {
        opening,
        then: then.to_vec(),
        step: 1,
        pause: millis(100),
    };
    let gush = |opening: Vec<u8>, then: Vec<u8>| Script {
        opening,
        then,
        step: usize::MAX,
        pause: millis(5),
    };

    // One header after the other, byte by byte, without an end; and a body that never comes to its length.
    let slow_heads = (300, drip(head("x-slow: "), b"abc\r\nx-slow: "));
    let slow_bodies = (
        300,
        drip(head("content-length: 500000\r\n\r\n{\"x\":\""), marker.as_bytes()),
    );
    // Bodies up to their last byte, which never comes: together more than the host keeps in memory.
    let mut almost = head("content-length: 1048576\r\n\r\n");
    almost.extend(marker.repeat(1_048_575 / marker.len()).into_bytes());
    let hoards = (400, gush(almost, Vec::new()));

    let many: String = (0..20_000).map(|n| format!("x-{n}: {marker}\r\n")).collect();
    let long = format!("x-long: {}\r\n", "y".repeat(1 << 20));
    let header_bombs = [
        (8, gush(head(&many), Vec::new())),
        (8, gush(head(&long), Vec::new())),
        (
            8,
            gush(
                head(&format!("{}\r\n", many[..many.len() / 200].trim_end())),
                Vec::new(),
            ),
        ),
    ];

    let chunk = format!("10000\r\n{}\r\n", "z".repeat(0x1_0000));
    let huge_bodies = [
        (
            8,
            gush(head("content-length: 99999999999\r\n\r\n"), b"z".repeat(0x1_0000)),
        ),
        (8, gush(head("transfer-encoding: chunked\r\n\r\n"), chunk.into_bytes())),
    ];

    let nested = |id: &str| {
        format!(
            "{{\"event\":\"note\",\"event_id\":\"{id}\",\"x\":{}",
            "[".repeat(900_000)
        )
    };
    let mixed = |id: &str| {
        format!(
            "{{\"event\":\"note\",\"event_id\":\"{id}\",\"x\":{}",
            "{\"a\":[".repeat(150_000)
        )
    };
    let digits: String = (0..900_000)
        .map(|_| char::from(b'0' + random.below(10) as u8))
        .collect();
    let number = |id: &str| format!("{{\"event\":\"note\",\"event_id\":\"{id}\",\"x\":1{digits}}}");
    let signed = |body: String| of_message(&signer("shop").sign("", body));
    let unsigned = |body: String| of_message(&signer("shop").sign("", body).unsigned());
    let mut json = Vec::new();
    for body in [nested, mixed] {
        json.push((1, gush(Vec::new(), signed(body("nested")))));
        json.push((1, gush(Vec::new(), unsigned(body(&marker)))));
    }
    // The one thing here that is an event: kept once, recognised ever after.
    json.push((1, gush(Vec::new(), signed(number(LONG_NUMBER)))));
    json.push((1, gush(Vec::new(), unsigned(number(&marker)))));

    let quiet = Script {
        pause: millis(200),
        ..Script::default()
    };
    let idle = (idle, quiet);

    let flood = flood(&marker);
    let mut all: Vec<(usize, Script)> = vec![slow_heads.clone(), slow_bodies.clone(), hoards.clone()];
    all.extend(header_bombs.iter().chain(&huge_bodies).cloned());
    all.extend(json.iter().cloned());
    all.push(idle.clone());
    all.extend(flood.iter().cloned());
    vec![
        ("slow heads", vec![slow_heads]),
        ("slow bodies", vec![slow_bodies]),
        ("hoarded bodies", vec![hoards]),
        ("header bombs", header_bombs.to_vec()),
        ("huge bodies", huge_bodies.to_vec()),
        ("nested JSON", json),
        ("idle connections", vec![idle]),
        (FLOOD, flood),
        ("all together", all),
    ]
}

const FLOOD: &str = "unsigned flood";
/// The id of an event whose number has a million digits.
const LONG_NUMBER: &str = "evt_long_number";

/// Requests without a signature, with a wrong one, and with another body's, as fast as the host takes them.
fn flood(marker: &str) -> Vec<(usize, Script)> {
    let event = |id: &str| signer("shop").sign("", events::redeemed(id, marker, "success"));
    let mut requests = Vec::new();
    for n in 0..20 {
        let id = format!("{marker}-{n}");
        requests.extend(of_message(&event(&id).unsigned()));
        requests.extend(of_message(&event(&id).tampered()));
        let mut foreign = event(&id);
        foreign.headers = signer("shop").sign("", "{}").headers;
        requests.extend(of_message(&foreign));
    }
    let script = Script {
        opening: Vec::new(),
        then: requests,
        step: usize::MAX,
        pause: Duration::ZERO,
    };
    vec![(16, script.clone()), (16, script)]
}

fn of_message(message: &Message) -> Vec<u8> {
    request("POST", PATH, &message.headers, &message.body)
}

/// What one attack did to the signed traffic, over all rounds.
#[derive(Default)]
struct Effect {
    quiet_p99: Vec<Duration>,
    attacked_p99: Vec<Duration>,
    quiet_median: Vec<Duration>,
    attacked_median: Vec<Duration>,
    resident_most: u64,
    tally: Vec<Tally>,
    /// How long the attack lasted in all.
    seconds: f64,
}

impl Effect {
    fn slower(&self) -> f64 {
        let (quiet, attacked) = (median(self.quiet_p99.clone()), median(self.attacked_p99.clone()));
        attacked.as_secs_f64() / quiet.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

fn run(asked: Asked, progress: &mut Progress) -> Found {
    let mut found = Found::default();
    let is_short = asked.count < ROUNDS_STRICT;
    let (quiet_for, attacked_for, ramp) = if is_short {
        (500, 1_200, 400)
    } else {
        (5_000, 10_000, 2_000)
    };
    let files = vitals::open_files_as_many_as_possible();
    // The attackers are this process, which has other things to open as well.
    let idle = IDLE.min(usize::try_from(files.saturating_sub(2_500)).unwrap_or(IDLE));
    let hard = format!("--nofile=1024:{files}");
    let mut stage = Setup::acme("").wrapper(&["prlimit", &hard]).start();
    let watch = Watch::over(stage.pid(), stage.path("tollgate.db-wal"));
    let mut field = Field {
        edge: stage.edge,
        seed: asked.seed,
        next: 0,
        signed: Stretch::default(),
    };

    let capacity = field.capacity(Duration::from_millis(attacked_for / 2));
    let _ = field.paced(Duration::from_millis(quiet_for));
    let (quiet_resident, _) = watch.most();
    let kinds = kinds(asked.seed, idle);
    let mut effects: BTreeMap<usize, Effect> = BTreeMap::new();
    let steps = asked.count * kinds.len() as u64;
    for round in 0..asked.count {
        for (at, (name, crowds)) in kinds.iter().enumerate() {
            let effect = effects.entry(at).or_default();
            let quiet = field.paced(Duration::from_millis(quiet_for));
            effect.quiet_p99.push(quiet.percentile(0.99));
            effect.quiet_median.push(quiet.percentile(0.5));
            let _ = watch.most();
            let attack_begun = Instant::now();
            let attack = Attack::start(stage.edge, crowds);
            attack.wait_for_all();
            std::thread::sleep(Duration::from_millis(ramp));
            let attacked = field.paced(Duration::from_millis(attacked_for));
            let tally = attack.end();
            effect.seconds += attack_begun.elapsed().as_secs_f64();
            effect.attacked_p99.push(attacked.percentile(0.99));
            effect.attacked_median.push(attacked.percentile(0.5));
            effect.resident_most = effect.resident_most.max(watch.most().0);
            let line = format!(
                "{name}: p99 {} → {} ms, {} MiB; {} opened, {} ended, answers {:?}; signed refused {:?}, broken {}, lost {}",
                quiet.percentile(0.99).as_millis(),
                attacked.percentile(0.99).as_millis(),
                effect.resident_most >> 20,
                tally.opened,
                tally.ended,
                tally.answers,
                attacked.refused,
                attacked.broken,
                attacked.lost.len(),
            );
            progress.step(round * kinds.len() as u64 + at as u64 + 1, steps, &line);
            effect.tally.push(tally);
            for lost in quiet.lost.iter().chain(&attacked.lost) {
                found
                    .problems
                    .push(format!("{name}: the signed event {lost} was not acknowledged"));
            }
            // What is left of the attack goes before the next quiet stretch.
            std::thread::sleep(Duration::from_millis(300));
        }
    }
    found.fact("signed events per second", PER_SECOND);
    found.fact("signed events, all acknowledged", field.signed.latencies.len());
    found.fact("capacity seen with signed events, per second", capacity as u64);
    found.fact("memory quiet", mib(quiet_resident));
    for (at, (name, _)) in kinds.iter().enumerate() {
        let Some(effect) = effects.get(&at) else { continue };
        judge(name, effect, is_short, &mut found);
        if *name == FLOOD {
            let refused: u64 = effect.tally.iter().map(Tally::answers).sum();
            let rate = refused as f64 / effect.seconds.max(f64::MIN_POSITIVE);
            found.fact("unsigned flood: refused per second", rate as u64);
            found.fact(
                "unsigned flood ÷ signed rate",
                format!("{:.1}", rate / f64::from(PER_SECOND)),
            );
            found.fact("unsigned flood ÷ capacity", format!("{:.2}", rate / capacity.max(1.0)));
        }
    }
    let held = effects
        .values()
        .flat_map(|effect| &effect.tally)
        .map(|tally| tally.open_most)
        .max();
    found.fact("most hostile connections at once", held.unwrap_or(0));
    drop(watch);
    judge_store(&mut stage, &field, &mut found);
    found
}

fn judge(name: &str, effect: &Effect, is_short: bool, found: &mut Found) {
    let attacked = median(effect.attacked_p99.clone());
    let ms = |of: &Vec<Duration>| format!("{:.1}", median(of.clone()).as_secs_f64() * 1000.0);
    found.fact(
        &format!("{name}: median ms quiet / attacked"),
        format!("{} / {}", ms(&effect.quiet_median), ms(&effect.attacked_median)),
    );
    found.fact(
        &format!("{name}: p99 ms quiet / attacked"),
        format!(
            "{} / {} = {:.1}×",
            ms(&effect.quiet_p99),
            ms(&effect.attacked_p99),
            effect.slower()
        ),
    );
    found.fact(&format!("{name}: most memory"), mib(effect.resident_most));
    if is_short && attacked > SHORT_P99_MAX {
        found.problems.push(format!(
            "{name}: the p99 of signed events was {attacked:?}, {SHORT_P99_MAX:?} is the most"
        ));
    }
    if !is_short && effect.slower() > SLOWER_MAX {
        let slower = effect.slower();
        found.problems.push(format!(
            "{name}: the p99 of signed events was {slower:.1} times the quiet one, {SLOWER_MAX} is the most"
        ));
    }
    if effect.resident_most > RESIDENT_BYTES_MAX {
        let (most, bound) = (mib(effect.resident_most), mib(RESIDENT_BYTES_MAX));
        found
            .problems
            .push(format!("{name}: the host held {most} of memory, {bound} is the most"));
    }
    let tries: u64 = effect.tally.iter().map(|tally| tally.opened).sum();
    if tries == 0 {
        found.problems.push(format!("{name}: the attack was none"));
    }
}

/// What is in the store is what was signed, and nothing else.
fn judge_store(stage: &mut Stage, field: &Field, found: &mut Found) {
    let receipts = stage.counts()["receipts"].as_u64().unwrap_or(0);
    let status = stage.stop();
    if status != Some(0) {
        found.problems.push(format!("the host ended with {status:?}"));
    }
    let long_numbers = stage.traces(LONG_NUMBER).len() as u64;
    let acknowledged = field.signed.acknowledged.len() as u64;
    found.fact("receipts", receipts);
    if receipts != acknowledged + long_numbers {
        found.problems.push(format!(
            "{receipts} receipts for {acknowledged} signed events that were acknowledged and {long_numbers} long number"
        ));
    }
    let files = vitals::store_files(&stage.path("tollgate.db"));
    let marker = format!("{MARKER}-{}", field.seed);
    let in_files = |needle: &str| -> usize {
        files
            .iter()
            .map(|file| vitals::occurrences(file, needle.as_bytes()))
            .sum()
    };
    let unsigned = in_files(&marker);
    found.fact("unsigned bodies' marker in the store's files", unsigned);
    if unsigned > 0 {
        found.problems.push(format!(
            "`{marker}` stands {unsigned} times in the store's files: it was never signed"
        ));
    }
    // A search that finds nothing at all would prove nothing.
    if in_files(&Field::redemption(field.seed, 0)) == 0 {
        found
            .problems
            .push("the search does not find in the store's files what was signed".to_owned());
    }
    stage.assert_whole();
}

/// The signed traffic.
struct Field {
    edge: SocketAddr,
    seed: u64,
    next: u64,
    signed: Stretch,
}

impl Field {
    fn redemption(seed: u64, number: u64) -> String {
        format!("signed-{seed}-{number}")
    }

    fn event(seed: u64, number: u64) -> (String, Message) {
        let id = format!("evt_{seed}_{number}");
        let body = events::redeemed(&id, &Self::redemption(seed, number), "success");
        (PATH.to_owned(), signer("shop").sign(&id, body))
    }

    /// One stretch at the campaign's pace.
    fn paced(&mut self, duration: Duration) -> Stretch {
        let pace = Pace {
            to: self.edge,
            per_second: PER_SECOND,
            senders: 16,
        };
        let first = self.next;
        self.next += pace.events_in(duration);
        let seed = self.seed;
        let stretch = pace.run(first, duration, &move |number| Self::event(seed, number));
        self.signed.add(stretch.clone());
        stretch
    }

    /// How many signed events a second the host takes from senders on the same machine that wait for nothing but their answers.
    fn capacity(&mut self, duration: Duration) -> f64 {
        let pace = Pace {
            to: self.edge,
            per_second: 0,
            senders: 32,
        };
        let seed = self.seed;
        let stretch = pace.flat_out(self.next, duration, &move |number| Self::event(seed, number));
        self.next += (stretch.latencies.len() + stretch.lost.len()) as u64;
        let rate = stretch.latencies.len() as f64 / duration.as_secs_f64();
        self.signed.add(stretch);
        rate
    }
}
