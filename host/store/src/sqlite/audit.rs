//! Whether what is there is whole.
//!
//! An audit reads a file that anything may have been done to. It must end and must not panic, whatever it finds, and it looks at
//! one receipt at a time, however many there are. It asks no cache and no writer: it believes the file alone.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tollgate_core::chain;
use tollgate_core::checkpoint::{Checkpoint, Mark, StoreId};
use tollgate_core::ids::{Digest, TenantName};
use tollgate_core::secret::Secret;

use super::fault::Fault;
use super::files::{self, StorePath};
use super::head::{ChainHead, read_chain_head};
use super::open;
use super::receipts::{self, Layout, Receipt, Ways, Whole};
use super::recovery;
use super::relations;
use crate::StoreError;
use crate::audit::{AuditProgress, AuditReport, Broken, BrokenWhat, CheckpointFound, TenantFound};
use crate::log::{self, Contents, Scan};
use crate::sql::Connection;

/// Problems of the file that SQLite names before it gives up.
const PAGE_PROBLEMS_MAX: u32 = 20;
/// Receipts, or records, between two words about how far it is.
const RECORDS_PER_WORD: u64 = 512;
const RECEIPTS_PER_WORD: u64 = 512;

/// Audits a store's files, beside a process that may be writing them. What is damaged is part of the answer.
pub(super) fn audit(
    path: &Path,
    checkpoints: &[Checkpoint],
    watch: &mut dyn FnMut(AuditProgress),
) -> Result<AuditReport, StoreError> {
    let path = StorePath::new(path)?;
    let unreadable = |fault: Fault| -> Result<AuditReport, StoreError> {
        if !fault.is_damage() {
            return Err(path.opening(fault));
        }
        let mut report = nothing(checkpoints);
        report.problems.push(format!("database: {}", fault.detail()));
        Ok(report)
    };
    let connection = match open::open_reader(&path) {
        Err(StoreError::Corrupt { detail, .. }) => return unreadable(Fault::Damaged(detail)),
        opened => opened?,
    };
    match open::check_schema(&path, &connection) {
        Err(StoreError::Corrupt { detail, .. }) => return unreadable(Fault::Damaged(detail)),
        checked => checked?,
    }
    // One snapshot: a host may go on writing.
    if let Err(error) = connection.execute_batch("BEGIN") {
        return unreadable(error.into());
    }
    let layout = match Layout::read(&connection) {
        Ok(layout) => layout,
        Err(fault) => return unreadable(fault),
    };
    // A host that runs is ahead of any snapshot, and one that died may be.
    let is_closed = !path.was_left_open() && !files::is_in_use(&path);
    // A store that a guest or a copy made, and that no host has opened, has no log: all that it has is in the database.
    let is_begun = path.key().exists()
        || recovery::read_applied(&connection).is_ok_and(|applied| applied != log::Applied::NOTHING);
    let key = match is_begun {
        true => open::receipt_key(&path),
        false => open::key_of_index(&path, &connection),
    };
    let whole = receipts::of_readers(layout, &Arc::new(Contents::new(path.log())));
    let mut report = examine(&connection, &*whole, key.as_ref().ok(), checkpoints, watch);
    let of_log = match key {
        Ok(_) if !is_begun => Ok(()),
        Ok(key) => check_log(&connection, &log::Place::new(path.log(), &key), is_closed, watch),
        Err(error) => Err(Fault::Damaged(error.to_string())),
    };
    report.problems.extend(of_log.err().map(|fault| fault.detail()));
    Ok(report)
}

/// Reads the whole log: every record's seal, and that the index was made from it; of a store that was closed, from all of it.
fn check_log(
    connection: &Connection,
    place: &log::Place,
    is_closed: bool,
    watch: &mut dyn FnMut(AuditProgress),
) -> Result<(), Fault> {
    let applied = recovery::read_applied(connection)?;
    let mut scan = Scan::new(place, log::Applied::NOTHING, Vec::new())?;
    let (mut leads_to_index, mut records) = (applied == log::Applied::NOTHING, 0_u64);
    while scan.next()?.is_some() {
        leads_to_index |= scan.applied() == applied;
        records += 1;
        if records.is_multiple_of(RECORDS_PER_WORD) {
            let (done, of) = (scan.mark().position, applied.end.position);
            watch(AuditProgress::Log { done, of });
        }
    }
    let end = scan.applied().end.position;
    if leads_to_index && is_closed && end > applied.end.position {
        return Err(Fault::damaged(
            "log",
            format_args!(
                "the index is older than the log, which goes on from {} to {end}: start a host, or make it anew with `tollgate store rebuild`",
                applied.end.position
            ),
        ));
    }
    if leads_to_index {
        return Ok(());
    }
    Err(Fault::damaged(
        "log",
        format_args!(
            "its records can be believed up to {}, and do not lead to {}, up to where the index was made from them",
            scan.mark().position,
            applied.end.position
        ),
    ))
}

