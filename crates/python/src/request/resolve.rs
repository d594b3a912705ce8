//! Name resolution by the pool's `_resolve()`: with gevent's resolver, unless a subclass overrides it.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use engine::Resolver;
use engine::connect::Resolution;
use engine::rt::timeout::Deadline;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;

use crate::request::deadline::within;

/// The resolver of one pool.
pub(crate) struct PoolResolver(pub(crate) Py<PyAny>);

impl Resolver for PoolResolver {
    fn resolve(&self, host: &str, port: u16, until: Option<Deadline>) -> Resolution {
        // It may switch greenlets: its own greenlet alone polls it, and nothing is borrowed.
        let pool = Python::attach(|py| self.0.clone_ref(py));
        let host = host.to_owned();
        Box::pin(async move { Python::attach(|py| within(py, until, || addresses(pool.bind(py), &host, port))) })
    }
}

/// Returns the addresses of getaddrinfo's entries: (family, type, protocol, name, address) each.
fn addresses(pool: &Bound<'_, PyAny>, host: &str, port: u16) -> PyResult<Vec<SocketAddr>> {
    let found = pool.call_method1(intern!(pool.py(), "_addresses"), (host, port))?;
    found.try_iter()?.map(|entry| of_entry(&entry?)).collect()
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
