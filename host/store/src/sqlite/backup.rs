//! Backups: the store's files as of one commit, copied beside a host that goes on writing.
//!
//! The index is copied first, in one snapshot; then as much of the log as that copy was made from. Below that end the log is never
//! written again, so the two belong together however long the copy takes. The manifest comes last.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use sha2::{Digest as _, Sha256};
use tollgate_core::checkpoint::{Mark, StoreId};
use tollgate_core::ids::Digest;
use tollgate_core::time::UnixMillis;

use super::fault::Fault;
use super::files::{self, StorePath};
use super::head::read_chain_head;
use super::open;
use super::recovery;
use crate::StoreError;
use crate::backup::{BackupError, BackupFile, BackupProgress, FORMAT, MANIFEST, Manifest};
use crate::log;

/// Bytes that are copied at once.
const PIECE_BYTES: usize = 1024 * 1024;

/// Copies the store into `folder`, which must not exist or be empty. Compressed segments that the backup in `previous` has as well are linked,
/// not copied. Blocks.
///
/// # Errors
/// [`StoreError::Open`] in words, [`StoreError::NoSpace`]. What was copied so far stays, without a manifest.
pub(super) fn backup(
    from: &StorePath,
    folder: &Path,
    previous: Option<&Path>,
    version: &str,
    begun_at: UnixMillis,
    watch: &mut dyn FnMut(BackupProgress),
) -> Result<Manifest, StoreError> {
    let name = from
        .path()
        .file_name()
        .ok_or_else(|| from.cannot_open("its path names no file"))?;
    let to = StorePath::new(&folder.join(name))?;
    let failed = |error| to.failed(&error);
    let key = open::receipt_key(from)?;
    let store = StoreId::of(&key);
    let previous = previous.map(|folder| Previous::read(folder, store)).transpose();
    let previous = previous.map_err(|detail| to.cannot_open(detail))?;
    make_folder(folder).map_err(failed)?;

    watch(BackupProgress::Database);
    open::copy_database(from, &to)?;
    let copied = Connection::open_with_flags(
        to.path(),
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(|error| to.opening(error.into()))?;
    let read = || Ok((read_chain_head(&copied)?, recovery::read_applied(&copied)?));
    let (head, applied) = read().map_err(|fault: Fault| to.opening(fault))?;
    drop(copied);
    let mut places = vec![to.path().to_owned()];
    for (file, copy) in [(from.key(), to.key()), (from.snapshot(), to.snapshot())] {
        if file.exists() {
            std::fs::copy(&file, &copy).map_err(failed)?;
            places.push(copy);
        }
    }
    let mut linked = Vec::new();
    let segments = log::segments(&log::Place::new(from.log(), &key)).map_err(failed)?;
    for segment in segments.iter().filter(|segment| segment.start < applied.end.position) {
        let (path, mut file) = segment.file().map_err(failed)?;
        let copy = folder.join(path.file_name().unwrap_or_default());
        match previous
            .as_ref()
            .map_or(Ok(None), |previous| previous.link(&mut file, &copy))
        {
            Ok(Some(known)) => linked.push(known),
            Ok(None) => {
                copy_segment(&mut file, segment.start, applied.end.position, &copy, watch).map_err(failed)?;
                places.push(copy);
            }
            Err(error) => return Err(failed(error)),
        }
    }
    watch(BackupProgress::Sealing);
    let files = places
        .iter()
        .map(|place| sealed(folder, place))
        .chain(linked.into_iter().map(Ok))
        .collect::<io::Result<_>>();
    let files = files.map_err(failed)?;
    let manifest = Manifest {
        format: FORMAT,
        version: version.to_owned(),
        begun_at: begun_at.to_string(),
        store,
        newest: Mark {
            receipts: u64::try_from(head.seq).unwrap_or(0),
            head: head.link,
        },
        files,
    };
    let text = serde_json::to_string_pretty(&manifest).map_err(|error| to.cannot_open(error))?;
    let mut file = private(&folder.join(MANIFEST)).map_err(failed)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.sync_all())
        .and_then(|()| files::sync_directory(&to))
        .map_err(failed)?;
    Ok(manifest)
}

/// Makes the folder for its owner alone, or takes one that is empty.
fn make_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => {
            let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {
            match std::fs::read_dir(folder)?.next() {
                None => Ok(()),
                Some(_) => Err(io::Error::other(
                    "the folder is not empty; name a new one for each backup",
                )),
            }
        }
        Err(error) => Err(error),
    }
}

/// A new file that its owner alone may read: it holds what customers sent.
fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// An earlier backup of the same store.
struct Previous {
    folder: PathBuf,
    manifest: Manifest,
}

impl Previous {
    /// # Errors
    /// In words.
    fn read(folder: &Path, store: StoreId) -> Result<Self, String> {
        let manifest = Manifest::read(folder).map_err(|error| error.to_string())?;
        if manifest.store != store {
            return Err(format!(
                "the backup in {} is of another store; leave it out, or name one of this store",
                folder.display()
            ));
        }
        Ok(Self {
            folder: folder.to_owned(),
            manifest,
        })
    }

