//! Which PostgreSQL, and as whom.

use std::borrow::Cow;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::{self, Host};
use tollgate_core::secret::Secret;

use super::tls::{Connector, Identity, Roots, SslMode};
use crate::StoreError;

/// Who connects, as the server's own lists show it.
const NAME: &str = "tollgate";
/// After so long without a word the peer is asked whether it is there.
const ASKED_AFTER: Duration = Duration::from_secs(10);
/// What was sent and not acknowledged for so long ends the connection.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(15);

/// A server and a database, and who connects to it. It holds a password.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) config: Config,
    /// None where the connection is in clear text.
    pub(super) tls: Option<Connector>,
    /// What is checked of the server. [`SslMode::Disable`] where the connection leaves this process by a Unix socket.
    pub(super) mode: SslMode,
    leaves_the_machine: bool,
    /// For people: without the password.
    pub(super) shown: String,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Target").field(&self.shown).finish()
    }
}

impl Target {
    /// Reads the files of the authorities and of the host's own certificate too, where the URL names them.
    ///
    /// # Errors
    /// [`StoreError::Open`] when it is no URL of PostgreSQL, or what it says of TLS cannot be done.
    pub(super) fn parse(url: &Secret) -> Result<Self, StoreError> {
        let refuse = |detail: String| StoreError::Open {
            path: "postgres://…".to_owned(),
            detail,
        };
        let text = str::from_utf8(url.expose()).map_err(|_| refuse("the URL is not UTF-8".to_owned()))?;
        let text = text.trim();
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Err(refuse(
                "the URL of PostgreSQL begins with `postgres://`, as in `postgres://user:password@host:5432/database`"
                    .to_owned(),
            ));
        }
        let Asked {
            url,
            mode,
            roots,
            identity,
        } = asked_of_tls(text).map_err(refuse)?;
        // The parser's errors name keys and never values.
        let mut config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
            let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            refuse(format!("the URL cannot be read: {why}"))
        })?;
        if config.get_hosts().is_empty() {
            return Err(refuse("the URL names no host".to_owned()));
        }
        let leaves_the_machine = config.get_hosts().iter().any(|host| !is_here(host))
            || config.get_hostaddrs().iter().any(|address| !address.is_loopback());
        let is_socket = |host: &Host| matches!(host, Host::Unix(_));
        let mode = match mode {
            _ if config.get_hosts().iter().all(is_socket) => SslMode::Disable,
            Some(SslMode::Disable) if identity.is_some() => {
                return Err(refuse(
                    "`sslcert` is shown over TLS alone, and `sslmode=disable` asks for none: say `verify-full`"
                        .to_owned(),
                ));
            }
            Some(mode) => mode,
            None if leaves_the_machine || roots.is_some() || identity.is_some() => SslMode::VerifyFull,
            None => SslMode::Disable,
        };
        let (mode, roots) = trusted(mode, roots).map_err(refuse)?;
        let tls = Connector::new(mode, roots, identity.as_ref()).map_err(refuse)?;
        config
            .ssl_mode(match tls {
                Some(_) => config::SslMode::Require,
                None => config::SslMode::Disable,
            })
            .application_name(NAME)
            .connect_timeout(Duration::from_secs(2))
            .keepalives_idle(ASKED_AFTER)
            .tcp_user_timeout(UNACKNOWLEDGED_MAX);
        let shown = shown(&config);
        Ok(Self {
            config,
            tls,
            mode,
            leaves_the_machine,
            shown,
        })
    }

    /// What somebody between here and the server could do; none where nobody could, or the machine is one.
    pub(super) fn danger(&self) -> Option<&'static str> {
        match self.mode {
            _ if !self.leaves_the_machine => None,
            SslMode::Disable => Some(
                "the connection to PostgreSQL is in clear text (`sslmode=disable`): whoever sees the network reads every event and what lets in to \
                 the database; say `sslmode=verify-full`",
            ),
            SslMode::Require => Some(
                "`sslmode=require` does not ask who the server is: whoever can redirect the connection may be it; say `sslmode=verify-full`, and \
                 `sslrootcert` where the authority is your own",
            ),
            SslMode::VerifyCa | SslMode::VerifyFull => None,
        }
    }
}

