//! The operator API, once: every call with its permission, what it takes and what it returns.
//!
//! The host serves the calls of [`calls`], the command line and the Spin app use the same types, and the OpenAPI document is
//! generated from them. A new call is an entry in that table and a handler in the host; nothing else lists calls.
//!
//! Requests come in two forms: as they go over the wire (`…Query`, `…Body`), and checked (`…Filter`, `Asked…`), which is what a
//! store is asked.
#![forbid(unsafe_code)]

mod as_text;
pub mod audit;
pub mod budgets;
pub mod bulk;
mod call;
pub mod calls;
mod check;
pub mod counts;
pub mod dead_letters;
#[cfg(feature = "document")]
pub mod document;
pub mod fixtures;
pub mod issues;
pub mod hosts;
pub mod lately;
pub mod lists;
#[cfg(feature = "document")]
pub mod page;
pub mod pauses;
pub mod plugins;
pub mod portal;
pub mod pulls;
pub mod quarantines;
pub mod replay;
pub mod resend;
#[cfg(feature = "document")]
mod schemas;
pub mod set_aside;
pub mod settings;
pub mod state;
pub mod status;
pub mod tokens;
pub mod trace;
pub mod trials;
pub mod tryouts;
pub mod whoami;

pub use call::{
    Call, Content, ErrorBody, FieldProblem, Method, Nothing, is_path, question, read_body, read_path, read_query,
};

/// The header that carries a signature document beside an uploaded component.
pub const SIGNATURE_HEADER: &str = "tollgate-plugin-signature";
