//! A tenant as this host runs it: what its file says, with the secrets that the file refers to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::HeaderName;
use tollgate_core::admission::{OnHeld, OnReplay};
use tollgate_core::answer::Ack;
use tollgate_core::ids::{DestinationName, Digest, KeyId, RouteName, SourceName, TenantName};
use tollgate_core::limits;
use tollgate_core::network::Network;
use tollgate_core::profile::Profile;
use tollgate_core::rate::Rate;
use tollgate_core::registry::PromotionGate;
use tollgate_core::route::RouteMatch;
use tollgate_core::secret::{Parameters, Secret, SourceSecret};
use tollgate_core::subject::Sharing;
use tollgate_core::verify::{Credential, Keyring};
use tollgate_store::Targets;
use tollgate_tenants::file::Way;
use tollgate_tenants::{Parameter, Route, SecretRef, file};

/// One tenant, checked, with its secrets.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// The name of its file, and the first part of its sources' URLs.
    pub name: TenantName,
    /// Where its events come in.
    pub sources: BTreeMap<SourceName, Source>,
    /// What is done with them, in the order of the file.
    pub routes: Vec<Arc<Route>>,
    /// Where its actions go.
    pub destinations: BTreeMap<DestinationName, Arc<Destination>>,
    /// Those of them that are pulled, and the names that they had before.
    pub(crate) pulled: Vec<DestinationName>,
    /// What a plugin's version must have behind it before it advances on a route of this tenant.
    pub(crate) gate: PromotionGate,
    /// The families that its sources share.
    pub(crate) sharing: Sharing,
    /// Of the texts that say all this: its file and the files that it names. No secret is in them.
    pub(crate) texts: Digest,
}

/// Where events of one provider come in.
#[derive(Debug, Clone)]
pub struct Source {
    /// The last part of its URL.
    pub name: SourceName,
    /// How the provider proves and says things, with the source's own settings.
    pub profile: Arc<Profile>,
    /// The source's own keys; see the edge for those that are fetched.
    pub keyring: Arc<Keyring>,
    /// How the provider wants to be answered.
    pub(crate) ack: Ack,
    /// Who may speak to it at all.
    pub access: Access,
    /// The largest body that is taken, in bytes.
    pub(crate) body_bytes_max: usize,
    /// What another form of a held event becomes.
    pub(crate) on_held: OnHeld,
    /// What a suspected replay waits for.
    pub(crate) on_replay: OnReplay,
    /// The public URL of this source, for schemes that sign it: scheme, host and port, or the whole.
    pub(crate) public_url: Option<String>,
    /// As the file refers to them; the keyring is made of them.
    pub(crate) secrets: Vec<SourceSecret>,
    /// What it says beside them.
    pub(crate) parameters: Parameters,
    /// Names of published keys that are fetched ahead.
    pub published_keys: Vec<String>,
}

/// Who may speak to a source, beside the signature (promise I7).
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// One of them must be presented; empty: none is asked for. Several while one replaces another.
    pub(crate) credentials: Vec<Credential>,
    /// The credentials are basic auth, which a refusal has to ask for.
    pub(crate) asks_basic: bool,
    /// The client must be in one of them; empty: from anywhere.
    pub allow_networks: Vec<Network>,
}

/// Where actions are delivered.
#[derive(Debug, Clone)]
pub struct Destination {
    /// How what waits for it gets there.
    pub way: Way,
    /// Sign each delivery (Standard Webhooks, `whsec_…`); several while one replaces another: all sign. At least one, where it is sent to.
    pub(crate) secrets: Vec<SourceSecret>,
    pub(crate) in_flight_max: usize,
    /// How many attempts may begin; none: as many as come.
    pub(crate) rate: Option<Rate>,
    /// Sent with each delivery beside ours, names in lower case. Some values are secret, so all are kept so.
    pub(crate) headers: Vec<(HeaderName, Secret)>,
    /// From the start of an attempt to the end of the answer; absent: what holds for all.
    pub(crate) timeout_ms: Option<u64>,
    /// Names that it had before: what waits for them goes here.
    pub(crate) formerly: Vec<DestinationName>,
    /// It is told of the tenant's issues.
    pub(crate) notices: bool,
    /// What belongs to one subject is sent one after the other.
    pub(crate) in_order: bool,
}

impl Tenant {
    /// The destination of this name, or the one that was formerly called so.
    pub(crate) fn destination(&self, name: &DestinationName) -> Option<&Arc<Destination>> {
        self.destinations.get(name).or_else(|| {
            self.destinations
                .values()
                .find(|destination| destination.formerly.contains(name))
        })
    }

    /// Names that destinations had before, each with the name of now.
    fn renamed_destinations(&self) -> Vec<(DestinationName, DestinationName)> {
        let renamed = self.destinations.iter().flat_map(|(now, destination)| {
            let before = destination.formerly.iter();
            before.map(move |old| (old.clone(), now.clone()))
        });
        renamed.collect()
    }

    /// The destinations that ask for order.
    fn ordered_destinations(&self) -> BTreeSet<DestinationName> {
        let ordered = self.destinations.iter().filter(|(_, destination)| destination.in_order);
        ordered.map(|(name, _)| name.clone()).collect()
    }

