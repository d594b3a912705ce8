//! Opening a connection: resolve, connect, the proxy's tunnel, TLS. The code follows these steps from top to bottom.

mod happy_eyeballs;
pub mod proxy;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use self::proxy::{Protocol, Proxy};
use crate::config::Config;
use crate::error::{Error, Kind, Phase, Result};
use crate::http1::connection::Connection;
use crate::origin::authority;
use crate::request::PhaseObserver;
use crate::rt::reactor::Reactor;
use crate::rt::socket::{Descriptor, Socket};
use crate::rt::stream::Stream;
use crate::rt::timeout::{Deadline, WaitTimeout};
use crate::timings::{Address, Laps, Step};
use crate::tls::{Offer, TlsInfo};

/// The addresses of a host, in the order in which they are tried.
pub type Resolution = Pin<Box<dyn Future<Output = std::result::Result<Vec<SocketAddr>, Kind>>>>;

/// Resolver of host names.
pub trait Resolver {
    /// Resolves the host and port of a new connection. `until` is the deadline, for resolvers that cannot be cancelled
    /// by dropping their future.
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

/// Options for opening one connection.
#[derive(Clone, Copy)]
pub(crate) struct DialOptions<'a> {
    pub(crate) resolver: &'a dyn Resolver,
    /// The time limit of the dial.
    pub(crate) limit: Option<Duration>,
    /// The deadline of the request that it is for.
    pub(crate) until: Option<Deadline>,
    /// The protocols that TLS offers to the origin.
    pub(crate) offer: Offer,
    /// The value of Proxy-Authorization, which replaces the proxy's own credentials.
    pub(crate) for_proxy: Option<&'a [u8]>,
    pub(crate) observer: Option<&'a dyn PhaseObserver>,
}

impl<'a> DialOptions<'a> {
    /// Returns the options for all protocols, without an observer.
    pub(crate) fn new(resolver: &'a dyn Resolver, limit: Option<Duration>, until: Option<Deadline>) -> Self {
        DialOptions { resolver, limit, until, offer: Offer::All, for_proxy: None, observer: None }
    }
}

/// Opens a new connection to the client's origin.
pub(crate) async fn dial(reactor: &Rc<Reactor>, config: &Config, options: DialOptions<'_>) -> Result<Box<Connection>> {
    let DialOptions { resolver, limit, until, offer, for_proxy, observer } = options;
    let begun = Instant::now();
    let until = Deadline::earlier(limit.and_then(|limit| Deadline::of_dial(begun, limit)), until);
    let laps = Laps::begun(begun);
    let phase = Cell::new(Phase::Resolve);
    let dial = Dial {
        reactor,
        config,
        for_proxy,
        offer,
        until,
        resolver,
        phase,
        peer: RefCell::default(),
        is_at_proxy: Cell::default(),
        laps,
        observer,
    };
    let mut wait_timeout = WaitTimeout::new(reactor, None);
    wait_timeout.set(None, until);
    let opened = wait_timeout.bound(dial.open()).await;
    let (stream, facts, descriptor, address) = opened.map_err(|kind| dial.fail(kind))?;
    let connection = Connection::new(reactor, stream, config.origin.peer.clone(), WaitTimeout::new(reactor, None));
    Ok(Box::new(connection.with_facts(facts, descriptor).dialled_as(dial.laps.dialled(address))))
}

/// The stream that is ready for HTTP, the properties of its TLS, and the descriptor and peer address of its socket.
type Opened = (Stream, Option<Rc<TlsInfo>>, Option<Descriptor>, Option<Address>);

/// One dial, and its current step.
struct Dial<'a> {
    reactor: &'a Rc<Reactor>,
    config: &'a Config,
    for_proxy: Option<&'a [u8]>,
    offer: Offer,
    until: Option<Deadline>,
    resolver: &'a dyn Resolver,
    phase: Cell<Phase>,
    /// The peer of the current step, and whether that is the proxy.
    peer: RefCell<Rc<str>>,
    is_at_proxy: Cell<bool>,
    laps: Laps,
    observer: Option<&'a dyn PhaseObserver>,
}

