//! How long the steps of a request took: noted as they end, and put together by whoever asks.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::Connection;

/// How a connection was made. `None` stands for a step that did not take place.
#[derive(Clone, Debug, Default)]
pub struct Dialled {
    /// Turning names into addresses.
    pub resolve: Option<Duration>,
    /// Connecting to one of them.
    pub connect: Option<Duration>,
    /// All that a proxy was asked for, the TLS handshake with it among that.
    pub proxy: Option<Duration>,
    /// The TLS handshake with the origin.
    pub tls: Option<Duration>,
    /// Whom the socket is connected to: a proxy, where there is one.
    pub address: Option<Address>,
}

/// The other end of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// By TCP.
    Inet(SocketAddr),
    /// A Unix domain socket of that name.
    Unix(PathBuf),
}

/// A step of opening a connection.
#[derive(Clone, Copy)]
pub(crate) enum Step {
    Resolve,
    Connect,
    Proxy,
    Tls,
}

/// A stopwatch for the steps of a dial.
pub(crate) struct Laps {
    since: Cell<Instant>,
    took: Cell<[Option<Duration>; 4]>,
}

impl Laps {
    pub(crate) fn begun(now: Instant) -> Self {
        Laps { since: Cell::new(now), took: Cell::default() }
    }

    /// What has passed since the step before was that one. A step may have several parts.
    pub(crate) fn end(&self, step: Step) {
        let now = Instant::now();
        let lap = now.saturating_duration_since(self.since.replace(now));
        let mut took = self.took.get();
        if let Some(place) = took.get_mut(step as usize) {
            *place = Some(place.unwrap_or_default() + lap);
        }
        self.took.set(took);
    }

    /// All of them.
    pub(crate) fn dialled(&self, address: Option<Address>) -> Dialled {
        let [resolve, connect, proxy, tls] = self.took.get();
        Dialled { resolve, connect, proxy, tls, address }
    }
}

/// The way of one request to the head of its response. What came afterwards, the body knows.
#[derive(Clone, Debug)]
pub struct Timings {
    /// When it was made.
    pub started: Instant,
    /// How long after that it had a place in the pool, or a connection that was open. A request that was sent again
    /// counts what went before as waiting for the last time.
    pub placed: Duration,
    /// How long after `started` the connection was there, and sending began.
    pub connected: Duration,
    /// How long after `started` its last byte was out.
    pub sent: Duration,
    /// How long after `started` the response's head had come.
    pub answered: Duration,
    /// Whether the connection had been opened for another request.
    pub reused: bool,
    /// How it had been opened.
    pub dialled: Option<Rc<Dialled>>,
    /// Bytes of head and body as they went out, below TLS's own. By HTTP/2 the head counts as it would be written in
    /// HTTP/1.1, and of frames only what is in them.
    pub bytes_sent: u64,
}

impl Timings {
    /// Of a request that was made then, and for which nothing has happened yet.
    pub(crate) fn begun(started: Instant) -> Self {
        let zero = Duration::ZERO;
        Timings {
            started,
            placed: zero,
            connected: zero,
            sent: zero,
            answered: zero,
            reused: false,
            dialled: None,
            bytes_sent: 0,
        }
    }

    /// It has a place, or is to look for one once more.
    pub(crate) fn place(&mut self) {
        self.placed = self.elapsed();
        self.connected = self.placed;
    }

    /// What the connection knows of it.
    pub(crate) fn note_connection(&mut self, connection: &Connection) {
        self.dialled = connection.dialled().cloned();
        self.bytes_sent = connection.sent;
    }

    /// All that is noted, leaving nothing but the beginning.
    pub(crate) fn take(&mut self) -> Self {
        let started = self.started;
        std::mem::replace(self, Timings::begun(started))
    }

    /// How long ago that was.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}
