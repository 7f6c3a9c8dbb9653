//! Admission: what one verified event is to the store. New, the same again, in conflict, or a suspected replay; and, if new, what becomes
//! of it.
//!
//! The store calls [`decide`] inside the durable commit, with what it found there; it never decides by itself.

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::sync::Arc;

use crate::commitment::body_commitment;
use crate::content::Content;
use crate::event::{Event, Proof, StatusReading};
use crate::ids::{Digest, EventId, EventType, ReceiptId, RouteName, SourceName, Status, Subject, TenantName};
use crate::lifecycle::{Lateness, Lifecycle, Transition};
use crate::limits;
use crate::mode::Accept;
use crate::route::{Late, LateJob, RouteMatch, Takes};
use crate::secret::Secret;
use crate::subject::Scope;
use crate::time::UnixMillis;

/// Names the receipt of (tenant, source, event id): HMAC-SHA256 under the store's own key over the length-prefixed parts, cut to
/// 16 bytes. Length prefixes keep `("a", "bc")` and `("ab", "c")` apart; the key keeps a sender from choosing collisions.
pub fn receipt_id(key: &Secret, tenant: &TenantName, source: &SourceName, event: &EventId) -> ReceiptId {
    named(
        key,
        &[
            tenant.as_str().as_bytes(),
            source.as_str().as_bytes(),
            event.as_str().as_bytes(),
        ],
    )
}

/// Names the receipt of (tenant, source, signed message). Where an event id would stand is an empty part, and no event id is empty: so no
/// event's receipt has the name of a message's.
pub fn receipt_id_of_message(key: &Secret, tenant: &TenantName, source: &SourceName, message: &Digest) -> ReceiptId {
    named(
        key,
        &[tenant.as_str().as_bytes(), source.as_str().as_bytes(), b"", &message.0],
    )
}

fn named(key: &Secret, parts: &[&[u8]]) -> ReceiptId {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(&(part.len() as u64).to_le_bytes());
        mac.update(part);
    }
    let full: [u8; 32] = mac.finalize().into_bytes().into();
    let mut id = [0; 16];
    id.copy_from_slice(&full[..16]);
    ReceiptId(id)
}

/// The number of a job's lane. Jobs of one lane are run in the order of their receipts. A lane is (tenant, route, subject), with the source
/// where subjects are each source's own; an event without a subject has a lane of its own. Two lanes that hash alike only wait for each other.
pub fn lane(
    tenant: &TenantName,
    route: &RouteName,
    source: Option<&SourceName>,
    subject: Option<&Subject>,
    receipt: ReceiptId,
) -> i64 {
    use sha2::Digest as _;
    let mut hash = Sha256::new();
    for part in [tenant.as_str(), route.as_str()] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    match subject {
        Some(subject) => {
            for part in [source.map_or("", SourceName::as_str), subject.as_str()] {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part.as_bytes());
            }
        }
        None => hash.update(receipt.0),
    }
    let full: [u8; 32] = hash.finalize().into();
    let mut lane = [0; 8];
    lane.copy_from_slice(&full[..8]);
    i64::from_le_bytes(lane)
}

/// What tells one event of a source from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// The provider's own id, which the provider vouches for.
    EventId,
    /// SHA-256 of the bytes that were signed: where the id is not among them, or where one signature fits several forms of a request. One
    /// captured request then has one identity, whatever id, type or spelling it is sent under.
    SignedMessage(Digest),
}

