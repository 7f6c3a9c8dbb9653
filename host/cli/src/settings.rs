//! `tollgate settings …` and `tollgate config export`: what a tenant configures itself, asked of a running host.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use tollgate_api::plugins::{ActBody, TenantPath};
use tollgate_api::settings::{
    RollbackBody, SecretBody, SecretPath, SecretText, SettingsBody, SettingsChange, SettingsLine, SettingsPart,
    SettingsVersionPath, Whose,
};
use tollgate_api::{FieldProblem, Nothing, calls};
use tollgate_core::secret::Secret;
use tollgate_core::{limits, mask};

use super::registry::{Act, asked_at, named};
use super::settings_file::as_file;
use super::show::{BAD, BOLD, DIM, GOOD, WARN, counted};
use super::{Exit, Refused, Target, Usage, ask, print_json};

/// Whose settings are meant.
#[derive(clap::Args, Clone)]
pub(super) struct Of {
    #[command(flatten)]
    pub(super) target: Target,
    /// The tenant; without it, the token's
    #[arg(long)]
    tenant: Option<String>,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Show what is in effect, whose each part is, and the newest settings
    Show {
        #[command(flatten)]
        of: Of,
        /// Print the text alone, as a file for `tollgate settings set`
        #[arg(long)]
        text: bool,
        /// The text of this version instead
        #[arg(long, value_name = "NUMBER")]
        version: Option<u64>,
    },
    /// Set the settings: the whole text takes the place of the one before
    Set {
        #[command(flatten)]
        of: Of,
        /// The settings, as TOML; `-` for standard input
        file: PathBuf,
        /// The version that the file was made from, as `tollgate settings show` names it; 0 for none
        #[arg(long, value_name = "NUMBER")]
        expects: u64,
        #[command(flatten)]
        act: Act,
    },
    /// Say what is wrong with a file of settings, what it would change, and which jobs the newest receipts would have had
    Check {
        #[command(flatten)]
        of: Of,
        /// The settings, as TOML; `-` for standard input
        file: PathBuf,
        /// Try it on so many of the newest receipts; 100 unless said
        #[arg(long, value_name = "NUMBER")]
        receipts: Option<u64>,
    },
    /// List the versions, newest first
    Versions {
        #[command(flatten)]
        of: Of,
    },
    /// Go back to an earlier version: a new version with its text
    Rollback {
        #[command(flatten)]
        of: Of,
        /// The version; without it, the one before the newest. 0 is no settings at all
        #[arg(long, value_name = "NUMBER")]
        to: Option<u64>,
        #[command(flatten)]
        act: Act,
    },
    /// The secrets that settings refer to as { store = "NAME" }
    Secret {
        #[command(subcommand)]
        command: SecretCommand,
    },
}

/// What is done with secrets.
#[derive(Subcommand)]
pub(super) enum SecretCommand {
    /// Set a secret, or replace it; its value is read from standard input, or asked for without being shown
    #[command(
        after_help = "The value is sealed at once under the operator's key, and nothing shows it again.\n\n\
                      Rotation: set the new one under a second name, list both in the source's `secrets`, and take the old one out when the provider \
                      signs with the new one."
    )]
    Set {
        #[command(flatten)]
        of: Of,
        /// Its name
        name: String,
        #[command(flatten)]
        act: Act,
    },
    /// List secrets: who set them when, and what uses them
    List {
        #[command(flatten)]
        of: Of,
    },
    /// Remove a secret that nothing uses
    Remove {
        #[command(flatten)]
        of: Of,
        /// Its name
        name: String,
        #[command(flatten)]
        act: Act,
    },
    /// Seal every tenant's secrets under the newest of the operator's keys
    #[command(
        after_help = "After a new key was named first in seal_keys of [tenants], with the old one behind it, on every host. Who set a secret, when and why \
                      stays as it is, and it can be done again: what is sealed with the newest key already is left alone. Once nothing is sealed \
                      with the old key any more, take it out.\n\n\
                      Exit status: 0 all secrets are sealed with the newest key, 1 some do not open on this host, or were set meanwhile."
    )]
    Reseal {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        act: Act,
    },
}

