//! The base of `geventhttpclient.url`: [`wire::url`] for Python strings.
//!
//! A URL crosses as its six fields (scheme, netloc, path, params, query, fragment); a missing one is empty. Every
//! `UrlError` becomes a ValueError.
use std::borrow::Cow;

use pyo3::exceptions::{PyUnicodeEncodeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use wire::url::{Authority, Parts, UrlError, idna, percent, query, resolve};

type Fields = (PyBackedStr, PyBackedStr, PyBackedStr, PyBackedStr, PyBackedStr, PyBackedStr);

/// Returns the six fields of a text.
#[pyfunction]
pub(crate) fn url_split<'py>(url: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyTuple>> {
    to_fields(url.py(), &wire::url::split(text_of(url)?).map_err(value_error)?)
}

/// Returns the text of six fields.
#[pyfunction]
pub(crate) fn url_unsplit(
    scheme: &Bound<'_, PyString>,
    netloc: &Bound<'_, PyString>,
    path: &Bound<'_, PyString>,
    params: &Bound<'_, PyString>,
    query: &Bound<'_, PyString>,
    fragment: &Bound<'_, PyString>,
) -> PyResult<String> {
    let fields = [scheme, netloc, path, params, query, fragment].map(text_of);
    let [scheme, netloc, path, params, query, fragment] = fields;
    Ok(Parts::from_fields([scheme?, netloc?, path?, params?, query?, fragment?]).to_string())
}

/// Resolves `reference` (a text or six fields) against `base` (six fields). Returns six fields.
#[pyfunction]
pub(crate) fn url_resolve<'py>(
    py: Python<'py>,
    base: Fields,
    reference: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyTuple>> {
    let base = from_fields(&base);
    if let Ok(text) = reference.cast::<PyString>() {
        let reference = wire::url::split(text_of(text)?).map_err(value_error)?;
        return to_fields(py, &resolve(&base, &reference));
    }
    let reference: Fields = reference.extract()?;
    to_fields(py, &resolve(&base, &from_fields(&reference)))
}

/// Returns the path with a value appended.
#[pyfunction]
pub(crate) fn path_append(path: &str, value: &str) -> String {
    wire::url::resolve::append_to_path(path, value)
}

/// Returns `(netloc, username, password, hostname, port)`: missing texts are empty; the port is None if it is missing
/// and -1 if it is bad. `netloc` is the very object given, by which a cache knows its key again.
///
/// Raises ValueError if it holds a character that ends an authority.
#[pyfunction]
pub(crate) fn authority_read<'py>(netloc: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyTuple>> {
    let text = text_of(netloc)?;
    Authority::check(text).map_err(value_error)?;
    let authority = Authority::read(text);
    let port = authority.port().map_or(Some(-1), |port| port.map(i32::from));
    (netloc, authority.username().unwrap_or_default(), authority.password().unwrap_or_default(), authority.host(), port)
        .into_pyobject(netloc.py())
}

/// Returns the port of an authority; None without one. `behind` is what follows the authority in its URL.
///
/// Raises ValueError, which names a bad port unless that may be half of a password.
#[pyfunction]
pub(crate) fn authority_port(netloc: &Bound<'_, PyString>, behind: &Bound<'_, PyString>) -> PyResult<Option<u16>> {
    Authority::read(text_of(netloc)?).port_of_url(text_of(behind)?).map_err(value_error)
}

/// Returns the authority with another host.
#[pyfunction]
pub(crate) fn authority_with_host(netloc: &Bound<'_, PyString>, host: &Bound<'_, PyString>) -> PyResult<String> {
    Authority::read(text_of(netloc)?).with_host(text_of(host)?).map_err(value_error)
}

/// Returns the authority with another port, or without one.
#[pyfunction]
pub(crate) fn authority_with_port(netloc: &Bound<'_, PyString>, port: Option<i64>) -> PyResult<String> {
    let out_of_range = |port: i64| value_error(UrlError::PortOutOfRange { port: port.to_string() });
    let port = port.map(|port| u16::try_from(port).map_err(|_| out_of_range(port))).transpose()?;
    Ok(Authority::read(text_of(netloc)?).with_port(port))
}

