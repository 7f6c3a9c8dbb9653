//! `tollgate verify`: one recorded request, checked offline by the same rules as the edge's.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use tollgate_core::envelope;
use tollgate_core::ids::{KeyId, SourceName, TenantName};
use tollgate_core::profile::{self, Profile};
use tollgate_core::request::{Header, RawRequest};
use tollgate_core::secret::{Secret, SourceSecret};
use tollgate_core::time::UnixMillis;
use tollgate_core::verify::{self, Keyring, Unproven};

use super::{Exit, Usage, print_json};
use crate::clock;

#[derive(clap::Args)]
#[command(after_help = "The body is read from standard input, byte for byte.\n\n\
    Exit status: 0 authentic, 1 not authentic, 2 bad usage.\n\n\
    Example:\n  tollgate verify --provider stripe --secret-file whsec.txt \\\n    \
    --header 'Stripe-Signature: t=1614265330,v1=…' --at 1614265330 < body.json")]
pub(super) struct Args {
    /// Whose rules: the provider's name, for example stripe or standard-webhooks
    #[arg(long)]
    provider: String,
    /// A file that holds one secret as the provider shows it (a final line break is not part of it); repeat while rotating
    #[arg(long, required = true, value_name = "FILE")]
    secret_file: Vec<PathBuf>,
    /// A header of the request, as 'Name: value'; repeat for each
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// The URL that the provider was given, for schemes that sign it
    #[arg(long)]
    url: Option<String>,
    /// When the request was received, in seconds since 1970; now, when absent
    #[arg(long, value_name = "UNIX_SECONDS", allow_negative_numbers = true)]
    at: Option<i64>,
    /// The body from a file instead of standard input
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Answer {
    authentic: bool,
    provider: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheme: Option<String>,
    /// Which secret matched: the file it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    explanation: String,
    hints: Vec<String>,
    /// What the edge would read of it; or why it would refuse an authentic request.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let profile = find_profile(&args.provider)?;
    let secrets = read_secrets(&args.secret_file)?;
    let keyring = Keyring::new(&profile, &secrets).map_err(|error| Usage(error.to_string()))?;
    let headers = args
        .header
        .iter()
        .map(|line| parse_header(line))
        .collect::<Result<Vec<_>, _>>()?;
    let headers: Vec<Header<'_>> = headers
        .iter()
        .map(|(name, value)| Header {
            name,
            value: value.as_bytes(),
        })
        .collect();
    let body = read_body(args.body.as_ref())?;
    let received_at = args.at.map_or_else(clock::now, UnixMillis::from_seconds);
    let request = RawRequest {
        headers: &headers,
        body: &body,
        url: args.url.as_deref(),
        received_at,
    };

    let mut answer = judge(&profile, &keyring, request, &args.secret_file);
    for (keyring, file) in named_as_asked(&profile, &keyring, request, &secrets, &args.secret_file) {
        if !answer.authentic {
            answer = judge(&profile, &keyring, request, std::slice::from_ref(file));
        }
    }
    if args.json {
        print_json(&answer)?;
    } else {
        print(&answer);
    }
    Ok(if answer.authentic { Exit::Yes } else { Exit::No })
}

/// Some providers name in each request the key that signed it. A secret from a file has no name, so each is tried under the one that
/// the request gives. Empty for all other providers.
fn named_as_asked<'a>(
    profile: &Profile,
    keyring: &Keyring,
    request: RawRequest<'_>,
    secrets: &[SourceSecret],
    files: &'a [PathBuf],
) -> Vec<(Keyring, &'a PathBuf)> {
    let Err(Unproven::UnknownKey { header }) = verify::verify(profile, keyring, request) else {
        return Vec::new();
    };
    let name = request.single_header(&header).ok().flatten();
    let name = name.and_then(|name| KeyId::new(std::str::from_utf8(name).ok()?).ok());
    let Some(id) = name else { return Vec::new() };
    secrets
        .iter()
        .zip(files)
        .filter_map(|(secret, file)| {
            let named = SourceSecret {
                id: id.clone(),
                ..secret.clone()
            };
            Some((Keyring::new(profile, &[named]).ok()?, file))
        })
        .collect()
}

