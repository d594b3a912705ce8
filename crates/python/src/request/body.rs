//! Request bodies: bytes-like objects, text, open files, file-like objects, iterables.

use std::fs::File;
use std::task::{Context, Poll};

use bytes::Bytes;
use engine::rt::timeout::Deadline;
use engine::{BodySource, FileBody, Kind, RequestBody};
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyByteArray, PyBytes, PyIterator, PyMemoryView, PyString};

use crate::convert::{contents, duplicate, owned_copy};
use crate::request::deadline::within;
use crate::request::head::{BodyFraming, BodySize};
use crate::types;

/// Bytes that a file-like object is asked for at once.
const PIECE: usize = 64 * 1024;

/// A body, checked, not yet framed.
pub(crate) enum Body {
    Bytes(Bytes),
    File { body: FileBody, object: Py<PyAny> },
    Stream(Source),
}

impl Body {
    /// Creates a body from the caller's object. TypeError if it is of no such type.
    pub(crate) fn new(body: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let Some(body) = body.filter(|body| !body.is_none()) else { return Ok(Body::Bytes(Bytes::new())) };
        if let Some(bytes) = in_memory(body)? {
            return Ok(Body::Bytes(bytes));
        }
        let py = body.py();
        if let Some(read) = body.getattr_opt(intern!(py, "read"))? {
            return match of_file(body)? {
                Some(file) => Ok(Body::File { body: file, object: body.clone().unbind() }),
                None => Ok(Body::Stream(Source::Read(read.unbind()))),
            };
        }
        if let Ok(view) = PyMemoryView::from(body) {
            return Ok(Body::Bytes(owned(view.call_method0(intern!(py, "tobytes"))?.cast()?)?));
        }
        // The keys of a mapping are surely not meant to be sent.
        let is_mapping = body.is_instance(types::mapping(py)?)?;
        match body.try_iter() {
            Ok(pieces) if !is_mapping => Ok(Body::Stream(Source::Iterator(pieces.unbind()))),
            _ => Err(PyTypeError::new_err(format!(
                "body must be bytes, str, a file or an iterable of these, not {}",
                body.get_type().name()?
            ))),
        }
    }

    pub(crate) fn extent(&self) -> BodySize {
        match self {
            Body::Bytes(bytes) if bytes.is_empty() => BodySize::None,
            Body::Bytes(bytes) => BodySize::Known(bytes.len() as u64),
            Body::File { body, .. } => BodySize::Known(body.length),
            Body::Stream(_) => BodySize::Unknown,
        }
    }

    /// Returns the body with the framing that the head has announced, and the file object that is to be moved to that
    /// position once all has been sent.
    pub(crate) fn framed(self, outgoing: BodyFraming) -> (RequestBody, Option<(Py<PyAny>, u64)>) {
        match (self, outgoing) {
            (Body::Bytes(bytes), BodyFraming::Counted(_) | BodyFraming::Trailed) => (RequestBody::Bytes(bytes), None),
            (Body::Bytes(bytes), BodyFraming::Chunked) => (RequestBody::Chunked(Box::new(Source::Once(bytes))), None),
            (Body::File { body, object }, BodyFraming::Counted(_) | BodyFraming::Trailed) => {
                let end = body.offset.saturating_add(body.length);
                (RequestBody::File(body), Some((object, end)))
            }
            (Body::File { body, .. }, BodyFraming::Chunked) => {
                (RequestBody::Chunked(Box::new(Source::File(body))), None)
            }
            (Body::Stream(source), BodyFraming::Chunked | BodyFraming::Trailed) => {
                (RequestBody::Chunked(Box::new(source)), None)
            }
            (Body::Stream(source), BodyFraming::Counted(length)) => {
                (RequestBody::Counted(Box::new(source), length), None)
            }
        }
    }
}

/// Returns the bytes of an object that is in memory. `bytes` are not copied; what the program can change is.
fn in_memory(body: &Bound<'_, PyAny>) -> PyResult<Option<Bytes>> {
    if let Ok(bytes) = body.cast::<PyBytes>() {
        return Ok(Some(owned(bytes)?));
    }
    if let Ok(text) = body.cast::<PyString>() {
        return Ok(Some(owned_copy(text.to_str()?.as_bytes())?.into()));
    }
    if let Ok(array) = body.cast::<PyByteArray>() {
        return Ok(Some(Bytes::from(contents(array)?)));
    }
    if body.is_instance_of::<PyMemoryView>() {
        return Ok(Some(owned(body.call_method0(intern!(body.py(), "tobytes"))?.cast()?)?));
    }
    Ok(None)
}

