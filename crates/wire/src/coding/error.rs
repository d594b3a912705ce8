//! Errors of a body that cannot be decoded.

use super::name::{Coding, MOST_CODINGS};

/// Errors of a body that is not encoded as its headers say, or that decodes to more than is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodingError {
    /// The body ended before the stream of the coding.
    #[error("{0}: the body ends before the stream does")]
    CutShort(Coding),
    /// The stream is malformed, or its checksum is wrong.
    #[error("{coding}: {words}")]
    Damaged {
        /// Coding of the body.
        coding: Coding,
        /// Message of the decoder.
        words: String,
    },
    /// No memory for the decoded body.
    #[error("no memory for the decoded body")]
    OutOfMemory,
    /// More decoded bytes than [`coding`](super) allows for the bytes received, or than the given limit.
    #[error("{coding}: the body decodes to more than the {allowed} bytes that are allowed")]
    TooLarge {
        /// Coding whose stage produced too much.
        coding: Coding,
        /// Maximum number of bytes.
        allowed: u64,
    },
    /// More codings than [`MOST_CODINGS`].
    #[error("Content-Encoding: {0} codings, and at most {MOST_CODINGS} are decoded")]
    TooMany(usize),
}
