//! TLS as configured in Python: the engine's own, or that of an `ssl.SSLContext`.

pub(crate) mod context;

use std::ffi::OsString;
use std::path::PathBuf;
use std::rc::Rc;

use engine::tls::{Options, SetupError, Tls, TlsClient, TlsInfo, Verify, Versions};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::error::{ssl_error, system_words};
use crate::tls::context::ContextTls;

/// The TLS of a pool: any thread can make its own from it.
pub(crate) enum TlsSource {
    Context { context: Py<PyAny>, host: Option<String> },
    Native(TlsClient),
}

/// The arguments of `_configure` for TLS.
#[derive(FromPyObject)]
pub(crate) enum TlsArguments<'py> {
    /// Host, file or directory of roots, level of verification, certificate and key, version.
    Native(String, Option<PathBuf>, String, Option<(PathBuf, PathBuf)>, Option<String>),
    /// An SSLContext, and the host name that is sent and verified.
    Context(Bound<'py, PyAny>, Option<String>),
}

/// The protocols that are offered by ALPN (RFC 7301).
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
    /// Creates it from the arguments. A context has the protocols that its creator has set.
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

/// Returns whether the engine's own TLS supports a host of that name.
#[pyfunction]
#[pyo3(name = "_is_server_name")]
pub(crate) fn is_server_name(host: &str) -> bool {
    engine::tls::is_server_name(host)
}

/// Returns the certificates for an SSLContext that is to trust those that the engine does: a file, and the certificates
/// that are not in it (DER).
#[pyfunction]
#[pyo3(name = "_authorities")]
pub(crate) fn authorities(py: Python<'_>, path: Option<PathBuf>) -> PyResult<(Option<OsString>, Bound<'_, PyBytes>)> {
    let found = engine::tls::authorities(path.as_deref()).map_err(setup_error)?;
    Ok((found.file.map(PathBuf::into_os_string), PyBytes::new(py, &found.others)))
}

/// Returns the fields of `TLSInfo`.
pub(crate) fn tls_info_of_python<'py>(py: Python<'py>, info: &TlsInfo) -> PyResult<Bound<'py, PyTuple>> {
    let verified = match info.verified {
        Verify::Full => true.into_pyobject(py)?.to_owned().into_any(),
        Verify::Chain => "chain".into_pyobject(py)?.into_any(),
        Verify::No => false.into_pyobject(py)?.to_owned().into_any(),
    };
    let certificate = info.peer_certificate.as_deref().map(|der| PyBytes::new(py, der));
    let parts = (&info.version, &info.cipher, info.alpn.as_deref(), certificate, verified, info.resumed);
    parts.into_pyobject(py)
}

/// Returns the exception that Python's ssl raises for such an error.
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
