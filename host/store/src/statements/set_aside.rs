//! What is set aside: whatever has not the effect that it would have had, found, listed and counted in one place.
//!
//! Each kind stands where it became what it is: held and superseded receipts by their disposition, held jobs by their state,
//! conflicts among the deliveries or, with the ledger, among the actions. A list goes through the kinds in their order, and through each from its newest on.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use tollgate_core::action::Action;
use tollgate_core::admission::Disposition;
use tollgate_core::event::{Event, StatusReading};
use tollgate_core::ids::{ActionId, DeliveryId, JobId, Namespace, RouteName, SourceName, TenantName};
use tollgate_core::limits::COUNTED_MAX;
use tollgate_core::review::Target;
use tollgate_core::time::UnixMillis;

use super::fault::Fault;
use super::receipts::{self, Body, ByOrigin, OfOrigin, Receipt, View, unrouted};
use super::rows::{self, get, id};
use super::{deliveries, reviewed};
use crate::sql::params;
use crate::{SetAside, SetAsideCount, SetAsideFilter, SetAsideKind};

/// Codes of dispositions, as rows have them.
const SUPERSEDED: i64 = 1;
const HELD: i64 = 2;
/// Receipts that are looked at in one step.
const STEP: usize = 256;

/// Lists what is set aside.
pub(crate) fn list(view: View<'_>, filter: &SetAsideFilter) -> Result<Vec<SetAside>, Fault> {
    let mut listing = Listing {
        view,
        filter,
        origins: origins(view, filter)?,
        items: Vec::new(),
    };
    let start = filter.after.map(|target| place(view, target)).transpose()?;
    for kind in SetAsideKind::ALL {
        let wanted = filter.kind.map_or(kind.waits(), |only| only == kind);
        // Only jobs and what they proposed are of a route.
        let has_route = filter.route.is_none() || matches!(kind, SetAsideKind::HeldJob | SetAsideKind::LedgerConflict);
        let before = match start {
            Some((after, _)) if kind < after => continue,
            Some((after, number)) if kind == after => number,
            Some(_) | None => i64::MAX,
        };
        if !wanted || !has_route {
            continue;
        }
        match kind {
            SetAsideKind::HeldReceipt => listing.receipts(kind, HELD, before)?,
            SetAsideKind::Superseded => listing.receipts(kind, SUPERSEDED, before)?,
            SetAsideKind::NoRoute => listing.unrouted(before)?,
            SetAsideKind::HeldJob => listing.jobs(before)?,
            SetAsideKind::Conflict => listing.deliveries(kind, 1, before)?,
            SetAsideKind::SuspectedReplay => listing.deliveries(kind, 2, before)?,
            SetAsideKind::LedgerConflict => listing.ledger_conflicts(before)?,
        }
        if listing.is_full() {
            break;
        }
    }
    Ok(listing.items)
}

/// The numbers of receipts after `after` that came late and that no route took.
pub(crate) fn superseded_without_jobs(view: View<'_>, after: i64) -> Result<Vec<i64>, Fault> {
    let mut all = Vec::new();
    let mut before = i64::MAX;
    loop {
        let seqs = receipts::not_accepted_before(view, SUPERSEDED, false, before, STEP)?;
        let Some((last, _)) = seqs.last().copied() else {
            return Ok(all);
        };
        all.extend(seqs.into_iter().map(|(seq, _)| seq).filter(|seq| *seq > after));
        if last <= after {
            return Ok(all);
        }
        before = last;
    }
}

