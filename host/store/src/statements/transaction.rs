//! What a transaction knows and leaves behind, whoever commits it: the native writer for a group, a guest for one piece of work.

use std::collections::{BTreeSet, HashMap};

use tollgate_core::ids::{DestinationName, Digest, FamilyName, PluginName, SourceName, TenantName};
use tollgate_core::state::StateValue;
use tollgate_core::time::UnixMillis;

use super::due::Due;
use super::fault::Fault;
use super::head::{ChainHead, read_chain_head, write_chain_head};
use super::receipts::{ReceiptsWriter, View};
use super::state_totals;
use crate::Topic;
use crate::sql::{Connection, OptionalExtension as _, params};

/// A transaction under way, or a group's part of one: the connection, what the writer remembers, and what it will have made ready.
pub(crate) struct Transaction<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) memory: &'a mut Memory,
    /// Wakes the worker after the commit.
    pub(crate) jobs_ready: bool,
    /// Wakes the deliverer after the commit.
    pub(crate) outbox_ready: bool,
    /// Somebody outside is told of this: it is on the disk before anybody is answered. What is not marked is in the log when it is answered,
    /// which outlives the process, and on the disk within a second; after a loss of power it is done again, by the same rules and with the
    /// same outcome.
    pub(crate) must_sync: bool,
    /// Plugin state that it wrote.
    pub(crate) state: Vec<StateChange>,
    /// How much state plugins have in all, in bytes, as far as it was asked: with what was written since.
    pub(crate) state_totals: HashMap<(TenantName, PluginName), i64>,
    /// What it changed that hosts keep in memory.
    pub(crate) changed: Vec<Topic>,
}

/// A key of a plugin's state, and what it has now.
#[derive(Debug)]
pub(crate) struct StateChange {
    pub(crate) tenant: TenantName,
    pub(crate) plugin: PluginName,
    pub(crate) key: String,
    pub(crate) value: StateValue,
}

impl<'a> Transaction<'a> {
    /// Nothing is done in it yet.
    pub(crate) fn new(connection: &'a Connection, memory: &'a mut Memory) -> Self {
        Self {
            connection,
            memory,
            jobs_ready: false,
            outbox_ready: false,
            must_sync: false,
            state: Vec::new(),
            state_totals: HashMap::new(),
            changed: Vec::new(),
        }
    }

    /// A job of a tenant is ready, and due at a time.
    pub(crate) fn job_is_ready(&mut self, tenant: &TenantName, due_at: UnixMillis) {
        self.jobs_ready = true;
        self.memory.jobs_due.note(|| tenant.to_string(), due_at);
    }

    /// An outbox entry for a tenant's destination is ready, and due at a time.
    pub(crate) fn entry_is_ready(&mut self, tenant: &TenantName, destination: &DestinationName, due_at: UnixMillis) {
        self.outbox_ready = true;
        let party = || (tenant.to_string(), destination.to_string());
        self.memory.outbox_due.note(party, due_at);
    }

