//! Copies a whole store from one place to another, whichever kinds the two are: files of a native host, a Spin app's file, PostgreSQL.
//!
//! Everything goes along, under the same numbers: receipts with their chain and bodies, jobs, runs, the ledger, the outbox and its attempts,
//! plugins' state, the registry with its components, tokens, reviews, and the store's key, without which no redelivery would be recognised.
//! Source and target are at rest: nobody else has them open until the copy is over.
//!
//! Cast: `parts` is what a store holds, piece by piece; a `Held` store is read and written. Each piece is one transaction of the target, which
//! says as well how far the copy is, so a copy that was ended anywhere goes on where it was. Until it is whole, and was read back and held
//! against what was read, no host opens it.

mod parts;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tollgate_core::checkpoint::{Mark, StoreId};
use tollgate_core::ids::Digest;
use tollgate_core::secret::Secret;

use self::parts::{Items, Part, Tally};
use crate::postgres::copy::Alone;
use crate::sql::{OptionalExtension as _, Sql};
use crate::sqlite::copy::{self as files, LogStore, Standing};
use crate::statements::fault::Fault;
use crate::statements::head::read_chain_head;
use crate::statements::receipts::{Rows, View};
use crate::statements::transaction::{Memory, Transaction, transact};
use crate::statements::{chain, unfinished};
use crate::{StoreError, postgres};

/// Where a store is.
#[derive(Debug, Clone)]
pub enum Place {
    /// The index of a native store, such as `tollgate.db`, with its log and its key beside it. As a source it may be a Spin app's file as well.
    Files(PathBuf),
    /// The one file of a Spin app's store.
    Guest(PathBuf),
    /// The URL of a PostgreSQL. It may hold a password.
    Server(Secret),
}

/// For people: without a password.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(path) => path.display().fmt(f),
            Self::Guest(path) => write!(f, "spin:{}", path.display()),
            Self::Server(url) => f.write_str(&postgres::copy::shown(url)),
        }
    }
}

/// How far a copy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyProgress {
    /// The source's chain and rows are held against each other.
    Auditing,
    /// Receipts and rows are copied.
    Copying {
        /// The table under way.
        table: String,
        /// Rows of all tables that are in the target.
        done: u64,
        /// Rows of all tables, as far as they could be counted.
        of: u64,
    },
    /// The target is read back.
    Comparing {
        /// The table under way.
        table: String,
        /// Rows of all tables that were read.
        done: u64,
        /// Rows of all tables.
        of: u64,
    },
}

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CopyReport {
    /// The store: both places have the same afterwards.
    pub store: StoreId,
    /// How many receipts it has, and the link of the last.
    pub newest: Mark,
    /// Each table, receipts and subjects among them.
    pub tables: BTreeMap<String, TableCopied>,
    /// Rows that were in the target already, from a copy that was not finished.
    pub found: u64,
    /// Texts in which a NUL became U+FFFD, because PostgreSQL keeps none.
    pub texts_changed: u64,
}

impl CopyReport {
    /// Rows of all tables, receipts and subjects among them.
    pub fn rows(&self) -> u64 {
        self.tables.values().map(|table| table.rows).sum()
    }
}

/// A table of which source and target say the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TableCopied {
    /// How many rows it has.
    pub rows: u64,
    /// Of all of its rows in the order of their keys; none where nothing was copied yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

/// Why a store was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The target has something else, or both places are the same.
    #[error("{place}: {detail}")]
    Refused {
        /// Of which place.
        place: String,
        /// Why, and what can be done.
        detail: String,
    },
    /// The source, or what was read back of the target, is not whole.
    #[error("{}", .0.join("; "))]
    NotWhole(Vec<String>),
    /// A store could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Copies a store, or goes on with a copy of it that was not finished. Blocks, for as long as it takes to read the source twice and the target
