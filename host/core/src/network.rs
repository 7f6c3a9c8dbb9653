//! IP networks, and where deliveries may go: the public internet, and what the operator allows beside it.
//!
//! A tenant chooses the host name and the name's owner chooses the addresses, so every address is judged after it was resolved
//! and before anything is sent to it; the connection is then made to exactly that address. Names are not judged.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IP network, for allow-lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Its first address.
    pub address: IpAddr,
    /// How many leading bits all its addresses share: at most 32 for IPv4, 128 for IPv6.
    pub prefix_length: u8,
}

impl Network {
    /// Whether the address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        let ((network, width), (candidate, candidate_width)) = (bits(self.address), bits(address));
        let keep = u32::from(self.prefix_length.min(width as u8));
        width == candidate_width && (keep == 0 || (network ^ candidate) >> (128 - keep) == 0)
    }
}

/// Why a text is not a [`Network`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// The text is no address with a prefix length.
    #[error("`{0}` is not a network")]
    Shape(String),
    /// The text names an address within the network, not its first.
    #[error("`{text}` has address bits beyond its prefix; the network is `{network}`")]
    HostBits {
        /// The text.
        text: String,
        /// The network that is probably meant.
        network: Network,
    },
}

/// `10.0.0.0/8`; an address alone is the network of just that address.
impl FromStr for Network {
    type Err = NetworkError;
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let shape = || NetworkError::Shape(text.to_owned());
        let (address, prefix) = text
            .split_once('/')
            .map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| shape())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix_length = match prefix {
            None => width,
            Some(prefix) if prefix.bytes().all(|byte| byte.is_ascii_digit()) => prefix
                .parse::<u8>()
                .ok()
                .filter(|length| *length <= width)
                .ok_or_else(shape)?,
            Some(_) => return Err(shape()),
        };
        let network = Self {
            address: first_address(address, prefix_length),
            prefix_length,
        };
        if network.address == address {
            Ok(network)
        } else {
            Err(NetworkError::HostBits {
                text: text.to_owned(),
                network,
            })
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_length)
    }
}

fn first_address(address: IpAddr, prefix_length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix_length)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix_length)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

/// An address that deliveries must not go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forbidden {
    /// The address that was judged.
    pub address: IpAddr,
    /// What kind of address it is.
    pub kind: &'static str,
    /// The address that is meant, when `address` only wraps it.
    pub wraps: Option<IpAddr>,
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, kind, wraps } = self;
        match wraps {
            None => write!(f, "{address} is {kind}, not a public address")?,
            Some(wrapped) => write!(
                f,
                "{address} stands for {wrapped}, which is {kind}, not a public address"
            )?,
        }
        f.write_str("; the operator can allow its network in [delivery] allow_networks")
    }
}
impl std::error::Error for Forbidden {}

/// Judges one address.
///
/// # Errors
/// When it is not public and no allowed network contains it. An IPv6 address that wraps an IPv4 address is judged by the
/// wrapped one, and allowed where either is.
pub fn judge(address: IpAddr, allow_networks: &[Network]) -> Result<(), Forbidden> {
    let allowed = |address: IpAddr| allow_networks.iter().any(|network| network.contains(address));
    if allowed(address) {
        return Ok(());
    }
    let forbidden = |kind, wraps| Err(Forbidden { address, kind, wraps });
    let v6 = match address {
        IpAddr::V4(v4) => return v4_kind(v4).map_or(Ok(()), |kind| forbidden(kind, None)),
        IpAddr::V6(v6) => v6,
    };
    match wrapped(v6) {
        Wrapped::Nothing => v6_kind(v6).map_or(Ok(()), |kind| forbidden(kind, None)),
        Wrapped::One(inner) => judge_inner(inner, &allowed).map_or(Ok(()), |kind| forbidden(kind, Some(inner.into()))),
        Wrapped::Two(server, client) => [server, client]
            .into_iter()
            .find_map(|inner| judge_inner(inner, &allowed).map(|kind| (kind, inner)))
            .map_or(Ok(()), |(kind, inner)| forbidden(kind, Some(inner.into()))),
    }
}

fn judge_inner(inner: Ipv4Addr, allowed: &impl Fn(IpAddr) -> bool) -> Option<&'static str> {
    if allowed(inner.into()) { None } else { v4_kind(inner) }
}

