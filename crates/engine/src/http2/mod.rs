//! HTTP/2 (RFC 9113): many concurrent requests on one connection, each on a stream of its own.
//!
//! The crate h2 has the frames and the states of streams; this module makes a client of it. [`pool`] decides which
//! connection a request uses, and which request opens another. [`connection`] is one connection with the task that
//! drives it, over [`transport`], which keeps h2 from the socket while it holds its lock, and checks the frames that
//! pass ([`frames`]) and the fields in them ([`blocks`]). [`exchange`] is one request on a stream, [`fields`] its head
//! in either direction, [`outlet`] the request's body as it is sent, [`body`] the response's body, and [`error`] the
//! reasons that peers give.

mod blocks;
mod body;
mod connection;
pub(crate) mod error;
mod exchange;
mod fields;
mod frames;
mod outlet;
mod pool;
mod stream;
mod transport;

use std::time::Duration;

pub(crate) use body::Body;
pub(crate) use connection::StreamPermit;
pub use error::{Http2Error, What};
pub(crate) use exchange::{Answer, Failed, exchange};
pub(crate) use pool::{Assignment, DialPermit, Http2Pool};

/// The settings of HTTP/2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether the server is known to speak HTTP/2. If not, TLS has to agree on it (RFC 7301); else HTTP/1.1 is spoken.
    pub prior_knowledge: bool,
    /// The time of silence after which a PING is sent (RFC 9113 section 6.7). Without an answer within the same time
    /// again the connection is closed. `None` is never.
    pub ping_interval: Option<Duration>,
}

/// The flow-control window of a stream: what a peer may send of one response's body before it is read, and so the most
/// that it holds.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;

/// The flow-control window of a connection: no limit, since each stream has its own.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// The most concurrent streams on one connection, even if its peer allows more: all of their windows fit into the
/// connection's.
const STREAMS: usize = (CONNECTION_WINDOW / STREAM_WINDOW) as usize;

/// The most bytes that unread small DATA frames on one connection may cost beyond their content.
const SMALL_FRAMES: usize = 16 * 1024 * 1024;
