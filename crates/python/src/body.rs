//! What may be sent as a body: bytes-likes, text, open files, file-likes, iterables.

use std::fs::File;
use std::task::{Context, Poll};

use bytes::Bytes;
use engine::timers::Deadline;
use engine::{BodySource, FileBody, Kind, RequestBody};
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyByteArray, PyBytes, PyIterator, PyMemoryView, PyString};

use crate::bytes::{contents, duplicate, owned_copy};
use crate::deadline::within;
use crate::head::{Extent, Outgoing};
use crate::types;

/// Bytes that a file-like is asked for at once.
const PIECE: usize = 64 * 1024;

/// A body, checked, not yet framed.
pub(crate) enum Body {
    Bytes(Bytes),
    File { body: FileBody, object: Py<PyAny> },
    Stream(Source),
}

impl Body {
    /// From whatever a caller passes. TypeError for what is none of it.
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
        // The keys of a mapping are surely not what its maker meant to send.
        let is_mapping = body.is_instance(types::mapping(py)?)?;
        match body.try_iter() {
            Ok(pieces) if !is_mapping => Ok(Body::Stream(Source::Iterator(pieces.unbind()))),
            _ => Err(PyTypeError::new_err(format!(
                "body must be bytes, str, a file or an iterable of these, not {}",
                body.get_type().name()?
            ))),
        }
    }

    pub(crate) fn extent(&self) -> Extent {
        match self {
            Body::Bytes(bytes) if bytes.is_empty() => Extent::None,
            Body::Bytes(bytes) => Extent::Known(bytes.len() as u64),
            Body::File { body, .. } => Extent::Known(body.length),
            Body::Stream(_) => Extent::Unknown,
        }
    }

    /// With the framing that the head has announced. With it, the file object that is to be moved to its end
    /// when all was sent.
    pub(crate) fn framed(self, outgoing: Outgoing) -> (RequestBody, Option<(Py<PyAny>, u64)>) {
        match (self, outgoing) {
            (Body::Bytes(bytes), Outgoing::Counted(_) | Outgoing::Trailed) => (RequestBody::Bytes(bytes), None),
            (Body::Bytes(bytes), Outgoing::Chunked) => (RequestBody::Chunked(Box::new(Source::Once(bytes))), None),
            (Body::File { body, object }, Outgoing::Counted(_) | Outgoing::Trailed) => {
                let end = body.offset.saturating_add(body.length);
                (RequestBody::File(body), Some((object, end)))
            }
            (Body::File { body, .. }, Outgoing::Chunked) => (RequestBody::Chunked(Box::new(Source::File(body))), None),
            (Body::Stream(source), Outgoing::Chunked | Outgoing::Trailed) => {
                (RequestBody::Chunked(Box::new(source)), None)
            }
            (Body::Stream(source), Outgoing::Counted(length)) => (RequestBody::Counted(Box::new(source), length), None),
        }
    }
}

/// `bytes` without a copy; what can change under us is copied now.
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
        // One of a subclass may run code of its own when it goes, at a moment that is not for that.
        all if !bytes.is_exact_instance_of::<PyBytes>() => owned_copy(all)?.into(),
        _ => Bytes::from_owner(PyBackedBytes::from(bytes.clone())),
    })
}

/// From its position to its end, when it is a plain file on disk. A GzipFile or the like has a descriptor too, but
/// reads other bytes than those in it: only `io.FileIO`, buffered or not, is taken by its descriptor.
fn of_file(object: &Bound<'_, PyAny>) -> PyResult<Option<FileBody>> {
    let py = object.py();
    let raw = object.getattr_opt(intern!(py, "raw"))?.unwrap_or_else(|| object.clone());
    if !raw.is_instance(types::file_io(py)?)? {
        return Ok(None);
    }
    // What was written and not flushed is not yet in the file.
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

/// Pieces of a body, one after the other.
pub(crate) enum Source {
    /// The rest of a file.
    File(FileBody),
    /// What an iterator yields.
    Iterator(Py<PyIterator>),
    /// One piece.
    Once(Bytes),
    /// What a file-like's `read` returns.
    Read(Py<PyAny>),
}

impl Source {
    fn next(&mut self, py: Python<'_>) -> PyResult<Option<Bytes>> {
        let piece = match self {
            Source::Once(bytes) => return Ok(Some(std::mem::take(bytes)).filter(|bytes| !bytes.is_empty())),
            Source::File(body) => return next_of_file(body),
            Source::Read(read) => {
                let piece = read.bind(py).call1((PIECE,))?;
                // A file in non-blocking mode has None for "nothing now".
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
    /// Runs the caller's code, which may switch greenlets: this is polled by its own greenlet only, and nothing shared
    /// is held here.
    fn poll_next(&mut self, _: &mut Context<'_>, until: Option<Deadline>) -> Poll<Option<Result<Bytes, Kind>>> {
        Poll::Ready(Python::attach(|py| within(py, until, || self.next(py))).transpose())
    }
}
