//! Panics of this module: defects of it, which must not end the program.

use std::any::Any;
use std::io::Write;
use std::panic;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// Replaces Rust's panic hook for this module by one that writes the message and its place to standard error, and no
/// backtrace: with RUST_BACKTRACE set, the standard one walks up the stack, and a greenlet's stack ends where other
/// greenlets' parts of it have been moved away.
pub(crate) fn set_hook() {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let message = message(info.payload());
        // Standard error may be closed.
        let _ = writeln!(std::io::stderr(), "geventhttpclient panicked at {place}: {message}");
    }));
}

/// Returns the exception that reports a panic.
#[cold]
pub(crate) fn as_exception(payload: &(dyn Any + Send)) -> PyErr {
    let message = message(payload);
    PyRuntimeError::new_err(format!("internal error of geventhttpclient, please report it: {message}"))
}

fn message(payload: &(dyn Any + Send)) -> &str {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text,
        (None, None) => "a panic without a message",
    }
}
