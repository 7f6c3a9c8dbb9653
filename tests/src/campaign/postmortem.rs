//! A disk after its host is gone: opened as a host would, and held against what was promised.

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use tollgate_store::{AnyStore, ClaimRequest, OpenOptions, SqliteStore, Store as _, Work as _};

use super::promises::{Books, Promises, judge};
use crate::disk::{Image, Model, Operation, Outcome, STORE};
use crate::events;
use crate::stage::block_on;

/// One image to be looked through.
pub(super) struct Case {
    pub(super) point: usize,
    pub(super) outcome: Outcome,
    pub(super) image: Image,
    pub(super) promises: Promises,
    /// Also writes to it, and opens it again.
    pub(super) reopens: bool,
    /// Puts these bytes where the log's index would be, which a restart must not believe.
    pub(super) stale_index: Vec<u8>,
}

/// Does the recording up to a point.
pub(super) fn advance(model: &mut Model<'_>, point: usize, promises: &mut Promises, mut said: impl FnMut(String)) {
    while model.done() < point {
        match model.step() {
            Some(Operation::Said(promise)) => promises.note(promise).into_iter().for_each(&mut said),
            Some(_) => {}
            None => return,
        }
    }
}

/// Opens an image as a host does after the power came back, and holds it against the promises. Answers what is wrong.
pub(super) fn look_through(folder: &Path, case: &Case, books: &Books) -> Vec<String> {
    for entry in fs::read_dir(folder).expect("a scratch folder").flatten() {
        fs::remove_file(entry.path()).expect("a file of the last image goes");
    }
    case.image.write_into(folder);
    if !case.stale_index.is_empty() {
        fs::write(folder.join(format!("{STORE}-shm")), &case.stale_index).expect("a file of an image");
    }
    let open = || SqliteStore::open(folder.join(STORE), OpenOptions::default()).map(AnyStore::Local);
    let mut problems = match open() {
        Ok(store) => {
            let problems = judge(&store, books, &case.promises);
            if case.reopens && problems.is_empty() {
                // A write, and all that a clean end does.
                let claimed = block_on(store.claim_jobs(ClaimRequest {
                    worker: "after the power".to_owned(),
                    now: events::now(),
                    lease_ms: 1000,
                    rows_max: 8,
                    passed_over: Vec::new(),
                }));
                block_on(store.close());
                claimed
                    .err()
                    .map(|error| format!("it cannot be written to: {error}"))
                    .into_iter()
                    .collect()
            } else {
                return problems;
            }
        }
        Err(error) => vec![format!("it cannot be opened: {error}")],
    };
    if problems.is_empty() {
        match open() {
            Ok(store) => problems.extend(judge(&store, books, &case.promises)),
            Err(error) => problems.push(format!("it cannot be opened a second time: {error}")),
        }
    }
    problems
}

/// A folder for images: in memory where there is such a place, because each is written once and looked at once.
pub(super) fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("tollgate-image-");
    match builder.tempdir_in(memory) {
        Ok(folder) => folder,
        Err(_) => builder.tempdir().expect("a temporary folder"),
    }
}

/// Leaves an image for whoever looks into it. Answers where.
pub(super) fn keep(image: &Image) -> String {
    let folder = tempfile::Builder::new().prefix("tollgate-lost-").tempdir();
    let folder = folder.expect("a temporary folder").keep();
    image.write_into(&folder);
    folder.display().to_string()
}
