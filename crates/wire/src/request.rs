//! Writes the lines of a request: RFC 9112 sections 3, 5 and 7.1.2. Invalid input is refused before it reaches a
//! socket.

use std::borrow::Cow;

use crate::error::RequestError;
use crate::token;
use crate::url::{redact, redact_part};

/// Fields that a recipient needs before it reads a body: framing, connection management, routing, request modifiers,
/// authentication, and the format of the body (RFC 9110 section 6.5.1). The conditionals, `If-...`, belong to them too.
const FORBIDDEN_TRAILERS: [&str; 24] = [
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
///
/// # Errors
/// [`RequestError::Method`] if the method is not a token, [`RequestError::Target`] if the target is empty or contains
/// white space or a control character. Both are redacted.
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

/// Appends one field line. The value is Latin-1.
///
/// # Errors
/// [`RequestError::FieldName`] if the name is not a token, [`RequestError::FieldValue`] if the value contains a control
/// character other than a tab.
pub fn field(head: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<(), RequestError> {
    check_field(name, value)?;
    for part in [name, b": ", value, b"\r\n"] {
        head.extend_from_slice(part);
    }
    Ok(())
}

/// Checks that a field may be sent as a trailer (RFC 9110 section 6.5.1), and that its line is valid.
///
/// # Errors
/// [`RequestError::Trailer`] for a field that recipients need before the body, otherwise those of [`field`].
pub fn check_trailer(name: &[u8], value: &[u8]) -> Result<(), RequestError> {
    let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    let is_conditional = name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(b"if-"));
    if is_conditional || FORBIDDEN_TRAILERS.into_iter().any(is) {
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

/// Returns true if a request with this method may be sent again without knowing if it arrived (RFC 9110 section 9.2.2).
pub fn is_idempotent(method: &[u8]) -> bool {
    matches!(method, b"DELETE" | b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"TRACE")
}

/// Returns the path and query of a target with a leading slash, `*` for OPTIONS, or a host and port for CONNECT (RFC
/// 9112 sections 3.2.1, 3.2.3 and 3.2.4).
///
/// A target is a path, or an absolute URL below one of the `origins`, which are `http://host` and the like. A path may
/// begin with two slashes.
///
/// # Errors
/// [`RequestError::ForeignTarget`] for an http or https URL of another origin, [`RequestError::Scheme`] for a URL of
/// another protocol. Both are redacted.
pub fn path_of_target<'a>(
    method: &str,
    target: &'a str,
    origins: &[impl AsRef<str>],
) -> Result<Cow<'a, str>, RequestError> {
    let path = if is_absolute(target) {
        // A connection leads to its own origin only: the request would reach the wrong server.
        let path = origins.iter().find_map(|origin| path_below(target, origin.as_ref()));
        path.ok_or_else(|| RequestError::ForeignTarget {
            url: redact(target).into_owned(),
            own: origins.first().map_or_else(String::new, |own| own.as_ref().to_owned()),
        })?
    } else if has_scheme(target) {
        return Err(RequestError::Scheme(shown_target(target).into_owned()));
    } else {
        target
    };
    let is_authority = method == "CONNECT" && !path.is_empty() && !path.starts_with('?');
    if path.starts_with('/') || (method == "OPTIONS" && path == "*") || is_authority {
        return Ok(path.into());
    }
    Ok(["/", path].concat().into())
}

/// Returns true for an http or https URL.
pub fn is_absolute(target: &str) -> bool {
    ["http://", "https://"]
        .iter()
        .any(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
}

/// Returns true if a target begins with a scheme (RFC 3986 section 3.1) and `://`.
fn has_scheme(target: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let is_scheme = |scheme: &str| scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(fits);
    target.split_once("://").is_some_and(|(scheme, _)| is_scheme(scheme))
}

/// Returns the part of `target` after the origin, if it is a URL of that origin.
fn path_below<'a>(target: &'a str, origin: &str) -> Option<&'a str> {
    let (start, path) = target.split_at_checked(origin.len())?;
    let is_own = start.eq_ignore_ascii_case(origin) && (path.is_empty() || path.starts_with(['/', '?']));
    is_own.then_some(path)
}

