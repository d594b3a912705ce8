//! What can be wrong with a message, sorted by who is to blame: [`RequestError`] is the caller's, [`ResponseError`] and
//! [`CodingError`] are the peer's.

use crate::coding::{Coding, MOST_CODINGS};

/// The caller asked for a request that must not be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// RFC 9110 section 5.5: CR, LF, NUL and other controls would let a value forge lines of its own.
    #[error("Invalid value of header {name:?}: it holds the control character {byte:#04x}")]
    FieldValue {
        /// The field's name.
        name: String,
        /// The first byte that does not belong.
        byte: u8,
    },
    /// RFC 9110 section 5.1: a field name is a token.
    #[error("Invalid header name {0:?}: not a token")]
    FieldName(String),
    /// RFC 9110 section 9.1: a method is a token.
    #[error("Invalid method {0:?}: not a token")]
    Method(String),
    /// RFC 9112 section 3.2: no whitespace and no controls in a request target.
    #[error("Invalid request target {0:?}: white space and control characters must be percent-encoded")]
    Target(String),
    /// RFC 9110 section 6.5.1: what must be known before the body comes too late behind it.
    #[error("Invalid trailer {0:?}: such a field must not follow a body")]
    Trailer(String),
}

/// The peer sent what is no HTTP/1.x response, or one that cannot be trusted to end where it seems to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// RFC 9112 section 7.1: a chunk's data is not followed by CRLF.
    #[error("Invalid chunk: its data is not followed by CRLF")]
    ChunkEnd,
    /// RFC 9112 section 7.1.1: a chunk-size line that never ends, or with controls in its extensions.
    #[error("Invalid chunk extension: {0}")]
    ChunkExtension(&'static str),
    /// RFC 9112 section 7.1: not 1 to 16 hexadecimal digits.
    #[error("Invalid character in chunk size")]
    ChunkSize,
    /// RFC 9112 section 6.3: not a number, or several that differ.
    #[error("Invalid Content-Length {0:?}")]
    ContentLength(String),
    /// The connection ended before the message did.
    #[error("Connection closed before the message was complete: {0}")]
    EarlyEnd(&'static str),
    /// More than [`Limits::head_bytes`](crate::Limits::head_bytes).
    #[error("Response head too large: more than {0} bytes")]
    HeadTooLarge(usize),
    /// RFC 9112 section 5.1: a field name that is no token, or has a blank before its colon.
    #[error("Invalid header token")]
    HeaderToken,
    /// RFC 9110 section 5.5: a control character.
    #[error("Invalid header value char")]
    HeaderValue,
    /// A second response began where none was asked for.
    #[error("Data after the complete response")]
    Glued,
    /// The first bytes are not `HTTP/`.
    #[error("Expected HTTP/, got {0:?}")]
    NotHttp(String),
    /// RFC 9112 section 4: not three digits, or below 100.
    #[error("Invalid status code")]
    Status,
    /// More than [`Limits::interim_responses`](crate::Limits::interim_responses).
    #[error("Too many interim responses: more than {0}")]
    TooManyInterim(usize),
    /// More than [`Limits::header_count`](crate::Limits::header_count).
    #[error("Too many header fields: more than {0}")]
    TooManyHeaders(usize),
    /// RFC 9112 section 7.1: a line behind the last chunk that does not end with CRLF.
    #[error("Invalid line end in the trailer section: not CRLF")]
    TrailerEnd,
    /// More than [`Limits::trailer_bytes`](crate::Limits::trailer_bytes).
    #[error("Trailer section too large: more than {0} bytes")]
    TrailersTooLarge(usize),
    /// RFC 9112 section 6.1: a coding that was never offered, or chunked applied twice.
    #[error("Unsupported Transfer-Encoding {0:?}")]
    TransferEncoding(String),
    /// Only HTTP/1.0 and HTTP/1.1 are understood here.
    #[error("Invalid HTTP version")]
    Version,
}

impl ResponseError {
    /// The number that programs know these errors by: that of the same error in llhttp.
    pub fn code(&self) -> i32 {
        match self {
            ResponseError::ChunkEnd | ResponseError::TrailerEnd => 2,
            ResponseError::Glued => 5,
            ResponseError::NotHttp(_) => 8,
            ResponseError::Version => 9,
            ResponseError::HeaderToken | ResponseError::HeaderValue => 10,
            ResponseError::ContentLength(_) => 11,
            ResponseError::ChunkSize | ResponseError::ChunkExtension(_) => 12,
            ResponseError::Status => 13,
            ResponseError::EarlyEnd(_) => 14,
            ResponseError::TransferEncoding(_) => 15,
            // llhttp knows no limits; 24 is its code for what the user of the parser refuses.
            ResponseError::HeadTooLarge(_)
            | ResponseError::TooManyHeaders(_)
            | ResponseError::TooManyInterim(_)
            | ResponseError::TrailersTooLarge(_) => 24,
        }
    }
}

/// The peer sent a body that is not coded as it says, or one that grows beyond what was allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodingError {
    /// The body ended before the coding's stream did.
    #[error("{0}: the body ends before the stream does")]
    CutShort(Coding),
    /// Not what the coding looks like, or a checksum that does not fit.
    #[error("{coding}: {words}")]
    Damaged {
        /// What the body was said to be.
        coding: Coding,
        /// What is wrong with it, in the decoder's words.
        words: String,
    },
    /// There is no memory for what the body decodes to.
    #[error("no memory for the decoded body")]
    OutOfMemory,
    /// More than [`coding`](crate::coding) allows for what was sent, or than the limit that was given.
    #[error("{coding}: the body decodes to more than the {allowed} bytes that are allowed")]
    TooLarge {
        /// The coding whose stage made too much.
        coding: Coding,
        /// In bytes.
        allowed: u64,
    },
    /// More than [`MOST_CODINGS`].
    #[error("Content-Encoding: {0} codings, and at most {MOST_CODINGS} are undone")]
    TooMany(usize),
}
