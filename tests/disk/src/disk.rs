//! What is watched, what is recorded, what is to fail.

use std::ffi::{CStr, c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::format::{CONTROL, FOLDER, HEAD_BYTES, LAUNCHED, PAGE_BYTES, RECORDING, SUFFIX_AT, Word, fault, kind};

/// Set once before `main`, and only in a process that was given a folder.
static DISK: OnceLock<Disk> = OnceLock::new();

pub(crate) fn disk() -> Option<&'static Disk> {
    DISK.get()
}

pub(crate) struct Disk {
    folder: Vec<u8>,
    device: u64,
    inode: u64,
    recording: c_int,
    control: &'static [AtomicU64; PAGE_BYTES / 8],
    watched: Mutex<Watched>,
}

/// The files of the folder that were opened. Whoever holds it may change files and write records.
pub(crate) struct Watched {
    files: Vec<(u64, Vec<u8>)>,
    syncs: u64,
}

/// What a file descriptor is to us.
pub(crate) enum Place {
    /// A file of the device, with its inode; perhaps a watched one.
    File(u64),
    /// The watched folder.
    Folder,
    Socket,
    Other,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Pass,
    /// Only half of what was asked is done.
    Half,
    Fail(c_int),
    /// Nothing is done, and the caller told that it was.
    Lie,
    /// It is done so many milliseconds later.
    Later(u64),
}

#[used]
#[unsafe(link_section = ".init_array")]
static BEGIN: extern "C" fn() = begin;

extern "C" fn begin() {
    if std::env::var_os(LAUNCHED).is_some() {
        // SAFETY: nothing else runs before `main`. What is started next finds the library and not this variable.
        unsafe { std::env::remove_var(LAUNCHED) };
        return;
    }
    if let Some(disk) = Disk::of_environment() {
        let _ = DISK.set(disk);
    }
    // What the host starts is not the host.
    // SAFETY: nothing else runs before `main`.
    unsafe { libc::unsetenv(c"LD_PRELOAD".as_ptr()) };
}

impl Disk {
    fn of_environment() -> Option<Self> {
        let folder = std::env::var_os(FOLDER)?.into_encoded_bytes();
        let path = std::ffi::CString::new(folder.clone()).ok()?;
        let status = status_at(&path)?;
        let recording = open_outside(RECORDING, libc::O_WRONLY | libc::O_APPEND)?;
        let control = open_outside(CONTROL, libc::O_RDWR)?;
        // SAFETY: a new mapping of a file that has a page; it is never unmapped.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                control,
                0,
            )
        };
        if page == libc::MAP_FAILED {
            return None;
        }
        Some(Self {
            folder,
            device: status.st_dev,
            inode: status.st_ino,
            recording,
            // SAFETY: it is aligned to a page, lives as long as the process, and is only ever used as atomics.
            control: unsafe { &*page.cast() },
            watched: Mutex::new(Watched {
                files: Vec::new(),
                syncs: 0,
            }),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn place(&self, descriptor: c_int) -> Place {
        let Some(status) = status_of(descriptor) else {
            return Place::Other;
        };
        match status.st_mode & libc::S_IFMT {
            libc::S_IFREG if status.st_dev == self.device => Place::File(status.st_ino),
            libc::S_IFDIR if status.st_dev == self.device && status.st_ino == self.inode => Place::Folder,
            libc::S_IFSOCK => Place::Socket,
            _ => Place::Other,
        }
    }

    /// The name of a file that is right in the folder.
    pub(crate) fn name<'a>(&self, path: &'a CStr) -> Option<&'a [u8]> {
        let name = path
            .to_bytes()
            .strip_prefix(self.folder.as_slice())?
            .strip_prefix(b"/")?;
        (!name.is_empty() && !name.contains(&b'/')).then_some(name)
    }

    /// Appends a record. The caller holds the lock.
    pub(crate) fn record(&self, _: &Watched, kind: u64, inode: u64, argument: u64, payload: &[&[u8]]) {
        let length: usize = payload.iter().map(|piece| piece.len()).sum();
        let mut bytes = Vec::with_capacity(HEAD_BYTES + length);
        for number in [kind, inode, argument, length as u64] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        payload.iter().for_each(|piece| bytes.extend_from_slice(piece));
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            // SAFETY: the pointer and the length are those of a slice.
            let written = unsafe { libc::syscall(libc::SYS_write, self.recording, rest.as_ptr(), rest.len()) };
            match usize::try_from(written) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                // A record with a hole is worse than a host that is gone: the campaign sees that.
                Err(_) => std::process::abort(),
            }
        }
    }

    /// What becomes of a call of the `class` of one of [`fault`] on the file of that name; says so in the recording when it fails.
    pub(crate) fn fate(&self, watched: &Watched, class: u64, inode: u64, name: &[u8]) -> Fate {
        let armed = self.word(Word::Fault).load(Ordering::Acquire);
        let class_of = |fault: u64| match fault {
            fault::SHORT_WRITE | fault::TORN_WRITE => fault::WRITE,
            fault::LYING_SYNC | fault::SLOW_SYNC => fault::SYNC,
            itself => itself,
        };
        if class_of(armed) != class || !name.ends_with(&self.suffix()) {
            return Fate::Pass;
        }
        let seen = self.word(Word::Seen).fetch_add(1, Ordering::AcqRel) + 1;
        let nth = self.word(Word::Nth).load(Ordering::Acquire);
        let lasts = self.word(Word::Lasting).load(Ordering::Acquire) != 0;
        let error = c_int::try_from(self.word(Word::Error).load(Ordering::Acquire)).unwrap_or(libc::EIO);
        let fate = match (armed, seen.checked_sub(nth)) {
            (_, None) => Fate::Pass,
            (fault::SHORT_WRITE, Some(0)) => Fate::Half,
            (fault::SHORT_WRITE, Some(_)) if lasts => Fate::Half,
            (fault::TORN_WRITE, Some(0)) => Fate::Half,
            (fault::TORN_WRITE, Some(1)) => Fate::Fail(error),
            (fault::SHORT_WRITE, Some(_)) => Fate::Pass,
            (fault::SLOW_SYNC, Some(after)) if after == 0 || lasts => Fate::Later(error.unsigned_abs().into()),
            (fault::LYING_SYNC, Some(after)) if after == 0 || lasts => Fate::Lie,
            (_, Some(after)) if after == 0 || lasts => Fate::Fail(error),
            _ => Fate::Pass,
        };
        if fate != Fate::Pass {
            self.word(Word::Fired).fetch_add(1, Ordering::AcqRel);
            self.record(watched, kind::FAULT, inode, error.unsigned_abs().into(), &[name]);
        }
        fate
    }

    fn word(&self, word: Word) -> &AtomicU64 {
        &self.control[word as usize]
    }

    fn suffix(&self) -> Vec<u8> {
        let length = self.word(Word::SuffixLength).load(Ordering::Acquire) as usize;
        let words = &self.control[SUFFIX_AT / 8..];
        let bytes = words.iter().flat_map(|word| word.load(Ordering::Acquire).to_ne_bytes());
        bytes.take(length).collect()
    }
}