/// Returns the target, redacted for an error. A target that does not begin as a path may be any part of a URL.
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
    fn test_line_and_field_append_their_lines() {
        let mut head = Vec::new();
        line(&mut head, b"GET", b"/a?b=c", b"HTTP/1.1").expect("good");
        field(&mut head, b"X-Caf", b"\xe9\t!").expect("good");
        field(&mut head, b"Empty", b"").expect("good");
        assert_eq!(head, b"GET /a?b=c HTTP/1.1\r\nX-Caf: \xe9\t!\r\nEmpty: \r\n");
    }

    #[test]
    fn test_line_and_field_with_control_characters_are_refused() {
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
    fn test_path_of_target_is_a_path_or_of_an_own_url() {
        let origins = ["http://k", "http://k:80"];
        for (method, target, path) in [
            ("GET", "/a?b", "/a?b"),
            ("GET", "a", "/a"),
            ("GET", "?q", "/?q"),
            ("GET", "", "/"),
            ("GET", "//a/b", "//a/b"),
            ("GET", "/?next=ftp://x", "/?next=ftp://x"),
            ("GET", "http://k", "/"),
            ("GET", "HTTP://K:80/a", "/a"),
            ("GET", "http://k?x", "/?x"),
            ("GET", "http://k//a", "//a"),
            ("GET", "*", "/*"),
            ("OPTIONS", "*", "*"),
            ("OPTIONS", "http://k", "/"),
            ("CONNECT", "other:443", "other:443"),
            ("CONNECT", "[::1]:443", "[::1]:443"),
            ("CONNECT", "", "/"),
            ("CONNECT", "?q", "/?q"),
            ("CONNECT", "/a", "/a"),
        ] {
            assert_eq!(path_of_target(method, target, &origins).as_deref(), Ok(path), "{method} {target}");
        }
    }

    #[test]
    fn test_path_of_target_of_a_foreign_url_is_refused() {
        let origins = ["http://k"];
        for target in ["http://k.evil/", "http://k:8080/", "http://k8/", "https://k/", "http://\u{212a}/", "http://"] {
            let refused = path_of_target("GET", target, &origins);
            assert!(matches!(refused, Err(RequestError::ForeignTarget { .. })), "{target}: {refused:?}");
        }
        let refused = path_of_target("GET", "http://me:secret@k/", &origins).expect_err("another authority");
        assert!(!refused.to_string().contains("secret"), "{refused}");
        assert_eq!(path_of_target("GET", "ftp://k/", &origins), Err(RequestError::Scheme("ftp://k/".to_owned())));
    }

    #[test]
    fn test_check_trailer_field_needed_before_the_body_is_refused() {
        for good in [b"ETag".as_slice(), b"Digest", b"If", b"IfMatch", b"Content-Digest", b"Server-Timing", b"X-Te"] {
            assert_eq!(check_trailer(good, b"v"), Ok(()));
        }
        for bad in FORBIDDEN_TRAILERS.map(str::as_bytes).into_iter().chain([b"TE".as_slice(), b"Host", b"If-Match"]) {
            assert!(matches!(check_trailer(bad, b"v"), Err(RequestError::Trailer(_))));
        }
        assert!(matches!(check_trailer(b"G T", b"v"), Err(RequestError::FieldName(_))));
    }

    #[test]
    fn test_errors_quote_latin_1() {
        let refused = |method: &[u8], target: &[u8]| line(&mut Vec::new(), method, target, b"HTTP/1.1");
        assert_eq!(refused(b"G\xe9 T", b"/"), Err(RequestError::Method("G\u{e9} T".into())));
        assert_eq!(refused(b"GET", b"/a \xe9"), Err(RequestError::Target("/a \u{e9}".into())));
        assert_eq!(field(&mut Vec::new(), b"A\xe9", b""), Err(RequestError::FieldName("A\u{e9}".into())));
        let refused = field(&mut Vec::new(), b"A", b"a\rb");
        assert_eq!(refused, Err(RequestError::FieldValue { name: "A".into(), byte: b'\r' }));
        assert_eq!(check_trailer(b"Host", b""), Err(RequestError::Trailer("Host".into())));
    }

    #[test]
    fn test_is_idempotent_follows_the_rfc() {
        for method in ["DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE"] {
            assert!(is_idempotent(method.as_bytes()), "{method}");
        }
        for method in ["POST", "PATCH", "CONNECT", "get", "", "GETS"] {
            assert!(!is_idempotent(method.as_bytes()), "{method}");
        }
    }

    #[test]
    fn test_shown_target_redacts_all_but_paths() {
        for (target, shown) in [
            ("/a:b c", "/a:b c"),
            ("/a:b@c d", "***@c d"),
            ("/", "/"),
            ("//me:secret", "//me:***"),
            ("/\\me:secret", "/\\me:***"),
            ("me:secret", "me:***"),
            ("http://me:secret@h/", "http://***"),
        ] {
            assert_eq!(shown_target(target), shown, "{target}");
        }
    }
}
