//! HTTP/2 (RFC 9113): many requests at a time on one connection, each a stream of its own.
//!
//! The frames and the states of streams are the crate h2's; what is here is how a client of ours lives with them.
//! [`sessions`] decides which connection a request goes to, and who opens one. [`session`] is one connection with the
//! task that drives it, over [`transport`], which keeps h2 from the socket while it holds its lock, and looks at the
//! frames that come by ([`frames`]) and at the fields in them ([`blocks`]). [`exchange`] is one request on a stream, [`fields`] its head in either direction,
//! [`body`] what comes after that, and [`error`] what peers give as reasons.

mod blocks;
mod body;
mod error;
mod exchange;
mod fields;
mod frames;
mod session;
mod sessions;
mod stream;
mod transport;

use std::time::Duration;

pub(crate) use body::Body;
pub use error::{Http2Error, What};
pub(crate) use exchange::{Bounds, Failed, exchange};
pub(crate) use session::Slot;
pub(crate) use sessions::{Sessions, Way};

/// When HTTP/2 is spoken, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether the peer is known to speak it; else TLS has to agree on it (RFC 7301), and without that HTTP/1.1 is spoken.
    pub prior_knowledge: bool,
    /// After how much silence of the peer it is asked for a sign of life (RFC 9113 section 6.7); given as much time
    /// again, it is taken for dead. `None` is never.
    pub ping_interval: Option<Duration>,
}

/// What a peer may send of one response's body before somebody reads it: what that one holds at most.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;

/// What a peer may send of all of them: no limit, since each has its own.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// Streams at a time on one connection, whatever its peer allows: all of their windows are in the connection's.
const STREAMS: usize = (CONNECTION_WINDOW / STREAM_WINDOW) as usize;

/// Bytes that small DATA frames which nobody has read may cost beyond what is in them, on one connection.
const SMALL_FRAMES: usize = 16 * 1024 * 1024;
