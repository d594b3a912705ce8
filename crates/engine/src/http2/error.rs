//! What peers give as reasons, and what we hold against them.

use std::fmt;

/// A stream or a connection ended by the rules of HTTP/2, or for breaking them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http2Error {
    /// The error code (RFC 9113 section 7).
    pub code: u32,
    /// What it was about.
    pub what: What,
    /// The last stream that the peer may have looked at, where it has said so (RFC 9113 section 6.8).
    pub last_stream: Option<u32>,
    /// What the peer has to say about it, for people.
    pub words: String,
}

/// What an error code is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The peer ended the connection: GOAWAY.
    GoAway,
    /// The peer ended the stream: RST_STREAM.
    Reset,
    /// The peer broke the rules.
    Violation,
}

pub(super) const PROTOCOL_ERROR: u32 = 1;
pub(super) const FLOW_CONTROL_ERROR: u32 = 3;
pub(super) const SETTINGS_TIMEOUT: u32 = 4;
pub(super) const FRAME_SIZE_ERROR: u32 = 6;
pub(super) const REFUSED_STREAM: u32 = 7;
pub(super) const COMPRESSION_ERROR: u32 = 9;
pub(super) const ENHANCE_YOUR_CALM: u32 = 11;

/// RFC 9113 section 7, by number.
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

/// Bytes of a peer's words that are passed on.
pub(super) const WORDS: usize = 200;

impl Http2Error {
    pub(super) fn of_peer(what: What, code: u32, last_stream: Option<u32>, words: &[u8]) -> Self {
        let words = String::from_utf8_lossy(words).chars().filter(|c| !c.is_control()).collect();
        Http2Error { code, what, last_stream, words }
    }

    /// Of a peer that does something it must not, in our words.
    pub(super) fn violation(code: u32, words: &str) -> Self {
        Http2Error { code, what: What::Violation, last_stream: None, words: words.to_owned() }
    }

    /// The name of the code; `None` where RFC 9113 has none.
    pub fn name(&self) -> Option<&'static str> {
        NAMES.get(usize::try_from(self.code).ok()?).copied()
    }
}

impl fmt::Display for Http2Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.what {
            What::GoAway => "the peer ended the HTTP/2 connection: ",
            What::Reset => "the peer ended the HTTP/2 stream: ",
            What::Violation => "the peer broke the rules of HTTP/2: ",
        })?;
        match self.name() {
            Some(name) => f.write_str(name)?,
            None => write!(f, "error {:#x}", self.code)?,
        }
        if self.words.is_empty() { Ok(()) } else { write!(f, ", {}", self.words) }
    }
}

impl std::error::Error for Http2Error {}
