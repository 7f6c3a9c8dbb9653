//! Who owns a pulled destination, while hosts die under it: pulls, confirms, gives back, and forgets what it fetched. It notes what it was
//! answered, so that what is handed out against that is seen (promise P9).
//!
//! One owner, one request at a time: what a host answered before it died was answered before anything that the next one hands out.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tollgate_core::time::UnixMillis;

use super::kill;
use crate::client::{Answer, Client, request};
use crate::json::{list, text};
use crate::random::Random;

/// The destination that is pulled.
pub(super) const FETCHED: &str = "fetched";
/// How long what is fetched is held, in seconds: the shortest that there is, so that leases run out.
const LEASE_S: u64 = 5;
/// Deliveries of one pull.
const AT_ONCE: u64 = 8;
/// Host and test go by clocks of their own.
const CLOCKS_MS: i64 = 250;
/// Between two pulls while there is load.
const PAUSE: Duration = Duration::from_millis(10);

/// What was handed out and what was answered, over all hosts of a campaign. An operation is named by its `Idempotency-Key`.
#[derive(Debug, Clone, Default)]
pub(super) struct Fetched {
    /// That were ever handed out.
    pub(super) handed_out: BTreeSet<String>,
    /// That somebody asked to confirm, whatever the answer.
    asked_to_confirm: BTreeSet<String>,
    /// Whose confirmation was answered.
    pub(super) confirmed: BTreeSet<String>,
    /// Until when what is held is leased.
    leased: BTreeMap<String, UnixMillis>,
    pub(super) given_back: usize,
    /// That were fetched and of which nothing was said.
    pub(super) forgotten: usize,
    /// The receipt and the count of what counts, as it was handed out.
    pub(super) counted: Vec<(String, u64)>,
    pub(super) problems: Vec<String>,
}

/// What is done with what was fetched.
#[derive(Debug, Clone, Copy)]
pub(super) enum Temper {
    /// Some is confirmed, some given back, some forgotten.
    Careless,
    /// All of it is confirmed.
    Careful,
}

/// The private listener, as the owner of the destination asks it.
pub(super) struct Owner {
    connection: Client,
    token: &'static str,
}

impl Owner {
    /// # Errors
    /// When nobody listens.
    pub(super) fn of(operator: SocketAddr, token: &'static str) -> io::Result<Self> {
        let connection = Client::connect(operator)?;
        Ok(Self { connection, token })
    }

    fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<Answer> {
        let headers = [("authorization".to_owned(), format!("Bearer {}", self.token))];
        self.connection.send(&request(method, path, &headers, body))?;
        self.connection.answer()
    }

    /// One pull, and what becomes of what it hands out. Returns how many those were.
    ///
    /// # Errors
    /// When the host is gone.
    pub(super) fn pull(&mut self, fetched: &mut Fetched, temper: Temper, random: &mut Random) -> io::Result<usize> {
        let path = format!("/v1/pull/{FETCHED}?tenant=acme&max={AT_ONCE}&lease={LEASE_S}");
        let answer = self.ask("GET", &path, b"")?;
        if answer.status != 200 {
            // A host that stops, or one whose store is not up yet.
            return Err(io::Error::other(format!("a pull was answered {}", answer.status)));
        }
        let (mut confirmed, mut given_back) = (Vec::new(), Vec::new());
        let deliveries = list(&answer.json()["deliveries"]);
        for delivery in &deliveries {
            let operation = text(&delivery["headers"], "idempotency-key").to_owned();
            fetched.hand_out(&operation, delivery);
            let held = (text(delivery, "lease").to_owned(), operation);
            match (temper, random.below(10)) {
                (Temper::Careful, _) | (Temper::Careless, 0..6) => confirmed.push(held),
                (Temper::Careless, 6..8) => given_back.push(held),
                (Temper::Careless, _) => fetched.forgotten += 1,
            }
        }
        self.end("confirm", confirmed, fetched)?;
        self.end("give-back", given_back, fetched)?;
        Ok(deliveries.len())
    }

