//! TLS: what the dial needs of it, and who spoke to whom.

mod words;

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;

use crate::error::Kind;
use crate::stream::Stream;

/// A handshake under way.
pub type Handshake = Pin<Box<dyn Future<Output = Result<Secured, Kind>>>>;

/// Makes a byte stream a private one, with whoever is to be found at its other end.
pub trait Tls {
    /// Shakes hands over `stream`.
    fn handshake(&self, stream: Stream) -> Handshake;
}

/// A stream after its handshake.
pub struct Secured {
    /// What is read and written in the clear.
    pub stream: Stream,
    /// What was agreed upon.
    pub facts: Rc<Facts>,
}

/// What a handshake has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: String,
    /// The cipher suite by its name at IANA.
    pub cipher: String,
    /// The protocol that was chosen (RFC 7301), if one was.
    pub alpn: Option<String>,
    /// The peer's certificate (X.509, DER).
    pub peer_certificate: Option<Vec<u8>>,
    /// How far the certificate was checked.
    pub verified: Verified,
    /// Whether an earlier session was taken up again.
    pub resumed: bool,
}

/// How far a certificate was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verified {
    /// Its chain, but not the name in it.
    Chain,
    /// Not at all.
    #[default]
    No,
    /// Its chain, and that it is of the host that was asked for.
    Yes,
}

/// A failed handshake, or a stream that broke the rules of TLS later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError {
    /// Why the peer's certificate was not accepted: OpenSSL's number for it (`X509_V_ERR_...`), which programs know.
    pub certificate: Option<u32>,
    /// What is wrong, in words.
    pub words: String,
}

impl TlsError {
    /// What rustls says by way of a stream's error.
    pub(crate) fn within(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref::<rustls::Error>().map(words::of)
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for TlsError {}