fn nothing(checkpoints: &[Checkpoint]) -> AuditReport {
    AuditReport {
        store: None,
        whole: Mark::NONE,
        first_broken: None,
        after: Default::default(),
        tenants: BTreeMap::new(),
        problems: Vec::new(),
        checkpoints: vec![CheckpointFound::default(); checkpoints.len()],
    }
}

/// Reads everything: the pages' own integrity, then every receipt, its body and its link, then what leads from row to row.
fn examine(
    connection: &Connection,
    whole: &dyn Whole,
    key: Option<&Secret>,
    checkpoints: &[Checkpoint],
    watch: &mut dyn FnMut(AuditProgress),
) -> AuditReport {
    watch(AuditProgress::Pages);
    let mut report = nothing(checkpoints);
    report.store = key.map(StoreId::of);
    report.problems = check_pages(connection);
    let pages_hold = report.problems.is_empty();
    let mut walk = match Walk::new(connection, whole, key, checkpoints, report, pages_hold) {
        Ok(walk) => walk,
        Err((mut report, fault)) => {
            report
                .problems
                .push(format!("the chain's head cannot be read: {}", fault.detail()));
            return *report;
        }
    };
    walk.through(connection, whole, watch);
    let (mut report, pins, ways) = (walk.report, walk.pins, walk.ways);
    pins.judge(&mut report);
    // Of damaged pages nobody knows what they lead to, and they may lead in circles.
    if pages_hold && report.first_broken.is_none() {
        watch(AuditProgress::Relations);
        let found = ways
            .map_or(Ok(Vec::new()), |ways| ways.problems(connection))
            .and_then(|mut problems| {
                problems.extend(relations::problems(connection, key, walk.head.seq)?);
                Ok(problems)
            });
        match found {
            Ok(problems) => report.problems.extend(problems),
            Err(fault) => report.problems.push(format!("database: {}", fault.detail())),
        }
    }
    report
}

fn check_pages(connection: &Connection) -> Vec<String> {
    let check = || -> Result<Vec<String>, Fault> {
        let mut statement = connection.prepare_cached(&format!("PRAGMA integrity_check({PAGE_PROBLEMS_MAX})"))?;
        let lines = statement
            .query_map([], |row| row.get::<_, String>(0))?
            .collect::<Result<Vec<_>, _>>()?;
        Ok(lines)
    };
    match check() {
        Ok(lines) => lines
            .into_iter()
            .filter(|line| line != "ok")
            .map(|line| format!("database: {line}"))
            .collect(),
        Err(fault) => vec![format!("database: {}", fault.detail())],
    }
}

/// The way along all receipts: recomputes every link from what is kept.
struct Walk<'a> {
    report: AuditReport,
    /// Without it nothing is known of bodies; its absence is a problem of its own.
    key: Option<&'a Secret>,
    head: ChainHead,
    /// The newest receipt that was looked at, and its link as the row has it.
    last: ChainHead,
    /// The link that the last receipt should have, where its row has another.
    due: Option<Digest>,
    /// The link before the first broken row.
    before_broken: Digest,
    pins: Pins<'a>,
    /// None when pages are damaged.
    ways: Option<Ways>,
    read: u64,
}

impl<'a> Walk<'a> {
    fn new(
        connection: &Connection,
        whole: &dyn Whole,
        key: Option<&'a Secret>,
        checkpoints: &'a [Checkpoint],
        report: AuditReport,
        with_ways: bool,
    ) -> Result<Self, (Box<AuditReport>, Fault)> {
        let begin = || -> Result<_, Fault> {
            Ok((
                read_chain_head(connection)?,
                if with_ways { whole.ways(connection)? } else { None },
            ))
        };
        let (head, ways) = match begin() {
            Ok(begun) => begun,
            Err(fault) => return Err((Box::new(report), fault)),
        };
        let nowhere = ChainHead {
            seq: 0,
            link: chain::GENESIS,
        };
        Ok(Self {
            pins: Pins::new(checkpoints, report.store),
            report,
            key,
            head,
            last: nowhere,
            due: None,
            before_broken: chain::GENESIS,
            ways,
            read: 0,
        })
    }

