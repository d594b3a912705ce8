//! The client's certificate with its key, for servers that request one.

use std::path::Path;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::error::SetupError;
use super::store;

/// A certificate chain, the client's own certificate first, with its private key.
pub(super) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Reads both from two PEM files, which may be the same.
pub(super) fn read(certificate: &Path, key: &Path) -> Result<Identity, SetupError> {
    let chain = store::certificates(certificate)?;
    if chain.is_empty() {
        return Err(SetupError::Content(format!("no certificate in {}", certificate.display())));
    }
    let text = store::contents(key)?;
    let found = PrivateKeyDer::from_pem_slice(&text);
    let found = found.map_err(|error| {
        let is_encrypted = text.windows(b"ENCRYPTED".len()).any(|part| part == b"ENCRYPTED");
        let problem = match error {
            _ if is_encrypted => "the private key is encrypted",
            pem::Error::NoItemsFound => "no private key",
            _ => "the private key is damaged",
        };
        SetupError::Content(format!("{problem} in {}", key.display()))
    })?;
    Ok((chain, found))
}
