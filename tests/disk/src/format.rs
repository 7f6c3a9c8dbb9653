//! What the library in the host and the campaign outside of it say to each other; both compile this file.

/// The watched folder, absolute and without symbolic links.
pub const FOLDER: &str = "TOLLGATE_DISK_FOLDER";
/// The file that records are appended to; it is made by the campaign, outside of the watched folder.
pub const RECORDING: &str = "TOLLGATE_DISK_RECORDING";
/// The page of [`Word`]s; it is made by the campaign, [`PAGE_BYTES`] long.
pub const CONTROL: &str = "TOLLGATE_DISK_CONTROL";
/// Set where the host is not this program, but what it starts, as `spin up` does.
pub const LAUNCHED: &str = "TOLLGATE_TEST_DISK_LAUNCHED";

/// A record: four numbers of 64 bits (kind, inode, argument, length of the payload), little-endian, and the payload.
pub const HEAD_BYTES: usize = 32;

/// Kinds of records. The inode of the watched folder itself is 0.
pub mod kind {
    /// A file that was not there was made. Payload: its name.
    pub const CREATE: u64 = 1;
    /// A file that was there was opened. Payload: its name.
    pub const OPEN: u64 = 2;
    /// Argument: where. Payload: what.
    pub const WRITE: u64 = 3;
    /// Argument: the new size.
    pub const TRUNCATE: u64 = 4;
    /// A sync begins. Argument: its number.
    pub const SYNC: u64 = 5;
    /// It has ended well. Argument: its number.
    pub const SYNCED: u64 = 6;
    /// It has failed. Argument: its number.
    pub const SYNC_FAILED: u64 = 7;
    /// Payload: a name.
    pub const UNLINK: u64 = 8;
    /// Payload: the old name, a zero byte, the new one.
    pub const RENAME: u64 = 9;
    /// The host is about to say this to a peer. Payload: the bytes.
    pub const SAID: u64 = 10;
    /// A call is made to fail. Argument: the error.
    pub const FAULT: u64 = 11;
}

/// Numbers of the control page, by their place. The campaign writes them into the file, the library sees them in its memory.
#[derive(Debug, Clone, Copy)]
pub enum Word {
    /// One of [`fault`]; written last when a fault is armed, and 0 to lift it.
    Fault = 0,
    /// The first call that fails, from 1.
    Nth = 1,
    /// 0 for one call, 1 for all from there on.
    Lasting = 2,
    /// What the call says.
    Error = 3,
    /// Calls that the fault could have been for, counted by the library.
    Seen = 4,
    /// Calls that failed, counted by the library.
    Fired = 5,
    /// The length of the text at [`SUFFIX_AT`].
    SuffixLength = 6,
}

/// Names that end so are meant; the folder itself has the name `.`.
pub const SUFFIX_AT: usize = 64;
/// The length of the control page.
pub const PAGE_BYTES: usize = 128;

/// What fails.
pub mod fault {
    /// A write fails, and nothing is written.
    pub const WRITE: u64 = 1;
    /// Half of it is written, and the call says so.
    pub const SHORT_WRITE: u64 = 2;
    /// Half of it is written, and the next write fails: how a disk gets full.
    pub const TORN_WRITE: u64 = 3;
    /// A sync fails.
    pub const SYNC: u64 = 4;
    /// A change of a file's size fails.
    pub const TRUNCATE: u64 = 5;
    /// The sync does nothing and says that it went well: what no host can notice, for proof that a campaign does.
    pub const LYING_SYNC: u64 = 6;
    /// The sync takes as many milliseconds longer as [`Word::Error`](super::Word::Error) says, and goes well.
    pub const SLOW_SYNC: u64 = 7;
}
