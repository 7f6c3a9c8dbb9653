//! The few that can fit a filter, where an index names them. What it names is a superset: the filter is held against each.

use tollgate_api::lists::AskedList;
use tollgate_core::filter::{Key, Listing};
use tollgate_core::ids::ReceiptId;
use tollgate_core::limits;
use tollgate_core::secret::Secret;

use super::super::fault::Fault;
use super::super::receipts::{self, View, unrouted};
use super::super::trace;
use super::Along;
use crate::sql::{ToSql, params};
use crate::{TraceBy, TraceQuery};

/// Receipts that one identifier may lead to; where there are more, it is no way.
const BY_IDENTIFIER_MAX: usize = 1_000;
/// Entries of the outbox that wait, each condition as an index has it: those that may be leased or are, and those behind them in order.
const WAITING: [&str; 2] = [
    "e.state IN (1, 2)",
    "e.lane IS NOT NULL AND e.state < 3 AND e.state = 0",
];
/// Those that were given up.
const DEAD: [&str; 1] = ["e.state IN (4, 5) AND e.state = 5"];

/// Whether there are several tenants: then the receipts of one are found without the others'.
pub(super) fn has_tenants(view: View<'_>) -> Result<bool, Fault> {
    Ok(view.query_row("SELECT count(DISTINCT tenant) > 1 FROM origins", [], |row| row.get(0))?)
}

/// The places in the list that an index names, the newest first; none where no index narrows it, or where it names too many.
pub(super) fn places(view: View<'_>, key: &Secret, asked: &AskedList, along: Along) -> Result<Option<Vec<i64>>, Fault> {
    let mut named = Named {
        view,
        asked,
        places: Vec::new(),
    };
    let is_known = match named.identified(key)? {
        Some(receipts) => named.of_receipts(along, &receipts)?,
        None => match along {
            Along::Receipts => named.by_standing()?,
            Along::Runs => false,
            Along::Actions => named.by_action()?,
        },
    };
    if !is_known {
        return Ok(None);
    }
    let mut places = named.places;
    places.sort_unstable_by(|one, other| other.cmp(one));
    places.dedup();
    Ok(Some(places))
}

struct Named<'a> {
    view: View<'a>,
    asked: &'a AskedList,
    places: Vec<i64>,
}