    /// Makes `copy` a link to the earlier backup's file of that name, where that has what `file` has. Nothing where it has not, or the file system
    /// cannot link.
    fn link(&self, file: &mut File, copy: &Path) -> io::Result<Option<BackupFile>> {
        let name = copy.file_name().unwrap_or_default();
        let Some(known) = self.manifest.files.iter().find(|known| *known.name == *name) else {
            return Ok(None);
        };
        let there = self.folder.join(name);
        // The newest segment grows from backup to backup, and only what is never written again may be shared.
        let is_full = copy.extension().is_some_and(|extension| extension == "zst");
        if !is_full || file.metadata()?.len() != known.bytes {
            return Ok(None);
        }
        // Two histories of one store, of which one was restored, may have a segment of one name; and the earlier backup may have been damaged.
        let has_it = |file: &mut File| Ok::<_, io::Error>(digest(file, io::sink())?.1 == known.sha256);
        let is_the_same =
            has_it(file)? && File::open(&there).is_ok_and(|mut there| has_it(&mut there).unwrap_or(false));
        file.rewind()?;
        Ok((is_the_same && std::fs::hard_link(&there, copy).is_ok()).then(|| known.clone()))
    }
}

/// Copies a segment up to a position of the log, or all of it.
fn copy_segment(
    source: &mut File,
    start: u64,
    position: u64,
    to: &Path,
    watch: &mut dyn FnMut(BackupProgress),
) -> io::Result<()> {
    let end = source.metadata()?.len().min(position - start);
    let mut copy = private(to)?;
    let mut piece = vec![0; PIECE_BYTES];
    let mut done = 0;
    while done < end {
        let (done_in_all, of) = (start + done, position);
        watch(BackupProgress::Log { done: done_in_all, of });
        let length = usize::try_from(end - done).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
        source.read_exact(&mut piece[..length])?;
        copy.write_all(&piece[..length])?;
        done += length as u64;
    }
    Ok(())
}

/// Hashes a finished copy in the backup's folder and makes it durable.
fn sealed(folder: &Path, path: &Path) -> io::Result<BackupFile> {
    let mut file = File::open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.sync_all()?;
    let (bytes, sha256) = digest(&mut file, io::sink())?;
    let name = path.strip_prefix(folder).unwrap_or(path).to_string_lossy().into_owned();
    Ok(BackupFile { name, bytes, sha256 })
}

/// The length and hash of what is read, which is written to `to` as well.
fn digest(from: &mut File, mut to: impl io::Write) -> io::Result<(u64, Digest)> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut bytes = 0;
    loop {
        match from.read(&mut piece)? {
            0 => return Ok((bytes, Digest(hash.finalize().into()))),
            read => {
                hash.update(&piece[..read]);
                to.write_all(&piece[..read])?;
                bytes += read as u64;
            }
        }
    }
}

/// Holds a backup's files against its manifest. Blocks, for as long as it takes to read all.
///
/// # Errors
/// The first file that is not as it was backed up.
pub(super) fn verify(folder: &Path) -> Result<Manifest, BackupError> {
    let manifest = Manifest::read(folder)?;
    for file in &manifest.files {
        check(folder, file, io::sink())?;
    }
    Ok(manifest)
}

/// Reads one file of a backup and holds it against the manifest; what is read is written to `to` as well.
fn check(folder: &Path, file: &BackupFile, to: impl io::Write) -> Result<(), BackupError> {
    let path = folder.join(&file.name);
    let read = File::open(&path).and_then(|mut opened| digest(&mut opened, to));
    let (bytes, sha256) = read.map_err(|error| BackupError::Unreadable {
        path: path.clone(),
        detail: error.to_string(),
    })?;
    if bytes != file.bytes {
        return Err(BackupError::Size {
            path,
            found: bytes,
            expected: file.bytes,
        });
    }
    if sha256 != file.sha256 {
        return Err(BackupError::Changed { path });
    }
    Ok(())
}

/// Puts a backup's files where a store is to be. What is there already is never written over. Blocks.
///
/// # Errors
/// In words; nothing of a store is left in its place then.
pub(super) fn restore(folder: &Path, store: &Path) -> Result<Manifest, BackupError> {
    let manifest = Manifest::read(folder)?;
    let unwritable = |path: &Path, detail: String| BackupError::Unwritable {
        path: path.to_owned(),
        detail,
    };
    let to = StorePath::new(store).map_err(|error| unwritable(store, error.to_string()))?;
    // A log or a lock of another store beside it would be taken for this one's.
    let occupied = to.all_files().into_iter().find(|path| path.exists());
    if let Some(path) = occupied {
        return Err(BackupError::Occupied { path });
    }
    // The database last: a log without an index makes one, an index without its log is refused.
    let stem = manifest.files.first().map_or("", |database| &database.name);
    let place_of = |file: &BackupFile| {
        let mut place = to.path().as_os_str().to_owned();
        place.push(file.name.strip_prefix(stem).unwrap_or_default());
        PathBuf::from(place)
    };
    let places: Vec<PathBuf> = manifest.files.iter().map(place_of).collect();
    let mut made: Vec<&Path> = Vec::new();
    for (file, place) in manifest.files.iter().zip(&places).rev() {
        let copied = private(place)
            .map_err(|error| unwritable(place, error.to_string()))
            .and_then(|mut copy| {
                made.push(place);
                check(folder, file, &mut copy)?;
                copy.sync_all().map_err(|error| unwritable(place, error.to_string()))
            });
        if let Err(error) = copied {
            for place in made {
                let _ = std::fs::remove_file(place);
            }
            return Err(error);
        }
    }
    files::sync_directory(&to).map_err(|error| unwritable(store, error.to_string()))?;
    Ok(manifest)
}
