//! Secrets by reference. The reference stands in the file, the secret does not; nothing here ever prints one.

use std::path::Path;

use data_encoding::BASE64;
use tollgate_core::secret::Secret;
use tollgate_core::verify::pasted;

use super::raw::Value;
use super::reach::{Kind, Leave, Reach, Unopened};

/// A shorter secret of a tenant's is guessed in minutes, and what it signs is believed.
pub(super) const SECRET_BYTES_MIN: usize = 4;
/// A shorter token of the operator's could be guessed by whoever reaches the private listener.
const OPERATOR_TOKEN_BYTES_MIN: usize = 16;
/// A secret is a line, not a document.
const SECRET_BYTES_MAX: usize = 16 * 1024;
/// Standard Webhooks asks for 24 to 64 bytes.
const SIGNING_KEY_BYTES_MIN: usize = 24;
const SIGNING_KEY_BYTES_MAX: usize = 64;

fn write_a_reference(value: &Value) -> String {
    format!("write {}, and keep the secret there", value.reach().example())
}

/// Reads the secret that a `{ env = … }` or `{ file = … }` refers to. Line breaks at its end are not part of it. One that is shorter
/// than a secret is refused, unless the operator's file lets it through.
///
/// A file that its group or others may write is refused: they could put their own secret there. One that others may read is
/// not, because that is how orchestrators mount secrets.
pub(super) fn secret(value: &Value) -> Option<Secret> {
    let secret = any_secret(value)?;
    let bytes = secret.expose().len();
    if bytes < SECRET_BYTES_MIN && value.reach().short_secrets() == Leave::Refused {
        value.problem(
            format!("the secret that this refers to has {bytes} bytes: whoever tries all of them signs like its owner"),
            &format!("use one of at least {SECRET_BYTES_MIN} bytes, or let the operator set short_secrets = true in [tenants]"),
        );
        return None;
    }
    Some(secret)
}

/// Reads the operator's token, which opens the whole private listener. `short` is the operator's word that a short one is meant.
pub(super) fn operator_token(value: &Value, short: Leave) -> Option<Secret> {
    let token = any_secret(value)?;
    let bytes = token.expose().len();
    if bytes < OPERATOR_TOKEN_BYTES_MIN && short == Leave::Refused {
        value.problem(
            format!("the token that this refers to has {bytes} bytes: it could be guessed, and it opens everything"),
            &format!(
                "use at least {OPERATOR_TOKEN_BYTES_MIN} random bytes, for example: openssl rand -hex 24; or say \
                 short_token = true in [operator]"
            ),
        );
        return None;
    }
    Some(token)
}

/// The secret that a reference refers to, however short.
fn any_secret(value: &Value) -> Option<Secret> {
    if value.raw().is_str() {
        value.blot();
        value.problem(
            format!("the secret itself stands in `{}`", value.key()),
            &write_a_reference(value),
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
            value.problem("a secret needs either `env` or `file`", &write_a_reference(value));
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
    if let Some(what) = pasted(text.expose()) {
        value.problem(
            format!("the signing secret that this refers to {what}"),
            "mend it where it is kept",
        );
        return None;
    }
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
    if let Err(refused) = name.reach().variable(variable) {
        name.problem(refused.message, &refused.help);
        return None;
    }
    name.desk().variables.borrow_mut().insert(variable.to_owned());
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
    match read_secret_file(&path, name.reach()) {
        Ok(text) => Some(text),
        Err(FileProblem::Unusable { message, help }) => {
            name.problem(format!("the secret's file {}: {message}", path.display()), help);
            None
        }
        Err(FileProblem::OutOfReach { message, help }) => {
            name.problem(message, &help);
            None
        }
    }
}

/// Why a file that holds a secret is not used.
pub(super) enum FileProblem {
    Unusable { message: String, help: &'static str },
    OutOfReach { message: String, help: String },
}

/// The bytes of a file that holds a secret, within reach and bounds and not writable by others. The file is opened once, and what is
/// read is what was judged.
pub(super) fn read_secret_file(path: &Path, reach: &Reach) -> Result<Secret, FileProblem> {
    use std::io::Read as _;
    use std::os::unix::fs::MetadataExt as _;
    let unreadable = |error: std::io::Error| FileProblem::Unusable {
        message: format!("cannot be read: {error}"),
        help: "put the secret there; a relative path starts in the folder of this file",
    };
    let (file, _) = reach.open(path, Kind::Secret).map_err(|unopened| match unopened {
        Unopened::Refused(refused) => FileProblem::OutOfReach {
            message: refused.message,
            help: refused.help,
        },
        Unopened::Io(error) => unreadable(error),
    })?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(FileProblem::Unusable {
            message: "is not a file".into(),
            help: "name a file that holds the secret",
        });
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(FileProblem::Unusable {
            message: "may be written by others".into(),
            help: "chmod 600 the file",
        });
    }
    let mut text = Vec::new();
    file.take(SECRET_BYTES_MAX as u64 + 1)
        .read_to_end(&mut text)
        .map_err(unreadable)?;
    if text.len() > SECRET_BYTES_MAX {
        return Err(FileProblem::Unusable {
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
