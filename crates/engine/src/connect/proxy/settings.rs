//! The settings of a proxy.

use std::fmt;
use std::rc::Rc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::origin::authority;
use crate::tls::Tls;

/// Protocol of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP: requests in absolute form (RFC 9112 section 3.2.2), or a tunnel via CONNECT (RFC 9110 section 9.3.6).
    Http,
    /// SOCKS 4, which supports only IPv4: the client resolves the name.
    Socks4,
    /// SOCKS 4a: the proxy resolves the name.
    Socks4a,
    /// SOCKS 5 (RFC 1928): the client resolves the name.
    Socks5,
    /// SOCKS 5: the proxy resolves the name.
    Socks5h,
}

impl Protocol {
    /// Returns true if the proxy receives an address rather than a name.
    pub(crate) fn resolves_here(self) -> bool {
        matches!(self, Protocol::Socks4 | Protocol::Socks5)
    }
}

/// A name and a password, which are never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl Credentials {
    /// Returns the token of the Basic scheme (RFC 7617 section 2).
    fn basic(&self) -> String {
        BASE64_STANDARD.encode(format!("{}:{}", self.user, self.password))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// A proxy.
#[derive(Clone)]
pub struct Proxy {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The client's credentials.
    pub credentials: Option<Credentials>,
    /// The TLS of the connection to it, if any.
    pub tls: Option<Rc<dyn Tls>>,
}

impl Proxy {
    /// Creates a proxy without credentials and TLS.
    pub fn new(protocol: Protocol, host: &str, port: u16) -> Self {
        Proxy { protocol, host: host.to_owned(), port, credentials: None, tls: None }
    }

    /// Returns `host:port`, as errors name it.
    pub fn peer(&self) -> String {
        authority(&self.host, self.port)
    }

    /// Returns the value of Proxy-Authorization (RFC 7617), None if there are no credentials.
    pub(super) fn authorization(&self) -> Option<Vec<u8>> {
        self.credentials.as_ref().map(|credentials| format!("Basic {}", credentials.basic()).into_bytes())
    }
}
