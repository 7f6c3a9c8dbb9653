//! Tollgate's rules, and nothing else.
//!
//! This crate decides; its callers act. It has no I/O, no clock, no randomness and no async: time, jitter and keys are
//! arguments, and answers are values. It compiles for native hosts and for wasm32, so the native binary and the Spin app
//! decide alike.
//!
//! Read it in the order of the modules below: it is the order in which an event passes through.
#![forbid(unsafe_code)]

// The words.
pub mod ids;
pub mod issue;
pub mod limits;
pub mod mode;
pub mod money;
pub mod secret;
pub mod subject;
pub mod time;

// An event comes in.
pub mod request;
pub mod rate;
pub mod profile;
pub mod verify;
pub mod explain;
pub mod sign;
pub mod event;
mod json;
mod form;
mod batch;
pub mod envelope;
pub mod challenge;
pub mod answer;
pub mod vector;
pub mod sample;
pub mod catalogue;

// It is admitted.
pub mod admission;
pub mod lifecycle;
pub mod review;
pub mod route;
pub mod chain;
pub mod commitment;

// It is run, and what it asks for is judged.
pub mod work;
pub mod turns;
pub mod config_schema;
pub mod manifest;
pub mod signature;
pub mod checkpoint;
pub mod golden;
pub mod registry;
pub mod action;
pub mod grant;
pub mod budget;
pub mod bulk;
pub mod state;
pub mod habits;
pub mod host_calls;
pub mod outcome;
pub mod quarantine;
pub mod worker;
pub mod difference;
pub mod fixture;

// It is tried again, delivered, or given up.
pub mod retry;
pub mod outbox;
pub mod delivery;
pub mod forward;
pub mod mail;
pub mod own_header;
pub mod network;
pub mod breaker;

// What people may see of it, and do.
pub mod mask;
pub mod portal;
pub mod access;
pub mod filter;
pub mod content;
pub mod undelivered;