/// What is done with configuration as a whole.
#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Write a tenant's settings as the operator would: a part of the tenant's file, with variables in place of its secrets
    #[command(
        after_help = "Secrets never leave the host. Where settings refer to one, the file names an environment variable of the tenant's: set it where the host \
                      starts, put the text into tenants/NAME.toml, and take it out of the settings."
    )]
    Export {
        #[command(flatten)]
        of: Of,
        /// Write to this file, which must not be there; without it, to standard output
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

pub(super) fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Show { of, text, version } => show(&of, text, version),
        Command::Set { of, file, expects, act } => {
            let receipts = None;
            set(&of, &file, Some(expects), receipts, act.body())
        }
        Command::Check { of, file, receipts } => {
            let act = ActBody {
                why: "a check".to_owned(),
                dry_run: true,
                actor: ask::actor(),
            };
            set(&of, &file, None, receipts, act)
        }
        Command::Versions { of } => versions(&of),
        Command::Rollback { of, to, act } => roll_back(&of, to, act.body()),
        Command::Secret { command } => match command {
            SecretCommand::Set { of, name, act } => set_secret(&of, &name, act.body()),
            SecretCommand::List { of } => secrets(&of),
            SecretCommand::Remove { of, name, act } => remove_secret(&of, &name, act.body()),
            SecretCommand::Reseal { target, act } => reseal(&target, &act.body()),
        },
    }
}

pub(super) fn config(command: ConfigCommand) -> anyhow::Result<Exit> {
    let ConfigCommand::Export { of, out } = command;
    export(&of, out.as_deref())
}

impl Of {
    pub(super) fn path(&self) -> anyhow::Result<TenantPath> {
        if self.target.spin.is_some() {
            let why = "nothing is set by API on Spin: an app is built from its files";
            return Err(Usage(why.to_owned()).into());
        }
        if let Some(tenant) = &self.tenant {
            return Ok(TenantPath {
                tenant: named("tenant", tenant)?,
            });
        }
        let who = asked_at::<calls::WhoAmI>(ask::host(&self.target)?, &Nothing {}, &Nothing {}, &Nothing {})?;
        match who.tenant {
            Some(tenant) => Ok(TenantPath { tenant }),
            None => Err(Usage("name the tenant with --tenant: this token is of the whole host".to_owned()).into()),
        }
    }
}

fn show(of: &Of, text_alone: bool, version: Option<u64>) -> anyhow::Result<Exit> {
    let path = of.path()?;
    let place = ask::host(&of.target)?;
    if let Some(version) = version {
        let path = SettingsVersionPath {
            tenant: path.tenant,
            version,
        };
        let found = asked_at::<calls::ShowSettingsVersion>(place, &path, &Nothing {}, &Nothing {})?;
        if of.target.json {
            print_json(&found)?;
        } else if text_alone {
            print_text(&found.text);
        } else {
            line(&found.line);
            anstream::println!();
            print_text(&found.text);
        }
        return Ok(Exit::Yes);
    }
    let found = asked_at::<calls::ShowSettings>(place, &path, &Nothing {}, &Nothing {})?;
    if of.target.json {
        print_json(&found)?;
        return Ok(Exit::Yes);
    }
    if text_alone {
        print_text(&found.text);
        return Ok(Exit::Yes);
    }
    match (found.version, &found.at, &found.actor, &found.why) {
        (0, ..) => anstream::println!("{BOLD}{}{BOLD:#}  no settings yet", found.tenant),
        (version, at, actor, why) => {
            let said = |text: &Option<String>| mask::line(text.as_deref().unwrap_or_default(), 300);
            anstream::println!(
                "{BOLD}{}{BOLD:#}  version {version}  {DIM}{} by {}: {}{DIM:#}",
                found.tenant,
                said(at),
                said(actor),
                said(why)
            );
        }
    }
    if !found.in_effect {
        anstream::println!("{BAD}not in effect{BAD:#}  the tenant runs as it last was good, because of this:");
    }
    found.problems.iter().for_each(problem);
    for (title, parts) in [
        ("sources", &found.sources),
        ("routes", &found.routes),
        ("destinations", &found.destinations),
    ] {
        if !parts.is_empty() {
            anstream::println!("\n{BOLD}{title}{BOLD:#}");
            parts.iter().for_each(part);
        }
    }
    if !found.takes_secrets {
        anstream::println!(
            "\n{WARN}no secrets{WARN:#}  the operator has named no key that they are sealed with: seal_keys in [tenants]"
        );
    }
    if !found.text.is_empty() {
        anstream::println!("\n{BOLD}settings{BOLD:#}");
        print_text(&found.text);
    }
    Ok(Exit::Yes)
}

