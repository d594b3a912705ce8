//! The texts of TLS errors: which side is at fault, and the reason, with names and dates.

use std::time::{Duration, SystemTime};

use rustls::pki_types::{ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, OtherError, PeerIncompatible};

use super::error::{TlsError, Verdict};
use super::trusted::{Reason, Unfit};
use super::verify::{MayNotSign, SelfSigned, UnknownRoot};

/// Describes an error of rustls.
pub(super) fn of(error: &Error) -> TlsError {
    let words = match error {
        Error::InvalidCertificate(error) => return of_certificate(error),
        Error::AlertReceived(alert) => {
            let remedy = match alert {
                AlertDescription::CertificateRequired => " (`cert` names the client's certificate)",
                _ => "",
            };
            format!("the peer ended the connection with an alert: {}{remedy}", spelled(&format!("{alert:?}")))
        }
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the peer does not speak TLS: it may speak plain HTTP".to_owned()
        }
        Error::PeerIncompatible(
            PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => "the peer supports no version of TLS that is allowed here".to_owned(),
        Error::PeerIncompatible(why) => {
            format!("the peer is incompatible: {}", spelled(&format!("{why:?}")))
        }
        Error::PeerMisbehaved(why) => format!("the peer violated the TLS protocol: {}", spelled(&format!("{why:?}"))),
        Error::NoCertificatesPresented => "the peer has no certificate".to_owned(),
        Error::NoApplicationProtocol => "the peer supports none of the protocols that were offered".to_owned(),
        Error::DecryptError => "the data from the peer cannot be decrypted".to_owned(),
        other => other.to_string(),
    };
    TlsError { certificate: None, words }
}

/// Returns OpenSSL's number and message for the error, and the details that the message does not have.
fn of_certificate(error: &CertificateError) -> TlsError {
    let (code, words) = match error {
        CertificateError::ExpiredContext { not_after, .. } => (10, format!("it expired on {}", date(*not_after))),
        CertificateError::Expired => (10, "it has expired".to_owned()),
        CertificateError::NotValidYetContext { not_before, .. } => {
            (9, format!("it is not valid before {}", date(*not_before)))
        }
        CertificateError::NotValidYet => (9, "it is not valid yet".to_owned()),
        CertificateError::NotValidForNameContext { expected, presented } => return of_name(expected, presented),
        CertificateError::NotValidForName => (62, "it is for other names".to_owned()),
        CertificateError::UnknownIssuer => (20, "its chain ends in no trusted certificate".to_owned()),
        CertificateError::Revoked => (23, "it was revoked".to_owned()),
        CertificateError::BadSignature => (7, "a signature in its chain is wrong".to_owned()),
        CertificateError::BadEncoding => (1, "it cannot be read".to_owned()),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            (26, "it is not meant for servers".to_owned())
        }
        CertificateError::UnhandledCriticalExtension => unhandled(),
        CertificateError::Other(OtherError(other)) if other.is::<MayNotSign>() => (79, other.to_string()),
        CertificateError::Other(OtherError(other)) if other.is::<SelfSigned>() => {
            (18, "it is not among the trusted ones".to_owned())
        }
        CertificateError::Other(OtherError(other)) if other.is::<UnknownRoot>() => {
            (19, "its chain ends in a certificate that is not among the trusted ones".to_owned())
        }
        CertificateError::Other(OtherError(other)) => match (other.downcast_ref(), other.downcast_ref()) {
            (Some(unfit), _) => of_unfit(unfit),
            (_, Some(error)) => of_webpki(error),
            _ => (1, other.to_string()),
        },
        other => (1, other.to_string()),
    };
    TlsError { certificate: Some(Verdict { code, message: message(code).to_owned() }), words }
}

