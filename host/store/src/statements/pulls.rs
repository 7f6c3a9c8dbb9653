//! Pulled destinations (promise P9): their owners lease entries, and say what became of them.
//!
//! An entry goes the way of one that is pushed: the same states, attempts, dead letters, order and pauses. What differs is who holds the
//! lease. It is not a host's, so it outlives the host, and a lease that runs out is an attempt that failed: it is recorded when somebody
//! pulls again, and its entry is tried again by the rules of retries.

use tollgate_core::delivery::{AttemptEnd, entry_end};
use tollgate_core::ids::{OutboxId, TenantName};
use tollgate_core::outbox::PullLease;
use tollgate_core::time::UnixMillis;
use tollgate_core::work::EntryState;

use super::fault::Fault;
use super::outbox::{self, DueEntry};
use super::pauses::Paused;
use super::rows::{id, millis_opt};
use super::transaction::Transaction;
use crate::sql::{Connection, params};
use crate::{AttemptRecord, AttemptRecorded, OutboxClaims, PullEnd, PullEnded, PullRequest};

/// How often one pull looks for what is due: entries whose leases ran out are put off, and others may be behind them.
const LOOKS_MAX: usize = 4;

/// Leases what is due of a destination, the oldest first.
pub(crate) fn pull(transaction: &mut Transaction<'_>, request: &PullRequest) -> Result<OutboxClaims, Fault> {
    let connection = transaction.connection;
    let paused = Paused::read(connection)?;
    let open = request
        .destinations
        .iter()
        .filter(|name| !paused.has_destination(request.tenant.as_str(), name.as_str()));
    let (mut claims, mut next_due) = (Vec::new(), None);
    for name in open {
        let party = (request.tenant.to_string(), name.to_string());
        for _ in 0..LOOKS_MAX {
            let left = request.claim.rows_max - claims.len();
            let due = outbox::due(transaction, &party, request.claim.now, left)?;
            let found = due.len();
            for DueEntry { entry, state, .. } in due {
                match state {
                    EntryState::Leased => lease_ran_out(transaction, request, OutboxId(entry))?,
                    state => {
                        claims.push(outbox::lease(transaction, &request.claim, entry, state)?);
                        connection
                            .prepare_cached("UPDATE outbox SET pulled_at = ?2 WHERE id = ?1")?
                            .execute(params![entry, request.claim.now.0])?;
                    }
                }
            }
            if claims.len() == request.claim.rows_max || found == 0 {
                break;
            }
        }
        let earliest = outbox::next_due(transaction, &party, request.claim.now)?;
        next_due = next_due.into_iter().chain(earliest).min();
    }
    // Somebody outside is told of it.
    transaction.must_sync |= !claims.is_empty();
    Ok(OutboxClaims { claims, next_due })
}

/// Whoever had the entry said nothing of it: an attempt that failed.
fn lease_ran_out(transaction: &mut Transaction<'_>, request: &PullRequest, entry: OutboxId) -> Result<(), Fault> {
    let found = outbox::find(transaction.connection, entry)?;
    let pulled = pulled(transaction.connection, entry)?;
    let end = AttemptEnd::lease_ran_out();
    let attempt = AttemptRecord {
        entry,
        epoch: found.epoch,
        // Of one that was pushed before its destination was pulled, nobody knows when its attempt began.
        started_at: pulled.at.unwrap_or(request.claim.now),
        duration_us: lasted_us(pulled.at, request.claim.now),
        entry_end: entry_end(&end, &request.policy, found.attempts, request.claim.now, request.jitter),
        end,
        answer: String::new(),
    };
    // It is held under its newest lease, which was read in this transaction.
    let _ = outbox::record_attempt(transaction, &attempt)?;
    Ok(())
}

/// Ends pulled entries, each under its lease. What is none of the destination's, or is held under another lease by now, stays as it is.
pub(crate) fn end(transaction: &mut Transaction<'_>, end: &PullEnd) -> Result<Vec<PullEnded>, Fault> {
    transaction.must_sync = true;
    let one = |lease: &PullLease| end_one(transaction, end, *lease);
    end.leases.iter().map(one).collect()
}

fn end_one(transaction: &mut Transaction<'_>, end: &PullEnd, lease: PullLease) -> Result<PullEnded, Fault> {
    let connection = transaction.connection;
    let found = match outbox::find(connection, lease.entry) {
        Err(Fault::NotFound(_)) => return Ok(PullEnded::Unknown),
        found => found?,
    };
    let pulled = pulled(connection, lease.entry)?;
    let is_theirs = end.destinations.iter().any(|name| *name.as_str() == found.destination);
    if pulled.tenant != end.tenant || !is_theirs {
        return Ok(PullEnded::Unknown);
    }
    if !found.state.is_held_under(found.epoch, lease.epoch) {
        return Ok(PullEnded::Over { state: found.state });
    }
    let attempt = AttemptRecord {
        entry: lease.entry,
        epoch: lease.epoch,
        started_at: pulled.at.unwrap_or(end.now),
        duration_us: lasted_us(pulled.at, end.now),
        entry_end: entry_end(&end.end, &end.policy, found.attempts, end.now, end.jitter),
        end: end.end.clone(),
        answer: String::new(),
    };
    Ok(match outbox::record_attempt(transaction, &attempt)? {
        AttemptRecorded::Recorded => PullEnded::Recorded {
            entry_end: attempt.entry_end,
        },
        AttemptRecorded::LeaseLost => PullEnded::Over { state: found.state },
    })
}

/// Whose an entry is, and since when somebody has it who pulled it.
struct Pulled {
    tenant: TenantName,
    at: Option<UnixMillis>,
}

fn pulled(connection: &Connection, entry: OutboxId) -> Result<Pulled, Fault> {
    let mut statement = connection.prepare_cached("SELECT tenant, pulled_at FROM outbox WHERE id = ?1")?;
    let mut found = statement.query([entry.0])?;
    let row = found.next()?.ok_or_else(|| Fault::NotFound(entry.to_string()))?;
    Ok(Pulled {
        tenant: id(row, "tenant")?,
        at: millis_opt(row, "pulled_at")?,
    })
}

fn lasted_us(from: Option<UnixMillis>, to: UnixMillis) -> u64 {
    let ms = from.map_or(0, |from| to.since(from));
    u64::try_from(ms).unwrap_or(0).saturating_mul(1_000)
}
