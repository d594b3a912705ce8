//! One connection of HTTP/2, and the task that drives it.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, Connection as Driven, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, SendStream};
use wire::framing::CloseReason;

use super::error::{Http2Error, SETTINGS_TIMEOUT, What};
use super::sessions::Sessions;
use super::transport::{Transport, Wire};
use super::{CONNECTION_WINDOW, Options, SMALL_FRAMES, STREAM_WINDOW, STREAMS};
use crate::ending::Ending;
use crate::idle::{IdleOwner, IdlePlace};
use crate::pool::Lease;
use crate::reactor::Counted;
use crate::socket::Descriptor;
use crate::timers::Patience;
use crate::timings::Dialled;
use crate::tls::Facts;
use crate::{Connection, Kind, Reactor};

/// A peer that asks for a sign of life now and then does not talk too much, however long nothing else is to be said.
const CALM: Duration = Duration::from_secs(10);

/// Streams that we have ended are remembered for the frames that are still on their way to them, at most so many...
const REMEMBERED_RESETS: usize = 10_000;
/// ... and for so long: the slower the line, the longer a window's worth of data is on its way.
const REMEMBERED_FOR: Duration = Duration::from_secs(30);

/// Frames for streams that are not remembered any more, in the life of a connection. Each is answered, and the answers
/// of a peer that does not read them have to be kept.
const MOST_LATE_FRAMES: usize = 65_536;

/// Pieces of [`READ_AT_ONCE`](super::transport) that are read of a connection on which nothing can be said any more: as
/// much as the kernel may hold.
const READ_OUT: usize = 64;

/// Requests that there are numbers for on one connection (RFC 9113 section 5.1.1).
const NUMBERS: u64 = 1 << 30;

/// One connection. It takes requests as long as [`has_room`](Session::has_room); those on their way come to their ends
/// after that as well, as far as the peer lets them.
pub(crate) struct Session {
    pub(super) reactor: Rc<Reactor>,
    pub(super) peer: Rc<str>,
    pub(super) facts: Option<Rc<Facts>>,
    pub(super) dialled: Option<Rc<Dialled>>,
    pub(super) transport: Rc<Transport>,
    owner: Weak<Sessions>,
    descriptor: Option<Descriptor>,
    task: Cell<usize>,
    /// What begins streams; None once no more may begin.
    sender: RefCell<Option<SendRequest<Bytes>>>,
    /// Its place in the pool, as long as it takes requests.
    place: RefCell<Option<Lease>>,
    active: Cell<usize>,
    /// Most streams at a time. 1 until the peer's SETTINGS have come, which may say 1.
    limit: Cell<usize>,
    settled: Cell<bool>,
    /// Bytes have come that nobody has looked at: it may have ended.
    doubtful: Cell<bool>,
    /// Whether room will be made by the peer, if at all.
    awaits_peer: RefCell<Option<Counted>>,
    idle_since: Cell<Instant>,
    /// Its place in the group of its pool, while it is without a request.
    idle_place: Cell<Option<IdlePlace>>,
    /// Why it takes no more requests, where that is our doing.
    retired: Cell<Option<Ending>>,
    /// Why it is no more.
    verdict: RefCell<Option<Kind>>,
    over: Cell<bool>,
}

impl Session {
    /// Over a connection that is ready for it. The peer has `patience` to say its SETTINGS.
    pub(super) async fn begin(
        owner: &Rc<Sessions>,
        reactor: &Rc<Reactor>,
        connection: Box<Connection>,
        place: Lease,
        options: Options,
        patience: Option<Duration>,
    ) -> Result<Rc<Self>, Kind> {
        let (peer, facts) = (connection.peer().clone(), connection.facts().cloned());
        let dialled = connection.dialled().cloned();
        let descriptor = connection.descriptor().cloned();
        let limits = owner.limits();
        let transport = Transport::new(connection.into_stream(), limits.head_bytes);
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
        let (sender, mut connection) = begun.map_err(|error| Kind::Io(std::io::Error::other(error)))?;
        let session = Rc::new(Session {
            reactor: reactor.clone(),
            peer,
            facts,
            dialled,
            transport,
            owner: Rc::downgrade(owner),
            descriptor,
            task: Cell::new(0),
            sender: RefCell::new(Some(sender)),
            place: RefCell::new(Some(place)),
            active: Cell::new(0),
            limit: Cell::new(1),
            settled: Cell::new(false),
            doubtful: Cell::new(false),
            awaits_peer: RefCell::new(Some(reactor.await_peer())),
            idle_since: Cell::new(reactor.now()),
            idle_place: Cell::new(None),
            retired: Cell::new(None),
            verdict: RefCell::default(),
            over: Cell::new(false),
        });
        let pings = options.ping_interval.and_then(|interval| {
            let pings = connection.ping_pong()?;
            Some(Pings { pings, patience: Patience::new(reactor, Some(interval)), interval, asked: false })
        });
        let settling = Some(Patience::new(reactor, patience));
        let driver = Driver { connection, session: session.clone(), pings, settling, counted_since: reactor.now() };
        session.task.set(reactor.tasks.spawn(Box::pin(driver)));
        Ok(session)
    }

