//! Looks once a second at what an operator must hear of, and logs each finding once: secrets that end, a system clock that was set back, and refusals that were
//! left out of the log.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tollgate_core::ids::{KeyId, SourceName, TenantName};
use tollgate_core::time::UnixMillis;

use crate::clock;
use crate::config::{Config, Source, Tenant};
use crate::telemetry::EdgeCounters;

const EVERY: Duration = Duration::from_secs(1);
/// A secret's end is announced so long before.
const SOON_MS: i64 = 7 * 24 * 60 * 60 * 1000;
/// A clock that is set back by less is one that is kept right.
const CLOCK_BACK_MS: i64 = 5_000;

/// Looks until shutdown.
pub(crate) async fn run(config: Arc<ArcSwap<Config>>, counters: Arc<EdgeCounters>, shutdown: CancellationToken) {
    let mut said = Said::default();
    let mut clock_is_behind = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = shutdown.cancelled() => break,
        }
        counters.say_left_over(clock::now());
        for ending in said.news(&config.load(), clock::wall()) {
            ending.log();
        }
        let behind_ms = clock::behind_ms();
        if behind_ms > CLOCK_BACK_MS && !clock_is_behind {
            tracing::warn!(
                behind_ms,
                "the system's clock was set back; what was scheduled comes due as if it had not been, signatures are judged by it as it is"
            );
        }
        clock_is_behind = behind_ms > CLOCK_BACK_MS;
    }
    counters.say_left_over(clock::now());
}

/// A source's secret that ends.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ending {
    tenant: TenantName,
    source: SourceName,
    secret: KeyId,
    at: UnixMillis,
    stage: Stage,
    /// No other secret of the source verifies then.
    is_last: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Soon,
    Ended,
}

impl Ending {
    fn log(&self) {
        let Self {
            tenant,
            source,
            secret,
            at,
            stage,
            is_last,
        } = self;
        let rest = if *is_last {
            "no other secret of the source verifies from then on: its events are refused"
        } else {
            "another secret of the source goes on"
        };
        match stage {
            Stage::Soon => tracing::warn!(%tenant, %source, %secret, not_after = %at, "a secret expires soon; {rest}"),
            Stage::Ended if *is_last => {
                tracing::error!(%tenant, %source, %secret, not_after = %at, "a secret has expired; {rest}");
            }
            Stage::Ended => tracing::warn!(%tenant, %source, %secret, not_after = %at, "a secret has expired; {rest}"),
        }
    }
}

/// What was said already.
#[derive(Debug, Default)]
struct Said(BTreeSet<(TenantName, SourceName, KeyId, UnixMillis, Stage)>);

impl Said {
    /// What is new at this instant.
    fn news(&mut self, config: &Config, now: UnixMillis) -> Vec<Ending> {
        let mut news = Vec::new();
        for (tenant, source) in sources(config) {
            for (secret, at) in ends(source) {
                let stage = match at.since(now) {
                    ..=0 => Stage::Ended,
                    1..=SOON_MS => Stage::Soon,
                    _ => continue,
                };
                let key = (tenant.name.clone(), source.name.clone(), secret.clone(), at, stage);
                if self.0.insert(key) {
                    news.push(Ending {
                        tenant: tenant.name.clone(),
                        source: source.name.clone(),
                        secret: secret.clone(),
                        at,
                        stage,
                        is_last: !source.keyring.windows().any(|window| window.holds(at.max(now))),
                    });
                }
            }
        }
        news
    }
}

fn sources(config: &Config) -> impl Iterator<Item = (&Tenant, &Source)> {
    let tenants = config.tenants.values();
    tenants.flat_map(|tenant| tenant.sources.values().map(move |source| (tenant, source)))
}

/// The secrets of a source that end, and when.
fn ends(source: &Source) -> impl Iterator<Item = (&KeyId, UnixMillis)> {
    let windows = source.keyring.windows();
    windows.filter_map(|window| Some((window.id, window.not_after?)))
}

/// A source's secret that has an end, and how long until then.
pub(crate) struct Expiry<'c> {
    pub(crate) tenant: &'c TenantName,
    pub(crate) source: &'c SourceName,
    pub(crate) secret: &'c KeyId,
    /// Negative since it has ended.
    pub(crate) left_s: i64,
}

impl Expiry<'_> {
    /// Whether somebody must hear of it.
    pub(crate) fn is_near(&self) -> bool {
        self.left_s <= SOON_MS / 1000
    }
}

/// All secrets that have an end.
pub(crate) fn expiries(config: &Config, now: UnixMillis) -> impl Iterator<Item = Expiry<'_>> {
    sources(config).flat_map(move |(tenant, source)| {
        ends(source).map(move |(secret, at)| Expiry {
            tenant: &tenant.name,
            source: &source.name,
            secret,
            left_s: at.since(now) / 1000,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 24 * 60 * 60 * 1000;

    #[test]
    fn a_secret_that_expires_says_so_once_before_and_once_when_it_has() {
        let tenant = r#"
[sources.shop]
provider = "generic-hmac"
secrets = [
  { id = "old", value = { env = "S" }, not_after = "2026-12-01T00:00:00Z" },
  { id = "new", value = { env = "T" }, not_before = "2026-11-01T00:00:00Z", not_after = "2027-06-01T00:00:00Z" },
]
"#;
        let env = |name: &str| Some(format!("a secret named {name}"));
        let config = crate::config::load_from_texts("", &[("acme", tenant)], &env).unwrap();
        let at = |text: &str| UnixMillis::from_rfc3339(text).unwrap();
        let end = at("2026-12-01T00:00:00Z");
        let mut said = Said::default();
        let mut news = |now: UnixMillis| {
            let news = said.news(&config, now).into_iter();
            news.map(|ending| (ending.secret.to_string(), ending.stage, ending.is_last))
                .collect::<Vec<_>>()
        };
        assert_eq!(news(end.plus_ms(-8 * DAY_MS)), []);
        assert_eq!(news(end.plus_ms(-7 * DAY_MS)), [("old".to_owned(), Stage::Soon, false)]);
        assert_eq!(news(end.plus_ms(-1)), [], "once");
        assert_eq!(news(end), [("old".to_owned(), Stage::Ended, false)]);
        assert_eq!(news(end.plus_ms(DAY_MS)), [], "once");
        let last = at("2027-06-01T00:00:00Z");
        assert_eq!(news(last.plus_ms(1)), [("new".to_owned(), Stage::Ended, true)]);

        let expiries: Vec<_> = expiries(&config, end.plus_ms(5_000)).collect();
        let old = expiries.iter().find(|expiry| expiry.secret.as_str() == "old").unwrap();
        assert_eq!((old.left_s, old.is_near()), (-5, true));
    }
}
