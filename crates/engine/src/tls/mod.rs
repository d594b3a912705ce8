//! TLS 1.2 and 1.3: what the dial needs of it, and what is known of it afterwards.
//!
//! [`client`] shakes hands by rustls; whoever brings another implementation does so as a [`Tls`]. [`roots`] is whom is
//! trusted, [`store`] where that is kept, [`trusted`] what one trusted certificate may vouch for, [`verify`] how chains
//! are checked, [`usage`] what their keys may be used for, [`pem`] how they are written, [`identity`] who we say we
//! are, [`stream`] the bytes after the handshake, [`records`] where they are cut, and [`words`] what errors are called.

mod client;
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

use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;

use crate::error::Kind;
use crate::stream::Stream;

pub use client::{Options, TlsClient, Versions};
pub use records::Records;
pub use roots::{Authorities, authorities};
pub use verify::Verify;

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
    /// The cipher suite, by its name at IANA.
    pub cipher: String,
    /// The protocol that was chosen (RFC 7301), if one was.
    pub alpn: Option<String>,
    /// The peer's certificate (X.509, DER).
    pub peer_certificate: Option<Vec<u8>>,
    /// How far the certificate was checked.
    pub verified: Verify,
    /// Whether an earlier session was taken up again.
    pub resumed: bool,
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
    /// Of a handshake that the peer has broken off without a word.
    pub fn closed_in_handshake() -> Self {
        TlsError { certificate: None, words: "the peer closed the connection in the handshake".to_owned() }
    }

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

/// What was asked for cannot be done.
#[derive(Debug)]
pub enum SetupError {
    /// A file does not hold what it should, or what it holds does not fit.
    Content(String),
    /// A file cannot be read.
    File(PathBuf, io::Error),
    /// A name that no certificate can be of.
    Name(String),
    /// What is wrong with the file or directory that this variable of the environment names.
    Variable(&'static str, Box<SetupError>),
}

impl SetupError {
    fn named_by(self, variable: &'static str) -> Self {
        SetupError::Variable(variable, Box::new(self))
    }

    fn of_file(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        |error| SetupError::File(path.to_owned(), error)
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetupError::Content(words) => f.write_str(words),
            SetupError::File(path, error) => write!(f, "{}: {error}", path.display()),
            SetupError::Name(name) => {
                write!(f, "{:?} is neither a host's name nor an address", wire::url::redact_part(name))
            }
            SetupError::Variable(name, error) => write!(f, "{error} (named by {name})"),
        }
    }
}

impl std::error::Error for SetupError {}

/// Whether nothing of that name exists.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
