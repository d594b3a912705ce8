//! A request from Python: checked, encoded, and run as the calling greenlet.

use std::borrow::Cow;
use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use engine::{Client, Config, Ending, Journal, Opened, Request, TrailerSource};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple, PyType};
use wire::framing::Asked;

use crate::body::Body;
use crate::config::{Http2, PoolConfig, Route, Seconds, of_seconds};
use crate::error::to_python;
use crate::head::{Extent, Head, Origin, characters, encode, from_latin1};
use crate::hub::{Runtime, block_on, close_everywhere};
use crate::idle::IdleGroup;
use crate::journal::ClientJournal;
use crate::resolve::PoolResolver;
use crate::response::Message;
use crate::timings::opened_of_python;
use crate::tls::TlsArguments;
use crate::trailers::Trailers;

/// The connections of one client: at most `size` in each thread that uses it, since each has its own hub. Sockets
/// belong to the hub that opened them; this object holds none and may be used and dropped in any thread.
#[pyclass(frozen, subclass, weakref, module = "geventhttpclient._core", name = "ConnectionPool")]
pub(crate) struct Pool {
    id: u64,
    config: OnceLock<PoolConfig>,
    idle_group: OnceLock<Py<IdleGroup>>,
    closed: AtomicBool,
}

impl Pool {
    pub(crate) fn config(&self) -> PyResult<&PoolConfig> {
        self.config.get().ok_or_else(|| PyRuntimeError::new_err("ConnectionPool.__init__() was not called"))
    }

    fn check_open(&self) -> PyResult<()> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(PyRuntimeError::new_err("connection pool closed"));
        }
        Ok(())
    }
}

#[pymethods]
impl Pool {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Pool { id, config: OnceLock::new(), idle_group: OnceLock::new(), closed: AtomicBool::new(false) }
    }

    /// An SSLContext may lie where its callbacks lead to the pool. Once it was used, the clients of threads hold it as
    /// well, which the collector does not see: such a pool lives until it is closed.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.config.get().map_or(Ok(()), |config| config.traverse(&visit))
    }

    /// Says whom to ask, by which way, and what makes that private. The timeouts are those of `config::Seconds`, and how
    /// many seconds a connection may be idle. `http2` is whether its peer is known to speak it, and after how many
    /// seconds of silence it is sent a PING; None is HTTP/1.1 alone.
    #[expect(clippy::too_many_arguments, reason = "all that a pool is told")]
    fn _configure(
        &self,
        host: String,
        port: u16,
        size: i64,
        timeouts: Seconds,
        idle_timeout: Option<f64>,
        route: Option<Route<'_>>,
        tls: Option<TlsArguments<'_>>,
        http2: Option<Http2>,
    ) -> PyResult<()> {
        let config = PoolConfig::new(host, port, size, timeouts, idle_timeout, route, tls, http2)?;
        self.config.set(config).map_err(|_| PyRuntimeError::new_err("ConnectionPool.__init__() was called twice"))
    }

    /// Has the idle connections count for `group`, in each thread that has not used the pool before. A pool stays in the
    /// group that it has joined first.
    fn _join(&self, group: Py<IdleGroup>) {
        let _ = self.idle_group.set(group);
    }

    /// Closes the idle connections; those in use are closed when their response has been read. Afterwards a request
    /// raises RuntimeError. May be called from any thread, and more than once.
    fn close(&self, py: Python<'_>) {
        if !self.closed.swap(true, Ordering::Relaxed) {
            close_everywhere(py, self.id);
        }
    }

    /// What this thread's part of the pool holds and has done, as counts:
    ///
    /// - `limit`: the most connections there may be; `open`: those there are, of them `idle`; `in_use`: places taken,
    ///   those of connections that are being opened among them; `streams`: requests under way on connections of HTTP/2;
    ///   `waiting`: greenlets in the queue.
    /// - Since the beginning, `opened` and `closed`, a dict from reason to how often; `reused`: requests that found an
    ///   open connection; `retries`: requests that were sent again, since one had broken before it answered.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let size = self.config()?.size;
        let statistics = Runtime::current(py)?.known_client(self.id).map(|client| client.statistics());
        let statistics = statistics.unwrap_or(engine::pool::Statistics { limit: size, ..Default::default() });
        let counts = PyDict::new(py);
        counts.set_item("limit", statistics.limit)?;
        counts.set_item("idle", statistics.idle)?;
        counts.set_item("in_use", statistics.in_use)?;
        counts.set_item("streams", statistics.streams)?;
        counts.set_item("waiting", statistics.waiting)?;
        counts.set_item("opened", statistics.opened)?;
        counts.set_item("reused", statistics.reused)?;
        counts.set_item("retries", statistics.repeated)?;
        counts.set_item("open", statistics.opened.saturating_sub(statistics.closed.total()))?;
        let closed = PyDict::new(py);
        for ending in Ending::ALL {
            let count = statistics.closed.of(ending);
            if count > 0 {
                closed.set_item(ending.name(), count)?;
            }
        }
        counts.set_item("closed", closed)?;
        Ok(counts)
    }

    /// Sends a request and returns an instance of `response_class` once its head is there. To the list `opened` the
    /// connections are added that were opened for it, whether or not it succeeds.
    #[pyo3(signature = (response_class, method, target, body, headers, default_headers, host_field, bases, version,
                        proxy, shape, timeouts, trailers=None, opened=None))]
    #[expect(clippy::too_many_arguments, reason = "one positional call is what the hot path can afford")]
    fn _exchange<'py>(
        slf: &Bound<'py, Self>,
        response_class: &Bound<'py, PyType>,
        method: &Bound<'py, PyAny>,
        target: &Bound<'py, PyAny>,
        body: Option<&Bound<'py, PyAny>>,
        headers: Option<&Bound<'py, PyAny>>,
        default_headers: &Bound<'py, PyAny>,
        host_field: Option<&Bound<'py, PyString>>,
        bases: &Bound<'py, PyList>,
        version: &Bound<'py, PyString>,
        proxy: Option<&Bound<'py, PyAny>>,
        shape: &Bound<'py, PyAny>,
        timeouts: Option<&Bound<'py, PyAny>>,
        trailers: Option<&Bound<'py, PyAny>>,
        opened: Option<&Bound<'py, PyList>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let connections = opened.map(|list| (list, Rc::default()));
        let origin = (host_field, bases, version, proxy);
        let further = (shape, timeouts, trailers, &connections);
        let Prepared { runtime, exchange, response } =
            prepare(slf, method, target, body, headers, default_headers, origin, further)?;
        let outcome = block_on(py, &runtime, exchange)?;
        finish(slf, response_class, runtime, outcome, response, connections)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Not at the interpreter's end, when nobody can be told any more and the process closes all there is.
        Python::try_attach(|py| close_everywhere(py, self.id));
    }
}

