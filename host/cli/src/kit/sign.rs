//! `tollgate plugin sign` and `plugin key new`: a publisher's word for the exact bytes of a component.
//!
//! The signature lies beside the component, so signing changes no digest. What it says and what not stands in
//! `tollgate_core::signature`.

use std::path::PathBuf;

use anyhow::Context as _;
use tollgate_core::ids::{KeyId, PluginDigest, PublisherName};
use tollgate_core::signature::PrivateKey;

use super::super::key_file::{private_key, public_file, random, write_new};
use super::super::show::{DIM, GOOD};
use super::super::{Exit, Usage, print_json, read};
use super::project::sandbox;
use super::which::Which;

#[derive(clap::Args)]
#[command(
    after_help = "The key is one of `tollgate plugin key new`, or an Ed25519 private key in PEM (PKCS #8), for example of\n\
                  `openssl genpkey -algorithm ed25519`. The tenant registers the public half under the same publisher and key id.\n\n\
                  Exit status: 0 signed, 1 a host would refuse the component, 2 the key or the name cannot be used."
)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    /// The file of the private key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Who signs; without it, the manifest's publisher
    #[arg(long, value_name = "NAME")]
    publisher: Option<PublisherName>,
    /// What the tenant calls this key; without it, the key file's name up to its first dot
    #[arg(long, value_name = "ID")]
    key_id: Option<KeyId>,
    /// Where to write the signature; without it, beside the component as plugin.wasm.sig
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let path = args.which.component()?;
    let component = read(&path)?;
    let report = match sandbox(args.which.cache()?)?.vet(&component) {
        Ok(report) => report,
        Err(refusal) => return super::vetting::tell(&path.display().to_string(), Err(refusal), args.json),
    };
    let publisher = match &args.publisher {
        Some(publisher) => publisher.clone(),
        None => PublisherName::new(&report.manifest.publisher)
            .map_err(|error| Usage(format!("the manifest's {error}; name the publisher with --publisher")))?,
    };
    let key_id = match &args.key_id {
        Some(key_id) => key_id.clone(),
        None => {
            let name = args.key.file_name().unwrap_or_default().to_string_lossy();
            KeyId::new(name.split('.').next().unwrap_or_default())
                .map_err(|error| Usage(format!("{error}; name the key with --key-id")))?
        }
    };
    let signature = private_key(&args.key)?.sign(publisher, key_id, PluginDigest::of(&component));
    let output = args.output.clone().unwrap_or_else(|| {
        let mut name = path.into_os_string();
        name.push(".sig");
        name.into()
    });
    std::fs::write(&output, signature.to_json() + "\n")
        .with_context(|| format!("cannot write {}", output.display()))?;
    if args.json {
        print_json(&serde_json::json!({
            "signature": output,
            "publisher": signature.publisher,
            "key_id": signature.key_id,
            "digest": signature.digest,
        }))?;
    } else {
        anstream::println!(
            "{GOOD}signed{GOOD:#}  {} as {} with key {}\n  {DIM}signature{DIM:#} {}",
            signature.digest,
            signature.publisher,
            signature.key_id,
            output.display()
        );
    }
    Ok(Exit::Yes)
}

#[derive(clap::Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key pair: FILE, for its owner alone, and FILE.pub, which tenants register
    New {
        /// Where the private key is written; it must not be there yet
        file: PathBuf,
        /// Print the answer as JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn key(command: &KeyCommand) -> anyhow::Result<Exit> {
    let KeyCommand::New { file, json } = command;
    let key = PrivateKey::from_seed(&random()?);
    let public = key.public().to_text();
    write_new(file, &(key.to_text().to_string() + "\n"), true)?;
    let public_file = public_file(file);
    write_new(&public_file, &format!("{public}\n"), false)?;
    if *json {
        print_json(&serde_json::json!({ "private": file, "public": public_file, "public_key": public }))?;
    } else {
        anstream::println!(
            "{GOOD}made{GOOD:#}  {} {DIM}(keep it; whoever has it can sign as you){DIM:#}\n  {DIM}public key{DIM:#} {public}  \
             {DIM}in {}{DIM:#}",
            file.display(),
            public_file.display()
        );
    }
    Ok(Exit::Yes)
}
