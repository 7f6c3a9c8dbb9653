//! Notices of issues by e-mail, through the operator's mail server: one connection for each attempt, and how it ended as the outbox records it.
//!
//! The guard of destinations does not apply: the server is the operator's word, and no tenant's. What an attempt says twice because its answer
//! was lost has the same `Message-ID`.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use data_encoding::BASE64_NOPAD;
use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, AsyncTokioStream, Certificate, CertificateStore, TlsParameters,
};
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::{Code, Response, Severity};
use lettre::{Address, Message};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tollgate_core::delivery::{AttemptEnd, MailStage, kept_answer};
use tollgate_core::mail::{Mail, MailAddress};
use tollgate_core::secret::Secret;
use tollgate_store::OutboxClaim;

use super::client::Attempt;
use crate::config::{MailConfig, MailTls};

/// Why there is no answer, where there is no connection.
const UNREACHED: &str = "there is no connection to the mail server";
/// How long a connection stays open for the answer to QUIT.
const QUIT_MS_MAX: u64 = 1_000;

/// Hands an e-mail that tells of `claim` to the server, and waits for its answer; `deadline` at most in all.
///
/// What the tenant is told of an attempt without an answer names neither the server nor what came from it: that is in the operator's log.
pub(super) async fn send(
    config: &MailConfig,
    roots: &[CertificateDer<'static>],
    claim: &OutboxClaim,
    to: &[MailAddress],
    deadline: Duration,
) -> Attempt {
    let mail = match claim.mail() {
        Ok(mail) => mail,
        Err(end) => return Attempt::without_answer(end),
    };
    let (attempt, error) = hand_over(config, roots, mail, to, deadline).await;
    if let (Some(error), AttemptEnd::Failed { reason }) = (error, &attempt.end) {
        let (server, port) = (&config.server, config.port);
        say_of_delivery!(info, claim, server, port, error, "{reason}");
    }
    attempt
}

/// Hands an e-mail to the server. `roots` vouch for it beside Mozilla's. Where no answer came, what broke is returned for the operator's log.
pub(super) async fn hand_over(
    config: &MailConfig,
    roots: &[CertificateDer<'static>],
    mail: Mail,
    to: &[MailAddress],
    deadline: Duration,
) -> (Attempt, Option<String>) {
    let message = match message(config, to, mail) {
        Ok(message) => message,
        Err(reason) => return (Attempt::without_answer(AttemptEnd::Forbidden { reason }), None),
    };
    let told = async {
        let mut connection = connect(config, roots, deadline).await?;
        let told = tell(&mut connection, config, &message).await;
        hang_up(connection);
        told
    };
    let told = tokio::time::timeout(deadline, told).await;
    let told = told.unwrap_or_else(|_| {
        let reason = format!("the mail server did not answer within {} ms", deadline.as_millis());
        let error = String::new();
        Err(Refused::Broken { reason, error })
    });
    let secrets = config.login.iter().flat_map(said_at_login).collect::<Vec<_>>();
    let kept = |said: &str| kept_answer(said.as_bytes(), &secrets.iter().collect::<Vec<_>>());
    match told {
        Ok(Taken { response, not_for }) => {
            let said: Vec<_> = response.message().collect();
            let said = [said, not_for.iter().map(String::as_str).collect()].concat().join("; ");
            let attempt = Attempt {
                end: AttemptEnd::mailed(response.code().into(), MailStage::Message, &said),
                answer: kept(&said),
            };
            (attempt, None)
        }
        Err(Refused::Answered { stage, code, said }) => {
            let attempt = Attempt {
                end: AttemptEnd::mailed(code.into(), stage, &said),
                answer: kept(&said),
            };
            (attempt, None)
        }
        Err(Refused::Broken { reason, error }) => (
            Attempt::without_answer(AttemptEnd::Failed { reason }),
            Some(kept(&error)),
        ),
    }
}

/// In how many ways a login is said to a server (PLAIN and LOGIN, RFC 4616 and its predecessor), which may show any of them again.
fn said_at_login((user, password): &(String, Secret)) -> Vec<Secret> {
    // Without the padding: what pads it says nothing.
    let encoded = |bytes: &[u8]| Secret::new(BASE64_NOPAD.encode(bytes));
    let plain = [b"\0", user.as_bytes(), b"\0", password.expose()].concat();
    // The longest first, so that no part of it is left.
    vec![
        encoded(&plain),
        encoded(password.expose()),
        encoded(user.as_bytes()),
        password.clone(),
        Secret::new(user.clone()),
    ]
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
    // RFC 3834: no person wrote it, so nobody's absence is to be answered to it.
    let auto_submitted = HeaderName::new_from_ascii_str("Auto-Submitted");
    message = message.raw_header(HeaderValue::new(auto_submitted, "auto-generated".to_owned()));
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

/// What the server said when it took an e-mail, and for whom it did not.
struct Taken {
    response: Response,
    not_for: Vec<String>,
}

/// Why the server has not taken an e-mail.
enum Refused {
    /// It answered with this.
    Answered { stage: MailStage, code: Code, said: String },
    /// It gave no answer that is one. The reason is for whoever owns the destination, the error for the operator.
    Broken { reason: String, error: String },
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answered { code, said, .. } => write!(f, "{code} {said}"),
            Self::Broken { reason, .. } => f.write_str(reason),
        }
    }
}

impl Refused {
    /// Whether the server knows the address to be nobody's: a 5xx that is not about the host, which it would say of every other address too.
    fn is_of_address(&self) -> bool {
        match self {
            Self::Answered { stage, code, said } => {
                code.severity == Severity::PermanentNegativeCompletion
                    && AttemptEnd::mailed((*code).into(), *stage, said).is_healthy()
            }
            Self::Broken { .. } => false,
        }
    }

    /// What an error means at a stage.
    fn at(stage: MailStage) -> impl Fn(smtp::Error) -> Self {
        move |error| {
            if let Some(code) = error.status() {
                let said = error.source().map_or_else(String::new, ToString::to_string);
                return Self::Answered { stage, code, said };
            }
            let reason = match stage {
                _ if error.is_response() => "what the mail server answers is no SMTP",
                MailStage::Tls if error.is_client() => "the mail server offers no STARTTLS",
                MailStage::Login if error.is_client() => "the mail server offers no login that this host knows",
                MailStage::Hello => UNREACHED,
                MailStage::Tls => "there is no TLS with the mail server",
                MailStage::Login | MailStage::Sender | MailStage::Recipient | MailStage::Message => {
                    "the connection to the mail server broke off"
                }
            };
            Self::Broken {
                reason: reason.to_owned(),
                error: error.to_string(),
            }
        }
    }
}

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
    let hello = ClientId::Domain(config.from.domain().to_owned());
    let from_first_byte = match config.tls {
        MailTls::Tls => Some(parameters().map_err(Refused::at(MailStage::Tls))?),
        MailTls::StartTls | MailTls::None => None,
    };
    let server = (config.server.as_str(), config.port);
    if config.tls != MailTls::StartTls {
        let connected =
            AsyncSmtpConnection::connect_tokio1(server, Some(deadline), &hello, from_first_byte, None).await;
        return connected.map_err(Refused::at(MailStage::Hello));
    }
    let stream = TcpStream::connect(server).await.map_err(|error| Refused::Broken {
        reason: UNREACHED.to_owned(),
        error: error.to_string(),
    })?;
    let connected = AsyncSmtpConnection::connect_with_transport(Box::new(ClearText::new(stream)), &hello).await;
    let mut connection = connected.map_err(Refused::at(MailStage::Hello))?;
    let parameters = parameters().map_err(Refused::at(MailStage::Tls))?;
    let started = connection.starttls(parameters, &hello).await;
    started.map_err(Refused::at(MailStage::Tls))?;
    Ok(connection)
}