    /// Goes along, and says in the report what stands where.
    fn through(&mut self, connection: &Connection, whole: &dyn Whole, watch: &mut dyn FnMut(AuditProgress)) {
        let of = u64::try_from(self.head.seq).unwrap_or_default();
        watch(AuditProgress::Receipts { done: 0, of });
        let walked = whole.walk(connection, &mut |receipt, body| {
            let goes_on = self.receipt(connection, receipt, body)?;
            self.read += 1;
            if self.read.is_multiple_of(RECEIPTS_PER_WORD) {
                watch(AuditProgress::Receipts { done: self.read, of });
            }
            Ok(goes_on)
        });
        watch(AuditProgress::Receipts { done: self.read, of });
        if self.report.first_broken.is_some() {
            self.report.after.missing += u64::try_from(self.head.seq.saturating_sub(self.last.seq)).unwrap_or_default();
        }
        match walked {
            Err(fault) => self.unreadable(self.last.seq.saturating_add(1), &fault.detail()),
            Ok(()) if self.report.first_broken.is_none() => self.end(),
            Ok(()) => {}
        }
        self.look_for_the_right_one(connection, whole);
    }

    /// Looks at what stands next. Returns whether to go on.
    fn receipt(
        &mut self,
        connection: &Connection,
        receipt: &Receipt,
        body: Result<&[u8], Fault>,
    ) -> Result<bool, Fault> {
        let expected = self.last.seq + 1;
        if receipt.seq < expected {
            // Damaged pages can lead in a circle; numbers that only grow cannot.
            self.unreadable(expected, &format!("number {} stands there", receipt.seq));
            return Ok(false);
        }
        let digest = receipt.digest();
        let link = chain::link(&self.last.link, &digest);
        // The row before has another link than it should: if this one was linked over the right one, it is whole itself.
        let fits_the_right_one = self.due.is_some_and(|due| chain::link(&due, &digest) == receipt.link);
        if fits_the_right_one
            && let Some(first) = &mut self.report.first_broken
            && first.number == self.last.seq
            && first.what == BrokenWhat::Facts
        {
            first.what = BrokenWhat::Link;
        }
        let what = if receipt.seq != expected {
            Some(BrokenWhat::Missing { from: expected })
        } else {
            match body {
                Err(fault) => Some(BrokenWhat::Unreadable { detail: fault.detail() }),
                Ok(body) if self.key.is_some_and(|key| !receipt.has_body(key, body)) => Some(BrokenWhat::Body),
                Ok(_) if receipt.link != link && !fits_the_right_one => Some(BrokenWhat::Facts),
                Ok(_) => None,
            }
        };
        let tenant = &receipt.event.tenant;
        if !self.report.tenants.contains_key(tenant) {
            let none = TenantFound {
                mark: Mark::NONE,
                broken: 0,
            };
            self.report.tenants.insert(tenant.clone(), none);
        }
        if let Some(found) = self.report.tenants.get_mut(tenant) {
            found.mark = found.mark.after(&digest);
            // What is missing before a receipt says nothing against the receipt itself.
            let is_broken = !matches!(what, None | Some(BrokenWhat::Missing { .. }));
            found.broken += u64::from(is_broken);
            self.pins.of_tenant(tenant, found.mark);
        }
        self.due = (what == Some(BrokenWhat::Facts)).then_some(link);
        match (what, self.report.first_broken.is_some()) {
            (None, false) => {
                self.report.whole = Mark {
                    receipts: self.report.whole.receipts + 1,
                    head: link,
                };
                self.pins.of_store(self.report.whole);
                if let Some(ways) = &mut self.ways {
                    ways.check(connection, receipt)?;
                }
            }
            (Some(what), false) => {
                self.before_broken = self.last.link;
                self.report.first_broken = Some(Broken {
                    number: receipt.seq,
                    receipt: Some(receipt.id),
                    tenant: (!matches!(what, BrokenWhat::Missing { .. })).then(|| tenant.clone()),
                    what,
                });
            }
            // The row behind a gap cannot be held against the link before it; what it says of itself can.
            (None, true) => self.report.after.whole += 1,
            (Some(BrokenWhat::Missing { from }), true) => {
                self.report.after.missing += receipt.seq.abs_diff(from);
                self.report.after.whole += 1;
            }
            (Some(_), true) => self.report.after.broken += 1,
        }
        self.last = ChainHead {
            seq: receipt.seq,
            link: receipt.link,
        };
        Ok(true)
    }

    fn unreadable(&mut self, number: i64, detail: &str) {
        let what = BrokenWhat::Unreadable {
            detail: detail.to_owned(),
        };
        if self.report.first_broken.is_some() {
            self.report
                .problems
                .push(format!("receipt {number} cannot be read: {detail}"));
        } else {
            self.report.first_broken = Some(Broken {
                number,
                receipt: None,
                tenant: None,
                what,
            });
        }
    }

    /// Holds the end against the head.
    fn end(&mut self) {
        if self.head != self.last {
            self.report.first_broken = Some(Broken {
                number: self.last.seq,
                receipt: None,
                tenant: None,
                what: BrokenWhat::End {
                    head: u64::try_from(self.head.seq).unwrap_or_default(),
                },
            });
        }
    }