/// What a URL says of TLS, and the rest of it.
struct Asked<'u> {
    url: Cow<'u, str>,
    mode: Option<SslMode>,
    roots: Option<Roots>,
    identity: Option<Identity>,
}

/// Takes what it says of TLS out of a URL: of these keys the client library knows half of `sslmode` alone.
fn asked_of_tls(url: &str) -> Result<Asked<'_>, String> {
    let mut asked = Asked {
        url: Cow::Borrowed(url),
        mode: None,
        roots: None,
        identity: None,
    };
    // As that library reads it: a password may have a question mark in it.
    let behind = url.find('@').map_or(0, |at| at + 1);
    let Some(at) = url[behind..].find('?').map(|at| behind + at) else {
        return Ok(asked);
    };
    let (place, parameters) = (&url[..at], &url[at + 1..]);
    let (mut certificate, mut key_file) = (None, None);
    let mut others = Vec::new();
    for parameter in parameters.split('&') {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let decoded = || {
            let decoded = percent_decode_str(value).decode_utf8();
            decoded.map_err(|_| format!("`{key}` is not UTF-8"))
        };
        match key {
            "sslmode" => asked.mode = Some(SslMode::from_name(&decoded()?)?),
            "sslrootcert" => asked.roots = Some(named(&decoded()?)?),
            "sslcert" => certificate = Some(whole_path(key, &decoded()?)?),
            "sslkey" => key_file = Some(whole_path(key, &decoded()?)?),
            _ => others.push(parameter),
        }
    }
    asked.identity = match (certificate, key_file) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
        (Some(_), None) => return Err("`sslcert` needs its private key: add `sslkey=/path/to/client.key`".to_owned()),
        (None, Some(_)) => return Err("`sslkey` needs its certificate: add `sslcert=/path/to/client.crt`".to_owned()),
    };
    asked.url = match others.is_empty() {
        true => Cow::Borrowed(place),
        false => Cow::Owned(format!("{place}?{}", others.join("&"))),
    };
    Ok(asked)
}

fn named(root: &str) -> Result<Roots, String> {
    match root {
        "system" => Ok(Roots::Public),
        path if path.starts_with('/') => Ok(Roots::File(PathBuf::from(path))),
        _ => Err(
            "`sslrootcert` is the whole path of a PEM file, from `/` on, or `system` for the public authorities"
                .to_owned(),
        ),
    }
}

fn whole_path(key: &str, path: &str) -> Result<PathBuf, String> {
    match path.starts_with('/') {
        true => Ok(PathBuf::from(path)),
        false => Err(format!("`{key}` is the whole path of a PEM file, from `/` on")),
    }
}

/// What is checked, by whose word. As libpq has it, `require` with an authority's file is `verify-ca`.
fn trusted(mode: SslMode, roots: Option<Roots>) -> Result<(SslMode, Roots), String> {
    match (mode, roots) {
        (SslMode::Require, Some(roots @ Roots::File(_))) => Ok((SslMode::VerifyCa, roots)),
        // Anybody has a certificate of theirs, for a name of their own.
        (SslMode::Require | SslMode::VerifyCa, Some(Roots::Public)) | (SslMode::VerifyCa, None) => Err(format!(
            "`sslmode={}` asks for no name, so it needs an authority that is yours: add `sslrootcert=/path/to/root.crt`, or say `verify-full`",
            mode.as_str()
        )),
        (mode, roots) => Ok((mode, roots.unwrap_or(Roots::Public))),
    }
}

fn is_here(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
        Host::Unix(_) => true,
    }
}

