//! TLS 1.2 and 1.3: the interface that the dial uses, and the properties of the encrypted connection.
//!
//! [`client`] performs the handshake with rustls; other implementations provide a [`Tls`]. [`roots`] has the trusted
//! certificates, [`store`] the files that contain them, [`trusted`] the constraints of one of them, [`verify`] the
//! verification of chains, [`usage`] the key usage of certificates, [`pem`] their text format, [`identity`] the
//! client's certificate, [`stream`] the bytes after the handshake, [`records`] the boundaries of records, and [`words`]
//! the texts of errors.

mod client;
pub(crate) mod error;
mod identity;
mod pem;
mod records;
mod roots;
mod store;
mod stream;
mod trusted;
mod usage;
mod verify;
mod words;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use crate::error::Kind;
use crate::rt::stream::Stream;

pub use client::{Options, TlsClient, Versions, is_server_name};
pub use error::{SetupError, TlsError, Verdict};
pub use records::Records;
pub use roots::{Authorities, authorities};
pub use verify::Verify;

/// A handshake in progress.
pub type Handshake = Pin<Box<dyn Future<Output = Result<Secured, Kind>>>>;

/// Encrypts a byte stream, and authenticates its peer.
pub trait Tls {
    /// Performs the handshake over `stream`.
    fn handshake(&self, stream: Stream, offer: Offer) -> Handshake;
}

/// Application protocols that a handshake offers (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// All that are configured.
    All,
    /// Only HTTP/1.1.
    Http1,
}

/// A stream after its handshake.
pub struct Secured {
    /// The stream of decrypted data.
    pub stream: Stream,
    /// The negotiated properties.
    pub facts: Rc<TlsInfo>,
}

/// Result of a handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsInfo {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: String,
    /// The cipher suite, by its name at IANA.
    pub cipher: String,
    /// The protocol that was chosen (RFC 7301), if one was.
    pub alpn: Option<String>,
    /// The peer's certificate (X.509, DER).
    pub peer_certificate: Option<Vec<u8>>,
    /// The checks that the certificate passed.
    pub verified: Verify,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
}
