//! Names become addresses by the pool's `_resolve()`, which asks gevent's resolver, or whatever a subclass does.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use engine::dial::Resolution;
use engine::timers::Deadline;
use engine::{BoxError, Kind, Resolver};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;

/// Asks one pool.
pub(crate) struct PoolResolver(pub(crate) Py<PyAny>);

impl Resolver for PoolResolver {
    fn resolve(&self, host: &str, port: u16, until: Option<Deadline>) -> Resolution {
        // It may switch greenlets: polled by its own greenlet, holding nothing.
        let pool = Python::attach(|py| self.0.clone_ref(py));
        let host = host.to_owned();
        Box::pin(async move {
            let found = Python::attach(|py| addresses(pool.bind(py), &host, port, until));
            match (found, until) {
                (Ok(Some(addresses)), _) => Ok(addresses),
                (Ok(None), Some(until)) => Err(until.exceeded()),
                (Ok(None), None) => Ok(Vec::new()),
                (Err(error), _) => Err(Kind::Caller(BoxError::from(error))),
            }
        })
    }
}

/// From what getaddrinfo returns: (family, type, protocol, name, address) each, of which the address counts. None when
/// that took too long.
fn addresses(
    pool: &Bound<'_, PyAny>,
    host: &str,
    port: u16,
    until: Option<Deadline>,
) -> PyResult<Option<Vec<SocketAddr>>> {
    let seconds = until.map(|until| until.left().as_secs_f64());
    let found = pool.call_method1(intern!(pool.py(), "_resolve_within"), (host, port, seconds))?;
    if found.is_none() {
        return Ok(None);
    }
    found.try_iter()?.map(|entry| of_entry(&entry?)).collect::<PyResult<_>>().map(Some)
}

fn of_entry(entry: &Bound<'_, PyAny>) -> PyResult<SocketAddr> {
    entry.get_item(4).and_then(|found| address(&found)).map_err(|error| {
        let message = format!("_resolve() returned {entry:?}, which is no entry of getaddrinfo's: {error}");
        PyValueError::new_err(message)
    })
}

fn address(entry: &Bound<'_, PyAny>) -> PyResult<SocketAddr> {
    let (host, port): (String, u16) = (entry.get_item(0)?.extract()?, entry.get_item(1)?.extract()?);
    let literal = host.split('%').next().unwrap_or_default();
    let ip: IpAddr = literal
        .parse()
        .map_err(|_| PyValueError::new_err(format!("_resolve() returned {host:?}, which is no IP address")))?;
    Ok(match ip {
        IpAddr::V4(_) => SocketAddr::new(ip, port),
        IpAddr::V6(ip) => {
            let part = |i: usize| entry.get_item(i).and_then(|part| part.extract::<u32>()).unwrap_or(0);
            SocketAddrV6::new(ip, port, part(2), part(3)).into()
        }
    })
}
