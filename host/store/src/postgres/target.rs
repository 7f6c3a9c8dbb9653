//! Which PostgreSQL, and as whom.

use std::net::IpAddr;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tollgate_core::secret::Secret;

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
    /// For people: without the password.
    pub(super) shown: String,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Target").field(&self.shown).finish()
    }
}

impl Target {
    /// # Errors
    /// [`StoreError::Open`] when it is no URL of PostgreSQL, or its connection would be readable on the way and nobody said that it may be.
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
        // The parser's errors name keys and never values.
        let mut config: Config = text
            .parse()
            .map_err(|error| refuse(format!("the URL cannot be read: {error}")))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(refuse("the URL names no host".to_owned()));
        }
        let leaves_the_machine = config.get_hosts().iter().any(|host| !is_here(host))
            || config.get_hostaddrs().iter().any(|address| !address.is_loopback());
        if leaves_the_machine && config.get_ssl_mode() != SslMode::Disable {
            return Err(refuse(
                "this Tollgate does not speak TLS to PostgreSQL yet: say `?sslmode=disable` in the URL where the network between them \
                 is trusted, or reach the server over a tunnel or a Unix socket"
                    .to_owned(),
            ));
        }
        config
            .application_name(NAME)
            .connect_timeout(Duration::from_secs(2))
            .keepalives_idle(ASKED_AFTER)
            .tcp_user_timeout(UNACKNOWLEDGED_MAX);
        let shown = shown(&config);
        Ok(Self { config, shown })
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
    let hosts = match hosts.is_empty() {
        true => config.get_hostaddrs().iter().map(IpAddr::to_string).collect(),
        false => hosts,
    };
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
            ("postgres://u:sesame@h/d?sslmode=sometimes", "cannot be read"),
            ("postgres://u:sesame@db.example/d", "does not speak TLS"),
            ("postgres://u:sesame@db.example/d?sslmode=require", "does not speak TLS"),
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
}