fn part(part: &SettingsPart) {
    let whose = match part.whose {
        Whose::File => "the operator's",
        Whose::Settings => "own",
        Whose::Route => "set by API",
    };
    let to = match part.to.as_slice() {
        _ if part.url.is_some() => format!(" → {}", part.url.as_deref().unwrap_or_default()),
        [] => String::new(),
        to => format!(" → {}", to.join(", ")),
    };
    let says = mask::line(&format!("{}{to}", part.says), 300);
    anstream::println!("  {:24} {whose:15} {DIM}{says}{DIM:#}", part.name);
}

fn problem(problem: &FieldProblem) {
    let place = problem.line.map(|line| format!("line {line}: ")).unwrap_or_default();
    anstream::println!(
        "  {BAD}{place}{}{BAD:#}  {DIM}{}{DIM:#}",
        mask::line(&problem.message, 500),
        mask::line(&problem.help, 500)
    );
}

/// As it is where a file is made of it; where somebody reads it on a screen, without what would move the cursor.
fn print_text(text: &str) {
    let is_read = std::io::stdout().is_terminal();
    for line in text.lines() {
        if is_read {
            anstream::println!("{}", mask::shown(&line.replace('\t', "    ")));
        } else {
            anstream::println!("{line}");
        }
    }
}

fn read(file: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    // One more than is taken: the host says how many are.
    let most = limits::SETTINGS_BYTES_MAX as u64 + 1;
    if file.as_os_str() == "-" {
        std::io::stdin()
            .take(most)
            .read_to_end(&mut bytes)
            .context("standard input")?;
    } else {
        let opened = std::fs::File::open(file).with_context(|| file.display().to_string())?;
        opened
            .take(most)
            .read_to_end(&mut bytes)
            .with_context(|| file.display().to_string())?;
    }
    String::from_utf8(bytes).map_err(|_| Refused(format!("{} is not UTF-8", file.display())).into())
}

fn set(of: &Of, file: &Path, expects: Option<u64>, receipts: Option<u64>, act: ActBody) -> anyhow::Result<Exit> {
    let path = of.path()?;
    let body = SettingsBody {
        text: read(file)?,
        expects,
        receipts,
        secret: None,
        why: act.why,
        dry_run: act.dry_run,
        actor: act.actor,
    };
    let change = asked_at::<calls::SetSettings>(ask::host(&of.target)?, &path, &Nothing {}, &body)?;
    changed(of, &change)
}

fn roll_back(of: &Of, to: Option<u64>, act: ActBody) -> anyhow::Result<Exit> {
    let path = of.path()?;
    let body = RollbackBody {
        to,
        expects: None,
        receipts: None,
        why: act.why,
        dry_run: act.dry_run,
        actor: act.actor,
    };
    let change = asked_at::<calls::RollBackSettings>(ask::host(&of.target)?, &path, &Nothing {}, &body)?;
    changed(of, &change)
}

