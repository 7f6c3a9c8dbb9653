//! Other people's servers, each with the smallest honest program (`bench/peers`), installed on demand into `target/peers`.
//!
//! Nothing of them is needed to build or to test Tollgate. What cannot be installed or started here is skipped, and the report says why.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;

use super::load::SECRET;
use super::system::{folder, free_port};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Fastify,
    /// What has come meanwhile shares a commit.
    FastifyGrouped,
    /// Two processes on one database.
    FastifyTwo,
    /// One PostgreSQL, a row and a commit for each event.
    FastifyPg,
    FastApi,
    /// Debian's `webhook`: runs a command for each hook.
    Webhook,
    Restate,
}

impl Peer {
    pub(super) const ALL: [Self; 6] = [
        Self::Fastify,
        Self::FastifyGrouped,
        Self::FastifyTwo,
        Self::FastApi,
        Self::Restate,
        Self::Webhook,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Fastify => "Fastify + better-sqlite3",
            Self::FastifyGrouped => "Fastify, group commit",
            Self::FastifyTwo => "Fastify, 2 processes",
            Self::FastifyPg => "Fastify + pg",
            Self::FastApi => "FastAPI + SQLite",
            Self::Webhook => "Debian's webhook",
            Self::Restate => "Restate",
        }
    }

    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Fastify | Self::FastifyGrouped | Self::FastifyTwo | Self::FastifyPg | Self::FastApi => {
                "/in/bench/rewards"
            }
            Self::Webhook => "/hooks/rewards",
            Self::Restate => "/rewards/receive/send",
        }
    }

    /// Restate knows an event by a header.
    pub(super) fn with_key(self) -> bool {
        self == Self::Restate
    }

    /// Restate and PostgreSQL pack what they keep, and webhook keeps nothing.
    pub(super) fn keeps_bodies(self) -> bool {
        !matches!(self, Self::Restate | Self::Webhook | Self::FastifyPg)
    }

    /// Whether it still works on what it has answered: Restate calls the service then.
    pub(super) fn works_afterwards(self) -> bool {
        self == Self::Restate
    }

    /// Its folder in `bench/peers`.
    fn folder(self) -> &'static str {
        match self {
            Self::Fastify | Self::FastifyGrouped | Self::FastifyTwo | Self::FastifyPg => "fastify",
            Self::FastApi => "fastapi",
            Self::Webhook => "webhook",
            Self::Restate => "restate",
        }
    }

    fn source(self) -> PathBuf {
        tollgate_tests::root().join("bench/peers").join(self.folder())
    }

    fn installed(self) -> anyhow::Result<PathBuf> {
        Ok(folder()?.join("../peers").join(self.folder()))
    }

    /// Puts it where it is started from. What is there in the versions that are asked for is not installed again.
    pub(super) fn install(self) -> anyhow::Result<()> {
        let place = self.installed()?;
        std::fs::create_dir_all(&place)?;
        let mut asked = String::new();
        for entry in std::fs::read_dir(self.source())? {
            let path = entry?.path();
            let name = path.file_name().context("a file without a name")?.to_owned();
            std::fs::copy(&path, place.join(&name))?;
            if name == "package.json" || name == "requirements.txt" {
                asked = std::fs::read_to_string(&path)?;
            }
        }
        let mark = place.join("installed");
        if std::fs::read_to_string(&mark).is_ok_and(|installed| installed == asked) {
            return Ok(());
        }
        match self {
            Self::Webhook => run(&place, "webhook", &["-version"]).context("Debian's package `webhook`")?,
            Self::FastApi => {
                run(&place, "python3", &["-m", "venv", "venv"])?;
                let pip = [
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--retries",
                    "1",
                    "--requirement",
                    "requirements.txt",
                ];
                run(&place, "venv/bin/python", &pip)?;
            }
            Self::Fastify | Self::FastifyGrouped | Self::FastifyTwo | Self::FastifyPg | Self::Restate => {
                let mut arguments = vec![
                    "install",
                    "--package-lock=false",
                    "--no-audit",
                    "--no-fund",
                    "--fetch-retries=1",
                ];
                // better-sqlite3 builds itself in such a script; Restate's only tells somebody of the installation.
                if self == Self::Restate {
                    arguments.push("--ignore-scripts");
                }
                run(&place, "npm", &arguments)?;
            }
        }
        std::fs::write(mark, asked)?;
        Ok(())
    }

    /// What is run, with versions.
    pub(super) fn versions(self) -> anyhow::Result<String> {
        let place = self.installed()?;
        let manifest = |name: &str| std::fs::read_to_string(place.join(name));
        match self {
            Self::Webhook => said(&place, "webhook", "-version"),
            Self::FastApi => {
                let packages: Vec<String> = manifest("requirements.txt")?
                    .lines()
                    .map(|line| line.replace("==", " "))
                    .collect();
                let python = said(&place, "venv/bin/python", "--version")?;
                Ok(format!("{}, {python}", packages.join(", ")))
            }
            Self::Fastify | Self::FastifyGrouped | Self::FastifyTwo | Self::FastifyPg | Self::Restate => {
                let package: serde_json::Value = serde_json::from_str(&manifest("package.json")?)?;
                let packages: Vec<String> = package["dependencies"]
                    .as_object()
                    .context("no dependencies")?
                    .iter()
                    .map(|(name, version)| format!("{name} {}", version.as_str().unwrap_or("?")))
                    .collect();
                let node = said(&place, "node", "--version")?;
                Ok(format!("{}, Node {node}", packages.join(", ")))
            }
        }
    }

    /// What serves on `port` and keeps its data in `data`, or where a URL leads.
    pub(super) fn command(self, port: u16, data: &Path, url: Option<&str>) -> anyhow::Result<Command> {
        let place = self.installed()?.canonicalize()?;
        let text = port.to_string();
        let mut command = match self {
            Self::Fastify | Self::FastifyGrouped | Self::FastifyTwo | Self::FastifyPg | Self::Restate => {
                let mut command = Command::new("node");
                command.arg("server.mjs");
                command
            }
            Self::FastApi => {
                let mut command = Command::new(place.join("venv/bin/python"));
                command.args(["-m", "uvicorn", "server:app", "--host", "127.0.0.1", "--port", &text]);
                command.args(["--no-access-log", "--log-level", "error"]);
                command
            }
            Self::Webhook => {
                let mut command = Command::new("webhook");
                command.args(["-ip", "127.0.0.1", "-port", &text, "-template", "-hooks", "hooks.json"]);
                command
            }
        };
        command
            .current_dir(&place)
            .env("NODE_ENV", "production")
            .env("PORT", &text)
            .env("SECRET", SECRET)
            .env("DATABASE", data.join("peer.db"));
        match self {
            Self::FastifyGrouped => command.env("GROUP", "1"),
            Self::FastifyTwo => command.env("PROCESSES", "2"),
            Self::Restate => {
                for name in ["ADMIN_PORT", "NODE_PORT", "SERVICE_PORT"] {
                    command.env(name, free_port()?.to_string());
                }
                command.env("RESTATE_LOGGING", "ERROR")
            }
            Self::FastifyPg => command.env("DATABASE", url.context("a peer whose store is in a PostgreSQL")?),
            Self::Fastify | Self::FastApi | Self::Webhook => &mut command,
        };
        Ok(command)
    }
}

fn run(place: &Path, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = start(place, program, arguments)?;
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty());
    anyhow::ensure!(
        output.status.success(),
        "`{program} {}` failed: {}",
        arguments.join(" "),
        last.unwrap_or("it said nothing")
    );
    Ok(())
}

/// The first line that a program says.
fn said(place: &Path, program: &str, argument: &str) -> anyhow::Result<String> {
    let output = start(place, program, &[argument])?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

fn start(place: &Path, program: &str, arguments: &[&str]) -> anyhow::Result<std::process::Output> {
    // A program of the folder is found in it, any other where programs are.
    let path = if program.contains('/') {
        place.join(program)
    } else {
        program.into()
    };
    Command::new(path)
        .args(arguments)
        .current_dir(place)
        // Whoever packs this wants to hear of each installation.
        .env("SCARF_ANALYTICS", "false")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("`{program}` is not installed"))
}