/// One verified, read event on its way into the store: everything the commit needs, so that the store asks nobody.
#[derive(Debug, Clone)]
pub struct Admission {
    /// The receipt that the event has or gets.
    pub receipt: ReceiptId,
    /// What the name of `receipt` is made from.
    pub identity: Identity,
    /// What was read of the request.
    pub event: Arc<Event>,
    /// How the request was proved.
    pub proof: Proof,
    /// [`crate::commitment::body_commitment`] of the body.
    pub body_commitment: Digest,
    /// The lifecycle of the event's family, when its reading is mapped.
    pub lifecycle: Option<Arc<Lifecycle>>,
    /// When its jobs are due: now, by the clock that the hosts of a store share. The event's own time of receipt is by the host's.
    pub due_at: UnixMillis,
    /// One job per matching route; [`Admission::made`] says which of them are made.
    pub jobs: Vec<JobSpec>,
    /// Routes that would take the event, but for their filters.
    pub filtered: Vec<RouteName>,
    /// Why the source gives the event no effect, whatever its lifecycle says: it is kept, and held where a route would take it.
    pub hold: Option<String>,
    /// The source's choice for a delivery that comes in another form while its receipt is held.
    pub on_held: OnHeld,
    /// Whether the subject is the tenant's or the source's own.
    pub scope: Scope,
    /// The source's choice for a suspected replay.
    pub on_replay: OnReplay,
}

/// What becomes of an event whose receipt is held when it comes again in another form. A source's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OnHeld {
    /// It is a conflict, and a person says whether it takes the receipt's place.
    #[default]
    Review,
    /// It takes the receipt's place by itself, if it is not held too.
    Replace,
}

/// What becomes of a suspected replay: what was signed came before under another id or type. It has no effect by itself either way, is
/// answered alike, counted and kept. A source's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OnReplay {
    /// It waits until a person has decided about it.
    #[default]
    Hold,
    /// It waits for nobody: for sources whose provider sends one body under several ids or types as a matter of course. A person can give it
    /// effect all the same.
    Answer,
}

impl Admission {
    /// Puts together what the commit needs: names the receipt under the store's key, and makes one job for each of `routes`
    /// that takes the event.
    pub fn of<'r>(
        key: &Secret,
        event: Event,
        identity: Identity,
        proof: Proof,
        lifecycle: Option<Arc<Lifecycle>>,
        routes: &mut dyn Iterator<Item = (&'r RouteName, &'r RouteMatch)>,
    ) -> Self {
        let receipt = match &identity {
            Identity::EventId => receipt_id(key, &event.tenant, &event.source, &event.id),
            Identity::SignedMessage(message) => receipt_id_of_message(key, &event.tenant, &event.source, message),
        };
        let (jobs, filtered) = routed(&event, receipt, Scope::default(), routes);
        Self {
            receipt,
            identity,
            body_commitment: body_commitment(key, &event.tenant, &event.payload),
            proof,
            lifecycle,
            due_at: event.received_at,
            jobs,
            filtered,
            hold: None,
            event: Arc::new(event),
            on_held: OnHeld::default(),
            scope: Scope::default(),
            on_replay: OnReplay::default(),
        }
    }

    /// Returns the admission with its subject in this scope.
    #[must_use]
    pub fn about(mut self, scope: Scope) -> Self {
        let event = &self.event;
        for job in &mut self.jobs {
            job.lane = lane(
                &event.tenant,
                &job.route,
                scope.source(event),
                event.subject.as_ref(),
                self.receipt,
            );
        }
        self.scope = scope;
        self
    }

    /// Returns the admission, held where the source does not accept events of this mode.
    #[must_use]
    pub fn accepted_by(mut self, accept: Accept) -> Self {
        self.hold = accept.why_not(&self.event.attributes);
        self
    }

    /// The jobs that are made with a receipt of this disposition.
    pub fn made(&self, disposition: &Disposition) -> Vec<NewJob> {
        match disposition {
            Disposition::Accepted => on_time(self.jobs.clone()),
            Disposition::Superseded { current } => made_late(
                &self.jobs,
                self.lifecycle.as_deref(),
                self.event.reading.status(),
                current,
            ),
            Disposition::Held { .. } => Vec::new(),
        }
    }

    /// Why routes made no job that mean such events, for the receipt's history: their filters do not fit. None where there is none, and of a
    /// receipt that is held, which was not routed yet.
    pub fn why_filtered(&self, disposition: &Disposition) -> Option<String> {
        if self.filtered.is_empty() || matches!(disposition, Disposition::Held { .. }) {
            return None;
        }
        let names: Vec<_> = self.filtered.iter().map(RouteName::as_str).collect();
        Some(match &names[..] {
            [one] => format!("route {one}: its filter does not fit"),
            several => format!("routes {}: their filters do not fit", several.join(", ")),
        })
    }

    /// The same delivery as an event of its own, under an id made from its own and the commitment to its body: what a conflict becomes
    /// when it is given effect. The same bytes always make the same event.
    #[must_use]
    pub fn on_its_own(&self, key: &Secret) -> Self {
        let event = Event {
            id: own_id(&self.event.id, &self.body_commitment),
            ..Event::clone(&self.event)
        };
        let receipt = receipt_id(key, &event.tenant, &event.source, &event.id);
        let jobs = self.jobs.iter().map(|job| JobSpec {
            lane: lane(
                &event.tenant,
                &job.route,
                self.scope.source(&event),
                event.subject.as_ref(),
                receipt,
            ),
            route: job.route.clone(),
            late: job.late,
        });
        Self {
            receipt,
            identity: Identity::EventId,
            due_at: self.due_at,
            jobs: jobs.collect(),
            filtered: self.filtered.clone(),
            event: Arc::new(event),
            proof: self.proof.clone(),
            body_commitment: self.body_commitment,
            lifecycle: self.lifecycle.clone(),
            hold: self.hold.clone(),
            on_held: OnHeld::Review,
            scope: self.scope,
            on_replay: OnReplay::Hold,
        }
    }
}

