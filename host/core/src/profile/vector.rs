//! Known answers, in the form that a profile's file and the list of the shipped ones have. [`crate::vector`] runs them.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::ids::KeyId;
use crate::secret::{Parameters, Secret, SourceSecret};

/// One request and what becomes of it. Everything in it is public: its secrets are samples.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vector {
    /// Names the vector in the list and in messages.
    pub id: String,
    /// The provider whose profile it proves; not needed in a profile's own file.
    pub provider: Option<String>,
    /// What it shows.
    pub what: String,
    /// Absent where every key is fetched.
    pub secret: Option<VectorSecret>,
    /// What the source says beside its secrets, by name.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// In capitals; POST where the file does not say.
    #[serde(default = "post")]
    pub method: String,
    /// The URL's query, without the `?`.
    pub query: Option<String>,
    /// Name and value, in the order in which they are sent.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The bytes of the body, as text.
    pub body: String,
    /// The source's public URL, for schemes that sign it.
    pub url: Option<String>,
    /// When the request came in, in seconds since the Unix epoch.
    pub received_at_s: i64,
    /// The document that the provider publishes at the place that the request names; stands in for the network.
    pub published: Option<String>,
    /// The name of the reason for which it is refused; it verifies when absent.
    pub refused: Option<String>,
    /// What is read of it, event by event; not looked at when absent.
    #[serde(default)]
    pub events: Vec<VectorEvent>,
    /// The name of the reason for which it is no event although it verifies.
    pub unreadable: Option<String>,
    /// The private key whose signature the vector carries, where signing again must give the same.
    pub signing_secret: Option<String>,
    /// Why it cannot be run as a request; then it is not.
    pub not_run: Option<String>,
}

fn post() -> String {
    "POST".into()
}

/// The sample secret that a vector's request is signed with.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorSecret {
    /// The id that the proof names it by.
    pub id: String,
    /// The secret as the provider shows it.
    pub text: String,
}

/// What is read of an event; what is absent is not looked at.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorEvent {
    /// [`Event::id`](crate::event::Event::id).
    pub id: Option<String>,
    /// [`Event::event_type`](crate::event::Event::event_type).
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    /// [`Event::subject`](crate::event::Event::subject).
    pub subject: Option<String>,
    /// [`Event::occurred_at`](crate::event::Event::occurred_at), as RFC 3339.
    pub occurred_at: Option<String>,
    /// The status that the reading maps to.
    pub status: Option<String>,
}

impl Vector {
    /// The vector's secret as a source has it.
    ///
    /// # Errors
    /// When its id is none.
    pub fn secrets(&self) -> Result<Vec<SourceSecret>, String> {
        let secret = |secret: &VectorSecret| {
            Ok(SourceSecret {
                id: KeyId::new(&secret.id).map_err(|error| error.to_string())?,
                text: Secret::new(secret.text.as_str()),
                not_before: None,
                not_after: None,
            })
        };
        self.secret.iter().map(secret).collect()
    }

    /// The vector's parameters as a source has them.
    pub fn parameters(&self) -> Parameters {
        self.parameters
            .iter()
            .map(|(name, value)| (name.clone(), Secret::new(value.as_str())))
            .collect()
    }
}
