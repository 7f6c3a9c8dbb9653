//! `tollgate verify`: one recorded request, checked offline by the same rules as the edge's, and explained in full.

use std::path::PathBuf;

use serde_json::Value;
use tollgate_core::answer::{self, Happening, Rejection};
use tollgate_core::envelope::READING_NOTES;
use tollgate_core::ids::{KeyId, SourceName, TenantName};
use tollgate_core::mask;
use tollgate_core::profile::Profile;
use tollgate_core::request::{Header, RawRequest};
use tollgate_core::secret::{Parameters, SourceSecret};
use tollgate_core::time::UnixMillis;
use tollgate_core::verify::{self, Keyring, Unproven, Verified};
use tollgate_core::{challenge, envelope, explain};

use super::request::{ParameterArgs, parse_header, read_body, read_secrets};
use super::{Exit, Usage, print_json, provider};
use tollgate_server::clock;

#[derive(clap::Args)]
#[command(after_help = "The body is read from standard input, byte for byte.\n\n\
    Exit status: 0 authentic, 1 not authentic, 2 bad usage.\n\n\
    Example:\n  tollgate verify --provider stripe --secret-file whsec.txt \\\n    \
    --header 'Stripe-Signature: t=1614265330,v1=…' --at 1614265330 < body.json")]
pub(super) struct Args {
    /// Whose rules: a provider's name, for example stripe, or the file of a profile of your own (own.toml)
    #[arg(long)]
    provider: String,
    /// A file that holds one secret or key as the provider shows it, PEM and JWK too (a final line break is not part of it); repeat
    /// while rotating
    #[arg(long, value_name = "FILE")]
    secret_file: Vec<PathBuf>,
    #[command(flatten)]
    parameters: ParameterArgs,
    /// A header of the request, as 'Name: value'; repeat for each
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// The URL that the provider called, with its query, for schemes that sign it
    #[arg(long)]
    url: Option<String>,
    /// The request's method, for schemes that sign it
    #[arg(long, default_value = "POST")]
    method: String,
    /// What stood behind the ? of the request's target, where --url has none
    #[arg(long)]
    query: Option<String>,
    /// What the provider published at the place that the request names, for providers whose keys are fetched: nothing is fetched here
    #[arg(long, value_name = "FILE")]
    published_key: Option<PathBuf>,
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

#[derive(Default, serde::Serialize)]
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
    /// Which part of the request is not what it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    differs: Option<&'static str>,
    explanation: String,
    hints: Vec<String>,
    /// What the edge would read of it: one event, or those of a batch.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    events: Vec<serde_json::Value>,
    /// It is a question, and this is the answer that the provider waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    challenge_answer: Option<String>,
    /// Why the edge would refuse an authentic request.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
    /// What the edge would answer then.
    #[serde(skip_serializing_if = "Option::is_none")]
    http_status: Option<u16>,
}

/// The rules and keys that a request is held against.
struct Bench<'a> {
    profile: &'a Profile,
    parameters: Parameters,
    secrets: Vec<SourceSecret>,
    files: &'a [PathBuf],
    /// What is published where the request says that its key is.
    published: Option<Vec<u8>>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let profile = provider::find(&args.provider)?;
    let bench = Bench {
        parameters: args.parameters.read(&profile)?,
        secrets: read_secrets(&args.secret_file)?,
        files: &args.secret_file,
        published: args
            .published_key
            .as_ref()
            .map(|file| read_body(Some(file)))
            .transpose()?,
        profile: &profile,
    };
    let keyring = Keyring::with_parameters(&profile, &bench.secrets, &bench.parameters);
    let keyring = keyring.map_err(|error| Usage(error.to_string()))?;
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
    let request = RawRequest {
        method: &args.method,
        path: None,
        query: args.query.as_deref(),
        headers: &headers,
        body: &body,
        url: args.url.as_deref(),
        received_at: args.at.map_or_else(clock::now, UnixMillis::from_seconds),
    };

    let answer = bench.judge(&keyring, request)?;
    if args.json {
        print_json(&answer)?;
    } else {
        print(&answer);
    }
    Ok(if answer.authentic { Exit::Yes } else { Exit::No })
}

