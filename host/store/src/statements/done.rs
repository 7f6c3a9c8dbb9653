//! What people did to single events, as lines beside those of the registry: replays, sending again, decisions. It is read from the receipts'
//! history, and who did it from the rows of what was done, which have it apart from the words around it.

use tollgate_core::ids::{JobId, OutboxId, ReceiptId, ResendId};
use tollgate_core::review::Target;
use tollgate_core::time::UnixMillis;

use super::fault::Fault;
use super::receipts::{Near, View};
use super::resends;
use super::reviewed::BY_THE_SOURCE;
use super::rows::{get, millis};
use crate::registry::{HistoryFilter, RegistryLine};
use crate::sql::params;

/// Lines of the receipts' history that are looked through, the newest: most are of other kinds where filters of routes keep events back.
const LOOKED_THROUGH: i64 = 20_000;
/// Of those, what people did that is read.
const READ: i64 = 1_000;

/// One line of the receipts' history.
struct Did {
    at: UnixMillis,
    receipt: i64,
    what: String,
    detail: String,
}

/// What people did, the newest first; what one request did to several events is one line.
pub(crate) fn by_people(view: View<'_>, filter: &HistoryFilter) -> Result<Vec<RegistryLine>, Fault> {
    let newest: i64 = view
        .prepare_cached("SELECT coalesce(max(id), 0) FROM history")?
        .query_row([], |row| row.get(0))?;
    let mut statement = view.prepare_cached(
        "SELECT at, receipt, what, detail FROM history \
         WHERE id > ?1 AND what IN ('replayed', 'routed', 'resent', 'reviewed') ORDER BY id DESC LIMIT ?2",
    )?;
    let mut found = statement.query(params![newest - LOOKED_THROUGH, READ])?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        all.push(Did {
            at: millis(row, "at")?,
            receipt: get(row, "receipt")?,
            what: get(row, "what")?,
            detail: get(row, "detail")?,
        });
    }
    let mut near = Near::default();
    let mut lines: Vec<(UnixMillis, RegistryLine, usize)> = Vec::new();
    for did in &all {
        let receipt = near.facts(view, did.receipt, false)?;
        let tenant = &receipt.event.tenant;
        if filter.tenant.as_ref().is_some_and(|only| only != tenant) {
            continue;
        }
        let what = words(&did.what);
        if let Some((at, line, count)) = lines.last_mut()
            && *at == did.at
            && line.what == what
            && line.tenant.as_ref() == Some(tenant)
        {
            *count += 1;
            continue;
        }
        if lines.len() == filter.rows_max {
            break;
        }
        let (of, actor, why) = told(view, did, receipt.id)?;
        if actor == BY_THE_SOURCE {
            continue;
        }
        let line = RegistryLine {
            at: did.at.to_string(),
            actor,
            what: what.to_owned(),
            why: Some(why).filter(|why| !why.is_empty()),
            tenant: Some(tenant.clone()),
            route: None,
            plugin: None,
            digest: None,
            from: None,
            to: Some(of),
        };
        lines.push((did.at, line, 0));
    }
    let counted = lines.into_iter().map(|(_, line, others)| match others {
        0 => line,
        others => RegistryLine {
            to: line.to.map(|of| format!("{of}, and {others} more")),
            ..line
        },
    });
    Ok(counted.collect())
}

fn words(what: &str) -> &'static str {
    match what {
        "replayed" => "replayed",
        "routed" => "routed again",
        "resent" => "sent again",
        _ => "decided",
    }
}

/// To what it was done, by whom, and why.
fn told(view: View<'_>, did: &Did, receipt: ReceiptId) -> Result<(String, String, String), Fault> {
    // What stands in front names jobs, entries and routes, and nothing that a person wrote.
    let (of, rest) = did.detail.split_once(" by ").unwrap_or((&did.detail, ""));
    let first = of.split(' ').next().unwrap_or_default();
    let row = match did.what.as_str() {
        "reviewed" => decision(view, did, first)?,
        "resent" => match first.parse::<OutboxId>() {
            Ok(entry) => resent(view, entry, did.at)?,
            Err(_) => None,
        },
        _ => None,
    };
    let Some((actor, why)) = row else {
        // Who replayed stands in these words alone, with the reason behind: taken apart, a part of one could pass for the other.
        let rest = rest.rsplit_once("; it had ended with: ").map_or(rest, |(rest, _)| rest);
        return Ok((of.to_owned(), rest.to_owned(), String::new()));
    };
    let told = [format!(" by {actor}: {why}"), format!(" by {actor}")];
    let of = told
        .iter()
        .find_map(|end| did.detail.strip_suffix(end.as_str()))
        .unwrap_or(of);
    let of = match first.parse::<Target>() {
        Err(_) if did.what == "reviewed" => format!("{receipt} {of}"),
        _ => of.to_owned(),
    };
    Ok((of, actor, why))
}

/// Who decided it at that time, and why: about the receipt, or about what the line begins with.
fn decision(view: View<'_>, did: &Did, first: &str) -> Result<Option<(String, String)>, Fault> {
    let (sql, number) = match first.parse::<Target>() {
        Ok(Target::Job(JobId(job))) => ("SELECT actor, why FROM work_reviews WHERE job = ?1 AND at = ?2", job),
        Ok(Target::Delivery(delivery)) => (
            "SELECT actor, why FROM work_reviews WHERE delivery = ?1 AND at = ?2",
            delivery.0,
        ),
        Ok(Target::Action(action)) => (
            "SELECT actor, why FROM work_reviews WHERE action = ?1 AND at = ?2",
            action.0,
        ),
        Ok(Target::Receipt(_)) | Err(_) => (
            "SELECT actor, why FROM reviews WHERE receipt = ?1 AND at = ?2",
            did.receipt,
        ),
    };
    let mut statement = view.prepare_cached(sql)?;
    let mut found = statement.query(params![number, did.at.0])?;
    let row = found.next()?;
    row.map(|row| {
        let why: Option<String> = get(row, "why")?;
        Ok((get(row, "actor")?, why.unwrap_or_default()))
    })
    .transpose()
}

/// Who had an entry sent again at that time, and why.
fn resent(view: View<'_>, entry: OutboxId, at: UnixMillis) -> Result<Option<(String, String)>, Fault> {
    let mut statement = view.prepare_cached(
        "SELECT resend FROM outbox WHERE id = ?1 AND resend IS NOT NULL \
         UNION SELECT resend FROM attempts WHERE entry = ?1 AND resend IS NOT NULL",
    )?;
    let mut found = statement.query([entry.0])?;
    let mut of = Vec::new();
    while let Some(row) = found.next()? {
        of.push(ResendId(get(row, "resend")?));
    }
    for resend in of {
        let row = resends::view(view.connection, resend)?;
        if row.at == at.to_string() {
            return Ok(Some((row.actor, row.why)));
        }
    }
    Ok(None)
}