/// Hex digits of the body's commitment in the id of a conflict that became an event of its own.
const OWN_DIGITS: usize = 16;

fn own_id(id: &EventId, body_commitment: &Digest) -> EventId {
    let digits: String = body_commitment.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut end = id.as_str().len().min(EventId::BYTES_MAX - OWN_DIGITS - 1);
    while !id.as_str().is_char_boundary(end) {
        end -= 1;
    }
    let text = format!("{}~{}", &id.as_str()[..end], &digits[..OWN_DIGITS]);
    EventId::new(&text).unwrap_or_else(|_| id.clone())
}

/// What a store keeps so far of the further deliveries of one receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kept {
    /// Redeliveries of the receipt's own bytes that are kept one by one.
    pub same: u64,
    /// Other bodies that are kept.
    pub conflicts: u64,
    /// Bytes of the conflicts' bodies that are kept, together.
    pub conflict_bytes: u64,
}

impl Kept {
    /// Whether one more redelivery of the receipt's own bytes is kept by itself, and not only counted.
    pub fn keeps_same(&self) -> bool {
        self.same < u64::from(limits::REDELIVERIES_KEPT_MAX)
    }

    /// Whether one more body is kept. Whoever can send one authentic event may be able to send any number of bodies under its id.
    pub fn keeps_conflict(&self, body_bytes: u64) -> bool {
        self.conflicts == 0
            || (self.conflicts < u64::from(limits::CONFLICTS_KEPT_MAX)
                && self.conflict_bytes.saturating_add(body_bytes) <= limits::CONFLICT_BYTES_KEPT_MAX)
    }
}

/// Whether a delivery in another form takes the place of a receipt by itself. `existing` is the receipt's disposition, `own` what
/// the delivery would be as an event of its own.
pub fn replaces(on_held: OnHeld, existing: &Disposition, is_reviewed: bool, own: &Decision) -> bool {
    match (on_held, existing, own) {
        (
            OnHeld::Replace,
            Disposition::Held { .. },
            Decision::New(Disposition::Accepted | Disposition::Superseded { .. }),
        ) => !is_reviewed,
        (
            OnHeld::Replace,
            Disposition::Held { .. },
            Decision::New(Disposition::Held { .. }) | Decision::Same | Decision::Conflict | Decision::SuspectedReplay,
        )
        | (OnHeld::Replace, Disposition::Accepted | Disposition::Superseded { .. }, _)
        | (OnHeld::Review, _, _) => false,
    }
}

/// The jobs of an event: one for each of `routes` that takes it.
pub fn jobs<'r>(
    event: &Event,
    receipt: ReceiptId,
    scope: Scope,
    routes: &mut dyn Iterator<Item = (&'r RouteName, &'r RouteMatch)>,
) -> Vec<JobSpec> {
    routed(event, receipt, scope, routes).0
}

