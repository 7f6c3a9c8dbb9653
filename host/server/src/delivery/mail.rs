//! Notices of issues by e-mail, through the operator's mail server: one connection for each attempt, and how it ended as the outbox records it.
//!
//! The guard of destinations does not apply: the server is the operator's word, and no tenant's. What an attempt says twice because its answer
//! was lost has the same `Message-ID`.

use std::error::Error as _;
use std::time::{Duration, SystemTime};

use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::{Code, Response};
use lettre::{Address, Message};
use rustls::pki_types::CertificateDer;
use tollgate_core::delivery::{AttemptEnd, MailStage, kept_answer};
use tollgate_core::mail::{Mail, MailAddress};
use tollgate_core::mask;
use tollgate_core::secret::Secret;

use super::client::Attempt;
use crate::config::{MailConfig, MailTls};

/// Of what the client says when there is no answer.
const REASON_BYTES_MAX: usize = 300;
/// How long a connection stays open for the answer to QUIT.
const QUIT_MS_MAX: u64 = 1_000;

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
    let told = async {
        let mut connection = connect(config, roots, deadline).await?;
        let told = tell(&mut connection, config, &message).await;
        hang_up(connection);
        told
    };
    match tokio::time::timeout(deadline, told).await {
        Ok(Ok(response)) => {
            let said: Vec<_> = response.message().collect();
            answered(config, response.code(), MailStage::Message, &said.join(" "))
        }
        Ok(Err((stage, error))) => match error.status() {
            Some(code) => {
                let said = error.source().map_or_else(String::new, ToString::to_string);
                answered(config, code, stage, &said)
            }
            None => failed(&error.to_string()),
        },
        Err(_) => failed(&format!("no answer within {} ms", deadline.as_millis())),
    }
}

fn answered(config: &MailConfig, code: Code, stage: MailStage, said: &str) -> Attempt {
    let secrets: Vec<&Secret> = config.login.iter().map(|(_, password)| password).collect();
    Attempt {
        end: AttemptEnd::mailed(code.into(), stage, said),
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

/// Says QUIT on a task of its own, whose answer nobody waits for: what the server said of the e-mail stands already.
fn hang_up(mut connection: AsyncSmtpConnection) {
    tokio::spawn(async move {
        let quit = connection.abort();
        let _ = tokio::time::timeout(Duration::from_millis(QUIT_MS_MAX), quit).await;
    });
}

/// How far it came, and what came instead of leave to go on.
type Refused = (MailStage, smtp::Error);

/// Connects, under TLS as the configuration says.
///
/// # Errors
/// Also when one of the roots is no certificate, which was checked when the configuration was read.
async fn connect(
    config: &MailConfig,
    roots: &[CertificateDer<'static>],
    deadline: Duration,
) -> Result<AsyncSmtpConnection, Refused> {
    let parameters = || {
        let mut parameters =
            TlsParameters::builder(config.server.clone()).certificate_store(CertificateStore::WebpkiRoots);
        for root in roots {
            parameters = parameters.add_root_certificate(Certificate::from_der(root.to_vec())?);
        }
        parameters.build_rustls()
    };
    let at = |stage| move |error| (stage, error);
    let hello = ClientId::Domain(config.from.domain().to_owned());
    let from_first_byte = match config.tls {
        MailTls::Tls => Some(parameters().map_err(at(MailStage::Tls))?),
        MailTls::StartTls | MailTls::None => None,
    };
    let server = (config.server.as_str(), config.port);
    let connected = AsyncSmtpConnection::connect_tokio1(server, Some(deadline), &hello, from_first_byte, None).await;
    let mut connection = connected.map_err(at(MailStage::Hello))?;
    if config.tls == MailTls::StartTls {
        let parameters = parameters().map_err(at(MailStage::Tls))?;
        let started = connection.starttls(parameters, &hello).await;
        started.map_err(at(MailStage::Tls))?;
    }
    Ok(connection)
}

/// Hands the e-mail over, one command after the other, and returns the answer to its end.
async fn tell(
    connection: &mut AsyncSmtpConnection,
    config: &MailConfig,
    message: &Message,
) -> Result<Response, Refused> {
    let at = |stage| move |error| (stage, error);
    if let Some((user, password)) = &config.login {
        let password = String::from_utf8_lossy(password.expose()).into_owned();
        let credentials = Credentials::new(user.clone(), password);
        let mechanisms = [Mechanism::Plain, Mechanism::Login];
        let login = connection.auth(&mechanisms, &credentials).await;
        login.map_err(at(MailStage::Login))?;
    }
    let envelope = message.envelope();
    let from = MailFrom::new(envelope.from().cloned(), Vec::new());
    connection.command(from).await.map_err(at(MailStage::Sender))?;
    for to in envelope.to() {
        let to = Rcpt::new(to.clone(), Vec::new());
        connection.command(to).await.map_err(at(MailStage::Recipient))?;
    }
    connection.command(Data).await.map_err(at(MailStage::Message))?;
    let answer = connection.message(&message.formatted()).await;
    answer.map_err(at(MailStage::Message))
}
