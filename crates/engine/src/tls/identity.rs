//! Who we say we are, to servers that ask: a certificate with its key.

use std::fs;
use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::SetupError;

/// A certificate chain, our own first, with its private key.
pub(super) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// From two PEM files, which may be the same.
pub(super) fn read(certificate: &Path, key: &Path) -> Result<Identity, SetupError> {
    let text = fs::read(certificate).map_err(SetupError::of_file(certificate))?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text).filter_map(Result::ok).collect();
    if chain.is_empty() {
        return Err(SetupError::Content(format!("no certificate in {}", certificate.display())));
    }
    let text = fs::read(key).map_err(SetupError::of_file(key))?;
    let found = PrivateKeyDer::from_pem_slice(&text);
    let found = found.map_err(|_| {
        let is_encrypted = text.windows(b"ENCRYPTED".len()).any(|part| part == b"ENCRYPTED");
        let problem = if is_encrypted { "the private key is encrypted" } else { "no private key" };
        SetupError::Content(format!("{problem} in {}", key.display()))
    })?;
    Ok((chain, found))
}
