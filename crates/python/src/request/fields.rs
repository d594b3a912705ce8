//! Header fields and trailers from Python's values, and their text, which is ISO-8859-1.

use std::borrow::Cow;

use crate::error::InvalidRequest;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::types;

/// Labels for error messages: of a collection of fields, and of the name of one of them.
pub(crate) struct FieldLabels {
    all: &'static str,
    name: &'static str,
}

pub(crate) const HEADERS: FieldLabels = FieldLabels { all: "headers", name: "header name" };
pub(crate) const TRAILERS: FieldLabels = FieldLabels { all: "trailers", name: "trailer name" };

/// Receives the name and the value of a line; no value for a name that is to have no line.
type Sink<'a> = dyn FnMut(&[u8], Option<&[u8]>) -> PyResult<()> + 'a;

/// Calls `sink` for each line of a Headers, another mapping, or an iterable of pairs. A value of None is no line, and
/// removes the default of that name; a list or tuple is one line for each item.
pub(crate) fn each_line(words: &FieldLabels, fields: &Bound<'_, PyAny>, sink: &mut Sink<'_>) -> PyResult<()> {
    let py = fields.py();
    if let Ok(dict) = fields.cast::<PyDict>() {
        // Taken out first: turning a value into text may run code of the program that changes the dict, and PyO3's
        // iterator panics then.
        let entries: Vec<_> = dict.iter().collect();
        if !fields.is_instance(types::headers(py)?)? {
            return entries.iter().try_for_each(|(name, value)| lines_of(words, name, value, sink));
        }
        // A Headers has (name, value) under the lower-case name, or a list of such for several lines.
        for (_, entry) in entries {
            if let Ok(line) = entry.cast::<PyTuple>() {
                line_of(words, &line.get_item(0)?, &line.get_item(1)?, sink)?;
            } else {
                for line in entry.try_iter()? {
                    let line = line?;
                    line_of(words, &line.get_item(0)?, &line.get_item(1)?, sink)?;
                }
            }
        }
        return Ok(());
    }
    let pairs = if fields.is_instance(types::mapping(py)?)? { &fields.call_method0("items")? } else { fields };
    let not_pairs =
        || PyTypeError::new_err(format!("{} must be a mapping or an iterable of (name, value) pairs", words.all));
    for pair in pairs.try_iter().map_err(|_| not_pairs())? {
        let (name, value) = pair?.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>().map_err(|_| not_pairs())?;
        lines_of(words, &name, &value, sink)?;
    }
    Ok(())
}

fn lines_of(
    words: &FieldLabels,
    name: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
    sink: &mut Sink<'_>,
) -> PyResult<()> {
    if is_list(value) {
        return value.try_iter()?.try_for_each(|item| line_of(words, name, &item?, sink));
    }
    line_of(words, name, value, sink)
}

fn is_list(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>()
}

fn line_of(
    words: &FieldLabels,
    name: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
    sink: &mut Sink<'_>,
) -> PyResult<()> {
    // One level only: a list may contain itself, and the C stack is finite.
    if is_list(value) {
        let (words, kind) = (words.all, value.get_type().name()?);
        let problem = format!("{words}: a list of values must not contain a {kind}: give one flat list");
        return Err(PyTypeError::new_err(problem));
    }
    with_text(words.name, name, &mut |name| {
        if value.is_none() {
            return sink(name, None);
        }
        let label = String::from_utf8_lossy(name);
        if let Ok(text) = value.cast::<PyString>() {
            return sink(name, Some(&latin1(&label, characters(&label, text)?)?));
        }
        if let Ok(bytes) = value.cast::<PyBytes>() {
            return sink(name, Some(bytes.as_bytes()));
        }
        sink(name, Some(&latin1(&label, value.str()?.to_str()?)?))
    })
}

fn with_text(what: &str, text: &Bound<'_, PyAny>, then: &mut dyn FnMut(&[u8]) -> PyResult<()>) -> PyResult<()> {
    if let Ok(text) = text.cast::<PyString>() {
        return then(&latin1(what, characters(what, text)?)?);
    }
    match text.cast::<PyBytes>() {
        Ok(bytes) => then(bytes.as_bytes()),
        Err(_) => Err(PyTypeError::new_err(format!("{what} must be a str or bytes, not {}", text.get_type().name()?))),
    }
}

/// Returns the text of a str. ValueError if it has surrogates, which are no characters.
pub(crate) fn characters<'a>(what: &str, text: &'a Bound<'_, PyString>) -> PyResult<&'a str> {
    // Without the text: it may be a secret, such as the value of Authorization.
    text.to_str().map_err(|_| InvalidRequest::new_err(format!("Invalid value of {what}: it has lone surrogates")))
}

/// Returns the bytes of a text in ISO-8859-1, the encoding of a head.
pub(crate) fn latin1<'a>(what: &str, text: &'a str) -> PyResult<Cow<'a, [u8]>> {
    if text.is_ascii() {
        return Ok(text.as_bytes().into());
    }
    let bytes: Result<Vec<u8>, char> = text.chars().map(|c| u8::try_from(u32::from(c)).map_err(|_| c)).collect();
    bytes.map(Into::into).map_err(|c| {
        InvalidRequest::new_err(format!("Invalid value of {what}: it has {c:?}, which is outside of ISO-8859-1"))
    })
}

/// Returns the text of bytes in ISO-8859-1.
pub(crate) fn from_latin1<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyString> {
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.is_ascii() => PyString::new(py, text),
        _ => PyString::new(py, &bytes.iter().map(|&byte| byte as char).collect::<String>()),
    }
}
