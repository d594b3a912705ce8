//! Conversion of a request's head from the text of HTTP/1.1 to the fields of HTTP/2 (RFC 9113 section 8.3), and of a
//! response's head in the opposite direction.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue, PROXY_AUTHORIZATION, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, StatusCode, Uri, Version};
use wire::{Limits, ResponseError, ResponseHead, token};

use crate::error::Kind;

/// Connection-specific fields, which HTTP/2 forbids (RFC 9113 section 8.2.2).
const OF_THE_CONNECTION: [&[u8]; 6] =
    [b"connection", b"http2-settings", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"];

/// Number of bytes below which an attacker who observes how well a cookie is compressed could guess it (RFC 7541
/// section 7.1.3).
const GUESSABLE: usize = 20;

/// Returns the request whose HTTP/1.1 head is `head`, for the origin `authority` unless the head names a host.
pub(super) fn request(head: &[u8], scheme: &Scheme, authority: &str) -> Result<http::Request<()>, Kind> {
    let mut lines = head.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut words = lines.next().unwrap_or_default().split(|&byte| byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut host = None;
    let mut fields = HeaderMap::with_capacity(8);
    let lines = lines.filter_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let (name, value) = line.split_at_checked(colon)?;
        Some((name, token::trim(value.get(1..).unwrap_or_default())))
    });
    let named: Vec<&[u8]> = lines
        .clone()
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"connection"))
        .flat_map(|(_, value)| token::list(value))
        .collect();
    for (name, value) in lines {
        let is_same = |other: &&[u8]| name.eq_ignore_ascii_case(other);
        if OF_THE_CONNECTION.iter().chain(&named).any(is_same) {
            continue;
        }
        if is_same(&b"host".as_slice()) {
            host = Some(value);
            continue;
        }
        let name = field_name(name)?;
        if name == TE {
            // RFC 9113 section 8.2.2 again: only this value is allowed.
            if token::list(value).any(|coding| coding.eq_ignore_ascii_case(b"trailers")) {
                append(&mut fields, name, HeaderValue::from_static("trailers"))?;
            }
            continue;
        }
        if name == COOKIE {
            // RFC 9113 section 8.2.3: split into crumbs, since those that do not change are compressed to one byte.
            for crumb in value.split(|&byte| byte == b';').map(token::trim).filter(|crumb| !crumb.is_empty()) {
                let mut crumb = field_value(crumb)?;
                crumb.set_sensitive(crumb.len() < GUESSABLE);
                append(&mut fields, name.clone(), crumb)?;
            }
            continue;
        }
        let mut value = field_value(value)?;
        value.set_sensitive(name == AUTHORIZATION || name == PROXY_AUTHORIZATION);
        append(&mut fields, name, value)?;
    }
    let own = without_zone(authority);
    let authority = host.filter(|host| !host.is_empty()).unwrap_or(own.as_bytes());
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(scheme.clone());
    uri.authority = Some(Authority::try_from(authority).map_err(|_| Kind::Misuse("the host is not valid in HTTP/2"))?);
    if method == b"CONNECT" {
        return Err(Kind::Misuse(
            "CONNECT is sent over HTTP/1.1 alone: over HTTP/2 it would open a tunnel in a stream",
        ));
    }
    let path = PathAndQuery::try_from(target);
    uri.path_and_query =
        Some(path.map_err(|_| Kind::Misuse("the request target has a byte that HTTP/2 does not allow"))?);
    let mut request = http::Request::new(());
    *request.method_mut() = Method::from_bytes(method).map_err(|_| Kind::Misuse("the method is not valid"))?;
    *request.uri_mut() = Uri::from_parts(uri).map_err(|_| Kind::Misuse("the request target is not valid"))?;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = fields;
    Ok(request)
}

/// Returns the authority without the zone of an IPv6 address, which has a meaning only on this machine (RFC 6874
/// section 4).
fn without_zone(authority: &str) -> Cow<'_, str> {
    match authority.split_once('%').and_then(|(address, zone)| Some((address, zone.split_once(']')?))) {
        Some((address, (_, port))) => format!("{address}]{port}").into(),
        None => authority.into(),
    }
}

/// Returns the trailers of a request as fields.
pub(super) fn request_trailers(lines: &[(Bytes, Bytes)]) -> Result<HeaderMap, Kind> {
    let mut fields = HeaderMap::with_capacity(lines.len());
    for (name, value) in lines {
        append(&mut fields, field_name(name)?, field_value(value)?)?;
    }
    Ok(fields)
}

