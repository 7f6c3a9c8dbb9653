//! The bytes of one connection, followed from head to body to head.
//!
//! hyper parses, and is lenient where a proxy in front may not be: it ends a line of a head at a bare line feed, and its one
//! timeout is for heads and for the silence between two requests alike. So each head is handed over by itself here: its lines are
//! looked at first, and how long it may take is timed apart from how long a connection may stay idle. What a body's length is,
//! hyper says (see [`Slot::follows`]); nothing of a head is interpreted twice.
//!
//! A head with a bare line feed is answered 400: the line feed is handed over as a NUL, which no head may contain.

use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::connections::{Follows, Slot};

/// How long a peer may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// From the first byte of a head to its last, and from the connection's beginning to its first head.
    pub(crate) head_ms_max: u64,
    /// Between two requests.
    pub(crate) idle_ms_max: u64,
}

/// A connection's bytes, on their way to hyper.
pub(crate) struct Wire<'a, I> {
    io: I,
    slot: &'a Slot,
    patience: Patience,
    place: Place,
    /// Read, and not handed over yet: what followed a head.
    kept: BytesMut,
    timer: Pin<Box<Sleep>>,
    /// When the head that is coming was first waited for.
    head_since: Option<Instant>,
    /// Whether a whole request came before.
    has_spoken: bool,
}

/// The part of a request that the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A line of a head. `begun`: one that is not empty came before it.
    Head { begun: bool, line: Line },
    /// A head was handed over, and hyper has not said yet what follows it.
    HeadEnded,
    /// So many bytes of a body.
    Body { bytes: u64 },
    /// The line with a chunk's size.
    ChunkSize { size: u64, read: bool, line: Line },
    /// So many bytes of a chunk.
    Chunk { bytes: u64 },
    /// The line end after a chunk.
    ChunkEnd { line: Line },
    /// The lines after the last chunk.
    Trailers { line: Line },
    /// A line ended in a bare line feed. `closed`: an end of the head was handed over after it.
    Broken { closed: bool },
}

/// What was read of a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Line {
    bytes: usize,
    ends_in_cr: bool,
}

/// How a line ended.
enum LineEnd {
    /// With CR LF, after so many bytes.
    Whole {
        bytes: usize,
    },
    Bare,
}

/// What a peer is waited for, where it is timed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pause {
    Idle,
    Head,
}

impl Line {
    /// Goes on to the line's end. How many bytes that took, and how the line ended, if it did.
    fn go_on(&mut self, bytes: &[u8]) -> (usize, Option<LineEnd>) {
        let Some(at) = bytes.iter().position(|byte| *byte == b'\n') else {
            self.bytes = self.bytes.saturating_add(bytes.len());
            self.ends_in_cr = bytes.last().map_or(self.ends_in_cr, |last| *last == b'\r');
            return (bytes.len(), None);
        };
        let after_cr = match at.checked_sub(1) {
            Some(before) => bytes[before] == b'\r',
            None => self.ends_in_cr,
        };
        let end = if after_cr {
            LineEnd::Whole {
                bytes: self.bytes.saturating_add(at).saturating_sub(1),
            }
        } else {
            LineEnd::Bare
        };
        *self = Self::default();
        (at + 1, Some(end))
    }
}

impl Place {
    const START: Self = Self::Head {
        begun: false,
        line: Line {
            bytes: 0,
            ends_in_cr: false,
        },
    };

    fn after_head(follows: Follows) -> Self {
        match follows {
            Follows::Bytes(0) => Self::START,
            Follows::Bytes(bytes) => Self::Body { bytes },
            Follows::Chunks => Self::ChunkSize {
                size: 0,
                read: false,
                line: Line::default(),
            },
        }
    }