/// once. A target that has the same already is read, and left as it is. With `is_dry`, reads the source, looks at the target, and changes
/// neither; the report then has what there is to copy.
///
/// # Errors
/// [`CopyError::Refused`] when the target holds something else, [`CopyError::NotWhole`], and [`CopyError::Store`], also when somebody has
/// either of them open. What was copied so far stays for the next try, and no host opens it.
pub fn copy(
    from: &Place,
    to: &Place,
    is_dry: bool,
    watch: &mut (dyn FnMut(CopyProgress) + Send),
) -> Result<CopyReport, CopyError> {
    // Connections wait, and whoever asks may be where nothing may.
    std::thread::scope(|scope| {
        let copying = scope.spawn(|| {
            if let (Place::Files(one) | Place::Guest(one), Place::Files(other) | Place::Guest(other)) = (from, to)
                && files::is_same(one, other)?
            {
                return Err(refused(to, "it is the source; name another place"));
            }
            let source = Held::source(from)?;
            let copying = Copying {
                parts: parts::all().map_err(Fault::of_reader)?,
                key: source.key()?,
                watch,
            };
            copying.run(&source, to, is_dry)
        });
        copying.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Which source a copy has, and how far it is, as the target keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Progress {
    source: StoreId,
    tables: BTreeMap<String, Tally>,
}

impl Progress {
    fn of(&self, part: &Part) -> Tally {
        self.tables.get(part.name()).copied().unwrap_or(Tally::NONE)
    }

    fn rows(&self) -> u64 {
        self.tables.values().map(|tally| tally.rows).sum()
    }

    fn to_bytes(&self) -> Result<Vec<u8>, Fault> {
        serde_json::to_vec(self).map_err(|error| Fault::damaged("a copy's progress", error))
    }
}

/// What a target has.
enum Found {
    Nothing,
    Begun(Progress),
    Something,
}

struct Copying<'w> {
    parts: Vec<Arc<Part>>,
    /// The store's, by which bodies are committed to.
    key: Secret,
    watch: &'w mut (dyn FnMut(CopyProgress) + Send),
}

impl Copying<'_> {
    fn run(mut self, source: &Held, to: &Place, is_dry: bool) -> Result<CopyReport, CopyError> {
        let store = StoreId::of(&self.key);
        let found = self.look(to)?;
        if let Found::Begun(progress) = &found
            && progress.source != store
        {
            let detail = format!(
                "it is the beginning of a copy of {}, and the source is {store}; finish that one, or remove it",
                progress.source
            );
            return Err(refused(to, &detail));
        }
        (self.watch)(CopyProgress::Auditing);
        let problems = source.problems()?;
        if !problems.is_empty() {
            return Err(CopyError::NotWhole(problems));
        }
        let counts = self.counts(source)?;
        let newest = newest(source)?;
        if matches!(found, Found::Something) {
            return self.same(source, to, counts.values().sum());
        }
        if is_dry {
            let tables = counts
                .into_iter()
                .map(|(name, rows)| (name, TableCopied { rows, digest: None }));
            return Ok(CopyReport {
                store,
                newest,
                tables: tables.collect(),
                found: match found {
                    Found::Begun(progress) => progress.rows(),
                    _ => 0,
                },
                texts_changed: 0,
            });
        }
        let mut target = Held::target(to, &self.key)?;
        // What a native store acknowledged last may have stood in its log alone.
        let progress = match target.found(&self.parts)? {
            Found::Begun(progress) => progress,
            Found::Something => {
                drop(target);
                return self.same(source, to, counts.values().sum());
            }
            Found::Nothing => {
                let progress = Progress {
                    source: store,
                    tables: BTreeMap::new(),
                };
                target.begin(&self.key, &progress)?;
                progress
            }
        };
        let found = progress.rows();
        let (copied, texts_changed) = self.pour(source, &mut target, progress, counts.values().sum())?;
        let problems = self.differences(source, &target, &copied)?;
        if !problems.is_empty() {
            return Err(CopyError::NotWhole(problems));
        }
        target.finish()?;
        Ok(CopyReport {
            store,
            newest,
            tables: with_digests(copied.tables),
            found,
            texts_changed,
        })
    }

    /// What is there already is no obstacle where it is the same, which a copy that was ended at its last step leaves.
    fn same(&mut self, source: &Held, to: &Place, of: u64) -> Result<CopyReport, CopyError> {
        let taken = || refused(to, "a store is there already, or a part of one; name an empty place");
        let target = Held::source(to).map_err(|_| taken())?;
        if !target.key().is_ok_and(|found| found.matches(self.key.expose())) {
            return Err(taken());
        }
        let (here, texts_changed) = self.tallies(source, target.is_server(), of)?;
        let (there, _) = self.tallies(&target, false, of)?;
        let newest = newest(source)?;
        if here != there || newest != self::newest(&target)? {
            return Err(taken());
        }
        Ok(CopyReport {
            store: StoreId::of(&self.key),
            newest,
            found: there.values().map(|tally| tally.rows).sum(),
            tables: with_digests(there),
            texts_changed,
        })
    }

    fn counts(&self, source: &Held) -> Result<BTreeMap<String, u64>, StoreError> {
        let parts = self.parts.clone();
        source.read(move |view| {
            let count = |part: &Arc<Part>| Ok((part.name().to_owned(), part.count(view)?));
            parts.iter().map(count).collect()
        })
    }

    /// What is there before anything is made.
    fn look(&self, to: &Place) -> Result<Found, StoreError> {
        match to {
            Place::Files(path) => match files::standing(path, &self.key)? {
                Standing::Nothing => Ok(Found::Nothing),
                Standing::Something => Ok(Found::Something),
                Standing::OfThatKey(connection) => {
                    found(View::new(&connection, &Rows), &self.parts).map_err(Fault::of_reader)
                }
            },
            Place::Guest(path) if files::is_nothing(path)? => Ok(Found::Nothing),
            Place::Guest(path) => Held::rows_of_file(path, false)?.found(&self.parts),
            Place::Server(url) => {
                let alone = Alone::connect(url)?;
                if alone.schema()? == 0 {
                    return Ok(Found::Nothing);
                }
                alone.check_schema()?;
                Held::rows_of_server(alone).found(&self.parts)
            }
        }
    }

    /// Reads the source from its beginning, and writes what the target does not have.
    fn pour(
        &mut self,
        source: &Held,
        target: &mut Held,
        mut progress: Progress,
        of: u64,
    ) -> Result<(Progress, u64), CopyError> {
        let (mut done, mut texts_changed) = (0, 0);
        for part in self.parts.clone() {
            let there = progress.of(&part);
            let mut tally = Tally::NONE;
            let mut last = None;
            loop {
                let (read, after) = (Arc::clone(&part), last.clone());
                let mut items = source.read(move |view| read.read(view, after.as_ref()))?;
                let count = items.len();
                if count == 0 {
                    break;
                }
                last = items.last(&part);
                if target.is_server() {
                    texts_changed += items.without_nul();
                }
                let skipped =
                    usize::try_from(there.rows.saturating_sub(tally.rows)).map_or(count, |left| left.min(count));
                items.tally(0..skipped, &self.key, &mut tally);
                if tally.rows == there.rows && tally != there {
                    break;
                }
                items.tally(skipped..count, &self.key, &mut tally);
                if skipped < count {
                    progress.tables.insert(part.name().to_owned(), tally);
                    target.add(&part, items.behind(skipped), &progress)?;
                }
                done += count as u64;
                (self.watch)(CopyProgress::Copying {
                    table: part.name().to_owned(),
                    done,
                    of: of.max(done),
                });
            }
            if tally.rows < there.rows || (tally.rows == there.rows && tally != there) {
                return Err(CopyError::NotWhole(vec![format!(
                    "{}: the source has changed since this copy of it was begun; remove the copy, and begin anew",
                    part.name()
                )]));
            }
            progress.tables.insert(part.name().to_owned(), tally);
        }
        Ok((progress, texts_changed))
    }

    /// Reads the target back, and holds it against what was read of the source. Returns what is not alike, in words.
    fn differences(&mut self, source: &Held, target: &Held, copied: &Progress) -> Result<Vec<String>, StoreError> {
        let (found, _) = self.tallies(target, false, copied.rows())?;
        let mut problems = Vec::new();
        for (name, tally) in &found {
            match copied.tables.get(name) {
                Some(expected) if expected == tally => {}
                expected => problems.push(format!(
                    "{name}: the copy has {} rows with the digest {}, and the source {} with {}",
                    tally.rows,
                    tally.digest,
                    expected.map_or(0, |expected| expected.rows),
                    expected.map_or(Tally::NONE.digest, |expected| expected.digest)
                )),
            }
        }
        if newest(source)? != newest(target)? {
            problems.push("the chains end with different receipts".to_owned());
        }
        match problems.is_empty() {
            true => target.problems(),
            false => Ok(problems),
        }
    }

    /// Reads all of a store, as a server would keep it if asked to. Returns as well how many texts that changed.
    fn tallies(
        &mut self,
        store: &Held,
        as_server: bool,
        of: u64,
    ) -> Result<(BTreeMap<String, Tally>, u64), StoreError> {
        let (mut done, mut texts_changed, mut tallies) = (0, 0, BTreeMap::new());
        for part in &self.parts {
            let mut tally = Tally::NONE;
            let mut last = None;
            loop {
                let (read, after) = (Arc::clone(part), last.clone());
                let mut items = store.read(move |view| read.read(view, after.as_ref()))?;
                let count = items.len();
                if count == 0 {
                    break;
                }
                last = items.last(part);
                if as_server {
                    texts_changed += items.without_nul();
                }
                items.tally(0..count, &self.key, &mut tally);
                done += count as u64;
                (self.watch)(CopyProgress::Comparing {
                    table: part.name().to_owned(),
                    done,
                    of: of.max(done),
                });
            }
            tallies.insert(part.name().to_owned(), tally);
        }
        Ok((tallies, texts_changed))
    }
}

fn with_digests(tallies: BTreeMap<String, Tally>) -> BTreeMap<String, TableCopied> {
    let with_digest = |(name, tally): (String, Tally)| {
        let copied = TableCopied {
            rows: tally.rows,
            digest: Some(tally.digest),
        };
        (name, copied)
    };
    tallies.into_iter().map(with_digest).collect()
}

fn refused(place: &Place, detail: &str) -> CopyError {
    CopyError::Refused {
        place: place.to_string(),
        detail: detail.to_owned(),
    }
}

fn newest(store: &Held) -> Result<Mark, StoreError> {
    store.read(|view| {
        let head = read_chain_head(view.connection)?;
        Ok(Mark {
            receipts: u64::try_from(head.seq).unwrap_or_default(),
            head: head.link,
        })
    })
}

fn found(view: View<'_>, parts: &[Arc<Part>]) -> Result<Found, Fault> {
    if let Some(progress) = unfinished::read(view.connection)? {
        let progress = serde_json::from_slice(&progress).map_err(|error| Fault::damaged("a copy's progress", error))?;
        return Ok(Found::Begun(progress));
    }
    for part in parts {
        if !part.is_new(view)? {
            return Ok(Found::Something);
        }
    }
    Ok(Found::Nothing)
}

/// A store that nobody else has open.
enum Held {
    Log(LogStore),
    Rows(RowStore),
}

/// A store that is all rows of one database.
struct RowStore {
    connection: Box<dyn Sql>,
    shown: String,
    begin: &'static str,
    is_server: bool,
}

impl Held {
    fn source(place: &Place) -> Result<Self, StoreError> {
        let held = match place {
            Place::Files(path) if !files::is_of_guest(path)? => Self::Log(LogStore::source(path)?),
            Place::Files(path) | Place::Guest(path) => Self::rows_of_file(path, false)?,
            Place::Server(url) => {
                let alone = Alone::connect(url)?;
                alone.check_schema()?;
                Self::rows_of_server(alone)
            }
        };
        match held.read(|view| unfinished::is_there(view.connection))? {
            false => Ok(held),
            true => Err(StoreError::Open {
                path: held.shown().to_owned(),
                detail: unfinished::REFUSED.to_owned(),
            }),
        }
    }

    fn target(place: &Place, key: &Secret) -> Result<Self, StoreError> {
        Ok(match place {
            Place::Files(path) => Self::Log(LogStore::target(path, key)?),
            Place::Guest(path) => Self::rows_of_file(path, true)?,
            Place::Server(url) => {
                let alone = Alone::connect(url)?;
                alone.migrate()?;
                Self::rows_of_server(alone)
            }
        })
    }

    fn rows_of_file(path: &std::path::Path, make: bool) -> Result<Self, StoreError> {
        let (connection, shown) = files::open_rows(path, make)?;
        Ok(Self::Rows(RowStore {
            connection: Box::new(connection),
            shown,
            begin: "BEGIN IMMEDIATE",
            is_server: false,
        }))
    }

    fn rows_of_server(alone: Alone) -> Self {
        let (connection, shown) = alone.into_parts();
        Self::Rows(RowStore {
            connection,
            shown,
            begin: "BEGIN",
            is_server: true,
        })
    }

    fn is_server(&self) -> bool {
        matches!(self, Self::Rows(rows) if rows.is_server)
    }

    fn shown(&self) -> &str {
        match self {
            Self::Log(log) => log.shown(),
            Self::Rows(rows) => &rows.shown,
        }
    }

    /// The key of its receipts' ids.
    fn key(&self) -> Result<Secret, StoreError> {
        let key: Option<Vec<u8>> = self.read(|view| {
            let found = view.query_row("SELECT value FROM meta WHERE name = 'receipt_key'", [], |row| {
                row.get(0)
            });
            Ok(found.optional()?)
        })?;
        match key {
            Some(key) if key.len() == 32 => Ok(Secret::new(key)),
            _ => Err(StoreError::Damaged {
                detail: "the store has no key, or one that is none".to_owned(),
            }),
        }
    }

    fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(View<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        match self {
            Self::Log(log) => log.read(work),
            Self::Rows(rows) => work(View::new(&*rows.connection, &Rows)).map_err(Fault::of_reader),
        }
    }

    /// One transaction, which is on the disk afterwards or before the next one is.
    fn write(
        &self,
        work: impl Fn(&mut Transaction<'_>) -> Result<(), Fault> + Send + 'static,
    ) -> Result<(), StoreError> {
        match self {
            Self::Log(log) => log.write(work),
            Self::Rows(rows) => {
                let written = transact(&*rows.connection, rows.begin, |connection| {
                    let mut memory = Memory::load(connection, Box::new(Rows))?;
                    work(&mut Transaction::new(connection, &mut memory))?;
                    memory.write_head(connection)
                });
                written.map_err(|fault| fault.of_writer(&rows.shown))
            }
        }
    }

    fn found(&self, parts: &[Arc<Part>]) -> Result<Found, StoreError> {
        let parts = parts.to_vec();
        self.read(move |view| found(view, &parts))
    }

    /// What is not whole, in words.
    fn problems(&self) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Log(log) => log.problems(),
            Self::Rows(_) => {
                let key = self.key()?;
                self.read(move |view| chain::problems(view, &key))
            }
        }
    }

    /// Before the first piece. A native store has its key already, and seals its log with it.
    fn begin(&mut self, key: &Secret, progress: &Progress) -> Result<(), StoreError> {
        let (key, is_rows) = (key.clone(), matches!(self, Self::Rows(_)));
        let progress = progress.to_bytes().map_err(Fault::of_reader)?;
        self.write(move |transaction| {
            let connection = transaction.connection;
            if is_rows {
                unfinished::put(connection, "receipt_key", key.expose())?;
            }
            // What each new store begins with.
            connection.execute("DELETE FROM redelivered_in_all", [])?;
            unfinished::write(connection, &progress)
        })
    }

    /// Adds a piece, and how far the copy is with it.
    fn add(&mut self, part: &Arc<Part>, items: Items, progress: &Progress) -> Result<(), StoreError> {
        let (part, items) = (Arc::clone(part), items);
        let progress = progress.to_bytes().map_err(Fault::of_reader)?;
        self.write(move |transaction| {
            part.write(transaction, &items)?;
            unfinished::write(transaction.connection, &progress)
        })
    }

    /// The copy is whole: it is a store, on the disk, and others may open it.
    fn finish(self) -> Result<(), StoreError> {
        self.write(|transaction| unfinished::remove(transaction.connection))?;
        match self {
            Self::Log(log) => {
                log.close();
                Ok(())
            }
            Self::Rows(rows) if rows.is_server => Ok(()),
            // A guest's store is one file: moves the WAL into it, and syncs it.
            Self::Rows(rows) => {
                let connection = &*rows.connection;
                let moved = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
                moved.map_err(|error| Fault::from(error).of_writer(&rows.shown))
            }
        }
    }
}
