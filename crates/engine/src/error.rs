//! Errors a request can fail with: the kind, the phase, the peer and the elapsed time.

use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use wire::ResponseError;

use crate::connect::proxy::error::Refusal;
use crate::http2::error::Http2Error;
use crate::pool::exhaustion::Exhaustion;
use crate::tls::error::TlsError;

/// The result of an operation that talks to a peer.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the code that drives the engine. It is passed on unchanged.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The step of a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Reading the response's body.
    Body,
    /// Opening the connection.
    Connect,
    /// Waiting for, or reading, the response's head.
    Head,
    /// Waiting for a connection from the pool.
    Pool,
    /// Asking a proxy for a tunnel to the origin.
    Proxy,
    /// Resolving the host's name.
    Resolve,
    /// Writing the request.
    Send,
    /// The TLS handshake.
    Tls,
}

impl Phase {
    /// Returns the name of the phase, as errors carry it.
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
            Phase::Proxy => "asking",
            Phase::Resolve => "resolving",
            Phase::Send => "sending to",
            Phase::Tls => "in the TLS handshake with",
        }
    }
}

/// The kind of failure, and which side caused it.
#[derive(Debug)]
pub enum Kind {
    /// The program: the code that drives the engine failed (a resolver, the source of a body).
    Caller(BoxError),
    /// The peer: it closed the connection before a byte of the response came.
    Closed,
    /// Either side: the request was not complete within its total timeout, even if it was making progress.
    Deadline(Duration),
    /// The program: the request waits for connections that its own task's responses hold.
    Held,
    /// Mostly the peer: it ended a stream or a connection according to the rules of HTTP/2.
    Http2(Http2Error),
    /// The network, as the system reports it.
    Io(io::Error),
    /// The program: the request contradicts itself.
    Misuse(&'static str),
    /// The program: the pool was closed.
    PoolClosed,
    /// The proxy: it did not open a tunnel.
    Proxy(Refusal),
    /// The peer: its response is malformed, or is not HTTP/1.x.
    Response(ResponseError),
    /// The network or the peer: nothing happened within the timeout.
    Timeout(Duration),
    /// The peer: its certificate was not accepted, or its bytes are not TLS. Or the program: its TLS settings cannot be
    /// met.
    Tls(TlsError),
}

impl Kind {
    /// Returns the same error for another request that it affects. Returns `None` for an error that is one object: that
    /// of the caller's own code.
    pub(crate) fn copy(&self) -> Option<Self> {
        Some(match self {
            Kind::Caller(_) => return None,
            Kind::Closed => Kind::Closed,
            Kind::Deadline(limit) => Kind::Deadline(*limit),
            Kind::Held => Kind::Held,
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
    /// Takes out the [`TlsError`] that a TLS stream reports through an error of its own.
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
            Some(error) => Kind::Tls(error.clone()),
            None => Kind::Io(error),
        }
    }
}

impl From<Refusal> for Kind {
    fn from(refusal: Refusal) -> Self {
        Kind::Proxy(refusal)
    }
}

/// A failed request. Display says what happened, in which phase and with which peer, and never after how long: programs
/// group failures by their text.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    phase: Phase,
    peer: Option<Rc<str>>,
    is_of_proxy: bool,
    elapsed: Option<Duration>,
    /// Why no connection was free, for a request that waited for one.
    exhaustion: Option<Exhaustion>,
}

impl Error {
    /// Creates an error without a peer.
    #[cold]
    pub fn new(kind: Kind, phase: Phase) -> Self {
        let is_of_proxy = phase == Phase::Proxy;
        Error(Box::new(Inner { kind, phase, peer: None, is_of_proxy, elapsed: None, exhaustion: None }))
    }

    /// Returns the same error with `peer`, unless it names one already.
    #[cold]
    pub fn with_peer(mut self, peer: &Rc<str>) -> Self {
        self.0.peer.get_or_insert_with(|| peer.clone());
        self
    }

    /// Returns the same error with the proxy as its peer, which Display mentions.
    #[cold]
    pub(crate) fn of_proxy(mut self) -> Self {
        self.0.is_of_proxy = true;
        self
    }

    /// Returns the same error with the time since the request was made, unless it has one already.
    #[cold]
    pub fn after(mut self, elapsed: Duration) -> Self {
        self.0.elapsed.get_or_insert(elapsed);
        self
    }

    /// Returns the same error with the reason why no connection was free.
    #[cold]
    pub(crate) fn with_exhaustion(mut self, exhaustion: Exhaustion) -> Self {
        self.0.exhaustion = Some(exhaustion);
        self
    }

    /// Returns what happened.
    pub fn kind(&self) -> &Kind {
        &self.0.kind
    }

    pub(crate) fn kind_mut(&mut self) -> &mut Kind {
        &mut self.0.kind
    }

    /// Returns what happened, by value.
    pub fn into_kind(self) -> Kind {
        self.0.kind
    }

    /// Returns the phase of the request.
    pub fn phase(&self) -> Phase {
        self.0.phase
    }

    /// Returns `host:port` of the other side.
    pub fn peer(&self) -> Option<&str> {
        self.0.peer.as_deref()
    }

    /// Returns the time from the start of the request to its failure.
    pub fn elapsed(&self) -> Option<Duration> {
        self.0.elapsed
    }

    /// Returns ` (connecting to 127.0.0.1:80)`, to be appended to the text of the error.
    pub fn context(&self) -> String {
        match self.peer() {
            Some(peer) if self.0.is_of_proxy => format!(" ({} the proxy {peer})", self.phase().doing()),
            Some(peer) => format!(" ({} {peer})", self.phase().doing()),
            None => String::new(),
        }
    }

    /// Returns whether the connection broke, so that another one may succeed.
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
            Kind::Deadline(limit) => write!(f, "not complete after {} s in total", limit.as_secs_f64()),
            Kind::Held => f.write_str("the wait would never end"),
            Kind::Http2(error) => error.fmt(f),
            Kind::Io(error) => error.fmt(f),
            Kind::Misuse(what) => f.write_str(what),
            Kind::PoolClosed => return f.write_str("connection pool closed"),
            Kind::Proxy(refusal) => refusal.fmt(f),
            Kind::Response(error) => error.fmt(f),
            Kind::Timeout(limit) => write!(f, "timed out after {} s", limit.as_secs_f64()),
            Kind::Tls(error) => error.fmt(f),
        }?;
        f.write_str(&self.context())?;
        match &self.0.exhaustion {
            Some(exhaustion) => write!(f, ": {}", exhaustion.explain(self.peer().unwrap_or("the server"))),
            None => Ok(()),
        }
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
