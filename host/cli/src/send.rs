//! `tollgate send`: the sandbox for operators and tenants (promise O9). Signs an event exactly as its provider would, and sends it
//! once or often, whole or tampered with, now or with an old signature.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use tollgate_core::ids::KeyId;
use tollgate_core::mask;
use tollgate_core::profile::Profile;
use tollgate_core::request::signed_url;
use tollgate_core::sample::Sample;
use tollgate_core::sign::{SignInput, sign};
use tollgate_core::time::UnixMillis;

use super::request::{ParameterArgs, parse_header, read_body, read_secrets};
use super::wire::Http;
use super::{Exit, Usage, ask, print_json, provider, test_key};
use tollgate_server::clock;

/// Samples that ship with the binary: what the providers send, byte for byte.
pub(crate) const SAMPLES: [Shipped; 4] = [
    Shipped {
        name: "voucherify-pending",
        provider: "voucherify",
        body: include_str!("../../../tests/samples/voucherify-customer.reward_redemptions.pending.json"),
    },
    Shipped {
        name: "voucherify-completed",
        provider: "voucherify",
        body: include_str!("../../../tests/samples/voucherify-customer.reward_redemptions.completed.json"),
    },
    Shipped {
        name: "voucherify-rewarded",
        provider: "voucherify",
        body: include_str!("../../../tests/samples/voucherify-customer.rewarded.json"),
    },
    Shipped {
        name: "reward-redeemed",
        provider: "generic-hmac",
        body: include_str!("../../../tests/samples/native-reward.redeemed.json"),
    },
];

/// One event as its provider sends it.
pub(crate) struct Shipped {
    pub(crate) name: &'static str,
    pub(crate) provider: &'static str,
    pub(crate) body: &'static str,
}

