//! Proxies: somebody who passes a connection on to its origin.
//!
//! What a proxy says is a stranger's word: it is bounded, checked, and shown in one line without our credentials.

mod connect;
mod socks;

use std::borrow::Cow;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio::io::AsyncWrite;

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
    /// SOCKS 4, which knows IPv4 alone: we resolve the name.
    Socks4,
    /// SOCKS 4a: the proxy resolves the name.
    Socks4a,
    /// SOCKS 5 (RFC 1928): we resolve the name.
    Socks5,
    /// SOCKS 5: the proxy resolves the name.
    Socks5h,
}

impl Protocol {
    /// Whether the proxy is told an address rather than a name.
    pub(crate) fn resolves_here(self) -> bool {
        matches!(self, Protocol::Socks4 | Protocol::Socks5)
    }
}

/// A name and a password. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl Credentials {
    /// The token of the Basic scheme (RFC 7617 section 2).
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

    /// The value of Proxy-Authorization (RFC 7617), where there are credentials.
    fn authorization(&self) -> Option<Vec<u8>> {
        self.credentials.as_ref().map(|credentials| format!("Basic {}", credentials.basic()).into_bytes())
    }
}

/// Quotes what a proxy said, in one line of at most so many characters; `cut` is whether it may have said more. A proxy
/// may well repeat what it was sent: the credentials in `authorization`, the value of Proxy-Authorization, are no part
/// of the quote, nor is the first half of them where it was cut.
fn quote(authorization: Option<&[u8]>, mut said: &[u8], cut: bool, most: usize) -> String {
    let secrets = secrets_of(authorization.unwrap_or_default());
    let begun = if cut { secrets.iter().map(|secret| begun(said, secret.as_bytes())).max().unwrap_or(0) } else { 0 };
    said = said.get(..said.len() - begun).unwrap_or_default();
    let mut text = String::from_utf8_lossy(said).into_owned();
    for secret in &secrets {
        text = text.replace(secret.as_str(), "***");
    }
    if begun > 0 {
        text.push_str("***");
    }
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ").chars().take(most).collect()
}

/// What must not be shown of a value of Proxy-Authorization: all that follows its scheme, and a Basic password.
fn secrets_of(authorization: &[u8]) -> Vec<String> {
    let value = String::from_utf8_lossy(authorization);
    let value = value.trim();
    let token = value.split_once(' ').map_or(value, |(_, token)| token.trim_start());
    let decoded = BASE64_STANDARD.decode(token).ok().and_then(|pair| String::from_utf8(pair).ok());
    let password = decoded.and_then(|pair| pair.split_once(':').map(|(_, password)| password.to_owned()));
    [Some(token.to_owned()), password].into_iter().flatten().filter(|secret| !secret.is_empty()).collect()
}

/// How many bytes of a secret stand at the end of what was said, with the rest of it missing.
fn begun(said: &[u8], secret: &[u8]) -> usize {
    let is_end = |length: &usize| secret.get(..*length).is_some_and(|start| said.ends_with(start));
    (1..secret.len()).rev().find(is_end).unwrap_or(0)
}

/// A proxy's answer, where it was not a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `host:port` of the origin that was asked for.
    pub origin: Rc<str>,
    /// The status code of its response, if it speaks HTTP.
    pub status: Option<u16>,
    /// What it said, or what is wrong with that, in one line.
    pub words: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "proxy refused the tunnel to {}: {}", self.origin, self.words)
    }
}

/// Asks the proxy at the other end of `stream` for a connection to the origin; the stream is then that. `addresses` are
/// the origin's, where the proxy is not to resolve it. `for_proxy` is what an HTTP proxy is told in Proxy-Authorization
/// in place of its own credentials.
pub(crate) async fn tunnel(
    reactor: &Rc<Reactor>,
    proxy: &Proxy,
    config: &Config,
    for_proxy: Option<&[u8]>,
    addresses: &[SocketAddr],
    stream: Stream,
) -> Result<Stream, Kind> {
    match proxy.protocol {
        Protocol::Http => connect::open(reactor, proxy, config, for_proxy, stream).await,
        Protocol::Socks4 | Protocol::Socks4a => socks::open_4(proxy, config, addresses, stream).await,
        Protocol::Socks5 | Protocol::Socks5h => socks::open_5(proxy, config, addresses, stream).await,
    }
}

#[cold]
fn refused(config: &Config, words: impl Into<String>) -> Kind {
    Kind::Proxy(Refusal { origin: config.peer.clone(), status: None, words: words.into() })
}

/// The origin's name as the proxy is told it: in ASCII, since its resolver knows no other.
fn ascii_name(config: &Config) -> Result<Cow<'_, str>, Kind> {
    wire::url::idna::to_ascii(&config.host).map_err(|_| Kind::Misuse("the host's name cannot be written in ASCII"))
}

/// Writes all of it, through whatever holds it back.
async fn write_all(stream: &mut Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match poll_fn(|cx| Pin::new(&mut *stream).poll_write(cx, bytes)).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => bytes = bytes.get(written..).unwrap_or_default(),
        }
    }
    poll_fn(|cx| Pin::new(&mut *stream).poll_flush(cx)).await
}