impl Named<'_> {
    /// The receipts that the filter names by an identifier of the event.
    fn identified(&self, key: &Secret) -> Result<Option<Vec<i64>>, Fault> {
        let filter = &self.asked.filter;
        if let Some(ids) = filter.only(&Key::Receipt) {
            let ids: Vec<ReceiptId> = ids.into_iter().filter_map(|id| id.parse().ok()).collect();
            return receipts::find(self.view, &ids).map(Some);
        }
        for by in [Key::Event, Key::Subject] {
            let Some(texts) = filter.only(&by) else { continue };
            let mut found = Vec::new();
            for text in texts {
                let query = TraceQuery {
                    by: TraceBy::Text(text.to_owned()),
                    tenant: self.asked.tenant.clone(),
                    after: None,
                    receipts_max: BY_IDENTIFIER_MAX,
                };
                let of_text = trace::find_text(self.view, key, &query, text, i64::MAX)?;
                if of_text.len() >= BY_IDENTIFIER_MAX {
                    return Ok(None);
                }
                found.extend(of_text);
            }
            return Ok(Some(found));
        }
        Ok(None)
    }

    /// What stands with receipts.
    fn of_receipts(&mut self, along: Along, receipts: &[i64]) -> Result<bool, Fault> {
        let sql = match along {
            Along::Receipts => {
                self.places.extend(receipts);
                return Ok(true);
            }
            Along::Runs => "SELECT u.id FROM jobs j JOIN runs u ON u.job = j.id WHERE j.receipt = ?1 LIMIT ?2",
            Along::Actions => {
                "SELECT a.id FROM jobs j JOIN runs u ON u.job = j.id JOIN actions a ON a.run = u.id WHERE j.receipt = ?1 LIMIT ?2"
            }
        };
        for receipt in receipts {
            if !self.add(sql, *receipt)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Receipts by how far their work has come, or by what the lifecycle made of them.
    fn by_standing(&mut self) -> Result<bool, Fault> {
        let asked = self.asked;
        let words = match asked.filter.only(&Key::Status) {
            Some(words) => words,
            None if asked.list == Listing::Undelivered && !asked.filter.asks(|key| *key == Key::Status) => {
                vec!["waiting", "held", "dead"]
            }
            None => return self.by_disposition(),
        };
        for word in words {
            let (jobs, entries) = match word {
                "waiting" | "ready" | "leased" | "blocked" => ("state < 3", &WAITING[..]),
                "held" => ("state > 3 AND state = 4", &[][..]),
                "dead" => ("state > 3 AND state = 5", &DEAD[..]),
                "dismissed" => ("state > 3 AND state = 6", &[][..]),
                "unrouted" => {
                    if !self.unrouted()? {
                        return Ok(false);
                    }
                    continue;
                }
                // Most of what there is.
                _ => return Ok(false),
            };
            let mut is_known = self.of_tenant(&format!(
                "SELECT receipt FROM jobs WHERE {jobs} AND (?1 IS NULL OR tenant = ?1) LIMIT ?2"
            ))?;
            for entries in entries.iter().filter(|_| asked.list != Listing::Jobs) {
                // What a later event repeats is sent for that one too.
                is_known = is_known && self.of_tenant(&format!(
                    "SELECT a.receipt FROM outbox e JOIN actions a ON a.id = e.action WHERE {entries} \
                     AND (?1 IS NULL OR e.tenant = ?1) LIMIT ?2"
                ))? && self.of_tenant(&format!(
                    "SELECT j.receipt FROM outbox e JOIN repeats p ON p.action = e.action JOIN runs u ON u.id = p.run \
                     JOIN jobs j ON j.id = u.job WHERE {entries} AND (?1 IS NULL OR e.tenant = ?1) LIMIT ?2"
                ))?;
            }
            if is_known && word == "held" && asked.list != Listing::Jobs {
                is_known = self.not_accepted(2)?;
            }
            if !is_known {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn by_disposition(&mut self) -> Result<bool, Fault> {
        let Some(words) = self.asked.filter.only(&Key::Disposition) else {
            return Ok(false);
        };
        for word in words {
            let is_known = match word {
                "superseded" => self.not_accepted(1)?,
                "held" => self.not_accepted(2)?,
                _ => false,
            };
            if !is_known {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Actions by their operation, their conflict, or how far their deliveries have come.
    fn by_action(&mut self) -> Result<bool, Fault> {
        let filter = &self.asked.filter;
        if let Some(operations) = filter.only(&Key::Operation) {
            for operation in operations {
                for conflict in ["conflict = 0", "conflict = 1"] {
                    let sql = format!("SELECT id FROM actions WHERE operation_key = ?1 AND {conflict} LIMIT ?2");
                    if !self.add(&sql, operation)? {
                        return Ok(false);
                    }
                }
            }
            return Ok(true);
        }
        let Some(words) = filter.only(&Key::Status) else {
            return Ok(false);
        };
        for word in words {
            let (of, conditions) = match word {
                "conflict" => ("id FROM actions e", &["e.conflict = 1"][..]),
                "waiting" | "ready" | "leased" | "blocked" => ("action FROM outbox e", &WAITING[..]),
                "dead" => ("action FROM outbox e", &DEAD[..]),
                _ => return Ok(false),
            };
            for condition in conditions {
                let sql = format!("SELECT {of} WHERE {condition} AND (?1 IS NULL OR e.tenant = ?1) LIMIT ?2");
                if !self.of_tenant(&sql)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn not_accepted(&mut self, disposition: i64) -> Result<bool, Fault> {
        let seqs = receipts::not_accepted_before(self.view, disposition, true, i64::MAX, self.left() + 1)?;
        self.places.extend(seqs.into_iter().map(|(seq, _)| seq));
        Ok(self.is_few())
    }

    fn unrouted(&mut self) -> Result<bool, Fault> {
        let mut left = self.left() + 1;
        let places = &mut self.places;
        unrouted::each_before(self.view.connection, i64::MAX, |seq, _| {
            places.push(seq);
            left -= 1;
            Ok(left > 0)
        })?;
        Ok(self.is_few())
    }

    fn of_tenant(&mut self, sql: &str) -> Result<bool, Fault> {
        let tenant = self.asked.tenant.as_ref().map(|tenant| tenant.as_str());
        self.add(sql, tenant)
    }

    /// Adds what a question names, whose second parameter is how many rows it may have. Returns whether it is not too much.
    fn add(&mut self, sql: &str, about: impl ToSql) -> Result<bool, Fault> {
        let most = i64::try_from(self.left() + 1).unwrap_or(i64::MAX);
        let mut statement = self.view.prepare_cached(sql)?;
        let found = statement.query_map(params![about, most], |row| row.get(0))?;
        self.places.extend(found.collect::<Result<Vec<i64>, _>>()?);
        Ok(self.is_few())
    }

    fn left(&self) -> usize {
        limits::LIST_NAMED_MAX.saturating_sub(self.places.len())
    }

    fn is_few(&self) -> bool {
        self.places.len() <= limits::LIST_NAMED_MAX
    }
}