fn field_name(name: &[u8]) -> Result<HeaderName, Kind> {
    HeaderName::from_bytes(name).map_err(|_| Kind::Misuse("a header's name is not valid"))
}

fn field_value(value: &[u8]) -> Result<HeaderValue, Kind> {
    HeaderValue::from_bytes(value).map_err(|_| Kind::Misuse("a header's value has a byte that HTTP/2 does not allow"))
}

fn append(fields: &mut HeaderMap, name: HeaderName, value: HeaderValue) -> Result<(), Kind> {
    fields.try_append(name, value).map(drop).map_err(|_| Kind::Misuse("there are too many headers"))
}

/// Returns a response's head as in HTTP/1.1, with the standard reason phrase for its status (RFC 9110 section 15).
pub(super) fn head(status: StatusCode, fields: &HeaderMap, limits: &Limits) -> Result<ResponseHead, ResponseError> {
    check(fields, limits)?;
    let reason = status.canonical_reason().unwrap_or_default();
    Ok(ResponseHead::of_http2(status.as_u16(), reason, lines(fields)))
}

/// Returns the trailers of a response.
pub(super) fn trailers(fields: &HeaderMap, limits: &Limits) -> Result<wire::HeaderMap, ResponseError> {
    check(fields, limits)?;
    Ok(wire::HeaderMap::from_lines(lines(fields)))
}

fn check(fields: &HeaderMap, limits: &Limits) -> Result<(), ResponseError> {
    if fields.len() > limits.header_count {
        return Err(ResponseError::TooManyHeaders(limits.header_count));
    }
    Ok(())
}

fn lines(fields: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    fields.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn lines_of(request: &http::Request<()>) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        lines(request.headers()).map(|(name, value)| format!("{}: {}", text(name), text(value))).collect()
    }

    fn of(head: &str) -> http::Request<()> {
        request(head.as_bytes(), &Scheme::HTTPS, "origin.example:444").unwrap()
    }

    #[test]
    fn host_becomes_the_authority_and_names_are_in_lower_case() {
        let request = of("GET /a?b=c HTTP/1.1\r\nHost: other.example\r\nX-Thing: One\r\n\r\n");
        assert_eq!(request.uri(), "https://other.example/a?b=c");
        assert_eq!(lines_of(&request), ["x-thing: One"]);
        assert_eq!(of("GET / HTTP/1.1\r\n\r\n").uri(), "https://origin.example:444/");
        let zoned = super::request(b"GET / HTTP/1.1\r\n\r\n", &Scheme::HTTP, "[fe80::1%eth0]:81").unwrap();
        assert_eq!(zoned.uri(), "http://[fe80::1]:81/");
        assert_eq!(of("OPTIONS * HTTP/1.1\r\n\r\n").uri().path(), "*");
    }

    #[test]
    fn connect_is_refused() {
        let refused = super::request(b"CONNECT a:443 HTTP/1.1\r\n\r\n", &Scheme::HTTPS, "origin.example:444");
        assert!(matches!(refused, Err(Kind::Misuse(text)) if text.contains("over HTTP/1.1 alone")));
    }

    #[test]
    fn connection_specific_fields_are_not_sent() {
        let head = "GET / HTTP/1.1\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n\
                    Transfer-Encoding: chunked\r\nUpgrade: h2c\r\nTE: gzip\r\nHTTP2-Settings: AA\r\nX-Kept: 1\r\n\r\n";
        assert_eq!(lines_of(&of(head)), ["x-kept: 1"]);
        for value in ["trailers", "Trailers", "gzip, trailers"] {
            assert_eq!(lines_of(&of(&format!("GET / HTTP/1.1\r\nTE: {value}\r\n\r\n"))), ["te: trailers"]);
        }
    }

    #[test]
    fn cookies_are_split_into_crumbs_and_secrets_are_not_compressed() {
        let long = "long=aaaaaaaaaaaaaaaaaaaaaa";
        let request = of(&format!("GET / HTTP/1.1\r\nCookie: a=b; {long};c=d\r\nAuthorization: Basic x\r\n\r\n"));
        assert_eq!(
            lines_of(&request),
            ["cookie: a=b", &format!("cookie: {long}"), "cookie: c=d", "authorization: Basic x"]
        );
        let sensitive: Vec<bool> = request.headers().iter().map(|(_, value)| value.is_sensitive()).collect();
        assert_eq!(sensitive, [true, false, true, true]);
    }

    #[test]
    fn invalid_targets_and_hosts_are_rejected() {
        for head in ["GET /\u{1} HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"] {
            assert!(request(head.as_bytes(), &Scheme::HTTP, "h").is_err(), "{head:?}");
        }
    }
}
