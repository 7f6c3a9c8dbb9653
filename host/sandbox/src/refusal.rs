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
    #[error(
        "the component is {bytes} bytes long; at most {bytes_max} are allowed. Build with opt-level \"s\", lto and strip = \
         \"debuginfo\""
    )]
    TooBig { bytes: usize, bytes_max: usize },
    #[error("not a component: {found}")]
    NotAComponent { found: Found },
    #[error("the component is damaged: {detail}. Build and upload it again")]
    Damaged { detail: String },
    #[error("the import `{import}` is outside the world tollgate:plugin/processor@1.0.0: {mend}")]
    ImportOutsideWorld { import: String, mend: &'static str },
    #[error("not the world tollgate:plugin/processor@1.0.0: {detail}. Build against wit/tollgate.wit of this release")]
    WrongWorld { detail: String },
    #[error(
        "the component is built against `{found}`; this host speaks tollgate:plugin 1.x. Build against wit/tollgate.wit of this release"
    )]
    WrongVersion { found: String },
    #[error(
        "the component has no manifest; use the SDK's `manifest!` macro or add a custom section `tollgate:manifest`"
    )]
    MissingManifest,
    #[error("the component has {count} manifests in its nested modules and none of its own; keep one")]
    ManyManifests { count: usize },
    #[error("the manifest cannot be used: {0}. Correct it and build again")]
    BadManifest(ManifestError),
    #[error(
        "the component does not compile: {detail}. Build it with a current toolchain, without threads, tail calls or memory64"
    )]
    CompileFailed { detail: String },
    #[error("compiling the component went over the host's limits: {detail}. Make it smaller, or split huge functions")]
    CompileLimits { detail: String },
    #[error("the component asks for more than an instance gets: {detail}. Lower its memories, tables or instances")]
    OverLimits { detail: String },
    #[error("a trial instance failed before any event came: {detail}. Do no work while the component starts")]
    TrialFailed { detail: String },
    #[error("the golden events cannot be used: {0}. Correct the section `tollgate:golden` and build again")]
    BadGolden(GoldenError),
    #[error(
        "the golden event `{name}` failed: {detail}. Correct the plugin or its golden event; a plugin without golden events must \
         not fail on an empty event with an empty configuration: let it refuse or hold what it cannot use"
    )]
    GoldenFailed { name: String, detail: String },
    #[error("the host could not vet the component: {detail}. This is not the component's doing; try again")]
    Host { detail: String },
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
