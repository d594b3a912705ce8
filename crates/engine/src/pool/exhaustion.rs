//! The reason that a request waits for a connection, for errors and warnings.

use std::time::Duration;

/// The reason that no connection is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhaustion {
    /// The noun for the limited resource: connections or streams.
    pub(crate) of: &'static str,
    /// Number of these resources.
    pub(crate) limit: usize,
    /// Number of those that responses hold.
    pub(crate) held: usize,
    /// Time for which the oldest of these responses has held one.
    pub(crate) oldest: Duration,
    /// True if another task opens a connection, which will serve the waiting tasks.
    pub(crate) opening: bool,
}

impl Exhaustion {
    /// Returns a text with the reason and the remedies.
    pub fn explain(&self, peer: &str) -> String {
        const UNREAD: &str = "by responses that have not been read to their end";
        const REMEDIES: &str = "read them, use `with`, call release(), or raise `concurrency`";
        let Exhaustion { of, limit, held, oldest, opening } = *self;
        match (limit, held) {
            _ if opening => format!("a connection to {peer} is being opened"),
            (0, _) => format!("{peer} takes no requests now"),
            (_, 0) => format!("all {limit} {of} to {peer} are in use"),
            _ if held == limit => {
                let seconds = oldest.as_secs_f64();
                format!("all {limit} {of} to {peer} are held {UNREAD}, the oldest since {seconds:.1} s; {REMEDIES}")
            }
            _ => format!("all {limit} {of} to {peer} are in use ({held} {UNREAD}; {REMEDIES})"),
        }
    }
}