    /// Whether another request may begin now.
    pub(super) fn has_room(&self) -> bool {
        self.takes_requests() && self.active.get() < self.limit.get() && !self.doubtful.get()
    }

    /// Whether requests may begin, now or later.
    pub(super) fn takes_requests(&self) -> bool {
        self.sender.borrow().is_some()
    }

    /// Whether it is not known yet how many streams there may be, or whether there may be any more.
    pub(super) fn is_unsettled(&self) -> bool {
        !self.settled.get() || self.doubtful.get()
    }

    pub(super) fn active(&self) -> usize {
        self.active.get()
    }

    pub(super) fn idle_since(&self) -> Option<Instant> {
        (self.active.get() == 0).then(|| self.idle_since.get())
    }

    pub(super) fn set_idle_place(&self, place: Option<IdlePlace>) {
        let replaced = self.idle_place.replace(place);
        drop(replaced);
    }

    /// Room for one request.
    pub(super) fn slot(self: &Rc<Self>) -> Slot {
        self.set_idle_place(None);
        self.active.set(self.active.get() + 1);
        Slot { session: self.clone() }
    }

    /// Looks at an idle connection, whose peer may have closed it while the loop had no turn. If it has something to
    /// say, there is no room until the task has listened: not here, since what is below may be code of the program's,
    /// which may come back.
    pub(super) fn look(&self) {
        if self.descriptor.as_ref().is_some_and(Descriptor::has_more) {
            self.doubtful.set(true);
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
            self.leave();
        }
        if let Ok((_, send)) = &begun {
            self.transport.begin(u32::from(send.stream_id()));
        }
        begun.map_err(|error| match (error.reason(), error.is_io()) {
            (None, false) => Kind::Misuse("the request is none that HTTP/2 knows"),
            _ => self.explain(error),
        })
    }

    /// Why it takes no more requests.
    fn reason(&self) -> Kind {
        self.verdict.borrow().as_ref().and_then(Kind::copy).unwrap_or(Kind::Closed)
    }

