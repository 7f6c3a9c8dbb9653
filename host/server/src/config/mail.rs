//! `[notices.email]` of the operator's file: the mail server that takes notices of issues for those tenants' destinations that are written to.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tollgate_core::mail::{self, MailAddress};
use tollgate_core::secret::Secret;
use tollgate_tenants::file::{self, Section, Value};

/// How e-mails leave.
#[derive(Debug, Clone)]
pub(crate) struct MailConfig {
    /// A name or an address; its certificate must be for it.
    pub(crate) server: String,
    pub(crate) port: u16,
    pub(crate) tls: MailTls,
    /// A user and a password; absent where the server asks for none.
    pub(crate) login: Option<(String, Secret)>,
    /// Who writes.
    pub(crate) from: MailAddress,
    /// Whom tenants may have it write to; empty: any domain.
    pub(crate) domains: BTreeSet<String>,
}

/// What keeps what is said to the mail server from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MailTls {
    /// The connection is TLS from its first byte (RFC 8314).
    Tls,
    /// The connection begins in clear text, and nothing is said on it before it is TLS. Whoever is on the way can say no in the server's name.
    StartTls,
    /// Nothing does.
    None,
}

impl MailTls {
    const WORDS: [(&'static str, Self); 3] = [("tls", Self::Tls), ("starttls", Self::StartTls), ("none", Self::None)];

    /// Where a server is asked when the file names no port.
    fn port(self) -> u16 {
        match self {
            Self::Tls => 465,
            Self::StartTls => 587,
            Self::None => 25,
        }
    }

    fn of(value: &Value) -> Option<Self> {
        let word = value.text()?;
        let found = Self::WORDS.into_iter().find(|(known, _)| *known == word);
        if found.is_none() {
            let words = Self::WORDS.into_iter().map(|(known, _)| known);
            value.unknown(
                format!("`{word}` is no way to keep a connection secret"),
                word,
                words,
                "there are",
            );
        }
        found.map(|(_, tls)| tls)
    }
}

/// Reads the section. None where something is wrong with it.
pub(super) fn email(section: &Section) -> Option<MailConfig> {
    let at_server = section.require(
        "server",
        "add server = \"smtp.example.com\": the mail server that takes the e-mails",
    );
    let server = at_server.as_ref().and_then(server);
    let said_tls = section.get("tls");
    let tls = match &said_tls {
        Some(value) => MailTls::of(value),
        None => Some(MailTls::Tls),
    };
    let port = match section.get("port") {
        Some(value) => value
            .integer(1..=i64::from(u16::MAX))
            .and_then(|port| u16::try_from(port).ok()),
        None => tls.map(MailTls::port),
    };
    let in_clear_text = section
        .get("clear_text")
        .and_then(|value| value.boolean())
        .unwrap_or(false);
    if let (Some(value), Some(MailTls::None), Some(server), false) = (&said_tls, tls, &server, in_clear_text)
        && !is_this_machine(server)
    {
        value.problem(
            format!("what is said to `{server}` could be read on the way, the password too"),
            "write tls = \"tls\" or \"starttls\"; or say clear_text = true in [notices.email], where the network is yours",
        );
    }
    let from = section
        .require("from", "add from = \"tollgate@example.com\": who writes")
        .and_then(|value| value.parse::<MailAddress>("write it as NAME@DOMAIN"));
    let (user, password) = (section.get("user"), section.get("password"));
    match (&user, &password) {
        (Some(user), None) => user.problem("`user` has no password", "add password = { env = \"NAME\" }"),
        (None, Some(password)) => password.problem("`password` has no user", "add user = \"NAME\""),
        (Some(_), Some(_)) | (None, None) => {}
    }
    let user = user.and_then(|value| one_line(&value));
    let password = password.and_then(|value| file::any_secret(&value)?.text);
    let domains = section.get("domains").map(|list| {
        if list.is_empty_list() {
            list.problem(
                "`domains` is empty: nobody could be written to",
                "name a domain, or remove it",
            );
        }
        list.list_of(domain)
    });
    section.finish();
    Some(MailConfig {
        server: server?,
        port: port?,
        tls: tls?,
        login: user.zip(password),
        from: from?,
        domains: domains.unwrap_or_default().into_iter().collect(),
    })
}

fn server(value: &Value) -> Option<String> {
    let text = value.text()?;
    let is_server = text.parse::<IpAddr>().is_ok() || mail::is_domain(text);
    if !is_server {
        value.problem(
            format!("`{text}` is no name or address of a server"),
            "write the name alone, without a scheme; the port has a key of its own",
        );
    }
    is_server.then(|| text.to_owned())
}

fn domain(value: &Value) -> Option<String> {
    let text = value.text()?;
    let is_domain = mail::is_domain(text);
    if !is_domain {
        value.problem(
            format!("`{text}` is no domain"),
            "write what stands behind the @ of addresses",
        );
    }
    is_domain.then(|| text.to_ascii_lowercase())
}

fn one_line(value: &Value) -> Option<String> {
    let text = value.text()?;
    let is_plain = !text.is_empty() && !text.chars().any(char::is_control);
    if !is_plain {
        value.problem("a user's name is one line", "write the name that the mail server knows");
    }
    is_plain.then(|| text.to_owned())
}

/// Whether nothing leaves this machine on the way there.
fn is_this_machine(server: &str) -> bool {
    let address = server
        .parse::<IpAddr>()
        .map(|address| address.to_canonical().is_loopback());
    address.unwrap_or_else(|_| server.eq_ignore_ascii_case("localhost"))
}
