//! Did an event reach every destination (promise P11)? For each of its tenant's destinations: delivered, waiting, held, dead, or not
//! meant for it, with the reason.
//!
//! An entry of the outbox says so itself. Before there is one, the event's jobs do: what still waits on a route that sends to the
//! destination is on its way there, and what died on it never came as far.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{DestinationName, JobId, OutboxId, RouteName};
use crate::time::UnixMillis;
use crate::work::{EntryState, JobState};

/// How far an event has come on its way to one destination. The worse stands before the better: what stands first decides where there are several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Given up, and nobody put it back.
    Dead,
    /// A person is asked.
    Held,
    /// On its way.
    Waiting,
    /// It is there.
    Delivered,
    /// Nothing of it is sent there.
    NotMeant,
}

impl Standing {
    /// The word in filters and lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Held => "held",
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::NotMeant => "not-meant",
        }
    }

    /// Whether something is due that is not there.
    pub fn is_due(self) -> bool {
        match self {
            Self::Dead | Self::Held | Self::Waiting => true,
            Self::Delivered | Self::NotMeant => false,
        }
    }
}

/// Where the routes of a tenant send, as they are configured now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sends {
    /// Every destination with the routes that send there.
    pub to: BTreeMap<DestinationName, BTreeSet<RouteName>>,
}

/// A job of the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventJob {
    /// The job.
    pub job: JobId,
    /// The route that it is on.
    pub route: RouteName,
    /// How far it has come.
    pub state: JobState,
    /// Why its last end was none, or what it waits for.
    pub reason: Option<String>,
    /// When it was held or died, where that is known.
    pub ended_at: Option<UnixMillis>,
}

/// An outbox entry of an action that the event's runs recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventEntry {
    /// The entry.
    pub entry: OutboxId,
    /// The route whose run recorded the action.
    pub route: RouteName,
    /// Where it goes.
    pub destination: DestinationName,
    /// How far it has come.
    pub state: EntryState,
    /// Why its last attempt failed.
    pub reason: Option<String>,
    /// When its action was recorded.
    pub since: UnixMillis,
}

/// One event and one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// Where it goes, or would.
    pub destination: DestinationName,
    /// How far it has come.
    pub standing: Standing,
    /// Why, in words.
    pub reason: String,
    /// The routes that it is about.
    pub routes: BTreeSet<RouteName>,
    /// Since when it is so: when the action was recorded, the job ended or the event came.
    pub since: UnixMillis,
    /// The outbox entry that decides, where there is one.
    pub entry: Option<OutboxId>,
    /// The job that decides, where there is no entry yet.
    pub job: Option<JobId>,
}

/// What became of an event at each destination that its tenant has, or that something of it was sent to. `held_event` is the reason for
/// which the event itself waits for a person; `filtered` says which routes' filters left it out, where the receipt's history does.
pub fn reached(
    sends: &Sends,
    jobs: &[EventJob],
    entries: &[EventEntry],
    held_event: Option<&str>,
    filtered: Option<&str>,
    received_at: UnixMillis,
) -> Vec<Reached> {
    let nobody = BTreeSet::new();
    let of_entries = entries.iter().map(|entry| &entry.destination);
    let destinations: BTreeSet<_> = sends.to.keys().chain(of_entries).collect();
    let of_one = |destination: &DestinationName| {
        let routes = sends.to.get(destination).unwrap_or(&nobody);
        let sent = entries
            .iter()
            .filter(|entry| entry.destination == *destination)
            .map(of_entry);
        // A job that is done has said all that it has to say by its entries.
        let under_way = jobs
            .iter()
            .filter(|job| routes.contains(&job.route))
            .filter_map(|job| of_job(job, destination, received_at));
        let worst = sent.chain(under_way).min_by_key(|reached| reached.standing);
        worst.unwrap_or_else(|| nothing_sent(destination, routes, jobs, (held_event, filtered), received_at))
    };
    destinations.into_iter().map(of_one).collect()
}

fn of_entry(entry: &EventEntry) -> Reached {
    let told = |otherwise: &str| entry.reason.clone().unwrap_or_else(|| otherwise.to_owned());
    let (standing, reason) = match entry.state {
        EntryState::Dead => (Standing::Dead, told("it was given up")),
        EntryState::Blocked => (Standing::Waiting, told("waits for an older delivery of its subject")),
        EntryState::Ready => (Standing::Waiting, told("it was not tried yet")),
        EntryState::Leased => (Standing::Waiting, told("it is being sent")),
        EntryState::Delivered => (Standing::Delivered, "the destination took it".to_owned()),
    };
    Reached {
        destination: entry.destination.clone(),
        standing,
        reason,
        routes: BTreeSet::from([entry.route.clone()]),
        since: entry.since,
        entry: Some(entry.entry),
        job: None,
    }
}

/// None of a job that ended as it should.
fn of_job(job: &EventJob, destination: &DestinationName, received_at: UnixMillis) -> Option<Reached> {
    let (standing, what) = match job.state {
        JobState::Dead => (Standing::Dead, "died"),
        JobState::Held => (Standing::Held, "waits for a person"),
        JobState::Blocked => (Standing::Waiting, "waits for an older job of its subject"),
        JobState::Ready | JobState::Leased => (Standing::Waiting, "is not finished"),
        JobState::Done | JobState::Dismissed => return None,
    };
    let because = job
        .reason
        .as_ref()
        .map(|reason| format!(": {reason}"))
        .unwrap_or_default();
    Some(Reached {
        destination: destination.clone(),
        standing,
        reason: format!("{} on route {} {what}{because}", job.job, job.route),
        routes: BTreeSet::from([job.route.clone()]),
        since: job.ended_at.unwrap_or(received_at),
        entry: None,
        job: Some(job.job),
    })
}