/// IPv4 ranges that are not the public internet: the IANA special-purpose registry (RFC 6890 and its successors), and what clouds
/// answer their own machines at under addresses that look public. Metadata services elsewhere are in these ranges already: link-local
/// (169.254.169.254 and its like), 100.100.100.200 (Alibaba), 192.0.0.192 (Oracle), unique local (fd00:ec2::254, fd20:ce::254).
const V4_RANGES: [(u32, u32, &str); 19] = [
    // https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
    (0xA83F_8110, 32, "Azure's own address inside its machines"),
    // https://cloud.ibm.com/docs/vpc?topic=vpc-service-endpoints-for-vpc
    (0xA11A_0000, 16, "an address of IBM Cloud's inner services"),
    (0xA608_0000, 14, "an address of IBM Cloud's inner services"),
    (0x0000_0000, 8, "of \"this network\""),
    (0x0A00_0000, 8, "a private address"),
    (0x6440_0000, 10, "a carrier's shared address (CGNAT)"),
    (0x7F00_0000, 8, "a loopback address"),
    (0xA9FE_0000, 16, "a link-local address"),
    (0xAC10_0000, 12, "a private address"),
    (0xC000_0000, 24, "an address for protocol assignments"),
    (0xC000_0200, 24, "a documentation address"),
    (0xC058_6300, 24, "a 6to4 relay address"),
    (0xC0A8_0000, 16, "a private address"),
    (0xC612_0000, 15, "a benchmarking address"),
    (0xC633_6400, 24, "a documentation address"),
    (0xCB00_7100, 24, "a documentation address"),
    (0xE000_0000, 4, "a multicast address"),
    (0xFFFF_FFFF, 32, "the broadcast address"),
    (0xF000_0000, 4, "a reserved address"),
];

fn v4_kind(address: Ipv4Addr) -> Option<&'static str> {
    let bits = address.to_bits();
    V4_RANGES
        .iter()
        .find(|(start, length, _)| (bits ^ start) >> (32 - length) == 0)
        .map(|(_, _, kind)| *kind)
}

/// IPv6 ranges that are not the public internet, the narrower ones first. What is outside 2000::/3 is not public either.
const V6_RANGES: [(u128, u32, &str); 11] = [
    (0, 128, "the unspecified address"),
    (1, 128, "a loopback address"),
    (0, 96, "a deprecated IPv4-compatible address"),
    (0x0064_ff9b_0001 << 80, 48, "a local translation (NAT64) address"),
    (0xfc00 << 112, 7, "a unique local address"),
    (0xfe80 << 112, 10, "a link-local address"),
    (0xfec0 << 112, 10, "a site-local address"),
    (0xff00 << 112, 8, "a multicast address"),
    (0x2001_0db8 << 96, 32, "a documentation address"),
    (0x2001_0000 << 96, 23, "an address for protocol assignments"),
    (0x3fff_0000 << 96, 20, "a documentation address"),
];

fn v6_kind(address: Ipv6Addr) -> Option<&'static str> {
    let bits = address.to_bits();
    let listed = V6_RANGES
        .iter()
        .find(|(start, length, _)| (bits ^ start) >> (128 - length) == 0)
        .map(|(_, _, kind)| *kind);
    listed.or_else(|| (bits >> 125 != 1).then_some("outside the IPv6 internet (2000::/3)"))
}

/// The IPv4 addresses that an IPv6 address leads to.
enum Wrapped {
    Nothing,
    One(Ipv4Addr),
    /// Teredo: the server and the client.
    Two(Ipv4Addr, Ipv4Addr),
}

