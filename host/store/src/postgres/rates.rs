//! Tenants' rates over all hosts: each says in a row of its own how many requests of a tenant it let in, and reads those of the others.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tollgate_core::ids::TenantName;

use crate::sql::{Connection, params};
use crate::statements::fault::Fault;
use crate::statements::rows;

/// What of their rates tenants used up, here and elsewhere.
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// What was let in here, and the others have not been told.
    untold: BTreeMap<TenantName, u64>,
    /// What stood there of the others when it was last read; none before the first time.
    others: Option<BTreeMap<(TenantName, i64), Row>>,
    /// What the others took, and nobody here has heard of.
    unheard: BTreeMap<TenantName, u64>,
}

/// What a host says of a tenant.
#[derive(Debug, Clone, Copy)]
struct Row {
    /// When the row was made, by the database's clock in microseconds: another where a crash of the server had emptied the table since.
    made_at: i64,
    /// Requests since then.
    taken: u64,
}

impl Rates {
    /// Takes note of what was let in here since the last time, and returns what the others let in.
    pub(super) fn tell(&self, taken: Vec<(TenantName, u64)>) -> Vec<(TenantName, u64)> {
        let mut counts = self.counts();
        counts.add(taken);
        std::mem::take(&mut counts.unheard).into_iter().collect()
    }

    /// Tells the others, and hears of them.
    pub(super) fn exchange(&self, connection: &Connection, host: i64) -> Result<(), Fault> {
        let mut untold = std::mem::take(&mut self.counts().untold);
        while let Some((tenant, taken)) = untold.pop_first() {
            // What is added is what is new, so that a table which a crash of the server has emptied begins again, and nobody hears of all that ever was.
            let told = connection.execute(
                "INSERT INTO rates (tenant, host, taken) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (host, tenant) DO UPDATE SET taken = rates.taken + excluded.taken",
                params![tenant.as_str(), host, i64::try_from(taken).unwrap_or(i64::MAX)],
            );
            if let Err(error) = told {
                let mut counts = self.counts();
                counts.add([(tenant, taken)]);
                counts.add(untold);
                return Err(error.into());
            }
        }
        let mut statement = connection.prepare_cached(
            "SELECT tenant, host, taken, (extract(epoch FROM made_at) * 1000000)::bigint AS made_at FROM rates WHERE host <> ?1",
        )?;
        let mut found = statement.query([host])?;
        let mut others = BTreeMap::new();
        while let Some(row) = found.next()? {
            let said = Row {
                made_at: rows::get(row, "made_at")?,
                taken: rows::unsigned(row, "taken")?,
            };
            others.insert((rows::id(row, "tenant")?, rows::get(row, "host")?), said);
        }
        self.counts().hear(others);
        Ok(())
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn add(&mut self, taken: impl IntoIterator<Item = (TenantName, u64)>) {
        for (tenant, requests) in taken {
            *self.untold.entry(tenant).or_default() += requests;
        }
    }

    /// What was taken before this host began is no concern of it.
    fn hear(&mut self, others: BTreeMap<(TenantName, i64), Row>) {
        if let Some(before) = &self.others {
            for (of, Row { made_at, taken }) in &others {
                let known = before.get(of).filter(|before| before.made_at == *made_at);
                let more = taken.saturating_sub(known.map_or(0, |before| before.taken));
                if more > 0 {
                    *self.unheard.entry(of.0.clone()).or_default() += more;
                }
            }
        }
        self.others = Some(others);
    }
}

/// Removes what a host counted that has ended, and what is left of those that are gone.
pub(super) fn forget(connection: &Connection, host: i64) -> Result<(), Fault> {
    connection.execute(
        "DELETE FROM rates WHERE host = ?1 OR host NOT IN (SELECT host FROM heartbeats WHERE seen_at > now() - interval '1 hour')",
        [host],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_took_is_heard_once_and_what_was_before_is_nobodys() {
        let rates = Rates::default();
        let hear = |made_at: i64, taken: &[(&str, i64, u64)]| {
            let others = taken.iter().map(|(tenant, host, taken)| {
                let said = Row { made_at, taken: *taken };
                ((tenant.parse().unwrap(), *host), said)
            });
            rates.counts().hear(others.collect());
        };
        let heard = || {
            let all = rates.tell(vec![("acme".parse().unwrap(), 2)]);
            all.into_iter()
                .map(|(tenant, taken)| (tenant.to_string(), taken))
                .collect::<Vec<_>>()
        };
        hear(1, &[("acme", 2, 100)]);
        assert_eq!(heard(), [], "it was before");
        hear(1, &[("acme", 2, 103), ("globex", 3, 1)]);
        hear(1, &[("acme", 2, 104), ("globex", 3, 1)]);
        assert_eq!(heard(), [("acme".to_owned(), 4), ("globex".to_owned(), 1)]);
        assert_eq!(heard(), [], "once");
        hear(1, &[("globex", 3, 1)]);
        assert_eq!(heard(), [], "a host ended");
        hear(2, &[("acme", 4, 5), ("globex", 3, 2)]);
        assert_eq!(
            heard(),
            [("acme".to_owned(), 5), ("globex".to_owned(), 2)],
            "a host began, and another's row was made again"
        );
        assert_eq!(rates.counts().untold.values().sum::<u64>(), 10);
    }

    #[test]
    fn what_could_not_be_told_is_told_later_and_what_was_told_is_not_told_twice() {
        let rates = Rates::default();
        let taken = [("acme", 2), ("globex", 3), ("zeta", 5)];
        rates.tell(taken.map(|(tenant, taken)| (tenant.parse().unwrap(), taken)).to_vec());
        // A table of the same columns that takes no row of one tenant.
        let store = rusqlite::Connection::open_in_memory().unwrap();
        let refuses = "CREATE TABLE rates (tenant TEXT CHECK (tenant <> 'globex'), host INTEGER, taken INTEGER, PRIMARY KEY (host, tenant))";
        store.execute_batch(refuses).unwrap();
        rates.exchange(&store, 1).unwrap_err();
        let untold: Vec<_> = rates.counts().untold.clone().into_iter().collect();
        let untold: Vec<_> = untold.iter().map(|(tenant, taken)| (tenant.as_str(), *taken)).collect();
        assert_eq!(untold, [("globex", 3), ("zeta", 5)]);
    }
}
