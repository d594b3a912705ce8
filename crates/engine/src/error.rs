//! What can go wrong, in which phase of the trip, with which peer, after how long.

use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use wire::ResponseError;

use crate::http2::Http2Error;
use crate::proxy::Refusal;
use crate::tls::TlsError;

/// The result of whatever talks to a peer.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the code that drives the engine: it goes through unchanged.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Where a request was when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Reading the response's body.
    Body,
    /// Opening the connection.
    Connect,
    /// Waiting for, or reading, the response's head.
    Head,
    /// Waiting for a connection of the pool.
    Pool,
    /// Asking a proxy for the way to the origin.
    Proxy,
    /// Turning the host's name into addresses.
    Resolve,
    /// Writing the request.
    Send,
    /// Shaking hands for TLS.
    Tls,
}

impl Phase {
    /// One word, as errors carry it.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Body => "body",
            Phase::Connect => "connect",
            Phase::Head => "head",
            Phase::Pool => "pool",
            Phase::Proxy => "proxy",
            Phase::Resolve => "resolve",
            Phase::Send => "send",
            Phase::Tls => "tls",
        }
    }

    fn doing(self) -> &'static str {
        match self {
            Phase::Body => "reading the body from",
            Phase::Connect => "connecting to",
            Phase::Head => "waiting for the response of",
            Phase::Pool => "waiting for a connection to",
            Phase::Proxy => "asking the proxy",
            Phase::Resolve => "resolving",
            Phase::Send => "sending to",
            Phase::Tls => "shaking hands with",
        }
    }
}

/// What happened, sorted by who is to blame.
#[derive(Debug)]
pub enum Kind {
    /// You: the code that drives us failed (a resolver, the source of a body).
    Caller(BoxError),
    /// They: the connection was closed before a byte of the response came.
    Closed,
    /// Nobody in particular: the request was not over after that long, though it may have come along.
    Deadline(Duration),
    /// They, mostly: a stream or a connection ended by the rules of HTTP/2.
    Http2(Http2Error),
    /// The network, as the system calls it.
    Io(io::Error),
    /// You: the request contradicts itself.
    Misuse(&'static str),
    /// You: the pool was closed.
    PoolClosed,
    /// They: the proxy will not, or cannot, pass us on.
    Proxy(Refusal),
    /// They: no HTTP/1.x response, or a broken one.
    Response(ResponseError),
    /// The network or they: nothing happened for that long.
    Timeout(Duration),
    /// They: who they are is not proven, or what they say is not TLS. Or you: what you ask for cannot be had.
    Tls(TlsError),
}

impl Kind {
    /// The same again, for somebody else whom it concerns; `None` where that cannot be: the caller's own error is one
    /// object.
    pub(crate) fn copy(&self) -> Option<Self> {
        Some(match self {
            Kind::Caller(_) => return None,
            Kind::Closed => Kind::Closed,
            Kind::Deadline(limit) => Kind::Deadline(*limit),
            Kind::Http2(error) => Kind::Http2(error.clone()),
            Kind::Io(error) => Kind::Io(match error.raw_os_error() {
                Some(number) => io::Error::from_raw_os_error(number),
                // A Python socket's exception may travel inside, which is one object as well.
                None if error.get_ref().is_some() => return None,
                None => error.kind().into(),
            }),
            Kind::Misuse(what) => Kind::Misuse(what),
            Kind::PoolClosed => Kind::PoolClosed,
            Kind::Proxy(refusal) => Kind::Proxy(refusal.clone()),
            Kind::Response(error) => Kind::Response(error.clone()),
            Kind::Timeout(limit) => Kind::Timeout(*limit),
            Kind::Tls(error) => Kind::Tls(error.clone()),
        })
    }
}

impl From<io::Error> for Kind {
    /// What TLS has to say travels in an error of the stream below it.
    fn from(error: io::Error) -> Self {
        match TlsError::within(&error) {
            Some(error) => Kind::Tls(error),
            None => Kind::Io(error),
        }
    }
}

/// A failed request. Display says what happened, in which phase and with whom, and never after how long: programs
/// group failures by their text.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    phase: Phase,
    peer: Option<Rc<str>>,
    elapsed: Option<Duration>,
}

impl Error {
    /// With no peer yet.
    #[cold]
    pub fn new(kind: Kind, phase: Phase) -> Self {
        Error(Box::new(Inner { kind, phase, peer: None, elapsed: None }))
    }

    /// The same error, from `peer`, unless it names one.
    #[cold]
    pub fn with_peer(mut self, peer: &Rc<str>) -> Self {
        self.0.peer.get_or_insert_with(|| peer.clone());
        self
    }

    /// The same error, that long after the request was made.
    #[cold]
    pub fn after(mut self, elapsed: Duration) -> Self {
        self.0.elapsed.get_or_insert(elapsed);
        self
    }

    /// What happened.
    pub fn kind(&self) -> &Kind {
        &self.0.kind
    }

    /// What happened, to be taken apart.
    pub fn into_kind(self) -> Kind {
        self.0.kind
    }

    /// Where the request was.
    pub fn phase(&self) -> Phase {
        self.0.phase
    }

    /// `host:port` of the other side.
    pub fn peer(&self) -> Option<&str> {
        self.0.peer.as_deref()
    }

    /// From the start of the request to its failure.
    pub fn elapsed(&self) -> Option<Duration> {
        self.0.elapsed
    }

    /// ` (connecting to 127.0.0.1:80)`: to be put behind the words of the error.
    pub fn context(&self) -> String {
        match self.peer() {
            Some(peer) => format!(" ({} {peer})", self.phase().doing()),
            None => String::new(),
        }
    }

    /// Whether the connection broke, so that another one may do better.
    pub fn is_disconnect(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
        match self.kind() {
            Kind::Closed => true,
            Kind::Io(error) => {
                matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            Kind::Caller(error) => return error.fmt(f),
            Kind::Closed => f.write_str("connection closed by the peer before it answered"),
            Kind::Deadline(limit) => write!(f, "not done after {} s in all", limit.as_secs_f64()),
            Kind::Http2(error) => error.fmt(f),
            Kind::Io(error) => error.fmt(f),
            Kind::Misuse(what) => f.write_str(what),
            Kind::PoolClosed => return f.write_str("connection pool closed"),
            Kind::Proxy(refusal) => refusal.fmt(f),
            Kind::Response(error) => error.fmt(f),
            Kind::Timeout(limit) => write!(f, "timed out after {} s", limit.as_secs_f64()),
            Kind::Tls(error) => error.fmt(f),
        }?;
        f.write_str(&self.context())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self.kind() {
            Kind::Caller(error) => Some(error.as_ref()),
            Kind::Http2(error) => Some(error),
            Kind::Io(error) => Some(error),
            Kind::Response(error) => Some(error),
            Kind::Tls(error) => Some(error),
            _ => None,
        }
    }
}