/// Where in the list something stands.
fn place(view: View<'_>, target: Target) -> Result<(SetAsideKind, i64), Fault> {
    match target {
        Target::Job(job) => Ok((SetAsideKind::HeldJob, job.0)),
        Target::Action(action) => Ok((SetAsideKind::LedgerConflict, action.0)),
        Target::Delivery(delivery) => {
            let mut statement = view.prepare_cached("SELECT conflict FROM deliveries WHERE id = ?1")?;
            let mut found = statement.query([delivery.0])?;
            let row = found.next()?.ok_or_else(|| Fault::NotFound(delivery.to_string()))?;
            let kind = match get::<i64>(row, "conflict")? {
                2 => SetAsideKind::SuspectedReplay,
                _ => SetAsideKind::Conflict,
            };
            Ok((kind, delivery.0))
        }
        Target::Receipt(receipt) => {
            let seq = receipts::find(view, &[receipt])?
                .pop()
                .ok_or_else(|| Fault::NotFound(receipt.to_string()))?;
            let kind = match receipts::get_known(view, seq, Body::Without)?.disposition {
                Disposition::Held { .. } => SetAsideKind::HeldReceipt,
                Disposition::Superseded { .. } => SetAsideKind::Superseded,
                Disposition::Accepted => SetAsideKind::NoRoute,
            };
            Ok((kind, seq))
        }
    }
}

struct Listing<'a> {
    view: View<'a>,
    filter: &'a SetAsideFilter,
    /// Where receipts came in that may be meant, where not all are: what is another tenant's is not even read.
    origins: Option<BTreeSet<i64>>,
    items: Vec<SetAside>,
}