/// Nothing of the event goes to the destination, and no job that could send it is under way.
fn nothing_sent(
    destination: &DestinationName,
    routes: &BTreeSet<RouteName>,
    jobs: &[EventJob],
    (held_event, filtered): (Option<&str>, Option<&str>),
    received_at: UnixMillis,
) -> Reached {
    let ran: BTreeSet<_> = jobs
        .iter()
        .filter(|job| routes.contains(&job.route))
        .map(|job| job.route.clone())
        .collect();
    let names = |routes: &BTreeSet<RouteName>| routes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let (standing, reason) = match held_event {
        Some(reason) if !routes.is_empty() => (Standing::Held, format!("the event waits for a person: {reason}")),
        _ if routes.is_empty() => (Standing::NotMeant, "no route sends there".to_owned()),
        _ if ran.is_empty() => (
            Standing::NotMeant,
            match filtered {
                Some(why) => format!("no route that sends there took it ({}); {why}", names(routes)),
                None => format!("no route that sends there took it ({})", names(routes)),
            },
        ),
        _ => (
            Standing::NotMeant,
            format!("its runs proposed nothing that is sent there ({})", names(&ran)),
        ),
    };
    Reached {
        destination: destination.clone(),
        standing,
        reason,
        routes: ran,
        since: received_at,
        entry: None,
        job: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAME: UnixMillis = UnixMillis(1_000);

    fn job(number: i64, route: &str, state: JobState) -> EventJob {
        EventJob {
            job: JobId(number),
            route: route.parse().unwrap(),
            state,
            reason: None,
            ended_at: None,
        }
    }

    fn entry(number: i64, destination: &str, state: EntryState) -> EventEntry {
        EventEntry {
            entry: OutboxId(number),
            route: "r".parse().unwrap(),
            destination: destination.parse().unwrap(),
            state,
            reason: None,
            since: CAME,
        }
    }

    #[test]
    fn p11_each_destination_has_one_standing_and_the_worst_decides() {
        let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let sends = Sends {
            to: [
                ("books", names(&["r", "s"])),
                ("mail", names(&["s"])),
                ("idle", names(&[])),
            ]
            .map(|(name, routes)| (name.parse().unwrap(), routes))
            .into(),
        };
        let check = |jobs: &[EventJob], entries: &[EventEntry], held: Option<&str>, expect: &[(&str, &str, &str)]| {
            let found = reached(
                &sends,
                jobs,
                entries,
                held,
                Some("route s: its filter does not fit"),
                CAME,
            );
            let said: Vec<_> = found
                .iter()
                .map(|one| (one.destination.as_str(), one.standing.as_str()))
                .collect();
            let wanted: Vec<_> = expect.iter().map(|(name, word, _)| (*name, *word)).collect();
            assert_eq!(said, wanted);
            for (one, (_, _, part)) in found.iter().zip(expect) {
                assert!(one.reason.contains(part), "{one:?}");
            }
        };
        let idle = ("idle", "not-meant", "no route sends there");
        let no_mail = ("mail", "not-meant", "took it (s)");
        check(
            &[],
            &[],
            None,
            &[
                ("books", "not-meant", "took it (r, s); route s: its filter does not fit"),
                idle,
                no_mail,
            ],
        );
        check(
            &[],
            &[],
            Some("unknown status"),
            &[
                ("books", "held", "unknown status"),
                idle,
                ("mail", "held", "unknown status"),
            ],
        );
        check(
            &[job(1, "r", JobState::Done)],
            &[entry(7, "books", EntryState::Delivered)],
            None,
            &[("books", "delivered", "took it"), idle, no_mail],
        );
        check(
            &[job(1, "r", JobState::Done), job(2, "s", JobState::Blocked)],
            &[entry(7, "books", EntryState::Delivered)],
            None,
            &[
                ("books", "waiting", "job_2 on route s waits for an older job"),
                idle,
                ("mail", "waiting", "job_2"),
            ],
        );
        check(
            &[job(1, "r", JobState::Dead), job(2, "s", JobState::Held)],
            &[],
            None,
            &[
                ("books", "dead", "job_1 on route r died"),
                idle,
                ("mail", "held", "job_2 on route s waits for a person"),
            ],
        );
        check(
            &[job(1, "r", JobState::Done)],
            &[
                entry(7, "books", EntryState::Delivered),
                entry(8, "books", EntryState::Dead),
                entry(9, "gone", EntryState::Ready),
            ],
            None,
            &[
                ("books", "dead", "given up"),
                ("gone", "waiting", "not tried yet"),
                idle,
                no_mail,
            ],
        );
        check(
            &[job(1, "r", JobState::Done), job(2, "s", JobState::Dismissed)],
            &[],
            None,
            &[
                ("books", "not-meant", "proposed nothing that is sent there (r, s)"),
                idle,
                ("mail", "not-meant", "proposed nothing that is sent there (s)"),
            ],
        );
    }
}
