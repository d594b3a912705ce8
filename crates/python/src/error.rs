//! The one crossing of the engine's errors into Python. Programs catch built-in classes and `HTTPParseError`; the
//! new classes, `ProxyError` and `HTTP2Error`, are of the kinds that they catch for it. What the text does not say is in the attributes `phase`, `peer` and `elapsed` (seconds).

use std::io;

use engine::exchange::Unanswered;
use engine::http2::Http2Error;
use engine::tls::TlsError;
use engine::{Error, Kind};
use pyo3::exceptions::{
    PyConnectionAbortedError, PyException, PyMemoryError, PyOSError, PyRuntimeError, PyTimeoutError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use wire::{CodingError, ResponseError};

use crate::types;

/// The exception that a program sees.
#[cold]
pub(crate) fn to_python(py: Python<'_>, error: Error) -> PyErr {
    let (phase, elapsed) = (error.phase().as_str(), error.elapsed());
    let peer = error.peer().map(str::to_owned);
    let text = error.to_string();
    let context = error.context();
    let exception = match error.into_kind() {
        // The caller's own exception goes through as the object that it is.
        Kind::Caller(error) => match error.downcast::<PyErr>() {
            Ok(exception) => return *exception,
            Err(error) => match error.downcast::<io::Error>() {
                Ok(error) => os_error(*error, &context),
                Err(error) => PyRuntimeError::new_err(error.to_string()),
            },
        },
        Kind::Closed => of_response(py, Closed::BeforeAnswer, (text,)),
        Kind::Http2(error) => http2_error(py, &error, text),
        Kind::Io(error) => os_error(error, &context),
        Kind::Misuse(_) => PyValueError::new_err(text),
        Kind::PoolClosed => PyRuntimeError::new_err(text),
        Kind::Response(error) => response_error_with(py, &error, text),
        Kind::Deadline(_) | Kind::Timeout(_) => PyTimeoutError::new_err(text),
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

/// The same, with what had come of the answer as `received`.
#[cold]
pub(crate) fn unanswered(py: Python<'_>, unanswered: Unanswered) -> PyErr {
    let exception = to_python(py, unanswered.error);
    let _ = exception.value(py).setattr("received", PyBytes::new(py, &unanswered.received));
    exception
}

/// `HTTPParseError(text, code)`, or the subclass that says more.
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

/// `zlib.error`, whatever the coding: it is what programs catch for a body that cannot be decoded.
#[cold]
pub(crate) fn coding_error(py: Python<'_>, error: &CodingError) -> PyErr {
    match types::zlib_error(py) {
        _ if matches!(error, CodingError::OutOfMemory) => PyMemoryError::new_err(error.to_string()),
        Ok(class) => PyErr::from_type(class.clone(), (error.to_string(),)),
        Err(error) => error,
    }
}

/// `ProxyError(text)` with its `status`.
fn proxy_error(py: Python<'_>, status: Option<u16>, text: String) -> PyErr {
    let create = || {
        let exception = types::proxy_error(py)?.call1((text,))?;
        exception.setattr("status", status)?;
        Ok(PyErr::from_value(exception))
    };
    create().unwrap_or_else(|error| error)
}

/// `HTTP2Error(text, code, last_stream)`.
fn http2_error(py: Python<'_>, error: &Http2Error, text: String) -> PyErr {
    match types::http2_error(py) {
        Ok(class) => PyErr::from_type(class.clone(), (text, error.code, error.last_stream)),
        Err(error) => error,
    }
}

/// `ssl.SSLError` with that text.
#[cold]
pub(crate) fn ssl_error(py: Python<'_>, text: String) -> PyErr {
    match types::ssl_error(py) {
        // SSL_ERROR_SSL: neither a wait nor an end.
        Ok(class) => PyErr::from_type(class.clone(), (1, text)),
        Err(error) => error,
    }
}

/// What the ssl module would raise, with the attributes that programs look at.
fn tls_error(py: Python<'_>, error: &TlsError, text: String) -> PyErr {
    let Some(code) = error.certificate else { return ssl_error(py, text) };
    let class = match types::ssl_certificate_error(py) {
        Ok(class) => class.clone(),
        Err(error) => return error,
    };
    let text = format!("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {text}");
    let exception = PyErr::from_type(class, (1, text));
    let value = exception.value(py);
    let _ = value.setattr("library", "SSL");
    let _ = value.setattr("reason", "CERTIFICATE_VERIFY_FAILED");
    let _ = value.setattr("verify_code", code);
    let _ = value.setattr("verify_message", &error.words);
    exception
}

enum Closed {
    BeforeAnswer,
    Glued,
    InMessage,
    No,
}

fn of_response(py: Python<'_>, which: Closed, arguments: impl pyo3::PyErrArguments + 'static) -> PyErr {
    let class = match which {
        Closed::BeforeAnswer | Closed::InMessage => types::connection_closed(py),
        Closed::Glued => types::protocol_violation(py),
        Closed::No => types::parse_error(py),
    };
    match class {
        Ok(class) => PyErr::from_type(class.clone(), arguments),
        Err(error) => error,
    }
}

/// The system's words for an error, without the number, which Python shows in its own place.
pub(crate) fn system_words(error: &io::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" (os error").map_or(text.as_str(), |(words, _)| words).to_owned()
}

/// The subclass of OSError that the number calls for, with the system's words and ours.
fn os_error(error: io::Error, context: &str) -> PyErr {
    match error.raw_os_error() {
        Some(number) => PyOSError::new_err((number, format!("{}{context}", system_words(&error)))),
        None if error.kind() == io::ErrorKind::NotConnected => {
            PyConnectionAbortedError::new_err((libc::ECONNABORTED, format!("{error}{context}")))
        }
        None if error.kind() == io::ErrorKind::OutOfMemory => {
            PyMemoryError::new_err(format!("no memory for what the peer sends{context}"))
        }
        // A Python socket's exception, which travelled inside.
        None => match error.into_inner().map(|inner| inner.downcast::<PyErr>()) {
            Some(Ok(exception)) => *exception,
            Some(Err(inner)) => PyOSError::new_err(format!("{inner}{context}")),
            None => PyOSError::new_err(format!("input/output error{context}")),
        },
    }
}

/// Whether an error is none of the code that it came out of: KeyboardInterrupt, which Python raises in whatever runs, and
/// the like. Where nothing may be raised, it has to be raised elsewhere.
pub(crate) fn is_interrupt(py: Python<'_>, error: &PyErr) -> bool {
    !error.is_instance_of::<PyException>(py)
}
