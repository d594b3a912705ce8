//! The part of a request that is the same for all requests of a client.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};
use wire::request;
use wire::url::redact;

use crate::request::body::Body;
use crate::request::fields::from_latin1;
use crate::request::head::{BodySize, Head, Origin, encode};
use crate::request::trailers::Trailers;

/// True if the target is sent in absolute form, and the value of Proxy-Authorization; None without a plain HTTP proxy.
type Proxy = (bool, Option<String>);

/// Default fields, origin and form of the requests of one client, and the class of their responses' fields.
#[pyclass(frozen, module = "geventhttpclient._core")]
pub(crate) struct RequestTemplate {
    default_headers: Py<PyAny>,
    origin: Origin,
    /// Bytes that iterating over a response yields at once.
    #[pyo3(get)]
    block_size: usize,
    /// Class of a response's fields.
    #[pyo3(get)]
    headers_type: Py<PyType>,
}

#[pymethods]
impl RequestTemplate {
    /// Keeps the mapping itself: later changes in it count.
    #[new]
    #[pyo3(signature = (default_headers, host_field, origin_prefixes, version, proxy, block_size, headers_type))]
    fn new(
        default_headers: Py<PyAny>,
        host_field: Option<String>,
        origin_prefixes: Vec<String>,
        version: String,
        proxy: Option<Proxy>,
        block_size: usize,
        headers_type: Py<PyType>,
    ) -> Self {
        let (absolute, proxy_authorization) = proxy.unwrap_or_default();
        let origin = Origin { host: host_field, origin_prefixes, absolute, version, proxy_authorization };
        RequestTemplate { default_headers, origin, block_size, headers_type }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.default_headers)?;
        visit.call(&self.headers_type)
    }

    /// The origin as a URL without a path.
    #[getter]
    fn origin(&self) -> &str {
        self.origin.origin_prefixes.first().map_or("", String::as_str)
    }

    /// Returns the URL of a request for hooks. A target that is refused, or is not known to be a path, is redacted.
    fn url_of(&self, method: &Bound<'_, PyString>, target: &Bound<'_, PyString>) -> String {
        let (method, target) = (method.to_string_lossy(), target.to_string_lossy());
        let target = target.as_ref();
        match request::path_of_target(&method, target, &self.origin.origin_prefixes) {
            Err(_) => redact(target).into_owned(),
            Ok(_) if request::is_absolute(target) => target.to_owned(),
            Ok(path) if path == "*" => self.origin().to_owned(),
            Ok(path) if target.starts_with('/') => [self.origin(), &path].concat(),
            Ok(_) => [self.origin(), "/", &redact(target)].concat(),
        }
    }

    /// Returns the head of a request as text, as it would be sent. `chunked` overrides the framing of the body.
    #[pyo3(signature = (method, target, body, headers, chunked, trailers=None))]
    fn encode_head<'py>(
        &self,
        method: &Bound<'py, PyString>,
        target: &Bound<'py, PyString>,
        body: Option<&Bound<'py, PyAny>>,
        headers: Option<&Bound<'py, PyAny>>,
        chunked: Option<bool>,
        trailers: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyString>> {
        let py = method.py();
        let extent = match chunked {
            Some(true) => BodySize::Unknown,
            _ => Body::new(body)?.extent(),
        };
        let trailers = Trailers::new(trailers)?;
        let head = self.encode(py, method.to_str()?, target.to_str()?, headers, extent, trailers.as_ref())?;
        Ok(from_latin1(py, &head.text))
    }
}

impl RequestTemplate {
    /// Encodes the head of a request.
    pub(crate) fn encode(
        &self,
        py: Python<'_>,
        method: &str,
        target: &str,
        headers: Option<&Bound<'_, PyAny>>,
        extent: BodySize,
        trailers: Option<&Trailers>,
    ) -> PyResult<Head> {
        encode(&self.origin, method, target, self.default_headers.bind(py), headers, extent, trailers)
    }

    /// Returns the arguments of responses.
    pub(crate) fn response_options<'py>(&self, py: Python<'py>) -> (usize, Bound<'py, PyType>) {
        (self.block_size, self.headers_type.bind(py).clone())
    }
}
