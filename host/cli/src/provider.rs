//! `tollgate provider`: what Tollgate knows of each provider, and the proof that it still does.

use std::path::Path;
use std::sync::Arc;

use tollgate_core::ids::ProviderName;
use tollgate_core::profile::{self, Profile};
use tollgate_core::vector::{self, Outcome};

use super::show::{BAD, BOLD, DIM, GOOD, WARN};
use super::{Exit, ProviderCommand, Usage, print_json};

pub(super) fn run(command: ProviderCommand) -> anyhow::Result<Exit> {
    match command {
        ProviderCommand::List { json } => list(json),
        ProviderCommand::Show { provider, json } => show(&*find(&provider)?, json),
        ProviderCommand::Test { provider, all, json } => {
            let profiles = match (provider, all) {
                (Some(provider), false) => vec![find(&provider)?],
                (None, true) => profile::shipped().values().cloned().collect(),
                (None, false) | (Some(_), true) => {
                    return Err(Usage("name a provider or a profile's file, or say --all".to_owned()).into());
                }
            };
            test(&profiles, json)
        }
    }
}

/// A shipped profile by its name (`_` is taken for `-`), or one's own by the path of its file, which ends in `.toml`.
pub(super) fn find(name: &str) -> Result<Arc<Profile>, Usage> {
    if Path::new(name).extension().is_some_and(|extension| extension == "toml") {
        let text = std::fs::read_to_string(name).map_err(|error| Usage(format!("cannot read {name}: {error}")))?;
        let profile = Profile::from_toml(&text).map_err(|error| Usage(format!("{name}: {error}")))?;
        return Ok(Arc::new(profile));
    }
    let slug = name.replace('_', "-");
    let shipped = profile::shipped().get(slug.as_str()).cloned();
    shipped.ok_or_else(|| {
        let names: Vec<&str> = profile::shipped().keys().map(ProviderName::as_str).collect();
        Usage(format!(
            "there is no provider `{name}`; the ones that ship are: {}. A profile of your own is named by its file: own.toml",
            names.join(", ")
        ))
    })
}

#[derive(serde::Serialize)]
struct Listed<'a> {
    name: &'a str,
    title: &'a str,
    version: u32,
    scheme: String,
    /// How old a signed request may be; absent where the scheme signs no time.
    tolerance_s: Option<u32>,
    id_is_signed: bool,
    body_is_signed: bool,
    vectors: usize,
}

impl<'a> Listed<'a> {
    fn of(profile: &'a Profile) -> Self {
        Self {
            name: profile.name.as_str(),
            title: &profile.title,
            version: profile.version,
            scheme: profile.scheme_title(),
            tolerance_s: profile.tolerance_s(),
            id_is_signed: profile.id_is_signed(),
            body_is_signed: profile.body_is_signed(),
            vectors: vector::of(profile).len(),
        }
    }

    fn window(&self) -> String {
        self.tolerance_s
            .map_or_else(|| "no time signed".to_owned(), |seconds| format!("±{seconds} s"))
    }
}

fn list(json: bool) -> anyhow::Result<Exit> {
    let listed: Vec<_> = profile::shipped().values().map(|profile| Listed::of(profile)).collect();
    if json {
        print_json(&listed)?;
    } else {
        for one in &listed {
            let window = one.window();
            anstream::println!("{BOLD}{:32}{BOLD:#} {DIM}{window:15}{DIM:#} {}", one.name, one.scheme);
        }
        anstream::println!("\nwhat one needs and does:  tollgate provider show NAME");
    }
    Ok(Exit::Yes)
}

