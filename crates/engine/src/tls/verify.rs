//! Whether a server is who it should be.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};

use super::roots::Roots;

/// How far a certificate is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Verify {
    /// Its chain, but not the name in it.
    Chain,
    /// Its chain, and that it is of the host that was asked for (RFC 9525).
    #[default]
    Full,
    /// Not at all.
    No,
}

/// rustls' question, answered as [`Verify`] says.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) verify: Verify,
    pub(super) roots: Arc<Roots>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.verify == Verify::No {
            return Ok(ServerCertVerified::assertion());
        }
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        let store = &self.roots.store;
        match verify_server_cert_signed_by_trust_anchor(&parsed, store, intermediates, now, algorithms) {
            // A CA's certificate is none of a server's, unless somebody has picked this very one. Its dates are checked
            // before that is found out.
            Err(error) if is_ca(&error) && self.roots.picked.contains(end_entity) => {}
            Err(error) if is_unknown(&error) && is_self_signed(end_entity) => {
                let why = CertificateError::Other(OtherError(Arc::new(SelfSigned)));
                return Err(Error::InvalidCertificate(why));
            }
            result => result?,
        }
        if self.verify == Verify::Full {
            verify_server_name(&parsed, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.cannot_tell(certificate) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.cannot_tell(certificate) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl Verifier {
    /// Whether the certificate is of a kind that its key cannot be read from, and nobody asks whose it is. Else a peer has
    /// to have the key, verified or not: programs compare the certificate with one that they know.
    fn cannot_tell(&self, certificate: &CertificateDer<'_>) -> bool {
        self.verify == Verify::No && ParsedCertificate::try_from(certificate).is_err()
    }
}

/// A certificate that nobody but itself vouches for.
#[derive(Debug)]
pub(super) struct SelfSigned;

impl std::fmt::Display for SelfSigned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("self-signed certificate")
    }
}

impl std::error::Error for SelfSigned {}

/// A CA's certificate that nobody has picked is as unknown as any other.
fn is_unknown(error: &Error) -> bool {
    matches!(error, Error::InvalidCertificate(CertificateError::UnknownIssuer)) || is_ca(error)
}

fn is_ca(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(other))) = error else { return false };
    matches!(other.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    webpki::EndEntityCert::try_from(certificate).is_ok_and(|parsed| parsed.issuer() == parsed.subject())
}