/// The jobs of an event, and the routes whose filters alone keep it from having one there. Its body is read once at most.
fn routed<'r>(
    event: &Event,
    receipt: ReceiptId,
    scope: Scope,
    routes: &mut dyn Iterator<Item = (&'r RouteName, &'r RouteMatch)>,
) -> (Vec<JobSpec>, Vec<RouteName>) {
    let mut content = Content::of(event);
    let (mut jobs, mut filtered) = (Vec::new(), Vec::new());
    for (route, matches) in routes {
        match matches.takes(&mut content) {
            Takes::Yes => jobs.push(JobSpec {
                route: route.clone(),
                lane: lane(
                    &event.tenant,
                    route,
                    scope.source(event),
                    event.subject.as_ref(),
                    receipt,
                ),
                late: matches.late,
            }),
            Takes::Filtered => filtered.push(route.clone()),
            Takes::NotMeant => {}
        }
    }
    (jobs, filtered)
}

/// A job that a route gives to an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSpec {
    /// The route that the job is made for.
    pub route: RouteName,
    /// The job's lane, as [`lane`] numbers it.
    pub lane: i64,
    /// What the route says of it if the event came late.
    pub late: Late,
}

/// A job as it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// What the route gives to the event.
    pub spec: JobSpec,
    /// Why it waits for a person from its beginning, if it does.
    pub held: Option<String>,
}

/// Jobs that are made whatever their routes say of late events.
pub fn on_time(jobs: Vec<JobSpec>) -> Vec<NewJob> {
    jobs.into_iter().map(|spec| NewJob { spec, held: None }).collect()
}

/// The jobs of an event that came late: those that its routes and its lifecycle let run, and those that they hold. A status that was
/// seen before runs again, as one that repeats itself does; operation keys see to it that nothing happens twice.
pub fn made_late(
    jobs: &[JobSpec],
    lifecycle: Option<&Lifecycle>,
    status: Option<&Status>,
    current: &Status,
) -> Vec<NewJob> {
    let lateness = lifecycle
        .zip(status)
        .and_then(|(lifecycle, status)| lifecycle.lateness(current, status))
        // The lifecycle no longer knows one of the two: that is no reason to let the job run.
        .unwrap_or(Lateness::Overtaken);
    let made = jobs.iter().filter_map(|job| {
        let held = match job.late.job(lateness) {
            LateJob::Runs => None,
            LateJob::Held => Some(format!("it came late: its subject was already `{current}`")),
            LateJob::None => return None,
        };
        Some(NewJob {
            spec: job.clone(),
            held,
        })
    });
    made.collect()
}

/// What the store found under the receipt's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Existing {
    /// The receipt is named by the event's id.
    ById {
        /// Of the body that the receipt keeps.
        body_commitment: Digest,
    },
    /// The receipt is named by the signed message, which was received before under this id and type.
    ByMessage {
        /// The id under which the message came first.
        id: EventId,
        /// The type under which the message came first.
        event_type: EventType,
    },
}

/// The four answers of deduplication (promise I6).
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// The first time: a receipt with this disposition.
    New(Disposition),
    /// A redelivery: the same id and the same bytes, or the same signed message under the same id and type. One more delivery row, no
    /// second effect.
    Same,
    /// The provider's own id with other bytes. Kept as a delivery row with its body, flagged, never merged.
    Conflict,
    /// The same signed message under another id or type: what anybody can make out of one captured request. One more delivery row, flagged,
    /// no second effect.
    SuspectedReplay,
}

/// What becomes of a new receipt. Appended once, never overwritten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "disposition", rename_all = "snake_case")]
pub enum Disposition {
    /// Its jobs are made.
    Accepted,
    /// It came late: a later status of the subject is already known. Its subject stays where it is; it has jobs only where its route or
    /// its lifecycle says that what is late is due.
    Superseded {
        /// The status that the subject has.
        current: Status,
    },
    /// Waits for a person; no jobs.
    Held {
        /// Why, for the person who decides.
        reason: String,
    },
}

