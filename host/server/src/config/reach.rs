//! What a tenant's file may refer to: its own secrets, its own profiles, and hosts that the operator lists.
//!
//! Whoever writes `tenants/acme.toml` is not the operator. Without bounds, `{ env = … }` would read the operator's environment,
//! `{ file = … }` any file of the host, and a profile's `[fetch]` would carry both to a host of the author's choice. So:
//!
//! - a secret is a file in `secrets/acme/`, or a variable that begins with `ACME_`, or a variable that the operator lists for `acme`;
//! - a profile is a file in `profiles/`;
//! - a profile fetches keys from hosts of `fetch_hosts` only.
//!
//! On a host with one tenant, what has no owner is that tenant's: files that lie directly in `secrets/`, and variables without `_`
//! in their names that the operator's file does not use. A second tenant ends that.
//!
//! `trust_files = true` in `[tenants]` lifts all of it, for an operator who writes the tenants' files as well.
//!
//! Guarantee: where links lead is followed before anything is decided, and what is read is the file that was judged: a path that
//! changes in between is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;
use tollgate_core::ids::TenantName;
use tollgate_tenants::file::{Leave, Owner, Refused};

use crate::seal::SealKeys;

/// What the operator says about tenants' files in `[tenants]`.
#[derive(Debug, Clone, Default)]
pub(super) struct Tenancy {
    pub(super) trust: Trust,
    /// Secrets that are shorter than [`tollgate_tenants::file::SECRET_BYTES_MIN`].
    pub(super) short_secrets: Leave,
    /// Folders with a folder of secrets for each tenant. The first one is named in messages.
    pub(super) secrets: Vec<PathBuf>,
    /// Folders of profiles.
    pub(super) profiles: Vec<PathBuf>,
    /// The folder of the operator's file, and that file: neither is a tenant's, whatever its name.
    pub(super) folder: PathBuf,
    pub(super) operators_file: PathBuf,
    /// Variables beside those with a tenant's prefix: names, or prefixes with `*` at their end.
    pub(super) env: BTreeMap<TenantName, Vec<String>>,
    /// Hosts that profiles of tenants' own may fetch keys from, with a port where it is not 443.
    pub(super) fetch_hosts: BTreeSet<String>,
    /// What the secrets are sealed with that tenants set by API.
    pub(super) seal_keys: SealKeys,
    /// Variables that the operator's file refers to.
    pub(super) operators_env: BTreeSet<String>,
}

/// Whether tenants' files are the operator's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Trust {
    #[default]
    Confined,
    Whole,
}

/// The variables and files that the references of one file may reach.
#[derive(Debug, Clone)]
pub(super) enum Reach {
    /// The operator's own file.
    Operator,
    Tenant(TenantReach),
}

#[derive(Debug, Clone)]
pub(super) struct TenantReach {
    name: String,
    /// The names of all tenants' files of the host, this one's included.
    tenants: Arc<BTreeSet<String>>,
    tenancy: Arc<Tenancy>,
}

/// Why a file was not opened.
#[derive(Debug)]
pub(super) enum Unopened {
    Refused(Refused),
    Io(io::Error),
}

/// What a file is that a tenant's file names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Secret,
    Profile,
}

impl Reach {
    pub(super) fn of_tenant(name: &str, tenants: &Arc<BTreeSet<String>>, tenancy: &Arc<Tenancy>) -> Self {
        Self::Tenant(TenantReach {
            name: name.to_owned(),
            tenants: Arc::clone(tenants),
            tenancy: Arc::clone(tenancy),
        })
    }

    /// # Errors
    /// When the variable is not the tenant's. Whether it is set is not looked at before.
    pub(super) fn variable(&self, variable: &str) -> Result<(), Refused> {
        match self {
            Self::Operator => Ok(()),
            Self::Tenant(reach) => reach.variable(variable),
        }
    }

