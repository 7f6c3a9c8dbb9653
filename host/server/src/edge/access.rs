//! Access: who may speak to a source at all, decided from a request's head, before its body is read (promise I7).
//!
//! None of this proves an event. It keeps strangers from costing anything, and gives tenants the second lock that some providers offer.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::HeaderMap;
use tollgate_core::answer::Rejection;
use tollgate_core::ids::TenantName;
use tollgate_core::network::Network;
use tollgate_core::rate::{Bucket, Rate};
use tollgate_core::request::RawRequest;
use tollgate_core::verify::Unproven;
use tollgate_store::Intake;

use super::Edge;
use super::refused::{Refused, masked};
use crate::clock;
use crate::config::{EdgeConfig, Rates, Source, Tenant};

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) address: IpAddr,
    /// The connection itself is TLS.
    pub(super) tls: bool,
    /// It is this host itself, without a network between.
    pub(super) is_host: bool,
}

impl Peer {
    pub(super) fn new(address: SocketAddr, tls: bool) -> Self {
        Self {
            address: address.ip().to_canonical(),
            tls,
            is_host: false,
        }
    }

    /// This host, which sends a source a test event.
    pub(super) fn host() -> Self {
        Self {
            address: IpAddr::from([127, 0, 0, 1]),
            tls: true,
            is_host: true,
        }
    }
}

/// Whom a request is from, as far as we or a trusted proxy can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Client {
    /// `None` when a trusted proxy's word cannot be read: then the client is nowhere on any list.
    pub(super) address: Option<IpAddr>,
    pub(super) https: bool,
    /// It is this host itself: who else may call a source is none of its business.
    pub(super) is_host: bool,
}

impl Client {
    /// A proxy's headers count only when the proxy is on the operator's list.
    pub(super) fn of(settings: &EdgeConfig, peer: Peer, headers: &HeaderMap) -> Self {
        let is_trusted = |address: IpAddr| settings.trusted_proxies.iter().any(|proxy| proxy.contains(address));
        if peer.is_host || !is_trusted(peer.address) {
            return Self {
                address: Some(peer.address),
                https: peer.tls,
                is_host: peer.is_host,
            };
        }
        Self {
            address: forwarded_for(peer.address, headers, is_trusted),
            // What the proxy says of the client's connection counts more than how the proxy itself came here.
            https: forwarded_https(headers).unwrap_or(peer.tls),
            is_host: false,
        }
    }
}

/// The rightmost hop that is not a trusted proxy. Each proxy appends whom it heard, so what stands left of the first stranger is the
/// stranger's own claim.
fn forwarded_for(peer: IpAddr, headers: &HeaderMap, is_trusted: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let mut client = peer;
    let values: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
    let hops = values
        .iter()
        .rev()
        .flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
    for hop in hops {
        client = hop_address(hop)?;
        if !is_trusted(client) {
            break;
        }
    }
    Some(client)
}

/// An address as proxies write it: bare, or with a port.
fn hop_address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim_matches([' ', '\t']);
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let address = text.parse().ok().or_else(bracketed).or_else(with_port)?;
    Some(address.to_canonical())
}

/// Whether every proxy on the way that says anything says `https`; `None` when none does.
fn forwarded_https(headers: &HeaderMap) -> Option<bool> {
    let mut said = None;
    for value in headers.get_all("x-forwarded-proto") {
        for scheme in value.as_bytes().split(|byte| *byte == b',') {
            if !scheme.trim_ascii().eq_ignore_ascii_case(b"https") {
                return Some(false);
            }
            said = Some(true);
        }
    }
    said
}

/// What each tenant has used of its rate. It has at most one entry for each tenant that ever had a limit.
#[derive(Debug, Default)]
pub(crate) struct Buckets(Mutex<BTreeMap<TenantName, Used>>);

/// What a tenant has used of its rate.
#[derive(Debug, Clone, Copy, Default)]
struct Used {
    bucket: Bucket,
    /// Requests that were kept here and of which the other hosts have not been told.
    untold: u64,
}

impl Buckets {
    /// Whether a request would fit now. Takes nothing: who may use a tenant's rate up is not known before it is verified.
    ///
    /// # Errors
    /// When it would not: nanoseconds until the next one fits.
    fn has_token(&self, tenant: &TenantName, rate: Rate) -> Result<(), u64> {
        // The first token is taken from a copy.
        let mut used = self.buckets().get(tenant).copied().unwrap_or_default();
        used.bucket.take(rate, clock::steady_ns())
    }

