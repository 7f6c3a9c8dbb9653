//! `tollgate send`: the sandbox for operators and tenants (promise O9). Signs an event exactly as its provider would, and sends it
//! once or often, whole or tampered with, now or with an old signature.

use std::path::PathBuf;

use anyhow::Context as _;
use bytes::Bytes;
use tollgate_core::sign::{SignInput, sign};
use tollgate_core::time::UnixMillis;

use super::verify::{find_profile, read_body, read_secrets};
use super::wire::Http;
use super::{Exit, Usage, ask, print_json};
use crate::clock;

/// Samples that ship with the binary: what the providers send, byte for byte.
pub(crate) const SAMPLES: [Sample; 4] = [
    Sample {
        name: "voucherify-pending",
        provider: "voucherify",
        body: include_str!("../../../../tests/samples/voucherify-customer.reward_redemptions.pending.json"),
    },
    Sample {
        name: "voucherify-completed",
        provider: "voucherify",
        body: include_str!("../../../../tests/samples/voucherify-customer.reward_redemptions.completed.json"),
    },
    Sample {
        name: "voucherify-rewarded",
        provider: "voucherify",
        body: include_str!("../../../../tests/samples/voucherify-customer.rewarded.json"),
    },
    Sample {
        name: "reward-redeemed",
        provider: "generic-hmac",
        body: include_str!("../../../../tests/samples/native-reward.redeemed.json"),
    },
];

/// One event as its provider sends it.
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) provider: &'static str,
    pub(crate) body: &'static str,
}

#[derive(clap::Args)]
#[command(
    after_help = "Samples: voucherify-pending, voucherify-completed, voucherify-rewarded, reward-redeemed.\n\n\
    Examples:\n  \
    tollgate send --url http://127.0.0.1:8080/in/acme/rewards --secret-file secret.txt --sample voucherify-pending\n  \
    … --times 2                 a duplicate: the second is answered 200 `same`\n  \
    … --tamper                  a body that was changed after signing: 401\n  \
    … --set status=pending      another body under the same id: a conflict\n  \
    … --age 3600                signed an hour ago: 401 where the scheme has a timestamp\n\n\
    Exit status: 0 every request was answered 2xx, 1 some were not, 2 bad usage, 3 no answer."
)]
pub(super) struct Args {
    /// The source's URL
    #[arg(long)]
    url: String,
    /// A file that holds the source's secret; repeat to sign with several
    #[arg(long, required = true, value_name = "FILE")]
    secret_file: Vec<PathBuf>,
    /// A sample that ships with Tollgate
    #[arg(long, conflicts_with = "body")]
    sample: Option<String>,
    /// A recorded body to send as it is; `-` reads standard input
    #[arg(long, value_name = "FILE", requires = "provider")]
    body: Option<PathBuf>,
    /// Whose scheme signs; the sample's own when absent
    #[arg(long)]
    provider: Option<String>,
    /// The message id, for schemes that have one in a header
    #[arg(long, default_value = "msg_tollgate_send")]
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
    /// Print what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the answers as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let (mut body, provider) = pick(args)?;
    for assignment in &args.set {
        body = set(&body, assignment)?;
    }
    let profile = find_profile(args.provider.as_deref().unwrap_or(provider))?;
    let secrets = read_secrets(&args.secret_file)?;
    let at = UnixMillis(clock::now().0 - args.age.saturating_mul(1000));
    let input = SignInput {
        body: &body,
        id: &args.id,
        at,
        url: Some(&args.url),
    };
    let mut headers = sign(&profile, &secrets, &input).map_err(|error| Usage(error.to_string()))?;
    headers.push(("content-type".to_owned(), "application/json".to_owned()));
    if args.tamper {
        body = tampered(body);
    }
    if args.dry_run {
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
            answers.push(http.post(&args.url, &headers, body.clone()).await?);
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
            anstream::println!("{style}{status}{style:#}  {}", text.trim());
        }
    }
    let kept = answers.iter().all(|(status, _)| (200..300).contains(status));
    Ok(if kept { Exit::Yes } else { Exit::No })
}

fn pick(args: &Args) -> anyhow::Result<(Vec<u8>, &'static str)> {
    if let Some(file) = &args.body {
        let file = (file.as_os_str() != "-").then_some(file);
        return Ok((read_body(file)?, ""));
    }
    let names = || SAMPLES.map(|sample| sample.name).join(", ");
    let Some(name) = &args.sample else {
        return Err(Usage(format!(
            "say what to send: --body FILE, or --sample with one of {}",
            names()
        ))
        .into());
    };
    let sample = SAMPLES.iter().find(|sample| sample.name == name);
    let sample = sample.ok_or_else(|| Usage(format!("there is no sample `{name}`; there are: {}", names())))?;
    Ok((sample.body.into(), sample.provider))
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
