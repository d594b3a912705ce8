//! What TLS errors are called.

use super::TlsError;

/// rustls' error in our words.
pub(super) fn of(error: &rustls::Error) -> TlsError {
    TlsError { certificate: None, words: error.to_string() }
}