    /// Opens a file that the reference names, and says whose it is.
    ///
    /// # Errors
    /// When it is out of reach, which is said of what exists and of what does not alike; or when it cannot be opened.
    pub(super) fn open(&self, path: &Path, kind: Kind) -> Result<(File, Owner), Unopened> {
        let judge = |path: &Path| match self {
            Self::Operator => Ok(Owner::Own),
            Self::Tenant(reach) => reach.file(path, kind),
        };
        let real = match fs::canonicalize(path) {
            Ok(real) => real,
            Err(error) => {
                // The author of the file may look there, and may be told that nothing is there.
                judge(&normal(path)).map_err(Unopened::Refused)?;
                return Err(Unopened::Io(error));
            }
        };
        let owner = judge(&real).map_err(Unopened::Refused)?;
        let file = open(&real).map_err(Unopened::Io)?;
        let (opened, now) = (file.metadata(), fs::canonicalize(&real).and_then(fs::metadata));
        let (opened, now) = (opened.map_err(Unopened::Io)?, now.map_err(Unopened::Io)?);
        if (opened.dev(), opened.ino()) != (now.dev(), now.ino())
            || fs::canonicalize(&real).ok().as_ref() != Some(&real)
        {
            let changed = io::Error::other("it was replaced while it was read; try again");
            return Err(Unopened::Io(changed));
        }
        Ok((file, owner))
    }

    /// # Errors
    /// Names the first host that a profile of the tenant's own may not ask.
    pub(super) fn fetch_hosts(&self, hosts: &[String]) -> Result<(), Refused> {
        let Self::Tenant(TenantReach { tenancy, .. }) = self else {
            return Ok(());
        };
        if tenancy.trust == Trust::Whole {
            return Ok(());
        }
        let Some(host) = hosts.iter().find(|host| !tenancy.fetch_hosts.contains(*host)) else {
            return Ok(());
        };
        Err(Refused {
            message: format!("the profile fetches keys from `{host}`, which the operator does not list"),
            help: format!("let the operator add fetch_hosts = [\"{host}\"] to [tenants] in tollgate.toml"),
        })
    }

    pub(super) fn short_secrets(&self) -> Leave {
        match self {
            Self::Operator => Leave::Refused,
            Self::Tenant(reach) => reach.tenancy.short_secrets,
        }
    }

    /// What to write for a secret, for messages.
    pub(super) fn example(&self) -> String {
        match self {
            Self::Operator => "{ env = \"NAME\" } or { file = \"path\" }".to_owned(),
            Self::Tenant(reach) => format!(
                "{{ env = \"{}NAME\" }} or {{ file = \"../secrets/{}/NAME\" }}",
                prefix(&reach.name),
                reach.name
            ),
        }
    }
}

impl TenantReach {
    fn variable(&self, variable: &str) -> Result<(), Refused> {
        let listed = self
            .name
            .parse()
            .ok()
            .and_then(|name: TenantName| self.tenancy.env.get(&name));
        let is_listed = listed
            .into_iter()
            .flatten()
            .any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => variable.starts_with(prefix),
                None => variable == pattern,
            });
        let without_owner =
            self.is_alone() && !variable.contains('_') && !self.tenancy.operators_env.contains(variable);
        if self.tenancy.trust == Trust::Whole || is_listed || self.owns(variable) || without_owner {
            return Ok(());
        }
        let (name, prefix) = (&self.name, prefix(&self.name));
        Err(Refused {
            message: format!("the environment variable `{variable}` is not one of the tenant `{name}`"),
            help: format!(
                "use one that begins with `{prefix}`, or let the operator add env = {{ {name} = [\"{variable}\"] }} to [tenants] \
                 in tollgate.toml"
            ),
        })
    }

    /// Whether the variable has this tenant's prefix, and no other tenant's that says more or as much: `ACME_EU_KEY` is of `acme-eu`,
    /// where there is one, and not of `acme`.
    fn owns(&self, variable: &str) -> bool {
        let own = prefix(&self.name);
        variable.starts_with(&own)
            && !self
                .tenants
                .iter()
                .filter(|other| **other != self.name)
                .map(|other| prefix(other))
                .any(|other| other.len() >= own.len() && variable.starts_with(&other))
    }

    fn is_alone(&self) -> bool {
        self.tenants.len() <= 1
    }

    /// Judges a path without links and dots.
    fn file(&self, real: &Path, kind: Kind) -> Result<Owner, Refused> {
        if self.tenancy.trust == Trust::Whole {
            return Ok(Owner::Own);
        }
        let roots = match kind {
            Kind::Secret => &self.tenancy.secrets,
            Kind::Profile => &self.tenancy.profiles,
        };
        for root in roots {
            let root = fs::canonicalize(root).unwrap_or_else(|_| normal(root));
            let Ok(below) = real.strip_prefix(&root) else {
                continue;
            };
            let first = below.components().next().map(Component::as_os_str);
            let directly = below.components().count() == 1;
            let own = first == Some(OsStr::new(&self.name)) && !directly;
            let of_another = !directly
                && self
                    .tenants
                    .iter()
                    .any(|other| first == Some(OsStr::new(other.as_str())) && *other != self.name);
            match kind {
                Kind::Secret if own || directly && self.is_alone() => return Ok(Owner::Own),
                Kind::Secret => {}
                Kind::Profile if own || self.is_alone() => return Ok(Owner::Own),
                Kind::Profile if !of_another => return Ok(Owner::Foreign),
                Kind::Profile => {}
            }
        }
        if kind == Kind::Profile && self.is_alone() && self.lies_beside_the_operators_file(real) {
            return Ok(Owner::Foreign);
        }
        Err(self.out_of_reach(kind))
    }

    /// A TOML file without an owner: beside the operator's file, and not that file.
    fn lies_beside_the_operators_file(&self, real: &Path) -> bool {
        let resolved = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| normal(path));
        real.extension() == Some(OsStr::new("toml"))
            && real.parent() == Some(resolved(&self.tenancy.folder).as_path())
            && real != resolved(&self.tenancy.operators_file)
    }

    fn out_of_reach(&self, kind: Kind) -> Refused {
        let name = &self.name;
        let folder = |folders: &[PathBuf]| {
            folders
                .first()
                .map_or_else(String::new, |folder| folder.display().to_string())
        };
        match kind {
            Kind::Secret => Refused {
                message: format!("the secret's file is out of the reach of the tenant `{name}`"),
                help: format!(
                    "put it into {}/{name}/, where this tenant's secrets lie; an operator who writes all tenants' files may set \
                     trust_files = true in [tenants]",
                    folder(&self.tenancy.secrets)
                ),
            },
            Kind::Profile => Refused {
                message: format!("the profile's file is out of the reach of the tenant `{name}`"),
                help: format!(
                    "put it into {}; an operator who writes all tenants' files may set trust_files = true in [tenants]",
                    folder(&self.tenancy.profiles)
                ),
            },
        }
    }
}