/// Decides an admission from what the commit's transaction found.
///
/// `subject_status` is the status that the subject has now, when the event's family has a lifecycle.
pub fn decide(admission: &Admission, existing: Option<Existing>, subject_status: Option<&Status>) -> Decision {
    match existing {
        Some(Existing::ById { body_commitment }) if body_commitment == admission.body_commitment => Decision::Same,
        Some(Existing::ById { .. }) => Decision::Conflict,
        Some(Existing::ByMessage { id, event_type })
            if id == admission.event.id && event_type == admission.event.event_type =>
        {
            Decision::Same
        }
        Some(Existing::ByMessage { .. }) => Decision::SuspectedReplay,
        None => Decision::New(disposition(admission, subject_status)),
    }
}

fn disposition(admission: &Admission, subject_status: Option<&Status>) -> Disposition {
    // Where no route takes it, nothing would run, and nobody has to look at it.
    if let Some(reason) = admission.hold.as_ref().filter(|_| !admission.jobs.is_empty()) {
        return Disposition::Held { reason: reason.clone() };
    }
    let (family, status) = match &admission.event.reading {
        StatusReading::Stateless => return Disposition::Accepted,
        StatusReading::Unmapped {
            family,
            label: Some(label),
        } => {
            return Disposition::Held {
                reason: format!("status `{label}` is not mapped into the lifecycle `{family}`"),
            };
        }
        StatusReading::Unmapped { family, label: None } => {
            return Disposition::Held {
                reason: format!("no status found, but the lifecycle `{family}` needs one"),
            };
        }
        StatusReading::Mapped { family, status } => (family, status),
    };
    if admission.event.subject.is_none() {
        return Disposition::Held {
            reason: format!("no subject found, but the lifecycle `{family}` needs one"),
        };
    }
    let Some(lifecycle) = &admission.lifecycle else {
        return Disposition::Held {
            reason: format!("no lifecycle is declared for the family `{family}`"),
        };
    };
    match lifecycle.transition(subject_status, status) {
        Transition::Apply => Disposition::Accepted,
        Transition::Superseded { current } => Disposition::Superseded { current },
        Transition::Contradicts { current } => Disposition::Held {
            reason: format!("`{status}` can neither follow nor precede `{current}` in the lifecycle `{family}`"),
        },
        Transition::Unknown { status } => Disposition::Held {
            reason: format!("the lifecycle `{family}` has no status `{status}`"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipt_ids_keep_parts_apart() {
        let key = Secret::new([1; 32]);
        let id = |tenant: &str, source: &str, event: &str| {
            receipt_id(
                &key,
                &tenant.parse().unwrap(),
                &source.parse().unwrap(),
                &event.parse().unwrap(),
            )
        };
        assert_eq!(id("a", "bc", "d"), id("a", "bc", "d"));
        assert_ne!(id("a", "bc", "d"), id("ab", "c", "d"));
        assert_ne!(id("a", "b", "cd"), id("a", "bc", "d"));
        let other = receipt_id(
            &Secret::new([2; 32]),
            &"a".parse().unwrap(),
            &"bc".parse().unwrap(),
            &"d".parse().unwrap(),
        );
        assert_ne!(id("a", "bc", "d"), other);
    }

    #[test]
    fn a_conflict_on_its_own_has_an_id_of_its_own_and_its_bytes_name_it() {
        let id: EventId = "evt_1".parse().unwrap();
        let own = own_id(&id, &Digest::of(b"other"));
        assert_eq!(
            own.as_str(),
            format!("evt_1~{}", &Digest::of(b"other").to_string()[7..23])
        );
        assert_eq!(own, own_id(&id, &Digest::of(b"other")));
        assert_ne!(own, own_id(&id, &Digest::of(b"third")));
        let long: EventId = "ü".repeat(127).parse().unwrap();
        let own = own_id(&long, &Digest::of(b"other"));
        assert!(
            own.as_str().len() <= EventId::BYTES_MAX && own.as_str().contains('~'),
            "{own}"
        );
    }

    #[test]
    fn keeping_is_bounded_by_count_and_by_bytes_and_the_first_conflict_is_kept_whatever_its_size() {
        let kept = |same, conflicts, conflict_bytes| Kept {
            same,
            conflicts,
            conflict_bytes,
        };
        assert!(kept(15, 0, 0).keeps_same());
        assert!(!kept(16, 0, 0).keeps_same());
        assert!(kept(99, 0, 0).keeps_conflict(u64::MAX));
        assert!(kept(0, 15, 100).keeps_conflict(100));
        assert!(!kept(0, 16, 100).keeps_conflict(100));
        assert!(!kept(0, 1, limits::CONFLICT_BYTES_KEPT_MAX).keeps_conflict(1));
        assert!(!kept(0, 1, 1).keeps_conflict(u64::MAX));
    }

    #[test]
    fn another_form_replaces_by_itself_only_what_is_held_and_only_where_the_source_says_so() {
        let held = Disposition::Held { reason: "x".into() };
        let new = |disposition: &Disposition| Decision::New(disposition.clone());
        let accepted = new(&Disposition::Accepted);
        assert!(replaces(OnHeld::Replace, &held, false, &accepted));
        for (on_held, existing, is_reviewed, own) in [
            (OnHeld::Review, &held, false, &accepted),
            (OnHeld::Replace, &held, true, &accepted),
            (OnHeld::Replace, &Disposition::Accepted, false, &accepted),
            (OnHeld::Replace, &held, false, &new(&held)),
            (OnHeld::Replace, &held, false, &Decision::Same),
        ] {
            assert!(
                !replaces(on_held, existing, is_reviewed, own),
                "{on_held:?} {existing:?} {own:?}"
            );
        }
    }

    #[test]
    fn late_is_not_never_each_route_says_what_becomes_of_what_came_late() {
        let shipped = crate::lifecycle::shipped();
        let order = &shipped["order"];
        let jobs: Vec<JobSpec> = [
            ("declared", Late::AsDeclared),
            ("run", Late::Run),
            ("skip", Late::Skip),
            ("hold", Late::Hold),
        ]
        .map(|(route, late)| JobSpec {
            route: route.parse().unwrap(),
            lane: 0,
            late,
        })
        .to_vec();
        let made = |status: &str, current: &str| {
            let (status, current) = (status.parse().unwrap(), current.parse().unwrap());
            made_late(&jobs, Some(order), Some(&status), &current)
                .iter()
                .map(|job| format!("{}{}", job.spec.route, if job.held.is_some() { ":held" } else { "" }))
                .collect::<Vec<_>>()
        };
        assert_eq!(made("paid", "fulfilled"), ["declared", "run", "hold:held"]);
        assert_eq!(made("paid", "refunded"), ["declared:held", "run", "hold:held"]);
        assert_eq!(made("pending", "paid"), ["run", "hold:held"]);
        assert_eq!(made("of-another-day", "paid"), ["run", "hold:held"]);
        let held = made_late(
            &jobs[3..],
            Some(order),
            Some(&"paid".parse().unwrap()),
            &"fulfilled".parse().unwrap(),
        );
        assert_eq!(
            held[0].held.as_deref(),
            Some("it came late: its subject was already `fulfilled`")
        );
        assert!(on_time(jobs.clone()).iter().all(|job| job.held.is_none()));
    }

    #[test]
    fn a_subject_has_one_lane_per_route_and_events_without_one_do_not_wait() {
        let (tenant, route) = ("acme".parse().unwrap(), "cashback".parse().unwrap());
        let subject: Subject = "r_1".parse().unwrap();
        let (shop, partner) = ("shop".parse().unwrap(), "partner".parse().unwrap());
        let of_source = |source: Option<&SourceName>, subject: Option<&Subject>, receipt| {
            lane(&tenant, &route, source, subject, ReceiptId([receipt; 16]))
        };
        let lane_of = |subject, receipt| of_source(Some(&shop), subject, receipt);
        assert_ne!(lane_of(Some(&subject), 1), of_source(Some(&partner), Some(&subject), 1));
        assert_ne!(lane_of(Some(&subject), 1), of_source(None, Some(&subject), 1));
        assert_eq!(lane_of(Some(&subject), 1), lane_of(Some(&subject), 2));
        assert_ne!(lane_of(None, 1), lane_of(None, 2));
    }
}
