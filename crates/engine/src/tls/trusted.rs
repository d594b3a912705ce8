//! The constraints of one trusted certificate, which webpki discards when it makes a trust anchor of it (RFC 5280
//! sections 4.2.1 and 6.1.4; OpenSSL checks the same).

use rustls::CertificateError;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::VerifiedPath;
use x509_cert::Certificate;
use x509_cert::certificate::Version;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{self, Decode};
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};

/// `id-kp-serverAuth` and `anyExtendedKeyUsage` (RFC 5280 section 4.2.1.12).
const FOR_SERVERS: [ObjectIdentifier; 2] =
    [ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1"), ObjectIdentifier::new_unwrap("2.5.29.37.0")];

/// Extensions that may be critical. Names and their constraints are checked by webpki. Policies have no effect unless
/// one is required (RFC 5280 section 6.1), as with OpenSSL.
const UNDERSTOOD: [ObjectIdentifier; 12] = [
    ObjectIdentifier::new_unwrap("2.5.29.14"), // subjectKeyIdentifier
    ObjectIdentifier::new_unwrap("2.5.29.15"), // keyUsage
    ObjectIdentifier::new_unwrap("2.5.29.17"), // subjectAltName
    ObjectIdentifier::new_unwrap("2.5.29.19"), // basicConstraints
    ObjectIdentifier::new_unwrap("2.5.29.30"), // nameConstraints
    ObjectIdentifier::new_unwrap("2.5.29.31"), // cRLDistributionPoints
    ObjectIdentifier::new_unwrap("2.5.29.32"), // certificatePolicies
    ObjectIdentifier::new_unwrap("2.5.29.33"), // policyMappings
    ObjectIdentifier::new_unwrap("2.5.29.35"), // authorityKeyIdentifier
    ObjectIdentifier::new_unwrap("2.5.29.36"), // policyConstraints
    ObjectIdentifier::new_unwrap("2.5.29.37"), // extKeyUsage
    ObjectIdentifier::new_unwrap("2.5.29.54"), // inhibitAnyPolicy
];

/// A trusted certificate. A CA certificate may issue others; any other one makes only itself trusted.
#[derive(Debug)]
pub(super) struct Trusted {
    certificate: CertificateDer<'static>,
    not_before: UnixTime,
    not_after: UnixTime,
    is_for_servers: bool,
    /// Whether it has a critical extension that is not understood (RFC 5280 section 4.2).
    is_beyond_us: bool,
    is_ca: bool,
    /// Maximum number of intermediate certificates below this one.
    path_length: Option<u8>,
}

/// The reason why a chain that ends in a trusted certificate is refused.
#[derive(Debug)]
pub(super) struct Unfit {
    /// Subject of the trusted certificate.
    pub(super) subject: String,
    pub(super) reason: Reason,
}

/// See [`Unfit`].
#[derive(Debug)]
pub(super) enum Reason {
    /// It is not valid at this time, not meant for servers, or has a critical extension that is not understood.
    Certificate(CertificateError),
    /// It is not a CA certificate.
    NotCa,
    /// More intermediate certificates than it allows.
    PathLength(u8),
}

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the constraints of the trusted certificate {:?} do not allow it", self.subject)
    }
}

impl std::error::Error for Unfit {}

impl Trusted {
    /// Reads a certificate, and makes webpki's trust anchor of it. The error says why it cannot be used.
    pub(super) fn read(der: CertificateDer<'static>) -> Result<(TrustAnchor<'static>, Self), String> {
        let anchor = webpki::anchor_from_trusted_cert(&der).map_err(|error| error.to_string())?.to_owned();
        let trusted = Trusted::parse(der).map_err(|error| error.to_string())?;
        Ok((anchor, trusted))
    }

    fn parse(certificate: CertificateDer<'static>) -> der::Result<Self> {
        let parsed = Certificate::from_der(&certificate)?;
        let fields = parsed.tbs_certificate();
        let mut extensions = fields.extensions().map(Vec::as_slice).unwrap_or_default().iter();
        let constraints = fields.get_extension::<BasicConstraints>()?.map(|(_, constraints)| constraints);
        let usage = fields.get_extension::<KeyUsage>()?;
        let purposes = fields.get_extension::<ExtendedKeyUsage>()?;
        let is_ca = match (&constraints, fields.version()) {
            (Some(constraints), _) => constraints.ca,
            (None, Version::V3) => false,
            // Versions 1 and 2 cannot declare it: RFC 5280 section 6.1.4 (k) leaves the decision to the verifier, and
            // OpenSSL accepts them as roots.
            (None, _) => fields.issuer() == fields.subject(),
        };
        let validity = fields.validity();
        let (not_before, not_after) = (validity.not_before.to_unix_duration(), validity.not_after.to_unix_duration());
        Ok(Trusted {
            not_before: UnixTime::since_unix_epoch(not_before),
            not_after: UnixTime::since_unix_epoch(not_after),
            is_for_servers: purposes.is_none_or(|(_, of)| of.0.iter().any(|purpose| FOR_SERVERS.contains(purpose))),
            is_beyond_us: extensions.any(|extension| extension.critical && !UNDERSTOOD.contains(&extension.extn_id)),
            is_ca: is_ca && usage.is_none_or(|(_, usage)| usage.key_cert_sign()),
            path_length: constraints.and_then(|constraints| constraints.path_len_constraint),
            certificate,
        })
    }

    pub(super) fn der(&self) -> &[u8] {
        &self.certificate
    }

    /// Returns true if `certificate` is this one.
    pub(super) fn is(&self, certificate: &CertificateDer<'_>) -> bool {
        self.certificate == *certificate
    }

    /// Checks the rules that apply to every certificate of a chain.
    pub(super) fn check(&self, now: UnixTime) -> Result<(), CertificateError> {
        if now < self.not_before {
            return Err(CertificateError::NotValidYetContext { time: now, not_before: self.not_before });
        }
        if now > self.not_after {
            return Err(CertificateError::ExpiredContext { time: now, not_after: self.not_after });
        }
        if self.is_beyond_us {
            return Err(CertificateError::UnhandledCriticalExtension);
        }
        if !self.is_for_servers {
            return Err(CertificateError::InvalidPurpose);
        }
        Ok(())
    }

    /// Checks that `path` may end in this certificate.
    pub(super) fn check_path(&self, path: &VerifiedPath<'_>, now: UnixTime) -> Result<(), Unfit> {
        let unfit = |reason| Unfit { subject: self.subject(), reason };
        if !self.is_ca {
            return Err(unfit(Reason::NotCa));
        }
        self.check(now).map_err(|error| unfit(Reason::Certificate(error)))?;
        // Self-issued certificates do not count (RFC 5280 section 4.2.1.9).
        let length =
            path.intermediate_certificates().filter(|certificate| certificate.issuer() != certificate.subject());
        match self.path_length {
            Some(most) if length.count() > usize::from(most) => Err(unfit(Reason::PathLength(most))),
            _ => Ok(()),
        }
    }

    fn subject(&self) -> String {
        Certificate::from_der(&self.certificate)
            .map(|parsed| parsed.tbs_certificate().subject().to_string())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::Trusted;

    #[test]
    fn each_of_mozillas_certificates_can_be_read_and_is_a_ca() {
        assert!(webpki_root_certs::TLS_SERVER_ROOT_CERTS.len() > 100);
        for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
            let (_, trusted) = Trusted::read(certificate.clone()).expect("a certificate");
            assert!(trusted.is_ca && trusted.is_for_servers, "{}", trusted.subject());
        }
    }
}
