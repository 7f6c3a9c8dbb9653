//! Every key of a tenant's file, and what each host says of it.

use tollgate_core::ids::SecretName;
use tollgate_core::secret::Secret;
use tollgate_core::{lifecycle, limits};

use super::*;

/// Everything that a tenant's file needs, without a problem anywhere.
const TENANT: &str = r#"
[sources.rewards]
provider = "voucherify"
secrets = [{ id = "a", value = { env = "SECRET" } }]
[routes.cashback]
plugin = "cashback"
grants = [{ kind = "credit", amount_max = 5000, currencies = ["USD"] }]
[routes.archive]
forward = "body"
destinations = ["ledger"]
[destinations.ledger]
url = "https://ledger.example/hooks"
secrets = [{ env = "WHSEC" }]
"#;

/// References lead somewhere; on Spin to variables only.
struct Anything(Host);

impl Resolver for Anything {
    fn variable(&self, name: &str) -> Result<Option<Secret>, Refused> {
        Ok(Some(Secret::new(match name {
            "WHSEC" => "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
            _ => "0123456789abcdef0123456789abcdef",
        })))
    }
    fn secret_file(&self, _: &Path) -> Result<Secret, Refused> {
        match self.0 {
            // RFC 7515, appendix A.3.1
            Host::Native => Ok(Secret::new(
                r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#,
            )),
            Host::Spin => Err(Refused::new("a file cannot hold a secret here", "name a variable")),
        }
    }
    fn stored(&self, _: &SecretName) -> Result<Secret, Refused> {
        match self.0 {
            Host::Native => Ok(Secret::new("0123456789abcdef0123456789abcdef")),
            Host::Spin => Err(Refused::new("nothing is set by API here", "name a variable")),
        }
    }
    fn text(&self, _: &Path, _: &str) -> Result<(String, Owner), Refused> {
        let text = include_str!("../../../server/examples/tenants/profiles/loyalty-club.toml");
        Ok((text.to_owned(), Owner::Own))
    }
    fn fetch_hosts(&self, _: &[String]) -> Result<(), Refused> {
        Ok(())
    }
    fn short_secrets(&self) -> Leave {
        Leave::Refused
    }
    fn example(&self) -> String {
        String::new()
    }
}

/// All that a host says of the text.
fn said(host: Host, text: &str) -> String {
    let lifecycles = lifecycle::shipped();
    let mail_domains = ["acme.example".to_owned()].into();
    let offer = Offer {
        host,
        body_bytes_max: limits::BODY_BYTES_MAX,
        source_body_bytes_max: limits::SOURCE_BODY_BYTES_MAX,
        in_flight_max: 16,
        allow_http: false,
        allow_networks: &[],
        mail_domains: Some(&mail_domains),
        limits: PluginLimits::DEFAULT,
        lifecycles: &lifecycles,
        plugins: None,
        schemas: None,
    };
    let file = File::new("acme.toml".to_owned(), text.to_owned(), Path::new(""));
    check("acme", &file, &offer, &Anything(host))
        .err()
        .map(|problems| problems.in_words())
        .unwrap_or_default()
}

const BANK: &str =
    "[sources.bank]\nprovider = \"plaid\"\nparameters = { client_id = \"c\", secret = { env = \"SECRET\" } }\n";
const GRANTS: &str = "[routes.g]\nplugin = \"p\"\ngrants = ";
const OWN: &str = "[sources.own]\nprofile = { file = \"own.toml\" }\nsecrets = [{ id = \"a\", value = { env = \"SECRET\" }, \
                   not_before = 2026-01-01T00:00:00Z, not_after = 2027-01-01T00:00:00Z }]\n";

/// Rows of `keys.toml`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    on_both: Vec<[String; 2]>,
    natively: Vec<[String; 3]>,
    on_neither: Vec<[String; 3]>,
}

fn keys() -> Keys {
    toml::from_str(include_str!("keys.toml")).unwrap()
}

#[track_caller]
fn check_line(place: &str, line: &str, natively: &str, on_spin: &str) {
    let place = match place {
        "BANK" => BANK,
        "GRANTS" => GRANTS,
        "OWN" => OWN,
        header => header,
    };
    let text = match TENANT.split_once(place).filter(|_| !place.is_empty()) {
        Some((before, after)) => format!("{before}{place}\n{line}{after}"),
        None => format!("{TENANT}{place}{line}\n"),
    };
    for (host, expect) in [(Host::Native, natively), (Host::Spin, on_spin)] {
        let said = said(host, &text);
        assert_eq!(said.is_empty(), expect.is_empty(), "{host:?}, {line}: {said}");
        assert!(said.contains(expect), "{host:?}, {line}: {said}");
        assert!(said.is_empty() || said.starts_with("acme.toml:"), "{said}");
    }
}

/// A native file builds for Spin, or is refused there with the key and the reason; and what is wrong is wrong for both.
#[test]
fn every_key_is_taken_or_refused_by_each_host() {
    let keys = keys();
    for [place, line] in &keys.on_both {
        check_line(place, line, "", "");
    }
    for [place, line, on_spin] in &keys.natively {
        check_line(place, line, "", on_spin);
    }
    for [place, line, problem] in &keys.on_neither {
        check_line(place, line, problem, problem);
    }
}

/// The tables above have every key that the reader asks for.
#[test]
fn no_key_is_without_a_verdict() {
    let readers = [
        include_str!("mod.rs"),
        include_str!("destination.rs"),
        include_str!("grant.rs"),
        include_str!("profile.rs"),
        include_str!("reference.rs"),
        include_str!("route.rs"),
        include_str!("secrets.rs"),
        include_str!("source.rs"),
    ];
    let keys = keys();
    let lines = keys.on_both.iter().map(|[_, line]| line.as_str());
    let natively = keys.natively.iter().map(|[_, line, _]| line.as_str());
    let words: BTreeSet<&str> = [TENANT, BANK, OWN, GRANTS]
        .into_iter()
        .chain(lines.chain(natively))
        .flat_map(|text| text.split(|letter: char| !(letter.is_alphanumeric() || letter == '_')))
        .collect();
    let mut asked = BTreeSet::new();
    for reader in readers {
        let packed: String = reader.split_whitespace().collect();
        for call in ["get(", "require(", "number(", "section(", "yes("] {
            for (at, _) in packed.match_indices(&format!("{call}\"")) {
                let key = &packed[at + call.len() + 1..];
                asked.insert(key[..key.find('"').unwrap()].to_owned());
            }
        }
    }
    assert!(asked.len() > 40, "{asked:?}");
    let missing: Vec<_> = asked.iter().filter(|key| !words.contains(key.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
