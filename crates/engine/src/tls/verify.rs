//! The verification of a server's certificate.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use super::roots::Roots;
use super::usage;

/// Checks of a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Verify {
    /// Its chain, but not its name.
    Chain,
    /// Its chain, and that it is valid for the requested host (RFC 9525).
    #[default]
    Full,
    /// None.
    No,
}

/// Verifier for rustls that performs the checks of [`Verify`].
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
        // A trusted certificate needs no issuer, whether or not it is a CA certificate.
        match self.roots.shown(end_entity) {
            Some(trusted) => trusted.check(now).map_err(Error::InvalidCertificate)?,
            None => self.verify_chain(end_entity, intermediates, now)?,
        }
        if !usage::permits_serving(end_entity) {
            return Err(Error::InvalidCertificate(CertificateError::InvalidPurpose));
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
    /// Checks that the certificate's chain ends in a certificate that is trusted to issue it.
    fn verify_chain(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let parsed = EndEntityCert::try_from(end_entity).map_err(of_webpki)?;
        let refused = Cell::new(None);
        let check = |path: &VerifiedPath<'_>| {
            let mut between = path.intermediate_certificates();
            let checked = if between.all(|certificate| usage::permits_signing(&certificate.der())) {
                self.roots.check_path(path, now).map_err(|unfit| unfit.map(|unfit| OtherError(Arc::new(unfit))))
            } else {
                Err(Some(OtherError(Arc::new(MayNotSign))))
            };
            checked.map_err(|why| {
                refused.set(why);
                webpki::Error::UnknownIssuer
            })
        };
        let (algorithms, anchors) = (self.algorithms.all, self.roots.anchors());
        let usage = KeyUsage::server_auth();
        let verified = parsed.verify_for_usage(algorithms, anchors, intermediates, now, usage, None, Some(&check));
        let Err(error) = verified else { return Ok(()) };
        let why = match refused.take() {
            // The rest of its chain is valid.
            Some(why) => CertificateError::Other(why),
            None if is_unknown(&error) && is_self_issued(&parsed) => {
                CertificateError::Other(OtherError(Arc::new(SelfSigned)))
            }
            None if is_unknown(&error) && ends_in_root(&parsed, intermediates) => {
                CertificateError::Other(OtherError(Arc::new(UnknownRoot)))
            }
            None => return Err(of_webpki(error)),
        };
        Err(Error::InvalidCertificate(why))
    }

    /// Returns true if the key cannot be read from this kind of certificate, and the certificate is not verified.
    /// Otherwise a peer has to prove that it has the key, even if the certificate is not verified: programs compare the
    /// certificate with one that they know.
    fn cannot_tell(&self, certificate: &CertificateDer<'_>) -> bool {
        self.verify == Verify::No && ParsedCertificate::try_from(certificate).is_err()
    }
}

/// An intermediate certificate whose key usage does not permit it to issue others.
#[derive(Debug)]
pub(super) struct MayNotSign;

impl std::fmt::Display for MayNotSign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the key usage of a certificate in its chain does not permit it to issue others")
    }
}

impl std::error::Error for MayNotSign {}

/// A self-signed certificate that is not trusted.
#[derive(Debug)]
pub(super) struct SelfSigned;

impl std::fmt::Display for SelfSigned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("self-signed certificate")
    }
}

impl std::error::Error for SelfSigned {}

/// A certificate whose chain, as sent by the server, ends in a self-signed certificate that is not trusted.
#[derive(Debug)]
pub(super) struct UnknownRoot;

impl std::fmt::Display for UnknownRoot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("self-signed certificate in certificate chain")
    }
}

impl std::error::Error for UnknownRoot {}

fn is_self_issued(certificate: &EndEntityCert<'_>) -> bool {
    certificate.issuer() == certificate.subject()
}

/// Returns true if the names of the certificates that a server sends lead from its own to a self-issued one. Each is
/// visited once: they may be many, and name each other in a circle.
fn ends_in_root(end_entity: &EndEntityCert<'_>, intermediates: &[CertificateDer<'_>]) -> bool {
    let parsed: Vec<_> =
        intermediates.iter().filter_map(|certificate| EndEntityCert::try_from(certificate).ok()).collect();
    let mut shown: HashMap<&[u8], &EndEntityCert<'_>> =
        parsed.iter().map(|certificate| (certificate.subject(), certificate)).collect();
    let mut issuer = shown.remove(end_entity.issuer());
    while let Some(certificate) = issuer {
        if is_self_issued(certificate) {
            return true;
        }
        issuer = shown.remove(certificate.issuer());
    }
    false
}

/// Returns true if the issuer is unknown. A CA certificate that a server uses as its own is as unknown as any other.
fn is_unknown(error: &webpki::Error) -> bool {
    matches!(error, webpki::Error::UnknownIssuer | webpki::Error::CaUsedAsEndEntity)
}

/// Converts an error as rustls does, whose own conversion is private: the result determines the alert that is sent to
/// the peer.
fn of_webpki(error: webpki::Error) -> Error {
    use webpki::Error as Webpki;
    Error::InvalidCertificate(match error {
        Webpki::BadDer | Webpki::BadDerTime | Webpki::TrailingData(_) => CertificateError::BadEncoding,
        Webpki::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        Webpki::CertNotValidYet { time, not_before } => CertificateError::NotValidYetContext { time, not_before },
        Webpki::InvalidCertValidity => CertificateError::Expired,
        Webpki::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        Webpki::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        Webpki::UnknownIssuer => CertificateError::UnknownIssuer,
        Webpki::UnsupportedCriticalExtension => CertificateError::UnhandledCriticalExtension,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    })
}
