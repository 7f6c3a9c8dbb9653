//! What `verify` and `send` ask for alike: whose rules, which secrets, which parameters, which body.

use std::io::Read as _;
use std::path::PathBuf;

use anyhow::Context as _;
use tollgate_core::ids::KeyId;
use tollgate_core::profile::Profile;
use tollgate_core::secret::{Parameters, Secret, SourceSecret};

use super::Usage;

/// What a source says beside its secrets.
#[derive(clap::Args, Debug, Clone)]
pub(super) struct ParameterArgs {
    /// What the source says beside its secrets (`tollgate provider show` lists it); repeat for each
    #[arg(long, value_name = "NAME=VALUE")]
    parameter: Vec<String>,
    /// The same for a value that is secret: it is read from a file
    #[arg(long, value_name = "NAME=FILE")]
    parameter_file: Vec<String>,
}

impl ParameterArgs {
    pub(super) fn read(&self, profile: &Profile) -> anyhow::Result<Parameters> {
        let mut parameters = Parameters::new();
        let pair = |text: &str, flag: &str| {
            let (name, value) = text
                .split_once('=')
                .ok_or_else(|| Usage(format!("{flag}: `{text}` must look like NAME=…")))?;
            if profile.parameters().iter().any(|parameter| parameter.name == name) {
                return Ok((name.to_owned(), value.to_owned()));
            }
            let known: Vec<&str> = profile
                .parameters()
                .iter()
                .map(|parameter| parameter.name.as_str())
                .collect();
            Err(Usage(format!(
                "`{}` has no parameter `{name}`; it has: {}",
                profile.name,
                known.join(", ")
            )))
        };
        for text in &self.parameter {
            let (name, value) = pair(text, "--parameter")?;
            parameters.insert(name, Secret::new(value));
        }
        for text in &self.parameter_file {
            let (name, file) = pair(text, "--parameter-file")?;
            parameters.insert(name, read_secret(&file.into())?);
        }
        Ok(parameters)
    }
}

/// One secret a file; `secret-1` is the first. All are active for ever.
pub(super) fn read_secrets(files: &[PathBuf]) -> anyhow::Result<Vec<SourceSecret>> {
    let read = |(at, file): (usize, &PathBuf)| {
        Ok(SourceSecret {
            id: KeyId::new(&format!("secret-{}", at + 1)).context("a key id")?,
            text: read_secret(file)?,
            not_before: None,
            not_after: None,
        })
    };
    files.iter().enumerate().map(read).collect()
}

/// A secret as the provider shows it: what a file holds but for the line break at its end.
fn read_secret(file: &PathBuf) -> anyhow::Result<Secret> {
    let mut text = std::fs::read(file).map_err(|error| Usage(format!("cannot read {}: {error}", file.display())))?;
    while text.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        text.pop();
    }
    if text.is_empty() {
        return Err(Usage(format!("{} is empty; it must hold the secret", file.display())).into());
    }
    Ok(Secret::new(text))
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

/// A header as it is written on a command line; the name in lower case.
pub(super) fn parse_header(line: &str) -> Result<(String, String), Usage> {
    let (name, value) = line
        .split_once(':')
        .ok_or_else(|| Usage(format!("--header: `{line}` must look like 'Name: value'")))?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}
