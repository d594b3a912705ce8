//! Percent-encoding, `"%" HEXDIG HEXDIG` (RFC 3986 section 2.1), with tables of the characters that need no escape.

use std::borrow::Cow;

use memchr::memchr;

use super::error::UrlError;

/// Set of bytes that need no escape.
pub struct Safe([bool; 256]);

impl Safe {
    /// Returns the unreserved characters of RFC 3986 section 2.3, and `more`.
    const fn unreserved_and(more: &[u8]) -> Safe {
        let mut table = [false; 256];
        let mut byte: u8 = 0;
        while byte < 128 {
            table[byte as usize] = byte.is_ascii_alphanumeric();
            byte += 1;
        }
        let (mut at, always) = (0, b"-._~");
        while at < always.len() {
            table[always[at] as usize] = true;
            at += 1;
        }
        at = 0;
        while at < more.len() {
            table[more[at] as usize] = true;
            at += 1;
        }
        Safe(table)
    }

    fn holds(&self, byte: u8) -> bool {
        self.0[byte as usize]
    }
}

/// `unreserved` (RFC 3986 section 2.3): an escape of one of these means the same as the character.
pub static UNRESERVED: Safe = Safe::unreserved_and(b"");
/// `pchar` and "/" (RFC 3986 section 3.3).
pub static PATH: Safe = Safe::unreserved_and(b"!$&'()*+,;=:@/");
/// `userinfo` without the colon, which ends the name (RFC 3986 section 3.2.1).
pub static USERINFO: Safe = Safe::unreserved_and(b"!$&'()*+,;=");
/// All characters of a URL, the percent sign included: no escape is needed when a whole URL is requoted.
pub static URL: Safe = Safe::unreserved_and(b"!#$%&'()*+,/:;=?@[]");
/// The same for a URL whose percent signs do not begin escapes.
pub static URL_NO_ESCAPES: Safe = Safe::unreserved_and(b"!#$&'()*+,/:;=?@[]");

const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

/// Appends `bytes` to `out`, with an upper-case escape for each byte that is not `safe`.
pub fn quote_into(out: &mut String, bytes: &[u8], safe: &Safe) {
    for &byte in bytes {
        match safe.holds(byte) {
            true => out.push(char::from(byte)),
            false => push_escape(out, byte),
        }
    }
}

/// Appends `bytes` to `out`, encoded as in forms: unreserved characters unchanged, a blank as `+`, escapes for the
/// rest.
pub fn quote_plus_into(out: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b' ' => out.push('+'),
            _ if UNRESERVED.holds(byte) => out.push(char::from(byte)),
            _ => push_escape(out, byte),
        }
    }
}

/// Returns `text` with all characters escaped that are not `safe`; existing escapes stay.
pub fn escape<'a>(text: &'a str, safe: &Safe) -> Cow<'a, str> {
    if text.bytes().all(|byte| safe.holds(byte)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'%' if decoded(&text.as_bytes()[at + 1..]).is_some() => out.push('%'),
            _ => quote_into(&mut out, &[byte], safe),
        }
    }
    Cow::Owned(out)
}

/// Decodes a part of a form: escapes, and `+` as a blank. A percent sign that begins no escape stays.
pub fn unquote_plus(text: &str) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(bytes);
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escape = if byte == b'%' { decoded(&bytes[at + 1..]) } else { None };
        out.push(escape.unwrap_or(if byte == b'+' { b' ' } else { byte }));
        at += if escape.is_some() { 3 } else { 1 };
    }
    Cow::Owned(out)
}

/// Decodes the escapes of unreserved characters, and no others (RFC 3986 section 6.2.2.2). The result has no escape
/// that the input did not have.
///
/// # Errors
/// [`UrlError::Escape`] if a percent sign is followed by two letters or digits that are not hexadecimal. A percent sign
/// before anything else stays.
pub fn unquote_unreserved(uri: &str) -> Result<Cow<'_, str>, UrlError> {
    let Some(first) = memchr(b'%', uri.as_bytes()) else {
        return Ok(Cow::Borrowed(uri));
    };
    let mut out = String::with_capacity(uri.len());
    let mut rest = uri;
    let mut next = Some(first);
    while let Some(at) = next {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match decoded(rest.as_bytes()) {
            Some(byte) if UNRESERVED.holds(byte) && !ends_with_stray(&out) => {
                out.push(char::from(byte));
                rest = &rest[2..];
            }
            Some(_) => out.push('%'),
            None => {
                check_stray(rest)?;
                out.push('%');
            }
        }
        next = memchr(b'%', rest.as_bytes());
    }
    out.push_str(rest);
    Ok(Cow::Owned(out))
}