/// The beginning of the names of a tenant's variables: `acme-eu` has `ACME_EU_`.
pub(super) fn prefix(tenant: &str) -> String {
    let mut prefix: String = tenant
        .chars()
        .map(|character| match character {
            '-' => '_',
            other => other.to_ascii_uppercase(),
        })
        .collect();
    prefix.push('_');
    prefix
}

/// Opens for reading, and does not wait: a pipe that nobody writes would stop the host's start.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags((OFlags::NONBLOCK | OFlags::CLOEXEC).bits().cast_signed())
        .open(path)
}

/// The path without `.` and `..`, by its text alone.
fn normal(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut normal = PathBuf::new();
    for part in whole.components() {
        match part {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    // Where the folder is there and the file is not, links in between count all the same.
    match (normal.parent().map(fs::canonicalize), normal.file_name()) {
        (Some(Ok(folder)), Some(name)) => folder.join(name),
        _ => normal,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tenants(names: &[&str]) -> Arc<BTreeSet<String>> {
        Arc::new(names.iter().map(|name| (*name).to_owned()).collect())
    }

    /// Which variables a tenant may read, on a host with these tenants.
    #[test]
    fn a_variable_belongs_to_the_tenant_with_its_prefix_and_to_nobody_else() {
        let tenancy = Arc::new(Tenancy {
            operators_env: BTreeSet::from(["OPTOK".to_owned()]),
            env: BTreeMap::from([("globex".parse().unwrap(), vec!["SHARED".to_owned(), "GX*".to_owned()])]),
            ..Tenancy::default()
        });
        for (name, all, variable, may) in [
            ("acme", &["acme"][..], "ACME_KEY", true),
            ("acme", &["acme"], "S", true),
            ("acme", &["acme"], "OPTOK", false),
            ("acme", &["acme"], "GLOBEX_KEY", false),
            ("acme", &["acme"], "AWS_SECRET_ACCESS_KEY", false),
            ("acme", &["acme"], "ACMEKEY_X", false),
            ("acme", &["acme"], "acme_key", false),
            ("acme", &["acme", "globex"], "S", false),
            ("acme", &["acme", "globex"], "ACME_KEY", true),
            ("acme", &["acme", "globex"], "SHARED", false),
            ("globex", &["acme", "globex"], "SHARED", true),
            ("globex", &["acme", "globex"], "GXKEY", true),
            ("acme", &["acme", "acme-eu"], "ACME_EU_KEY", false),
            ("acme-eu", &["acme", "acme-eu"], "ACME_EU_KEY", true),
            ("acme-eu", &["acme", "acme-eu"], "ACME_KEY", false),
            // Two names, one prefix: neither is told what may be the other's.
            ("a-b", &["a-b", "a_b"], "A_B_KEY", false),
            ("a_b", &["a-b", "a_b"], "A_B_KEY", false),
        ] {
            let reach = Reach::of_tenant(name, &tenants(all), &tenancy);
            assert_eq!(reach.variable(variable).is_ok(), may, "{name} of {all:?}: {variable}");
        }
    }

    /// What a path may lead to, with links and dots, of one tenant and of several.
    #[test]
    fn a_file_is_reached_in_the_tenants_own_folder_only_however_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in [
            "outside",
            "operator.token",
            "tollgate.toml",
            "o.toml",
            "secrets/loose",
            "secrets/acme/key",
            "secrets/acme/deep/key",
            "secrets/globex/key",
            "profiles/common.toml",
            "profiles/acme/own.toml",
            "profiles/globex/own.toml",
            "tenants/globex.toml",
        ] {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            fs::write(at(name), "0123456789").unwrap();
        }
        symlink(at("outside"), at("secrets/acme/link-out")).unwrap();
        symlink(at("secrets/globex"), at("secrets/acme/folder-out")).unwrap();
        symlink(at("secrets/acme/key"), at("secrets/acme/link-in")).unwrap();
        symlink(at("outside"), at("profiles/link-out.toml")).unwrap();
        let tenancy = Arc::new(Tenancy {
            secrets: vec![at("secrets")],
            profiles: vec![at("profiles")],
            folder: folder.path().to_owned(),
            operators_file: at("tollgate.toml"),
            ..Tenancy::default()
        });
        let look = |all: &[&str], path: &str, kind| {
            let reach = Reach::of_tenant("acme", &tenants(all), &tenancy);
            match reach.open(&at("tenants").join(path), kind) {
                Ok((_, Owner::Own)) => "own",
                Ok((_, Owner::Foreign)) => "foreign",
                Err(Unopened::Refused(_)) => "refused",
                Err(Unopened::Io(_)) => "missing",
            }
        };
        let (alone, both) = (&["acme"][..], &["acme", "globex"][..]);
        let etc = "/etc/passwd".to_owned();
        let inside = at("secrets/acme/key").display().to_string();
        for (path, of_one, of_two) in [
            ("../secrets/acme/key", "own", "own"),
            (inside.as_str(), "own", "own"),
            ("../secrets/acme/deep/key", "own", "own"),
            ("../secrets/acme/link-in", "own", "own"),
            ("../secrets/acme/none", "missing", "missing"),
            ("../secrets/loose", "own", "refused"),
            ("../secrets/globex/key", "refused", "refused"),
            ("../secrets/globex/none", "refused", "refused"),
            ("../secrets/acme/../globex/key", "refused", "refused"),
            ("../secrets/acme/folder-out/key", "refused", "refused"),
            ("../secrets/acme/folder-out/none", "refused", "refused"),
            ("../secrets/acme/link-out", "refused", "refused"),
            ("../secrets/acme/../../outside", "refused", "refused"),
            ("../operator.token", "refused", "refused"),
            ("../../../../../../../../../etc/passwd", "refused", "refused"),
            ("../../../../../../../../../etc/none", "refused", "refused"),
            (etc.as_str(), "refused", "refused"),
        ] {
            assert_eq!(look(alone, path, Kind::Secret), of_one, "alone: {path}");
            assert_eq!(look(both, path, Kind::Secret), of_two, "with another: {path}");
        }
        for (path, of_one, of_two) in [
            ("../profiles/common.toml", "own", "foreign"),
            ("../profiles/acme/own.toml", "own", "own"),
            ("../profiles/globex/own.toml", "own", "refused"),
            ("../profiles/link-out.toml", "refused", "refused"),
            ("../o.toml", "foreign", "refused"),
            ("../tollgate.toml", "refused", "refused"),
            ("../operator.token", "refused", "refused"),
            ("../secrets/acme/key", "refused", "refused"),
            ("globex.toml", "refused", "refused"),
            (etc.as_str(), "refused", "refused"),
        ] {
            assert_eq!(look(alone, path, Kind::Profile), of_one, "alone: {path}");
            assert_eq!(look(both, path, Kind::Profile), of_two, "with another: {path}");
        }
    }
}
