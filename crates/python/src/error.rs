//! The only conversion of the engine's errors to Python exceptions. Every class is one of
//! `geventhttpclient.exceptions`, whose root is `HTTPClientError`; those that are named like a built-in are subclasses
//! of it. The attributes `phase`, `peer` and `elapsed` (seconds) hold details that are not in the text.

use std::io;

use engine::http1::exchange::Unanswered;
use engine::http2::Http2Error;
use engine::tls::TlsError;
use engine::{Error, Kind};
use pyo3::PyErrArguments;
use pyo3::exceptions::{PyException, PyMemoryError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyType};
use wire::{CodingError, ResponseError};

use crate::types;

/// Returns the exception for an error of the engine.
#[cold]
pub(crate) fn to_python(py: Python<'_>, error: Error) -> PyErr {
    let (phase, elapsed) = (error.phase().as_str(), error.elapsed());
    let peer = error.peer().map(str::to_owned);
    let text = error.to_string();
    let context = error.context();
    let exception = match error.into_kind() {
        // The caller's own exception is passed on as the same object.
        Kind::Caller(error) => match error.downcast::<PyErr>() {
            Ok(exception) => return *exception,
            Err(error) => match error.downcast::<io::Error>() {
                Ok(error) => os_error(py, *error, &context),
                Err(error) => PyRuntimeError::new_err(error.to_string()),
            },
        },
        Kind::Closed => of_response(py, Closed::BeforeAnswer, (text,)),
        Kind::Http2(error) => http2_error(py, &error, text),
        Kind::Io(error) => os_error(py, error, &context),
        Kind::Misuse(_) => InvalidRequest::new_err(text),
        Kind::PoolClosed => ClientClosed::new_err(text),
        Kind::Response(error) => response_error_with(py, &error, text),
        Kind::Deadline(_) | Kind::Held | Kind::Timeout(_) => of_class(types::timeout_error(py), text),
        Kind::Proxy(refusal) => proxy_error(py, refusal.status, text),
        Kind::Tls(error) => tls_error(py, &error, text),
    };
    let value = exception.value(py);
    // Builtin exceptions take attributes; should one not, its text still says it.
    let _ = value.setattr("phase", phase);
    let _ = value.setattr("peer", peer);
    let _ = value.setattr("elapsed", elapsed.map(|elapsed| elapsed.as_secs_f64()));
    exception
}

/// A request that cannot be sent as it is: `ValueError` of `geventhttpclient.exceptions`.
pub(crate) struct InvalidRequest;

impl InvalidRequest {
    #[cold]
    pub(crate) fn new_err(text: impl Into<String>) -> PyErr {
        Python::attach(|py| of_class(types::value_error(py), text.into()))
    }
}

/// A request of a client that was closed: `RuntimeError` of `geventhttpclient.exceptions`.
pub(crate) struct ClientClosed;

impl ClientClosed {
    #[cold]
    pub(crate) fn new_err(text: impl Into<String>) -> PyErr {
        Python::attach(|py| of_class(types::runtime_error(py), text.into()))
    }
}

/// Creates an exception of a class that is imported by name.
fn of_class(class: PyResult<&Bound<'_, PyType>>, arguments: impl PyErrArguments + 'static) -> PyErr {
    match class {
        Ok(class) => PyErr::from_type(class.clone(), arguments),
        Err(error) => error,
    }
}

/// Converts an error like [`to_python`], with the received part of the response's head as the attribute `received`.
#[cold]
pub(crate) fn unanswered(py: Python<'_>, unanswered: Unanswered) -> PyErr {
    let exception = to_python(py, unanswered.error);
    let _ = exception.value(py).setattr("received", PyBytes::new(py, &unanswered.received));
    exception
}

/// Creates `HTTPParseError(text, code)`, or a more specific subclass.
#[cold]
pub(crate) fn response_error(py: Python<'_>, error: &ResponseError) -> PyErr {
    response_error_with(py, error, error.to_string())
}

fn response_error_with(py: Python<'_>, error: &ResponseError, text: String) -> PyErr {
    let which = match error {
        ResponseError::EarlyEnd(_) => Closed::InMessage,
        ResponseError::Glued => Closed::Glued,
        _ => Closed::No,
    };
    of_response(py, which, (text, error.code()))
}

/// Creates `zlib.error`, whatever the coding: programs catch it for a body that cannot be decoded.
#[cold]
pub(crate) fn coding_error(py: Python<'_>, error: &CodingError) -> PyErr {
    if matches!(error, CodingError::OutOfMemory) {
        return PyMemoryError::new_err(error.to_string());
    }
    of_class(types::coding_error(py), error.to_string())
}

/// Creates `StreamFormatError(text)`.
#[cold]
pub(crate) fn stream_format_error(py: Python<'_>, text: String) -> PyErr {
    of_class(types::stream_format_error(py), text)
}

