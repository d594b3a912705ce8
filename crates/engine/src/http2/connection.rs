//! One HTTP/2 connection, and the task that drives it.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, Connection as Driven, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, SendStream};
use wire::Limits;
use wire::framing::CloseCause;

use super::error::{Http2Error, NO_ERROR, What};
use super::outlet::Outlet;
use super::transport::{Transport, Wire};
use super::{CONNECTION_WINDOW, Options, SMALL_FRAMES, STREAM_WINDOW, STREAMS};
use crate::error::Kind;
use crate::http1::connection::Connection;
use crate::pool::close_reason::CloseReason;
use crate::pool::held::{Held, Holders, Holding};
use crate::pool::idle::{GroupMember, IdlePlace};
use crate::pool::lease::Lease;
use crate::rt::reactor::{Counted, Reactor};
use crate::rt::socket::Descriptor;
use crate::rt::timeout::WaitTimeout;
use crate::timings::Dialled;
use crate::tls::TlsInfo;

/// The time after which frames that bring nothing are counted anew: a peer that sends a PING now and then does not
/// flood, however long the connection lives.
const CALM: Duration = Duration::from_secs(10);

/// The most streams reset by the client that are remembered, for frames that are still in flight to them...
const REMEMBERED_RESETS: usize = 10_000;
/// ... and for how long: the slower the network, the longer a window's worth of data is in flight.
const REMEMBERED_FOR: Duration = Duration::from_secs(30);

/// The most frames for streams that are no longer remembered, in the life of a connection. Each is answered, and the
/// answers are kept if the peer does not read them.
const MOST_LATE_FRAMES: usize = 65_536;

/// The most pieces of [`READ_AT_ONCE`](super::transport) that are read of a connection that cannot be written to any
/// more: as much as the kernel may hold.
const READ_OUT: usize = 64;

/// The number of requests that have stream identifiers on one connection (RFC 9113 section 5.1.1).
const NUMBERS: u64 = 1 << 30;

/// The owner of HTTP/2 connections, which is notified of their changes.
pub(super) trait ConnectionOwner {
    /// Removes the connection, which accepts no more requests.
    fn remove(self: Rc<Self>, connection: &Http2Connection);
    /// Uses new room: the peer accepts more requests than before.
    fn room_was_made(self: Rc<Self>);
    /// Notes that the peer has sent its first SETTINGS, and with them its limit of requests.
    fn limit_is_known(self: Rc<Self>);
    /// Uses the room of a request on the connection that has ended.
    fn request_ended(self: Rc<Self>, connection: &Rc<Http2Connection>);
    /// Stops using HTTP/2, since the peer requires HTTP/1.1.
    fn require_http1(self: Rc<Self>);
    /// Notes that a response of `task` holds a stream from now on.
    fn response_held(&self, task: usize);
    /// Counts a closed connection to `peer`.
    fn count_closed(&self, peer: &str, reason: CloseReason);
}

/// One connection. It takes requests as long as [`has_room`](Http2Connection::has_room) says so; requests in flight
/// continue after that, as far as the peer lets them.
pub(crate) struct Http2Connection {
    pub(super) reactor: Rc<Reactor>,
    pub(super) peer: Rc<str>,
    pub(super) facts: Option<Rc<TlsInfo>>,
    pub(super) dialled: Option<Rc<Dialled>>,
    pub(super) transport: Rc<Transport>,
    owner: Weak<dyn ConnectionOwner>,
    descriptor: Option<Descriptor>,
    task: Cell<usize>,
    /// Begins streams; None once no more may begin.
    sender: RefCell<Option<SendRequest<Bytes>>>,
    /// Its pool slot, as long as it accepts requests.
    lease: RefCell<Option<Lease>>,
    active: Cell<usize>,
    /// The responses that hold a stream.
    pub(super) held: Rc<Holders>,
    /// The most concurrent streams. 1 until the peer's SETTINGS have arrived, which may say 1.
    limit: Cell<usize>,
    settled: Cell<bool>,
    /// Bytes have arrived that were not read yet: the connection may have ended.
    needs_probe: Cell<bool>,
    /// Pieces of bodies that wait for more: the task sends them when it next runs.
    outlets: RefCell<Vec<Outlet>>,
    /// Set if only the peer can allow more streams.
    awaits_peer: RefCell<Option<Counted>>,
    idle_since: Cell<Instant>,
    /// Its entry in the group of its pool, while it is idle.
    idle_place: Cell<Option<IdlePlace>>,
    /// The reason that the client has stopped using it, if it has.
    drain_reason: Cell<Option<CloseReason>>,
    /// The error with which it was closed.
    close_error: RefCell<Option<Kind>>,
    over: Cell<bool>,
}