fn origins(view: View<'_>, filter: &SetAsideFilter) -> Result<Option<BTreeSet<i64>>, Fault> {
    if filter.tenant.is_none() && filter.source.is_none() {
        return Ok(None);
    }
    let mut statement = view
        .prepare_cached("SELECT id FROM origins WHERE (?1 IS NULL OR tenant = ?1) AND (?2 IS NULL OR source = ?2)")?;
    let (tenant, source) = (
        filter.tenant.as_ref().map(|tenant| tenant.as_str()),
        filter.source.as_ref().map(|source| source.as_str()),
    );
    let origins = statement
        .query_map(params![tenant, source], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(Some(origins))
}

impl Listing<'_> {
    fn is_full(&self) -> bool {
        self.items.len() >= self.filter.rows_max
    }

    /// Receipts of one disposition.
    fn receipts(&mut self, kind: SetAsideKind, disposition: i64, mut before: i64) -> Result<(), Fault> {
        loop {
            let seqs = receipts::not_accepted_before(self.view, disposition, self.filter.with_reviewed, before, STEP)?;
            let Some((last, _)) = seqs.last().copied() else {
                return Ok(());
            };
            for (seq, origin) in seqs {
                if self.is_full() {
                    return Ok(());
                }
                self.receipt(kind, seq, origin)?;
            }
            before = last;
        }
    }

    fn unrouted(&mut self, before: i64) -> Result<(), Fault> {
        let view = self.view;
        unrouted::each_before(view.connection, before, |seq, origin| {
            if self.is_full() {
                return Ok(false);
            }
            self.receipt(SetAsideKind::NoRoute, seq, origin)?;
            Ok(true)
        })
    }

    fn receipt(&mut self, kind: SetAsideKind, seq: i64, origin: i64) -> Result<(), Fault> {
        if self.origins.as_ref().is_some_and(|only| !only.contains(&origin)) {
            return Ok(());
        }
        let receipt = receipts::get_known(self.view, seq, Body::Without)?;
        let reason = match &receipt.disposition {
            Disposition::Held { reason } if kind == SetAsideKind::HeldReceipt => reason.clone(),
            Disposition::Superseded { current } => format!("the subject was already {current}"),
            Disposition::Accepted | Disposition::Held { .. } => "no route took it".to_owned(),
        };
        let since = receipt.event.received_at;
        if !self.takes(&receipt.event, since, &reason) {
            return Ok(());
        }
        let review = reviewed::view(self.view, seq)?;
        let id = receipt.id.to_string();
        let item = item(kind, id, &receipt, &receipt.event, since, reason);
        self.items.push(SetAside { review, ..item });
        Ok(())
    }

    /// Jobs that their plugins held.
    fn jobs(&mut self, before: i64) -> Result<(), Fault> {
        let states = if self.filter.with_reviewed {
            "state > 3 AND state <> 5"
        } else {
            "state > 3 AND state = 4"
        };
        let mut statement = self.view.prepare_cached(&format!(
            "SELECT id, receipt, route, reason, ended_at FROM jobs WHERE {states} AND id < ?1 \
             AND (?2 IS NULL OR tenant = ?2) AND (?3 IS NULL OR route = ?3) ORDER BY id DESC"
        ))?;
        let mut found = statement.query(params![
            before,
            self.filter.tenant.as_ref().map(|tenant| tenant.as_str()),
            self.filter.route.as_ref().map(|route| route.as_str()),
        ])?;
        while !self.is_full()
            && let Some(row) = found.next()?
        {
            let job = JobId(get(row, "id")?);
            let receipt = receipts::get_known(self.view, get(row, "receipt")?, Body::Without)?;
            let reason = get::<Option<String>>(row, "reason")?.unwrap_or_default();
            let since = rows::millis_opt(row, "ended_at")?.unwrap_or(receipt.event.received_at);
            let event = reviewed::as_reviewed(self.view, &receipt)?;
            if self.takes(&event, since, &reason) {
                let item = item(SetAsideKind::HeldJob, job.to_string(), &receipt, &event, since, reason);
                self.items.push(SetAside {
                    route: Some(id(row, "route")?),
                    review: reviewed::of_job(self.view, job)?,
                    ..item
                });
            }
        }
        Ok(())
    }

    /// Deliveries with such a code in `conflict`.
    fn deliveries(&mut self, kind: SetAsideKind, code: i64, before: i64) -> Result<(), Fault> {
        let open_only = if self.filter.with_reviewed {
            ""
        } else {
            "AND decided = 0"
        };
        let mut statement = self.view.prepare_cached(&format!(
            "SELECT id, receipt, received_at, times, event FROM deliveries \
             WHERE conflict <> 0 {open_only} AND conflict = ?1 AND id < ?2 ORDER BY id DESC"
        ))?;
        let mut found = statement.query(params![code, before])?;
        while !self.is_full()
            && let Some(row) = found.next()?
        {
            let delivery = DeliveryId(get(row, "id")?);
            let receipt = receipts::get_known(self.view, get(row, "receipt")?, Body::Without)?;
            let event = match get::<Option<String>>(row, "event")? {
                Some(_) => deliveries::event(row)?,
                // Of an older schema: what the receipt says.
                None => Event::clone(&receipt.event),
            };
            let since = rows::millis(row, "received_at")?;
            let (what, other) = match kind {
                SetAsideKind::SuspectedReplay => ("the signed message of", "another id or type"),
                _ => ("the id of", "other bytes"),
            };
            let times = match get::<i64>(row, "times")? {
                1 => String::new(),
                times => format!(", {times} times"),
            };
            let reason = format!("it has {what} {} and {other}{times}", receipt.id);
            if self.takes(&event, since, &reason) {
                let item = item(kind, delivery.to_string(), &receipt, &event, since, reason);
                self.items.push(SetAside {
                    review: reviewed::of_delivery(self.view, delivery)?,
                    ..item
                });
            }
        }
        Ok(())
    }

    /// Proposals whose operation is recorded with other content.
    fn ledger_conflicts(&mut self, before: i64) -> Result<(), Fault> {
        let open_only = if self.filter.with_reviewed {
            ""
        } else {
            "AND NOT EXISTS (SELECT 1 FROM work_reviews w WHERE w.action = a.id)"
        };
        let mut statement = self.view.prepare_cached(&format!(
            "SELECT a.id, a.receipt, a.recorded_at, a.namespace, a.operation_key, a.json, j.route, s.id AS standing, \
             s.json AS recorded, (SELECT count(*) FROM repeats p WHERE p.action = a.id) AS again \
             FROM actions a JOIN runs r ON r.id = a.run JOIN jobs j ON j.id = r.job \
             JOIN actions s ON s.operation_key = a.operation_key AND s.tenant = a.tenant AND s.namespace = a.namespace \
             AND s.kind = a.kind AND s.conflict = 0 \
             WHERE a.conflict = 1 AND a.id < ?1 {open_only} AND (?2 IS NULL OR a.tenant = ?2) \
             AND (?3 IS NULL OR j.route = ?3) ORDER BY a.id DESC"
        ))?;
        let mut found = statement.query(params![
            before,
            self.filter.tenant.as_ref().map(|tenant| tenant.as_str()),
            self.filter.route.as_ref().map(|route| route.as_str()),
        ])?;
        while !self.is_full()
            && let Some(row) = found.next()?
        {
            let action = ActionId(get(row, "id")?);
            let receipt = receipts::get_known(self.view, get(row, "receipt")?, Body::Without)?;
            let (proposed, recorded): (Action, Action) = (rows::json(row, "json")?, rows::json(row, "recorded")?);
            let again = match get::<i64>(row, "again")? {
                0 => String::new(),
                more => format!(", proposed {} times", more + 1),
            };
            let reason = format!(
                "{} is recorded as {}/{}: {recorded}; this is: {proposed}{again}",
                ActionId(get(row, "standing")?),
                id::<Namespace>(row, "namespace")?,
                get::<String>(row, "operation_key")?,
            );
            let since = rows::millis(row, "recorded_at")?;
            let event = reviewed::as_reviewed(self.view, &receipt)?;
            if self.takes(&event, since, &reason) {
                let item = item(
                    SetAsideKind::LedgerConflict,
                    action.to_string(),
                    &receipt,
                    &event,
                    since,
                    reason,
                );
                self.items.push(SetAside {
                    route: Some(id(row, "route")?),
                    review: reviewed::of_action(self.view, action)?,
                    ..item
                });
            }
        }
        Ok(())
    }

    fn takes(&self, event: &Event, since: UnixMillis, reason: &str) -> bool {
        let filter = self.filter;
        filter.tenant.as_ref().is_none_or(|only| *only == event.tenant)
            && filter.source.as_ref().is_none_or(|only| *only == event.source)
            && filter.since.is_none_or(|instant| since >= instant)
            && filter.reason.as_ref().is_none_or(|part| reason.contains(part))
    }
}

