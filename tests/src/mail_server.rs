//! A mail server that misbehaves by script. One that does what it should is `tests/python/smtp.py`.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::tls::Identity;

/// How it answers to one thing.
#[derive(Debug, Clone)]
pub enum Says {
    /// This, whatever it is, in one piece; `{line}` in it is the line that it answers to.
    At(String),
    /// This, a byte every hundred milliseconds.
    Dripping(String),
    /// Nothing, and it reads on.
    Nothing,
}

/// It listens on this machine, and ends with the process.
pub struct MailServer {
    pub port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    answers: Mutex<BTreeMap<String, Says>>,
    heard: Mutex<Vec<String>>,
}

impl MailServer {
    /// Takes every e-mail until it is told otherwise.
    ///
    /// # Panics
    /// When there is no port.
    pub fn start() -> Self {
        Self::listening(None)
    }

    /// As [`MailServer::start`], and what follows its answer `220` to STARTTLS is TLS.
    ///
    /// # Panics
    /// When there is no port.
    pub fn start_with(identity: &Identity) -> Self {
        Self::listening(Some(identity.server()))
    }

    fn listening(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::<Shared>::default();
        let at_shared = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, tls) = (Arc::clone(&at_shared), tls.clone());
                thread::spawn(move || drop(shared.accept(stream, tls)));
            }
        });
        Self { port, shared }
    }

    /// What is said from now on to these words, and as usual to all others. A word is `connect`, a command in capitals, `answer` (a line of a
    /// login), `.`, the end of an e-mail, or how a whole line begins.
    pub fn script(&self, lines: &[(&str, &str)]) {
        let answers = lines
            .iter()
            .map(|(word, line)| (*word, Says::At(format!("{line}\r\n"))));
        self.script_as(answers);
    }

    /// As [`MailServer::script`], in other ways than a line.
    pub fn script_as<'w>(&self, answers: impl IntoIterator<Item = (&'w str, Says)>) {
        let answers = answers.into_iter().map(|(word, says)| (word.to_owned(), says));
        *lock(&self.shared.answers) = answers.collect();
    }

    /// The words that it answered to, in their order.
    pub fn heard(&self) -> Vec<String> {
        lock(&self.shared.heard).clone()
    }

    /// How often it heard a word.
    pub fn heard_times(&self, word: &str) -> usize {
        lock(&self.shared.heard).iter().filter(|heard| *heard == word).count()
    }
}

impl Shared {
    fn accept(&self, mut stream: TcpStream, tls: Option<Arc<ServerConfig>>) -> io::Result<()> {
        stream.set_nodelay(true)?;
        self.say(&mut stream, "connect", "")?;
        let is_upgraded = self.serve(&mut stream)?;
        match tls {
            Some(tls) if is_upgraded => {
                let connection = ServerConnection::new(tls).map_err(io::Error::other)?;
                self.serve(&mut StreamOwned::new(connection, stream)).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Answers each line until the end, or until TLS begins. Returns whether it does.
    fn serve(&self, stream: &mut (impl Read + Write)) -> io::Result<bool> {
        let (mut is_message, mut is_login) = (false, false);
        // What is no text is TLS that nobody announced, which it does not speak.
        while let Some(line) = line(stream)? {
            if is_message && line != "." {
                continue;
            }
            let word = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            let word = if is_login { "answer" } else { word.as_str() };
            let said = self.say(stream, word, &line)?;
            is_message = word == "DATA" && said.starts_with("354");
            is_login = said.starts_with("334");
            if word == "STARTTLS" && said.starts_with("220") {
                return Ok(true);
            }
            if said.starts_with("221") {
                break;
            }
        }
        Ok(false)
    }

    /// Answers, and returns what with.
    fn say(&self, stream: &mut impl Write, word: &str, line: &str) -> io::Result<String> {
        lock(&self.heard).push(word.to_owned());
        let is_about = |begins: &str| begins == word || begins.len() > word.len() && line.starts_with(begins);
        let scripted = {
            let answers = lock(&self.answers);
            let about = answers.iter().filter(|(begins, _)| is_about(begins));
            about
                .max_by_key(|(begins, _)| begins.len())
                .map(|(_, says)| says.clone())
        };
        let usual = match word {
            "connect" => "220 here",
            "EHLO" => "250-here\r\n250 AUTH PLAIN LOGIN",
            "AUTH" => "235 welcome",
            "DATA" => "354 go on",
            "QUIT" => "221 bye",
            _ => "250 taken",
        };
        match scripted.unwrap_or_else(|| Says::At(format!("{usual}\r\n"))) {
            Says::At(text) => {
                let text = text.replace("{line}", line);
                stream.write_all(text.as_bytes())?;
                stream.flush()?;
                Ok(text)
            }
            Says::Dripping(text) => {
                for byte in text.as_bytes() {
                    stream.write_all(&[*byte])?;
                    stream.flush()?;
                    thread::sleep(Duration::from_millis(100));
                }
                Ok(text)
            }
            Says::Nothing => Ok(String::new()),
        }
    }
}

/// The next line, and none at the end. No byte behind it is read.
fn line(stream: &mut impl Read) -> io::Result<Option<String>> {
    let (mut bytes, mut byte) = (Vec::new(), [0]);
    while !bytes.ends_with(b"\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        bytes.extend(byte);
    }
    Ok(Some(String::from_utf8_lossy(&bytes).trim_end().to_owned()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
