//! Attackers: crowds of connections that send what a script says, and come again when they are let go.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// The most that one connection sends or reads before the next has its turn.
const TURN_BYTES: usize = 128 * 1024;

/// How long an attack may take to come to its size.
const COMING_MAX: Duration = Duration::from_secs(20);

/// What each connection of a crowd sends.
#[derive(Debug, Clone, Default)]
pub(super) struct Script {
    /// First, as fast as it is taken.
    pub(super) opening: Vec<u8>,
    /// Then this, over and over. Nothing: the connection stays and says no more.
    pub(super) then: Vec<u8>,
    /// So many bytes of it at each look.
    pub(super) step: usize,
    /// Between two looks at the crowd.
    pub(super) pause: Duration,
}

/// What an attack came to.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub(super) opened: u64,
    /// Connections that the host ended, by an answer or without.
    pub(super) ended: u64,
    pub(super) bytes: u64,
    pub(super) answers: BTreeMap<u16, u64>,
    /// The most that were open at once.
    pub(super) open_most: usize,
}

impl Tally {
    pub(super) fn answers(&self) -> u64 {
        self.answers.values().sum()
    }

    fn add(&mut self, other: Self) {
        self.opened += other.opened;
        self.ended += other.ended;
        self.bytes += other.bytes;
        self.open_most += other.open_most;
        for (status, times) in other.answers {
            *self.answers.entry(status).or_default() += times;
        }
    }
}

/// An attack under way.
pub(super) struct Attack {
    stop: Arc<AtomicBool>,
    /// Connections that were opened so far, and how many there are to be at once.
    opened: Arc<AtomicUsize>,
    wanted: usize,
    crowds: Vec<JoinHandle<Tally>>,
}

/// Attackers have machines of their own. Here they share the host's, so they take what it leaves: what is measured is what they cost the
/// host, and not what they cost themselves.
fn yield_to_the_host() {
    // Of this thread alone, as Linux has it. Where it may not be, the host has it harder.
    let _ = rustix::process::setpriority_process(None, 19);
}

impl Attack {
    /// Starts a thread for each crowd: so many connections, all with this script.
    pub(super) fn start(to: SocketAddr, crowds: &[(usize, Script)]) -> Self {
        let (stop, opened) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let wanted = crowds.iter().map(|(connections, _)| connections).sum();
        let crowds = crowds
            .iter()
            .map(|(connections, script)| {
                let (stop, opened) = (Arc::clone(&stop), Arc::clone(&opened));
                let (script, connections) = (script.clone(), *connections);
                thread::spawn(move || {
                    yield_to_the_host();
                    crowd(to, connections, &script, &stop, &opened)
                })
            })
            .collect();
        Self {
            stop,
            opened,
            wanted,
            crowds,
        }
    }

    /// Waits until everybody has come once, but not for ever: the host may keep some of them out.
    pub(super) fn wait_for_all(&self) {
        let begun = Instant::now();
        while self.opened.load(Ordering::Relaxed) < self.wanted && begun.elapsed() < COMING_MAX {
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it and says what it came to.
    pub(super) fn end(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for crowd in self.crowds {
            all.add(crowd.join().unwrap_or_default());
        }
        all
    }
}

fn crowd(to: SocketAddr, connections: usize, script: &Script, stop: &AtomicBool, opened: &AtomicUsize) -> Tally {
    let mut tally = Tally::default();
    let mut members: Vec<Option<Member>> = Vec::new();
    members.resize_with(connections, || None);
    while !stop.load(Ordering::Relaxed) {
        let mut busy = false;
        for place in &mut members {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            if place.is_none() {
                *place = Member::open(to).ok();
                tally.opened += u64::from(place.is_some());
                opened.fetch_add(usize::from(place.is_some()), Ordering::Relaxed);
            }
            let Some(member) = place else { continue };
            match member.go_on(script, &mut tally) {
                Ok(moved) => busy |= moved,
                Err(Gone) => {
                    tally.ended += 1;
                    *place = None;
                }
            }
        }
        tally.open_most = tally.open_most.max(members.iter().flatten().count());
        if script.pause.is_zero() && !busy {
            // Everybody waits for the host.
            thread::sleep(Duration::from_millis(1));
        } else {
            thread::sleep(script.pause);
        }
    }
    tally
}

/// One connection of a crowd; it never waits.
struct Member {
    stream: TcpStream,
    /// How far it is in its opening.
    opened: usize,
    /// Where in the part that is repeated.
    at: usize,
    /// The end of what came, in which a status line may begin.
    heard: Vec<u8>,
}

/// The host has ended the connection.
struct Gone;

impl Member {
    fn open(to: SocketAddr) -> std::io::Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        match socket.connect(&to.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        Ok(Self {
            stream: socket.into(),
            opened: 0,
            at: 0,
            heard: Vec::new(),
        })
    }

    /// Sends what is next and reads what came. Answers whether anything moved.
    fn go_on(&mut self, script: &Script, tally: &mut Tally) -> Result<bool, Gone> {
        let mut moved = self.hear(tally)?;
        let mut left = TURN_BYTES;
        while left > 0 && self.opened < script.opening.len() {
            let end = script.opening.len().min(self.opened + left);
            let sent = self.say(&script.opening[self.opened..end])?;
            if sent == 0 {
                return Ok(moved);
            }
            (self.opened, left, moved) = (self.opened + sent, left - sent, true);
            tally.bytes += sent as u64;
        }
        if self.opened < script.opening.len() || script.then.is_empty() {
            return Ok(moved);
        }
        left = left.min(script.step);
        while left > 0 {
            let end = script.then.len().min(self.at + left);
            let sent = self.say(&script.then[self.at..end])?;
            if sent == 0 {
                break;
            }
            (self.at, left, moved) = ((self.at + sent) % script.then.len(), left - sent, true);
            tally.bytes += sent as u64;
        }
        Ok(moved)
    }

    /// How much was taken.
    fn say(&mut self, bytes: &[u8]) -> Result<usize, Gone> {
        match self.stream.write(bytes) {
            Ok(sent) => Ok(sent),
            // A connection that is not made yet says so here.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => Ok(0),
            Err(_) => {
                // The answer that came before the end is worth counting.
                Err(Gone)
            }
        }
    }

    fn hear(&mut self, tally: &mut Tally) -> Result<bool, Gone> {
        let mut piece = [0; 16 * 1024];
        let mut moved = false;
        for _ in 0..TURN_BYTES / piece.len() {
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(Gone),
                Ok(bytes) => {
                    moved = true;
                    self.heard.extend_from_slice(&piece[..bytes]);
                    self.count_answers(tally);
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => break,
                Err(_) => return Err(Gone),
            }
        }
        Ok(moved)
    }

    fn count_answers(&mut self, tally: &mut Tally) {
        const START: &[u8] = b"HTTP/1.1 ";
        const LINE: usize = START.len() + 3;
        let mut at = 0;
        while let Some(found) = self.heard[at..].windows(START.len()).position(|bytes| bytes == START) {
            at += found;
            let Some(status) = self.heard.get(at + START.len()..at + LINE) else {
                break;
            };
            let status = std::str::from_utf8(status).ok().and_then(|text| text.parse().ok());
            *tally.answers.entry(status.unwrap_or(0)).or_default() += 1;
            at += LINE;
        }
        // What may be the beginning of a status line is kept.
        let keep = (self.heard.len() - at.min(self.heard.len())).min(LINE - 1);
        self.heard.drain(..self.heard.len() - keep);
    }
}