fn item(
    kind: SetAsideKind,
    id: String,
    receipt: &Receipt,
    event: &Event,
    since: UnixMillis,
    reason: String,
) -> SetAside {
    SetAside {
        kind,
        id,
        receipt: receipt.id,
        tenant: event.tenant.clone(),
        source: event.source.clone(),
        route: None,
        event_id: event.id.to_string(),
        event_type: event.event_type.to_string(),
        subject: event.subject.as_ref().map(ToString::to_string),
        family: event.reading.family().map(ToString::to_string),
        status: match &event.reading {
            StatusReading::Mapped { status, .. } => Some(status.to_string()),
            StatusReading::Unmapped { label, .. } => label.clone(),
            StatusReading::Stateless => None,
        },
        received_at: event.received_at.to_string(),
        since: since.to_string(),
        reason,
        review: None,
    }
}

/// How much is set aside, by kind and place. What may be set aside without end (what came late, what no route took, and conflicts with the ledger) is
/// counted among the newest [`COUNTED_MAX`] of all places, the rest as far at each place.
pub(crate) fn counts(view: View<'_>, tenant: Option<&TenantName>) -> Result<Vec<SetAsideCount>, Fault> {
    let mut tally = Tally {
        view,
        tenant,
        found: BTreeMap::new(),
    };
    tally.receipts(SetAsideKind::HeldReceipt, receipts::not_accepted_by_origin(view, HELD)?)?;
    tally.receipts(
        SetAsideKind::Superseded,
        receipts::not_accepted_by_origin(view, SUPERSEDED)?,
    )?;
    tally.receipts(SetAsideKind::NoRoute, unrouted_by_origin(view)?)?;
    tally.deliveries()?;
    tally.jobs()?;
    tally.ledger_conflicts()?;
    Ok(tally
        .found
        .into_iter()
        .map(|(place, counted)| SetAsideCount {
            kind: place.kind,
            tenant: place.tenant,
            source: place.source,
            route: place.route,
            count: counted.count,
            at_least: counted.at_least,
            oldest_at: counted.oldest_at,
        })
        .collect())
}