fn owned(bytes: &Bound<'_, PyBytes>) -> PyResult<Bytes> {
    Ok(match bytes.as_bytes() {
        [] => Bytes::new(),
        // An object of a subclass may run code of its own when it is dropped, where no such code may run.
        all if !bytes.is_exact_instance_of::<PyBytes>() => owned_copy(all)?.into(),
        _ => Bytes::from_owner(PyBackedBytes::from(bytes.clone())),
    })
}

/// Returns a plain file on disk, from its position to its end. A GzipFile or the like has a descriptor too, but
/// reads other bytes than those in it: only `io.FileIO`, buffered or not, is read by its descriptor.
fn of_file(object: &Bound<'_, PyAny>) -> PyResult<Option<FileBody>> {
    let py = object.py();
    let raw = object.getattr_opt(intern!(py, "raw"))?.unwrap_or_else(|| object.clone());
    if !raw.is_instance(types::file_io(py)?)? {
        return Ok(None);
    }
    // Data that was written but not flushed is not yet in the file.
    if let Some(flush) = object.getattr_opt(intern!(py, "flush"))? {
        flush.call0()?;
    }
    let number: i32 = raw.call_method0(intern!(py, "fileno"))?.extract()?;
    let file = File::from(duplicate(number)?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(None);
    }
    let offset: u64 = object.call_method0(intern!(py, "tell"))?.extract()?;
    Ok(Some(FileBody { file, offset, length: metadata.len().saturating_sub(offset) }))
}

/// The source of a body that is sent in pieces.
pub(crate) enum Source {
    /// The rest of a file.
    File(FileBody),
    /// The items of an iterator.
    Iterator(Py<PyIterator>),
    /// One piece.
    Once(Bytes),
    /// The results of a file-like object's `read`.
    Read(Py<PyAny>),
}

impl Source {
    fn next(&mut self, py: Python<'_>) -> PyResult<Option<Bytes>> {
        let piece = match self {
            Source::Once(bytes) => return Ok(Some(std::mem::take(bytes)).filter(|bytes| !bytes.is_empty())),
            Source::File(body) => return next_of_file(body),
            Source::Read(read) => {
                let piece = read.bind(py).call1((PIECE,))?;
                // A file in non-blocking mode returns None for "nothing now".
                if piece.is_none() {
                    return Err(PyTypeError::new_err("the body's read() returned None"));
                }
                let piece = of_piece(&piece)?;
                return Ok(Some(piece).filter(|piece| !piece.is_empty()));
            }
            Source::Iterator(pieces) => pieces.bind(py).clone().next(),
        };
        piece.transpose()?.map(|piece| of_piece(&piece)).transpose()
    }
}

fn next_of_file(body: &mut FileBody) -> PyResult<Option<Bytes>> {
    let piece = body.read_at(body.offset, PIECE.min(usize::try_from(body.length).unwrap_or(usize::MAX)))?;
    let length = piece.len() as u64;
    body.offset = body.offset.saturating_add(length);
    body.length = body.length.saturating_sub(length);
    Ok(Some(piece).filter(|piece| !piece.is_empty()))
}

fn of_piece(piece: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    match in_memory(piece)? {
        Some(bytes) => Ok(bytes),
        None => Err(PyTypeError::new_err(format!(
            "the pieces of a body must be bytes or str, not {}",
            piece.get_type().name()?
        ))),
    }
}

impl BodySource for Source {
    /// Runs the caller's code, which may switch greenlets: the request's own greenlet alone polls this, and nothing
    /// shared is borrowed here.
    fn poll_next(&mut self, _: &mut Context<'_>, until: Option<Deadline>) -> Poll<Option<Result<Bytes, Kind>>> {
        Poll::Ready(Python::attach(|py| within(py, until, || self.next(py))).transpose())
    }
}
