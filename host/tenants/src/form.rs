//! What a component is given: pieces in postcard's compact form, behind a line that says who wrote them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tollgate_core::admission::{OnHeld, OnReplay};
use tollgate_core::answer::Ack;
use tollgate_core::ids::{DestinationName, FamilyName, KeyId, RouteName, SourceName, TenantName};
use tollgate_core::lifecycle::Lifecycle;
use tollgate_core::mode::Accept;
use tollgate_core::profile::Profile;
use tollgate_core::route::RouteMatch;
use tollgate_core::subject::Sharing;
use tollgate_core::time::UnixMillis;

use crate::route::Route;

/// Stands before each piece. The form has no other mark of its shape, so it goes with the version that reads and writes it.
pub(crate) const WRITTEN_BY: &[u8] = concat!("tollgate-tenants ", env!("CARGO_PKG_VERSION"), "\n").as_bytes();

/// A piece that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// Another version of Tollgate wrote it.
    #[error("it was built by another version; build the tenants again")]
    OtherVersion,
    /// The bytes behind the first line are not such a piece.
    #[error("it is damaged; build the tenants again")]
    Damaged,
}

/// A tenant, in pieces.
#[derive(Debug, Clone)]
pub struct Pieces {
    /// What the ingest component is given, one piece for each source.
    pub sources: BTreeMap<SourceName, Intake>,
    /// What the worker is given.
    pub work: Work,
}

/// One source: what its events need until they are acknowledged.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Intake {
    /// How the provider proves and says things, with the source's own settings.
    pub profile: Profile,
    /// How the provider wants to be answered.
    pub ack: Ack,
    /// What another form of a held event becomes.
    pub on_held: OnHeld,
    /// What a suspected replay waits for.
    pub on_replay: OnReplay,
    /// The public URL of the source, for schemes that sign it.
    pub public_url: Option<String>,
    /// The largest body that is taken, in bytes.
    pub body_bytes_max: usize,
    /// The secrets that events are verified with.
    pub secrets: Vec<SecretRef>,
    /// What the source says beside its secrets, by name.
    pub parameters: BTreeMap<String, Parameter>,
    /// Beside the signature; one of these and of `basic` must be there, if there are any.
    pub bearer: Vec<Variable>,
    /// Users who may speak to the source, each with a password.
    pub basic: Vec<Basic>,
    /// What each route of the tenant takes that may take an event of this source.
    pub routes: Vec<(RouteName, RouteMatch)>,
    /// The lifecycles of the families that its events can be of.
    pub lifecycles: Vec<Lifecycle>,
    /// The families that sources of the tenant share.
    pub sharing: Sharing,
}

/// The app's variable of this name, which holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable(pub String);

/// One of a source's secrets, as `S` refers to it, with the window in which it may verify.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRef<S = Variable> {
    /// What the proof of a request names it by.
    pub id: KeyId,
    /// Where the secret is.
    pub value: S,
    /// It verifies from this instant on; without a beginning when absent.
    pub not_before: Option<UnixMillis>,
    /// It verifies before this instant; for ever when absent.
    pub not_after: Option<UnixMillis>,
}

/// Something that may be secret, in the file or behind a reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Parameter<S = Variable> {
    /// It stands in the file.
    Text(String),
    /// The file refers to it.
    Secret(S),
}

/// Basic authentication of one user (RFC 7617).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basic<S = Variable> {
    /// The user's name; holds no colon.
    pub user: String,
    /// Where the password is.
    pub password: S,
}

/// One tenant: what is done after the acknowledgement.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Work {
    /// In the order of the file.
    pub routes: Vec<Route>,
    /// Where actions go, by name.
    pub destinations: BTreeMap<DestinationName, Destination>,
    /// Names that destinations had before, each with the name of now.
    pub renamed: Vec<(DestinationName, DestinationName)>,
    /// Those of them that ask for order, under their names of now.
    pub ordered: BTreeSet<DestinationName>,
    /// How deliveries are signed.
    pub signing: Profile,
    /// The lifecycles of the tenant's families.
    pub lifecycles: Vec<Lifecycle>,
    /// The families that sources of the tenant share.
    pub sharing: Sharing,
    /// Which events each source gives effect, for those who look at one again.
    pub accepts: BTreeMap<SourceName, Accept>,
}

/// Where actions of a tenant are delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// Checked and normalised.
    pub url: String,
    /// Every one of them signs. There is at least one.
    pub secrets: Vec<Variable>,
    /// Sent with each delivery beside ours, names in lower case.
    pub headers: Vec<(String, Parameter)>,
    /// From the start of an attempt to the end of the answer.
    pub timeout_ms: u64,
}

