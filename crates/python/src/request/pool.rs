//! A request from Python: checked, encoded, and run as the calling greenlet.

use std::borrow::Cow;
use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use engine::{
    Client, CloseReason, Config, ConnectionObserver, Kind, Opened, Phase, PhaseObserver, Request, TrailerSource,
};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple, PyType};
use wire::framing::MethodKind;

use crate::error::to_python;
use crate::hub::{Runtime, block_on};
use crate::idle::IdleGroup;
use crate::log::ClientJournal;
use crate::request::body::Body;
use crate::request::config::{Http2, PoolConfig, Route, Seconds, of_seconds};
use crate::request::fields::characters;
use crate::request::head::Head;
use crate::request::resolve::PoolResolver;
use crate::request::template::RequestTemplate;
use crate::request::trailers::Trailers;
use crate::response::ResponseBase;
use crate::response::timings::opened_of_python;
use crate::thread::{ThreadState, close_everywhere};
use crate::tls::TlsArguments;
use crate::types;

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
            return Err(crate::error::ClientClosed::new_err("connection pool closed"));
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

    /// Sets the origin, the route to it, and TLS. The timeouts are those of `config::Seconds`, and the seconds that a
    /// connection may be idle. `http2` is True for prior knowledge, and the seconds of silence before a PING; None is
    /// HTTP/1.1 only.
    #[expect(clippy::too_many_arguments, reason = "the whole configuration of a pool")]
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

    /// Returns the counters and gauges of this thread's part of the pool:
    ///
    /// - `limit`: the maximum number of connections; `open`: the open ones, of them `idle`; `in_use`: pool slots in
    ///   use, including those of connections that are being opened; `streams`: requests in flight over HTTP/2;
    ///   `waiting`: greenlets in the queue.
    /// - Since the beginning, `opened` and `closed`, a dict from reason to how often; `reused`: requests that found an
    ///   open connection; `retries`: requests that were sent again, since one had broken before it answered.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let size = self.config()?.size;
        let statistics =
            ThreadState::of(&*Runtime::current(py)?).known_client(self.id).map(|client| client.statistics());
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
        for ending in CloseReason::ALL {
            let count = statistics.closed.of(ending);
            if count > 0 {
                closed.set_item(ending.name(), count)?;
            }
        }
        counts.set_item("closed", closed)?;
        Ok(counts)
    }

    /// Sends a request and returns an instance of `response_class` once its head is there. To the list `opened` the
    /// connections are added that were opened for it, whether or not it succeeds. With `keeps_upgrade` the response
    /// keeps its connection after 101, or a 2xx to CONNECT: see `Connection._continue`. `on_phase(name, http2)` is
    /// called in this greenlet when a phase begins: resolve, connect, proxy, tls, send, or head; its exception ends the
    /// request.
    #[pyo3(signature = (template, response_class, method, target, body, headers, timeouts, trailers=None, opened=None, keeps_upgrade=false, on_phase=None))]
    #[expect(clippy::too_many_arguments, reason = "one positional call is what the hot path can afford")]
    fn _exchange<'py>(
        slf: &Bound<'py, Self>,
        template: &Bound<'py, RequestTemplate>,
        response_class: &Bound<'py, PyType>,
        method: &Bound<'py, PyAny>,
        target: &Bound<'py, PyAny>,
        body: Option<&Bound<'py, PyAny>>,
        headers: Option<&Bound<'py, PyAny>>,
        timeouts: Option<&Bound<'py, PyAny>>,
        trailers: Option<&Bound<'py, PyAny>>,
        opened: Option<&Bound<'py, PyList>>,
        keeps_upgrade: bool,
        on_phase: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let connections = opened.map(|list| (list, Rc::default()));
        let further = Further { headers, timeouts, trailers, opened: &connections, keeps_upgrade, on_phase };
        let Prepared { runtime, exchange, response } = prepare(slf, template, method, target, body, further)?;
        let outcome = block_on(py, &runtime, exchange).map_err(|error| explained(slf, &runtime, error))?;
        finish(slf, template, response_class, runtime, outcome, response, connections)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Not at the end of the interpreter, when the process closes everything anyway.
        Python::try_attach(|py| close_everywhere(py, self.id));
    }
}

/// Observer that is a function of Python.
struct CallForPhase(Py<PyAny>);

impl PhaseObserver for CallForPhase {
    fn enter(&self, phase: Phase, http2: bool) -> Result<(), Kind> {
        Python::attach(|py| match self.0.call1(py, (phase.as_str(), http2)) {
            Ok(_) => Ok(()),
            Err(error) => Err(Kind::Caller(error.into())),
        })
    }
}

/// A request that is ready to be run.
struct Prepared<'py> {
    runtime: Rc<Runtime>,
    exchange: Pin<Box<dyn Future<Output = Outcome>>>,
    response: Wanted<'py>,
}

/// The parts of a response object that do not come from the peer.
struct Wanted<'py> {
    method: Bound<'py, PyString>,
    /// The file to position after its content has been sent, and the position.
    file: Option<(Py<PyAny>, u64)>,
}