fn changed(of: &Of, change: &SettingsChange) -> anyhow::Result<Exit> {
    if of.target.json {
        print_json(change)?;
        return Ok(Exit::Yes);
    }
    match (change.version == change.was, change.dry_run) {
        (true, _) => anstream::println!("version {} says so already; nothing is changed", change.was),
        (false, true) => anstream::println!("{GOOD}fits{GOOD:#}  it would be version {}", change.version),
        (false, false) => anstream::println!("{GOOD}version {}{GOOD:#} is in effect", change.version),
    }
    for part in &change.changes {
        anstream::println!(
            "  {} {} {BOLD}{}{BOLD:#}",
            part.what,
            part.kind,
            mask::shown(&part.name)
        );
    }
    for warning in &change.warnings {
        anstream::println!("  {WARN}{}{WARN:#}", mask::line(warning, 500));
    }
    if !change.difference.is_empty() {
        anstream::println!();
        for line in change.difference.lines() {
            let style = match line.as_bytes().first() {
                Some(b'+') => GOOD,
                Some(b'-') => BAD,
                _ => DIM,
            };
            anstream::println!("{style}{}{style:#}", mask::shown(&line.replace('\t', "    ")));
        }
    }
    if let Some(tried) = &change.tried {
        anstream::println!("\ntried on {}", counted(tried.receipts, "receipt"));
        for route in &tried.routes {
            let style = if route.before == route.after { DIM } else { WARN };
            anstream::println!(
                "  {style}route {:24} {} now, {} then{style:#}",
                route.route,
                counted(route.before, "job"),
                route.after
            );
        }
        for receipt in &tried.differing {
            let routes = |names: &[String]| match names {
                [] => "none".to_owned(),
                names => names.join(", "),
            };
            anstream::println!(
                "  {} {DIM}{}{DIM:#}  {} → {}",
                receipt.receipt,
                mask::line(&receipt.event_type, 60),
                routes(&receipt.before),
                routes(&receipt.after)
            );
        }
    }
    Ok(Exit::Yes)
}

fn versions(of: &Of) -> anyhow::Result<Exit> {
    let path = of.path()?;
    let found = asked_at::<calls::SettingsVersions>(ask::host(&of.target)?, &path, &Nothing {}, &Nothing {})?;
    if of.target.json {
        print_json(&found)?;
    } else if found.is_empty() {
        anstream::println!("no settings yet");
    } else {
        found.iter().for_each(line);
    }
    Ok(if found.is_empty() { Exit::No } else { Exit::Yes })
}

fn line(line: &SettingsLine) {
    let again = line
        .text_of
        .map(|version| format!("as version {version} was, "))
        .unwrap_or_default();
    anstream::println!(
        "{BOLD}version {}{BOLD:#}  {again}{} bytes  {DIM}{} by {}: {}{DIM:#}",
        line.version,
        line.bytes,
        line.at,
        mask::line(&line.actor, 100),
        mask::line(&line.why, 300)
    );
}

fn secret_path(of: &Of, name: &str) -> anyhow::Result<SecretPath> {
    Ok(SecretPath {
        tenant: of.path()?.tenant,
        secret: named("secret", name)?,
    })
}

fn set_secret(of: &Of, name: &str, act: ActBody) -> anyhow::Result<Exit> {
    let path = secret_path(of, name)?;
    let body = SecretBody {
        value: SecretText(Secret::new(secret_value()?)),
        why: act.why,
        dry_run: act.dry_run,
        actor: act.actor,
    };
    let change = asked_at::<calls::SetSecret>(ask::host(&of.target)?, &path, &Nothing {}, &body)?;
    if of.target.json {
        print_json(&change)?;
        return Ok(Exit::Yes);
    }
    let done = match (change.dry_run, change.was_there) {
        (true, _) => "fits",
        (false, true) => "replaced",
        (false, false) => "set",
    };
    anstream::println!("{GOOD}{done}{GOOD:#}  {}", change.name);
    if change.used_by.is_empty() {
        anstream::println!(
            "{DIM}nothing uses it yet: write {{ store = \"{}\" }} in the settings{DIM:#}",
            change.name
        );
    } else {
        anstream::println!("{DIM}used by {}{DIM:#}", mask::line(&change.used_by.join(", "), 300));
    }
    Ok(Exit::Yes)
}

/// From standard input; at a terminal without showing what is typed.
fn secret_value() -> anyhow::Result<String> {
    let stdin = std::io::stdin();
    let mut bytes = Vec::new();
    if !stdin.is_terminal() {
        let most = limits::SETTINGS_SECRET_BYTES_MAX as u64 + 1;
        stdin.take(most).read_to_end(&mut bytes).context("standard input")?;
        return String::from_utf8(bytes).map_err(|_| Refused("the secret is not UTF-8".to_owned()).into());
    }
    if !shows_input(false) {
        let why = "this terminal cannot be told not to show what is typed: pipe the secret in, for example from a password manager";
        return Err(Refused(why.to_owned()).into());
    }
    anstream::eprint!("the secret (it is not shown): ");
    let mut line = String::new();
    let read = stdin.read_line(&mut line);
    shows_input(true);
    anstream::eprintln!();
    read?;
    Ok(line)
}