impl Http2Connection {
    /// Sets up HTTP/2 on a connection. The peer has to send its SETTINGS within `wait_timeout`.
    pub(super) async fn begin(
        owner: Weak<dyn ConnectionOwner>,
        limits: &Limits,
        reactor: &Rc<Reactor>,
        connection: Box<Connection>,
        lease: Lease,
        options: Options,
        wait_timeout: Option<Duration>,
    ) -> Result<Rc<Self>, Kind> {
        let (peer, facts) = (connection.peer().clone(), connection.facts().cloned());
        let dialled = connection.dialled().cloned();
        let descriptor = connection.descriptor().cloned();
        let transport = Transport::new(connection.into_stream(), limits);
        let begun = Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
            .initial_max_send_streams(1)
            .max_concurrent_reset_streams(REMEMBERED_RESETS)
            .reset_stream_duration(REMEMBERED_FOR)
            .max_local_error_reset_streams(Some(MOST_LATE_FRAMES))
            .data_frame_budget(SMALL_FRAMES)
            .handshake::<_, Bytes>(Wire(transport.clone()))
            .await;
        let (sender, mut h2) = begun.map_err(|error| Kind::Io(std::io::Error::other(error)))?;
        let connection = Rc::new(Http2Connection {
            reactor: reactor.clone(),
            peer,
            facts,
            dialled,
            transport,
            owner,
            descriptor,
            task: Cell::new(0),
            sender: RefCell::new(Some(sender)),
            lease: RefCell::new(Some(lease)),
            active: Cell::new(0),
            held: Rc::default(),
            limit: Cell::new(1),
            settled: Cell::new(false),
            needs_probe: Cell::new(false),
            outlets: RefCell::default(),
            awaits_peer: RefCell::new(Some(reactor.await_peer())),
            idle_since: Cell::new(reactor.now()),
            idle_place: Cell::new(None),
            drain_reason: Cell::new(None),
            close_error: RefCell::default(),
            over: Cell::new(false),
        });
        let pings = options.ping_interval.and_then(|interval| {
            let pings = h2.ping_pong()?;
            Some(Pings {
                pings,
                wait_timeout: WaitTimeout::new(reactor, Some(interval)),
                interval,
                is_unanswered: false,
            })
        });
        let settings_timeout = Some(WaitTimeout::new(reactor, wait_timeout));
        let driver =
            Driver { h2, connection: connection.clone(), pings, settings_timeout, counted_since: reactor.now() };
        connection.task.set(reactor.tasks.spawn(Box::pin(driver)));
        Ok(connection)
    }

    /// Returns whether another request may begin now.
    pub(super) fn has_room(&self) -> bool {
        self.takes_requests() && self.active.get() < self.limit.get() && !self.needs_probe.get()
    }

    /// Returns whether requests may begin, now or later.
    pub(super) fn takes_requests(&self) -> bool {
        self.sender.borrow().is_some()
    }

    /// Returns whether its capacity is still unknown: SETTINGS are outstanding, or unread bytes may end the connection.
    pub(super) fn is_unsettled(&self) -> bool {
        !self.settled.get() || self.needs_probe.get()
    }

    /// Returns the limit of concurrent requests, as far as it is known.
    pub(super) fn limit(&self) -> usize {
        self.limit.get()
    }

    pub(super) fn active(&self) -> usize {
        self.active.get()
    }

    pub(super) fn idle_since(&self) -> Option<Instant> {
        (self.active.get() == 0).then(|| self.idle_since.get())
    }

    pub(super) fn set_idle_place(&self, idle_place: Option<IdlePlace>) {
        let replaced = self.idle_place.replace(idle_place);
        drop(replaced);
    }

