//! The lines of a request: RFC 9112 sections 3, 5 and 7.1.2. What is refused here never reaches a socket.

use std::borrow::Cow;

use crate::url::{redact, redact_part};
use crate::{RequestError, token};

/// Fields that have to be known before a body is read: those of framing and connections, routing, request modifiers,
/// authentication, and what the body is (RFC 9110 section 6.5.1). Conditionals, `If-...`, are further ones.
const NEVER_BEHIND_A_BODY: [&str; 24] = [
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "www-authenticate",
];

/// Appends `METHOD SP target SP version CRLF`.
pub fn line(head: &mut Vec<u8>, method: &[u8], target: &[u8], version: &[u8]) -> Result<(), RequestError> {
    if !token::is_token(method) {
        return Err(RequestError::Method(redact(&shown(method)).into_owned()));
    }
    if !token::is_target(target) {
        return Err(RequestError::Target(shown_target(&shown(target)).into_owned()));
    }
    for part in [method, b" ", target, b" ", version, b"\r\n"] {
        head.extend_from_slice(part);
    }
    Ok(())
}

/// Appends one field line. The value is latin-1, without control characters.
pub fn field(head: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<(), RequestError> {
    check_field(name, value)?;
    for part in [name, b": ", value, b"\r\n"] {
        head.extend_from_slice(part);
    }
    Ok(())
}

/// Whether a field may stand in a trailer section (RFC 9110 section 6.5.1), and its line anywhere.
pub fn check_trailer(name: &[u8], value: &[u8]) -> Result<(), RequestError> {
    let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    let is_conditional = name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(b"if-"));
    if is_conditional || NEVER_BEHIND_A_BODY.into_iter().any(is) {
        return Err(RequestError::Trailer(shown(name)));
    }
    check_field(name, value)
}

fn check_field(name: &[u8], value: &[u8]) -> Result<(), RequestError> {
    if !token::is_token(name) {
        return Err(RequestError::FieldName(redact(&shown(name)).into_owned()));
    }
    if let Some(byte) = token::forbidden_in_value(value) {
        return Err(RequestError::FieldValue { name: shown(name), byte });
    }
    Ok(())
}

/// Whether RFC 9110 section 9.2.2 lets a request be sent again when it is not known whether it arrived.
pub fn is_idempotent(method: &[u8]) -> bool {
    matches!(method, b"DELETE" | b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"TRACE")
}

/// Returns what an error may quote of a target. One that does not begin as a path may be any part of a URL.
pub fn shown_target(target: &str) -> Cow<'_, str> {
    let is_path = target.starts_with('/') && !target[1..].starts_with(['/', '\\']);
    if is_path { redact(target) } else { redact_part(target) }
}

#[cold]
fn shown(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| byte as char).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_written_as_it_goes_out() {
        let mut head = Vec::new();
        line(&mut head, b"GET", b"/a?b=c", b"HTTP/1.1").expect("good");
        field(&mut head, b"X-Caf", b"\xe9\t!").expect("good");
        field(&mut head, b"Empty", b"").expect("good");
        assert_eq!(head, b"GET /a?b=c HTTP/1.1\r\nX-Caf: \xe9\t!\r\nEmpty: \r\n");
    }

    #[test]
    fn nothing_can_forge_a_line() {
        for bad in [b"".as_slice(), b"G T", b"GET\r\nX: y", b"G\0T", b"G\xe9"] {
            assert!(matches!(line(&mut Vec::new(), bad, b"/", b"HTTP/1.1"), Err(RequestError::Method(_))));
            assert!(matches!(field(&mut Vec::new(), bad, b"v"), Err(RequestError::FieldName(_))));
        }
        for bad in [b"".as_slice(), b"/a b", b"/\r\nX: y", b"/\0", b"/\x7f", b"/\t"] {
            assert!(matches!(line(&mut Vec::new(), b"GET", bad, b"HTTP/1.1"), Err(RequestError::Target(_))));
        }
        for bad in [b"a\rb".as_slice(), b"a\nb", b"a\0b", b"\x1b[0m", b"\x7f"] {
            assert!(matches!(field(&mut Vec::new(), b"N", bad), Err(RequestError::FieldValue { .. })));
            assert!(matches!(check_trailer(b"N", bad), Err(RequestError::FieldValue { .. })));
        }
    }

    #[test]
    fn trailers_say_nothing_that_must_be_known_before() {
        for good in [b"ETag".as_slice(), b"Digest", b"If", b"IfMatch", b"Content-Digest", b"Server-Timing", b"X-Te"] {
            assert_eq!(check_trailer(good, b"v"), Ok(()));
        }
        for bad in NEVER_BEHIND_A_BODY.map(str::as_bytes).into_iter().chain([b"TE".as_slice(), b"Host", b"If-Match"]) {
            assert!(matches!(check_trailer(bad, b"v"), Err(RequestError::Trailer(_))));
        }
        assert!(matches!(check_trailer(b"G T", b"v"), Err(RequestError::FieldName(_))));
    }
}