/// Returns the text of OpenSSL 3's X509_verify_cert_error_string for the numbers of its x509_vfy.h that are used here.
fn message(code: u32) -> &'static str {
    match code {
        7 => "certificate signature failure",
        9 => "certificate is not yet valid",
        10 => "certificate has expired",
        18 => "self-signed certificate",
        19 => "self-signed certificate in certificate chain",
        20 => "unable to get local issuer certificate",
        23 => "certificate revoked",
        25 => "path length constraint exceeded",
        26 => "unsuitable certificate purpose",
        34 => "unhandled critical extension",
        62 => "hostname mismatch",
        79 => "invalid CA certificate",
        _ => "unspecified certificate verification error",
    }
}

/// Describes a certificate for other names. The message is the ssl module's own: it adds the name to OpenSSL's.
fn of_name(expected: &ServerName<'_>, presented: &[String]) -> TlsError {
    let (code, what) = match expected {
        ServerName::IpAddress(_) => (64, "IP address"),
        _ => (62, "Hostname"),
    };
    let expected = expected.to_str();
    let message = format!("{what} mismatch, certificate is not valid for '{expected}'.");
    let words = format!("wanted '{expected}', the certificate has {}", names(presented));
    TlsError { certificate: Some(Verdict { code, message }), words }
}

/// Describes a chain that is valid up to the trusted certificate in which it ends.
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
        // From a certificate that rustls has parsed itself.
        webpki::Error::UnsupportedCriticalExtension => unhandled(),
        webpki::Error::EndEntityUsedAsCa => (79, "a certificate in its chain is not a CA certificate".to_owned()),
        webpki::Error::PathLenConstraintViolated => {
            (25, "a CA certificate in its chain allows fewer intermediate certificates".to_owned())
        }
        _ => (1, format!("it cannot be used: {}", spelled(&error.to_string()))),
    }
}

/// Formats the names of a certificate, which webpki writes as `DnsName("a.test")` or `IpAddress(127.0.0.1)`.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| {
        let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
        format!("'{}'", inner.trim_matches('"'))
    };
    if presented.is_empty() { "none".to_owned() } else { presented.iter().map(bare).collect::<Vec<_>>().join(", ") }
}

/// Formats day and time as HTTP does. Dates of certificates end with the year 9999, as those of HTTP do.
fn date(time: UnixTime) -> String {
    const LAST: u64 = 253_402_300_799;
    let since = Duration::from_secs(time.as_secs().min(LAST));
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since)
}

/// Splits the name of a variant into words: `CertificateRequired` as `certificate required`, `UnknownCA` as
/// `unknown CA`.
fn spelled(name: &str) -> String {
    let name = name.split(['(', '{', ' ']).next().unwrap_or(name);
    let mut words = String::with_capacity(name.len() + 4);
    let mut before = ' ';
    let mut letters = name.chars().peekable();
    while let Some(letter) = letters.next() {
        let after = letters.peek().copied();
        let is_capital = letter.is_ascii_uppercase();
        let is_in_acronym =
            is_capital && after.map_or(before.is_ascii_uppercase(), |after| !after.is_ascii_lowercase());
        let follows_word = before.is_ascii_lowercase() || (before.is_ascii_uppercase() && !is_in_acronym);
        if is_capital && follows_word {
            words.push(' ');
        }
        words.push(if is_in_acronym { letter } else { letter.to_ascii_lowercase() });
        before = letter;
    }
    words
}

#[cfg(test)]
mod tests {
    use rustls::{AlertDescription, Error};

    use super::{of, spelled};

    #[test]
    fn an_alert_that_asks_for_a_certificate_names_the_argument() {
        let words = of(&Error::AlertReceived(AlertDescription::CertificateRequired)).words;
        assert!(words.ends_with("an alert: certificate required (`cert` names the client's certificate)"), "{words}");
    }

    #[test]
    fn names_of_variants_become_words_and_keep_acronyms() {
        for (name, words) in [
            ("CertificateRequired", "certificate required"),
            ("UnknownCA", "unknown CA"),
            ("UnknownPSKIdentity", "unknown PSK identity"),
            ("BadRecordMac", "bad record mac"),
            ("Unknown(70)", "unknown"),
        ] {
            assert_eq!(spelled(name), words);
        }
    }
}
