//! Proxies, which forward a connection to its origin.
//!
//! The response of a proxy is not trusted: it is bounded, checked, and shown in one line without the client's
//! credentials.

pub(crate) mod error;
mod http;
mod settings;
mod socks;

use std::net::SocketAddr;
use std::rc::Rc;

use wire::Limits;

use crate::error::Kind;
use crate::origin::Origin;
use crate::rt::reactor::Reactor;
use crate::rt::stream::Stream;

pub use error::Refusal;
pub use settings::{Credentials, Protocol, Proxy};

/// Requests a tunnel to the origin from the proxy at the other end of `stream`, and returns the stream to the origin.
/// `addresses` are those of the origin if the proxy does not resolve its name. `for_proxy` is the value of
/// Proxy-Authorization for an HTTP proxy, which replaces the proxy's own credentials.
pub(crate) async fn tunnel(
    reactor: &Rc<Reactor>,
    proxy: &Proxy,
    origin: &Origin,
    limits: &Limits,
    for_proxy: Option<&[u8]>,
    addresses: &[SocketAddr],
    stream: Stream,
) -> Result<Stream, Kind> {
    match proxy.protocol {
        Protocol::Http => http::open(reactor, proxy, origin, limits, for_proxy, stream).await,
        Protocol::Socks4 | Protocol::Socks4a => socks::open_4(proxy, origin, addresses, stream).await,
        Protocol::Socks5 | Protocol::Socks5h => socks::open_5(proxy, origin, addresses, stream).await,
    }
}