/// A request that is ready to be run.
struct Prepared<'py> {
    runtime: Rc<Runtime>,
    exchange: Pin<Box<dyn Future<Output = Outcome>>>,
    response: Wanted<'py>,
}

/// What a response is made of beside what was received.
struct Wanted<'py> {
    method: Bound<'py, PyString>,
    shape: (usize, Bound<'py, PyType>),
    /// To be moved there when all was sent.
    file: Option<(Py<PyAny>, u64)>,
}

/// Boxed, since there has to be room for it on the stack while the request waits.
type Outcome = engine::Result<Box<engine::Response>>;

/// Where the connections are noted that were opened, and whom they are for.
type Noted<'a, 'py> = (&'a Bound<'py, PyList>, Rc<RefCell<Vec<Opened>>>);

/// What the head says of its origin: the value of Host, the bases of absolute targets, the version, the proxy.
type OriginArguments<'a, 'py> =
    (Option<&'a Bound<'py, PyString>>, &'a Bound<'py, PyList>, &'a Bound<'py, PyString>, Option<&'a Bound<'py, PyAny>>);

/// What the response is to be like, the request's own timeouts, its trailers, and where to note connections.
type FurtherArguments<'a, 'py> =
    (&'a Bound<'py, PyAny>, Option<&'a Bound<'py, PyAny>>, Option<&'a Bound<'py, PyAny>>, &'a Option<Noted<'a, 'py>>);

/// Checks and encodes. All that this needs of the stack is gone while the request waits: with ten thousand of them
/// each kilobyte of it counts, and it is copied at each switch.
#[inline(never)]
#[expect(clippy::too_many_arguments, reason = "those of _exchange")]
fn prepare<'py>(
    slf: &Bound<'py, Pool>,
    method: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    body: Option<&Bound<'py, PyAny>>,
    headers: Option<&Bound<'py, PyAny>>,
    default_headers: &Bound<'py, PyAny>,
    (host_field, bases, version, proxy): OriginArguments<'_, 'py>,
    (shape, timeouts, trailers, opened): FurtherArguments<'_, 'py>,
) -> PyResult<Prepared<'py>> {
    let py = slf.py();
    let pool = slf.get();
    pool.check_open()?;
    let config = pool.config()?;
    let (method, target) = (text_of("method", method)?, text_of("request_uri", target)?);
    let target = characters("request_uri", target)?;
    let body = Body::new(body)?;
    let trailers = Trailers::new(trailers)?;
    let name = in_upper_case(characters("method", method)?);
    let name = name.as_ref();
    let proxy: Option<Proxy<'py>> = proxy.map(|proxy| proxy.extract()).transpose()?;
    let origin = origin(host_field, bases, version, proxy.as_ref())?;
    let Head { text, for_proxy, outgoing, closes, expects_continue } =
        encode(&origin, name, target, default_headers, headers, body.extent(), trailers.as_ref())?;
    let (body, file) = body.framed(outgoing);
    let asked = Asked::by(name.as_bytes());
    let idempotent = wire::request::is_idempotent(name.as_bytes());
    let shape = shape.extract()?;
    let timeouts = timeouts.map(|timeouts| of_seconds(timeouts.extract::<Seconds>()?)).transpose()?.map(Box::new);
    let trailers = trailers.map(|trailers| Box::new(trailers) as Box<dyn TrailerSource>);
    let opened = opened.as_ref().map(|(_, connections)| connections.clone());
    let mut request = Request {
        timeouts,
        head: text,
        for_proxy,
        body,
        asked,
        idempotent,
        expects_continue,
        closes,
        trailers,
        opened,
    };

    let runtime = Runtime::current(py)?;
    let client = runtime.client(pool.id, |reactor| {
        let journal: Rc<dyn Journal> = ClientJournal::new(&runtime);
        let idle_group = pool.idle_group.get().map(|group| group.get().of_runtime(&runtime));
        Client::new(reactor, Config { journal: Some(journal), idle_group, ..config.of_thread(py) }, config.size)
    });
    let resolver = PoolResolver(slf.clone().into_any().unbind());
    let exchange = Box::pin(async move { client.run(&mut request, &resolver).await.map(Box::new) });
    Ok(Prepared { runtime, exchange, response: Wanted { method: method.clone(), shape, file } })
}

