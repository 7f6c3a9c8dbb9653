//! Builds the folder of pieces that a Spin app's components are given.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use tollgate_core::ids::{FamilyName, SecretName, TenantName};
use tollgate_core::lifecycle::{self, Lifecycle};
use tollgate_core::limits;
use tollgate_core::network::Network;
use tollgate_core::profile::{self, Profile};
use tollgate_core::secret::Secret;

use crate::file::{self, Host, Leave, Offer, Owner, Problems, Referred, Refused, Resolver, Schemas, Tenant, Way};
use crate::form::{Basic, Destination, Intake, Parameter, Pieces, SecretRef, Variable, WRITTEN_BY, Work};
use crate::{BUILT, PluginLimits};

/// Why the pieces were not built. What was there before stays.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A file cannot be read or written.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was tried, as it follows on "cannot".
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// All that is wrong with the tenants' files.
    #[error("{}", .0.in_words())]
    Tenants(Problems),
    /// A piece cannot be put into its compact form.
    #[error("the pieces of the tenant `{tenant}` cannot be written")]
    Encoding {
        /// Whose piece.
        tenant: TenantName,
        /// What the encoder says.
        source: postcard::Error,
    },
}

/// What was built.
#[derive(Debug, Clone, Default)]
pub struct Built {
    /// Each tenant's pieces.
    pub tenants: BTreeMap<TenantName, Pieces>,
    /// The app's variables that the sources name.
    pub intake_variables: BTreeSet<String>,
    /// The app's variables that the destinations name.
    pub work_variables: BTreeSet<String>,
    /// Whether any piece is not as it was before.
    pub changed: bool,
}

/// Reads every tenant's file in `folder` and writes the pieces into its folder [`BUILT`]. A piece appears whole or not at all, one
/// that is as it was is not touched, and one whose source is gone is removed. With `write` unset nothing is written: the answer says
/// whether something would be.
///
/// # Errors
/// When a file cannot be read or written, or is no tenant's. Everything is read before anything is written.
pub fn build(folder: &Path, write: bool) -> Result<Built, BuildError> {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    let mut built = Built::default();
    for (name, tenant) in read(folder, None, None)? {
        let unwritten = |source: postcard::Error| BuildError::Encoding {
            tenant: name.clone(),
            source,
        };
        let pieces = pieces(tenant);
        for (source, intake) in &pieces.sources {
            built
                .intake_variables
                .extend(intake.variables().map(|variable| variable.0.clone()));
            files.push((Intake::file_name(&name, source), encode(intake).map_err(unwritten)?));
        }
        files.push((Work::file_name(&name), encode(&pieces.work).map_err(unwritten)?));
        built
            .work_variables
            .extend(pieces.work.variables().map(|variable| variable.0.clone()));
        built.tenants.insert(name, pieces);
    }
    built.changed = put(&files, &folder.join(BUILT), write)?;
    Ok(built)
}

/// Checks what [`build`] cannot: with the variables' values, of which `variable` gives each, and with the schemas of the app's plugins.
///
/// # Errors
/// As [`build`].
pub fn check(folder: &Path, variable: &dyn Fn(&str) -> Option<String>, schemas: &Schemas) -> Result<(), BuildError> {
    read(folder, Some(variable), Some(schemas)).map(|_| ())
}

type Values<'v> = &'v dyn Fn(&str) -> Option<String>;

fn read(
    folder: &Path,
    values: Option<Values<'_>>,
    schemas: Option<&Schemas>,
) -> Result<BTreeMap<TenantName, Tenant>, BuildError> {
    let lifecycles = lifecycle::shipped();
    // spin.toml says where deliveries may go.
    let anywhere = ["0.0.0.0", "::"].map(|address| address.parse().ok());
    let anywhere: Vec<_> = anywhere
        .into_iter()
        .flatten()
        .map(|address| Network {
            address,
            prefix_length: 0,
        })
        .collect();
    let offer = Offer {
        host: Host::Spin,
        body_bytes_max: limits::BODY_BYTES_MAX,
        source_body_bytes_max: limits::SOURCE_BODY_BYTES_MAX,
        // On Spin nobody bounds it, so no file may set it.
        in_flight_max: usize::MAX,
        allow_http: true,
        allow_networks: &anywhere,
        mail_domains: None,
        limits: PluginLimits::DEFAULT,
        lifecycles: &lifecycles,
        plugins: None,
        schemas,
    };
    let resolver = App { folder, values };
    let mut tenants = BTreeMap::new();
    let mut wrong = Vec::new();
    for file in file::files(folder).map_err(failed("list", folder))? {
        let checked = match file.unreadable {
            Some(unreadable) => Err(unreadable),
            None => file::check(&file.tenant, &file.file, &offer, &resolver),
        };
        match checked {
            Ok(tenant) => {
                tenants.insert(tenant.name.clone(), tenant);
            }
            Err(problems) => wrong.push(problems),
        }
    }
    let wrong = wrong.into_iter().reduce(Problems::and);
    wrong.map_or(Ok(tenants), |wrong| Err(BuildError::Tenants(wrong)))
}

