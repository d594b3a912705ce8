//! Why connections end, for statistics and for whoever keeps a journal of them.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use wire::framing::CloseReason;

use crate::{Error, Kind};

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The network, TLS or the peer broke it, or spoke no HTTP.
    Broken,
    /// Bytes came behind a complete response (RFC 9112 section 9.2): nobody may take them for his.
    BytesBehind,
    /// The client was closed.
    ClientClosed,
    /// The peer closed it, or said something unasked, while it was idle.
    EndedWhileIdle,
    /// A request, or the reading of a body, was given up in the middle.
    GivenUp,
    /// Its group had more idle connections than it may have, of which this one had been idle longest.
    IdleLimit,
    /// It had been idle for as long as it may be.
    IdleTimeout,
    /// The response was to be its last one.
    Response(CloseReason),
    /// Something took longer than it may.
    TimedOut,
}

impl Ending {
    /// Each of them.
    pub const ALL: [Ending; 14] = [
        Ending::Broken,
        Ending::BytesBehind,
        Ending::ClientClosed,
        Ending::EndedWhileIdle,
        Ending::GivenUp,
        Ending::IdleLimit,
        Ending::IdleTimeout,
        Ending::TimedOut,
        Ending::Response(CloseReason::AmbiguousFraming),
        Ending::Response(CloseReason::AskedByUs),
        Ending::Response(CloseReason::AskedByPeer),
        Ending::Response(CloseReason::CloseDelimitedBody),
        Ending::Response(CloseReason::Http10),
        Ending::Response(CloseReason::Upgraded),
    ];

    /// That of an exchange which ended with this error.
    pub fn of(error: &Error) -> Self {
        match error.kind() {
            Kind::Deadline(_) | Kind::Timeout(_) => Ending::TimedOut,
            Kind::Caller(_) | Kind::Misuse(_) => Ending::GivenUp,
            Kind::PoolClosed => Ending::ClientClosed,
            Kind::Closed | Kind::Http2(_) | Kind::Io(_) | Kind::Proxy(_) | Kind::Response(_) | Kind::Tls(_) => {
                Ending::Broken
            }
        }
    }

    /// A few words without blanks, as keys of statistics have them.
    pub fn name(self) -> &'static str {
        match self {
            Ending::Broken => "broken",
            Ending::BytesBehind => "bytes_behind_response",
            Ending::ClientClosed => "client_closed",
            Ending::EndedWhileIdle => "ended_while_idle",
            Ending::GivenUp => "given_up",
            Ending::IdleLimit => "idle_limit",
            Ending::IdleTimeout => "idle_timeout",
            Ending::TimedOut => "timed_out",
            Ending::Response(CloseReason::AmbiguousFraming) => "ambiguous_framing",
            Ending::Response(CloseReason::AskedByUs) => "asked_by_us",
            Ending::Response(CloseReason::AskedByPeer) => "asked_by_peer",
            Ending::Response(CloseReason::CloseDelimitedBody) => "body_until_close",
            Ending::Response(CloseReason::Http10) => "http_1_0",
            Ending::Response(CloseReason::Upgraded) => "upgraded",
        }
    }

    /// One line for logs.
    pub fn explain(self) -> &'static str {
        match self {
            Ending::Broken => "it broke",
            Ending::BytesBehind => "bytes came behind a complete response",
            Ending::ClientClosed => "the client was closed",
            Ending::EndedWhileIdle => "the peer ended it, or spoke unasked, while it was idle",
            Ending::GivenUp => "its request, or the response's body, was given up",
            Ending::IdleLimit => "too many connections were idle, and it had been so longest",
            Ending::IdleTimeout => "it had been idle for too long",
            Ending::TimedOut => "the time was over",
            Ending::Response(reason) => reason.explain(),
        }
    }

    /// Whether it tells of a peer that is not to be trusted.
    pub fn is_suspicious(self) -> bool {
        matches!(self, Ending::BytesBehind | Ending::Response(CloseReason::AmbiguousFraming))
    }
}

/// How often connections ended for which reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endings([u64; Ending::ALL.len()]);

impl Endings {
    fn place(ending: Ending) -> Option<usize> {
        Ending::ALL.iter().position(|&known| known == ending)
    }

    /// Of one kind.
    pub fn of(&self, ending: Ending) -> u64 {
        Self::place(ending).and_then(|place| self.0.get(place)).copied().unwrap_or_default()
    }

    /// Of any kind.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    fn count(&mut self, ending: Ending) {
        if let Some(count) = Self::place(ending).and_then(|place| self.0.get_mut(place)) {
            *count += 1;
        }
    }
}

/// Is told what becomes of connections, as it happens. It is called in the middle of things: it must not wait, and not
/// come back to the client.
pub trait Journal {
    /// A connection to `peer` was opened, which took that long.
    fn opened(&self, peer: &str, took: Duration);
    /// One was closed.
    fn closed(&self, peer: &str, ending: Ending);
    /// A request is sent again on a new connection, after this error on a kept-alive one.
    fn repeated(&self, peer: &str, error: &Error);
}

/// The counts of one pool, and its journal.
#[derive(Default)]
pub(crate) struct Records {
    endings: Cell<Endings>,
    journal: Option<Rc<dyn Journal>>,
    opened: Cell<u64>,
    repeated: Cell<u64>,
}

impl Records {
    pub(crate) fn new(journal: Option<Rc<dyn Journal>>) -> Self {
        Records { journal, ..Records::default() }
    }

    pub(crate) fn endings(&self) -> Endings {
        self.endings.get()
    }

    pub(crate) fn opened(&self) -> u64 {
        self.opened.get()
    }

    pub(crate) fn repeated(&self) -> u64 {
        self.repeated.get()
    }

    pub(crate) fn count_opened(&self, peer: &str, took: Duration) {
        self.opened.set(self.opened.get() + 1);
        if let Some(journal) = &self.journal {
            journal.opened(peer, took);
        }
    }

    pub(crate) fn count_closed(&self, peer: &str, ending: Ending) {
        let mut endings = self.endings.get();
        endings.count(ending);
        self.endings.set(endings);
        if let Some(journal) = &self.journal {
            journal.closed(peer, ending);
        }
    }

    pub(crate) fn count_repeated(&self, peer: &str, error: &Error) {
        self.repeated.set(self.repeated.get() + 1);
        if let Some(journal) = &self.journal {
            journal.repeated(peer, error);
        }
    }
}