impl Watched {
    /// A file of the folder is open now under this name.
    pub(crate) fn opened(&mut self, inode: u64, name: &[u8]) {
        self.files.retain(|(known, _)| *known != inode);
        self.files.push((inode, name.to_vec()));
    }

    /// Its inode may be given to another file.
    pub(crate) fn gone(&mut self, name: &[u8]) {
        self.files.retain(|(_, known)| known != name);
    }

    pub(crate) fn renamed(&mut self, from: &[u8], to: &[u8]) {
        self.gone(to);
        for (_, known) in self.files.iter_mut().filter(|(_, known)| known == from) {
            *known = to.to_vec();
        }
    }

    pub(crate) fn name_of(&self, inode: u64) -> Option<Vec<u8>> {
        let (_, name) = self.files.iter().find(|(known, _)| *known == inode)?;
        Some(name.clone())
    }

    pub(crate) fn next_sync(&mut self) -> u64 {
        self.syncs += 1;
        self.syncs
    }
}

fn open_outside(variable: &str, flags: c_int) -> Option<c_int> {
    let path = std::ffi::CString::new(std::env::var_os(variable)?.into_encoded_bytes()).ok()?;
    let flags = flags | libc::O_CLOEXEC;
    // SAFETY: the path ends with a zero byte.
    let descriptor = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0) };
    c_int::try_from(descriptor).ok().filter(|descriptor| *descriptor >= 0)
}

pub(crate) fn status_of(descriptor: c_int) -> Option<libc::stat> {
    let mut status = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: there is place for what it fills; it is read only when it was filled.
    unsafe { (libc::fstat(descriptor, status.as_mut_ptr()) == 0).then(|| status.assume_init()) }
}

pub(crate) fn status_at(path: &CStr) -> Option<libc::stat> {
    let mut status = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: as above, and the path ends with a zero byte.
    unsafe { (libc::lstat(path.as_ptr(), status.as_mut_ptr()) == 0).then(|| status.assume_init()) }
}

pub(crate) fn set_errno(error: c_int) {
    // SAFETY: it is this thread's own.
    unsafe { *libc::__errno_location() = error };
}

pub(crate) fn errno() -> c_int {
    // SAFETY: it is this thread's own.
    unsafe { *libc::__errno_location() }
}

/// The bytes that a caller of `write` names.
///
/// # Safety
/// They must be there for as long as the result is used.
pub(crate) unsafe fn bytes<'a>(data: *const c_void, length: usize) -> &'a [u8] {
    if data.is_null() {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(data.cast(), length) }
}