/// What a Spin app's tenants may refer to: its variables, and profiles in the tenants' folder. Whoever writes a tenant's file need not be
/// who builds the app; spin.toml declares each variable, so that the app's owner has said yes to it.
struct App<'a> {
    folder: &'a Path,
    /// Gives a variable's value; none where values are not looked at.
    values: Option<Values<'a>>,
}

impl Resolver for App<'_> {
    fn variable(&self, name: &str) -> Result<Option<Secret>, Refused> {
        let Some(values) = self.values else { return Ok(None) };
        match values(name) {
            Some(value) => Ok(Some(Secret::new(value))),
            None => Err(Refused::new(
                format!("the app's variable `{name}` is not set"),
                format!("set SPIN_VARIABLE_{}, as for `spin up`", name.to_uppercase()),
            )),
        }
    }

    fn secret_file(&self, _: &Path) -> Result<Secret, Refused> {
        Err(Refused::new(
            "a file that holds a secret cannot be held on Spin",
            format!("write {}: a secret is a variable of the app", self.example()),
        ))
    }

    fn stored(&self, _: &SecretName) -> Result<Secret, Refused> {
        Err(Refused::new(
            "nothing is set by API on Spin: an app is built from its files",
            format!("write {}: a secret is a variable of the app", self.example()),
        ))
    }

    /// The text of one in the tenants' folder, wherever links and dots lead.
    fn text(&self, path: &Path, written: &str) -> Result<(String, Owner), Refused> {
        let help = "name one in the tenants' folder";
        let outside = || Refused::new("the profile's file lies outside the tenants' folder", help);
        let unreadable = |error: io::Error| Refused::new(format!("{} cannot be read: {error}", path.display()), help);
        let folder = fs::canonicalize(self.folder).map_err(unreadable)?;
        // Of what lies outside nothing is told, not even whether it is there.
        let real = fs::canonicalize(path).map_err(|error| {
            let stays = !Path::new(written).is_absolute() && !written.split('/').any(|part| part == "..");
            if stays { unreadable(error) } else { outside() }
        })?;
        if !real.starts_with(&folder) {
            return Err(outside());
        }
        let text = fs::read_to_string(real).map_err(unreadable)?;
        Ok((text, Owner::Own))
    }

    fn fetch_hosts(&self, _: &[String]) -> Result<(), Refused> {
        // A Spin app fetches no keys.
        Ok(())
    }

    fn short_secrets(&self) -> Leave {
        Leave::Refused
    }

    fn example(&self) -> String {
        "{ env = \"NAME\" }".to_owned()
    }
}