    /// Returns a permit for one request.
    pub(super) fn permit(self: &Rc<Self>) -> StreamPermit {
        self.set_idle_place(None);
        self.active.set(self.active.get() + 1);
        StreamPermit { connection: self.clone(), holding: None }
    }

    /// Checks an idle connection, which its peer may have closed before the loop could report it. If there is something
    /// to read, it has no room until its task has read that: not here, since a layer may run code of the program, which
    /// may call the pool again.
    pub(super) fn check_idle(&self) {
        if self.descriptor.as_ref().is_some_and(Descriptor::has_more) {
            self.needs_probe.set(true);
            self.reactor.tasks.wake(self.task.get());
            self.reactor.tasks.deliver();
        }
    }

    /// Begins a stream.
    pub(super) fn request(
        &self,
        request: http::Request<()>,
        ends: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), Kind> {
        let sender = self.sender.borrow().clone();
        let Some(mut sender) = sender else { return Err(self.reason()) };
        let begun = sender.send_request(request, ends);
        drop(sender);
        self.transport.begun.set(self.transport.begun.get() + 1);
        if self.transport.begun.get() >= NUMBERS {
            self.stop_accepting();
        }
        if let Ok((_, send)) = &begun {
            self.transport.begin(u32::from(send.stream_id()));
        }
        begun.map_err(|error| match (error.reason(), error.is_io()) {
            (None, false) => Kind::Misuse("the request is none that HTTP/2 knows"),
            _ => self.explain(error),
        })
    }

    /// Lends the unsent data of a stream to the task, which sends it unless the owner continues first.
    pub(super) fn borrow_outlet(&self, outlet: Outlet) {
        self.outlets.borrow_mut().push(outlet);
        self.reactor.tasks.wake(self.task.get());
    }

    /// Returns the reason that it accepts no more requests.
    fn reason(&self) -> Kind {
        self.close_error.borrow().as_ref().and_then(Kind::copy).unwrap_or(Kind::Closed)
    }

    /// Returns the engine's error for one of h2.
    pub(super) fn explain(&self, error: h2::Error) -> Kind {
        if let Some(io) = error.get_io() {
            let known = self.close_error.borrow().as_ref().and_then(Kind::copy);
            // An error that is one object goes to the first caller: it may be an exception that must not be lost.
            let known = known.or_else(|| self.close_error.replace(Some(Kind::Io(io.kind().into()))));
            return known.unwrap_or_else(|| Kind::Io(io.kind().into()));
        }
        let Some(reason) = error.reason() else { return Kind::Io(std::io::Error::other(error)) };
        let code = u32::from(reason);
        Kind::Http2(match (error.is_remote(), error.is_go_away()) {
            (true, true) => self.transport.go_away(code),
            (true, false) => Http2Error::of_peer(What::Reset, code, None, b""),
            (false, _) => Http2Error::violation(code, ""),
        })
    }

    /// Stops accepting requests, for `reason`. The connection is closed when the last one in flight has ended.
    pub(super) fn drain(&self, reason: CloseReason) {
        if self.takes_requests() {
            self.drain_reason.set(Some(reason));
        }
        self.stop_accepting();
        self.reactor.tasks.wake(self.task.get());
        // At once, if no request is in flight.
        if self.active.get() == 0 {
            self.reactor.tasks.run_one(self.task.get());
        }
    }

    /// Stops accepting requests, and frees its pool slot for another connection.
    fn stop_accepting(&self) {
        let sender = self.sender.take();
        drop(sender);
        let lease = self.lease.take();
        drop(lease);
        let awaits_peer = self.awaits_peer.take();
        drop(awaits_peer);
        self.set_idle_place(None);
        if let Some(owner) = self.owner.upgrade() {
            owner.remove(self);
        }
        self.reactor.tasks.deliver();
    }