/// Returns the authority with another user, or without one.
#[pyfunction]
pub(crate) fn authority_with_user(
    netloc: &Bound<'_, PyString>,
    username: Option<&Bound<'_, PyString>>,
    password: Option<&Bound<'_, PyString>>,
) -> PyResult<String> {
    let (username, password) = (username.map(text_of).transpose()?, password.map(text_of).transpose()?);
    Ok(Authority::read(text_of(netloc)?).with_user(username, password))
}

/// Returns the query of key and value pairs. A value is a text, bytes, an iterable of these (the key is repeated), None
/// (no pair), or anything with a `str()`.
#[pyfunction]
pub(crate) fn query_encode(pairs: &Bound<'_, PyAny>) -> PyResult<String> {
    let mut out = String::new();
    for pair in pairs.try_iter()? {
        let (key, value) = two(&pair?)?;
        let key = FormText::of(&key)?;
        for value in form_values(&value)? {
            query::append(&mut out, key.as_ref(), value.as_ref());
        }
    }
    Ok(out)
}

/// Returns the decoded value of a key, a list of values if it is repeated, None if it is missing.
#[pyfunction]
pub(crate) fn query_get<'py>(
    query: &Bound<'py, PyString>,
    key: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = query.py();
    let key = FormText::of(key)?;
    let mut values = query::values(query.to_str()?, key.as_ref());
    let Some(first) = values.next() else {
        return Ok(None);
    };
    let Some(second) = values.next() else {
        return Ok(Some(PyString::new(py, &first).into_any()));
    };
    let all: Vec<Cow<'_, str>> = [first, second].into_iter().chain(values).collect();
    Ok(Some(PyList::new(py, all)?.into_any()))
}

/// Returns the query in which a key has this value and no other: see `query_encode` for the types of values.
#[pyfunction]
pub(crate) fn query_replace(query: &str, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<String> {
    Ok(wire::url::query::replace(query, FormText::of(key)?.as_ref(), &form_values(value)?))
}

/// Returns the URI with exactly the escapes that it needs.
#[pyfunction]
pub(crate) fn requote_uri<'py>(uri: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyString>> {
    Ok(same_or_new(uri, percent::requote_uri(text_of(uri)?)))
}

/// Returns the URI without escapes of unreserved characters.
#[pyfunction]
pub(crate) fn unquote_unreserved<'py>(uri: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyString>> {
    Ok(same_or_new(uri, percent::unquote_unreserved(text_of(uri)?).map_err(value_error)?))
}

/// Returns a host's name in ASCII (UTS 46).
#[pyfunction]
pub(crate) fn host_to_ascii<'a>(host: &'a Bound<'_, PyString>) -> PyResult<Cow<'a, str>> {
    idna::to_ascii(text_of(host)?).map_err(value_error)
}

/// Returns a URL, or a part of one, without user and password: see `wire::url::redact`.
#[pyfunction]
pub(crate) fn redact<'py>(text: &Bound<'py, PyString>) -> Bound<'py, PyString> {
    // No URL has lone surrogates, but a text that an error quotes as one may.
    match text.to_str() {
        Ok(clean) => same_or_new(text, wire::url::redact(clean)),
        Err(_) => PyString::new(text.py(), &wire::url::redact(&text.to_string_lossy())),
    }
}

/// Returns what may be shown of a part of a URL whose rest is not known: see `wire::url::redact_part`.
#[pyfunction]
pub(crate) fn redact_part<'py>(part: &Bound<'py, PyString>) -> Bound<'py, PyString> {
    match part.to_str() {
        Ok(clean) => same_or_new(part, wire::url::redact_part(clean)),
        Err(_) => PyString::new(part.py(), &wire::url::redact_part(&part.to_string_lossy())),
    }
}

