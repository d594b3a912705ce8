//! What TLS errors are called: who is to blame, and what for, with names and dates.

use std::time::{Duration, SystemTime};

use rustls::pki_types::{ServerName, UnixTime};
use rustls::{CertificateError, Error, InvalidMessage, OtherError, PeerIncompatible};

use super::TlsError;
use super::trusted::{Reason, Unfit};
use super::verify::{MayNotSign, SelfSigned};

/// rustls' error in our words.
pub(super) fn of(error: &Error) -> TlsError {
    let words = match error {
        Error::InvalidCertificate(error) => return of_certificate(error),
        Error::AlertReceived(alert) => {
            format!("the peer ended the connection with an alert: {}", spelled(&format!("{alert:?}")))
        }
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "what the peer says is not TLS: it may speak plain HTTP".to_owned()
        }
        Error::PeerIncompatible(
            PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => "the peer speaks no version of TLS that is allowed here".to_owned(),
        Error::PeerIncompatible(why) => {
            format!("nothing in common with the peer: {}", spelled(&format!("{why:?}")))
        }
        Error::PeerMisbehaved(why) => format!("the peer broke the rules of TLS: {}", spelled(&format!("{why:?}"))),
        Error::NoCertificatesPresented => "the peer has no certificate".to_owned(),
        Error::NoApplicationProtocol => "the peer speaks none of the protocols that were offered".to_owned(),
        Error::DecryptError => "what the peer sent cannot be decrypted".to_owned(),
        other => other.to_string(),
    };
    TlsError { certificate: None, words }
}

/// OpenSSL's numbers, from its x509_vfy.h.
fn of_certificate(error: &CertificateError) -> TlsError {
    let (code, words) = match error {
        CertificateError::ExpiredContext { not_after, .. } => (10, format!("it expired on {}", date(*not_after))),
        CertificateError::Expired => (10, "it has expired".to_owned()),
        CertificateError::NotValidYetContext { not_before, .. } => {
            (9, format!("it is not valid before {}", date(*not_before)))
        }
        CertificateError::NotValidYet => (9, "it is not valid yet".to_owned()),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let code = if matches!(expected, ServerName::IpAddress(_)) { 64 } else { 62 };
            (code, format!("name mismatch: wanted '{}', the certificate has {}", expected.to_str(), names(presented)))
        }
        CertificateError::NotValidForName => (62, "name mismatch".to_owned()),
        CertificateError::UnknownIssuer => (20, "unknown issuer: its chain ends in no trusted certificate".to_owned()),
        CertificateError::Revoked => (23, "it was revoked".to_owned()),
        CertificateError::BadSignature => (7, "a signature in its chain is wrong".to_owned()),
        CertificateError::BadEncoding => (13, "it cannot be read".to_owned()),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            (26, "it is not meant for servers".to_owned())
        }
        CertificateError::UnhandledCriticalExtension => unhandled(),
        CertificateError::Other(OtherError(other)) if other.is::<MayNotSign>() => (79, other.to_string()),
        CertificateError::Other(OtherError(other)) if other.is::<SelfSigned>() => {
            (18, "self-signed certificate, which is not among the trusted ones".to_owned())
        }
        CertificateError::Other(OtherError(other)) => match (other.downcast_ref(), other.downcast_ref()) {
            (Some(unfit), _) => of_unfit(unfit),
            (_, Some(error)) => of_webpki(error),
            _ => (1, other.to_string()),
        },
        other => (1, other.to_string()),
    };
    TlsError { certificate: Some(code), words }
}

/// Of a chain that is in order up to the trusted certificate that it ends in.
fn of_unfit(unfit: &Unfit) -> (u32, String) {
    let (code, why) = match &unfit.reason {
        Reason::Certificate(CertificateError::ExpiredContext { not_after, .. }) => {
            (10, format!("expired on {}", date(*not_after)))
        }
        Reason::Certificate(CertificateError::NotValidYetContext { not_before, .. }) => {
            (9, format!("is not valid before {}", date(*not_before)))
        }
        Reason::Certificate(CertificateError::UnhandledCriticalExtension) => {
            (34, "has a critical extension that is not understood".to_owned())
        }
        Reason::Certificate(_) => (26, "is not meant for servers".to_owned()),
        Reason::NotCa => (79, "is not a CA certificate".to_owned()),
        Reason::PathLength(most) => {
            (25, format!("allows at most {most} intermediate certificates between them (its path length)"))
        }
    };
    (code, format!("its chain ends in the trusted certificate '{}', which {why}", unfit.subject))
}

fn unhandled() -> (u32, String) {
    (34, "it, or a certificate in its chain, has a critical extension that is not understood".to_owned())
}

fn of_webpki(error: &webpki::Error) -> (u32, String) {
    match error {
        // Of a certificate that rustls has read itself.
        webpki::Error::UnsupportedCriticalExtension => unhandled(),
        webpki::Error::EndEntityUsedAsCa => (79, "a certificate in its chain is not a CA certificate".to_owned()),
        webpki::Error::PathLenConstraintViolated => {
            (25, "a CA certificate in its chain allows fewer intermediate certificates".to_owned())
        }
        _ => (1, format!("it cannot be used: {}", spelled(&error.to_string()))),
    }
}

/// The names that a certificate is of, as webpki shows them: `DnsName("a.test")`, `IpAddress(127.0.0.1)`.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| {
        let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
        format!("'{}'", inner.trim_matches('"'))
    };
    if presented.is_empty() { "none".to_owned() } else { presented.iter().map(bare).collect::<Vec<_>>().join(", ") }
}

/// Day and time, as HTTP writes them. Dates of certificates end with the year 9999, as HTTP's do.
fn date(time: UnixTime) -> String {
    const LAST: u64 = 253_402_300_799;
    let since = Duration::from_secs(time.as_secs().min(LAST));
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since)
}

/// `CertificateRequired` as `certificate required`.
fn spelled(name: &str) -> String {
    let name = name.split(['(', '{', ' ']).next().unwrap_or(name);
    let mut words = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}
