//! Notices of issues by e-mail, through the operator's mail server: one connection for each attempt, and how it ended as the outbox records it.
//!
//! The guard of destinations does not apply: the server is the operator's word, and no tenant's. What an attempt says twice because its answer
//! was lost has the same `Message-ID`.

use std::error::Error as _;
use std::time::{Duration, SystemTime};

use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Code;
use lettre::transport::smtp::{self, AsyncSmtpTransport};
use lettre::{Address, AsyncTransport as _, Message, Tokio1Executor};
use rustls::pki_types::CertificateDer;
use tollgate_core::delivery::{AttemptEnd, kept_answer};
use tollgate_core::mail::{Mail, MailAddress};
use tollgate_core::mask;
use tollgate_core::secret::Secret;

use super::client::Attempt;
use crate::config::{MailConfig, MailTls};

/// Of what the client says when there is no answer.
const REASON_BYTES_MAX: usize = 300;

/// Hands an e-mail to the server, and waits for its answer; `deadline` at most in all. `roots` vouch for the server beside Mozilla's.
pub(super) async fn send(
    config: &MailConfig,
    roots: &[CertificateDer<'static>],
    to: &[MailAddress],
    mail: Mail,
    deadline: Duration,
) -> Attempt {
    let message = match message(config, to, mail) {
        Ok(message) => message,
        Err(error) => return Attempt::without_answer(AttemptEnd::Forbidden { reason: error }),
    };
    let failed = |what: &str| {
        let said = format!("the mail server {}:{}: {what}", config.server, config.port);
        Attempt::without_answer(AttemptEnd::Failed {
            reason: mask::line(&said, REASON_BYTES_MAX),
        })
    };
    let transport = match transport(config, roots, deadline) {
        Ok(transport) => transport,
        Err(error) => return failed(&error.to_string()),
    };
    match tokio::time::timeout(deadline, transport.send(message)).await {
        Ok(Ok(response)) => {
            let said: Vec<_> = response.message().collect();
            answered(config, response.code(), &said.join(" "))
        }
        Ok(Err(error)) => match error.status() {
            Some(code) => answered(
                config,
                code,
                &error.source().map_or_else(String::new, ToString::to_string),
            ),
            None => failed(&error.to_string()),
        },
        Err(_) => failed(&format!("no answer within {} ms", deadline.as_millis())),
    }
}

fn answered(config: &MailConfig, code: Code, said: &str) -> Attempt {
    let secrets: Vec<&Secret> = config.login.iter().map(|(_, password)| password).collect();
    Attempt {
        end: AttemptEnd::Mailed {
            smtp_status: code.into(),
        },
        answer: kept_answer(said.as_bytes(), &secrets),
    }
}

/// # Errors
/// In words, when it cannot be written; a checked configuration does not come to that.
fn message(config: &MailConfig, to: &[MailAddress], mail: Mail) -> Result<Message, String> {
    let mailbox = |name: Option<&str>, address: &MailAddress| {
        let parsed = address.as_str().parse::<Address>();
        let parsed = parsed.map_err(|error| format!("`{address}` cannot be written to: {error}"))?;
        Ok::<_, String>(Mailbox::new(name.map(str::to_owned), parsed))
    };
    let recorded_at = u64::try_from(mail.date.0).unwrap_or_default();
    let mut message = Message::builder()
        .from(mailbox(Some("Tollgate"), &config.from)?)
        .subject(mail.subject)
        .date(SystemTime::UNIX_EPOCH + Duration::from_millis(recorded_at))
        .message_id(Some(format!("<{}@{}>", mail.id, config.from.domain())))
        .user_agent(super::USER_AGENT.to_owned());
    for address in to {
        message = message.to(mailbox(None, address)?);
    }
    let message = message.header(ContentType::TEXT_PLAIN).body(mail.text);
    message.map_err(|error| format!("the e-mail cannot be written: {error}"))
}

/// # Errors
/// When one of the roots is no certificate, which was checked when the configuration was read.
fn transport(
    config: &MailConfig,
    roots: &[CertificateDer<'static>],
    deadline: Duration,
) -> Result<AsyncSmtpTransport<Tokio1Executor>, smtp::Error> {
    let parameters = || {
        let mut parameters =
            TlsParameters::builder(config.server.clone()).certificate_store(CertificateStore::WebpkiRoots);
        for root in roots {
            parameters = parameters.add_root_certificate(Certificate::from_der(root.to_vec())?);
        }
        parameters.build_rustls()
    };
    let tls = match config.tls {
        MailTls::StartTls => Tls::Required(parameters()?),
        MailTls::Tls => Tls::Wrapper(parameters()?),
        MailTls::None => Tls::None,
    };
    let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&config.server)
        .port(config.port)
        .tls(tls)
        .timeout(Some(deadline))
        .hello_name(ClientId::Domain(config.from.domain().to_owned()));
    if let Some((user, password)) = &config.login {
        let password = String::from_utf8_lossy(password.expose()).into_owned();
        transport = transport.credentials(Credentials::new(user.clone(), password));
    }
    Ok(transport.build())
}