    /// Where a route's actions go.
    pub(crate) fn targets(&self, route: &Route) -> Targets {
        Targets {
            destinations: route.destinations.clone(),
            renamed: self.renamed_destinations(),
            ordered: self.ordered_destinations(),
            sharing: self.sharing.clone(),
        }
    }

    /// What each route takes.
    pub(crate) fn matches(&self) -> impl Iterator<Item = (&RouteName, &RouteMatch)> {
        self.routes.iter().map(|route| (&route.name, &route.matches))
    }
}

/// Makes of what a file says what this host runs. None where a secret is not known: natively each is, or its absence is a problem.
impl Tenant {
    pub(super) fn of(tenant: file::Tenant) -> Option<Self> {
        let pulled = tenant
            .destinations
            .iter()
            .filter(|(_, destination)| destination.way == Way::Pulled);
        let pulled = pulled.flat_map(|(name, destination)| destination.formerly.iter().chain([name]));
        Some(Self {
            pulled: pulled.cloned().collect(),
            name: tenant.name,
            sources: tenant
                .sources
                .into_iter()
                .map(|(name, source)| Some((name, Source::of(source)?)))
                .collect::<Option<_>>()?,
            routes: tenant.routes.into_iter().map(Arc::new).collect(),
            destinations: tenant
                .destinations
                .into_iter()
                .map(|(name, destination)| Some((name, Arc::new(Destination::of(destination)?))))
                .collect::<Option<_>>()?,
            gate: tenant.gate,
            sharing: tenant.sharing,
            texts: Digest([0; 32]),
        })
    }

    /// The tenant with what its settings add. None where a secret is not known.
    pub(super) fn with(mut self, added: file::Added) -> Option<Self> {
        for (name, source) in added.sources {
            self.sources.insert(name, Source::of(source)?);
        }
        for (name, destination) in added.destinations {
            self.destinations.insert(name, Arc::new(Destination::of(destination)?));
        }
        self.routes.extend(added.routes.into_iter().map(Arc::new));
        Some(self)
    }

    /// Notes what it was read from.
    pub(super) fn noting_texts(mut self, text: &str, files: &BTreeMap<String, String>) -> Self {
        // As JSON, so that it is plain where each begins.
        self.texts = Digest::of(serde_json::json!([text, files]).to_string().as_bytes());
        self
    }
}

impl Source {
    fn of(source: file::Source) -> Option<Self> {
        let bearer = source
            .bearer
            .iter()
            .map(|token| Some(Credential::bearer(token.text.as_ref()?)));
        let basic = source
            .basic
            .iter()
            .map(|basic| Some(Credential::basic(&basic.user, basic.password.text.as_ref()?)));
        let parameters = source.parameters.into_iter().map(|(name, value)| {
            let value = match value {
                Parameter::Text(text) => Secret::new(text),
                Parameter::Secret(secret) => secret.text?,
            };
            Some((name, value))
        });
        Some(Self {
            parameters: parameters.collect::<Option<_>>()?,
            access: Access {
                credentials: bearer.chain(basic).collect::<Option<_>>()?,
                asks_basic: !source.basic.is_empty(),
                allow_networks: source.allow_networks,
            },
            secrets: source.secrets.iter().map(SecretRef::known).collect::<Option<_>>()?,
            name: source.name,
            profile: source.profile,
            keyring: source.keyring?,
            ack: source.ack,
            body_bytes_max: source.body_bytes_max,
            on_held: source.on_held,
            on_replay: source.on_replay,
            public_url: source.public_url,
            published_keys: source.published_keys,
        })
    }
}

impl Destination {
    fn of(destination: file::Destination) -> Option<Self> {
        // A destination's secrets have no windows and need no names, since all of them sign.
        let secrets = destination.secrets.into_iter().enumerate().map(|(at, secret)| {
            Some(SourceSecret {
                id: KeyId::new(&format!("{}", at + 1)).ok()?,
                text: secret.text?,
                not_before: None,
                not_after: None,
            })
        });
        let headers = destination.headers.into_iter().map(|(name, value)| {
            let value = match value {
                Parameter::Text(text) => Secret::new(text),
                Parameter::Secret(secret) => secret.text?,
            };
            Some((HeaderName::try_from(name).ok()?, value))
        });
        // Who can change the state of issues could write as often to whoever is told of it, by the operator's mail server.
        let is_mailed = matches!(destination.way, Way::Mailed(_));
        let (in_flight_max, per_s) = match is_mailed {
            true => (1, Some(limits::MAILS_PER_S_MAX)),
            false => (destination.in_flight_max, destination.requests_per_s),
        };
        Some(Self {
            way: destination.way,
            secrets: secrets.collect::<Option<_>>()?,
            in_flight_max,
            // A claim is a commit, so a tenth of a second's worth may begin at once.
            rate: per_s.and_then(|per_s| Rate::new(per_s, (per_s / 10).max(1))),
            headers: headers.collect::<Option<_>>()?,
            timeout_ms: destination.timeout_ms,
            notices: destination.notices,
            in_order: destination.in_order,
            formerly: destination.formerly,
        })
    }
}