    /// Notes the end of the connection.
    fn finish(&self, close_error: Option<Kind>) {
        if self.over.replace(true) {
            return;
        }
        let last_stream = self.transport.last_stream();
        let reason = match &close_error {
            _ if self.drain_reason.get().is_some() => self.drain_reason.get().unwrap_or(CloseReason::GivenUp),
            _ if last_stream.is_some() => CloseReason::Response(CloseCause::AskedByPeer),
            Some(Kind::Timeout(_)) => CloseReason::TimedOut,
            Some(Kind::Closed) | None if self.active.get() == 0 => CloseReason::EndedWhileIdle,
            _ => CloseReason::Broken,
        };
        // Requests that still wait get the peer's GOAWAY as their error, rather than an error of the closed connection.
        let close_error = match close_error {
            Some(Kind::Closed | Kind::Io(_)) | None => self.transport.peer_goaway().map(Kind::Http2).or(close_error),
            close_error => close_error,
        };
        self.close_error.replace(close_error.or(Some(Kind::Closed)));
        // The child of a fork must not report its parent's connections.
        if let Some(owner) = self.owner.upgrade().filter(|_| !self.reactor.is_inherited()) {
            owner.count_closed(&self.peer, reason);
        }
        self.stop_accepting();
    }
}

impl GroupMember for Http2Connection {
    /// Has its task close it soon: not here, where a Python exception may be propagating, and TLS with an SSLContext
    /// runs the program's code.
    fn evict(&self, _: usize) -> bool {
        if self.takes_requests() {
            self.drain_reason.set(Some(CloseReason::IdleLimit));
        }
        self.reactor.tasks.wake(self.task.get());
        self.stop_accepting();
        true
    }
}

/// Permit to use one stream on a connection.
pub(crate) struct StreamPermit {
    pub(super) connection: Rc<Http2Connection>,
    /// The response that holds it.
    holding: Option<Holding>,
}

impl StreamPermit {
    /// Notifies the connections' owner of the response that holds it from now on.
    pub(super) fn hold(&mut self, response: Box<dyn Held>) {
        let task = response.owner();
        self.holding = Some(self.connection.held.enter(response));
        if let Some(owner) = self.connection.owner.upgrade() {
            owner.response_held(task);
        }
    }

    /// Ends the hold.
    pub(super) fn release(&mut self) {
        self.holding = None;
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.holding = None;
        let connection = &self.connection;
        connection.active.set(connection.active.get() - 1);
        if connection.active.get() == 0 {
            connection.idle_since.set(connection.reactor.now());
        }
        if let Some(owner) = connection.owner.upgrade() {
            owner.request_ended(connection);
        }
    }
}

struct Pings {
    pings: PingPong,
    wait_timeout: WaitTimeout,
    interval: Duration,
    is_unanswered: bool,
}

impl Pings {
    /// Becomes ready if the peer does not answer.
    fn poll(&mut self, cx: &mut Context<'_>, heard: bool) -> Poll<Kind> {
        if heard {
            self.wait_timeout.reset();
            self.is_unanswered = false;
        }
        // The transport has noted the answer already.
        let _ = self.pings.poll_pong(cx);
        while self.wait_timeout.poll_elapsed(cx) {
            if self.is_unanswered {
                return Poll::Ready(Kind::Timeout(self.interval));
            }
            self.is_unanswered = true;
            self.wait_timeout.reset();
            // A PING that is still in flight counts instead of this one.
            let _ = self.pings.send_ping(Ping::opaque());
        }
        Poll::Pending
    }
}

/// The task of a connection: moves frames until it is over.
struct Driver {
    h2: Driven<Wire, Bytes>,
    connection: Rc<Http2Connection>,
    pings: Option<Pings>,
    /// The time limit for the peer's SETTINGS, until they have arrived.
    settings_timeout: Option<WaitTimeout>,
    /// The start of the current count of frames that bring nothing.
    counted_since: Instant,
}

