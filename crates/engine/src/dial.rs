//! Opening a connection: resolve, connect, the proxy's tunnel, TLS. Top to bottom, one `.await` a line.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::config::authority;
use crate::proxy::{self, Protocol, Proxy};
use crate::race;
use crate::socket::{Descriptor, Socket};
use crate::stream::Stream;
use crate::timers::{Deadline, Patience};
use crate::timings::{Address, Laps, Step};
use crate::tls::Facts;
use crate::{Config, Connection, Error, Kind, Phase, Reactor, Result};

/// A host's addresses, in the order they are to be tried.
pub type Resolution = Pin<Box<dyn Future<Output = std::result::Result<Vec<SocketAddr>, Kind>>>>;

/// Turns a host's name into addresses.
pub trait Resolver {
    /// Resolves a host and port that are to be connected to. `until` is for resolvers that cannot be left waiting by
    /// dropping their future: the end of their time.
    fn resolve(&self, host: &str, port: u16, until: Option<Deadline>) -> Resolution;
}

/// The system's resolver, which blocks the thread.
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve(&self, host: &str, port: u16, _: Option<Deadline>) -> Resolution {
        let found = (host, port).to_socket_addrs();
        Box::pin(async move { found.map(Iterator::collect).map_err(|error| Kind::Caller(error.into())) })
    }
}

/// A new connection to the client's origin, opened within `limit` and before `until`. `for_proxy` is what a proxy is told
/// in Proxy-Authorization, in place of its own credentials.
pub(crate) async fn dial(
    reactor: &Rc<Reactor>,
    config: &Config,
    for_proxy: Option<&[u8]>,
    limit: Option<Duration>,
    until: Option<Deadline>,
    resolver: &dyn Resolver,
) -> Result<Box<Connection>> {
    let begun = Instant::now();
    let until = Deadline::earlier(limit.and_then(|limit| Deadline::of_dial(begun, limit)), until);
    let laps = Laps::begun(begun);
    let phase = Cell::new(Phase::Resolve);
    let dial = Dial { reactor, config, for_proxy, until, resolver, phase, peer: RefCell::default(), laps };
    let mut patience = Patience::new(reactor, None);
    patience.set(None, until);
    let opened = patience.bound(dial.open()).await;
    let (stream, facts, descriptor, address) = opened.map_err(|kind| dial.fail(kind))?;
    let connection = Connection::new(reactor, stream, config.peer.clone(), Patience::new(reactor, None));
    Ok(Box::new(connection.with_facts(facts, descriptor).dialled_as(dial.laps.dialled(address))))
}

/// What is ready for HTTP, what is known of its TLS, and the socket below with its other end.
type Opened = (Stream, Option<Rc<Facts>>, Option<Descriptor>, Option<Address>);

/// One dial, and how far it has come.
struct Dial<'a> {
    reactor: &'a Rc<Reactor>,
    config: &'a Config,
    for_proxy: Option<&'a [u8]>,
    until: Option<Deadline>,
    resolver: &'a dyn Resolver,
    phase: Cell<Phase>,
    /// Whom it is dealing with.
    peer: RefCell<Rc<str>>,
    laps: Laps,
}

impl Dial<'_> {
    #[cold]
    fn fail(&self, kind: Kind) -> Error {
        Error::new(kind, self.phase.get()).with_peer(&self.peer.borrow())
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
    }

    async fn open(&self) -> std::result::Result<Opened, Kind> {
        let Dial { config, .. } = self;
        let mut stream = self.reach().await?;
        let (descriptor, address) = (stream.descriptor(), self.address(&stream));
        if let Some(proxy) = &config.route.proxy {
            stream = self.pass(proxy, stream).await?;
            self.laps.end(Step::Proxy);
        }
        self.peer.replace(config.peer.clone());
        let Some(tls) = &config.tls else { return Ok((stream, None, descriptor, address)) };
        self.enter(Phase::Tls);
        let secured = tls.handshake(stream).await?;
        self.laps.end(Step::Tls);
        Ok((secured.stream, Some(secured.facts), descriptor, address))
    }

    fn address(&self, stream: &Stream) -> Option<Address> {
        match (&self.config.route.unix_socket, stream) {
            (Some(path), _) => Some(Address::Unix(path.clone())),
            (None, Stream::Socket(socket)) => socket.peer_address().ok().map(Address::Inet),
            (None, Stream::Layer(_)) => None,
        }
    }

    /// Connects to the origin, or to whoever stands before it.
    async fn reach(&self) -> std::result::Result<Stream, Kind> {
        let Dial { reactor, config, .. } = self;
        if let Some(path) = &config.route.unix_socket {
            // An abstract name is written with an @ in place of its NUL.
            self.peer.replace(path.to_string_lossy().replace('\0', "@").into());
            self.enter(Phase::Connect);
            let socket = Socket::connect_unix(reactor, path).await?;
            self.laps.end(Step::Connect);
            return Ok(Stream::Socket(socket));
        }
        let (host, port) = match &config.route.proxy {
            Some(proxy) => (&proxy.host, proxy.port),
            None => (&config.host, config.port),
        };
        self.peer.replace(authority(host, port).into());
        let addresses = self.resolve(host, port).await?;
        self.enter(Phase::Connect);
        let socket = race::connect(reactor, config.route.local_address, &addresses).await?;
        self.laps.end(Step::Connect);
        Ok(Stream::Socket(socket))
    }

    /// A resolver may block the thread, or its greenlet, past the end of its time: that is told before anything else
    /// is begun.
    async fn resolve(&self, host: &str, port: u16) -> std::result::Result<Vec<SocketAddr>, Kind> {
        let addresses = self.resolver.resolve(host, port, self.until).await?;
        self.laps.end(Step::Resolve);
        Deadline::check(self.until)?;
        Ok(addresses)
    }

    /// Has the proxy make a connection to the origin, where it is not to pass on single requests.
    async fn pass(&self, proxy: &Proxy, mut stream: Stream) -> std::result::Result<Stream, Kind> {
        if let Some(tls) = &proxy.tls {
            self.enter(Phase::Tls);
            stream = tls.handshake(stream).await?.stream;
        }
        // One that passes on single requests speaks HTTP/1.1 with us.
        let knows_http2 = self.config.http2.is_some_and(|http2| http2.prior_knowledge);
        if proxy.protocol == Protocol::Http && self.config.tls.is_none() && !knows_http2 {
            return Ok(stream);
        }
        let mut addresses = Vec::new();
        if proxy.protocol.resolves_here() {
            self.laps.end(Step::Proxy);
            self.enter(Phase::Resolve);
            let of_proxy = self.peer.replace(self.config.peer.clone());
            addresses = self.resolve(&self.config.host, self.config.port).await?;
            self.peer.replace(of_proxy);
        }
        self.enter(Phase::Proxy);
        proxy::tunnel(self.reactor, proxy, self.config, self.for_proxy, &addresses, stream).await
    }
}
