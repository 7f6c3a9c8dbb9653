//! A real HTTP destination: it verifies what it receives as a tenant would, notes every arrival, and answers by script.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tollgate_core::ids::KeyId;
use tollgate_core::profile::{Profile, shipped};
use tollgate_core::request::{Header, RawRequest};
use tollgate_core::secret::{Secret, SourceSecret};
use tollgate_core::time::UnixMillis;
use tollgate_core::verify::{Keyring, verify};

use crate::events;

/// Signs deliveries to every destination of the tests.
pub const DESTINATION_SECRET: &str = "whsec_ZGVzdGluYXRpb24tc2VjcmV0LW9mLXRoZS10ZXN0cyE=";

/// How often a waiting connection looks whether the destination is gone.
const LOOK: Duration = Duration::from_millis(50);

/// What the destination does with one message.
#[derive(Debug, Clone)]
pub enum Reply {
    Status(u16),
    /// With a body.
    Says(u16, &'static str),
    /// With one more header.
    Header(u16, &'static str, String),
    After(Duration, u16),
    /// Keeps the connection and says nothing.
    Hang,
    /// The same until it is set; then the connection ends, as that of a server that is started again.
    HangUntil(Arc<AtomicBool>),
}

/// One message as it came.
#[derive(Debug, Clone)]
pub struct Arrival {
    pub at: Instant,
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether its Standard Webhooks signature and timestamp are right.
    pub is_authentic: bool,
    /// Whether its signature is right, whenever it says that it was made.
    pub is_signed: bool,
}

impl Arrival {
    /// # Panics
    /// When there is no such header.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map_or_else(
            || panic!("no header {name} in {:?}", self.headers),
            |(_, value)| value.as_str(),
        )
    }

    /// # Panics
    /// When the body is not JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a delivery is JSON")
    }
}

/// Listens until it is dropped.
pub struct Destination {
    pub address: SocketAddr,
    state: Arc<State>,
}

/// A destination that is down: its port is its own, and nobody listens there.
pub struct Closed {
    pub address: SocketAddr,
    socket: Socket,
    state: Arc<State>,
}

struct State {
    profile: Arc<Profile>,
    keyring: Keyring,
    arrivals: Mutex<Vec<Arrival>>,
    script: Mutex<VecDeque<Reply>>,
    otherwise: Mutex<Reply>,
    /// Messages that hold this text are answered so, whatever else is said.
    apart: Mutex<Option<(String, Reply)>>,
    stopped: AtomicBool,
}

impl Default for Destination {
    fn default() -> Self {
        Self::start()
    }
}

impl Destination {
    /// Answers 204 to everything that the script does not say otherwise.
    ///
    /// # Panics
    /// When nothing can listen on this machine.
    pub fn start() -> Self {
        Closed::reserve().open()
    }

