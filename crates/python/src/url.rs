//! What `geventhttpclient.url` stands on: [`wire::url`] for Python strings.
//!
//! A URL crosses as its six fields (scheme, netloc, path, params, query, fragment), in which an empty one is a missing
//! one. Every `UrlError` is a ValueError.
use std::borrow::Cow;

use pyo3::exceptions::{PyUnicodeEncodeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use wire::url::{Authority, Parts, UrlError, idna, percent, query, resolve};

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(url_split, module)?)?;
    module.add_function(wrap_pyfunction!(url_unsplit, module)?)?;
    module.add_function(wrap_pyfunction!(url_resolve, module)?)?;
    module.add_function(wrap_pyfunction!(path_append, module)?)?;
    module.add_function(wrap_pyfunction!(authority_read, module)?)?;
    module.add_function(wrap_pyfunction!(authority_port, module)?)?;
    module.add_function(wrap_pyfunction!(authority_with_host, module)?)?;
    module.add_function(wrap_pyfunction!(authority_with_port, module)?)?;
    module.add_function(wrap_pyfunction!(authority_with_user, module)?)?;
    module.add_function(wrap_pyfunction!(host_to_ascii, module)?)?;
    module.add_function(wrap_pyfunction!(redact, module)?)?;
    module.add_function(wrap_pyfunction!(redact_part, module)?)?;
    module.add_function(wrap_pyfunction!(redact_all, module)?)?;
    module.add_function(wrap_pyfunction!(query_encode, module)?)?;
    module.add_function(wrap_pyfunction!(query_get, module)?)?;
    module.add_function(wrap_pyfunction!(query_replace, module)?)?;
    module.add_function(wrap_pyfunction!(requote_uri, module)?)?;
    module.add_function(wrap_pyfunction!(unquote_unreserved, module)?)
}

type Fields = (PyBackedStr, PyBackedStr, PyBackedStr, PyBackedStr, PyBackedStr, PyBackedStr);

/// The six fields of a text.
#[pyfunction]
fn url_split<'py>(url: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyTuple>> {
    to_fields(url.py(), &wire::url::split(text_of(url)?).map_err(value_error)?)
}

/// The text of six fields.
#[pyfunction]
fn url_unsplit(
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

/// The six fields of what `reference` (a text or six fields) means at `base` (six fields).
#[pyfunction]
fn url_resolve<'py>(py: Python<'py>, base: Fields, reference: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let base = from_fields(&base);
    if let Ok(text) = reference.cast::<PyString>() {
        let reference = wire::url::split(text_of(text)?).map_err(value_error)?;
        return to_fields(py, &resolve(&base, &reference));
    }
    let reference: Fields = reference.extract()?;
    to_fields(py, &resolve(&base, &from_fields(&reference)))
}

/// The path with a value behind it.
#[pyfunction]
fn path_append(path: &str, value: &str) -> String {
    wire::url::resolve::append_to_path(path, value)
}

/// `(netloc, username, password, hostname, port)`: texts empty where they are missing; the port None where it is
/// missing and -1 where it is bad. `netloc` is the very object given, by which a cache knows its key again. ValueError
/// where it holds what ends an authority.
#[pyfunction]
fn authority_read<'py>(netloc: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyTuple>> {
    let text = text_of(netloc)?;
    Authority::check(text).map_err(value_error)?;
    let authority = Authority::read(text);
    let port = authority.port().map_or(Some(-1), |port| port.map(i32::from));
    (netloc, authority.username().unwrap_or_default(), authority.password().unwrap_or_default(), authority.host(), port)
        .into_pyobject(netloc.py())
}

/// The port of an authority, where there is one. ValueError that names a bad one, unless it may be half of a password:
/// `behind` is what follows the authority in its URL.
#[pyfunction]
fn authority_port(netloc: &Bound<'_, PyString>, behind: &Bound<'_, PyString>) -> PyResult<Option<u16>> {
    Authority::read(text_of(netloc)?).port_of_url(text_of(behind)?).map_err(value_error)
}

/// The authority with another host.
#[pyfunction]
fn authority_with_host(netloc: &Bound<'_, PyString>, host: &Bound<'_, PyString>) -> PyResult<String> {
    Authority::read(text_of(netloc)?).with_host(text_of(host)?).map_err(value_error)
}

