//! URLs as errors, logs and reprs may show them: without user and password.
//!
//! Everything that quotes a URL, or a part of one, goes through here.

use std::borrow::Cow;

use super::authority::Authority;
use super::split::{clean, split};

/// Stands for what is hidden.
pub const HIDDEN: &str = "***";

/// Returns a URL, or a part of one, with [`HIDDEN`] in place of the user and the password.
///
/// A URL that can be read loses its userinfo. In any other text the password may be anywhere: what precedes the last at
/// sign is hidden, from the `//` of the scheme if there is one. At signs that are percent-encoded, or that Unicode
/// normalizes to `@`, count as well.
pub fn redact(text: &str) -> Cow<'_, str> {
    if last_at(text).is_none() {
        return Cow::Borrowed(text);
    }
    match clean(text) {
        Cow::Borrowed(clean) => redact_clean(clean),
        Cow::Owned(clean) => Cow::Owned(redact_clean(&clean).into_owned()),
    }
}

/// Returns what an error may quote of a part of a URL, a host for example, if the rest of the URL is not known.
///
/// The rest may have the at sign that makes this part a user and half of a password: what follows the first colon, in
/// any form, is hidden, and all of a part with an at sign.
pub fn redact_part(part: &str) -> Cow<'_, str> {
    let begin = behind_scheme(part);
    let (start, rest) = part.split_at(begin);
    if has_at(rest) {
        return Cow::Owned([start, HIDDEN].concat());
    }
    match (0..rest.len()).find(|&at| COLON.stands_at(rest.as_bytes(), at)) {
        Some(colon) => Cow::Owned([start, &rest[..colon], ":", HIDDEN].concat()),
        None => Cow::Borrowed(part),
    }
}

/// Returns a message in which each URL is redacted. A URL begins with its scheme and ends at white space.
pub fn redact_all(message: &str) -> Cow<'_, str> {
    if last_at(message).is_none() || !message.contains("://") {
        return Cow::Borrowed(message);
    }
    let mut shown = String::with_capacity(message.len());
    for word in message.split_inclusive(char::is_whitespace) {
        let Some(separator) = word.find("://") else {
            shown.push_str(word);
            continue;
        };
        let is_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        let begin = separator - word.as_bytes()[..separator].iter().rev().take_while(|byte| is_scheme(byte)).count();
        let (before, url) = word.split_at(begin);
        shown.push_str(before);
        // With a second one in the same word it is not known where the first one ends.
        let is_one = !word[separator + 3..].contains("://");
        shown.push_str(&if is_one { redact(url) } else { hide_up_to_last_at(url) });
    }
    Cow::Owned(shown)
}

/// Whether a text has an at sign in any form.
pub(super) fn has_at(text: &str) -> bool {
    last_at(text).is_some()
}

/// Returns the authority of a URL that cannot be read, for an error; `behind` is the rest of the URL.
pub(super) fn redact_authority(netloc: &str, behind: &str) -> String {
    if has_at(behind) {
        return HIDDEN.to_owned();
    }
    last_at(netloc).map_or_else(|| netloc.to_owned(), |at| [HIDDEN, &netloc[at..]].concat())
}

fn redact_clean(text: &str) -> Cow<'_, str> {
    let Some(place) = readable(text) else {
        return hide_up_to_last_at(text);
    };
    let Place { begin, userinfo, end } = place;
    if userinfo > 0 {
        return Cow::Owned([&text[..begin], HIDDEN, &text[begin + userinfo..]].concat());
    }
    // What looks like a port may as well be the beginning of a password that has a slash in it.
    match text[end..].rfind('@') {
        Some(at) if text[begin..end].contains(':') => {
            Cow::Owned([&text[..end], "/", HIDDEN, &text[end + at..]].concat())
        }
        _ => Cow::Borrowed(text),
    }
}

/// Where in a text its authority stands.
struct Place {
    begin: usize,
    /// Bytes of the userinfo, without its at sign; 0 where there is no at sign.
    userinfo: usize,
    end: usize,
}