fn shown(config: &Config) -> String {
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        })
        .collect();
    format!(
        "postgres://{}/{}",
        hosts.join(","),
        config.get_dbname().unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Result<Target, String> {
        Target::parse(&Secret::new(url.as_bytes().to_vec())).map_err(|error| error.to_string())
    }

    #[test]
    fn a_url_without_a_place_or_of_something_else_is_refused_and_its_password_is_never_shown() {
        for (url, why) in [
            ("mysql://u:sesame@h/d", "begins with `postgres://`"),
            ("postgres://u:sesame@/d", "names no host"),
            ("postgres://u:sesame@/d?hostaddr=127.0.0.1", "names no host"),
            ("postgres://u:sesame@h/d?sslmode=sometimes", "`sslmode` is `disable`"),
            ("postgres://u:sesame@h/d?sslmode=prefer", "goes on in clear text"),
            ("postgres://u:sesame@h/d?sslmode=verify-ca", "add `sslrootcert="),
            (
                "postgres://u:sesame@h/d?sslmode=require&sslrootcert=system",
                "add `sslrootcert=",
            ),
            ("postgres://u:sesame@h/d?sslrootcert=root.crt", "the whole path"),
            (
                "postgres://u:sesame@h/d?sslrootcert=/no/such.crt",
                "/no/such.crt cannot be read",
            ),
            ("postgres://u:sesame@h/d?sslrootcert=/dev/null", "it is not a file"),
            ("postgres://u:sesame@h/d?sslkey=/x", "`sslkey` needs its certificate"),
            ("postgres://u:sesame@h/d?sslcert=/x", "`sslcert` needs its private key"),
            (
                "postgres://u:sesame@h/d?sslcert=x&sslkey=/x",
                "`sslcert` is the whole path",
            ),
            (
                "postgres://u:sesame@h/d?sslmode=disable&sslcert=/x&sslkey=/x",
                "over TLS alone",
            ),
            (
                "postgres://u:sesame@localhost/d?sslcert=/no/such.crt&sslkey=/x",
                "sslcert: /no/such.crt cannot be read",
            ),
            ("postgres://u:sesame@h/d?sslcrl=/x", "unknown option `sslcrl`"),
        ] {
            let error = parsed(url).unwrap_err();
            assert!(error.contains(why), "{url}: {error}");
            assert!(!error.contains("sesame"), "{error}");
        }
        for (url, shown) in [
            ("postgres://u:sesame@localhost/d", "postgres://localhost/d"),
            ("postgresql://u:sesame@127.0.0.1:5433/d", "postgres://127.0.0.1/d"),
            (
                "postgres://u:sesame@db.example/d?sslmode=disable",
                "postgres://db.example/d",
            ),
            ("postgres://u:sesame@%2Ftmp%2Fs/d", "postgres:///tmp/s/d"),
        ] {
            let target = parsed(url).unwrap();
            assert_eq!(target.shown, shown);
            assert!(!format!("{target:?}").contains("sesame"));
        }
    }

    #[test]
    fn what_is_not_said_of_tls_is_safe_and_what_is_not_safe_is_said() {
        let mut authority = rcgen::CertificateParams::default();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root = authority
            .self_signed(&rcgen::KeyPair::generate().unwrap())
            .unwrap()
            .pem();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, root.as_bytes()).unwrap();
        let own = file.path();
        let own_root = format!("sslrootcert={}", own.display().to_string().replace('/', "%2F"));
        for (url, mode, is_said) in [
            ("postgres://u:p?w@db.example/d".to_owned(), SslMode::VerifyFull, false),
            (
                "postgres://db.example/d?sslmode=disable".to_owned(),
                SslMode::Disable,
                true,
            ),
            (
                "postgres://db.example/d?sslmode=require".to_owned(),
                SslMode::Require,
                true,
            ),
            (
                "postgres://localhost/d?hostaddr=192.0.2.7".to_owned(),
                SslMode::VerifyFull,
                false,
            ),
            (
                "postgres://db.example/d?sslrootcert=system".to_owned(),
                SslMode::VerifyFull,
                false,
            ),
            (
                format!("postgres://db.example/d?sslmode=require&{own_root}"),
                SslMode::VerifyCa,
                false,
            ),
            ("postgres://localhost/d".to_owned(), SslMode::Disable, false),
            (
                "postgres://localhost/d?sslmode=require".to_owned(),
                SslMode::Require,
                false,
            ),
            (format!("postgres://localhost/d?{own_root}"), SslMode::VerifyFull, false),
            (
                "postgres://%2Ftmp%2Fs/d?sslmode=verify-full".to_owned(),
                SslMode::Disable,
                false,
            ),
        ] {
            let target = parsed(&url).unwrap();
            assert_eq!((target.mode, target.danger().is_some()), (mode, is_said), "{url}");
            assert_eq!(target.tls.is_some(), mode != SslMode::Disable, "{url}");
        }
        let asked = asked_of_tls("postgres://u:a?b@h/d?sslmode=require&application_name=x%26y&port=1").unwrap();
        assert_eq!(asked.url, "postgres://u:a?b@h/d?application_name=x%26y&port=1");
    }
}