    /// For what readers ask as well.
    pub(crate) fn view(&self) -> View<'_> {
        View::new(self.connection, &*self.memory.receipts)
    }

    /// How much state a plugin has for a tenant in all, in bytes of keys and values.
    pub(crate) fn state_total(&mut self, tenant: &TenantName, plugin: &PluginName) -> Result<i64, Fault> {
        if let Some(total) = self.known_state_total(tenant, plugin) {
            return Ok(total);
        }
        let total = state_totals::get(self.connection, tenant, plugin)?;
        self.state_totals.insert((tenant.clone(), plugin.clone()), total);
        Ok(total)
    }

    /// The same where it was asked before.
    pub(crate) fn known_state_total(&self, tenant: &TenantName, plugin: &PluginName) -> Option<i64> {
        self.state_totals.get(&(tenant.clone(), plugin.clone())).copied()
    }

    /// Notes that a plugin's state became larger by so many bytes of keys and values, or smaller.
    pub(crate) fn grow_state(&mut self, tenant: &TenantName, plugin: &PluginName, bytes: i64) -> Result<(), Fault> {
        state_totals::add(self.connection, tenant, plugin, bytes)?;
        if let Some(total) = self.state_totals.get_mut(&(tenant.clone(), plugin.clone())) {
            *total += bytes;
        }
        Ok(())
    }

    /// The number of an origin, made when it is new.
    pub(crate) fn origin(
        &mut self,
        tenant: &TenantName,
        source: &SourceName,
        family: Option<&FamilyName>,
    ) -> Result<i64, Fault> {
        let name = (tenant.clone(), source.clone(), family.cloned());
        if let Some(id) = self.memory.origins.get(&name) {
            return Ok(*id);
        }
        let texts = params![
            tenant.as_str(),
            source.as_str(),
            family.map_or("", |family| family.as_str())
        ];
        let known = self
            .connection
            .prepare_cached("SELECT id FROM origins WHERE tenant = ?1 AND source = ?2 AND family = ?3")?
            .query_row(texts, |row| row.get(0))
            .optional()?;
        let id = match known {
            Some(id) => id,
            None => {
                self.connection
                    .prepare_cached("INSERT INTO origins (tenant, source, family) VALUES (?1, ?2, ?3)")?
                    .execute(texts)?;
                self.connection.last_insert_rowid()
            }
        };
        self.memory.origins.insert(name, id);
        Ok(id)
    }
}

/// What the writer knows without asking the file. A native writer keeps it from commit to commit, because nobody else writes the
/// file; a guest reads it anew in each transaction.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) head: ChainHead,
    /// As the file has it.
    written: ChainHead,
    pub(crate) origins: HashMap<(TenantName, SourceName, Option<FamilyName>), i64>,
    pub(crate) configs: BTreeSet<Digest>,
    pub(crate) receipts: Box<dyn ReceiptsWriter>,
    /// The tenant whose turn it was last to have jobs claimed; empty before the first.
    pub(crate) last_turn: String,
    /// The tenant and destination whose turn it was last to have outbox entries claimed.
    pub(crate) last_delivered: (String, String),
    /// From when on jobs of tenants may be due.
    pub(crate) jobs_due: Due<String>,
    /// From when on outbox entries may be due, by tenant and destination.
    pub(crate) outbox_due: Due<(String, String)>,
}

impl Memory {
    pub(crate) fn load(connection: &Connection, receipts: Box<dyn ReceiptsWriter>) -> Result<Self, Fault> {
        let head = read_chain_head(connection)?;
        Ok(Self {
            head,
            written: head,
            origins: HashMap::new(),
            configs: BTreeSet::new(),
            receipts,
            last_turn: String::new(),
            last_delivered: <(String, String)>::default(),
            jobs_due: Due::default(),
            outbox_due: Due::default(),
        })
    }

    /// Remembers from now on when something is due, so that claims need not look from the beginning.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn remember_due(&mut self) {
        self.jobs_due.remember();
        self.outbox_due.remember();
    }

    /// Writes the head of the chain, if it moved. Last before a commit.
    pub(crate) fn write_head(&self, connection: &Connection) -> Result<(), Fault> {
        if self.head == self.written {
            return Ok(());
        }
        write_chain_head(connection, &self.head)
    }

    pub(crate) fn committed(&mut self) {
        self.written = self.head;
    }

    /// After a rollback: what was remembered of rows that are gone is forgotten.
    pub(crate) fn forget(&mut self, head: ChainHead) {
        self.head = head;
        self.origins.clear();
        self.configs.clear();
        self.receipts.rolled_back();
        self.jobs_due.roll_back();
        self.outbox_due.roll_back();
    }
}

/// Does `work` between a BEGIN and a COMMIT; on an error nothing was done.
pub(crate) fn transact<T>(
    connection: &Connection,
    begin: &str,
    work: impl FnOnce(&Connection) -> Result<T, Fault>,
) -> Result<T, Fault> {
    connection.execute(begin, [])?;
    let done = work(connection).and_then(|done| {
        connection.execute("COMMIT", [])?;
        Ok(done)
    });
    if done.is_err() {
        // SQLite has already rolled back after some errors; then there is nothing to do, and this fails.
        let _ = connection.execute("ROLLBACK", []);
    }
    done
}