    /// A row in a place where another belongs: is the other still there?
    fn look_for_the_right_one(&mut self, connection: &Connection, whole: &dyn Whole) {
        let Some(Broken {
            number,
            what: BrokenWhat::Facts,
            ..
        }) = self.report.first_broken
        else {
            return;
        };
        if self.last.seq == number && self.due == Some(self.head.link) {
            if let Some(first) = &mut self.report.first_broken {
                first.what = BrokenWhat::Link;
            }
            return;
        }
        let (mut last, mut link_here, mut right) = (0, None, None);
        // Two rows may have been exchanged with their links or without them. What cannot be read was reported before.
        let _ = whole.walk(connection, &mut |receipt, _| {
            if receipt.seq <= last {
                return Ok(false);
            }
            last = receipt.seq;
            if receipt.seq == number {
                link_here = Some(receipt.link);
            }
            let link = chain::link(&self.before_broken, &receipt.digest());
            if receipt.seq != number && (link == receipt.link || Some(link) == link_here) {
                right = Some((receipt.id, receipt.seq));
            }
            Ok(right.is_none())
        });
        if let (Some((receipt, stands_at)), Some(first)) = (right, &mut self.report.first_broken) {
            first.what = BrokenWhat::Swapped { receipt, stands_at };
        }
    }
}

/// What checkpoints say, by the places that they speak of.
struct Pins<'a> {
    checkpoints: &'a [Checkpoint],
    found: Vec<CheckpointFound>,
    of_store: BTreeMap<u64, Vec<usize>>,
    of_tenants: BTreeMap<&'a TenantName, BTreeMap<u64, Vec<usize>>>,
}

impl<'a> Pins<'a> {
    fn new(checkpoints: &'a [Checkpoint], store: Option<StoreId>) -> Self {
        let mut pins = Self {
            checkpoints,
            found: vec![CheckpointFound::default(); checkpoints.len()],
            of_store: BTreeMap::new(),
            of_tenants: BTreeMap::new(),
        };
        for (at, checkpoint) in checkpoints.iter().enumerate() {
            if store.is_some_and(|store| store != checkpoint.store) {
                let other = format!("it is of another store, {}", checkpoint.store);
                pins.found[at].problems.push(other);
            }
            // A place that is not passed is a receipt that is not there.
            if let Some(mark) = checkpoint.chain.filter(|mark| *mark != Mark::NONE) {
                pins.of_store.entry(mark.receipts).or_default().push(at);
            }
            for (tenant, mark) in &checkpoint.tenants {
                pins.found[at].tenants.insert(tenant.clone(), None);
                if *mark != Mark::NONE {
                    let places = pins.of_tenants.entry(tenant).or_default();
                    places.entry(mark.receipts).or_default().push(at);
                }
            }
        }
        pins
    }

    /// The store's chain is whole up to here.
    fn of_store(&mut self, here: Mark) {
        for at in self.of_store.remove(&here.receipts).unwrap_or_default() {
            if self.checkpoints[at].chain != Some(here) {
                self.found[at].problems.push(format!(
                    "the store's first {} receipts are not those of the checkpoint: the chain was written anew",
                    here.receipts
                ));
            }
        }
    }

    fn of_tenant(&mut self, tenant: &TenantName, here: Mark) {
        let Some(places) = self.of_tenants.get_mut(tenant) else {
            return;
        };
        for at in places.remove(&here.receipts).unwrap_or_default() {
            if self.checkpoints[at].tenants.get(tenant) != Some(&here) {
                let problem = format!("its first {} receipts are not those of the checkpoint", here.receipts);
                self.found[at].tenants.insert(tenant.clone(), Some(problem));
            }
        }
    }

    /// What was not passed is not there.
    fn judge(mut self, report: &mut AuditReport) {
        for (receipts, checkpoints) in self.of_store {
            let ends = report.whole.receipts;
            for at in checkpoints {
                self.found[at].problems.push(match report.first_broken {
                    None => format!("the store had {receipts} receipts then, and has {ends} now: its end was cut off"),
                    Some(_) => format!("only {ends} of its {receipts} receipts are whole"),
                });
            }
        }
        for (tenant, places) in self.of_tenants {
            let has = report.tenants.get(tenant).map_or(0, |found| found.mark.receipts);
            for (receipts, checkpoints) in places {
                for at in checkpoints {
                    let problem = format!("it had {receipts} receipts then, and has {has} now");
                    self.found[at].tenants.insert(tenant.clone(), Some(problem));
                }
            }
        }
        report.checkpoints = self.found;
    }
}
