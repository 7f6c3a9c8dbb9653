//! What a transaction knows and leaves behind, whoever commits it: the native writer for a group, a guest for one piece of work.

use std::collections::{BTreeSet, HashMap};

use rusqlite::{Connection, params};
use tollgate_core::chain;
use tollgate_core::ids::{Digest, FamilyName, PluginName, SourceName, TenantName};
use tollgate_core::state::StateValue;

use super::fault::Fault;
use super::receipts::{self, View};

/// A transaction under way, or a group's part of one: the connection, what the writer remembers, and what it will have made ready.
pub(super) struct Transaction<'a> {
    pub(super) connection: &'a Connection,
    pub(super) memory: &'a mut Memory,
    /// Wakes the worker after the commit.
    pub(super) jobs_ready: bool,
    /// Wakes the deliverer after the commit.
    pub(super) outbox_ready: bool,
    /// Somebody is told of this commit who must not be told of it in vain: it is committed and synced before anybody is answered. What
    /// is not marked is done again after the process died, by the same rules and with the same outcome.
    pub(super) must_sync: bool,
    /// What was done is to be known even if the process dies right after: it is committed before anybody is answered.
    pub(super) must_commit: bool,
    /// Origins that this transaction made.
    pub(super) new_origins: Vec<NewOrigin>,
    /// Plugin state that it wrote.
    pub(super) state: Vec<StateChange>,
}

/// A key of a plugin's state, and what it has now.
#[derive(Debug)]
#[cfg_attr(
    target_family = "wasm",
    expect(dead_code, reason = "a guest's next transaction reads it")
)]
pub(super) struct StateChange {
    pub(super) tenant: TenantName,
    pub(super) plugin: PluginName,
    pub(super) key: String,
    pub(super) value: StateValue,
}

/// An origin that was not known before.
#[derive(Debug)]
#[cfg_attr(target_family = "wasm", expect(dead_code, reason = "a guest keeps no records"))]
pub(super) struct NewOrigin {
    pub(super) id: i64,
    pub(super) tenant: TenantName,
    pub(super) source: SourceName,
    pub(super) family: Option<FamilyName>,
}

impl Transaction<'_> {
    /// For what readers ask as well.
    pub(super) fn view(&self) -> View<'_> {
        self.memory.receipts.view(self.connection)
    }

    /// The number of an origin, made when it is new.
    pub(super) fn origin(
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
        let is_new = self
            .connection
            .prepare_cached("INSERT INTO origins (tenant, source, family) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
            .execute(texts)?
            > 0;
        let id = self
            .connection
            .prepare_cached("SELECT id FROM origins WHERE tenant = ?1 AND source = ?2 AND family = ?3")?
            .query_row(texts, |row| row.get(0))?;
        if is_new {
            let (tenant, source, family) = name.clone();
            self.new_origins.push(NewOrigin {
                id,
                tenant,
                source,
                family,
            });
        }
        self.memory.origins.insert(name, id);
        Ok(id)
    }
}

/// What the writer knows without asking the file. A native writer keeps it from commit to commit, because nobody else writes the
/// file; a guest reads it anew in each transaction.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) head: ChainHead,
    /// As the file has it.
    #[cfg(not(target_family = "wasm"))]
    written: ChainHead,
    /// Leases of jobs that were given since the last commit.
    pub(super) leases: i64,
    /// The last process did not end by itself: a job may have killed it, and would again. Its attempts are counted before they begin.
    pub(super) careful: bool,
    pub(super) origins: HashMap<(TenantName, SourceName, Option<FamilyName>), i64>,
    pub(super) configs: BTreeSet<Digest>,
    pub(super) receipts: receipts::Memory,
    /// The tenant whose turn it was last to have jobs claimed; empty before the first.
    pub(super) last_turn: String,
    /// The tenant and destination whose turn it was last to have outbox entries claimed.
    pub(super) last_delivered: (String, String),
}

/// The newest receipt and its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChainHead {
    pub(super) seq: i64,
    pub(super) link: Digest,
}

impl Memory {
    pub(super) fn load(connection: &Connection, receipts: receipts::Memory) -> Result<Self, Fault> {
        let head = read_chain_head(connection)?;
        Ok(Self {
            head,
            #[cfg(not(target_family = "wasm"))]
            written: head,
            leases: 0,
            careful: false,
            origins: HashMap::new(),
            configs: BTreeSet::new(),
            receipts,
            last_turn: String::new(),
            last_delivered: <(String, String)>::default(),
        })
    }

    /// Writes the head of the chain, if it moved. Last before a commit.
    #[cfg(not(target_family = "wasm"))]
    pub(super) fn write_head(&self, connection: &Connection) -> Result<(), Fault> {
        if self.head == self.written {
            return Ok(());
        }
        write_chain_head(connection, &self.head)
    }

    #[cfg(not(target_family = "wasm"))]
    pub(super) fn committed(&mut self) {
        self.written = self.head;
        self.leases = 0;
    }

    /// After a rollback: what was remembered of rows that are gone is forgotten.
    #[cfg(not(target_family = "wasm"))]
    pub(super) fn forget(&mut self, head: ChainHead) {
        self.head = head;
        self.origins.clear();
        self.configs.clear();
        self.receipts.rolled_back();
    }
}

/// Writes the head of the chain, for the next transaction and for whoever looks whether receipts are missing.
pub(super) fn write_chain_head(connection: &Connection, head: &ChainHead) -> Result<(), Fault> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO chain_heads (chain, seq, link) VALUES (0, ?1, ?2)")?
        .execute(params![head.seq, head.link.0.as_slice()])?;
    Ok(())
}

/// Reads the head of the chain; of a store without receipts it is the beginning.
pub(super) fn read_chain_head(connection: &Connection) -> Result<ChainHead, Fault> {
    use rusqlite::OptionalExtension as _;
    let head = connection
        .query_row("SELECT seq, link FROM chain_heads WHERE chain = 0", [], |row| {
            Ok((row.get(0)?, row.get::<_, [u8; 32]>(1)?))
        })
        .optional()?;
    Ok(match head {
        Some((seq, link)) => ChainHead {
            seq,
            link: Digest(link),
        },
        None => ChainHead {
            seq: 0,
            link: chain::GENESIS,
        },
    })
}