/// Has the terminal show what is typed, or not. Returns whether it could be told.
fn shows_input(shows: bool) -> bool {
    let told = std::process::Command::new("stty")
        .arg(if shows { "echo" } else { "-echo" })
        .status();
    told.is_ok_and(|status| status.success())
}

fn secrets(of: &Of) -> anyhow::Result<Exit> {
    let path = of.path()?;
    let found = asked_at::<calls::Secrets>(ask::host(&of.target)?, &path, &Nothing {}, &Nothing {})?;
    if of.target.json {
        print_json(&found)?;
        return Ok(if found.is_empty() { Exit::No } else { Exit::Yes });
    }
    if found.is_empty() {
        anstream::println!("no secrets yet");
        return Ok(Exit::No);
    }
    for secret in &found {
        let used = match secret.used_by.as_slice() {
            [] => format!("{WARN}used by nothing{WARN:#}"),
            used => format!("used by {}", mask::line(&used.join(", "), 300)),
        };
        anstream::println!(
            "{BOLD}{}{BOLD:#}  {used}  {DIM}{} by {}: {}; key {}{DIM:#}",
            secret.name,
            secret.at,
            mask::line(&secret.actor, 100),
            mask::line(&secret.why, 300),
            secret.sealed_with
        );
        if secret.opens == Some(false) {
            anstream::println!(
                "  {BAD}this host has not that key: set the secret again, or let the operator name the key{BAD:#}"
            );
        }
    }
    Ok(Exit::Yes)
}

fn remove_secret(of: &Of, name: &str, act: ActBody) -> anyhow::Result<Exit> {
    let path = secret_path(of, name)?;
    let change = asked_at::<calls::RemoveSecret>(ask::host(&of.target)?, &path, &Nothing {}, &act)?;
    if of.target.json {
        print_json(&change)?;
    } else if change.dry_run {
        anstream::println!("{} would be removed: nothing uses it", change.name);
    } else {
        anstream::println!("{} is removed", change.name);
    }
    Ok(Exit::Yes)
}

fn reseal(target: &Target, act: &ActBody) -> anyhow::Result<Exit> {
    let done = asked_at::<calls::ResealSecrets>(ask::host(target)?, &Nothing {}, &Nothing {}, act)?;
    let exit = match done.unopened.is_empty() && done.overtaken == 0 {
        true => Exit::Yes,
        false => Exit::No,
    };
    if target.json {
        print_json(&done)?;
        return Ok(exit);
    }
    let would = if done.dry_run { " would be" } else { "" };
    anstream::println!(
        "{GOOD}{}{GOOD:#}{would} sealed anew with the key {}; {} sealed with it already",
        counted(done.resealed, "secret"),
        done.sealed_with,
        done.unchanged
    );
    if done.overtaken > 0 {
        anstream::println!(
            "{WARN}{}{WARN:#} set meanwhile: do it again",
            counted(done.overtaken, "secret")
        );
    }
    for secret in &done.unopened {
        anstream::println!(
            "{BAD}{}/{}{BAD:#}  {}",
            secret.tenant,
            secret.secret,
            mask::line(&secret.why, 300)
        );
    }
    Ok(exit)
}

fn export(of: &Of, out: Option<&Path>) -> anyhow::Result<Exit> {
    let path = of.path()?;
    let found = asked_at::<calls::ShowSettings>(ask::host(&of.target)?, &path, &Nothing {}, &Nothing {})?;
    if found.version == 0 {
        anstream::eprintln!("`{}` has no settings", found.tenant);
        return Ok(Exit::No);
    }
    let (text, variables) = as_file(&found.tenant, &found.text)?;
    let head = format!(
        "# Settings of {}, version {}, as `tollgate config export` wrote them. No secret is in them.\n",
        found.tenant, found.version
    );
    let text = format!("{head}{text}");
    match out {
        Some(out) => {
            let mut file = std::fs::File::create_new(out).with_context(|| out.display().to_string())?;
            std::io::Write::write_all(&mut file, text.as_bytes()).with_context(|| out.display().to_string())?;
        }
        None => print_text(&text),
    }
    for variable in variables {
        anstream::eprintln!("set {variable} where the host starts: settings keep that secret sealed");
    }
    Ok(Exit::Yes)
}