/// Returns the place of the authority; `None` unless the text is a URL with a host, and with a port that is one.
fn readable(text: &str) -> Option<Place> {
    let parts = split(text).ok()?;
    let netloc = parts.authority.as_deref()?;
    let authority = Authority::read(netloc);
    let begin = parts.scheme.len() + "://".len();
    let end = begin + netloc.len();
    let userinfo = netloc.rfind('@');
    let is_odd = |c: char| c <= ' ' || c == '\x7f' || c.is_whitespace() || "\"'<>`{|}^".contains(c);
    let has_host = !parts.scheme.is_empty() && !authority.host().is_empty() && !has_at(authority.address());
    let has_port = authority.port().is_ok_and(|port| port.is_some() || !authority.address().ends_with(':'));
    // A host has no percent sign but before the zone of an address in brackets: there may be a colon behind it.
    let is_escaped = !authority.address().starts_with('[') && authority.address().contains('%');
    (has_host && has_port && !is_escaped && !netloc.contains(is_odd)).then(|| Place {
        begin,
        userinfo: userinfo.unwrap_or(0),
        end,
    })
}

fn hide_up_to_last_at(text: &str) -> Cow<'_, str> {
    let begin = behind_scheme(text);
    match last_at(&text[begin..]) {
        Some(at) => Cow::Owned([&text[..begin], HIDDEN, &text[begin + at..]].concat()),
        None => Cow::Borrowed(text),
    }
}

/// The place behind `scheme://` or `//`; 0 where a text begins with neither.
fn behind_scheme(text: &str) -> usize {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let is_scheme = |scheme: &str| scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(fits);
    match text.find("://") {
        Some(end) if is_scheme(&text[..end]) => end + "://".len(),
        _ if text.starts_with("//") => "//".len(),
        _ => 0,
    }
}

/// The place of the last at sign, in any form.
fn last_at(text: &str) -> Option<usize> {
    (0..text.len()).rev().find(|&at| AT.stands_at(text.as_bytes(), at))
}

/// A delimiter of the userinfo, with the characters that NFKC turns into it, in UTF-8.
struct Sign {
    ascii: u8,
    lookalikes: &'static [&'static str],
}

const AT: Sign = Sign { ascii: b'@', lookalikes: &["\u{ff20}", "\u{fe6b}"] };
const COLON: Sign = Sign { ascii: b':', lookalikes: &["\u{ff1a}", "\u{fe55}", "\u{fe13}"] };

impl Sign {
    /// Whether the sign stands at that place: as it is, as a lookalike, or either percent-encoded, more than once
    /// perhaps, or escaped as in the repr of Python's bytes.
    fn stands_at(&self, bytes: &[u8], at: usize) -> bool {
        let is_escaped = |octets: &[u8]| octets.iter().try_fold(at, |at, &octet| escaped(bytes, at, octet)).is_some();
        match bytes[at] {
            byte if byte == self.ascii => true,
            // A run of backslashes is looked at once, from its beginning.
            b'\\' if at > 0 && bytes[at - 1] == b'\\' => false,
            b'%' | b'\\' => is_escaped(&[self.ascii]) || self.lookalikes.iter().any(|sign| is_escaped(sign.as_bytes())),
            0xef => self.lookalikes.iter().any(|sign| bytes[at..].starts_with(sign.as_bytes())),
            _ => false,
        }
    }
}

