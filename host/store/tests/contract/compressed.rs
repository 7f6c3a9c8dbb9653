//! Full segments of the log, compressed: the same is read, whatever was under way when the process ended; and backups that share them.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tollgate_core::time::UnixMillis;
use tollgate_store::{OpenOptions, SqliteStore, Store as _, Views as _};

use crate::sqlite::Sqlite;
use crate::support::{ACCEPTED, Backend as _, Sent};

const SEGMENT_BYTES: u64 = 16 * 1024;
/// With bodies of 3 KB: a dozen segments.
const EVENTS: usize = 60;

fn place() -> Sqlite {
    Sqlite::with(OpenOptions {
        log_segment_bytes: SEGMENT_BYTES,
        keys_in_memory_max: 20,
        recent_bytes_max: 0,
        ..OpenOptions::default()
    })
    .quick()
}

fn event(id: usize) -> Sent {
    let line = format!(r#"{{"order":"o_{id}","amount":{}}},"#, id * 17);
    Sent::new(&format!("e{id}")).body(&line.repeat(3000 / line.len()))
}

async fn admit(store: &SqliteStore, ids: std::ops::Range<usize>) {
    for id in ids {
        assert_eq!(event(id).admit(store).await, ACCEPTED, "e{id}");
    }
}

/// Segments in their order: plain and compressed ones, and what is being made.
fn segments(place: &Sqlite) -> Vec<PathBuf> {
    let folder = place.path().parent().unwrap().to_owned();
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut segments: Vec<_> = files.filter(|path| path.to_str().unwrap().contains("-log-")).collect();
    segments.sort();
    segments
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "zst")
}

