//! Verification, signing and reading of messages, by the shipped profiles and others.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

mod message;
mod messages;
mod traps;
mod vectors;
