//! Opening a connection: resolve, connect. Top to bottom, one `.await` a line.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use crate::stream::Stream;
use crate::tcp::TcpStream;
use crate::timers::Patience;
use crate::{BoxError, Config, Connection, Error, Kind, Phase, Reactor, Result};

/// A host's addresses, in the order they are to be tried.
pub type Resolution = Pin<Box<dyn Future<Output = std::result::Result<Vec<SocketAddr>, BoxError>>>>;

/// Turns a host's name into addresses.
pub trait Resolver {
    /// Resolves the host and port that are to be connected to.
    fn resolve(&self, host: &str, port: u16) -> Resolution;
}

/// The system's resolver, which blocks the thread.
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve(&self, host: &str, port: u16) -> Resolution {
        let found = (host, port).to_socket_addrs();
        Box::pin(async move { found.map(Iterator::collect).map_err(Into::into) })
    }
}

/// A new connection to the client's origin.
pub(crate) async fn dial(reactor: &Rc<Reactor>, config: &Config, resolver: &dyn Resolver) -> Result<Box<Connection>> {
    let peer = &config.peer;
    let resolution = resolver.resolve(&config.host, config.port).await;
    let addresses = resolution.map_err(|error| Error::new(Kind::Caller(error), Phase::Resolve).with_peer(peer))?;
    let tcp = connect_any(reactor, config, &addresses).await?;
    let patience = Patience::new(reactor, config.network_timeout);
    Ok(Box::new(Connection::new(reactor, Stream::Tcp(tcp), peer.clone(), patience)))
}

/// The first address that accepts; the first one's error when none does.
async fn connect_any(reactor: &Rc<Reactor>, config: &Config, addresses: &[SocketAddr]) -> Result<TcpStream> {
    let mut first_error = None;
    for &address in addresses {
        match connect(reactor, config, address).await {
            Ok(stream) => return Ok(stream),
            Err(kind) => first_error.get_or_insert(kind),
        };
    }
    let none = || Kind::Io(io::Error::new(io::ErrorKind::NotFound, "the host's name has no address"));
    Err(Error::new(first_error.unwrap_or_else(none), Phase::Connect).with_peer(&config.peer))
}

async fn connect(reactor: &Rc<Reactor>, config: &Config, address: SocketAddr) -> std::result::Result<TcpStream, Kind> {
    let mut patience = Patience::new(reactor, config.connection_timeout);
    let mut connecting = pin!(TcpStream::connect(reactor, address));
    poll_fn(|cx| match connecting.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(result.map_err(Kind::Io)),
        Poll::Pending if patience.poll_exhausted(cx) => {
            Poll::Ready(Err(Kind::Timeout(patience.limit().unwrap_or_default())))
        }
        Poll::Pending => Poll::Pending,
    })
    .await
}
