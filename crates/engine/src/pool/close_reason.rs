//! Reasons for which connections are closed, for statistics and logs.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use wire::framing::CloseCause;

use crate::error::{Error, Kind};
use crate::pool::exhaustion::Exhaustion;

/// Reason for which a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The network, TLS or the peer broke it, or the peer does not speak HTTP.
    Broken,
    /// Bytes came behind a complete response (RFC 9112 section 9.2), which must not be taken for the next one.
    BytesBehind,
    /// The client was closed.
    ClientClosed,
    /// The peer closed it or sent unsolicited data while it was idle.
    EndedWhileIdle,
    /// A request, or the reading of a body, was cancelled.
    GivenUp,
    /// Its group had too many idle connections, of which this one had been idle longest.
    IdleLimit,
    /// It had been idle for the idle timeout.
    IdleTimeout,
    /// The response was its last one.
    Response(CloseCause),
    /// A timeout has passed.
    TimedOut,
}

impl CloseReason {
    /// All reasons.
    pub const ALL: [CloseReason; 14] = [
        CloseReason::Broken,
        CloseReason::BytesBehind,
        CloseReason::ClientClosed,
        CloseReason::EndedWhileIdle,
        CloseReason::GivenUp,
        CloseReason::IdleLimit,
        CloseReason::IdleTimeout,
        CloseReason::TimedOut,
        CloseReason::Response(CloseCause::AmbiguousFraming),
        CloseReason::Response(CloseCause::AskedByUs),
        CloseReason::Response(CloseCause::AskedByPeer),
        CloseReason::Response(CloseCause::CloseDelimitedBody),
        CloseReason::Response(CloseCause::Http10),
        CloseReason::Response(CloseCause::Upgraded),
    ];

    /// Returns the reason after an exchange that failed.
    pub fn of(error: &Error) -> Self {
        match error.kind() {
            Kind::Deadline(_) | Kind::Timeout(_) => CloseReason::TimedOut,
            Kind::Caller(_) | Kind::Held | Kind::Misuse(_) => CloseReason::GivenUp,
            Kind::PoolClosed => CloseReason::ClientClosed,
            Kind::Closed | Kind::Http2(_) | Kind::Io(_) | Kind::Proxy(_) | Kind::Response(_) | Kind::Tls(_) => {
                CloseReason::Broken
            }
        }
    }

    /// Returns the name of the reason in statistics.
    pub fn name(self) -> &'static str {
        match self {
            CloseReason::Broken => "broken",
            CloseReason::BytesBehind => "bytes_behind_response",
            CloseReason::ClientClosed => "client_closed",
            CloseReason::EndedWhileIdle => "ended_while_idle",
            CloseReason::GivenUp => "given_up",
            CloseReason::IdleLimit => "idle_limit",
            CloseReason::IdleTimeout => "idle_timeout",
            CloseReason::TimedOut => "timed_out",
            CloseReason::Response(CloseCause::AmbiguousFraming) => "ambiguous_framing",
            CloseReason::Response(CloseCause::AskedByUs) => "asked_by_us",
            CloseReason::Response(CloseCause::AskedByPeer) => "asked_by_peer",
            CloseReason::Response(CloseCause::CloseDelimitedBody) => "body_until_close",
            CloseReason::Response(CloseCause::Http10) => "http_1_0",
            CloseReason::Response(CloseCause::Upgraded) => "upgraded",
        }
    }

    /// Returns one line for logs.
    pub fn explain(self) -> &'static str {
        match self {
            CloseReason::Broken => "it broke",
            CloseReason::BytesBehind => "bytes came behind a complete response",
            CloseReason::ClientClosed => "the client was closed",
            CloseReason::EndedWhileIdle => "the peer closed it or sent unsolicited data while it was idle",
            CloseReason::GivenUp => "its request, or the response's body, was given up",
            CloseReason::IdleLimit => "too many connections were idle, and it had been so longest",
            CloseReason::IdleTimeout => "it had been idle for too long",
            CloseReason::TimedOut => "the time was over",
            CloseReason::Response(reason) => reason.explain(),
        }
    }

    /// Returns whether the peer may be malicious.
    pub fn is_suspicious(self) -> bool {
        matches!(self, CloseReason::BytesBehind | CloseReason::Response(CloseCause::AmbiguousFraming))
    }
}

/// Numbers of closed connections, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloseCounts([u64; CloseReason::ALL.len()]);

impl CloseCounts {
    fn index(reason: CloseReason) -> Option<usize> {
        CloseReason::ALL.iter().position(|&known| known == reason)
    }

    /// Returns the count of one reason.
    pub fn of(&self, reason: CloseReason) -> u64 {
        Self::index(reason).and_then(|index| self.0.get(index)).copied().unwrap_or_default()
    }

    /// Returns the count of all reasons.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    fn count(&mut self, reason: CloseReason) {
        if let Some(count) = Self::index(reason).and_then(|index| self.0.get_mut(index)) {
            *count += 1;
        }
    }
}

/// Observer of connections, called as they are opened and closed. The calls happen in the middle of other work: they
/// must not wait, and must not call the client.
pub trait ConnectionObserver {
    /// Called when a connection to `peer` was opened within `took`.
    fn opened(&self, peer: &str, took: Duration);
    /// Called when a connection was closed.
    fn closed(&self, peer: &str, reason: CloseReason);
    /// Called when a request is sent again on a new connection, after this error on a kept-alive one.
    fn repeated(&self, peer: &str, error: &Error);
    /// Called when a request has waited for a connection for long, once for each pool.
    fn waits(&self, exhaustion: &Exhaustion);
}

/// The counts of one pool, and its observer.
#[derive(Default)]
pub(crate) struct PoolCounters {
    close_counts: Cell<CloseCounts>,
    observer: Option<Rc<dyn ConnectionObserver>>,
    opened: Cell<u64>,
    repeated: Cell<u64>,
    has_warned: Cell<bool>,
}

impl PoolCounters {
    pub(crate) fn new(observer: Option<Rc<dyn ConnectionObserver>>) -> Self {
        PoolCounters { observer, ..PoolCounters::default() }
    }

    pub(crate) fn close_counts(&self) -> CloseCounts {
        self.close_counts.get()
    }

    pub(crate) fn opened(&self) -> u64 {
        self.opened.get()
    }

    pub(crate) fn repeated(&self) -> u64 {
        self.repeated.get()
    }

    pub(crate) fn count_opened(&self, peer: &str, took: Duration) {
        self.opened.set(self.opened.get() + 1);
        if let Some(observer) = &self.observer {
            observer.opened(peer, took);
        }
    }

    pub(crate) fn count_closed(&self, peer: &str, reason: CloseReason) {
        let mut close_counts = self.close_counts.get();
        close_counts.count(reason);
        self.close_counts.set(close_counts);
        if let Some(observer) = &self.observer {
            observer.closed(peer, reason);
        }
    }

    pub(crate) fn count_repeated(&self, peer: &str, error: &Error) {
        self.repeated.set(self.repeated.get() + 1);
        if let Some(observer) = &self.observer {
            observer.repeated(peer, error);
        }
    }

    /// Reports a long wait, the first time.
    pub(crate) fn warn(&self, exhaustion: &Exhaustion) {
        if let Some(observer) = &self.observer
            && !self.has_warned.replace(true)
        {
            observer.waits(exhaustion);
        }
    }
}
