//! The fast path for the head of a usual request, as http.client writes it.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use wire::request;

/// Returns the head of `method url HTTP/1.1` to `host`, with a body of `length` bytes, None for no body: byte by byte
/// the head that `http.client.HTTPConnection.request` writes for the same arguments.
///
/// Returns None for an unusual request: fields that are not str to str (latin-1), Transfer-Encoding,
/// Proxy-Authorization, absolute URLs, IPv6 addresses, and whatever must not be sent. http.client itself has to write
/// its head, or raise the error.
#[pyfunction]
pub(crate) fn fast_head<'py>(
    method: &Bound<'py, PyAny>,
    url: &Bound<'py, PyAny>,
    host: &Bound<'py, PyAny>,
    headers: &Bound<'py, PyAny>,
    length: Option<usize>,
) -> Option<Bound<'py, PyBytes>> {
    let py = method.py();
    let head = write(&text(method)?, &text(url)?, &text(host)?, headers.cast_exact().ok()?, length)?;
    Some(PyBytes::new(py, &head))
}

fn write(method: &str, url: &str, host: &str, headers: &Bound<'_, PyDict>, length: Option<usize>) -> Option<Vec<u8>> {
    let url = if url.is_empty() { "/" } else { url };
    if !url.is_ascii() || url.starts_with("http") {
        return None;
    }
    let mut own = Vec::with_capacity(256);
    let (mut has_host, mut has_accept_encoding, mut has_length) = (false, false, false);
    for (name, value) in headers {
        let (name, value) = (text(&name)?, text(&value)?);
        has_host |= name.eq_ignore_ascii_case("host");
        has_accept_encoding |= name.eq_ignore_ascii_case("accept-encoding");
        has_length |= name.eq_ignore_ascii_case("content-length");
        let is_unusual =
            ["transfer-encoding", "proxy-authorization"].iter().any(|other| name.eq_ignore_ascii_case(other));
        if !value.is_ascii() || is_unusual {
            return None;
        }
        request::field(&mut own, name.as_bytes(), value.as_bytes()).ok()?;
    }
    let mut head = Vec::with_capacity(own.len().saturating_add(128));
    request::line(&mut head, method.as_bytes(), url.as_bytes(), b"HTTP/1.1").ok()?;
    if !has_host {
        request::field(&mut head, b"Host", host.as_bytes()).ok()?;
    }
    if !has_accept_encoding {
        request::field(&mut head, b"Accept-Encoding", b"identity").ok()?;
    }
    if !has_length {
        let length =
            length.or_else(|| matches!(method.to_ascii_uppercase().as_str(), "PATCH" | "POST" | "PUT").then_some(0));
        if let Some(length) = length {
            request::field(&mut head, b"Content-Length", length.to_string().as_bytes()).ok()?;
        }
    }
    head.extend_from_slice(&own);
    head.extend_from_slice(b"\r\n");
    Some(head)
}

/// Returns the text of an object that is exactly a str; None for any other.
fn text<'a>(value: &'a Bound<'_, PyAny>) -> Option<std::borrow::Cow<'a, str>> {
    value.cast_exact::<PyString>().ok()?.to_cow().ok()
}