    /// Goes over the next bytes, and returns how many of them may be handed over: those up to the end of a head, or all.
    fn go_over(&mut self, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &mut bytes[at..];
            let (taken, next) = self.step(rest);
            at += taken;
            *self = next;
            if let Self::Broken { .. } = self {
                bytes[at - 1] = 0;
                return at;
            }
            if *self == Self::HeadEnded {
                return at;
            }
        }
        at
    }

    /// Goes over some of the next bytes, of which there are. How many, and what comes then.
    fn step(self, bytes: &[u8]) -> (usize, Self) {
        const BROKEN: Place = Place::Broken { closed: false };
        match self {
            Self::Head { begun, mut line } => {
                let (taken, end) = line.go_on(bytes);
                let next = match end {
                    None => Self::Head { begun, line },
                    Some(LineEnd::Bare) => BROKEN,
                    Some(LineEnd::Whole { bytes: 0 }) if begun => Self::HeadEnded,
                    // Line ends before a head are a habit of some senders, and no part of it.
                    Some(LineEnd::Whole { bytes: 0 }) => Self::START,
                    Some(LineEnd::Whole { .. }) => Self::Head { begun: true, line },
                };
                (taken, next)
            }
            Self::Body { bytes: left } => {
                let (taken, left) = take(left, bytes.len());
                let next = if left == 0 {
                    Self::START
                } else {
                    Self::Body { bytes: left }
                };
                (taken, next)
            }
            Self::ChunkSize { size, read, mut line } => {
                let (taken, end) = line.go_on(bytes);
                let (size, read) = chunk_size(size, read, &bytes[..taken]);
                let next = match end {
                    None => Self::ChunkSize { size, read, line },
                    Some(LineEnd::Bare) => BROKEN,
                    Some(LineEnd::Whole { .. }) if size == 0 => Self::Trailers { line },
                    Some(LineEnd::Whole { .. }) => Self::Chunk { bytes: size },
                };
                (taken, next)
            }
            Self::Chunk { bytes: left } => {
                let (taken, left) = take(left, bytes.len());
                let next = match left {
                    0 => Self::ChunkEnd { line: Line::default() },
                    left => Self::Chunk { bytes: left },
                };
                (taken, next)
            }
            Self::ChunkEnd { mut line } => {
                let (taken, end) = line.go_on(bytes);
                let next = match end {
                    None => Self::ChunkEnd { line },
                    Some(LineEnd::Bare) => BROKEN,
                    Some(LineEnd::Whole { .. }) => Self::after_head(Follows::Chunks),
                };
                (taken, next)
            }
            Self::Trailers { mut line } => {
                let (taken, end) = line.go_on(bytes);
                let next = match end {
                    None => Self::Trailers { line },
                    Some(LineEnd::Bare) => BROKEN,
                    Some(LineEnd::Whole { bytes: 0 }) => Self::START,
                    Some(LineEnd::Whole { .. }) => Self::Trailers { line },
                };
                (taken, next)
            }
            // Never asked in these: whoever reads looks for them first.
            Self::HeadEnded | Self::Broken { .. } => (bytes.len(), self),
        }
    }

    /// What the peer is waited for, if that is timed here.
    fn pause(self) -> Option<Pause> {
        match self {
            Self::Head { begun: false, line } if line.bytes == 0 => Some(Pause::Idle),
            Self::Head { .. } => Some(Pause::Head),
            Self::HeadEnded
            | Self::Body { .. }
            | Self::ChunkSize { .. }
            | Self::Chunk { .. }
            | Self::ChunkEnd { .. }
            | Self::Trailers { .. }
            | Self::Broken { .. } => None,
        }
    }
}

/// Takes as much of what is left as there is. How much, and what is left then.
fn take(left: u64, there: usize) -> (usize, u64) {
    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(there);
    (taken, left - taken as u64)
}

/// Reads on in a chunk's size: hexadecimal digits, up to whatever is none. One that is too large is one that never ends; hyper
/// refuses it.
fn chunk_size(mut size: u64, mut read: bool, bytes: &[u8]) -> (u64, bool) {
    for byte in bytes {
        match char::from(*byte).to_digit(16) {
            Some(digit) if !read => size = size.saturating_mul(16).saturating_add(u64::from(digit)),
            _ => read = true,
        }
    }
    (size, read)
}

impl<'a, I> Wire<'a, I> {
    pub(crate) fn new(io: I, slot: &'a Slot, patience: Patience) -> Self {
        Self {
            io,
            slot,
            patience,
            place: Place::START,
            kept: BytesMut::new(),
            timer: Box::pin(tokio::time::sleep(Duration::from_millis(patience.head_ms_max))),
            head_since: None,
            has_spoken: false,
        }
    }