impl Driver {
    /// Becomes ready when the connection is over.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Option<Kind>> {
        let mut has_looked = false;
        loop {
            let heard = match self.poll_frames(cx) {
                Ok(heard) => heard,
                Err(close_error) => return Poll::Ready(close_error),
            };
            match self.poll_timeout(cx, heard) {
                Poll::Ready(kind) if has_looked => return Poll::Ready(Some(kind)),
                // The awaited bytes may have arrived, if the loop has not run to report them.
                Poll::Ready(_) => {
                    has_looked = true;
                    self.connection.transport.mark_readable();
                }
                // Closed like an idle HTTP/1.1 connection.
                Poll::Pending if self.connection.active.get() == 0 && self.connection.transport.is_flooded() => {
                    return Poll::Ready(None);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Transfers frames without waiting. Returns whether bytes have arrived, or the reason that no more will arrive.
    fn poll_frames(&mut self, cx: &mut Context<'_>) -> std::result::Result<bool, Option<Kind>> {
        let transport = self.connection.transport.clone();
        let now = self.connection.reactor.now();
        if now.saturating_duration_since(self.counted_since) > CALM {
            self.counted_since = now;
            transport.forgive();
        }
        loop {
            let polled = Pin::new(&mut self.h2).poll(cx);
            let drained = transport.poll_drain(cx);
            if let Poll::Ready(result) = polled {
                // The last frame, a GOAWAY, was sent if the socket takes it at once.
                return Err(transport.failure().or_else(|| result.err().map(|error| self.connection.explain(error))));
            }
            if let Poll::Ready(Err(error)) = drained {
                self.read_out(cx);
                return Err(transport.failure().or(Some(error.into())));
            }
            if !transport.has_made_room() {
                return Ok(transport.has_heard());
            }
        }
    }

    /// Reads the rest of a connection that cannot be written to any more: responses, or a GOAWAY with reasons.
    fn read_out(&mut self, cx: &mut Context<'_>) {
        let transport = self.connection.transport.clone();
        for _ in 0..READ_OUT {
            // All in this turn: it is the last one.
            transport.mark_readable();
            if Pin::new(&mut self.h2).poll(cx).is_ready() || !transport.has_heard() {
                return;
            }
        }
    }

    /// Becomes ready when the peer has been silent for too long.
    fn poll_timeout(&mut self, cx: &mut Context<'_>, heard: bool) -> Poll<Kind> {
        if let Some(wait_timeout) = &mut self.settings_timeout {
            if self.connection.transport.has_settings() {
                self.connection.settled.set(true);
                self.settings_timeout = None;
            } else if wait_timeout.poll_elapsed(cx) {
                // The peer has sent nothing at all: the program gets a timeout, as with HTTP/1.1.
                return Poll::Ready(wait_timeout.elapsed_error());
            }
        }
        self.pings.as_mut().map_or(Poll::Pending, |pings| pings.poll(cx, heard))
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let driver = self.get_mut();
        let was_settled = driver.connection.settled.get();
        let outlets = driver.connection.outlets.take();
        outlets.iter().for_each(Outlet::take_back);
        drop(outlets);
        let over = driver.poll_over(cx);
        let connection = driver.connection.clone();
        if connection.transport.requires_http1()
            && let Some(owner) = connection.owner.upgrade()
        {
            owner.require_http1();
        }
        // RFC 9113 section 5.4.1: an error ends the connection, also for requests that the peer may have acted on.
        let failed = connection.transport.peer_goaway().filter(|peer_goaway| peer_goaway.code != NO_ERROR);
        let over = match failed {
            Some(peer_goaway) if over.is_pending() => Poll::Ready(Some(Kind::Http2(peer_goaway))),
            _ => over,
        };
        if let Poll::Ready(close_error) = over {
            connection.finish(close_error);
            return Poll::Ready(());
        }
        let limit = driver.h2.max_concurrent_send_streams().min(STREAMS);
        let before = connection.limit.replace(limit);
        let was_probing = connection.needs_probe.replace(false);
        let awaits_peer = !connection.settled.get() || limit == 0;
        if connection.takes_requests() && awaits_peer != connection.awaits_peer.borrow().is_some() {
            let replaced = connection.awaits_peer.replace(awaits_peer.then(|| connection.reactor.await_peer()));
            drop(replaced);
        }
        if connection.transport.last_stream().is_some() && connection.takes_requests() {
            connection.stop_accepting();
        } else if let Some(owner) = connection.owner.upgrade() {
            if connection.settled.get() != was_settled {
                owner.limit_is_known();
            } else if limit > before || was_probing {
                owner.room_was_made();
            }
        }
        if connection.active.get() == 0 {
            connection.transport.release_buffers();
        }
        Poll::Pending
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.connection.finish(Some(Kind::Closed));
    }
}
