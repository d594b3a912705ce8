//! Errors of TLS: a failed handshake, and settings that cannot be used.

use std::path::{Path, PathBuf};
use std::{fmt, io};

/// A failed handshake, or a later violation of the TLS protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError {
    /// The reason why the peer's certificate was not accepted, if that is what failed.
    pub certificate: Option<Verdict>,
    /// Description of the error: for a certificate, the details that OpenSSL's message does not have.
    pub words: String,
}

/// The rejection of a certificate in OpenSSL's terms: programs compare both fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The number (`X509_V_ERR_...`).
    pub code: u32,
    /// The message, as the ssl module reports it.
    pub message: String,
}

impl TlsError {
    /// Creates the error of a handshake in which the peer closed the connection without an alert.
    pub fn closed_in_handshake() -> Self {
        TlsError { certificate: None, words: "the peer closed the connection in the handshake".to_owned() }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.certificate {
            // Some of OpenSSL's messages end with a full stop.
            Some(verdict) => write!(f, "{}: {}", verdict.message.trim_end_matches('.'), self.words),
            None => f.write_str(&self.words),
        }
    }
}

impl std::error::Error for TlsError {}

/// Invalid settings.
#[derive(Debug)]
pub enum SetupError {
    /// A file does not contain what it should, or its contents cannot be used.
    Content(String),
    /// A file cannot be read.
    File(PathBuf, io::Error),
    /// A name for which no certificate can be valid.
    Name(String),
    /// The error of the file or directory that this environment variable names.
    Variable(&'static str, Box<SetupError>),
}

impl SetupError {
    pub(super) fn named_by(self, variable: &'static str) -> Self {
        SetupError::Variable(variable, Box::new(self))
    }

    pub(super) fn of_file(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
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

/// Returns true if nothing of that name exists.
pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