/// The authority with another port, or with none.
#[pyfunction]
fn authority_with_port(netloc: &Bound<'_, PyString>, port: Option<i64>) -> PyResult<String> {
    let out_of_range = |port: i64| value_error(UrlError::PortOutOfRange { port: port.to_string() });
    let port = port.map(|port| u16::try_from(port).map_err(|_| out_of_range(port))).transpose()?;
    Ok(Authority::read(text_of(netloc)?).with_port(port))
}

/// The authority with another user, or with none.
#[pyfunction]
fn authority_with_user(
    netloc: &Bound<'_, PyString>,
    username: Option<&Bound<'_, PyString>>,
    password: Option<&Bound<'_, PyString>>,
) -> PyResult<String> {
    let (username, password) = (username.map(text_of).transpose()?, password.map(text_of).transpose()?);
    Ok(Authority::read(text_of(netloc)?).with_user(username, password))
}

/// The query of key and value pairs. A value is a text, bytes, an iterable of these (the key is repeated), None (no
/// pair), or anything with a `str()`.
#[pyfunction]
fn query_encode(pairs: &Bound<'_, PyAny>) -> PyResult<String> {
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

/// The decoded value of a key, the list of them where it is repeated, None where it is missing.
#[pyfunction]
fn query_get<'py>(query: &Bound<'py, PyString>, key: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
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

/// The query in which a key has this value and no other: see `query_encode` for what a value is.
#[pyfunction]
fn query_replace(query: &str, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<String> {
    Ok(wire::url::query::replace(query, FormText::of(key)?.as_ref(), &form_values(value)?))
}

/// The URI with exactly the escapes that it needs.
#[pyfunction]
fn requote_uri<'py>(uri: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyString>> {
    Ok(same_or_new(uri, percent::requote_uri(text_of(uri)?)))
}

/// The URI without escapes of unreserved characters.
#[pyfunction]
fn unquote_unreserved<'py>(uri: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyString>> {
    Ok(same_or_new(uri, percent::unquote_unreserved(text_of(uri)?).map_err(value_error)?))
}

/// A host's name in ASCII (UTS 46).
#[pyfunction]
fn host_to_ascii<'a>(host: &'a Bound<'_, PyString>) -> PyResult<Cow<'a, str>> {
    idna::to_ascii(text_of(host)?).map_err(value_error)
}

/// Returns a URL, or a part of one, without user and password: see `wire::url::redact`.
#[pyfunction]
fn redact<'py>(text: &Bound<'py, PyString>) -> Bound<'py, PyString> {
    // Lone surrogates are part of no URL, but perhaps of one that an error has to quote.
    match text.to_str() {
        Ok(clean) => same_or_new(text, wire::url::redact(clean)),
        Err(_) => PyString::new(text.py(), &wire::url::redact(&text.to_string_lossy())),
    }
}

/// Returns what may be shown of a part of a URL whose rest is not known: see `wire::url::redact_part`.
#[pyfunction]
fn redact_part<'py>(part: &Bound<'py, PyString>) -> Bound<'py, PyString> {
    match part.to_str() {
        Ok(clean) => same_or_new(part, wire::url::redact_part(clean)),
        Err(_) => PyString::new(part.py(), &wire::url::redact_part(&part.to_string_lossy())),
    }
}

/// Returns a message in which each URL is redacted.
#[pyfunction]
fn redact_all<'py>(message: &Bound<'py, PyString>) -> Bound<'py, PyString> {
    match message.to_str() {
        Ok(clean) => same_or_new(message, wire::url::redact_all(clean)),
        Err(_) => PyString::new(message.py(), &wire::url::redact_all(&message.to_string_lossy())),
    }
}

/// The text of a str. UnicodeEncodeError for lone surrogates, which holds those alone: the usual one would show the
/// whole text in its repr.
fn text_of<'a>(text: &'a Bound<'_, PyString>) -> PyResult<&'a str> {
    text.to_str().map_err(|_| PyUnicodeEncodeError::new_err(("utf-8", "\u{fffd}", 0, 1, "surrogates not allowed")))
}

fn value_error(error: UrlError) -> PyErr {
    PyValueError::new_err(error.to_string())
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
