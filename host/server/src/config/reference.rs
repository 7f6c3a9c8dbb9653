//! Secrets by reference. The reference stands in the file, the secret does not; nothing here ever prints one.

use std::path::Path;

use data_encoding::BASE64;
use tollgate_core::secret::Secret;

use super::raw::Value;

const WRITE_A_REFERENCE: &str = "write { env = \"NAME\" } or { file = \"path\" }, and keep the secret there";
/// A secret is a line, not a document.
const SECRET_BYTES_MAX: usize = 16 * 1024;
/// Standard Webhooks asks for 24 to 64 bytes.
const SIGNING_KEY_BYTES_MIN: usize = 24;
const SIGNING_KEY_BYTES_MAX: usize = 64;

/// Reads the secret that a `{ env = … }` or `{ file = … }` refers to. Line breaks at its end are not part of it.
///
/// A file that its group or others may write is refused: they could put their own secret there. One that others may read is
/// not, because that is how orchestrators mount secrets.
pub(super) fn secret(value: &Value) -> Option<Secret> {
    if value.raw().is_str() {
        value.blot();
        value.problem(
            format!("the secret itself stands in `{}`", value.key()),
            WRITE_A_REFERENCE,
        );
        return None;
    }
    let reference = value.section()?;
    let (env, file) = (reference.get("env"), reference.get("file"));
    reference.finish();
    let text = match (env, file) {
        (Some(env), None) => from_env(&env)?,
        (None, Some(file)) => from_file(&file)?,
        (None, None) | (Some(_), Some(_)) => {
            value.problem("a secret needs either `env` or `file`", WRITE_A_REFERENCE);
            return None;
        }
    };
    let secret = without_line_ends(text.expose());
    if secret.is_empty() {
        value.problem("the secret that this refers to is empty", "set it");
        return None;
    }
    Some(Secret::new(secret))
}

/// Reads a `whsec_…` signing secret by reference.
pub(super) fn signing_key(value: &Value) -> Option<Secret> {
    let text = secret(value)?;
    let help = format!(
        "use `whsec_` and the base64 of {SIGNING_KEY_BYTES_MIN} to {SIGNING_KEY_BYTES_MAX} random bytes, \
         for example: echo whsec_$(openssl rand -base64 32)"
    );
    let Some(encoded) = text.expose().strip_prefix(b"whsec_") else {
        value.problem(
            "the signing secret that this refers to does not begin with `whsec_`",
            &help,
        );
        return None;
    };
    let Ok(key) = BASE64.decode(encoded).map(Secret::new) else {
        value.problem(
            "the signing secret that this refers to is not base64 after `whsec_`",
            &help,
        );
        return None;
    };
    let bytes = key.expose().len();
    if !(SIGNING_KEY_BYTES_MIN..=SIGNING_KEY_BYTES_MAX).contains(&bytes) {
        value.problem(
            format!("the signing secret that this refers to decodes to {bytes} bytes"),
            &help,
        );
        return None;
    }
    Some(text)
}

fn from_env(name: &Value) -> Option<Secret> {
    let variable = name.text()?;
    let text = (name.desk().env)(variable);
    if text.is_none() {
        name.problem(
            format!("the environment variable `{variable}` is not set"),
            "set it where Tollgate starts",
        );
    }
    text.map(Secret::new)
}

fn from_file(name: &Value) -> Option<Secret> {
    let path = name.path()?;
    match read_secret_file(&path) {
        Ok(text) => Some(text),
        Err(problem) => {
            name.problem(
                format!("the secret's file {}: {}", path.display(), problem.message),
                problem.help,
            );
            None
        }
    }
}

/// Why a file that holds a secret is not used.
pub(super) struct FileProblem {
    pub(super) message: String,
    pub(super) help: &'static str,
}

/// The bytes of a file that holds a secret, within bounds and not writable by others.
pub(super) fn read_secret_file(path: &Path) -> Result<Secret, FileProblem> {
    use std::io::Read as _;
    let unreadable = |error: std::io::Error| FileProblem {
        message: format!("cannot be read: {error}"),
        help: "put the secret there; a relative path starts in the folder of this file",
    };
    // Looked at before it is opened: opening a pipe would wait for a writer.
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(FileProblem {
            message: "is not a file".into(),
            help: "name a file that holds the secret",
        });
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        if metadata.mode() & 0o022 != 0 {
            return Err(FileProblem {
                message: "may be written by others".into(),
                help: "chmod 600 the file",
            });
        }
    }
    let mut text = Vec::new();
    std::fs::File::open(path)
        .map_err(unreadable)?
        .take(SECRET_BYTES_MAX as u64 + 1)
        .read_to_end(&mut text)
        .map_err(unreadable)?;
    if text.len() > SECRET_BYTES_MAX {
        return Err(FileProblem {
            message: format!("is longer than {SECRET_BYTES_MAX} bytes"),
            help: "keep nothing but the secret in it",
        });
    }
    Ok(Secret::new(text))
}

fn without_line_ends(text: &[u8]) -> &[u8] {
    let kept = text
        .iter()
        .rposition(|byte| !matches!(byte, b'\r' | b'\n'))
        .map_or(0, |at| at + 1);
    &text[..kept]
}