impl Bench<'_> {
    fn judge(&self, keyring: &Keyring, request: RawRequest<'_>) -> Result<Answer, Usage> {
        let unproven = match verify::verify(self.profile, keyring, request) {
            Ok(verified) => return Ok(self.authentic(&verified, self.file_of(&verified))),
            Err(unproven) => unproven,
        };
        if let (Some(need), Some(document)) = (unproven.needs_key(), &self.published) {
            let keyring = keyring
                .learn(self.profile, need, document, request.received_at)
                .map_err(|error| Usage(error.to_string()))?;
            return Ok(match verify::verify(self.profile, &keyring, request) {
                Ok(verified) => self.authentic(&verified, self.file_of(&verified)),
                Err(unproven) => self.not_authentic(&keyring, request, &unproven),
            });
        }
        for (keyring, file) in self.named_as_asked(request, &unproven) {
            if let Ok(verified) = verify::verify(self.profile, &keyring, request) {
                return Ok(self.authentic(&verified, Some(file)));
            }
        }
        Ok(self.not_authentic(keyring, request, &unproven))
    }

    /// Some providers name in each request the key that signed it. A secret from a file has no name, so each is tried under the one that
    /// the request gives. Empty for all other providers.
    fn named_as_asked(&self, request: RawRequest<'_>, unproven: &Unproven) -> Vec<(Keyring, &PathBuf)> {
        let Unproven::UnknownKey { header } = unproven else {
            return Vec::new();
        };
        let name = request.single_header(header).ok().flatten();
        let name = name.and_then(|name| KeyId::new(std::str::from_utf8(name).ok()?).ok());
        let Some(id) = name else { return Vec::new() };
        self.secrets
            .iter()
            .zip(self.files)
            .filter_map(|(secret, file)| {
                let named = SourceSecret {
                    id: id.clone(),
                    ..secret.clone()
                };
                let keyring = Keyring::with_parameters(self.profile, &[named], &self.parameters).ok()?;
                Some((keyring, file))
            })
            .collect()
    }

    fn not_authentic(&self, keyring: &Keyring, request: RawRequest<'_>, unproven: &Unproven) -> Answer {
        let explanation = explain::explain(self.profile, keyring, &request, unproven);
        Answer {
            provider: self.profile.name.to_string(),
            reason: Some(unproven.reason()),
            differs: Some(explanation.differs.as_str()),
            explanation: explanation.summary,
            hints: explanation.hints,
            ..Answer::default()
        }
    }

    /// The file of the secret that matched; none for a key that was published.
    fn file_of(&self, verified: &Verified<'_>) -> Option<&PathBuf> {
        let at = self
            .secrets
            .iter()
            .position(|secret| secret.id == verified.proof().key_id)?;
        self.files.get(at)
    }

    fn authentic(&self, verified: &Verified<'_>, file: Option<&PathBuf>) -> Answer {
        let proof = verified.proof();
        let answer = Answer {
            authentic: true,
            provider: self.profile.name.to_string(),
            scheme: Some(proof.scheme.clone()),
            secret: file.map(|file| file.display().to_string()),
            explanation: format!("the signature matches by scheme {}", proof.scheme),
            ..Answer::default()
        };
        if let Some(reply) = challenge::answer(self.profile, verified) {
            return Answer {
                challenge_answer: Some(reply.body),
                ..answer
            };
        }
        let (Ok(tenant), Ok(source)) = (TenantName::new("offline"), SourceName::new("offline")) else {
            return answer;
        };
        match envelope::read(self.profile, verified, &tenant, &source) {
            Err(unreadable) => Answer {
                unreadable: Some(unreadable.to_string()),
                http_status: {
                    let happening = Happening::Rejected(Rejection::from(&unreadable));
                    Some(answer::answer(&happening, self.profile.ack()).http_status)
                },
                ..answer
            },
            Ok(events) => Answer {
                events: events
                    .iter()
                    .map(|event| {
                        serde_json::json!({
                            "id": event.id, "type": event.event_type, "subject": event.subject, "reading": event.reading,
                            "occurred_at": event.occurred_at.map(|at| at.to_string()),
                            "amount": event.amount.map(|amount| amount.to_string()),
                            "notes": event.attributes.iter().find(|(name, _)| name == READING_NOTES).map(|(_, notes)| notes),
                        })
                    })
                    .collect(),
                ..answer
            },
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
        for event in &answer.events {
            let fields = event.as_object().into_iter().flatten();
            for (name, value) in fields.filter(|(_, value)| !value.is_null()) {
                let text = match value {
                    Value::String(text) => text.clone(),
                    // How a status was read: its parts, in their order.
                    Value::Object(parts) => parts.values().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => value.to_string(),
                };
                anstream::println!("  {dim}{name:8}{dim:#} {}", mask::shown(&text));
            }
        }
        if let Some(challenge) = &answer.challenge_answer {
            let challenge = if challenge.is_empty() {
                "nothing but the status".to_owned()
            } else {
                mask::shown(challenge).into_owned()
            };
            anstream::println!("  a question of the provider's; the edge would answer: {challenge}");
        }
        if let (Some(unreadable), Some(http_status)) = (&answer.unreadable, answer.http_status) {
            anstream::println!("  but the edge would answer {http_status}: {unreadable}");
        }
    } else {
        anstream::println!("{bad}not authentic{bad:#}  {}", answer.explanation);
        for hint in &answer.hints {
            anstream::println!("  hint: {hint}");
        }
    }
}