/// A tenant as its components are given it.
fn pieces(tenant: Tenant) -> Pieces {
    let lifecycles: Vec<Lifecycle> = lifecycle::shipped().into_values().map(Arc::unwrap_or_clone).collect();
    let (routes, sharing) = (tenant.routes, tenant.sharing);
    let accepts = tenant.sources.iter();
    let accepts = accepts
        .map(|(name, source)| (name.clone(), source.profile.accept()))
        .collect();
    let sources = tenant.sources.into_iter().map(|(name, source)| {
        let takes = |family: &FamilyName| source.profile.families().any(|known| known == family);
        let intake = Intake {
            ack: source.ack,
            on_held: source.on_held,
            on_replay: source.on_replay,
            public_url: source.public_url,
            body_bytes_max: source.body_bytes_max,
            secrets: source.secrets.into_iter().map(secret_ref).collect(),
            parameters: source
                .parameters
                .into_iter()
                .map(|(name, given)| (name, parameter(given)))
                .collect(),
            bearer: source.bearer.into_iter().map(variable).collect(),
            basic: source.basic.into_iter().map(basic).collect(),
            routes: routes
                .iter()
                .filter(|route| route.matches.sources.is_empty() || route.matches.sources.contains(&name))
                .map(|route| (route.name.clone(), route.matches.clone()))
                .collect(),
            lifecycles: lifecycles
                .iter()
                .filter(|known| takes(&known.family))
                .cloned()
                .collect(),
            sharing: sharing.clone(),
            profile: Profile::clone(&source.profile),
        };
        (name, intake)
    });
    let sources = sources.collect();
    let (mut destinations, mut renamed, mut ordered) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
    for (name, destination) in tenant.destinations {
        if destination.in_order {
            ordered.insert(name.clone());
        }
        // Each is sent to here: a file with another is refused.
        let Way::Sent(url) = destination.way else { continue };
        let piece = Destination {
            url,
            secrets: destination.secrets.into_iter().map(variable).collect(),
            headers: destination
                .headers
                .into_iter()
                .map(|(name, value)| (name, parameter(value)))
                .collect(),
            timeout_ms: destination.timeout_ms.unwrap_or(limits::ATTEMPT_MS),
        };
        // Entries that wait for an old name go to the destination that took its place.
        for old in destination.formerly {
            renamed.push((old.clone(), name.clone()));
            destinations.insert(old, piece.clone());
        }
        destinations.insert(name, piece);
    }
    Pieces {
        sources,
        work: Work {
            accepts,
            routes,
            destinations,
            renamed,
            ordered,
            signing: Profile::clone(profile::standard_webhooks()),
            lifecycles,
            sharing,
        },
    }
}

/// Every secret of a Spin app is a variable: a reference to a file is refused where it is read.
fn variable(secret: Referred) -> Variable {
    Variable(secret.variable.unwrap_or_default().to_lowercase())
}

fn secret_ref(secret: SecretRef<Referred>) -> SecretRef {
    SecretRef {
        id: secret.id,
        value: variable(secret.value),
        not_before: secret.not_before,
        not_after: secret.not_after,
    }
}

fn parameter(given: Parameter<Referred>) -> Parameter {
    match given {
        Parameter::Text(text) => Parameter::Text(text),
        Parameter::Secret(secret) => Parameter::Secret(variable(secret)),
    }
}

fn basic(basic: Basic<Referred>) -> Basic {
    Basic {
        user: basic.user,
        password: variable(basic.password),
    }
}

impl Intake {
    /// The app's variables that it names.
    fn variables(&self) -> impl Iterator<Item = &Variable> {
        let secrets = self.secrets.iter().map(|secret| &secret.value);
        let parameters = self.parameters.values().filter_map(|parameter| match parameter {
            Parameter::Secret(variable) => Some(variable),
            Parameter::Text(_) => None,
        });
        let passwords = self.basic.iter().map(|basic| &basic.password);
        secrets.chain(parameters).chain(&self.bearer).chain(passwords)
    }
}

impl Work {
    /// The app's variables that it names.
    fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.destinations.values().flat_map(|destination| {
            let headers = destination.headers.iter().filter_map(|(_, value)| match value {
                Parameter::Secret(variable) => Some(variable),
                Parameter::Text(_) => None,
            });
            destination.secrets.iter().chain(headers)
        })
    }
}

pub(crate) fn encode(value: &impl Serialize) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_extend(value, WRITTEN_BY.to_vec())
}

fn put(pieces: &[(String, Vec<u8>)], folder: &Path, write: bool) -> Result<bool, BuildError> {
    if write {
        fs::create_dir_all(folder).map_err(failed("create", folder))?;
    } else if !folder.exists() {
        return Ok(!pieces.is_empty());
    }
    let mut changed = false;
    for (name, bytes) in pieces {
        let path = folder.join(name);
        if fs::read(&path).ok().as_ref() != Some(bytes) {
            changed = true;
            if write {
                let part = folder.join(format!("{name}.part"));
                fs::write(&part, bytes).map_err(failed("write", &part))?;
                fs::rename(&part, &path).map_err(failed("write", &path))?;
            }
        }
    }
    let names: BTreeSet<_> = pieces.iter().map(|(name, _)| folder.join(name)).collect();
    for path in listed(folder)? {
        let is_piece = path.extension().is_some_and(|kind| kind == "source" || kind == "work");
        if is_piece && !names.contains(&path) {
            changed = true;
            if write {
                fs::remove_file(&path).map_err(failed("remove", &path))?;
            }
        }
    }
    Ok(changed)
}

