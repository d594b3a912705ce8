//! Errors of HTTP/2: those that peers send, and the protocol violations of peers.

use std::fmt;

/// A stream or a connection that the peer ended, or that was ended for a protocol violation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http2Error {
    /// The error code (RFC 9113 section 7).
    pub code: u32,
    /// The event that ended it.
    pub what: What,
    /// The last stream that the peer may have processed, if it sent that (RFC 9113 section 6.8).
    pub last_stream: Option<u32>,
    /// The peer's explanation, or a description of its violation, as text for people.
    pub words: String,
}

/// The event to which an error code belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The peer ended the connection: GOAWAY.
    GoAway,
    /// The peer ended the stream: RST_STREAM.
    Reset,
    /// The peer violated the protocol.
    Violation,
}

pub(super) const NO_ERROR: u32 = 0;
pub(super) const PROTOCOL_ERROR: u32 = 1;
pub(super) const FLOW_CONTROL_ERROR: u32 = 3;
pub(super) const FRAME_SIZE_ERROR: u32 = 6;
pub(super) const REFUSED_STREAM: u32 = 7;
pub(super) const COMPRESSION_ERROR: u32 = 9;
pub(super) const ENHANCE_YOUR_CALM: u32 = 11;
pub(super) const HTTP_1_1_REQUIRED: u32 = 13;

/// Names of the error codes (RFC 9113 section 7), by number.
const NAMES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// Maximum number of bytes of a peer's explanation that are reported.
pub(super) const WORDS: usize = 200;

impl Http2Error {
    pub(super) fn of_peer(what: What, code: u32, last_stream: Option<u32>, words: &[u8]) -> Self {
        let words = String::from_utf8_lossy(words).chars().filter(|c| !c.is_control()).collect();
        Http2Error { code, what, last_stream, words }
    }

    /// Creates the error of a protocol violation, with a description of it.
    pub(super) fn violation(code: u32, words: &str) -> Self {
        Http2Error { code, what: What::Violation, last_stream: None, words: words.to_owned() }
    }

    /// Creates the error of a peer that requires HTTP/1.1 although HTTP/1.1 cannot be used.
    pub(crate) fn http1_required(words: &str) -> Self {
        Self::violation(HTTP_1_1_REQUIRED, words)
    }

    /// Returns true if the peer requires HTTP/1.1 instead of HTTP/2 (RFC 9113 section 7).
    pub fn requires_http1(&self) -> bool {
        self.code == HTTP_1_1_REQUIRED && self.what != What::Violation
    }

    /// Adds a text to the explanation.
    pub(crate) fn add_words(&mut self, words: &str) {
        if !self.words.is_empty() {
            self.words.push_str("; ");
        }
        self.words.push_str(words);
    }

    /// Returns the name of the code, `None` if RFC 9113 does not define it.
    pub fn name(&self) -> Option<&'static str> {
        NAMES.get(usize::try_from(self.code).ok()?).copied()
    }
}

impl fmt::Display for Http2Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.what {
            What::GoAway => "the peer ended the HTTP/2 connection: ",
            What::Reset => "the peer ended the HTTP/2 stream: ",
            What::Violation => "the peer violated the HTTP/2 protocol: ",
        })?;
        match self.name() {
            Some(name) => f.write_str(name)?,
            None => write!(f, "error {:#x}", self.code)?,
        }
        if self.words.is_empty() { Ok(()) } else { write!(f, ", {}", self.words) }
    }
}

impl std::error::Error for Http2Error {}
