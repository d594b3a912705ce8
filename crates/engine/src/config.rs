//! The configuration of a client: origin, route, limits and timeouts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use wire::Limits;

use crate::connect::proxy::Proxy;
use crate::http2;
use crate::origin::Origin;
use crate::pool::close_reason::ConnectionObserver;
use crate::pool::idle::IdleGroup;
use crate::tls::Tls;

/// Time limits of a request; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// The limit for opening a connection: resolving, connecting, the proxy and the TLS handshake together.
    pub connection: Option<Duration>,
    /// The limit of each wait for the peer to take or send bytes.
    pub network: Option<Duration>,
    /// The limit of the wait for a connection from the pool.
    pub pool: Option<Duration>,
    /// The limit of the whole request, from the start to the last byte of the response's body.
    pub total: Option<Duration>,
}

/// The route to the origin.
#[derive(Clone, Default)]
pub struct Route {
    /// The local address of connections; port 0 is any port.
    pub local_address: Option<SocketAddr>,
    /// The proxy, if any.
    pub proxy: Option<Proxy>,
    /// A Unix domain socket to connect to, in place of host and port.
    pub unix_socket: Option<PathBuf>,
}

/// The configuration of a client for one origin.
#[derive(Clone)]
pub struct Config {
    /// The host and port that requests go to.
    pub origin: Origin,
    /// The route there.
    pub route: Route,
    /// The TLS implementation; `None` for plain HTTP.
    pub tls: Option<Rc<dyn Tls>>,
    /// The settings of HTTP/2; `None` for HTTP/1.1 alone. TLS has to offer HTTP/2 (`tls::Options::alpn`).
    pub http2: Option<http2::Options>,
    /// The time limits. A request may bring its own.
    pub timeouts: Timeouts,
    /// Maximum idle time of a connection; `None` is no limit.
    pub idle_timeout: Option<Duration>,
    /// Limits the idle connections of several clients of one reactor together.
    pub idle_group: Option<Rc<IdleGroup>>,
    /// The limits of a response's size.
    pub limits: Limits,
    /// Told of connections that are opened and closed.
    pub observer: Option<Rc<dyn ConnectionObserver>>,
}

impl Config {
    /// Creates a configuration for that origin, with default limits and without timeouts.
    pub fn new(host: &str, port: u16) -> Self {
        Config {
            origin: Origin::new(host, port),
            route: Route::default(),
            tls: None,
            http2: None,
            timeouts: Timeouts::default(),
            idle_timeout: None,
            idle_group: None,
            observer: None,
            limits: Limits::default(),
        }
    }
}
