//! A disk that keeps a record of itself and fails on demand: a library that `LD_PRELOAD` puts between a process and the system.
//!
//! It stands in for the calls that change files, looks at those that are about files of one folder, and passes everything on. What
//! it sees goes to a file, in the order in which it took effect: one lock is held over a call and its record. What is said to
//! peers over sockets goes there as well, right before it is said, so that the record knows what was durable when something
//! was promised. A page of shared memory says which call is to fail. `tests/src/disk` is the other end.
//!
//! Only calls through the C library are seen. A campaign holds what the record says against the files that are really there, so that
//! a way to write that is not here fails it; and a sync that is not seen is a sync that did not happen.
//!
//! Beside that it can move the process's wall clock; see `clock`.
#![cfg(target_os = "linux")]

mod calls;
mod clock;
mod disk;
pub mod format;
