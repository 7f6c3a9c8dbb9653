//! A raw HTTP/1.1 client: it sends exactly the bytes it is given, so that a test can also send what no library would.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::events::Message;
use crate::tls::{Connection, Identity};

/// Longer than any answer takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// One connection.
pub struct Client {
    stream: Box<dyn Connection>,
    received: Vec<u8>,
}

/// One answer, whole.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Client {
    /// # Errors
    /// When nothing listens.
    pub fn connect(to: SocketAddr) -> io::Result<Self> {
        Ok(Self::over(Box::new(dial(to)?)))
    }

    /// As [`Client::connect`], and answers are waited for no longer than this.
    ///
    /// # Errors
    /// When nothing listens.
    pub fn connect_within(to: SocketAddr, patience: Duration) -> io::Result<Self> {
        let stream = dial(to)?;
        stream.set_read_timeout(Some(patience))?;
        Ok(Self::over(Box::new(stream)))
    }

    /// As [`Client::connect`], by TLS with whoever is `identity`.
    ///
    /// # Errors
    /// When nothing listens, or it is somebody else.
    pub fn connect_tls(to: SocketAddr, identity: &Identity) -> io::Result<Self> {
        Ok(Self::over(Box::new(identity.connect(dial(to)?)?)))
    }

    fn over(stream: Box<dyn Connection>) -> Self {
        Self {
            stream,
            received: Vec::new(),
        }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a signed message and waits for its answer. The connection stays open.
    ///
    /// # Errors
    /// When the connection ends before the answer does.
    pub fn post(&mut self, path: &str, message: &Message) -> io::Result<Answer> {
        // Who answers before a large body is through, and closes, has answered all the same.
        let early = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
        match self.send(&request("POST", path, &message.headers, &message.body)) {
            Err(error) if !early.contains(&error.kind()) => Err(error),
            Ok(()) | Err(_) => self.answer(),
        }
    }

    /// Waits for the next answer.
    ///
    /// # Errors
    /// When the connection ends first, or what comes is no HTTP.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let head_end = loop {
            if let Some(at) = find(&self.received, b"\r\n\r\n") {
                break at;
            }
            self.fill()?;
        };
        let head = String::from_utf8_lossy(&self.received[..head_end]).into_owned();
        self.received.drain(..head_end + 4);
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1))
            .and_then(|status| status.parse().ok())
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("no status line: {head}")))?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let length = headers
            .iter()
            .find(|(name, _)| name == "content-length")
            .and_then(|(_, value)| value.parse::<usize>().ok())
            .unwrap_or(0);
        while self.received.len() < length {
            self.fill()?;
        }
        let body = self.received.drain(..length).collect();
        Ok(Answer { status, headers, body })
    }

    /// Whether the peer ends the connection within `patience`, saying nothing more.
    pub fn ends_within(&mut self, patience: Duration) -> bool {
        let _ = self.stream.socket().set_read_timeout(Some(patience));
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    /// Says that nothing more is sent.
    pub fn finish_sending(&self) {
        let _ = self.stream.socket().shutdown(std::net::Shutdown::Write);
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            bytes => {
                self.received.extend_from_slice(&piece[..bytes]);
                Ok(())
            }
        }
    }
}

fn dial(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

impl Answer {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    /// # Panics
    /// When the body is not JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON: {error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The edge's one word, for example `accepted`.
    pub fn word(&self) -> String {
        self.json()["status"].as_str().unwrap_or_default().to_owned()
    }

    /// The status and the word together, to compare in one go.
    pub fn verdict(&self) -> (u16, String) {
        (self.status, self.word())
    }

    /// # Panics
    /// When the answer names no receipt.
    #[track_caller]
    pub fn receipt(&self) -> String {
        match self.json()["receipt"].as_str() {
            Some(receipt) => receipt.to_owned(),
            None => panic!("no receipt in {}", String::from_utf8_lossy(&self.body)),
        }
    }
}

/// A request with a Content-Length, as bytes.
pub fn request(method: &str, path: &str, headers: &[(String, String)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "{method} {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n",
        body.len()
    )
    .into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}