/// Returns the URL with exactly the escapes it needs: those of unreserved characters are decoded, and characters that a
/// URL cannot contain are escaped. If a percent sign begins no escape (`%zz`), all percent signs are escaped as well.
pub fn requote_uri(uri: &str) -> Cow<'_, str> {
    let (uri, safe) = match unquote_unreserved(uri) {
        Ok(unquoted) => (unquoted, &URL),
        Err(_) => (Cow::Borrowed(uri), &URL_NO_ESCAPES),
    };
    if uri.bytes().all(|byte| safe.holds(byte)) {
        return uri;
    }
    let mut out = String::with_capacity(uri.len() + 16);
    quote_into(&mut out, uri.as_bytes(), safe);
    Cow::Owned(out)
}

fn push_escape(out: &mut String, byte: u8) {
    out.push('%');
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

/// Returns the byte that the first two characters of `behind` encode, if they are hexadecimal digits.
fn decoded(behind: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*behind.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

/// Returns true if text appended here could complete a stray percent sign to an escape: `%%34d` is not `%4d`.
fn ends_with_stray(text: &str) -> bool {
    match text.as_bytes() {
        [.., b'%'] => true,
        [.., b'%', digit] => digit.is_ascii_alphanumeric(),
        _ => false,
    }
}

/// Checks that a percent sign before `behind` is not an attempted escape.
fn check_stray(behind: &str) -> Result<(), UrlError> {
    let mut chars = behind.chars();
    match (chars.next(), chars.next()) {
        (Some(a), Some(b)) if a.is_alphanumeric() && b.is_alphanumeric() => {
            Err(UrlError::Escape { digits: String::from_iter([a, b]) })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_safe_sets_have_the_characters_of_the_rfc() {
        let members = |safe: &Safe| (0..=255).filter(|byte| safe.holds(*byte)).count();
        assert_eq!(members(&UNRESERVED), 66);
        assert_eq!(members(&URL), 66 + 19);
        assert_eq!(members(&URL_NO_ESCAPES), 66 + 18);
        assert!(!USERINFO.holds(b':') && !PATH.holds(b'?') && !PATH.holds(b'%'));
    }

    #[test]
    fn test_unquote_unreserved_decodes_only_unreserved() {
        for (uri, expected) in [
            ("", ""),
            ("/a", "/a"),
            ("%41%7e%2f%2F%e4", "A~%2f%2F%e4"),
            ("100%", "100%"),
            ("%4", "%4"),
            ("%-1%%41", "%-1%%41"),
            ("%%34d%4%31%", "%%34d%4%31%"),
            ("%25%34%31", "%2541"),
            ("\u{e9}%41\u{e9}", "\u{e9}A\u{e9}"),
            ("%\u{e9}/", "%\u{e9}/"),
        ] {
            assert_eq!(unquote_unreserved(uri).unwrap(), expected, "{uri}");
        }
    }

    #[test]
    fn test_unquote_unreserved_bad_escape_is_refused() {
        for (uri, digits) in [("%zz", "zz"), ("%41%4g", "4g"), ("%\u{e9}1", "\u{e9}1")] {
            assert_eq!(unquote_unreserved(uri), Err(UrlError::Escape { digits: digits.into() }));
        }
    }

    #[test]
    fn test_requote_uri_escapes_as_needed() {
        for (uri, expected) in [
            ("http://h/a?b=c#d", "http://h/a?b=c#d"),
            ("/a b", "/a%20b"),
            ("/a%20b%7Ec", "/a%20b~c"),
            ("/\u{e9}|\"<>", "/%C3%A9%7C%22%3C%3E"),
            ("/100%", "/100%"),
            ("/%zz%20", "/%25zz%2520"),
            ("/\r\n", "/%0D%0A"),
        ] {
            assert_eq!(requote_uri(uri), expected);
        }
        assert!(matches!(requote_uri("/a?b"), Cow::Borrowed(_)));
    }

    #[test]
    fn test_requote_uri_twice_is_the_same() {
        for uri in ["/a b%20%41%2f", "/%", "/%zz", "/\u{e9}%c3%a9", "/%%34d", "/%4%31", "/%%41"] {
            let once = requote_uri(uri).into_owned();
            assert_eq!(requote_uri(&once), once);
        }
    }

    #[test]
    fn test_escape_keeps_existing_escapes() {
        assert_eq!(escape("a%20b c?%", &PATH), "a%20b%20c%3F%25");
        assert_eq!(escape("a/b;c", &PATH), "a/b;c");
        assert_eq!(escape("\u{e9}", &PATH), "%C3%A9");
    }

    #[test]
    fn test_forms_quote_plus_is_undone_by_unquote_plus() {
        let mut out = String::new();
        quote_plus_into(&mut out, "a b+c&d=\u{e9}~".as_bytes());
        assert_eq!(out, "a+b%2Bc%26d%3D%C3%A9~");
        assert_eq!(&*unquote_plus(&out), "a b+c&d=\u{e9}~".as_bytes());
        assert_eq!(&*unquote_plus("%zz%4%"), b"%zz%4%");
        assert_eq!(&*unquote_plus("%ff+"), b"\xff ");
    }
}