fn show(profile: &Profile, json: bool) -> anyhow::Result<Exit> {
    let listed = Listed::of(profile);
    let about = profile.about();
    if json {
        let parameters: Vec<_> = profile
            .parameters()
            .iter()
            .map(|parameter| {
                serde_json::json!({
                    "name": parameter.name, "what": parameter.what, "required": parameter.required,
                    "secret": parameter.secret, "default": parameter.default,
                })
            })
            .collect();
        let statuses: Vec<_> = profile
            .statuses()
            .map(|(family, status)| serde_json::json!({ "family": family, "status": status }))
            .collect();
        let mut shown = serde_json::to_value(&listed)?;
        let more = serde_json::json!({
            "schemes": profile.schemes().collect::<Vec<_>>(),
            "id_at": profile.id_places(),
            "signs_url": profile.signs_url(),
            "needs_secrets": profile.needs_secrets(),
            "fetches_keys": profile.fetches_keys(),
            "parameters": parameters,
            "statuses": statuses,
            "ack_within_s": about.ack_within_s,
            "rotation": about.rotation,
            "retries": about.retries,
            "gotchas": about.gotchas,
        });
        if let (Some(shown), serde_json::Value::Object(more)) = (shown.as_object_mut(), more) {
            shown.extend(more);
        }
        print_json(&shown)?;
        return Ok(Exit::Yes);
    }
    anstream::println!(
        "{BOLD}{}{BOLD:#}  {} {DIM}version {}{DIM:#}",
        listed.name,
        listed.title,
        listed.version
    );
    let field = |name: &str, value: &str| {
        if !value.is_empty() {
            anstream::println!("  {DIM}{name:12}{DIM:#} {value}");
        }
    };
    field("proved by", &listed.scheme);
    field("window", &listed.window());
    let signed = if listed.id_is_signed { "signed" } else { "not signed" };
    field("event id", &format!("{} ({signed})", profile.id_places()));
    if profile.signs_url() {
        field(
            "needs",
            "public_url: the provider signs the URL that it calls; write its scheme and host",
        );
    }
    if profile.fetches_keys() {
        field("keys", "fetched from the provider where a request names them");
    }
    for parameter in profile.parameters() {
        let need = if parameter.required { "needed" } else { "optional" };
        field("parameter", &format!("{} ({need}): {}", parameter.name, parameter.what));
    }
    if let Some(seconds) = about.ack_within_s {
        field("answer in", &format!("{seconds} s"));
    }
    field("retries", &about.retries);
    field("rotation", &about.rotation);
    for gotcha in &about.gotchas {
        field("mind", gotcha);
    }
    field(
        "vectors",
        &format!("{}, run by `tollgate provider test`", listed.vectors),
    );
    Ok(Exit::Yes)
}

#[derive(serde::Serialize)]
struct Tested {
    provider: String,
    vector: String,
    what: String,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

fn test(profiles: &[Arc<Profile>], json: bool) -> anyhow::Result<Exit> {
    let mut tested = Vec::new();
    for profile in profiles {
        for vector in vector::of(profile) {
            let (outcome, detail) = match vector::run(profile, &vector) {
                Outcome::Passed => ("passed", None),
                Outcome::Failed(detail) => ("failed", Some(detail)),
                Outcome::NotRun(why) => ("not run", Some(why)),
            };
            tested.push(Tested {
                provider: profile.name.to_string(),
                vector: vector.id,
                what: vector.what,
                outcome,
                detail,
            });
        }
    }
    let count = |outcome: &str| tested.iter().filter(|tested| tested.outcome == outcome).count();
    let (passed, failed) = (count("passed"), count("failed"));
    if json {
        print_json(&tested)?;
    } else {
        for one in &tested {
            let style = match one.outcome {
                "passed" => GOOD,
                "failed" => BAD,
                _ => WARN,
            };
            let detail = one
                .detail
                .as_deref()
                .map(|detail| format!("\n    {detail}"))
                .unwrap_or_default();
            anstream::println!(
                "{style}{:8}{style:#} {}  {DIM}{}{DIM:#}{detail}",
                one.outcome,
                one.vector,
                one.what
            );
        }
        let not_run = tested.len() - passed - failed;
        anstream::println!("\n{passed} passed, {failed} failed, {not_run} not run");
    }
    // A profile without a single known answer proves nothing.
    Ok(if failed == 0 && passed > 0 { Exit::Yes } else { Exit::No })
}