impl Intake {
    /// The name of a source's piece: neither part of it can hold a `.`.
    pub fn file_name(tenant: &TenantName, source: &SourceName) -> String {
        format!("{tenant}.{source}.source")
    }

    /// # Errors
    /// When the bytes are no piece of this kind and version.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormError> {
        decode(bytes)
    }

    /// The lifecycle of a family; none when the family has none.
    pub fn lifecycle(&self, family: &FamilyName) -> Option<&Lifecycle> {
        of_family(&self.lifecycles, family)
    }
}

impl Work {
    /// The name of a tenant's piece: as [`Intake::file_name`].
    pub fn file_name(tenant: &TenantName) -> String {
        format!("{tenant}.work")
    }

    /// # Errors
    /// When the bytes are no piece of this kind and version.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormError> {
        decode(bytes)
    }

    /// The lifecycle of a family; none when the family has none.
    pub fn lifecycle(&self, family: &FamilyName) -> Option<&Lifecycle> {
        of_family(&self.lifecycles, family)
    }

    /// Which events of a source have effect. One that is gone accepts what every source does that says nothing of it.
    pub fn accept(&self, source: &SourceName) -> Accept {
        self.accepts.get(source).copied().unwrap_or_default()
    }

    /// What each route takes.
    pub fn matches(&self) -> impl Iterator<Item = (&RouteName, &RouteMatch)> {
        self.routes.iter().map(|route| (&route.name, &route.matches))
    }
}

fn of_family<'a>(lifecycles: &'a [Lifecycle], family: &FamilyName) -> Option<&'a Lifecycle> {
    lifecycles.iter().find(|lifecycle| lifecycle.family == *family)
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, FormError> {
    let piece = bytes.strip_prefix(WRITTEN_BY).ok_or(FormError::OtherVersion)?;
    match postcard::take_from_bytes(piece) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(FormError::Damaged),
    }
}

#[cfg(test)]
mod tests {
    use tollgate_core::profile::shipped;
    use tollgate_core::vector::{self, Outcome};

    use super::*;
    use crate::build::encode;

    fn intake(profile: &Profile) -> Intake {
        Intake {
            profile: profile.clone(),
            ack: profile.ack().clone(),
            on_held: OnHeld::Review,
            on_replay: OnReplay::Hold,
            public_url: None,
            body_bytes_max: 1024,
            secrets: Vec::new(),
            parameters: BTreeMap::new(),
            bearer: Vec::new(),
            basic: Vec::new(),
            routes: Vec::new(),
            lifecycles: Vec::new(),
            sharing: Sharing::default(),
        }
    }

    /// Nothing that decides is lost on the way: every known answer comes out as it should with a profile that was written and read.
    #[test]
    fn a_profile_decides_the_same_from_its_piece() {
        let mut passed = 0;
        for vector in vector::shipped() {
            let name = vector.provider.as_deref().unwrap();
            let piece = encode(&intake(&shipped()[name])).unwrap();
            let read = Intake::decode(&piece).unwrap();
            match vector::run(&read.profile, vector) {
                Outcome::Passed => passed += 1,
                Outcome::NotRun(_) => {}
                Outcome::Failed(what) => panic!("{name}, {}: {what}", vector.id),
            }
        }
        assert!(passed >= 40, "{passed} passed");
        for (name, profile) in shipped() {
            let read = Intake::decode(&encode(&intake(profile)).unwrap()).unwrap();
            assert_eq!(read.ack, *profile.ack(), "{name}");
            let (was, is) = (format!("{profile:?}"), format!("{:?}", read.profile));
            let deciding = |text: &str| text.split(" about: ").next().unwrap_or_default().to_owned();
            assert_eq!(deciding(&is), deciding(&was), "{name}");
        }
    }

    #[test]
    fn what_is_no_piece_is_refused() {
        let piece = encode(&intake(&shipped()["stripe"])).unwrap();
        let refusal = |bytes: &[u8]| Intake::decode(bytes).unwrap_err();
        assert_eq!(refusal(b""), FormError::OtherVersion);
        assert_eq!(refusal(&piece[1..]), FormError::OtherVersion);
        assert_eq!(refusal(&[&piece[..], b"x"].concat()), FormError::Damaged);
        for end in WRITTEN_BY.len()..piece.len() {
            assert_eq!(refusal(&piece[..end]), FormError::Damaged, "{end}");
        }
    }
}