fn wrapped(address: Ipv6Addr) -> Wrapped {
    let bits = address.to_bits();
    let low = Ipv4Addr::from_bits(bits as u32);
    if bits >> 32 == 0xffff || bits >> 32 == 0x0064_ff9b << 64 {
        // Mapped (::ffff:0:0/96), or translated (NAT64, 64:ff9b::/96).
        Wrapped::One(low)
    } else if bits >> 112 == 0x2002 {
        // 6to4.
        Wrapped::One(Ipv4Addr::from_bits((bits >> 80) as u32))
    } else if bits >> 96 == 0x2001_0000 {
        // Teredo keeps the client's address inverted.
        Wrapped::Two(
            Ipv4Addr::from_bits((bits >> 64) as u32),
            Ipv4Addr::from_bits(!(bits as u32)),
        )
    } else if matches!(bits >> 32 & 0xFFFF_FFFF, 0x0000_5EFE | 0x0200_5EFE) {
        // ISATAP (RFC 5214), behind any prefix.
        Wrapped::One(low)
    } else {
        Wrapped::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_pass() {
        let check = |address: &str, expect: Option<&str>| {
            let kind = judge(address.parse().unwrap(), &[])
                .err()
                .map(|forbidden| forbidden.kind);
            assert_eq!(kind, expect, "{address}");
        };
        check("8.8.8.8", None);
        check("100.63.255.255", None);
        check("100.128.0.0", None);
        check("172.15.255.255", None);
        check("172.32.0.0", None);
        check("198.17.255.255", None);
        check("198.20.0.0", None);
        check("223.255.255.255", None);
        check("0.0.0.0", Some("of \"this network\""));
        check("0.1.2.3", Some("of \"this network\""));
        check("10.255.255.255", Some("a private address"));
        check("100.64.0.1", Some("a carrier's shared address (CGNAT)"));
        check("100.127.255.255", Some("a carrier's shared address (CGNAT)"));
        check("127.0.0.1", Some("a loopback address"));
        check("127.255.255.255", Some("a loopback address"));
        check("169.254.169.254", Some("a link-local address"));
        check("168.63.129.15", None);
        check("168.63.129.16", Some("Azure's own address inside its machines"));
        check("168.63.129.17", None);
        check("161.26.0.6", Some("an address of IBM Cloud's inner services"));
        check("166.11.255.255", Some("an address of IBM Cloud's inner services"));
        check("166.12.0.0", None);
        check("100.100.100.200", Some("a carrier's shared address (CGNAT)"));
        check("169.254.170.2", Some("a link-local address"));
        check("192.0.0.192", Some("an address for protocol assignments"));
        check("172.16.0.1", Some("a private address"));
        check("172.31.255.255", Some("a private address"));
        check("192.0.0.8", Some("an address for protocol assignments"));
        check("192.0.2.1", Some("a documentation address"));
        check("192.88.99.1", Some("a 6to4 relay address"));
        check("192.168.0.1", Some("a private address"));
        check("198.18.0.1", Some("a benchmarking address"));
        check("198.19.255.255", Some("a benchmarking address"));
        check("198.51.100.1", Some("a documentation address"));
        check("203.0.113.1", Some("a documentation address"));
        check("224.0.0.1", Some("a multicast address"));
        check("239.255.255.255", Some("a multicast address"));
        check("240.0.0.1", Some("a reserved address"));
        check("255.255.255.255", Some("the broadcast address"));

        check("2606:4700:4700::1111", None);
        check("2a00:1450:4001:80b::200e", None);
        check("::", Some("the unspecified address"));
        check("::1", Some("a loopback address"));
        check("::8.8.8.8", Some("a deprecated IPv4-compatible address"));
        check("fc00::1", Some("a unique local address"));
        check("fd00:ec2::254", Some("a unique local address"));
        check("fe80::1", Some("a link-local address"));
        check("fec0::1", Some("a site-local address"));
        check("ff02::1", Some("a multicast address"));
        check("2001:db8::1", Some("a documentation address"));
        check("2001:2::1", Some("an address for protocol assignments"));
        check("2001:20::1", Some("an address for protocol assignments"));
        check("2001:200::1", None);
        check("3fff::1", Some("a documentation address"));
        check("64:ff9b:1::a00:1", Some("a local translation (NAT64) address"));
        check("100::1", Some("outside the IPv6 internet (2000::/3)"));
        check("5f00::1", Some("outside the IPv6 internet (2000::/3)"));
        check("4000::1", Some("outside the IPv6 internet (2000::/3)"));

        check("::ffff:8.8.8.8", None);
        check("::ffff:127.0.0.1", Some("a loopback address"));
        check("::ffff:169.254.169.254", Some("a link-local address"));
        check("64:ff9b::8.8.8.8", None);
        check("64:ff9b::10.0.0.1", Some("a private address"));
        check("::ffff:168.63.129.16", Some("Azure's own address inside its machines"));
        check(
            "64:ff9b::168.63.129.16",
            Some("Azure's own address inside its machines"),
        );
        check("2a00:1450::5efe:8.8.8.8", None);
        check("2a00:1450::5efe:10.0.0.1", Some("a private address"));
        check("2a00:1450::200:5efe:169.254.169.254", Some("a link-local address"));
        check("fd20:ce::254", Some("a unique local address"));
        check("2002:808:808::1", None);
        check("2002:7f00:1::1", Some("a loopback address"));
        check("2002:a9fe:a9fe::1", Some("a link-local address"));
        // Teredo with server 8.8.8.8 and client 8.8.4.4, then client 10.0.0.1, then server 192.168.0.1.
        check("2001:0:808:808:0:0:f7f7:fbfb", None);
        check("2001:0:808:808:0:0:f5ff:fffe", Some("a private address"));
        check("2001:0:c0a8:1:0:0:f7f7:fbfb", Some("a private address"));
    }

    #[test]
    fn the_operator_allows_networks_and_nothing_beside_them() {
        let allow = ["10.1.0.0/16".parse().unwrap(), "fd12::/16".parse().unwrap()];
        let check = |address: &str, expect: bool| {
            assert_eq!(judge(address.parse().unwrap(), &allow).is_ok(), expect, "{address}");
        };
        check("10.1.2.3", true);
        check("10.2.0.0", false);
        check("::ffff:10.1.2.3", true);
        check("::ffff:10.2.2.3", false);
        check("fd12::1", true);
        check("fd13::1", false);
        check("127.0.0.1", false);
        assert!(judge("127.0.0.1".parse().unwrap(), &["0.0.0.0/0".parse().unwrap()]).is_ok());
    }

    #[test]
    fn a_refusal_names_the_address_and_the_setting() {
        let refusal = |address: &str| judge(address.parse().unwrap(), &[]).unwrap_err().to_string();
        assert_eq!(
            refusal("169.254.169.254"),
            "169.254.169.254 is a link-local address, not a public address; \
             the operator can allow its network in [delivery] allow_networks"
        );
        assert_eq!(
            refusal("2002:7f00:1::1"),
            "2002:7f00:1::1 stands for 127.0.0.1, which is a loopback address, not a public address; \
             the operator can allow its network in [delivery] allow_networks"
        );
    }
}