    fn end(&mut self, call: &str, held: Vec<(String, String)>, fetched: &mut Fetched) -> io::Result<()> {
        if held.is_empty() {
            return Ok(());
        }
        let operations: BTreeMap<String, String> = held.into_iter().collect();
        for operation in operations.values() {
            if call == "confirm" {
                fetched.asked_to_confirm.insert(operation.clone());
            }
            // Whether it is still leased is the answer's to say.
            fetched.leased.remove(operation);
        }
        let leases: Vec<_> = operations.keys().collect();
        let body = json!({ "tenant": "acme", "leases": leases }).to_string();
        let answer = self.ask("POST", &format!("/v1/pull/{FETCHED}/{call}"), body.as_bytes())?;
        let (ended, refused) = match answer.status {
            200 => (list(&answer.json()["ended"]), list(&answer.json()["refused"])),
            409 => (Vec::new(), vec![answer.json()]),
            // It stops; nothing was promised.
            503 => return Ok(()),
            other => {
                fetched.problems.push(format!("a {call} was answered {other}"));
                return Ok(());
            }
        };
        // Each was fetched a moment ago, by nobody else, for longer than this takes.
        for refusal in refused {
            fetched.problems.push(format!("a {call} was refused: {refusal}"));
        }
        for lease in ended {
            let Some(operation) = operations.get(text(&lease, "lease")) else {
                continue;
            };
            match (call, text(&lease, "became")) {
                ("confirm", "delivered") => {
                    fetched.confirmed.insert(operation.clone());
                }
                ("give-back", "waiting") => fetched.given_back += 1,
                (_, became) => fetched
                    .problems
                    .push(format!("{operation}: by a {call} it became {became}")),
            }
        }
        Ok(())
    }
}

impl Fetched {
    fn hand_out(&mut self, operation: &str, delivery: &Value) {
        if self.confirmed.contains(operation) {
            self.problems.push(format!(
                "{operation} is handed out again after its confirmation was answered"
            ));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = UnixMillis(i64::try_from(now.as_millis()).unwrap_or(i64::MAX));
        let until = UnixMillis::from_rfc3339(text(delivery, "leased_until")).unwrap_or(now);
        if let Some(held) = self.leased.insert(operation.to_owned(), until)
            && held.since(now) > CLOCKS_MS
        {
            self.problems
                .push(format!("{operation} is handed out while it is leased until {held}"));
        }
        self.handed_out.insert(operation.to_owned());
        let message = serde_json::from_str(text(delivery, "body")).unwrap_or_default();
        self.counted.extend(kill::count_of(&message));
    }

    /// Holds what was answered against what is delivered by the ledger at the end.
    pub(super) fn judge(&mut self, delivered: &BTreeSet<String>) -> Vec<String> {
        let mut problems = std::mem::take(&mut self.problems);
        let lost = self.confirmed.difference(delivered);
        problems.extend(lost.map(|operation| format!("{operation} was confirmed, and the ledger does not know that")));
        let unasked = delivered.difference(&self.asked_to_confirm);
        problems.extend(unasked.map(|operation| format!("{operation} counts as delivered, and nobody confirmed it")));
        let made_up = self.handed_out.difference(delivered);
        problems
            .extend(made_up.map(|operation| format!("{operation} was handed out, and is not delivered in the end")));
        problems
    }
}

/// Pulls until the host is gone or `is_over` says so.
pub(super) fn pull_on(
    operator: SocketAddr,
    token: &'static str,
    fetched: &mut Fetched,
    random: &mut Random,
    is_over: impl Fn() -> bool,
) {
    let Ok(mut owner) = Owner::of(operator, token) else {
        return;
    };
    while !is_over() && owner.pull(fetched, Temper::Careless, random).is_ok() {
        std::thread::sleep(PAUSE);
    }
}