    fn take(&self, tenant: &TenantName, rate: Rate) -> Result<(), u64> {
        let mut buckets = self.buckets();
        // Read under the lock, so that the instants of one bucket come in order.
        let now_ns = clock::steady_ns();
        match buckets.get_mut(tenant) {
            Some(used) => used.bucket.take(rate, now_ns),
            None => buckets.entry(tenant.clone()).or_default().bucket.take(rate, now_ns),
        }
    }

    /// Tells the other hosts what was kept here, and counts what they kept.
    pub(crate) fn tell_others(
        &self,
        rates: &Rates,
        others: impl FnOnce(Vec<(TenantName, u64)>) -> Vec<(TenantName, u64)>,
    ) {
        let untold = |(tenant, used): (&TenantName, &mut Used)| match std::mem::take(&mut used.untold) {
            0 => None,
            kept => Some((tenant.clone(), kept)),
        };
        let kept = self.buckets().iter_mut().filter_map(untold).collect();
        for (tenant, kept) in others(kept) {
            if let Some(rate) = rates.of(&tenant) {
                let mut buckets = self.buckets();
                let used = buckets.entry(tenant).or_default();
                used.bucket.charge(rate, kept, clock::steady_ns());
            }
        }
    }

    fn buckets(&self) -> MutexGuard<'_, BTreeMap<TenantName, Used>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A verified request's token of its tenant's rate. It goes back to the bucket when it is dropped without having been
/// [spent](Self::spend), however the request ended.
#[must_use]
pub(super) struct RateToken<'e> {
    buckets: &'e Buckets,
    tenant: &'e TenantName,
    /// Absent: the tenant has no limit, or the token is spent.
    rate: Option<Rate>,
}

impl RateToken<'_> {
    /// Keeps the token: the request's events were kept.
    pub(super) fn spend(mut self) {
        if self.rate.take().is_some()
            && let Some(used) = self.buckets.buckets().get_mut(self.tenant)
        {
            used.untold += 1;
        }
    }
}

impl Drop for RateToken<'_> {
    fn drop(&mut self) {
        if let Some(rate) = self.rate
            && let Some(used) = self.buckets.buckets().get_mut(self.tenant)
        {
            used.bucket.give_back(rate);
        }
    }
}

/// # Errors
/// When the source lists addresses and the client's is not among them.
pub(super) fn check_address(source: &Source, client: Client) -> Result<(), Refused> {
    let listed = &source.access.allow_networks;
    if listed.is_empty() || client.address.is_some_and(|address| is_in(listed, address)) {
        return Ok(());
    }
    let from = match client.address {
        Some(address) => format!(
            "the source does not list the client's address, which is in {}",
            masked(address)
        ),
        None => "the source lists addresses, and a trusted proxy names none that can be read".to_owned(),
    };
    Err(Refused::because(Rejection::Address, "address-not-allowed", from))
}

/// # Errors
/// When the source asks for a credential and the request does not carry one that is accepted.
pub(super) fn check_credential(source: &Source, head: &RawRequest<'_>) -> Result<(), Refused> {
    let mut refused = None;
    for credential in &source.access.credentials {
        match credential.check(head) {
            Ok(()) => return Ok(()),
            Err(unproven) => refused = Some(unproven),
        }
    }
    let Some(unproven) = refused else { return Ok(()) };
    // Apart from a signature's own reasons, so that a person sees which lock it was.
    let cause = match unproven {
        Unproven::MissingHeader { .. } => "missing-credential",
        Unproven::RepeatedHeader { .. } => "repeated-credential",
        _ => "wrong-credential",
    };
    let reason = format!("beside the signature: {unproven}");
    Err(Refused::because(Rejection::Unauthentic, cause, reason))
}

/// Whether the tenant's rate has a token left. Takes none.
///
/// # Errors
/// When the tenant has used up its rate: with the seconds after which to come again.
pub(super) fn check_rate<S: Intake>(edge: &Edge<S>, tenant: &Tenant, rate: Option<Rate>) -> Result<(), Refused> {
    let Some(rate) = rate else { return Ok(()) };
    edge.buckets.has_token(&tenant.name, rate).map_err(rate_limited)
}

