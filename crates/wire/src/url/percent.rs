//! Escapes, `"%" HEXDIG HEXDIG` (RFC 3986 section 2.1), by tables of the characters that need none.

use std::borrow::Cow;

use memchr::memchr;

use super::UrlError;

/// Which bytes may stand unescaped.
pub struct Safe([bool; 256]);

impl Safe {
    /// The unreserved characters of RFC 3986 section 2.3, and `more`.
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

/// RFC 3986 section 2.3: an escape of one of these means the same as the character.
pub static UNRESERVED: Safe = Safe::unreserved_and(b"");
/// `pchar` and "/" (RFC 3986 section 3.3).
pub static PATH: Safe = Safe::unreserved_and(b"!$&'()*+,;=:@/");
/// `userinfo` without the colon that ends the name (RFC 3986 section 3.2.1).
pub static USERINFO: Safe = Safe::unreserved_and(b"!$&'()*+,;=");
/// Everything that may stand in a URL, the percent sign with it: what needs no escape when a whole URL is requoted.
pub static URL: Safe = Safe::unreserved_and(b"!#$%&'()*+,/:;=?@[]");
/// The same for a URL whose percent signs are no escapes.
pub static URL_NO_ESCAPES: Safe = Safe::unreserved_and(b"!#$&'()*+,/:;=?@[]");

const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

/// Adds `bytes` to `out`, every byte that is not `safe` as an escape in upper case.
pub fn quote_into(out: &mut String, bytes: &[u8], safe: &Safe) {
    for &byte in bytes {
        match safe.holds(byte) {
            true => out.push(char::from(byte)),
            false => push_escape(out, byte),
        }
    }
}

/// Adds `bytes` the way forms are encoded: only unreserved characters as they are, a blank as `+`.
pub fn quote_plus_into(out: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b' ' => out.push('+'),
            _ if UNRESERVED.holds(byte) => out.push(char::from(byte)),
            _ => push_escape(out, byte),
        }
    }
}

/// `text` with every character that is not `safe` escaped, except the escapes that it already has.
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

/// The bytes that a piece of a form stands for: escapes decoded, `+` as a blank, a stray percent sign as it is.
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

/// Decodes the escapes of unreserved characters, and no others (RFC 3986 section 6.2.2.2). Nothing that was no escape
/// becomes one by that.
///
/// # Errors
/// [`UrlError::Escape`] where a percent sign is followed by two letters or digits that are not hexadecimal. One that is
/// followed by anything else stays as it is.
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

/// The URL with exactly the escapes it needs: those of unreserved characters decoded, everything that may not stand in
/// a URL escaped. A URL whose percent signs are no escapes (`%zz`) has them escaped as well.
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

/// The byte that two hexadecimal digits at the start of `behind` stand for.
fn decoded(behind: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*behind.get(at)?).to_digit(16);
    u8::try_from(digit(0)? << 4 | digit(1)?).ok()
}

/// Whether what follows would be read as digits of a percent sign that is none of an escape: `%%34d` is not `%4d`.
fn ends_with_stray(text: &str) -> bool {
    match text.as_bytes() {
        [.., b'%'] => true,
        [.., b'%', digit] => digit.is_ascii_alphanumeric(),
        _ => false,
    }
}

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
    fn tables() {
        let members = |safe: &Safe| (0..=255).filter(|byte| safe.holds(*byte)).count();
        assert_eq!(members(&UNRESERVED), 66);
        assert_eq!(members(&URL), 66 + 19);
        assert_eq!(members(&URL_NO_ESCAPES), 66 + 18);
        assert!(!USERINFO.holds(b':') && !PATH.holds(b'?') && !PATH.holds(b'%'));
    }

    #[test]
    fn unreserved_escapes_are_decoded() {
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
    fn a_bad_escape_is_named() {
        for (uri, digits) in [("%zz", "zz"), ("%41%4g", "4g"), ("%\u{e9}1", "\u{e9}1")] {
            assert_eq!(unquote_unreserved(uri), Err(UrlError::Escape { digits: digits.into() }));
        }
    }

    #[test]
    fn requoting() {
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
    fn requoting_twice_changes_nothing() {
        for uri in ["/a b%20%41%2f", "/%", "/%zz", "/\u{e9}%c3%a9", "/%%34d", "/%4%31", "/%%41"] {
            let once = requote_uri(uri).into_owned();
            assert_eq!(requote_uri(&once), once);
        }
    }

    #[test]
    fn escapes_that_are_there_stay() {
        assert_eq!(escape("a%20b c?%", &PATH), "a%20b%20c%3F%25");
        assert_eq!(escape("a/b;c", &PATH), "a/b;c");
        assert_eq!(escape("\u{e9}", &PATH), "%C3%A9");
    }

    #[test]
    fn forms() {
        let mut out = String::new();
        quote_plus_into(&mut out, "a b+c&d=\u{e9}~".as_bytes());
        assert_eq!(out, "a+b%2Bc%26d%3D%C3%A9~");
        assert_eq!(&*unquote_plus(&out), "a b+c&d=\u{e9}~".as_bytes());
        assert_eq!(&*unquote_plus("%zz%4%"), b"%zz%4%");
        assert_eq!(&*unquote_plus("%ff+"), b"\xff ");
    }
}