    /// What an error of h2's means here.
    pub(super) fn explain(&self, error: h2::Error) -> Kind {
        if let Some(io) = error.get_io() {
            let known = self.verdict.borrow().as_ref().and_then(Kind::copy);
            // What is one object goes to who asks first: it may be an exception that must not be lost.
            let known = known.or_else(|| self.verdict.replace(Some(Kind::Io(io.kind().into()))));
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

    /// Takes no more requests, for that reason; closes when those there are have come to their ends.
    pub(super) fn retire(&self, ending: Ending) {
        if self.takes_requests() {
            self.retired.set(Some(ending));
        }
        self.leave();
        self.reactor.tasks.wake(self.task.get());
        // At once, where nobody but us is concerned.
        if self.active.get() == 0 {
            self.reactor.tasks.run_one(self.task.get());
        }
    }

    /// Takes no more requests, and makes room for a connection that does.
    fn leave(&self) {
        let sender = self.sender.take();
        drop(sender);
        let place = self.place.take();
        drop(place);
        let awaits_peer = self.awaits_peer.take();
        drop(awaits_peer);
        self.set_idle_place(None);
        if let Some(owner) = self.owner.upgrade() {
            owner.remove(self);
        }
        self.reactor.tasks.deliver();
    }

    /// The connection is no more.
    fn finish(&self, verdict: Option<Kind>) {
        if self.over.replace(true) {
            return;
        }
        let last_stream = self.transport.last_stream();
        let ending = match &verdict {
            _ if self.retired.get().is_some() => self.retired.get().unwrap_or(Ending::GivenUp),
            _ if last_stream.is_some() => Ending::Response(CloseReason::AskedByPeer),
            Some(Kind::Timeout(_)) => Ending::TimedOut,
            Some(Kind::Closed) | None if self.active.get() == 0 => Ending::EndedWhileIdle,
            _ => Ending::Broken,
        };
        // Whoever still waits is told what the peer has said, rather than that it has gone since.
        let verdict = match verdict {
            Some(Kind::Closed | Kind::Io(_)) | None => self.transport.goodbye().map(Kind::Http2).or(verdict),
            verdict => verdict,
        };
        self.verdict.replace(verdict.or(Some(Kind::Closed)));
        // The child of a fork has nothing to tell of its parent's connections.
        if let Some(owner) = self.owner.upgrade().filter(|_| !self.reactor.is_inherited()) {
            owner.count_closed(&self.peer, ending);
        }
        self.leave();
    }
}

impl IdleOwner for Session {
    /// Its task closes it, soon: not here, where an exception of Python's may be on its way, and TLS by an SSLContext is
    /// the program's code.
    fn evict(&self, _: usize) -> bool {
        if self.takes_requests() {
            self.retired.set(Some(Ending::IdleLimit));
        }
        self.reactor.tasks.wake(self.task.get());
        self.leave();
        true
    }
}

/// Room for one request on a connection.
pub(crate) struct Slot {
    pub(super) session: Rc<Session>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let session = &self.session;
        session.active.set(session.active.get() - 1);
        if session.active.get() == 0 {
            session.idle_since.set(session.reactor.now());
        }
        if let Some(owner) = session.owner.upgrade() {
            owner.room_was_made();
            owner.may_be_idle(session);
        }
    }
}

struct Pings {
    pings: PingPong,
    patience: Patience,
    interval: Duration,
    asked: bool,
}

impl Pings {
    /// Ready when the peer gives no sign of life.
    fn poll(&mut self, cx: &mut Context<'_>, heard: bool) -> Poll<Kind> {
        if heard {
            self.patience.reset();
            self.asked = false;
        }
        // What it answered with was heard already.
        let _ = self.pings.poll_pong(cx);
        while self.patience.poll_exhausted(cx) {
            if self.asked {
                return Poll::Ready(Kind::Timeout(self.interval));
            }
            self.asked = true;
            self.patience.reset();
            // While one is on its way, that one counts.
            let _ = self.pings.send_ping(Ping::opaque());
        }
        Poll::Pending
    }
}

/// Moves frames until the connection is over.
struct Driver {
    connection: Driven<Wire, Bytes>,
    session: Rc<Session>,
    pings: Option<Pings>,
    /// Until the peer's SETTINGS have come.
    settling: Option<Patience>,
    /// Since when frames that bring nothing are counted.
    counted_since: Instant,
}

impl Driver {
    /// Ready when the connection is over.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Option<Kind>> {
        let mut has_looked = false;
        loop {
            let heard = match self.poll_frames(cx) {
                Ok(heard) => heard,
                Err(verdict) => return Poll::Ready(verdict),
            };
            match self.poll_patience(cx, heard) {
                Poll::Ready(kind) if has_looked => return Poll::Ready(Some(kind)),
                // What was waited for may be there, and the loop have had no turn to tell.
                Poll::Ready(_) => {
                    has_looked = true;
                    self.session.transport.look_again();
                }
                // As an idle connection of HTTP/1.1 is closed.
                Poll::Pending if self.session.active.get() == 0 && self.session.transport.is_flooded() => {
                    return Poll::Ready(None);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Moves what can be moved now: whether anything was heard, or why there is no more to come.
    fn poll_frames(&mut self, cx: &mut Context<'_>) -> std::result::Result<bool, Option<Kind>> {
        let transport = self.session.transport.clone();
        let now = self.session.reactor.now();
        if now.saturating_duration_since(self.counted_since) > CALM {
            self.counted_since = now;
            transport.forgive();
        }
        loop {
            let polled = Pin::new(&mut self.connection).poll(cx);
            let drained = transport.poll_drain(cx);
            if let Poll::Ready(result) = polled {
                // What is left to be said, a goodbye, has been said if the socket takes it at once.
                return Err(transport.failure().or_else(|| result.err().map(|error| self.session.explain(error))));
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

    /// Reads what is left of a connection on which nothing can be said any more: answers, or a goodbye with reasons.
    fn read_out(&mut self, cx: &mut Context<'_>) {
        let transport = self.session.transport.clone();
        for _ in 0..READ_OUT {
            // All in this turn: there is none after it.
            transport.look_again();
            if Pin::new(&mut self.connection).poll(cx).is_ready() || !transport.has_heard() {
                return;
            }
        }
    }

    /// Ready when the peer has been silent for too long.
    fn poll_patience(&mut self, cx: &mut Context<'_>, heard: bool) -> Poll<Kind> {
        if let Some(patience) = &mut self.settling {
            if self.session.transport.has_settings() {
                self.session.settled.set(true);
                self.settling = None;
            } else if patience.poll_exhausted(cx) {
                return Poll::Ready(Kind::Http2(Http2Error::violation(SETTINGS_TIMEOUT, "no SETTINGS came")));
            }
        }
        self.pings.as_mut().map_or(Poll::Pending, |pings| pings.poll(cx, heard))
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let driver = self.get_mut();
        let was_settled = driver.session.settled.get();
        let over = driver.poll_over(cx);
        let session = driver.session.clone();
        if let Poll::Ready(verdict) = over {
            session.finish(verdict);
            return Poll::Ready(());
        }
        let limit = driver.connection.max_concurrent_send_streams().min(STREAMS);
        let before = session.limit.replace(limit);
        let was_doubtful = session.doubtful.replace(false);
        let awaits_peer = !session.settled.get() || limit == 0;
        if session.takes_requests() && awaits_peer != session.awaits_peer.borrow().is_some() {
            let replaced = session.awaits_peer.replace(awaits_peer.then(|| session.reactor.await_peer()));
            drop(replaced);
        }
        if session.transport.last_stream().is_some() && session.takes_requests() {
            session.leave();
        } else if (limit > before || session.settled.get() != was_settled || was_doubtful)
            && let Some(owner) = session.owner.upgrade()
        {
            owner.room_was_made();
        }
        if session.active.get() == 0 {
            session.transport.rest();
        }
        Poll::Pending
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.session.finish(Some(Kind::Closed));
    }
}