impl Dial<'_> {
    #[cold]
    fn fail(&self, kind: Kind) -> Error {
        let error = Error::new(kind, self.phase.get()).with_peer(&self.peer.borrow());
        if self.is_at_proxy.get() { error.of_proxy() } else { error }
    }

    fn enter(&self, phase: Phase) -> std::result::Result<(), Kind> {
        self.phase.set(phase);
        self.observer.map_or(Ok(()), |observer| observer.enter(phase, false))
    }

    async fn open(&self) -> std::result::Result<Opened, Kind> {
        let Dial { config, .. } = self;
        let mut stream = self.reach().await?;
        let (descriptor, address) = (stream.descriptor(), self.address(&stream));
        if let Some(proxy) = &config.route.proxy {
            stream = self.pass(proxy, stream).await?;
            self.laps.end(Step::Proxy);
        }
        self.peer.replace(config.origin.peer.clone());
        self.is_at_proxy.set(false);
        let Some(tls) = &config.tls else { return Ok((stream, None, descriptor, address)) };
        self.enter(Phase::Tls)?;
        let secured = tls.handshake(stream, self.offer).await?;
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

    /// Connects to the origin, or to the proxy or Unix socket on the route to it.
    async fn reach(&self) -> std::result::Result<Stream, Kind> {
        let Dial { reactor, config, .. } = self;
        if let Some(path) = &config.route.unix_socket {
            // An abstract name is written with an @ instead of its NUL.
            self.peer.replace(path.to_string_lossy().replace('\0', "@").into());
            self.enter(Phase::Connect)?;
            let socket = Socket::connect_unix(reactor, path).await?;
            self.laps.end(Step::Connect);
            return Ok(Stream::Socket(socket));
        }
        let (host, port) = match &config.route.proxy {
            Some(proxy) => (&proxy.host, proxy.port),
            None => (&config.origin.host, config.origin.port),
        };
        self.peer.replace(authority(host, port).into());
        self.is_at_proxy.set(config.route.proxy.is_some());
        self.enter(Phase::Resolve)?;
        let addresses = self.resolve(host, port).await?;
        self.enter(Phase::Connect)?;
        let socket = happy_eyeballs::connect(reactor, config.route.local_address, &addresses).await?;
        self.laps.end(Step::Connect);
        Ok(Stream::Socket(socket))
    }

    /// Resolves the host, and checks the deadline. A resolver may block the thread, or its greenlet, beyond the
    /// deadline: then this fails before the next step starts.
    async fn resolve(&self, host: &str, port: u16) -> std::result::Result<Vec<SocketAddr>, Kind> {
        let addresses = self.resolver.resolve(host, port, self.until).await?;
        self.laps.end(Step::Resolve);
        Deadline::check(self.until)?;
        Ok(addresses)
    }

    /// Has the proxy open a tunnel to the origin, unless it forwards single requests.
    async fn pass(&self, proxy: &Proxy, mut stream: Stream) -> std::result::Result<Stream, Kind> {
        if let Some(tls) = &proxy.tls {
            self.enter(Phase::Tls)?;
            stream = tls.handshake(stream, Offer::All).await?.stream;
        }
        // A proxy that forwards single requests speaks HTTP/1.1 with the client.
        let knows_http2 = self.config.http2.is_some_and(|http2| http2.prior_knowledge);
        if proxy.protocol == Protocol::Http && self.config.tls.is_none() && !knows_http2 {
            return Ok(stream);
        }
        let mut addresses = Vec::new();
        if proxy.protocol.resolves_here() {
            self.laps.end(Step::Proxy);
            self.enter(Phase::Resolve)?;
            let of_proxy = self.peer.replace(self.config.origin.peer.clone());
            self.is_at_proxy.set(false);
            addresses = self.resolve(&self.config.origin.host, self.config.origin.port).await?;
            self.peer.replace(of_proxy);
            self.is_at_proxy.set(true);
        }
        self.enter(Phase::Proxy)?;
        let Config { origin, limits, .. } = self.config;
        proxy::tunnel(self.reactor, proxy, origin, limits, self.for_proxy, &addresses, stream).await
    }
}