/// Returns a message in which each URL is redacted.
#[pyfunction]
pub(crate) fn redact_all<'py>(message: &Bound<'py, PyString>) -> Bound<'py, PyString> {
    match message.to_str() {
        Ok(clean) => same_or_new(message, wire::url::redact_all(clean)),
        Err(_) => PyString::new(message.py(), &wire::url::redact_all(&message.to_string_lossy())),
    }
}

/// Returns the text of a str. UnicodeEncodeError for lone surrogates, without the text: the usual one would show all of
/// it in its repr.
fn text_of<'a>(text: &'a Bound<'_, PyString>) -> PyResult<&'a str> {
    text.to_str().map_err(|_| PyUnicodeEncodeError::new_err(("utf-8", "\u{fffd}", 0, 1, "surrogates not allowed")))
}

fn value_error(error: UrlError) -> PyErr {
    crate::error::InvalidRequest::new_err(error.to_string())
}

fn to_fields<'py>(py: Python<'py>, parts: &Parts<'_>) -> PyResult<Bound<'py, PyTuple>> {
    let (path, params) = parts.path_and_params();
    let scheme = match &*parts.scheme {
        "http" => intern!(py, "http").clone(),
        "https" => intern!(py, "https").clone(),
        scheme => PyString::new(py, scheme),
    };
    let text = |part: Option<&str>| PyString::new(py, part.unwrap_or_default());
    PyTuple::new(
        py,
        [
            scheme,
            text(parts.authority.as_deref()),
            text(Some(path)),
            text(Some(params)),
            text(parts.query.as_deref()),
            text(parts.fragment.as_deref()),
        ],
    )
}

fn from_fields((scheme, netloc, path, params, query, fragment): &Fields) -> Parts<'_> {
    Parts::from_fields([scheme, netloc, path, params, query, fragment])
}

fn same_or_new<'py>(text: &Bound<'py, PyString>, result: Cow<'_, str>) -> Bound<'py, PyString> {
    match result {
        Cow::Borrowed(_) => text.clone(),
        Cow::Owned(result) => PyString::new(text.py(), &result),
    }
}

/// A key or a value of a form: bytes as they are, everything else as the UTF-8 of its text.
enum FormText {
    Bytes(PyBackedBytes),
    Text(PyBackedStr),
}

impl FormText {
    fn of(value: &Bound<'_, PyAny>) -> PyResult<FormText> {
        if let Ok(text) = value.cast::<PyString>() {
            text_of(text)?;
            return Ok(FormText::Text(text.clone().try_into()?));
        }
        match value.cast::<PyBytes>() {
            Ok(bytes) => Ok(FormText::Bytes(bytes.clone().into())),
            Err(_) => Ok(FormText::Text(value.str()?.try_into()?)),
        }
    }
}

impl AsRef<[u8]> for FormText {
    fn as_ref(&self) -> &[u8] {
        match self {
            FormText::Bytes(bytes) => bytes,
            FormText::Text(text) => text.as_bytes(),
        }
    }
}

fn form_values(value: &Bound<'_, PyAny>) -> PyResult<Vec<FormText>> {
    if value.is_none() {
        return Ok(Vec::new());
    }
    let scalar = value.is_instance_of::<PyString>() || value.is_instance_of::<PyBytes>();
    if scalar || !value.hasattr(intern!(value.py(), "__iter__"))? {
        return Ok(vec![FormText::of(value)?]);
    }
    let items = value.try_iter()?.filter(|item| item.as_ref().map_or(true, |item| !item.is_none()));
    items.map(|item| FormText::of(&item?)).collect()
}

fn two<'py>(pair: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    if let Ok(pair) = pair.extract() {
        return Ok(pair);
    }
    let not_a_pair = || PyValueError::new_err("cannot encode objects that are not 2-tuples");
    let items: Vec<Bound<'py, PyAny>> = pair.try_iter().map_err(|_| not_a_pair())?.collect::<PyResult<_>>()?;
    items.try_into().map(|[key, value]: [_; 2]| (key, value)).map_err(|_| not_a_pair())
}