    /// Whether the peer has taken too long; wakes the task when it will have.
    ///
    /// The timer is set for whatever may end first, and looked at anew when it rings: most connections set it once in a minute, not
    /// with each request.
    fn is_overdue(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(pause) = self.place.pause() else {
            return false;
        };
        if pause == Pause::Head && self.head_since.is_none() {
            let now = Instant::now();
            self.head_since = Some(now);
            let end = now + self.longest(pause);
            if self.timer.deadline() > end {
                self.timer.as_mut().reset(end);
            }
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let end = self.end(pause, now);
            if end <= now {
                return true;
            }
            self.timer.as_mut().reset(end);
        }
        false
    }

    /// When the peer will have taken too long.
    fn end(&self, pause: Pause, now: Instant) -> Instant {
        // A peer that is being answered is not waited for.
        let since = match pause {
            _ if self.slot.is_being_answered() => now,
            Pause::Head => self.head_since.unwrap_or(now),
            Pause::Idle => now - self.slot.has_waited(),
        };
        since + self.longest(pause)
    }

    fn longest(&self, pause: Pause) -> Duration {
        Duration::from_millis(match pause {
            Pause::Idle if self.has_spoken => self.patience.idle_ms_max,
            Pause::Idle | Pause::Head => self.patience.head_ms_max,
        })
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Wire<'_, I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        match this.place {
            Place::HeadEnded => {
                let Some(follows) = this.slot.take_follows() else {
                    // hyper takes more than we do for the head.
                    return Poll::Ready(Err(Error::from(ErrorKind::InvalidData)));
                };
                this.place = Place::after_head(follows);
                this.has_spoken = true;
                this.head_since = None;
            }
            Place::Broken { closed: false } => {
                // Some heads are not parsed before their end has come.
                this.place = Place::Broken { closed: true };
                let end = b"\r\n\r\n";
                buf.put_slice(&end[..end.len().min(buf.remaining())]);
                return Poll::Ready(Ok(()));
            }
            Place::Broken { closed: true } => return Poll::Ready(Err(Error::from(ErrorKind::InvalidData))),
            Place::Head { .. }
            | Place::Body { .. }
            | Place::ChunkSize { .. }
            | Place::Chunk { .. }
            | Place::ChunkEnd { .. }
            | Place::Trailers { .. } => {}
        }
        let before = buf.filled().len();
        if this.kept.is_empty() {
            match Pin::new(&mut this.io).poll_read(cx, buf) {
                Poll::Ready(read) => read?,
                Poll::Pending if this.is_overdue(cx) => return Poll::Ready(Err(Error::from(ErrorKind::TimedOut))),
                Poll::Pending => return Poll::Pending,
            }
            let fresh = &mut buf.filled_mut()[before..];
            let handed = this.place.go_over(fresh);
            if handed < fresh.len() {
                this.kept.extend_from_slice(&fresh[handed..]);
                buf.set_filled(before + handed);
            }
        } else {
            let there = this.kept.len().min(buf.remaining());
            let handed = this.place.go_over(&mut this.kept[..there]);
            buf.put_slice(&this.kept[..handed]);
            this.kept.advance(handed);
        }
        if matches!(this.place, Place::Broken { .. }) {
            this.slot.sent_a_bare_line_feed();
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Wire<'_, I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is handed over of `bytes` when they come in pieces of this size, and where it ends. `follows` are the bodies.
    fn handed(bytes: &[u8], piece: usize, follows: &[Follows]) -> (Vec<u8>, Place) {
        let (mut place, mut follows) = (Place::START, follows.iter());
        let mut handed = Vec::new();
        for piece in bytes.chunks(piece) {
            let mut rest = piece.to_vec();
            while !rest.is_empty() {
                if place == Place::HeadEnded {
                    let Some(follows) = follows.next() else {
                        return (handed, place);
                    };
                    place = Place::after_head(*follows);
                }
                if matches!(place, Place::Broken { .. }) {
                    return (handed, place);
                }
                let taken = place.go_over(&mut rest);
                assert!(taken > 0, "bytes that are there are taken");
                handed.extend(rest.drain(..taken));
            }
        }
        (handed, place)
    }

    const HEAD: &str = "POST /in/a/b HTTP/1.1\r\nhost: x\r\n\r\n";

    #[test]
    fn a_head_ends_at_its_empty_line_and_a_body_where_it_was_said_to() {
        let check = |bytes: &str, follows: &[Follows], expect: Place| {
            for piece in 1..=bytes.len() {
                let (passed, place) = handed(bytes.as_bytes(), piece, follows);
                assert_eq!(
                    (passed.as_slice(), place),
                    (bytes.as_bytes(), expect),
                    "in pieces of {piece}"
                );
            }
        };
        check(HEAD, &[], Place::HeadEnded);
        check(&format!("\r\n\r\n{HEAD}"), &[], Place::HeadEnded);
        check(&format!("{HEAD}12345{HEAD}"), &[Follows::Bytes(5)], Place::HeadEnded);
        check(&format!("{HEAD}{HEAD}"), &[Follows::Bytes(0)], Place::HeadEnded);
        // What a body says is not a head's.
        check(&format!("{HEAD}1\n\n45"), &[Follows::Bytes(5)], Place::START);
        let chunks = "5;x=1\r\na\nb\n\n\r\n1\r\n\n\r\n0\r\ntrailer: 1\r\n\r\n";
        check(&format!("{HEAD}{chunks}"), &[Follows::Chunks], Place::START);
        check(&format!("{HEAD}{chunks}{HEAD}"), &[Follows::Chunks], Place::HeadEnded);
        check(
            &format!("{HEAD}5\r\nabc"),
            &[Follows::Chunks],
            Place::Chunk { bytes: 2 },
        );
    }

    #[test]
    fn a_bare_line_feed_in_a_head_is_handed_over_as_what_no_head_may_contain() {
        let check = |bytes: &str, follows: &[Follows], at: usize| {
            for piece in 1..=bytes.len() {
                let (passed, place) = handed(bytes.as_bytes(), piece, follows);
                assert_eq!(place, Place::Broken { closed: false }, "{bytes:?} in pieces of {piece}");
                let mut expect = bytes.as_bytes()[..=at].to_vec();
                expect[at] = 0;
                assert_eq!(passed, expect, "{bytes:?} in pieces of {piece}");
            }
        };
        check("\nPOST / HTTP/1.1\r\n\r\n", &[], 0);
        check("POST / HTTP/1.1\nhost: x\r\n\r\n", &[], 15);
        check("POST / HTTP/1.1\r\nhost: x\n\r\n", &[], 24);
        check("POST / HTTP/1.1\r\nhost: x\r\n\n", &[], 26);
        check("POST / HTTP/1.1\r\na: b\ntransfer-encoding: chunked\r\n\r\n", &[], 21);
        // Of a request that follows another in one piece, too, and of the lines between chunks.
        check(
            &format!("{HEAD}12345GET / HTTP/1.1\n\r\n"),
            &[Follows::Bytes(5)],
            HEAD.len() + 19,
        );
        check(
            &format!("{HEAD}5\nabcde\r\n0\r\n\r\n"),
            &[Follows::Chunks],
            HEAD.len() + 1,
        );
        check(&format!("{HEAD}0\r\nx: y\n\r\n"), &[Follows::Chunks], HEAD.len() + 7);
    }

    /// However the network cuts what is sent, the same of it is a head, a body and a next head.
    #[test]
    fn pieces_change_nothing() {
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        let mut draw = |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        for _ in 0..20_000 {
            let text: Vec<u8> = (0..=draw(100)).map(|_| b"a1\r\n\r\n: ;"[draw(9) as usize]).collect();
            let bodies: Vec<_> = (0..draw(6))
                .map(|_| match draw(10) {
                    9 => Follows::Chunks,
                    bytes => Follows::Bytes(bytes),
                })
                .collect();
            let piece = 1 + draw(40) as usize;
            assert_eq!(
                handed(&text, text.len(), &bodies),
                handed(&text, piece, &bodies),
                "{text:?} in pieces of {piece}, with {bodies:?}"
            );
        }
    }

    #[test]
    fn a_chunk_that_says_to_be_larger_than_any_never_ends() {
        let bytes = format!("{HEAD}fffffffffffffffffffff\r\nabc");
        let (_, place) = handed(bytes.as_bytes(), 7, &[Follows::Chunks]);
        assert_eq!(place, Place::Chunk { bytes: u64::MAX - 3 });
    }
}
