//! What the author of a Tollgate plugin depends on.
//!
//! A plugin turns one authentic event into proposals: "credit 5.00 USD to this account", "reserve two of that article". It is
//! a pure function of the event, the route's configuration and its own keyed state. It has no clock, no randomness, no files
//! and no network; the host validates each proposal, records it once per operation key, and delivers it.
//!
//! # A whole plugin
//!
//! ```
//! use tollgate_plugin::{Event, Failure, Money, Plugin, Proposal, State, config, operation_key};
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     /// What every completed reward earns, in minor units.
//!     bonus_minor_units: i64,
//!     currency: String,
//! }
//!
//! struct Bonus;
//!
//! impl Plugin for Bonus {
//!     fn process(event: &Event, config: &str, _state: &mut dyn State) -> Result<Vec<Proposal>, Failure> {
//!         let config: Config = config::parse(config)?;
//!         if event.status.as_deref() != Some("completed") {
//!             return Err(Failure::refuse("only completed rewards earn a bonus"));
//!         }
//!         let key = operation_key("bonus", event.operation())?;
//!         let amount = Money::new(config.bonus_minor_units, config.currency);
//!         Ok(vec![Proposal::credit(key, event.required_attribute("customer")?, amount, "bonus")])
//!     }
//! }
//!
//! // In the plugin's own crate, once, beside a `manifest.json`:
//! // tollgate_plugin::plugin!(Bonus, manifest = "manifest.json");
//!
//! // A rule is tested natively, with a state in memory.
//! use tollgate_plugin::testing::{EventBuilder, MemoryState};
//! let event = EventBuilder::new("reward.redeemed").status("reward-redemption", "completed").attribute("customer", "user_678").build();
//! let proposals = Bonus::process(&event, r#"{"bonus_minor_units": 500, "currency": "INR"}"#, &mut MemoryState::default()).unwrap();
//! assert_eq!(proposals[0].operation_key, "bonus:evt_1");
//! ```
//!
//! # The crate around it
//!
//! `crate-type = ["cdylib"]`, built by `cargo build --release --target wasm32-unknown-unknown` with
//! `linker = "wasm-component-ld"` for that target (it ships with the Rust toolchain). The result is a component that imports
//! nothing but the plugin's own state and log. Do not build for `wasm32-wasip2`: that drags in WASI, and Tollgate refuses it.
//!
//! The kit brings a global allocator that is made for short runs. A plugin that wants another one depends on the kit with
//! `default-features = false`.
//!
//! # What to hold to
//!
//! - The operation key names the business operation, not the event. The same operation must give the same content each time:
//!   where what you propose depends on state, keep what you proposed and propose it again.
//! - Answer [`Failure::refuse`] when the event is not for the rule, [`Failure::hold`] when a person must look, and
//!   [`Failure::retry`] only for what may be there later.
//! - Count in integers of minor units. Use `BTreeMap`, not `HashMap`, wherever order can reach an answer.
#![warn(missing_docs)]

#[cfg(any(test, all(target_arch = "wasm32", feature = "arena")))]
mod arena;
mod event;
mod failure;
mod pointer;
mod proposal;

pub mod config;
pub mod log;
pub mod manifest;
pub mod state;
pub mod testing;

/// What `wit-bindgen` makes of `wit/`. The names that an author needs are re-exported at the root.
#[doc(hidden)]
#[allow(
    missing_docs,
    unreachable_pub,
    reason = "generated; the contract's documentation is in wit/"
)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "processor",
        pub_export_macro: true,
        export_macro_name: "export_processor",
        additional_derives: [PartialEq, Eq],
    });
}

pub use bindings::tollgate::plugin::types::{
    Action, Credit, Debit, Event, Extension, Failure, Flag, GiftCard, Money, Notice, Proposal, RetryLater, Stock,
};
pub use config::Lookup;
pub use proposal::operation_key;
pub use state::State;

pub use serde;
pub use serde_json;

/// Bounds that the host sets on every plugin, for rules that have to stay within them. Crossing one ends the run.
pub mod limits {
    /// An operation key, in bytes.
    pub const OPERATION_KEY_BYTES_MAX: usize = 200;
    /// Actions of one run.
    pub const ACTIONS_MAX: usize = 64;
    /// One text field of an action, in bytes.
    pub const ACTION_TEXT_BYTES_MAX: usize = 1024;
    /// Reasons of one flag, values of one notice.
    pub const ACTION_LIST_MAX: usize = 32;
    /// A state key, in bytes.
    pub const STATE_KEY_BYTES_MAX: usize = 200;
    /// A state value, in bytes.
    pub const STATE_VALUE_BYTES_MAX: usize = 64 * 1024;
    /// Distinct state keys that one run may read or write.
    pub const STATE_KEYS_MAX: usize = 64;
    /// An amount of money lies within ± this many minor units: what a JSON number holds exactly everywhere.
    pub const MINOR_UNITS_MAX: i64 = (1 << 53) - 1;
}

/// A plugin's rule.
///
/// The type carries nothing: a run gets a fresh instance, so what must outlive it belongs into `state`.
pub trait Plugin {
    /// Turns one event into proposals; an empty list means that the event is taken and nothing is to be done.
    ///
    /// `config` is the route's configuration as a JSON document; read it with [`config::parse`].
    ///
    /// # Errors
    /// What the host does instead of recording actions: see [`Failure`]. A panic is logged with its message and ends the run.
    fn process(event: &Event, config: &str, state: &mut dyn State) -> Result<Vec<Proposal>, Failure>;
}

/// Makes the crate a plugin: exports the contract's world for a type that is [`Plugin`], sends the message of a panic to the
/// log, and embeds the manifest (a path from the crate's root) as the custom section `tollgate:manifest`.
///
/// Under `cargo test` it adds a test that the manifest is sound and has the crate's version.
#[macro_export]
macro_rules! plugin {
    ($plugin:ty, manifest = $manifest:literal $(,)?) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            const MANIFEST: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $manifest));

            #[used]
            #[unsafe(link_section = "tollgate:manifest")]
            static SECTION: [u8; MANIFEST.len()] = *include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $manifest));

            struct Component;

            impl $crate::bindings::exports::tollgate::plugin::handler::Guest for Component {
                fn process(event: $crate::Event, config: String) -> Result<Vec<$crate::Proposal>, $crate::Failure> {
                    $crate::log::install_panic_hook();
                    <$plugin as $crate::Plugin>::process(&event, &config, &mut $crate::state::HostState)
                }
            }

    $crate::bindings::export_processor!(Component with_types_in $crate::bindings);
        };

        #[cfg(test)]
        #[test]
        fn the_manifest_is_sound() {
            let manifest = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $manifest));
            let manifest = $crate::manifest::Manifest::parse(manifest).expect($manifest);
            assert_eq!(
                manifest.version,
                env!("CARGO_PKG_VERSION"),
                "the manifest's version is the crate's"
            );
        }
    };
}
