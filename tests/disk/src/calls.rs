//! The system's calls, under their own names. Each does what it is asked by a bare system call, so that none of them meets another.

use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_void};

use libc::{iovec, mode_t, msghdr, off64_t, size_t, ssize_t, syscall};

use crate::disk::{Disk, Fate, Place, Watched, bytes, disk, errno, set_errno, status_at, status_of};
use crate::format::{fault, kind};

/// Of what is said to a peer, a record has at most so much; answers and deliveries are shorter.
const SAID_BYTES_MAX: usize = 64 * 1024;

// The arguments are those of the system's own functions: whoever calls them must keep to what those ask. Functions with a variable
// number of arguments are defined with the longest list, which is the same to the machines that Linux runs on.

#[unsafe(no_mangle)]
unsafe extern "C" fn write(descriptor: c_int, data: *const c_void, length: size_t) -> ssize_t {
    // SAFETY: as above.
    let raw = |length: usize| unsafe { syscall(libc::SYS_write, descriptor, data, length) };
    let Some(disk) = disk() else {
        return result(raw(length));
    };
    match disk.place(descriptor) {
        Place::File(inode) => {
            // SAFETY: as above.
            let position = || unsafe { position(descriptor) };
            // SAFETY: as above.
            written(disk, inode, position, unsafe { bytes(data, length) }, raw)
        }
        Place::Socket => {
            // SAFETY: as above.
            said(disk, &[unsafe { bytes(data, length) }]);
            result(raw(length))
        }
        Place::Folder | Place::Other => result(raw(length)),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite(descriptor: c_int, data: *const c_void, length: size_t, at: off64_t) -> ssize_t {
    // SAFETY: as above.
    let raw = |length: usize| unsafe { syscall(libc::SYS_pwrite64, descriptor, data, length, at) };
    match disk().map(|disk| (disk, disk.place(descriptor))) {
        // SAFETY: as above.
        Some((disk, Place::File(inode))) => written(disk, inode, || at, unsafe { bytes(data, length) }, raw),
        _ => result(raw(length)),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite64(descriptor: c_int, data: *const c_void, length: size_t, at: off64_t) -> ssize_t {
    // SAFETY: as above.
    unsafe { pwrite(descriptor, data, length, at) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn writev(descriptor: c_int, pieces: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: as above.
    let all = unsafe { pieces_of(pieces, usize::try_from(count).unwrap_or(0)) };
    match disk().map(|disk| (disk, disk.place(descriptor))) {
        Some((_, Place::File(_))) => {
            // In one piece it is one call for the record, and for what is to fail.
            let joined = all.concat();
            // SAFETY: the pointer and the length are those of a slice.
            unsafe { write(descriptor, joined.as_ptr().cast(), joined.len()) }
        }
        place => {
            if let Some((disk, Place::Socket)) = place {
                said(disk, &all);
            }
            // SAFETY: as above.
            result(unsafe { syscall(libc::SYS_writev, descriptor, pieces, count) })
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pwritev(descriptor: c_int, pieces: *const iovec, count: c_int, at: off64_t) -> ssize_t {
    // SAFETY: as above.
    let joined = unsafe { pieces_of(pieces, usize::try_from(count).unwrap_or(0)) }.concat();
    // SAFETY: the pointer and the length are those of a slice.
    unsafe { pwrite(descriptor, joined.as_ptr().cast(), joined.len(), at) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pwritev64(descriptor: c_int, pieces: *const iovec, count: c_int, at: off64_t) -> ssize_t {
    // SAFETY: as above.
    unsafe { pwritev(descriptor, pieces, count, at) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn send(socket: c_int, data: *const c_void, length: size_t, flags: c_int) -> ssize_t {
    if let Some(disk) = disk() {
        // SAFETY: as above.
        said(disk, &[unsafe { bytes(data, length) }]);
    }
    let nobody = std::ptr::null::<c_void>();
    // SAFETY: as above.
    result(unsafe { syscall(libc::SYS_sendto, socket, data, length, flags, nobody, 0) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sendmsg(socket: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
    if let Some(disk) = disk() {
        // SAFETY: as above.
        said(disk, &unsafe { pieces_of((*message).msg_iov, (*message).msg_iovlen) });
    }
    // SAFETY: as above.
    result(unsafe { syscall(libc::SYS_sendmsg, socket, message, flags) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ftruncate(descriptor: c_int, size: off64_t) -> c_int {
    // SAFETY: as above.
    let raw = || unsafe { syscall(libc::SYS_ftruncate, descriptor, size) } as c_int;
    let Some((disk, Place::File(inode))) = disk().map(|disk| (disk, disk.place(descriptor))) else {
        return raw();
    };
    let watched = disk.lock();
    let Some(name) = watched.name_of(inode) else {
        return raw();
    };
    if let Fate::Fail(error) = disk.fate(&watched, fault::TRUNCATE, inode, &name) {
        set_errno(error);
        return -1;
    }
    let done = raw();
    if done == 0 {
        disk.record(&watched, kind::TRUNCATE, inode, size.unsigned_abs(), &[]);
    }
    done
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ftruncate64(descriptor: c_int, size: off64_t) -> c_int {
    // SAFETY: as above.
    unsafe { ftruncate(descriptor, size) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fsync(descriptor: c_int) -> c_int {
    synced(descriptor, libc::SYS_fsync)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fdatasync(descriptor: c_int) -> c_int {
    synced(descriptor, libc::SYS_fdatasync)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: as above.
    unsafe { opened(libc::AT_FDCWD, path, flags, mode) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: as above.
    unsafe { opened(libc::AT_FDCWD, path, flags, mode) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn openat(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: as above.
    unsafe { opened(folder, path, flags, mode) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn openat64(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: as above.
    unsafe { opened(folder, path, flags, mode) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: as above.
    unsafe { unlinkat(libc::AT_FDCWD, path, 0) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn unlinkat(folder: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: as above.
    let raw = || unsafe { syscall(libc::SYS_unlinkat, folder, path, flags) } as c_int;
    // SAFETY: as above.
    let Some((disk, name)) = disk().and_then(|disk| Some((disk, disk.name(unsafe { CStr::from_ptr(path) })?))) else {
        return raw();
    };
    let mut watched = disk.lock();
    let done = raw();
    if done == 0 {
        watched.gone(name);
        disk.record(&watched, kind::UNLINK, 0, 0, &[name]);
    }
    done
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    let here = libc::AT_FDCWD;
    // SAFETY: as above.
    let raw = || unsafe { syscall(libc::SYS_renameat2, here, from, here, to, 0 as c_uint) } as c_int;
    // SAFETY: as above.
    let names =
        |disk: &'static Disk| unsafe { Some((disk, disk.name(CStr::from_ptr(from))?, disk.name(CStr::from_ptr(to))?)) };
    let Some((disk, from, to)) = disk().and_then(names) else {
        return raw();
    };
    let mut watched = disk.lock();
    let done = raw();
    if done == 0 {
        watched.renamed(from, to);
        disk.record(&watched, kind::RENAME, 0, 0, &[from, b"\0", to]);
    }
    done
}

/// A write of `data` to a file that may be watched. `position` says where it will land, `raw` writes so much of it.
fn written(
    disk: &Disk,
    inode: u64,
    position: impl Fn() -> off64_t,
    data: &[u8],
    raw: impl Fn(usize) -> c_long,
) -> ssize_t {
    let watched = disk.lock();
    let Some(name) = watched.name_of(inode) else {
        drop(watched);
        return result(raw(data.len()));
    };
    let length = match disk.fate(&watched, fault::WRITE, inode, &name) {
        Fate::Pass | Fate::Lie | Fate::Later(_) => data.len(),
        Fate::Half => data.len().div_ceil(2),
        Fate::Fail(error) => {
            set_errno(error);
            return -1;
        }
    };
    let at = position();
    let done = raw(length);
    if let Some(part) = usize::try_from(done).ok().and_then(|done| data.get(..done)) {
        disk.record(&watched, kind::WRITE, inode, at.unsigned_abs(), &[part]);
    }
    result(done)
}

/// The lock is not held while it syncs: what is written meanwhile is not covered.
fn synced(descriptor: c_int, call: c_long) -> c_int {
    // SAFETY: a descriptor is a number.
    let raw = || unsafe { syscall(call, descriptor) } as c_int;
    let Some(disk) = disk() else { return raw() };
    let begun = |inode: u64, name: &[u8], watched: &mut Watched| {
        let number = watched.next_sync();
        disk.record(watched, kind::SYNC, inode, number, &[]);
        (inode, number, disk.fate(watched, fault::SYNC, inode, name))
    };
    let mut watched = disk.lock();
    let (inode, number, fate) = match disk.place(descriptor) {
        Place::File(inode) => match watched.name_of(inode) {
            Some(name) => begun(inode, &name, &mut watched),
            None => {
                drop(watched);
                return raw();
            }
        },
        Place::Folder => begun(0, b".", &mut watched),
        Place::Socket | Place::Other => {
            drop(watched);
            return raw();
        }
    };
    drop(watched);
    let (done, error) = match fate {
        Fate::Fail(error) => (-1, error),
        Fate::Lie => (0, 0),
        Fate::Later(ms) => {
            std::thread::sleep(std::time::Duration::from_millis(ms));
            (raw(), errno())
        }
        Fate::Pass | Fate::Half => (raw(), errno()),
    };
    let is_synced = done == 0 && fate != Fate::Lie;
    let how = if is_synced { kind::SYNCED } else { kind::SYNC_FAILED };
    disk.record(&disk.lock(), how, inode, number, &[]);
    if done != 0 {
        set_errno(error);
    }
    done
}

/// # Safety
/// As the system's own.
unsafe fn opened(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller's promise.
    let raw = || unsafe { syscall(libc::SYS_openat, folder, path, flags, mode) } as c_int;
    // SAFETY: the caller's promise.
    let path = unsafe { CStr::from_ptr(path) };
    let Some((disk, name)) = disk().and_then(|disk| Some((disk, disk.name(path)?))) else {
        return raw();
    };
    let mut watched = disk.lock();
    let was_there = status_at(path).is_some();
    let descriptor = raw();
    if let Some(status) = (descriptor >= 0).then(|| status_of(descriptor)).flatten() {
        watched.opened(status.st_ino, name);
        let how = if was_there { kind::OPEN } else { kind::CREATE };
        disk.record(&watched, how, status.st_ino, 0, &[name]);
        if was_there && flags & libc::O_TRUNC != 0 {
            disk.record(&watched, kind::TRUNCATE, status.st_ino, 0, &[]);
        }
    }
    descriptor
}

/// Keeps the beginning of an answer or of a delivery.
fn said(disk: &Disk, pieces: &[&[u8]]) {
    let is_http = |piece: &[u8]| piece.starts_with(b"HTTP/1.") || piece.starts_with(b"POST ");
    if pieces.first().is_some_and(|piece| is_http(piece)) {
        let mut rest = SAID_BYTES_MAX;
        let bounded: Vec<&[u8]> = pieces
            .iter()
            .map(|piece| {
                let (kept, _) = piece.split_at(piece.len().min(rest));
                rest -= kept.len();
                kept
            })
            .collect();
        disk.record(&disk.lock(), kind::SAID, 0, 0, &bounded);
    }
}

/// Where the next `write` lands.
///
/// # Safety
/// None: a descriptor is a number.
unsafe fn position(descriptor: c_int) -> off64_t {
    // SAFETY: as above.
    unsafe {
        let appends = libc::fcntl(descriptor, libc::F_GETFL) & libc::O_APPEND != 0;
        let from = if appends { libc::SEEK_END } else { libc::SEEK_CUR };
        syscall(libc::SYS_lseek, descriptor, 0, from)
    }
}

/// # Safety
/// As `writev`.
unsafe fn pieces_of<'a>(pieces: *const iovec, count: usize) -> Vec<&'a [u8]> {
    if pieces.is_null() {
        return Vec::new();
    }
    // SAFETY: the caller's promise.
    unsafe {
        let pieces = std::slice::from_raw_parts(pieces, count);
        pieces
            .iter()
            .map(|piece| bytes(piece.iov_base, piece.iov_len))
            .collect()
    }
}

fn result(done: c_long) -> ssize_t {
    // What a system call says fits.
    done as ssize_t
}
