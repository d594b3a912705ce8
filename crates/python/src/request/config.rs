//! Pool configuration: origin, route, TLS, timeouts.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use engine::connect::proxy::{Credentials, Protocol, Proxy};
use engine::rt::socket::Socket;
use engine::{Config, Timeouts, http2};
use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use wire::url::redact;

use crate::tls::{Protocols, TlsArguments, TlsSource};

/// The configuration of a pool: any thread can make an `engine::Config` from it.
pub(crate) struct PoolConfig {
    host: String,
    port: u16,
    pub(crate) size: usize,
    timeouts: Timeouts,
    idle_timeout: Option<Duration>,
    route: RouteConfig,
    tls: Option<TlsSource>,
    http2: Option<http2::Options>,
}

/// Prior knowledge of HTTP/2, and the seconds between pings.
pub(crate) type Http2 = (bool, Option<f64>);

/// Proxy, local address, path of a Unix domain socket.
pub(crate) type Route<'py> = (Option<ProxyArguments<'py>>, Option<(String, u16)>, Option<PathBuf>);

/// Protocol, host, port, user and password, TLS to the proxy.
pub(crate) type ProxyArguments<'py> = (String, String, u16, Option<(String, String)>, Option<TlsArguments<'py>>);

#[derive(Default)]
struct RouteConfig {
    local_address: Option<SocketAddr>,
    proxy: Option<ProxyConfig>,
    unix_socket: Option<PathBuf>,
}

struct ProxyConfig {
    protocol: Protocol,
    host: String,
    port: u16,
    credentials: Option<Credentials>,
    tls: Option<TlsSource>,
}

impl PoolConfig {
    #[expect(clippy::too_many_arguments, reason = "the arguments of _configure")]
    pub(crate) fn new(
        host: String,
        port: u16,
        size: i64,
        timeouts: Seconds,
        idle_timeout: Option<f64>,
        route: Option<Route<'_>>,
        tls: Option<TlsArguments<'_>>,
        http2: Option<Http2>,
    ) -> PyResult<Self> {
        let size = usize::try_from(size).ok().filter(|&size| size > 0);
        let size = size.ok_or_else(|| PyValueError::new_err("size must be at least 1: the number of connections"))?;
        let timeouts = of_seconds(timeouts)?;
        let idle_timeout = seconds("idle_timeout", idle_timeout)?;
        let http2 = http2.map(|(prior_knowledge, ping_interval)| {
            let ping_interval = seconds("http2_ping_interval", ping_interval)?;
            PyResult::Ok(http2::Options { prior_knowledge, ping_interval })
        });
        let http2 = http2.transpose()?;
        let protocols = match http2 {
            None => Protocols::Http1,
            Some(http2) if http2.prior_knowledge => Protocols::Http2,
            Some(_) => Protocols::Both,
        };
        let tls = tls.map(|tls| TlsSource::new(tls, protocols)).transpose()?;
        let route = route.map(RouteConfig::new).transpose()?.unwrap_or_default();
        Ok(PoolConfig { host, port, size, timeouts, idle_timeout, route, tls, http2 })
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let of_proxy = self.route.proxy.as_ref().and_then(|proxy| proxy.tls.as_ref());
        self.tls.iter().chain(of_proxy).try_for_each(|tls| tls.traverse(visit))
    }

    /// Returns the engine's configuration for the calling thread.
    pub(crate) fn of_thread(&self, py: Python<'_>) -> Config {
        let PoolConfig { host, port, timeouts, idle_timeout, route, tls, http2, .. } = self;
        let proxy = route.proxy.as_ref().map(|proxy| Proxy {
            protocol: proxy.protocol,
            host: proxy.host.clone(),
            port: proxy.port,
            credentials: proxy.credentials.clone(),
            tls: proxy.tls.as_ref().map(|tls| tls.of_thread(py)),
        });
        let route =
            engine::config::Route { local_address: route.local_address, proxy, unix_socket: route.unix_socket.clone() };
        let tls = tls.as_ref().map(|tls| tls.of_thread(py));
        Config {
            timeouts: *timeouts,
            idle_timeout: *idle_timeout,
            route,
            tls,
            http2: *http2,
            ..Config::new(host, *port)
        }
    }
}

impl RouteConfig {
    fn new((proxy, local_address, unix_socket): Route<'_>) -> PyResult<Self> {
        let local_address = local_address.map(|(host, port)| {
            let ip: IpAddr = host.parse().map_err(|_| {
                PyValueError::new_err(format!("local_address must be an IP address, not {:?}", redact(&host)))
            })?;
            Ok::<_, PyErr>(SocketAddr::new(ip, port))
        });
        if let Some(path) = &unix_socket {
            Socket::check_unix_path(path).map_err(|error| PyValueError::new_err(format!("uds, {path:?}: {error}")))?;
        }
        let proxy = proxy.map(|(protocol, host, port, credentials, tls)| {
            let credentials = credentials.map(|(user, password)| Credentials { user, password });
            let tls = tls.map(|tls| TlsSource::new(tls, Protocols::Http1)).transpose()?;
            Ok::<_, PyErr>(ProxyConfig { protocol: protocol_of(&protocol)?, host, port, credentials, tls })
        });
        Ok(RouteConfig { local_address: local_address.transpose()?, proxy: proxy.transpose()?, unix_socket })
    }
}

fn protocol_of(name: &str) -> PyResult<Protocol> {
    match name {
        "http" | "https" => Ok(Protocol::Http),
        "socks4" => Ok(Protocol::Socks4),
        "socks4a" => Ok(Protocol::Socks4a),
        "socks5" => Ok(Protocol::Socks5),
        "socks5h" => Ok(Protocol::Socks5h),
        _ => Err(PyValueError::new_err(format!("no such kind of proxy: {name:?}"))),
    }
}

/// Timeouts in seconds: connection, network, pool, total. None is no limit.
pub(crate) type Seconds = (Option<f64>, Option<f64>, Option<f64>, Option<f64>);

/// Returns the engine's timeouts. Errors name them as Python does.
pub(crate) fn of_seconds((connection, network, pool, total): Seconds) -> PyResult<Timeouts> {
    Ok(Timeouts {
        connection: seconds("connection_timeout", connection)?,
        network: seconds("network_timeout", network)?,
        pool: seconds("pool_timeout", pool)?,
        total: seconds("total_timeout", total)?,
    })
}

/// Returns a duration from Python's seconds; None for no limit, or for more than a clock can count.
pub(crate) fn seconds(name: &str, value: Option<f64>) -> PyResult<Option<Duration>> {
    match value {
        None => Ok(None),
        Some(value) if value.is_nan() || value < 0.0 => {
            Err(PyValueError::new_err(format!("{name} must be a number of seconds of at least 0, not {value}")))
        }
        Some(value) => Ok(Duration::try_from_secs_f64(value).ok()),
    }
}