/// Takes a token of the tenant's rate for a verified request.
///
/// # Errors
/// When others have used it up since the head was looked at.
pub(super) fn take_rate_token<'e, S: Intake>(
    edge: &'e Edge<S>,
    tenant: &'e Tenant,
    rate: Option<Rate>,
) -> Result<RateToken<'e>, Refused> {
    if let Some(rate) = rate {
        edge.buckets.take(&tenant.name, rate).map_err(rate_limited)?;
    }
    Ok(RateToken {
        buckets: &edge.buckets,
        tenant: &tenant.name,
        rate,
    })
}

fn rate_limited(wait_ns: u64) -> Refused {
    Refused::from(Rejection::RateLimited).until(u32::try_from(wait_ns.div_ceil(1_000_000_000)).ok())
}

fn is_in(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn the_client_is_the_rightmost_hop_that_is_no_trusted_proxy() {
        let trusted: Vec<Network> = ["10.0.0.0/8", "2001:db8::/32"].map(|text| text.parse().unwrap()).into();
        let is_trusted = |address: IpAddr| is_in(&trusted, address);
        let check = |lines: &[&str], expect: Option<&str>| {
            let lines: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
            let found = forwarded_for("10.0.0.1".parse().unwrap(), &headers(&lines), is_trusted);
            assert_eq!(found, expect.map(|text| text.parse().unwrap()), "{lines:?}");
        };
        check(&[], Some("10.0.0.1"));
        check(&["203.0.113.7"], Some("203.0.113.7"));
        check(&["198.51.100.1, 203.0.113.7"], Some("203.0.113.7"));
        check(&["198.51.100.1, 203.0.113.7, 10.1.1.1,10.2.2.2"], Some("203.0.113.7"));
        check(&["198.51.100.1", "203.0.113.7", "10.1.1.1"], Some("203.0.113.7"));
        check(&["10.9.9.9"], Some("10.9.9.9"));
        check(&["203.0.113.7:443"], Some("203.0.113.7"));
        check(&["[2a00:1450::1]:443"], Some("2a00:1450::1"));
        check(&["[2a00:1450::1]"], Some("2a00:1450::1"));
        check(&["2a00:1450::1, 2001:db8::9"], Some("2a00:1450::1"));
        check(&["::ffff:203.0.113.7"], Some("203.0.113.7"));
        // What a trusted proxy says and nobody understands names no one.
        check(&["203.0.113.7, unknown"], None);
        check(&["203.0.113.7,"], None);
        check(&[""], None);
        check(&["unknown, 203.0.113.7"], Some("203.0.113.7"));
    }

    #[test]
    fn i7_a_token_of_the_rate_that_is_not_spent_is_given_back_however_its_request_ended() {
        let (buckets, tenant) = (Buckets::default(), "acme".parse().unwrap());
        let rate = Rate::new(1, 2).unwrap();
        let token = || {
            buckets.take(&tenant, rate).ok().map(|()| RateToken {
                buckets: &buckets,
                tenant: &tenant,
                rate: Some(rate),
            })
        };
        for _ in 0..50 {
            assert_eq!(buckets.has_token(&tenant, rate), Ok(()), "to look takes nothing");
        }
        for _ in 0..50 {
            drop(token().expect("what was refused, evicted or cut off takes nothing"));
        }
        for _ in 0..2 {
            token().expect("a token of a burst of 2").spend();
        }
        assert!(token().is_none() && buckets.has_token(&tenant, rate).is_err());
    }

    #[test]
    fn https_is_what_every_proxy_says() {
        let check = |lines: &[&str], expect: Option<bool>| {
            let lines: Vec<_> = lines.iter().map(|line| ("x-forwarded-proto", *line)).collect();
            assert_eq!(forwarded_https(&headers(&lines)), expect, "{lines:?}");
        };
        check(&[], None);
        check(&["https"], Some(true));
        check(&["HTTPS"], Some(true));
        check(&["https, https"], Some(true));
        check(&["http"], Some(false));
        check(&["https, http"], Some(false));
        check(&["https", "http"], Some(false));
        check(&["https,"], Some(false));
        check(&["httpss"], Some(false));
        check(&[""], Some(false));
    }
}
