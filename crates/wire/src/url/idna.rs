//! Names with letters beyond ASCII, as the network knows them (UTS 46, which browsers go by).

use std::borrow::Cow;

use idna::AsciiDenyList;

use super::UrlError;
use super::redact::redact_part;

/// The name in ASCII: `bücher.example` is `xn--bcher-kva.example`. What is ASCII already stays as it is: names that no
/// registry would accept are used in private networks.
pub fn to_ascii(host: &str) -> Result<Cow<'_, str>, UrlError> {
    if host.is_ascii() {
        return Ok(Cow::Borrowed(host));
    }
    // Characters that stand for nothing may have been all there was.
    match idna::domain_to_ascii_cow(host.as_bytes(), AsciiDenyList::URL) {
        Ok(ascii) if !ascii.is_empty() => Ok(ascii),
        _ => Err(UrlError::Host { host: redact_part(host).into_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::to_ascii;

    #[test]
    fn names_as_browsers_write_them() {
        for (host, ascii) in [
            ("example.org", "example.org"),
            ("Example.ORG.", "Example.ORG."),
            ("under_score", "under_score"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("BÜCHER.example", "xn--bcher-kva.example"),
            ("faß.de", "xn--fa-hia.de"),
            ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ] {
            assert_eq!(to_ascii(host).ok().as_deref(), Some(ascii), "{host}");
        }
        for host in ["\u{ad}", "a\u{2024}/b", "ex\u{fffd}mple"] {
            assert!(to_ascii(host).is_err(), "{host:?}");
        }
    }
}
