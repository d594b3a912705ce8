//! Errors in a message: [`RequestError`] is the caller's fault, [`ResponseError`] the peer's.

/// Errors of a request that must not be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// RFC 9110 section 5.5: CR, LF, NUL or another control character, which could forge a line.
    #[error("Invalid value of header {name:?}: it contains the control character {byte:#04x}")]
    FieldValue {
        /// Name of the field.
        name: String,
        /// First forbidden byte.
        byte: u8,
    },
    /// RFC 9110 section 5.1: a field name that is not a token.
    #[error("Invalid header name {0:?}: not a token")]
    FieldName(String),
    /// RFC 9112 section 3.2: a request target that is a URL of another origin.
    #[error("Invalid host in URL {url:?}: this client is for {own}")]
    ForeignTarget {
        /// Redacted target.
        url: String,
        /// Origin of the client.
        own: String,
    },
    /// RFC 9110 section 9.1: a method that is not a token.
    #[error("Invalid method {0:?}: not a token")]
    Method(String),
    /// A request target that is a URL of a protocol other than http and https.
    #[error("Invalid URL {0:?}: this client speaks http and https alone")]
    Scheme(String),
    /// RFC 9112 section 3.2: white space or a control character in a request target.
    #[error("Invalid request target {0:?}: white space and control characters must be percent-encoded")]
    Target(String),
    /// RFC 9110 section 6.5.1: a field that recipients need before the body.
    #[error("Invalid trailer {0:?}: this field must not follow a body")]
    Trailer(String),
}

/// Errors of a response: not HTTP/1.x, too large, or with an end that cannot be determined safely.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// RFC 9112 section 7.1: data of a chunk that is not followed by CRLF.
    #[error("Invalid chunk: its data is not followed by CRLF")]
    ChunkEnd,
    /// RFC 9112 section 7.1.1: a chunk-size line that is too long, or has control characters in its extensions.
    #[error("Invalid chunk extension: {0}")]
    ChunkExtension(&'static str),
    /// RFC 9112 section 7.1: a chunk size other than 1 to 16 hexadecimal digits.
    #[error("Invalid character in chunk size")]
    ChunkSize,
    /// RFC 9112 section 6.3: a Content-Length that is not a number, or several that differ.
    #[error("Invalid Content-Length {0:?}")]
    ContentLength(String),
    /// The connection ended before the message did.
    #[error("Connection closed before the message was complete: {0}")]
    EarlyEnd(&'static str),
    /// More than [`Limits::head_bytes`](crate::Limits::head_bytes).
    #[error("Response head too large: more than {0} bytes")]
    HeadTooLarge(usize),
    /// RFC 9112 section 5.1: a field name that is not a token, or has a blank before its colon.
    #[error("Invalid header token")]
    HeaderToken,
    /// RFC 9110 section 5.5: a control character in a field value.
    #[error("Invalid header value char")]
    HeaderValue,
    /// A second response that no request asked for.
    #[error("Data after the complete response")]
    Glued,
    /// More than [`Limits::interim_bytes`](crate::Limits::interim_bytes).
    #[error("Interim responses too large: more than {0} bytes")]
    InterimTooLarge(usize),
    /// The first bytes are not `HTTP/`.
    #[error("Expected HTTP/, got {0:?}")]
    NotHttp(String),
    /// RFC 9112 section 4: a status code other than three digits, or below 100.
    #[error("Invalid status code")]
    Status,
    /// More than [`Limits::interim_responses`](crate::Limits::interim_responses).
    #[error("Too many interim responses: more than {0}")]
    TooManyInterim(usize),
    /// More than [`Limits::header_count`](crate::Limits::header_count).
    #[error("Too many header fields: more than {0}")]
    TooManyHeaders(usize),
    /// RFC 9112 section 7.1: a line after the last chunk that does not end with CRLF.
    #[error("Invalid line end in the trailer section: not CRLF")]
    TrailerEnd,
    /// More than [`Limits::trailer_bytes`](crate::Limits::trailer_bytes).
    #[error("Trailer section too large: more than {0} bytes")]
    TrailersTooLarge(usize),
    /// RFC 9112 section 6.1: a coding that the request did not offer, or one after chunked.
    #[error("Unsupported Transfer-Encoding {0:?}")]
    TransferEncoding(String),
    /// A version other than `HTTP/1.` and one digit.
    #[error("Invalid HTTP version")]
    Version,
}

impl ResponseError {
    /// Returns the error number that 2.x exposed: that of the same error in llhttp.
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
            // llhttp has no limits; 24 is its code for a message that the user of the parser refuses.
            ResponseError::HeadTooLarge(_)
            | ResponseError::TooManyHeaders(_)
            | ResponseError::TooManyInterim(_)
            | ResponseError::InterimTooLarge(_)
            | ResponseError::TrailersTooLarge(_) => 24,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_code_is_that_of_llhttp() {
        for (error, code) in [
            (ResponseError::ChunkEnd, 2),
            (ResponseError::TrailerEnd, 2),
            (ResponseError::Glued, 5),
            (ResponseError::NotHttp(String::new()), 8),
            (ResponseError::Version, 9),
            (ResponseError::HeaderToken, 10),
            (ResponseError::HeaderValue, 10),
            (ResponseError::ContentLength(String::new()), 11),
            (ResponseError::ChunkSize, 12),
            (ResponseError::ChunkExtension(""), 12),
            (ResponseError::Status, 13),
            (ResponseError::EarlyEnd(""), 14),
            (ResponseError::TransferEncoding(String::new()), 15),
            (ResponseError::HeadTooLarge(1), 24),
            (ResponseError::TooManyHeaders(1), 24),
            (ResponseError::TooManyInterim(1), 24),
            (ResponseError::InterimTooLarge(1), 24),
            (ResponseError::TrailersTooLarge(1), 24),
        ] {
            assert_eq!(error.code(), code, "{error}");
        }
    }
}
