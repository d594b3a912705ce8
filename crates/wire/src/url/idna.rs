//! Internationalized host names in ASCII (UTS 46, as in browsers).

use std::borrow::Cow;

use idna::AsciiDenyList;

use super::error::UrlError;
use super::userinfo::redact_part;

/// Returns the name in ASCII: `xn--bcher-kva.example` for `bücher.example`. ASCII names are not changed, since private
/// networks use names that no registry would accept.
///
/// # Errors
/// [`UrlError::Host`] for a name that UTS 46 refuses.
pub fn to_ascii(host: &str) -> Result<Cow<'_, str>, UrlError> {
    if host.is_ascii() {
        return Ok(Cow::Borrowed(host));
    }
    // A name of ignored characters alone has become empty.
    match idna::domain_to_ascii_cow(host.as_bytes(), AsciiDenyList::URL) {
        Ok(ascii) if !ascii.is_empty() => Ok(ascii),
        _ => Err(UrlError::Host { host: redact_part(host).into_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::to_ascii;

    #[test]
    fn test_to_ascii_names_are_as_in_browsers() {
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