/// Boxed, since there has to be room for it on the stack while the request waits.
type Outcome = engine::Result<Box<engine::Response>>;

/// The caller's list of opened connections, and the records for it.
type Noted<'a, 'py> = (&'a Bound<'py, PyList>, Rc<RefCell<Vec<Opened>>>);

/// The arguments of a request besides method, target and body: see `_exchange`.
struct Further<'a, 'py> {
    headers: Option<&'a Bound<'py, PyAny>>,
    timeouts: Option<&'a Bound<'py, PyAny>>,
    trailers: Option<&'a Bound<'py, PyAny>>,
    opened: &'a Option<Noted<'a, 'py>>,
    keeps_upgrade: bool,
    on_phase: Option<Bound<'py, PyAny>>,
}

/// Checks and encodes. All that this needs of the stack is gone while the request waits: with ten thousand of them
/// each kilobyte of it counts, and it is copied at each switch.
#[inline(never)]
fn prepare<'py>(
    slf: &Bound<'py, Pool>,
    template: &Bound<'py, RequestTemplate>,
    method: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    body: Option<&Bound<'py, PyAny>>,
    further: Further<'_, 'py>,
) -> PyResult<Prepared<'py>> {
    let Further { headers, timeouts, trailers, opened, keeps_upgrade, on_phase } = further;
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
    let Head { text, for_proxy, outgoing, closes, expects_continue } =
        template.get().encode(py, name, target, headers, body.extent(), trailers.as_ref())?;
    let (body, file) = body.framed(outgoing);
    let method_kind = MethodKind::by(name.as_bytes());
    let idempotent = wire::request::is_idempotent(name.as_bytes());
    let timeouts = timeouts.map(|timeouts| of_seconds(timeouts.extract::<Seconds>()?)).transpose()?.map(Box::new);
    let trailers = trailers.map(|trailers| Box::new(trailers) as Box<dyn TrailerSource>);
    let opened = opened.as_ref().map(|(_, connections)| connections.clone());
    let mut request = Request {
        timeouts,
        head: text,
        for_proxy,
        body,
        method_kind,
        idempotent,
        expects_continue,
        closes,
        keeps_upgrade,
        trailers,
        opened,
        observer: on_phase.map(|call| Rc::new(CallForPhase(call.unbind())) as Rc<dyn PhaseObserver>),
    };

    let runtime = Runtime::current(py)?;
    let client = ThreadState::of(&runtime).client(pool.id, || {
        let config_here = config.of_thread(py);
        let journal: Rc<dyn ConnectionObserver> = ClientJournal::new(&runtime, config_here.origin.peer.clone());
        let idle_group = pool.idle_group.get().map(|group| group.get().of_runtime(&runtime));
        Client::new(&runtime.reactor, Config { observer: Some(journal), idle_group, ..config_here }, config.size)
    });
    let resolver = PoolResolver(slf.clone().into_any().unbind());
    let exchange = Box::pin(async move { client.run(&mut request, &resolver).await.map(Box::new) });
    Ok(Prepared { runtime, exchange, response: Wanted { method: method.clone(), file } })
}

/// gevent's LoopExit with the reason for the wait: a request that waits for the network never sees one, but a request
/// that waits for a connection does if no other greenlet can go on.
#[cold]
fn explained(slf: &Bound<'_, Pool>, runtime: &Runtime, error: PyErr) -> PyErr {
    let py = slf.py();
    let is_loop_exit = types::loop_exit(py).is_ok_and(|kind| error.is_instance(py, kind));
    let Some(client) = ThreadState::of(runtime).known_client(slf.get().id).filter(|_| is_loop_exit) else {
        return error;
    };
    let value = error.value(py);
    let change = || {
        let arguments: Vec<Bound<'_, PyAny>> = value.getattr(intern!(py, "args"))?.extract()?;
        let words = arguments.first().map(|words| words.str()).transpose()?;
        let words = words.as_ref().map(|words| words.to_cow()).transpose()?.unwrap_or_default();
        let words = PyString::new(py, &format!("{words}: {}", client.explain_wait())).into_any();
        value.setattr(
            intern!(py, "args"),
            PyTuple::new(py, std::iter::once(words).chain(arguments.into_iter().skip(1)).collect::<Vec<_>>())?,
        )
    };
    // Without the words it is what it was.
    let _: PyResult<()> = change();
    error
}

/// Makes a response of what the exchange came to.
#[inline(never)]
fn finish<'py>(
    slf: &Bound<'py, Pool>,
    template: &Bound<'py, RequestTemplate>,
    response_class: &Bound<'py, PyType>,
    runtime: Rc<Runtime>,
    outcome: Outcome,
    Wanted { method, file }: Wanted<'py>,
    opened: Option<Noted<'_, 'py>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = slf.py();
    ThreadState::of(&runtime).log.write(py)?;
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
    ResponseBase::create(
        response_class,
        runtime,
        *response,
        &method,
        Some(slf.as_any()),
        template.get().response_options(py),
    )
}

/// Methods are case-sensitive (RFC 9110 section 9.1), but programs also write them in lower case.
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