/// Waits until every segment but the newest is compressed, and nothing else is there.
pub(crate) fn all_compressed(place: &Sqlite) -> Vec<PathBuf> {
    let begun = Instant::now();
    loop {
        let found = segments(place);
        let (newest, full) = found.split_last().unwrap();
        if !is_compressed(newest) && full.iter().all(|path| is_compressed(path)) {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{found:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A store with its segments compressed, closed.
async fn filled() -> Sqlite {
    let place = place();
    let store = place.open();
    admit(&store, 0..EVENTS).await;
    all_compressed(&place);
    store.close().await;
    place
}

async fn assert_holds_all(store: &SqliteStore, what: &str) {
    assert_eq!(store.counts().await.unwrap().receipts, EVENTS as u64, "{what}");
    assert_eq!(store.audited().unwrap().in_words(), [] as [String; 0], "{what}");
    for id in 0..EVENTS {
        let event = event(id);
        let found = store.event(event.receipt(store)).await.unwrap();
        assert!(found.payload == event.body, "{what}: e{id}");
    }
}

#[tokio::test]
async fn full_segments_are_compressed_and_read_like_plain_ones() {
    let place = place();
    let store = place.open();
    admit(&store, 0..EVENTS).await;
    let found = all_compressed(&place);
    assert!(found.len() > 5, "{found:?}");
    let bytes: u64 = found.iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(bytes < EVENTS as u64 * 3000 / 3, "{bytes} bytes");
    assert_holds_all(&store, "beside the host").await;
    store.close().await;

    assert_holds_all(&place.open(), "after a restart").await;
    std::fs::remove_file(place.path()).unwrap();
    assert_holds_all(&place.open(), "with an index made anew").await;
}

/// What a process leaves that dies between any two steps of compressing a segment.
#[tokio::test]
async fn a_death_between_any_two_steps_of_compressing_loses_nothing() {
    let whole = filled().await;
    let plain = plain_of(&whole, 2).await;
    for step in ["a new file is begun", "it has its name", "the plain one is gone"] {
        let died = whole.copy();
        let compressed = segments(&died).remove(2);
        let original = PathBuf::from(compressed.to_str().unwrap().strip_suffix(".zst").unwrap());
        let begun = PathBuf::from(format!("{}.new", compressed.display()));
        if step != "the plain one is gone" {
            std::fs::write(&original, &plain).unwrap();
        }
        if step == "a new file is begun" {
            let bytes = std::fs::read(&compressed).unwrap();
            std::fs::write(&begun, &bytes[..bytes.len() / 2]).unwrap();
            std::fs::remove_file(&compressed).unwrap();
        }
        let store = died.open();
        assert_holds_all(&store, step).await;
        all_compressed(&died);
        assert_holds_all(&store, step).await;
        store.close().await;
    }
}

/// The bytes that a compressed segment was made from: unpacked by zstd itself, since the table is a frame that it passes over.
async fn plain_of(place: &Sqlite, number: usize) -> Vec<u8> {
    let packed = std::fs::read(&segments(place)[number]).unwrap();
    zstd::stream::decode_all(&packed[..]).unwrap()
}

/// A backup may end with a full segment. The restored store goes on behind it.
#[tokio::test]
async fn a_log_that_ends_with_a_compressed_segment_goes_on_in_a_new_one() {
    let whole = filled().await;
    let cut = whole.copy();
    std::fs::remove_file(segments(&cut).pop().unwrap()).unwrap();
    std::fs::remove_file(cut.path()).unwrap();
    for start in 0..2 {
        let store = cut.open();
        let known = store.counts().await.unwrap().receipts as usize;
        assert!(known > EVENTS / 2 && known < EVENTS, "{known} at start {start}");
        admit(&store, known..known + 1).await;
        assert_eq!(store.audited().unwrap().in_words(), [] as [String; 0]);
        store.close().await;
    }
}

#[tokio::test]
async fn a_compressed_segment_that_is_cut_or_changed_is_named() {
    let whole = filled().await;
    let refused = |place: &Sqlite| {
        SqliteStore::open(place.path(), OpenOptions::default())
            .unwrap_err()
            .to_string()
    };

    let cut = whole.copy();
    let segment = segments(&cut).remove(3);
    let bytes = std::fs::read(&segment).unwrap();
    std::fs::write(&segment, &bytes[..bytes.len() - 1]).unwrap();
    let error = refused(&cut);
    assert!(
        error.contains(segment.to_str().unwrap()) && error.contains("damaged"),
        "{error}"
    );

    let swapped = whole.copy();
    let found = segments(&swapped);
    let (one, other) = (std::fs::read(&found[2]).unwrap(), std::fs::read(&found[3]).unwrap());
    std::fs::write(&found[2], other).unwrap();
    std::fs::write(&found[3], one).unwrap();
    let error = refused(&swapped);
    assert!(error.contains("tollgate.db-log-"), "{error}");

    // Of one length, so that only their headers tell them apart.
    let twins = place();
    let store = twins.open();
    for id in 100..160 {
        let twin = Sent::new(&format!("t{id}")).body(&format!("{id}").repeat(1000));
        assert_eq!(twin.admit(&store).await, ACCEPTED);
    }
    all_compressed(&twins);
    store.close().await;
    let found = segments(&twins);
    let mut by_length = std::collections::BTreeMap::new();
    let pair = (1..found.len() - 1).find_map(|number| {
        let plain = zstd::stream::decode_all(&std::fs::read(&found[number]).unwrap()[..]).unwrap();
        Some((by_length.insert(plain.len(), number)?, number))
    });
    let (one, other) = pair.expect("two segments of one length");
    let kept = found[one].with_extension("kept");
    for (from, to) in [
        (&found[one], &kept),
        (&found[other], &found[one]),
        (&kept, &found[other]),
    ] {
        std::fs::rename(from, to).unwrap();
    }
    let error = refused(&twins);
    assert!(error.contains("has another segment's name"), "{error}");

    // In the middle: a restart does not read it, an audit and an index that is made anew do.
    let changed = whole.copy();
    let mut other = bytes.clone();
    other[bytes.len() / 2] ^= 0x55;
    let segment = segments(&changed).remove(3);
    std::fs::write(&segment, other).unwrap();
    let store = changed.open();
    let problems = store.audited().unwrap().in_words();
    assert!(!problems.is_empty(), "nothing was found");
    store.close().await;
    std::fs::remove_file(changed.path()).unwrap();
    let error = refused(&changed);
    assert!(error.contains("tollgate.db-log-"), "{error}");
}

/// A second backup takes no room for what the first has, and neither needs the other.
#[tokio::test]
async fn d4_a_backup_shares_full_segments_with_the_one_before_it() {
    let backups = tempfile::tempdir().unwrap();
    let [first, second, third] = ["1", "2", "3"].map(|name| backups.path().join(name));
    let backup = |store: &SqliteStore, to: &Path, previous: Option<&Path>| {
        store.backup_to(to, previous, "0.0.0", UnixMillis(0), &mut |_| {})
    };
    let place = place();
    let store = place.open();
    admit(&store, 0..EVENTS / 2).await;
    all_compressed(&place);
    backup(&store, &first, None).unwrap();
    admit(&store, EVENTS / 2..EVENTS).await;
    all_compressed(&place);
    let manifest = backup(&store, &second, Some(&first)).unwrap();

    let inode = |folder: &Path, name: &str| std::fs::metadata(folder.join(name)).map(|file| file.ino()).ok();
    let shared = |name: &str| inode(&first, name).is_some() && inode(&first, name) == inode(&second, name);
    let count = manifest.files.iter().filter(|file| shared(&file.name)).count();
    let full = manifest.files.iter().filter(|file| file.name.ends_with(".zst")).count();
    assert!(count >= 2 && count < full, "{count} of {full} segments are shared");
    assert!(!shared("tollgate.db") && !shared("tollgate.db-key"));
    for folder in [&first, &second] {
        SqliteStore::verify_backup(folder).unwrap();
    }

    // One that was damaged meanwhile is not taken over.
    let name = manifest
        .files
        .iter()
        .rfind(|file| shared(&file.name))
        .unwrap()
        .name
        .clone();
    let mut damaged = std::fs::read(second.join(&name)).unwrap();
    damaged[100] ^= 1;
    std::fs::remove_file(second.join(&name)).unwrap();
    std::fs::write(second.join(&name), &damaged).unwrap();
    backup(&store, &third, Some(&second)).unwrap();
    SqliteStore::verify_backup(&third).unwrap();
    assert!(SqliteStore::verify_backup(&second).is_err());

    std::fs::remove_dir_all(&first).unwrap();
    std::fs::remove_dir_all(&second).unwrap();
    let restored = crate::compressed::place();
    SqliteStore::restore_backup(&third, &restored.path()).unwrap();
    assert_holds_all(&restored.open(), "restored").await;

    let other = filled().await;
    let fourth = backups.path().join("4");
    let error = backup(&other.open(), &fourth, Some(&third)).unwrap_err().to_string();
    assert!(error.contains("another store"), "{error}");
    assert!(!fourth.exists(), "nothing was begun");
}
