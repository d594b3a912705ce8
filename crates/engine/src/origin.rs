//! The server that a client talks to.

use std::borrow::Cow;
use std::rc::Rc;

use crate::error::Kind;

/// An origin: a host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `host:port`, as errors name it.
    pub peer: Rc<str>,
}

impl Origin {
    /// Creates the origin of that host and port.
    pub fn new(host: &str, port: u16) -> Self {
        Origin { host: host.to_owned(), port, peer: authority(host, port).into() }
    }

    /// Returns the host as a proxy needs it: in ASCII, since its resolver knows no other names, and without a zone.
    pub(crate) fn ascii_name(&self) -> Result<Cow<'_, str>, Kind> {
        wire::url::idna::to_ascii(without_zone(&self.host))
            .map_err(|_| Kind::Misuse("the host's name cannot be written in ASCII"))
    }
}

/// Returns the host without the zone of an IPv6 address, which only this machine knows (RFC 6874 section 4).
pub(crate) fn without_zone(host: &str) -> &str {
    match host.split_once('%') {
        Some((address, _)) if address.contains(':') => address,
        _ => host,
    }
}

/// Returns `host:port`, with brackets around an IPv6 address (RFC 3986 section 3.2.2).
pub(crate) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