    /// Where a tenant points a destination to.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Answers the next messages so, one each.
    pub fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        lock(&self.state.script).extend(replies);
    }

    /// Answers so when the script is at its end.
    pub fn otherwise(&self, reply: Reply) {
        *lock(&self.state.otherwise) = reply;
    }

    /// Answers messages that hold `text` so from now on.
    pub fn answer_apart(&self, text: &str, reply: Reply) {
        *lock(&self.state.apart) = Some((text.to_owned(), reply));
    }

    /// Answers all messages alike again.
    pub fn answer_alike(&self) {
        *lock(&self.state.apart) = None;
    }

    /// Everything that came so far, in order.
    pub fn arrivals(&self) -> Vec<Arrival> {
        lock(&self.state.arrivals).clone()
    }

    /// Everything that came since this was last asked, which is forgotten here.
    pub fn take_arrivals(&self) -> Vec<Arrival> {
        std::mem::take(&mut *lock(&self.state.arrivals))
    }

    /// Waits until so many have come.
    ///
    /// # Panics
    /// When they do not come in 30 s.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<Arrival> {
        let start = Instant::now();
        loop {
            let arrivals = self.arrivals();
            if arrivals.len() >= count {
                return arrivals;
            }
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "{} of {count} deliveries came",
                arrivals.len()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Closed {
    /// Takes a port, on which connections are refused.
    ///
    /// # Panics
    /// When there is none.
    pub fn reserve() -> Self {
        let (_, profile) = shipped()
            .iter()
            .find(|(name, _)| name.as_str() == "standard-webhooks")
            .expect("the profile ships");
        let secret = SourceSecret {
            id: KeyId::new("destination").expect("a key id"),
            text: Secret::new(DESTINATION_SECRET),
            not_before: None,
            not_after: None,
        };
        let state = Arc::new(State {
            keyring: Keyring::new(profile, &[secret]).expect("a keyring"),
            profile: Arc::clone(profile),
            arrivals: Mutex::default(),
            script: Mutex::default(),
            otherwise: Mutex::new(Reply::Status(204)),
            apart: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&loopback.into()).expect("a free port");
        let address = socket.local_addr().ok().and_then(|address| address.as_socket());
        Closed {
            address: address.expect("an address"),
            socket,
            state,
        }
    }

    /// Listens from now on, and answers 204 to everything that the script does not say otherwise.
    ///
    /// # Panics
    /// When nothing can listen on this machine.
    pub fn open(self) -> Destination {
        let Self { address, socket, state } = self;
        socket.listen(128).expect("a listener");
        let listener = TcpListener::from(socket);
        let at_state = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if at_state.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let state = Arc::clone(&at_state);
                if let Ok(stream) = stream {
                    thread::spawn(move || drop(state.serve(stream)));
                }
            }
        });
        Destination { address, state }
    }

    /// As [`Destination::url`].
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::Relaxed);
        // Wakes the listener, which then sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOOK))?;
        let mut received = Vec::new();
        while let Some(arrival) = self.receive(&mut stream, &mut received)? {
            let apart = self.apart(&arrival.body);
            lock(&self.arrivals).push(arrival);
            let reply = apart.or_else(|| lock(&self.script).pop_front());
            let reply = reply.unwrap_or_else(|| lock(&self.otherwise).clone());
            let mut body = "";
            let (status, header) = match reply {
                Reply::Status(status) => (status, String::new()),
                Reply::Says(status, says) => {
                    body = says;
                    (status, String::new())
                }
                Reply::Header(status, name, value) => (status, format!("{name}: {value}\r\n")),
                Reply::After(delay, status) => {
                    thread::sleep(delay);
                    (status, String::new())
                }
                Reply::Hang => {
                    self.hang(&AtomicBool::new(false));
                    return Ok(());
                }
                Reply::HangUntil(over) => {
                    self.hang(&over);
                    return Ok(());
                }
            };
            let length = match status {
                204 => String::new(),
                _ => format!("content-length: {}\r\n", body.len()),
            };
            stream.write_all(format!("HTTP/1.1 {status} Scripted\r\n{header}{length}\r\n{body}").as_bytes())?;
        }
        Ok(())
    }

    fn apart(&self, body: &[u8]) -> Option<Reply> {
        let apart = lock(&self.apart);
        let (text, reply) = apart.as_ref()?;
        let holds = body.windows(text.len()).any(|window| window == text.as_bytes());
        holds.then(|| reply.clone())
    }

    fn hang(&self, over: &AtomicBool) {
        while !self.stopped.load(Ordering::Relaxed) && !over.load(Ordering::Relaxed) {
            thread::sleep(LOOK);
        }
    }

    /// The next message; `None` when the sender has no more.
    fn receive(&self, stream: &mut TcpStream, received: &mut Vec<u8>) -> io::Result<Option<Arrival>> {
        let mut piece = [0; 16 * 1024];
        loop {
            if let Some((arrival, length)) = self.parse(received) {
                received.drain(..length);
                return Ok(Some(arrival));
            }
            match stream.read(&mut piece) {
                Ok(0) => return Ok(None),
                Ok(bytes) => received.extend_from_slice(&piece[..bytes]),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    if self.stopped.load(Ordering::Relaxed) {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A whole message at the beginning of `bytes`, and how long it is.
    fn parse(&self, bytes: &[u8]) -> Option<(Arrival, usize)> {
        let head_length = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..head_length]).ok()?;
        let mut lines = head.split("\r\n");
        let path = lines.next()?.split(' ').nth(1)?.to_owned();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let body_length: usize = headers
            .iter()
            .find(|(name, _)| name == "content-length")
            .and_then(|(_, value)| value.parse().ok())
            .unwrap_or(0);
        let length = head_length + 4 + body_length;
        let body = bytes.get(head_length + 4..length)?.to_vec();
        let is_authentic = self.is_authentic(&headers, &body, events::now());
        let said = headers.iter().find(|(name, _)| name == "webhook-timestamp");
        let said_s: Option<i64> = said.and_then(|(_, value)| value.parse().ok());
        let is_signed = said_s.is_some_and(|said_s| self.is_authentic(&headers, &body, UnixMillis(said_s * 1000)));
        let arrival = Arrival {
            at: Instant::now(),
            path,
            headers,
            body,
            is_authentic,
            is_signed,
        };
        Some((arrival, length))
    }

    fn is_authentic(&self, headers: &[(String, String)], body: &[u8], received_at: UnixMillis) -> bool {
        let headers: Vec<Header<'_>> = headers
            .iter()
            .map(|(name, value)| Header {
                name,
                value: value.as_bytes(),
            })
            .collect();
        let request = RawRequest {
            method: "POST",
            path: None,
            query: None,
            headers: &headers,
            body,
            url: None,
            received_at,
        };
        verify(&self.profile, &self.keyring, request).is_ok()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
