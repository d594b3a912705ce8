//! TLS as Python asks for it: the engine's own, or that of an `ssl.SSLContext`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::rc::Rc;

use engine::tls::{Options, SetupError, Tls, TlsClient, Verify, Versions};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::context::ContextTls;
use crate::error::{ssl_error, system_words};

/// What makes connections private, for any thread.
pub(crate) enum TlsSource {
    Context { context: Py<PyAny>, host: Option<String> },
    Native(TlsClient),
}

/// What `_configure` is given.
#[derive(FromPyObject)]
pub(crate) enum TlsArguments<'py> {
    /// Host, file or directory of roots, how far to verify, certificate and key, version.
    Native(String, Option<PathBuf>, String, Option<(PathBuf, PathBuf)>, Option<String>),
    /// An SSLContext, and the name that is sent and expected.
    Context(Bound<'py, PyAny>, Option<String>),
}

/// What is offered to be spoken above (RFC 7301).
#[derive(Clone, Copy)]
pub(crate) enum Protocols {
    Both,
    Http1,
    Http2,
}

impl Protocols {
    fn names(self) -> Vec<Vec<u8>> {
        let names: &[&[u8]] = match self {
            Protocols::Both => &[b"h2", b"http/1.1"],
            Protocols::Http1 => &[b"http/1.1"],
            Protocols::Http2 => &[b"h2"],
        };
        names.iter().map(|name| name.to_vec()).collect()
    }
}

impl TlsSource {
    /// A context has been told by its maker what to offer.
    pub(crate) fn new(given: TlsArguments<'_>, protocols: Protocols) -> PyResult<Self> {
        match given {
            TlsArguments::Context(context, host) => Ok(TlsSource::Context { context: context.unbind(), host }),
            TlsArguments::Native(host, roots, verify, identity, version) => {
                let options = Options {
                    roots,
                    verify: verify_of(&verify)?,
                    identity,
                    versions: versions_of(version.as_deref())?,
                    alpn: protocols.names(),
                };
                TlsClient::new(&host, &options).map(TlsSource::Native).map_err(setup_error)
            }
        }
    }

    pub(crate) fn of_thread(&self, py: Python<'_>) -> Rc<dyn Tls> {
        match self {
            TlsSource::Context { context, host } => Rc::new(ContextTls::new(context.clone_ref(py), host.clone())),
            TlsSource::Native(client) => Rc::new(client.clone()),
        }
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            TlsSource::Context { context, .. } => visit.call(context),
            TlsSource::Native(_) => Ok(()),
        }
    }
}

fn verify_of(name: &str) -> PyResult<Verify> {
    match name {
        "full" => Ok(Verify::Full),
        "chain" => Ok(Verify::Chain),
        "no" => Ok(Verify::No),
        _ => Err(PyValueError::new_err(format!("no such way to verify: {name:?}"))),
    }
}

fn versions_of(name: Option<&str>) -> PyResult<Versions> {
    match name {
        None => Ok(Versions::All),
        Some("TLSv1.2") => Ok(Versions::Tls12),
        Some("TLSv1.3") => Ok(Versions::Tls13),
        Some(name) => Err(PyValueError::new_err(format!("no such version of TLS: {name:?}"))),
    }
}

/// Returns what an SSLContext is to trust, so that it trusts what the engine does: a file, and the certificates that are
/// not in it (DER).
#[pyfunction]
#[pyo3(name = "_authorities")]
pub(crate) fn authorities(py: Python<'_>, path: Option<PathBuf>) -> PyResult<(Option<OsString>, Bound<'_, PyBytes>)> {
    let found = engine::tls::authorities(path.as_deref()).map_err(setup_error)?;
    Ok((found.file.map(PathBuf::into_os_string), PyBytes::new(py, &found.others)))
}

/// The exceptions that Python's ssl raises for the like.
fn setup_error(error: SetupError) -> PyErr {
    let text = error.to_string();
    let (error, named_by) = match error {
        SetupError::Variable(name, error) => (*error, format!(" (named by {name})")),
        error => (error, String::new()),
    };
    match error {
        SetupError::Content(_) | SetupError::Variable(..) => Python::attach(|py| ssl_error(py, text)),
        SetupError::File(path, error) => match error.raw_os_error() {
            Some(number) => {
                PyOSError::new_err((number, format!("{}{named_by}", system_words(&error)), path.into_os_string()))
            }
            None => PyOSError::new_err(text),
        },
        SetupError::Name(_) => PyValueError::new_err(text),
    }
}
