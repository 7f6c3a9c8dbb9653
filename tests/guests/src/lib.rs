//! What the guests share: the contract's bindings without the author's kit, a manifest, and two ways to propose.

#[allow(missing_docs, reason = "generated; the contract's documentation is in wit/")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "processor",
        pub_export_macro: true,
        export_macro_name: "export_guest",
    });
}

pub use bindings::exports::tollgate::plugin::handler::Guest;
pub use bindings::tollgate::plugin::types::{Action, Credit, Event, Failure, Flag, Money, Proposal, RetryLater};
pub use bindings::tollgate::plugin::{log, state};

/// Exports a guest, with a manifest that claims every kind of action.
#[macro_export]
macro_rules! guest {
    ($component:ident, $name:literal) => {
        $crate::manifest!($name);
        $crate::bindings::export_guest!($component with_types_in $crate::bindings);
    };
}

/// The manifest alone, for a guest with bindings of its own.
#[macro_export]
macro_rules! manifest {
    ($name:literal) => {
        const _: () = {
            const MANIFEST: &str = concat!(
                r#"{"name":""#,
                $name,
                r#"","version":"1.0.0","publisher":"tollgate-tests","events":["*"],"actions":["credit","debit","#,
                r#""reserve-stock","release-stock","issue-gift-card","flag","notify","extension"],"state":true,"#,
                r#""description":"A guest that tests the host."}"#
            );

            #[used]
            #[unsafe(link_section = "tollgate:manifest")]
            static SECTION: [u8; MANIFEST.len()] = match MANIFEST.as_bytes().first_chunk() {
                Some(bytes) => *bytes,
                None => unreachable!(),
            };
        };
    };
}

/// A flag under `key`.
pub fn flag(key: &str, score: u32, reasons: Vec<String>) -> Proposal {
    let flag = Flag {
        subject: "subject".to_owned(),
        score,
        reasons,
    };
    Proposal {
        operation_key: key.to_owned(),
        action: Action::Flag(flag),
    }
}

/// A credit under `key`.
pub fn credit(key: &str, minor_units: i64, currency: &str) -> Proposal {
    let amount = Money {
        minor_units,
        currency: currency.to_owned(),
    };
    let credit = Credit {
        account: "account".to_owned(),
        amount,
        reason: "reason".to_owned(),
    };
    Proposal {
        operation_key: key.to_owned(),
        action: Action::Credit(credit),
    }
}

/// An answer as it lies in memory, for a guest that speaks the canonical ABI by hand: the case of `result`, padding up to 8 bytes,
/// then the case's value.
#[repr(C, align(8))]
pub struct RawAnswer([u32; 10]);

impl RawAnswer {
    /// `ok` with an empty list, whose pointer only has to be aligned.
    pub const OK: Self = Self::with_case(0);

    /// The same under another case, which need not exist.
    pub const fn with_case(case: u32) -> Self {
        Self([case, 0, 8, 0, 0, 0, 0, 0, 0, 0])
    }

    pub fn address(&'static self) -> usize {
        self.0.as_ptr() as usize
    }
}

/// Ends the run the hard way.
pub fn trap() -> ! {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort()
}
