//! Known answers: requests whose verdict is known, from a provider's documentation or library. They prove a profile.
//!
//! Those of the shipped profiles are in `tests/vectors/providers.json`; a tenant's profile carries its own as `[[vector]]`. Both are
//! read and run by the code here.

use std::sync::OnceLock;

use crate::envelope;
use crate::ids::{SourceName, TenantName};
use crate::profile::{Profile, Vector};
use crate::request::{Header, RawRequest};
use crate::time::UnixMillis;
use crate::verify::{Keyring, verify};

/// How a vector came out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// It came out as the vector says.
    Passed,
    /// It came out otherwise; the text says how.
    Failed(String),
    /// It was not run; the text says why.
    NotRun(String),
}

/// All known answers of the shipped profiles.
///
/// # Panics
/// Never in a released build: a test reads them.
pub fn shipped() -> &'static [Vector] {
    static SHIPPED: OnceLock<Vec<Vector>> = OnceLock::new();
    SHIPPED.get_or_init(|| {
        serde_json::from_str(include_str!("../../../tests/vectors/providers.json"))
            .expect("the shipped vectors are valid")
    })
}

/// The known answers of a profile: its own, or the shipped ones for its name.
pub fn of(profile: &Profile) -> Vec<Vector> {
    if !profile.vectors().is_empty() {
        return profile.vectors().to_vec();
    }
    let is_its = |vector: &&Vector| vector.provider.as_deref() == Some(profile.name.as_str());
    shipped().iter().filter(is_its).cloned().collect()
}

/// Runs one vector against a profile.
pub fn run(profile: &Profile, vector: &Vector) -> Outcome {
    if let Some(reason) = &vector.not_run {
        return Outcome::NotRun(reason.clone());
    }
    match check(profile, vector) {
        Ok(()) => Outcome::Passed,
        Err(what) => Outcome::Failed(what),
    }
}

fn check(profile: &Profile, vector: &Vector) -> Result<(), String> {
    let keyring = Keyring::with_parameters(profile, &vector.secrets()?, &vector.parameters());
    let mut keyring = keyring.map_err(|error| error.to_string())?;
    let headers: Vec<Header<'_>> = vector
        .headers
        .iter()
        .map(|(name, value)| Header {
            name,
            value: value.as_bytes(),
        })
        .collect();
    let request = RawRequest {
        method: &vector.method,
        path: None,
        query: vector.query.as_deref(),
        headers: &headers,
        body: vector.body.as_bytes(),
        url: vector.url.as_deref(),
        received_at: UnixMillis::from_seconds(vector.received_at_s),
    };
    if let (Err(unproven), Some(document)) = (verify(profile, &keyring, request), &vector.published)
        && let Some(need) = unproven.needs_key()
    {
        keyring = keyring
            .learn(profile, need, document.as_bytes(), request.received_at)
            .map_err(|error| error.to_string())?;
    }
    let verified = match (verify(profile, &keyring, request), &vector.refused) {
        (Ok(verified), None) => verified,
        (Ok(_), Some(reason)) => return Err(format!("it verified, and should be refused: {reason}")),
        (Err(unproven), Some(reason)) if unproven.reason() == reason => return Ok(()),
        (Err(unproven), _) => return Err(format!("refused: {} ({unproven})", unproven.reason())),
    };
    let names = (TenantName::new("vectors"), SourceName::new("vectors"));
    let (Ok(tenant), Ok(source)) = names else {
        return Err("no names".into());
    };
    let read = envelope::read(profile, &verified, &tenant, &source);
    if let Some(reason) = &vector.unreadable {
        return match read {
            Err(unreadable) if unreadable.reason() == reason => Ok(()),
            other => Err(format!("it should be no event: {reason}; it is {other:?}")),
        };
    }
    if vector.events.is_empty() {
        return Ok(());
    }
    let events = read.map_err(|unreadable| unreadable.to_string())?;
    if events.len() != vector.events.len() {
        return Err(format!("{} events, not {}", events.len(), vector.events.len()));
    }
    for (event, expected) in events.iter().zip(&vector.events) {
        let occurred_at = event.occurred_at.map(|at| at.to_string());
        let fields = [
            ("id", Some(event.id.as_str()), &expected.id),
            ("type", Some(event.event_type.as_str()), &expected.event_type),
            ("subject", event.subject.as_ref().map(AsRef::as_ref), &expected.subject),
            ("occurred_at", occurred_at.as_deref(), &expected.occurred_at),
            ("status", event.reading.status().map(AsRef::as_ref), &expected.status),
        ];
        for (name, found, expected) in fields {
            if expected.is_some() && found != expected.as_deref() {
                return Err(format!("{name} is {found:?}, not {expected:?}"));
            }
        }
    }
    Ok(())
}
