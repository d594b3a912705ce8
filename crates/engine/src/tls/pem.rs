//! The certificates of a PEM text (RFC 7468), all of them: silently skipping one would mean one trusted certificate
//! less, or a chain with a gap.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Labels of the blocks from which OpenSSL reads certificates.
const LABELS: [&str; 3] = ["CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"];

/// Returns all certificates of a text. The error describes what is wrong with it.
pub(super) fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    // An old name for the same. A TRUSTED CERTIFICATE differs: it may list purposes for which it is not trusted.
    let text = String::from_utf8_lossy(bytes).replace("X509 CERTIFICATE-----", "CERTIFICATE-----");
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let read = read.map_err(|error| error.to_string())?;
    let (begun, ended) = (markers(&text, "BEGIN "), markers(&text, "END "));
    if (begun, ended) != (read.len(), read.len()) {
        return Err(format!(
            "of its certificates, which begin {begun} times and end {ended} times, {} can be read; each needs a line \
             '-----BEGIN CERTIFICATE-----' and a line '-----END CERTIFICATE-----' of its own, without a byte order mark",
            read.len()
        ));
    }
    if !read.is_empty() && bytes.first() == Some(&0x30) && bytes.get(1).is_some_and(|byte| byte & 0x80 != 0) {
        return Err("it begins with a certificate in DER, which must be in PEM like the rest".to_owned());
    }
    Ok(read)
}

/// Counts the places where a certificate begins or ends, or was meant to: with a dash missing, or not on a line of its
/// own. In prose, the label has no dashes around it.
fn markers(text: &str, word: &str) -> usize {
    let is_dash = |letter: char| letter == '-' || !letter.is_ascii();
    let marks = |(at, _): &(usize, &str)| {
        let (before, after) = (&text[..*at], &text[at + word.len()..]);
        LABELS.iter().filter_map(|label| after.strip_prefix(label)).any(|rest| {
            // A CERTIFICATE REQUEST is not a certificate.
            !rest.trim_start_matches(' ').starts_with(|letter: char| letter.is_ascii_alphanumeric())
                && (before.ends_with(is_dash) || rest.starts_with(is_dash))
        })
    };
    text.match_indices(word).filter(marks).count()
}

#[cfg(test)]
mod tests {
    use super::markers;

    #[test]
    fn markers_are_counted_wherever_they_are() {
        let counted = |text: &str| markers(text, "BEGIN ");
        for text in [
            "-----BEGIN CERTIFICATE-----",
            "  -----BEGIN X509 CERTIFICATE-----",
            "x-----BEGIN TRUSTED CERTIFICATE-----",
            "----BEGIN CERTIFICATE",
            "BEGIN CERTIFICATE-----",
            "\u{2014}BEGIN CERTIFICATE\u{2014}",
        ] {
            assert_eq!(counted(text), 1, "{text}");
        }
        for text in
            ["BEGIN CERTIFICATE", "-----BEGIN CERTIFICATE REQUEST-----", "-----BEGIN PRIVATE KEY-----", "-----BEGIN "]
        {
            assert_eq!(counted(text), 0, "{text}");
        }
    }
}
