//! Secrets by reference. The reference stands in the file, the secret does not; nothing here ever prints one.

use data_encoding::BASE64;
use tollgate_core::ids::SecretName;
use tollgate_core::secret::Secret;
use tollgate_core::verify::pasted;

use super::raw::Value;
use super::resolver::Leave;

/// The least length of a tenant's secret in bytes: a shorter one can be guessed in minutes, and whoever has it can sign events.
pub const SECRET_BYTES_MIN: usize = 4;
/// The lengths of a signing secret in bytes that Standard Webhooks asks for.
const SIGNING_KEY_BYTES_MIN: usize = 24;
const SIGNING_KEY_BYTES_MAX: usize = 64;

/// A secret that a file refers to.
#[derive(Debug, Clone)]
pub struct Referred {
    /// The variable that holds it; absent where a file or the store does.
    pub variable: Option<String>,
    /// The secret, where it can be read now.
    pub text: Option<Secret>,
}

fn write_a_reference(value: &Value) -> String {
    format!("write {}, and keep the secret there", value.resolver().example())
}

/// Reads the secret that a `{ env = … }` or `{ file = … }` refers to. One that is shorter than a secret is refused, unless the
/// operator's file lets it through.
pub(crate) fn secret(value: &Value) -> Option<Referred> {
    let secret = any_secret(value)?;
    let bytes = secret
        .text
        .as_ref()
        .map_or(SECRET_BYTES_MIN, |text| text.expose().len());
    if bytes < SECRET_BYTES_MIN && value.resolver().short_secrets() == Leave::Refused {
        value.problem(
            format!("the secret that this refers to has {bytes} bytes: whoever tries all of them signs like its owner"),
            &format!("use one of at least {SECRET_BYTES_MIN} bytes, or let the operator set short_secrets = true in [tenants]"),
        );
        return None;
    }
    Some(secret)
}

/// Reads the secret that a reference refers to, however short. Line breaks at its end are not part of it.
pub fn any_secret(value: &Value) -> Option<Referred> {
    if value.raw().is_str() {
        value.blot();
        value.problem(
            format!("the secret itself stands in `{}`", value.key()),
            &write_a_reference(value),
        );
        return None;
    }
    let reference = value.section()?;
    let (env, file, store) = (reference.get("env"), reference.get("file"), reference.get("store"));
    reference.finish();
    let (variable, text) = match (env, file, store) {
        (Some(env), None, None) => {
            let name = env.text()?;
            let text = env.resolver().variable(name);
            let text = text.map_err(|refused| env.problem(refused.message, &refused.help));
            (Some(name.to_owned()), text.ok()?)
        }
        (None, Some(file), None) => {
            let text = file.resolver().secret_file(&file.path()?);
            let text = text.map_err(|refused| file.problem(refused.message, &refused.help));
            (None, Some(text.ok()?))
        }
        (None, None, Some(store)) => {
            let name = store.parse::<SecretName>("write the name that the secret was set under")?;
            let text = store.resolver().stored(&name);
            let text = text.map_err(|refused| store.problem(refused.message, &refused.help));
            (None, Some(text.ok()?))
        }
        (None, None, None) | (Some(_), Some(_), _) | (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
            value.problem("a secret is referred to in one way", &write_a_reference(value));
            return None;
        }
    };
    let text = text.map(|text| Secret::new(without_line_ends(text.expose())));
    if text.as_ref().is_some_and(|text| text.expose().is_empty()) {
        value.problem("the secret that this refers to is empty", "set it");
        return None;
    }
    Some(Referred { variable, text })
}

/// Reads a `whsec_…` signing secret by reference.
pub(crate) fn signing_key(value: &Value) -> Option<Referred> {
    let secret = self::secret(value)?;
    let Some(text) = &secret.text else {
        return Some(secret);
    };
    if let Some(what) = pasted(text.expose()) {
        value.problem(
            format!("the signing secret that this refers to {what}"),
            "mend it where it is kept",
        );
        return None;
    }
    let what = match text.expose().strip_prefix(b"whsec_") {
        None => "does not begin with `whsec_`".to_owned(),
        Some(encoded) => match BASE64.decode(encoded).map(Secret::new) {
            Err(_) => "is not base64 after `whsec_`".to_owned(),
            Ok(key) => {
                let bytes = key.expose().len();
                if (SIGNING_KEY_BYTES_MIN..=SIGNING_KEY_BYTES_MAX).contains(&bytes) {
                    return Some(secret);
                }
                format!("decodes to {bytes} bytes")
            }
        },
    };
    value.problem(
        format!("the signing secret that this refers to {what}"),
        &format!(
            "use `whsec_` and the base64 of {SIGNING_KEY_BYTES_MIN} to {SIGNING_KEY_BYTES_MAX} random bytes, \
             for example: echo whsec_$(openssl rand -base64 32)"
        ),
    );
    None
}

fn without_line_ends(text: &[u8]) -> &[u8] {
    let kept = text
        .iter()
        .rposition(|byte| !matches!(byte, b'\r' | b'\n'))
        .map_or(0, |at| at + 1);
    &text[..kept]
}
