//! End to end: every promise of the foundation, through the real binary. A test's name begins with the promise that it shows.
//!
//! Each test sets a stage of its own (see `tollgate_tests::stage`): a folder, a configuration, a `tollgate serve` as a child
//! process, and where needed a destination that verifies what it receives.

mod authentic;
mod access;
mod bounds;
mod durable;
mod redelivery;
mod refused;
mod meaning;
mod review;
mod set_aside;
mod processing;
mod fair;
mod hostile;
mod delivery;
mod effects;
mod budgets;
mod order;
mod filters;
mod pulls;
mod pauses;
mod forward;
mod lifecycle;
mod operators;
mod lists;
mod bulk;
mod issues;
mod mail;
mod process;
mod telemetry;
mod prometheus;
mod alerts;
mod traces;
mod audit;
mod backup;
mod repeat;
mod roles;
mod console;
mod portal;
mod browser;
mod documented;
mod native;
mod registry;
mod providers;
mod published;
mod uploads;
mod kit;
mod configuration;
mod settings;
mod tryouts;
mod self_service;
mod transcripts;
mod postgres;