/// Creates `ProxyError(text)` with its `status`.
fn proxy_error(py: Python<'_>, status: Option<u16>, text: String) -> PyErr {
    let create = || {
        let exception = types::proxy_error(py)?.call1((text,))?;
        exception.setattr("status", status)?;
        Ok(PyErr::from_value(exception))
    };
    create().unwrap_or_else(|error| error)
}

/// Creates `HTTP2Error(text, code, last_stream)`.
fn http2_error(py: Python<'_>, error: &Http2Error, text: String) -> PyErr {
    of_class(types::http2_error(py), (text, error.code, error.last_stream))
}

/// Creates `ssl.SSLError` with that text.
#[cold]
pub(crate) fn ssl_error(py: Python<'_>, text: String) -> PyErr {
    // SSL_ERROR_SSL: neither a wait nor an end.
    of_class(types::tls_error(py), (1, text))
}

/// Returns the exception that the ssl module would raise, with the attributes that programs use.
fn tls_error(py: Python<'_>, error: &TlsError, text: String) -> PyErr {
    let Some(problem) = &error.certificate else { return ssl_error(py, text) };
    let text = format!("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {text}");
    let exception = of_class(types::tls_certificate_error(py), (1, text));
    let value = exception.value(py);
    let _ = value.setattr("library", "SSL");
    let _ = value.setattr("reason", "CERTIFICATE_VERIFY_FAILED");
    let _ = value.setattr("verify_code", problem.code);
    let _ = value.setattr("verify_message", &problem.message);
    exception
}

enum Closed {
    BeforeAnswer,
    Glued,
    InMessage,
    No,
}

fn of_response(py: Python<'_>, which: Closed, arguments: impl PyErrArguments + 'static) -> PyErr {
    let class = match which {
        Closed::BeforeAnswer | Closed::InMessage => types::connection_closed(py),
        Closed::Glued => types::protocol_violation(py),
        Closed::No => types::parse_error(py),
    };
    of_class(class, arguments)
}

/// Returns the system's text for an error, without the number, which Python shows separately.
pub(crate) fn system_words(error: &io::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" (os error").map_or(text.as_str(), |(words, _)| words).to_owned()
}

/// Creates the subclass of OSError for the number, with the system's text and ours. For a broken connection it is also
/// an HTTPConnectionClosed.
fn os_error(py: Python<'_>, error: io::Error, context: &str) -> PyErr {
    if let Some(number) = broken(error.kind()) {
        let words = system_words(&io::Error::from_raw_os_error(number));
        return of_class(broken_class(py, number), (number, format!("{words}{context}")));
    }
    match error.raw_os_error() {
        Some(number) => of_class(types::os_error(py), (number, format!("{}{context}", system_words(&error)))),
        None if error.kind() == io::ErrorKind::NotConnected => {
            of_class(types::os_error(py), (libc::ECONNABORTED, format!("{error}{context}")))
        }
        None if error.kind() == io::ErrorKind::OutOfMemory => {
            PyMemoryError::new_err(format!("no memory for what the peer sends{context}"))
        }
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            of_response(py, Closed::InMessage, (format!("connection closed by the peer{context}"),))
        }
        // A Python socket's exception, wrapped in the error.
        None => match error.into_inner().map(|inner| inner.downcast::<PyErr>()) {
            Some(Ok(exception)) => of_package(py, *exception),
            Some(Err(inner)) => of_class(types::os_error(py), format!("{inner}{context}")),
            None => of_class(types::os_error(py), format!("input/output error{context}")),
        },
    }
}

/// Converts an exception of an SSLContext to one of the package, with the same text; returns any other unchanged.
fn of_package(py: Python<'_>, exception: PyErr) -> PyErr {
    if !types::ssl_error(py).is_ok_and(|class| exception.is_instance(py, class)) {
        return exception;
    }
    let made = types::of_package(py).and_then(|function| function.call1((exception.value(py),)));
    made.map_or(exception, PyErr::from_value)
}

/// Returns the system's error number for a broken connection of that kind; `None` for any other kind.
fn broken(kind: io::ErrorKind) -> Option<i32> {
    match kind {
        io::ErrorKind::BrokenPipe => Some(libc::EPIPE),
        io::ErrorKind::ConnectionAborted => Some(libc::ECONNABORTED),
        io::ErrorKind::ConnectionReset => Some(libc::ECONNRESET),
        _ => None,
    }
}

/// Returns the class for such a number.
fn broken_class(py: Python<'_>, number: i32) -> PyResult<&Bound<'_, PyType>> {
    match number {
        libc::EPIPE => types::connection_pipe(py),
        libc::ECONNABORTED => types::connection_aborted(py),
        _ => types::connection_reset(py),
    }
}

/// Returns true if an error does not belong to the code that raised it: KeyboardInterrupt, which Python raises in any
/// running code, and the like. Code that must not raise has to pass it on to code that may.
pub(crate) fn is_interrupt(py: Python<'_>, error: &PyErr) -> bool {
    !error.is_instance_of::<PyException>(py)
}