#[derive(clap::Args)]
#[command(
    after_help = "Samples: voucherify-pending, voucherify-completed, voucherify-rewarded, reward-redeemed. With --provider and neither --sample \
                  nor --body, a request in the provider's shape is sent.\n\n\
    Examples:\n  \
    tollgate send --url http://127.0.0.1:8080/in/acme/rewards --secret-file secret.txt --sample voucherify-pending\n  \
    … --times 2                 a duplicate: the second is answered 200 `same`\n  \
    … --tamper                  a body that was changed after signing: 401\n  \
    … --set status=pending      another body under the same id: a conflict\n  \
    … --age 3600                signed an hour ago: 401 where the scheme has a timestamp\n  \
    tollgate send --url … --provider sendgrid --test-key test.pem\n                              \
    a provider that signs with a private key: a key of your own, which the source must trust\n\n\
    Exit status: 0 every request was answered 2xx, 1 some were not, 2 bad usage, 3 no answer."
)]
pub(super) struct Args {
    /// The source's URL
    #[arg(long)]
    url: String,
    /// The source's public_url, where the provider signs the URL: path and query are those of --url. The one it is sent to, when absent
    #[arg(long)]
    public_url: Option<String>,
    /// A file that holds the source's secret; repeat to sign with several
    #[arg(long, value_name = "FILE", required_unless_present = "test_key")]
    secret_file: Vec<PathBuf>,
    /// What the request calls the key, where it names one: the id of the source's secret
    #[arg(long, value_name = "NAME")]
    key_id: Option<KeyId>,
    /// For providers that sign with a private key: a test key, made when the file is not there. Its public half, which the source must
    /// have as a secret, is written beside it as FILE.pub
    #[arg(long, value_name = "FILE", conflicts_with = "secret_file", requires = "provider")]
    test_key: Option<PathBuf>,
    #[command(flatten)]
    parameters: ParameterArgs,
    /// A sample that ships with Tollgate
    #[arg(long, conflicts_with = "body")]
    sample: Option<String>,
    /// A recorded body to send as it is; `-` reads standard input
    #[arg(long, value_name = "FILE", requires = "provider")]
    body: Option<PathBuf>,
    /// Whose scheme signs: a provider's name, or the file of a profile of your own (own.toml); the sample's own when absent
    #[arg(long)]
    provider: Option<String>,
    /// The message id, for schemes that have one in a header; some take UUIDs only
    #[arg(long, default_value = "746f6c6c-6761-4e65-8c00-00000073656e")]
    id: String,
    /// Replaces a value in the body before signing: a JSON pointer or a top-level name, and the new text
    #[arg(long, value_name = "NAME=TEXT")]
    set: Vec<String>,
    /// Changes one byte of the body after signing
    #[arg(long)]
    tamper: bool,
    /// Sends the same request this often
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    times: u32,
    /// Signs as if this many seconds had passed since
    #[arg(long, default_value_t = 0, value_name = "SECONDS", allow_negative_numbers = true)]
    age: i64,
    /// A further header, as 'Name: value', for what the source asks for beside the signature or a type that stands in a header; one that
    /// the scheme would add is replaced; repeat for each
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// Print what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the answers as JSON; with --dry-run, the request
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let picked = pick(args)?;
    let profile = picked.profile;
    let mut body = picked.body;
    for assignment in &args.set {
        body = set(&body, assignment)?;
    }
    let parameters = args.parameters.read(&profile)?;
    let mut secrets = match &args.test_key {
        Some(file) => vec![test_key::read_or_make(&profile, &parameters, file)?],
        None => read_secrets(&args.secret_file)?,
    };
    if let (Some(id), Some(first)) = (&args.key_id, secrets.first_mut()) {
        first.id = id.clone();
    }
    let at = UnixMillis(clock::now().0.saturating_sub(args.age.saturating_mul(1000)));
    let called = args.public_url.as_deref().map(|public| {
        signed_url(public, &args.url).ok_or_else(|| Usage(format!("`{public}` or `{}` is not a URL", args.url)))
    });
    let called = called.transpose()?;
    let input = SignInput {
        body: &body,
        id: &args.id,
        at,
        url: Some(called.as_deref().unwrap_or(&args.url)),
    };
    let signed = sign(&profile, &secrets, &parameters, &input).map_err(|error| Usage(error.to_string()))?;
    // What is said on the command line goes before what the scheme adds, and that before what the documentation shows beside it.
    let mut headers = args
        .header
        .iter()
        .map(|line| parse_header(line))
        .collect::<Result<Vec<_>, _>>()?;
    for more in [signed.headers, picked.headers] {
        let said: Vec<String> = headers.iter().map(|(name, _)| name.clone()).collect();
        headers.extend(more.into_iter().filter(|(name, _)| !said.contains(name)));
    }
    let url = match &signed.query {
        Some(query) if args.url.contains('?') => format!("{}&{query}", args.url),
        Some(query) => format!("{}?{query}", args.url),
        None => args.url.clone(),
    };
    let mut body = signed.body.into_owned();
    if args.tamper {
        body = tampered(body);
    }
    if args.dry_run && args.json {
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| serde_json::json!({ "name": name, "value": value }))
            .collect();
        let mut shown = serde_json::json!({ "method": "POST", "url": url, "headers": headers });
        // A body that is no text is shown as what it is.
        match std::str::from_utf8(&body) {
            Ok(text) => shown["body"] = text.into(),
            Err(_) => shown["body_base64"] = data_encoding::BASE64.encode(&body).into(),
        }
        print_json(&shown)?;
        return Ok(Exit::Yes);
    }
    if args.dry_run {
        anstream::println!("POST {url}");
        for (name, value) in &headers {
            anstream::println!("{name}: {value}");
        }
        anstream::println!("\n{}", String::from_utf8_lossy(&body));
        return Ok(Exit::Yes);
    }

    let body = Bytes::from(body);
    let answers = ask::runtime()?.block_on(async {
        let http = Http::new();
        let mut answers = Vec::new();
        for _ in 0..args.times {
            answers.push(http.post(&url, &headers, body.clone()).await?);
        }
        anyhow::Ok(answers)
    })?;
    if args.json {
        let answers: Vec<_> = answers
            .iter()
            .map(|(status, text)| {
                let body = serde_json::from_str(text).unwrap_or_else(|_| serde_json::Value::from(text.as_str()));
                serde_json::json!({ "http_status": status, "answer": body })
            })
            .collect();
        print_json(&answers)?;
    } else {
        for (status, text) in &answers {
            let style = if (200..300).contains(status) {
                super::show::GOOD
            } else {
                super::show::BAD
            };
            anstream::println!("{style}{status}{style:#}  {}", mask::line(text.trim(), 4096));
        }
    }
    let kept = answers.iter().all(|(status, _)| (200..300).contains(status));
    Ok(if kept { Exit::Yes } else { Exit::No })
}

