//! Whom a client asks, by which way, and with how much patience.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use wire::Limits;

use crate::ending::Journal;
use crate::http2;
use crate::idle::IdleGroup;
use crate::proxy::Proxy;
use crate::tls::Tls;

/// How long things may take; `None` is for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// For opening a connection: resolving, connecting, the proxy and the TLS handshake, all together.
    pub connection: Option<Duration>,
    /// For each wait for the peer to take or send bytes.
    pub network: Option<Duration>,
    /// For a place in the pool.
    pub pool: Option<Duration>,
    /// For all of a request, from the start to the last byte of the response's body.
    pub total: Option<Duration>,
}

/// The way to the origin, where it is not the plain one.
#[derive(Clone, Default)]
pub struct Route {
    /// Where connections come from; port 0 is any port.
    pub local_address: Option<SocketAddr>,
    /// Who passes the bytes on.
    pub proxy: Option<Proxy>,
    /// To be connected to in place of a name and port.
    pub unix_socket: Option<PathBuf>,
}

/// Of one origin.
#[derive(Clone)]
pub struct Config {
    /// The origin's name or address.
    pub host: String,
    /// The origin's port.
    pub port: u16,
    /// `host:port`, as errors name it.
    pub peer: Rc<str>,
    /// The way there.
    pub route: Route,
    /// What makes the connection a private one; `None` for plain http.
    pub tls: Option<Rc<dyn Tls>>,
    /// Whether HTTP/2 is spoken where that can be; `None` for HTTP/1.1 alone. TLS has to offer it (`tls::Options::alpn`).
    pub http2: Option<http2::Options>,
    /// How long things may take. A request may bring its own.
    pub timeouts: Timeouts,
    /// How long a connection may be idle; `None` is for ever.
    pub idle_timeout: Option<Duration>,
    /// Bounds the idle connections of several clients of one reactor together.
    pub idle_group: Option<Rc<IdleGroup>>,
    /// What a response may ask of us.
    pub limits: Limits,
    /// Who is told what becomes of connections.
    pub journal: Option<Rc<dyn Journal>>,
}

impl Config {
    /// Of that origin, with default limits and endless patience.
    pub fn new(host: &str, port: u16) -> Self {
        Config {
            host: host.to_owned(),
            port,
            peer: authority(host, port).into(),
            route: Route::default(),
            tls: None,
            http2: None,
            timeouts: Timeouts::default(),
            idle_timeout: None,
            idle_group: None,
            journal: None,
            limits: Limits::default(),
        }
    }
}

/// `host:port`, with brackets around an IPv6 address (RFC 3986 section 3.2.2).
pub(crate) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