/// Makes a response of what the exchange came to.
#[inline(never)]
fn finish<'py>(
    slf: &Bound<'py, Pool>,
    response_class: &Bound<'py, PyType>,
    runtime: Rc<Runtime>,
    outcome: Outcome,
    Wanted { method, shape, file }: Wanted<'py>,
    opened: Option<Noted<'_, 'py>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = slf.py();
    runtime.tell_notes(py)?;
    if let Some((list, connections)) = opened {
        for connection in connections.take() {
            list.append(opened_of_python(py, &connection)?)?;
        }
    }
    let response = outcome.map_err(|error| to_python(py, error))?;
    if let Some((file, end)) = file {
        // As if it had been read.
        file.call_method1(py, intern!(py, "seek"), (end,))?;
    }
    Message::create(response_class, runtime, *response, &method, Some(slf.as_any()), shape)
}

/// Methods are case-sensitive (RFC 9110 section 9.1), and existing programs write them as they like.
fn in_upper_case(method: &str) -> Cow<'_, str> {
    if method.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return method.to_ascii_uppercase().into();
    }
    method.into()
}

fn text_of<'a, 'py>(name: &str, value: &'a Bound<'py, PyAny>) -> PyResult<&'a Bound<'py, PyString>> {
    // Not its repr: bytes may be a URL with a password in it.
    match value.cast() {
        Ok(text) => Ok(text),
        Err(_) => Err(PyTypeError::new_err(format!("{name} must be a str, not {}", value.get_type().name()?))),
    }
}

/// Whether the target goes out in absolute form, and the value of Proxy-Authorization; None without a plain proxy.
type Proxy<'py> = (bool, Option<Bound<'py, PyString>>);

fn origin<'a>(
    host_field: Option<&'a Bound<'_, PyString>>,
    bases: &'a Bound<'a, PyList>,
    version: &'a Bound<'_, PyString>,
    proxy: Option<&'a Proxy<'_>>,
) -> PyResult<Origin<'a>> {
    let credentials = proxy.and_then(|(_, credentials)| credentials.as_ref());
    Ok(Origin {
        host: host_field.map(|host| host.to_str()).transpose()?,
        bases,
        absolute: proxy.is_some_and(|(absolute, _)| *absolute),
        version: version.to_str()?,
        proxy_authorization: credentials.map(|value| value.to_str()).transpose()?,
    })
}

/// The head of a request as text: what would be sent. `chunked` overrides what the body says of its framing.
#[pyfunction]
#[pyo3(signature = (method, target, body, headers, default_headers, host_field, bases, version, proxy, chunked,
                    trailers=None))]
#[expect(clippy::too_many_arguments, reason = "the arguments of _exchange")]
pub(crate) fn encode_head<'py>(
    method: &Bound<'py, PyString>,
    target: &Bound<'py, PyString>,
    body: Option<&Bound<'py, PyAny>>,
    headers: Option<&Bound<'py, PyAny>>,
    default_headers: &Bound<'py, PyAny>,
    host_field: Option<&Bound<'py, PyString>>,
    bases: &Bound<'py, PyList>,
    version: &Bound<'py, PyString>,
    proxy: Option<Proxy<'py>>,
    chunked: Option<bool>,
    trailers: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyString>> {
    let py = method.py();
    let origin = origin(host_field, bases, version, proxy.as_ref())?;
    let extent = match chunked {
        Some(true) => Extent::Unknown,
        _ => Body::new(body)?.extent(),
    };
    let trailers = Trailers::new(trailers)?;
    let (method, target) = (method.to_str()?, target.to_str()?);
    let head = encode(&origin, method, target, default_headers, headers, extent, trailers.as_ref())?;
    Ok(from_latin1(py, &head.text))
}