/// What is to be signed, and by whose scheme.
struct Picked {
    profile: Arc<Profile>,
    body: Vec<u8>,
    /// Headers that come with the body and are no signature; names in lower case.
    headers: Vec<(String, String)>,
}

fn pick(args: &Args) -> anyhow::Result<Picked> {
    let json = || vec![("content-type".to_owned(), "application/json".to_owned())];
    if let (Some(file), Some(name)) = (&args.body, &args.provider) {
        let file = (file.as_os_str() != "-").then_some(file);
        return Ok(Picked {
            profile: provider::find(name)?,
            body: read_body(file)?,
            headers: json(),
        });
    }
    let names = || SAMPLES.map(|sample| sample.name).join(", ");
    match (&args.sample, &args.provider) {
        (Some(name), provider) => {
            let sample = SAMPLES.iter().find(|sample| sample.name == name);
            let sample = sample.ok_or_else(|| Usage(format!("there is no sample `{name}`; there are: {}", names())))?;
            Ok(Picked {
                profile: provider::find(provider.as_deref().unwrap_or(sample.provider))?,
                body: sample.body.into(),
                headers: json(),
            })
        }
        (None, Some(name)) => in_its_shape(provider::find(name)?),
        (None, None) => Err(Usage(format!(
            "say what to send: --provider NAME for a request in its shape, --body FILE, or --sample with one of {}",
            names()
        ))
        .into()),
    }
}

/// A request in the provider's shape. The old signature among its headers gives way to the new.
fn in_its_shape(profile: Arc<Profile>) -> anyhow::Result<Picked> {
    let sample = Sample::of(&profile).ok_or_else(|| {
        Usage(format!(
            "there is no sample request of `{}`; name a body with --body",
            profile.name
        ))
    })?;
    Ok(Picked {
        body: sample.body.into_bytes(),
        headers: sample.headers,
        profile,
    })
}

/// Replaces one text value in a JSON body: what a provider would have signed, had the event been that one.
pub(crate) fn set(body: &[u8], assignment: &str) -> anyhow::Result<Vec<u8>> {
    let (name, text) = assignment
        .split_once('=')
        .ok_or_else(|| Usage(format!("--set: `{assignment}` must look like name=text")))?;
    let pointer = if name.starts_with('/') {
        name.to_owned()
    } else {
        format!("/{name}")
    };
    let mut document: serde_json::Value = serde_json::from_slice(body).context("--set needs a JSON body")?;
    let value = document
        .pointer_mut(&pointer)
        .ok_or_else(|| Usage(format!("--set: the body has no value at `{pointer}`")))?;
    *value = if value.is_number() {
        serde_json::from_str(text).unwrap_or_else(|_| text.into())
    } else {
        text.into()
    };
    Ok(serde_json::to_vec(&document)?)
}

/// One changed digit or letter, so that the body stays JSON and only its signature is wrong.
pub(crate) fn tampered(mut body: Vec<u8>) -> Vec<u8> {
    if let Some(byte) = body.iter_mut().rev().find(|byte| byte.is_ascii_alphanumeric()) {
        *byte = if *byte == b'7' { b'8' } else { b'7' };
    }
    body
}
