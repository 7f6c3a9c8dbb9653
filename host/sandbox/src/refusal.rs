//! Why a component is refused: what is wrong with it, and how to mend it.

use std::fmt;

use tollgate_core::golden::GoldenError;
use tollgate_core::manifest::ManifestError;

/// What uploaded bytes turn out to be when they are not a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A WebAssembly module without the component around it.
    CoreModule,
    /// WebAssembly in its text form.
    Text,
    /// No bytes at all.
    Nothing,
    /// Something else.
    Other,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CoreModule => {
                "this is a core module; a component is needed. For Rust, set `linker = \"wasm-component-ld\"` for the target \
                 wasm32-unknown-unknown in .cargo/config.toml"
            }
            Self::Text => "this is WebAssembly text; translate it into the binary form with `wasm-tools parse`",
            Self::Nothing => "the file is empty",
            Self::Other => "this is not WebAssembly; upload the .wasm file that the build made",
        })
    }
}

/// Why a component cannot become a plugin. `Display` says what is wrong and how to mend it; [`Refusal::code`] is for programs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The component is over the host's bound.
    #[error(
        "the component is {bytes} bytes long; at most {bytes_max} are allowed. Build with opt-level \"s\", lto and strip = \
         \"debuginfo\""
    )]
    TooBig {
        /// How long it is.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// The bytes are something else than a component.
    #[error("not a component: {found}")]
    NotAComponent {
        /// What they are.
        found: Found,
    },
    /// The component's structure is broken.
    #[error("the component is damaged: {detail}. Build and upload it again")]
    Damaged {
        /// Where and how.
        detail: String,
    },
    /// The component imports what no plugin is given.
    #[error("the import `{import}` is outside the world tollgate:plugin/processor@1.0.0: {mend}")]
    ImportOutsideWorld {
        /// That import.
        import: String,
        /// How to build without it.
        mend: &'static str,
    },
    /// The component's imports and exports are not those of a plugin.
    #[error("not the world tollgate:plugin/processor@1.0.0: {detail}. Build against wit/tollgate.wit of this release")]
    WrongWorld {
        /// Which one is not, and how.
        detail: String,
    },
    /// The component is built against another version of the contract.
    #[error(
        "the component is built against `{found}`; this host speaks tollgate:plugin 1.x. Build against wit/tollgate.wit of this release"
    )]
    WrongVersion {
        /// That version.
        found: String,
    },
    /// The component does not say what it is.
    #[error(
        "the component has no manifest; use the SDK's `manifest!` macro or add a custom section `tollgate:manifest`"
    )]
    MissingManifest,
    /// The component says several times what it is.
    #[error("the component has {count} manifests in its nested modules and none of its own; keep one")]
    ManyManifests {
        /// How many manifests it has.
        count: usize,
    },
    /// The manifest is none.
    #[error("the manifest cannot be used: {0}. Correct it and build again")]
    BadManifest(ManifestError),
    /// The compiler does not take the component.
    #[error(
        "the component does not compile: {detail}. Build it with a current toolchain, without threads, tail calls or memory64"
    )]
    CompileFailed {
        /// What the compiler says.
        detail: String,
    },
    /// Compiling takes more memory or time than an upload may.
    #[error(
        "compiling the component went over the host's limits: {detail}. Make it smaller, or split huge functions; if the machine was busy, try again"
    )]
    CompileLimits {
        /// Which bound.
        detail: String,
    },
    /// An instance needs more than a run is given.
    #[error("the component asks for more than an instance gets: {detail}. Lower its memories, tables or instances")]
    OverLimits {
        /// Which bound.
        detail: String,
    },
    /// No instance comes up.
    #[error("a trial instance failed before any event came: {detail}. Do no work while the component starts")]
    TrialFailed {
        /// How making one ended.
        detail: String,
    },
    /// The section with golden events is none.
    #[error("the golden events cannot be used: {0}. Correct the section `tollgate:golden` and build again")]
    BadGolden(GoldenError),
    /// A golden event did not end as it must.
    #[error(
        "the golden event `{name}` failed: {detail}. Correct the plugin or its golden event; a plugin without golden events must \
         not fail on an empty event with an empty configuration: let it refuse or hold what it cannot use"
    )]
    GoldenFailed {
        /// Its name.
        name: String,
        /// How it ended.
        detail: String,
    },
    /// The host failed, and says nothing of the component.
    #[error("the host could not vet the component: {detail}. This is not the component's doing; try again")]
    Host {
        /// What failed.
        detail: String,
    },
}

impl Refusal {
    /// A stable slug for programs and tests.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooBig { .. } => "too-big",
            Self::NotAComponent { .. } => "not-a-component",
            Self::Damaged { .. } => "damaged",
            Self::ImportOutsideWorld { .. } => "import-outside-world",
            Self::WrongWorld { .. } => "wrong-world",
            Self::WrongVersion { .. } => "wrong-version",
            Self::MissingManifest => "missing-manifest",
            Self::ManyManifests { .. } => "many-manifests",
            Self::BadManifest(_) => "bad-manifest",
            Self::CompileFailed { .. } => "compile-failed",
            Self::CompileLimits { .. } => "compile-limits",
            Self::OverLimits { .. } => "over-limits",
            Self::TrialFailed { .. } => "trial-failed",
            Self::BadGolden(_) => "bad-golden",
            Self::GoldenFailed { .. } => "golden-failed",
            Self::Host { .. } => "host",
        }
    }
}
