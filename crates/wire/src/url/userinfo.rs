//! Finds the delimiters of the userinfo in any spelling, and redacts parts of a URL.

use std::borrow::Cow;

/// Replacement for hidden text.
pub const HIDDEN: &str = "***";

/// Returns a part of a URL, a host for example, redacted for an error if the rest of the URL is unknown.
///
/// The rest may contain the at sign that makes this part a user and half of a password. The text after the first colon,
/// in any form, is hidden, and all of a part with an at sign.
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

/// Returns true if a text contains an at sign in any form.
pub(super) fn has_at(text: &str) -> bool {
    last_at(text).is_some()
}

/// Returns the authority of a URL that cannot be parsed, redacted for an error; `behind` is the rest of the URL.
pub(super) fn redact_authority(netloc: &str, behind: &str) -> String {
    if has_at(behind) {
        return HIDDEN.to_owned();
    }
    last_at(netloc).map_or_else(|| netloc.to_owned(), |at| [HIDDEN, &netloc[at..]].concat())
}

/// Returns the position after `scheme://` or `//`; 0 if the text begins with neither.
pub(super) fn behind_scheme(text: &str) -> usize {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let is_scheme = |scheme: &str| scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(fits);
    match text.find("://") {
        Some(end) if is_scheme(&text[..end]) => end + "://".len(),
        _ if text.starts_with("//") => "//".len(),
        _ => 0,
    }
}

/// Returns the position of the last at sign, in any form.
pub(super) fn last_at(text: &str) -> Option<usize> {
    (0..text.len()).rev().find(|&at| AT.stands_at(text.as_bytes(), at))
}

/// Delimiter of the userinfo, with the characters that NFKC turns into it.
struct Sign {
    ascii: u8,
    lookalikes: &'static [&'static str],
}

const AT: Sign = Sign { ascii: b'@', lookalikes: &["\u{ff20}", "\u{fe6b}"] };
const COLON: Sign = Sign { ascii: b':', lookalikes: &["\u{ff1a}", "\u{fe55}", "\u{fe13}"] };

impl Sign {
    /// Returns true if the sign is at this position: itself, a lookalike, or either of them percent-encoded (once or
    /// more often) or escaped as in the repr of Python's bytes.
    fn stands_at(&self, bytes: &[u8], at: usize) -> bool {
        let is_escaped = |octets: &[u8]| octets.iter().try_fold(at, |at, &octet| escaped(bytes, at, octet)).is_some();
        match bytes[at] {
            byte if byte == self.ascii => true,
            // A run of backslashes is examined once, from its start.
            b'\\' if at > 0 && bytes[at - 1] == b'\\' => false,
            b'%' | b'\\' => is_escaped(&[self.ascii]) || self.lookalikes.iter().any(|sign| is_escaped(sign.as_bytes())),
            0xef => self.lookalikes.iter().any(|sign| bytes[at..].starts_with(sign.as_bytes())),
            _ => false,
        }
    }
}

/// Returns the position after an escape of `octet`, if there is one at `at`: `%40`, `%2540` (escaped twice), `\x40`.
fn escaped(bytes: &[u8], at: usize, octet: u8) -> Option<usize> {
    let rest = bytes.get(at..)?;
    let mut digits = match rest.strip_prefix(b"%") {
        Some(digits) => digits,
        // A repr inside another one doubles the backslashes.
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
    fn test_escaped_needs_a_percent_sign_or_a_backslash() {
        for (text, expected) in [
            ("%40", Some(3)),
            ("%2540", Some(5)),
            ("\\x40", Some(4)),
            ("\\\\x40", Some(5)),
            ("x40", None),
            ("40", None),
        ] {
            assert_eq!(escaped(text.as_bytes(), 0, b'@'), expected, "{text}");
        }
    }

    #[test]
    fn test_redact_part_hides_text_after_the_first_colon() {
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
}