fn unrouted_by_origin(view: View<'_>) -> Result<ByOrigin, Fault> {
    let mut by_origin = ByOrigin::default();
    let mut left = COUNTED_MAX;
    unrouted::each_before(view.connection, i64::MAX, |seq, origin| {
        let of = by_origin
            .origins
            .entry(origin)
            .or_insert(OfOrigin { count: 0, oldest: seq });
        of.count += 1;
        of.oldest = of.oldest.min(seq);
        left -= 1;
        by_origin.looked_back_to = (left == 0).then_some(seq);
        Ok(left > 0)
    })?;
    Ok(by_origin)
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    tenant: TenantName,
    kind: SetAsideKind,
    source: Option<SourceName>,
    route: Option<RouteName>,
}

struct Counted {
    count: u64,
    at_least: bool,
    oldest_at: UnixMillis,
}

struct Tally<'a> {
    view: View<'a>,
    tenant: Option<&'a TenantName>,
    found: BTreeMap<Place, Counted>,
}

impl Tally<'_> {
    fn add(&mut self, place: Place, more: Counted) {
        if self.tenant.is_some_and(|only| *only != place.tenant) {
            return;
        }
        match self.found.entry(place) {
            Entry::Vacant(entry) => {
                entry.insert(more);
            }
            Entry::Occupied(mut entry) => {
                let counted = entry.get_mut();
                counted.count += more.count;
                counted.at_least |= more.at_least;
                counted.oldest_at = counted.oldest_at.min(more.oldest_at);
            }
        }
    }

    /// Receipts. An origin that no longer exists would be damage; the receipt itself says where it came in. Where not all were looked at, every source
    /// is listed, with 0 as well: there may be older ones.
    fn receipts(&mut self, kind: SetAsideKind, by_origin: ByOrigin) -> Result<(), Fault> {
        for of in by_origin.origins.values() {
            let oldest = receipts::get_known(self.view, of.oldest, Body::Without)?;
            let counted = Counted {
                count: of.count,
                at_least: by_origin.looked_back_to.is_some(),
                oldest_at: oldest.event.received_at,
            };
            self.add(of_source(kind, &oldest.event.tenant, &oldest.event.source), counted);
        }
        let Some(looked_back_to) = by_origin.looked_back_to else {
            return Ok(());
        };
        let view = self.view;
        let receipt = receipts::get_known(view, looked_back_to, Body::Without)?;
        let mut statement = view.prepare_cached("SELECT id, tenant, source FROM origins")?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            if by_origin.origins.contains_key(&get(row, "id")?) {
                continue;
            }
            let counted = Counted {
                count: 0,
                at_least: true,
                oldest_at: receipt.event.received_at,
            };
            self.add(of_source(kind, &id(row, "tenant")?, &id(row, "source")?), counted);
        }
        Ok(())
    }

    /// Conflicts, the oldest of each origin first.
    fn deliveries(&mut self) -> Result<(), Fault> {
        let view = self.view;
        let mut origins = view.prepare_cached(
            "SELECT id, tenant, source FROM origins o WHERE EXISTS \
             (SELECT 1 FROM deliveries d WHERE d.conflict <> 0 AND d.decided = 0 AND d.origin = o.id)",
        )?;
        let mut by_conflict = view.prepare_cached(
            "SELECT conflict, count(*) AS count, min(received_at) AS oldest FROM \
             (SELECT conflict, received_at FROM deliveries WHERE conflict <> 0 AND decided = 0 AND origin = ?1 \
             ORDER BY received_at LIMIT ?2) AS counted GROUP BY conflict",
        )?;
        let mut origins = origins.query([])?;
        while let Some(origin) = origins.next()? {
            let (tenant, source): (TenantName, SourceName) = (id(origin, "tenant")?, id(origin, "source")?);
            let mut found = by_conflict.query(params![get::<i64>(origin, "id")?, rows::signed(COUNTED_MAX)])?;
            let mut kinds = Vec::new();
            while let Some(row) = found.next()? {
                let kind = match get::<i64>(row, "conflict")? {
                    2 => SetAsideKind::SuspectedReplay,
                    _ => SetAsideKind::Conflict,
                };
                kinds.push((kind, rows::unsigned(row, "count")?, rows::millis(row, "oldest")?));
            }
            let at_least = kinds.iter().map(|(_, count, _)| count).sum::<u64>() >= COUNTED_MAX;
            for (kind, count, oldest_at) in kinds {
                let counted = Counted {
                    count,
                    at_least,
                    oldest_at,
                };
                self.add(of_source(kind, &tenant, &source), counted);
            }
        }
        Ok(())
    }

    fn jobs(&mut self) -> Result<(), Fault> {
        // The index has them by tenant, route and end.
        self.by_route(
            SetAsideKind::HeldJob,
            "WITH RECURSIVE t (tenant) AS (SELECT min(tenant) FROM jobs WHERE state > 3 AND state = 4 UNION ALL \
             SELECT (SELECT min(tenant) FROM jobs WHERE state > 3 AND state = 4 AND tenant > t.tenant) FROM t WHERE t.tenant IS NOT NULL), \
             p (tenant, route) AS (\
             SELECT tenant, (SELECT min(route) FROM jobs WHERE state > 3 AND state = 4 AND tenant = t.tenant) FROM t \
             WHERE t.tenant IS NOT NULL UNION ALL \
             SELECT tenant, (SELECT min(route) FROM jobs WHERE state > 3 AND state = 4 AND tenant = p.tenant AND route > p.route) \
             FROM p WHERE p.route IS NOT NULL) \
             SELECT tenant, route, (SELECT count(*) FROM (SELECT 1 FROM jobs WHERE state > 3 AND state = 4 AND tenant = p.tenant \
             AND route = p.route LIMIT ?1) AS counted) AS count, (SELECT coalesce(min(ended_at), 0) FROM jobs WHERE state > 3 \
             AND state = 4 AND tenant = p.tenant AND route = p.route) AS oldest FROM p WHERE route IS NOT NULL AND (?2 = '' OR tenant = ?2)",
        )
    }

    fn ledger_conflicts(&mut self) -> Result<(), Fault> {
        self.by_route(
            SetAsideKind::LedgerConflict,
            "SELECT a.tenant, j.route, count(*) AS count, min(a.recorded_at) AS oldest FROM (\
             SELECT id, run, tenant, recorded_at FROM actions WHERE conflict = 1 AND (?2 = '' OR tenant = ?2) \
             AND NOT EXISTS (SELECT 1 FROM work_reviews w WHERE w.action = actions.id) ORDER BY id DESC LIMIT ?1) AS a \
             JOIN runs r ON r.id = a.run JOIN jobs j ON j.id = r.job GROUP BY a.tenant, j.route",
        )
    }

    /// Adds what a question answers by tenant and route: `count`, and the instant of the `oldest`. It is asked with the most that it counts, and with the
    /// only tenant or nothing.
    fn by_route(&mut self, kind: SetAsideKind, sql: &str) -> Result<(), Fault> {
        let view = self.view;
        let mut statement = view.prepare_cached(sql)?;
        let only = self.tenant.map_or("", TenantName::as_str);
        let mut found = statement.query(params![rows::signed(COUNTED_MAX), only])?;
        let mut all = Vec::new();
        while let Some(row) = found.next()? {
            let place = Place {
                tenant: id(row, "tenant")?,
                kind,
                source: None,
                route: Some(id(row, "route")?),
            };
            all.push((place, rows::unsigned(row, "count")?, rows::millis(row, "oldest")?));
        }
        // One that alone is as many, or all together.
        let at_least = all.iter().map(|(_, count, _)| count).sum::<u64>() >= COUNTED_MAX;
        for (place, count, oldest_at) in all {
            let counted = Counted {
                count,
                at_least: at_least && (kind == SetAsideKind::LedgerConflict || count >= COUNTED_MAX),
                oldest_at,
            };
            self.add(place, counted);
        }
        Ok(())
    }
}

fn of_source(kind: SetAsideKind, tenant: &TenantName, source: &SourceName) -> Place {
    Place {
        tenant: tenant.clone(),
        kind,
        source: Some(source.clone()),
        route: None,
    }
}