/// What is in a folder, by name.
fn listed(folder: &Path) -> Result<BTreeSet<PathBuf>, BuildError> {
    fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .map_err(failed("list", folder))
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BuildError {
    let path = path.to_owned();
    move |source| BuildError::File { what, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: &str =
        "[sources.shop]\nprovider = \"stripe\"\nsecrets = [{ id = \"s\", value = { env = \"SHOP_SECRET\" } }]\n";
    const BOOKS: &str =
        "[destinations.books]\nurl = \"https://books.example/\"\nsecrets = [{ env = \"ACME_BOOKS\" }]\n";

    #[test]
    fn a_route_forwards_or_runs_a_plugin_and_a_destination_has_headers_and_former_names() {
        let folder = tempfile::tempdir().unwrap();
        let more = "formerly = [\"ledger\"]\nheaders = { X-Team = \"a\", Authorization = { env = \"ACME_BEARER\" } }\ntimeout_ms = 500\n";
        let forward = "[routes.archive]\nforward = \"body\"\ndestinations = [\"books\"]\n";
        let text = format!("{SHOP}{BOOKS}{more}{forward}");
        fs::write(folder.path().join("acme.toml"), text).unwrap();
        let built = build(folder.path(), true).unwrap();
        assert!(built.work_variables.contains("acme_bearer"), "{built:?}");
        let piece = fs::read(folder.path().join(BUILT).join("acme.work")).unwrap();
        let work = Work::decode(&piece).unwrap();
        assert_eq!(work.routes[0].forward, Some(tollgate_core::action::ForwardForm::Body));
        let names: Vec<_> = work.destinations.keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["books", "ledger"]);
        for destination in work.destinations.values() {
            assert_eq!((destination.timeout_ms, destination.headers.len()), (500, 2));
        }
    }

    #[test]
    fn pieces_are_those_of_the_files_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let pieces = || -> Vec<String> {
            let listed = listed(&folder.path().join(BUILT)).unwrap();
            listed
                .iter()
                .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
                .collect()
        };
        file("acme.toml", SHOP);
        file("notes.txt", "not a tenant");
        assert!(build(folder.path(), false).unwrap().changed);
        assert!(!folder.path().join(BUILT).exists(), "a look writes nothing");
        let built = build(folder.path(), true).unwrap();
        assert_eq!((built.tenants.len(), built.changed), (1, true));
        assert_eq!(built.intake_variables, BTreeSet::from(["shop_secret".to_owned()]));
        assert_eq!(pieces(), ["acme.shop.source", "acme.work"]);
        assert!(!build(folder.path(), true).unwrap().changed);

        // One file is wrong: nothing of any is written.
        file("acme.toml", &SHOP.replace("sources.shop", "sources.store"));
        file("other.toml", "colour = 1\n");
        let error = build(folder.path(), true).unwrap_err().to_string();
        assert!(error.contains("other.toml:1: unknown key `colour`"), "{error}");
        assert_eq!(pieces(), ["acme.shop.source", "acme.work"]);

        file("other.toml", "");
        assert!(build(folder.path(), false).unwrap().changed);
        build(folder.path(), true).unwrap();
        assert_eq!(pieces(), ["acme.store.source", "acme.work", "other.work"]);
    }

    #[test]
    fn a_profile_is_read_in_the_tenants_folder_only() {
        let folder = tempfile::tempdir().unwrap();
        let tenants = folder.path().join("tenants");
        fs::create_dir_all(tenants.join("profiles")).unwrap();
        for name in ["tenants/profiles/own.toml", "outside.toml"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        std::os::unix::fs::symlink(folder.path().join("outside.toml"), tenants.join("link.toml")).unwrap();
        let outside = folder.path().join("outside.toml").display().to_string();
        let app = App {
            folder: &tenants,
            values: None,
        };
        let read = |own: &str| app.text(&tenants.join(own), own).map(|(text, _)| text);
        for own in ["profiles/own.toml", "./profiles/../profiles/own.toml"] {
            assert_eq!(read(own).unwrap(), "tenants/profiles/own.toml", "{own}");
        }
        for own in [
            outside.as_str(),
            "../outside.toml",
            "../none.toml",
            "link.toml",
            "/etc/passwd",
            "/etc/none",
        ] {
            let refused = read(own).unwrap_err().message;
            assert_eq!(refused, "the profile's file lies outside the tenants' folder", "{own}");
        }
        assert!(
            read("none.toml")
                .unwrap_err()
                .message
                .contains("none.toml cannot be read")
        );
    }
}