fn judge(profile: &Profile, keyring: &Keyring, request: RawRequest<'_>, files: &[PathBuf]) -> Answer {
    let provider = profile.name.to_string();
    match verify::verify(profile, keyring, request) {
        Err(unproven) => Answer {
            authentic: false,
            provider,
            scheme: None,
            secret: None,
            reason: Some(unproven.reason()),
            explanation: unproven.to_string(),
            hints: verify::hints(profile, keyring, &request),
            event: None,
            unreadable: None,
        },
        Ok(verified) => {
            let proof = verified.proof();
            let at: Option<usize> = proof
                .key_id
                .as_str()
                .strip_prefix("secret-")
                .and_then(|number| number.parse().ok());
            let file = match at {
                Some(at) => files.get(at - 1),
                None => files.first(),
            };
            let file = file.map(|file| file.display().to_string());
            let (tenant, source) = (TenantName::new("offline"), SourceName::new("offline"));
            let event = match (tenant, source) {
                (Ok(tenant), Ok(source)) => {
                    envelope::read(profile, &verified, &tenant, &source).map_err(|error| error.to_string())
                }
                _ => Err("no names".to_owned()),
            };
            Answer {
                authentic: true,
                provider,
                scheme: Some(proof.scheme.clone()),
                secret: file,
                reason: None,
                explanation: format!("the signature matches by scheme {}", proof.scheme),
                hints: Vec::new(),
                unreadable: event.as_ref().err().cloned(),
                event: event.ok().map(|event| {
                    serde_json::json!({
                        "id": event.id, "type": event.event_type, "subject": event.subject, "reading": event.reading,
                        "occurred_at": event.occurred_at.map(|at| at.to_string()),
                        "amount": event.amount.map(|amount| amount.to_string()),
                    })
                }),
            }
        }
    }
}

fn print(answer: &Answer) {
    let (good, bad, dim) = (super::show::GOOD, super::show::BAD, super::show::DIM);
    if answer.authentic {
        anstream::println!("{good}authentic{good:#}  {}", answer.explanation);
        if let Some(secret) = &answer.secret {
            anstream::println!("  {dim}secret  {dim:#} {secret}");
        }
        if let Some(event) = &answer.event {
            for (name, value) in event
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(_, value)| !value.is_null())
            {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                anstream::println!("  {dim}{name:8}{dim:#} {text}");
            }
        }
        if let Some(unreadable) = &answer.unreadable {
            anstream::println!("  but the edge would answer 400: {unreadable}");
        }
    } else {
        anstream::println!("{bad}not authentic{bad:#}  {}", answer.explanation);
        for hint in &answer.hints {
            anstream::println!("  hint: {hint}");
        }
    }
}

/// A shipped profile by its name; `_` is taken for `-`.
pub(super) fn find_profile(name: &str) -> Result<Arc<Profile>, Usage> {
    let slug = name.replace('_', "-");
    profile::shipped()
        .iter()
        .find(|(shipped, _)| shipped.as_str() == slug)
        .map(|(_, profile)| Arc::clone(profile))
        .ok_or_else(|| {
            let names: Vec<&str> = profile::shipped().keys().map(|name| name.as_str()).collect();
            Usage(format!(
                "there is no provider `{name}`; the ones that ship are: {}",
                names.join(", ")
            ))
        })
}

/// One secret a file; `secret-1` is the first. All are active for ever.
pub(super) fn read_secrets(files: &[PathBuf]) -> anyhow::Result<Vec<SourceSecret>> {
    let read = |(at, file): (usize, &PathBuf)| {
        let mut text =
            std::fs::read(file).map_err(|error| Usage(format!("cannot read {}: {error}", file.display())))?;
        while text.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            text.pop();
        }
        if text.is_empty() {
            return Err(Usage(format!("{} is empty; it must hold the secret", file.display())).into());
        }
        let id = KeyId::new(&format!("secret-{}", at + 1)).context("a key id")?;
        Ok(SourceSecret {
            id,
            text: Secret::new(text),
            not_before: None,
            not_after: None,
        })
    };
    files.iter().enumerate().map(read).collect()
}

fn parse_header(line: &str) -> Result<(String, String), Usage> {
    let (name, value) = line
        .split_once(':')
        .ok_or_else(|| Usage(format!("--header: `{line}` must look like 'Name: value'")))?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

pub(super) fn read_body(file: Option<&PathBuf>) -> anyhow::Result<Vec<u8>> {
    match file {
        Some(file) => {
            std::fs::read(file).map_err(|error| Usage(format!("cannot read {}: {error}", file.display())).into())
        }
        None => {
            let mut body = Vec::new();
            std::io::stdin()
                .lock()
                .read_to_end(&mut body)
                .context("cannot read the body from standard input")?;
            Ok(body)
        }
    }
}