/// The place behind an escape of `octet`, where there is one: `%40`, `%2540` for one that was escaped again, `\x40`.
fn escaped(bytes: &[u8], at: usize, octet: u8) -> Option<usize> {
    let rest = bytes.get(at..)?;
    let mut digits = match rest.strip_prefix(b"%") {
        Some(digits) => digits,
        // A repr within another one doubles the backslashes.
        None => {
            let backslashes = rest.iter().take_while(|&&byte| byte == b'\\').count();
            rest[backslashes..].strip_prefix(b"x").filter(|_| backslashes > 0)?
        }
    };
    while let Some(rest) = digits.strip_prefix(b"25") {
        digits = rest;
    }
    let value = |digit: u8| char::from(digit).to_digit(16);
    let (high, low) = (value(*digits.first()?)?, value(*digits.get(1)?)?);
    (high * 16 + low == u32::from(octet)).then(|| bytes.len() - digits.len() + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_can_be_read_lose_their_userinfo_alone() {
        for (url, shown) in [
            ("http://me:secret@h:80/a@b?c=@", "http://***@h:80/a@b?c=@"),
            ("HTTPS://me:p@ss@h/", "HTTPS://***@h/"),
            ("socks5h://me@[::1]:1", "socks5h://***@[::1]:1"),
            ("http://h/a@b?mail=c%40d", "http://h/a@b?mail=c%40d"),
            ("http://h:80/x?mail=c%40d", "http://h:80/x?mail=c%40d"),
            ("http://@h/", "http://@h/"),
            ("http://h:99999/", "http://h:99999/"),
            ("h:80", "h:80"),
            ("", ""),
        ] {
            assert_eq!(redact(url), shown, "{url}");
        }
    }

    #[test]
    fn anything_else_is_hidden_up_to_the_last_at_sign() {
        for (text, shown) in [
            ("http://me:secret@[bad/", "http://***@[bad/"),
            ("http://me:sec/ret@h/", "http://***@h/"),
            ("http://me:sec?ret@h/", "http://***@h/"),
            ("http://me:sec#ret@h/", "http://***@h/"),
            ("http://me:/secret@h/", "http://***@h/"),
            ("http://me:1/secret@h/", "http://me:1/***@h/"),
            ("http://me:sec\\ret@h/", "http://***@h/"),
            ("http://me:secret@h:port/", "http://***@h:port/"),
            ("http://me:secret@", "http://***@"),
            ("http://me:secret@/x", "http://***@/x"),
            ("http://me:sec ret@h/", "http://***@h/"),
            ("http://me:secret%40h/", "http://***%40h/"),
            ("http://me:secret%252540h/", "http://***%252540h/"),
            ("http://me:secret\u{ff20}h/", "http://***\u{ff20}h/"),
            ("http://me:secret%EF%bc%A0h/", "http://***%EF%bc%A0h/"),
            ("http://me\u{ff1a}secret@h/", "http://***@h/"),
            ("http://me:sec\u{ff0f}ret@h/", "http://***@h/"),
            ("ht\ntp://me:sec\tret@h/", "http://***@h/"),
            ("me:secret@h:80", "***@h:80"),
            ("//me:secret@h/", "//***@h/"),
            ("me:sec://ret@h", "***@h"),
            ("http:/me:secret@h", "***@h"),
            ("ftp://me:sec://ret@h/", "ftp://***@h/"),
            ("@://x", "***@://x"),
        ] {
            assert_eq!(redact(text), shown, "{text:?}");
            assert_eq!(redact(shown), shown, "{text:?}, twice");
        }
    }

    #[test]
    fn escaped_colons_begin_a_password() {
        for (text, shown) in [
            ("http://me%3asecret/x@h/", "http://***@h/"),
            ("http://me%253Asecret/x@h/", "http://***@h/"),
            ("http://me%EF%BC%9asecret/x@h/", "http://***@h/"),
            ("http://me%3asecret/x%40h/", "http://***%40h/"),
            ("b'http://me:secret\\xef\\xbc\\xa0h/'", "***\\xef\\xbc\\xa0h/'"),
            ("b'http://me:secret\\xef\\xb9\\xabh/'", "***\\xef\\xb9\\xabh/'"),
            ("\"b'me:secret\\\\xef\\\\xbc\\\\xa0h/'\"", "***\\\\xef\\\\xbc\\\\xa0h/'\""),
            ("http://[fe80::1%25eth0]/a@b", "http://[fe80::1%25eth0]/***@b"),
        ] {
            assert_eq!(redact(text), shown, "{text:?}");
        }
    }

    #[test]
    fn parts_of_unknown_urls_end_at_their_colon() {
        for (part, shown) in [
            ("host", "host"),
            ("a b", "a b"),
            ("//h/x", "//h/x"),
            ("//me:secret", "//me:***"),
            ("//me::secret%01", "//me:***"),
            ("http://me:secret", "http://me:***"),
            ("me%3asecret'", "me:***"),
            ("me%253Asecret'", "me:***"),
            ("me\u{ff1a}secret", "me:***"),
            ("me\u{fe55}secret", "me:***"),
            ("me\u{fe13}secret", "me:***"),
            ("me%ef%b9%95secret", "me:***"),
            ("me%3aa%40secret'", "***"),
            ("//me:a@secret", "//***"),
            ("", ""),
        ] {
            assert_eq!(redact_part(part), shown, "{part:?}");
            assert_eq!(redact_part(shown), shown, "{part:?}, twice");
        }
    }

    #[test]
    fn messages() {
        for (message, shown) in [
            ("URL http://me:secret@h/: code=404", "URL http://***@h/: code=404"),
            ("invalid choice: 'http://me:sec/ret@h/' (choose)", "invalid choice: 'http://***@h/' (choose)"),
            ("http://a/,http://me:secret@b/", "http://***@b/"),
            ("one@example.org and http://h/", "one@example.org and http://h/"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(redact_all(message), shown, "{message:?}");
        }
    }
}
