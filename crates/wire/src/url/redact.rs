//! Redacts URLs for errors, logs and reprs: removes user and password.
//!
//! All code that quotes a URL, or a part of one, calls this module.

use std::borrow::Cow;

use super::authority::Authority;
use super::split::{clean, split};
use super::userinfo::{HIDDEN, behind_scheme, has_at, last_at};

/// Returns a URL, or a part of one, with [`HIDDEN`] in place of the user and the password.
///
/// A URL that can be parsed loses its userinfo. In any other text the password may be anywhere: the text before the
/// last at sign is hidden, from the `//` of the scheme on if there is one. At signs that are percent-encoded, or that
/// Unicode normalizes to `@`, count as well.
pub fn redact(text: &str) -> Cow<'_, str> {
    if last_at(text).is_none() {
        return Cow::Borrowed(text);
    }
    match clean(text) {
        Cow::Borrowed(clean) => redact_clean(clean),
        Cow::Owned(clean) => Cow::Owned(redact_clean(&clean).into_owned()),
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
        // With a second URL in the same word, the end of the first one is unknown.
        let is_one = !word[separator + 3..].contains("://");
        shown.push_str(&if is_one { redact(url) } else { hide_up_to_last_at(url) });
    }
    Cow::Owned(shown)
}

fn redact_clean(text: &str) -> Cow<'_, str> {
    let Some(place) = readable(text) else {
        return hide_up_to_last_at(text);
    };
    let Place { begin, userinfo, end } = place;
    if userinfo > 0 {
        return Cow::Owned([&text[..begin], HIDDEN, &text[begin + userinfo..]].concat());
    }
    // The port may be the beginning of a password with a slash in it.
    match text[end..].rfind('@') {
        Some(at) if text[begin..end].contains(':') => {
            Cow::Owned([&text[..end], "/", HIDDEN, &text[end + at..]].concat())
        }
        _ => Cow::Borrowed(text),
    }
}

/// Position of the authority in a text.
struct Place {
    begin: usize,
    /// Length of the userinfo, without its at sign; 0 without an at sign.
    userinfo: usize,
    end: usize,
}

/// Returns the position of the authority; `None` unless the text is a URL with a host, and with a valid port if any.
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
    // A percent sign in a host is valid only before the zone of an address in brackets: it may encode a colon.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_redact_valid_url_loses_only_its_userinfo() {
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
    fn test_redact_host_with_a_character_that_no_host_has_is_hidden_up_to_the_last_at_sign() {
        for character in [' ', '\u{1}', '\u{7f}', '\u{a0}', '\u{2003}', '"', '\'', '<', '`', '{', '|', '^'] {
            let url = format!("http://h{character}i/a@b");
            assert_eq!(redact(&url), "http://***@b", "{character:?}");
        }
    }

    #[test]
    fn test_redact_other_text_is_hidden_up_to_the_last_at_sign() {
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
    fn test_redact_escaped_colon_begins_a_password() {
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
    fn test_redact_all_redacts_each_url_of_a_message() {
        for (message, shown) in [
            ("URL http://me:secret@h/: code=404", "URL http://***@h/: code=404"),
            ("invalid choice: 'http://me:sec/ret@h/' (choose)", "invalid choice: 'http://***@h/' (choose)"),
            ("http://a/,http://me:secret@b/", "http://***@b/"),
            ("one@example.org and http://h/", "one@example.org and http://h/"),
            ("see(http://me:secret@h/)", "see(http://***@h/)"),
            ("at http://me:secret@h/a@b", "at http://***@h/a@b"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(redact_all(message), shown, "{message:?}");
        }
        for message in ["nothing", "one@example.org", "http://h/"] {
            assert!(matches!(redact_all(message), Cow::Borrowed(_)), "{message:?}");
        }
    }
}
