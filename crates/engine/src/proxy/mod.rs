//! Proxies: somebody who passes a connection on to its origin.

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::config::authority;
use crate::error::Kind;
use crate::stream::Stream;
use crate::tls::Tls;
use crate::{Config, Reactor};

/// How a proxy is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP: requests in absolute form (RFC 9112 section 3.2.2), or a tunnel by CONNECT (RFC 9110 section 9.3.6).
    Http,
    /// SOCKS 4a: the proxy resolves the name.
    Socks4a,
    /// SOCKS 5 (RFC 1928): we resolve the name.
    Socks5,
    /// SOCKS 5: the proxy resolves the name.
    Socks5h,
}

/// A name and a password. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// A proxy.
#[derive(Clone)]
pub struct Proxy {
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What it is told of us.
    pub credentials: Option<Credentials>,
    /// The TLS that it is spoken to over, if any.
    pub tls: Option<Rc<dyn Tls>>,
}

impl Proxy {
    /// Without credentials and TLS.
    pub fn new(protocol: Protocol, host: &str, port: u16) -> Self {
        Proxy { protocol, host: host.to_owned(), port, credentials: None, tls: None }
    }

    /// `host:port`, as errors name it.
    pub fn peer(&self) -> String {
        authority(&self.host, self.port)
    }
}

/// A proxy's answer, where it was not a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status code of its response, if it speaks HTTP.
    pub status: Option<u16>,
    /// What it said, in one line.
    pub words: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the proxy refused: {}", self.words)
    }
}

/// Asks the proxy at the other end of `stream` for a connection to the origin; the stream is then that. `address` is the
/// origin's, where the proxy is not to resolve it.
pub(crate) async fn tunnel(
    _reactor: &Rc<Reactor>,
    _proxy: &Proxy,
    _config: &Config,
    _address: Option<SocketAddr>,
    _stream: Stream,
) -> Result<Stream, Kind> {
    Err(Kind::Misuse("no tunnels yet"))
}