/// A connection that begins in clear text, of which no byte is read before it is asked for.
///
/// The client reads ahead and keeps what it read when TLS begins: whoever is on the way could put the answers to the whole e-mail behind the one
/// to STARTTLS, and they would count as said under TLS. Read byte by byte, they stay where TLS begins, and break it.
#[derive(Debug)]
struct ClearText {
    stream: TcpStream,
    is_tls: bool,
}

impl ClearText {
    /// The first byte of what a client of TLS says, and of no command.
    const TLS_HANDSHAKE: u8 = 0x16;

    fn new(stream: TcpStream) -> Self {
        Self { stream, is_tls: false }
    }
}

impl AsyncTokioStream for ClearText {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}

impl AsyncRead for ClearText {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_tls || into.remaining() == 0 {
            return Pin::new(&mut self.stream).poll_read(context, into);
        }
        let mut byte = [0];
        let mut one = ReadBuf::new(&mut byte);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut one))?;
        into.put_slice(one.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClearText {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.is_tls |= bytes.first() == Some(&Self::TLS_HANDSHAKE);
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Hands the e-mail over, one command after the other. Of several whom it is for, one whom the server knows to be nobody keeps it from no other.
async fn tell(connection: &mut AsyncSmtpConnection, config: &MailConfig, message: &Message) -> Result<Taken, Refused> {
    if let Some((user, password)) = &config.login {
        let password = String::from_utf8_lossy(password.expose()).into_owned();
        let credentials = Credentials::new(user.clone(), password);
        let mechanisms = [Mechanism::Plain, Mechanism::Login];
        let login = connection.auth(&mechanisms, &credentials).await;
        login.map_err(Refused::at(MailStage::Login))?;
    }
    let envelope = message.envelope();
    let from = MailFrom::new(envelope.from().cloned(), Vec::new());
    connection.command(from).await.map_err(Refused::at(MailStage::Sender))?;
    let (mut nobody, mut not_for) = (None, Vec::new());
    for to in envelope.to() {
        let taken = connection.command(Rcpt::new(to.clone(), Vec::new())).await;
        match taken.map_err(Refused::at(MailStage::Recipient)) {
            Ok(_) => {}
            Err(refused) if refused.is_of_address() => {
                not_for.push(format!("not for {to}: {refused}"));
                nobody = Some(refused);
            }
            Err(refused) => return Err(refused),
        }
    }
    if let Some(refused) = nobody.filter(|_| not_for.len() == envelope.to().len()) {
        return Err(refused);
    }
    connection
        .command(Data)
        .await
        .map_err(Refused::at(MailStage::Message))?;
    let answer = connection.message(&message.formatted()).await;
    let response = answer.map_err(Refused::at(MailStage::Message))?;
    Ok(Taken { response, not_for })
}
