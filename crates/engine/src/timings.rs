//! Durations of the steps of a request, noted as each one ends.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How a connection was opened. `None` is a step that did not take place.
#[derive(Clone, Debug, Default)]
pub struct Dialled {
    /// Resolving names.
    pub resolve: Option<Duration>,
    /// Connecting to one of the addresses.
    pub connect: Option<Duration>,
    /// All steps with a proxy, the TLS handshake with it included.
    pub proxy: Option<Duration>,
    /// The TLS handshake with the origin.
    pub tls: Option<Duration>,
    /// The address that the socket is connected to: a proxy's, if there is one.
    pub address: Option<Address>,
}

/// The other end of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP address.
    Inet(SocketAddr),
    /// The path of a Unix domain socket.
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

    /// Adds the time since the end of the step before to `step`, which may have several parts.
    pub(crate) fn end(&self, step: Step) {
        let now = Instant::now();
        let lap = now.saturating_duration_since(self.since.replace(now));
        let mut took = self.took.get();
        if let Some(note_placed) = took.get_mut(step as usize) {
            *note_placed = Some(note_placed.unwrap_or_default() + lap);
        }
        self.took.set(took);
    }

    /// Returns all steps, with the address of the other end.
    pub(crate) fn dialled(&self, address: Option<Address>) -> Dialled {
        let [resolve, connect, proxy, tls] = self.took.get();
        Dialled { resolve, connect, proxy, tls, address }
    }
}

/// The timings of a request, up to the head of its response. The body knows the rest.
#[derive(Clone, Debug)]
pub struct Timings {
    /// When the request was made.
    pub started: Instant,
    /// The time from `started` until it had a place in the pool, or a connection that was open. For a request that was
    /// sent again, this includes everything before the last attempt.
    pub placed: Duration,
    /// The time from `started` until the connection was open, and sending began.
    pub connected: Duration,
    /// The time from `started` until the last byte was sent.
    pub sent: Duration,
    /// The time from `started` until the response's head had come.
    pub answered: Duration,
    /// Whether the connection had been opened for another request.
    pub reused: bool,
    /// How the connection was opened.
    pub dialled: Option<Rc<Dialled>>,
    /// Bytes of head and body that were sent, without those of TLS. For HTTP/2 the head counts as it would be written
    /// in HTTP/1.1, and of frames only their content.
    pub bytes_sent: u64,
}

impl Timings {
    /// Creates the timings of a request that was made at `started`.
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

    /// Notes that the request has a pool slot, or starts to wait for one again.
    pub(crate) fn note_placed(&mut self) {
        self.placed = self.elapsed();
        self.connected = self.placed;
    }

    /// Takes all that was noted; only the start remains.
    pub(crate) fn take(&mut self) -> Self {
        let started = self.started;
        std::mem::replace(self, Timings::begun(started))
    }

    /// Returns the time since the request was made.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}
