//! One connection whose owner sends and receives bytes as they are, both at once if it likes, and reads a response on
//! request. For programs that write their requests themselves, and for the protocol after an upgrade.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tokio::io::ReadBuf;
use wire::Limits;
use wire::framing::MethodKind;

use crate::config::Config;
use crate::connect::{DialOptions, Resolver, dial};
use crate::error::{Error, Kind, Phase, Result};
use crate::http1::connection::Connection;
use crate::http1::exchange::{Unanswered, read_response_or_upgrade};
use crate::pool::close_reason::CloseReason;
use crate::pool::held::{Held, Holding};
use crate::pool::lease::{Lease, LeaseOwner};
use crate::response::Response;
use crate::rt::reactor::Reactor;
use crate::rt::socket::{Descriptor, Direction};

use crate::rt::timeout::WaitTimeout;
use crate::timings::Timings;
use crate::tls::{Tls, TlsInfo};

/// A connection and its state. One task may send while another receives; everything else needs it alone. Dropping it
/// closes the connection, unless a response is still read from it: then it is closed after that.
pub struct RawConnection {
    reactor: Rc<Reactor>,
    slot: Rc<ReturnSlot>,
    /// Taken out during each use, since that may run code of the program, which may use this object.
    lease: Cell<Option<Lease>>,
    descriptor: Option<Descriptor>,
    facts: RefCell<Option<Rc<TlsInfo>>>,
    /// The timings of the request that is being sent.
    timings: RefCell<Option<Timings>>,
    /// Whether it has carried a request before.
    reused: Cell<bool>,
    sending: Use,
    receiving: Use,
    is_closed: Cell<bool>,
}

/// Use of one direction.
#[derive(Default)]
struct Use {
    is_busy: Cell<bool>,
    /// The task that waits.
    waiting: Cell<Option<Waker>>,
}

/// The next step that a connection allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoState {
    /// A request can be sent: no response is outstanding.
    Send,
    /// The last response has to be received to its end first, or a task sends.
    Receive,
    /// Nothing: it is closed, or the peer has sent something unsolicited.
    Unusable,
}

impl RawConnection {
    /// Opens a connection as `config` says, within its connection timeout. `resolver` is called for addresses.
    pub async fn open(reactor: &Rc<Reactor>, config: &Config, resolver: &dyn Resolver) -> Result<Self> {
        let options = DialOptions::new(resolver, config.timeouts.connection, None);
        let connection = dial(reactor, config, options).await?;
        let slot = Rc::<ReturnSlot>::default();
        let lease = Lease::new(Some(slot.clone()), Some(connection));
        Ok(RawConnection::new(reactor, slot, lease))
    }

    /// Continues on the connection of a response after which it carries another protocol. The pool slot is taken until
    /// the connection is closed.
    pub fn of_upgrade(reactor: &Rc<Reactor>, lease: Lease) -> Self {
        RawConnection::new(reactor, Rc::default(), lease)
    }

    fn new(reactor: &Rc<Reactor>, slot: Rc<ReturnSlot>, mut lease: Lease) -> Self {
        let connection = lease.connection();
        let descriptor = connection.as_ref().and_then(|connection| connection.descriptor().cloned());
        let facts = connection.and_then(|connection| connection.facts().cloned());
        RawConnection {
            reactor: reactor.clone(),
            slot,
            lease: Cell::new(Some(lease)),
            descriptor,
            facts: RefCell::new(facts),
            timings: RefCell::default(),
            reused: Cell::new(false),
            sending: Use::default(),
            receiving: Use::default(),
            is_closed: Cell::new(false),
        }
    }

    /// Returns the descriptor of its socket, as long as that is open.
    pub fn descriptor(&self) -> Option<&Descriptor> {
        self.descriptor.as_ref()
    }

    /// Returns the result of its TLS handshake, if there was one.
    pub fn facts(&self) -> Option<Rc<TlsInfo>> {
        self.facts.borrow().clone()
    }

    /// Returns whether a task uses that direction.
    pub fn is_busy(&self, direction: Direction) -> bool {
        self.used(direction).is_busy.get()
    }

    fn used(&self, direction: Direction) -> &Use {
        match direction {
            Direction::Receive => &self.receiving,
            Direction::Send => &self.sending,
        }
    }

    /// Returns its state. A connection that a response has returned is checked like one of a pool.
    pub fn io_state(&self) -> IoState {
        if self.is_busy(Direction::Send) { IoState::Receive } else { self.resting_state() }
    }

    fn resting_state(&self) -> IoState {
        if self.is_closed.get() {
            return IoState::Unusable;
        }
        let lease = self.lease.take().or_else(|| self.slot.take());
        let io_state = match &lease {
            None => IoState::Receive,
            Some(lease) if lease.is_connected() => IoState::Send,
            Some(_) => IoState::Unusable,
        };
        self.put_back(lease);
        io_state
    }

    /// Puts the lease back after a use. Drops it if the connection was closed meanwhile.
    fn put_back(&self, lease: Option<Lease>) {
        if self.is_closed.get() {
            drop(lease);
        } else if let Some(lease) = lease {
            self.lease.set(Some(lease));
        }
    }

    /// Begins the use of one direction. Ends it when the result is dropped.
    fn begin(&self, direction: Direction, phase: Phase) -> Result<InUse<'_>> {
        let used = self.used(direction);
        if used.is_busy.get() {
            return Err(Error::new(Kind::Misuse("another task uses the connection"), phase));
        }
        if self.resting_state() == IoState::Receive && !self.is_busy(direction.other()) {
            return Err(Error::new(Kind::Misuse("the response before has not been read"), phase));
        }
        used.is_busy.set(true);
        Ok(InUse { raw: self, direction })
    }

    /// Runs `work` on the connection. Fails if it is closed.
    fn with<T>(&self, phase: Phase, work: impl FnOnce(&mut Connection) -> Poll<Result<T>>) -> Poll<Result<T>> {
        let mut lease = self.lease.take();
        let done = match lease.as_mut().and_then(Lease::connection) {
            Some(connection) if !self.is_closed.get() => work(connection),
            _ => Poll::Ready(Err(closed(phase))),
        };
        self.put_back(lease);
        // close() during the work takes precedence.
        if self.is_closed.get() && done.is_pending() { Poll::Ready(Err(closed(phase))) } else { done }
    }

    /// Takes the lease out, for a use that needs the connection alone. A use that is dropped closes the connection.
    fn take(&self, phase: Phase) -> Result<Lease> {
        let lease = self.lease.take().filter(Lease::is_connected);
        lease.filter(|_| !self.is_closed.get()).ok_or_else(|| closed(phase))
    }

    /// Performs a TLS handshake within `limit`. If that fails, the connection is closed.
    pub async fn secure(&self, tls: &dyn Tls, limit: Option<Duration>) -> Result<()> {
        let _uses = (self.begin(Direction::Send, Phase::Tls)?, self.begin(Direction::Receive, Phase::Tls)?);
        let mut lease = self.take(Phase::Tls)?;
        let Some(connection) = lease.take() else { return Ok(()) };
        let connection = match connection.secured(tls, limit).await {
            Ok(connection) => connection,
            Err(error) => {
                self.close();
                return Err(error);
            }
        };
        // The request for this is complete.
        self.timings.replace(None);
        self.facts.replace(connection.facts().cloned());
        lease.replace(Some(connection));
        self.put_back(Some(lease));
        if self.is_closed.get() { Err(closed(Phase::Tls)) } else { Ok(()) }
    }

    /// Sends all of `bytes`, waiting at most `limit` for the peer to take some. After an error, bytes of the peer can
    /// still be read.
    pub async fn send(&self, bytes: &[u8], limit: Option<Duration>) -> Result<()> {
        let in_use = self.begin(Direction::Send, Phase::Send)?;
        let mut timings = self.timings.take();
        let mut timeout = WaitTimeout::new(&self.reactor, limit);
        let mut rest = bytes;
        let sent = poll_fn(|cx| {
            self.with(Phase::Send, |connection| {
                if timings.is_none() {
                    (connection.sent, connection.received) = (0, 0);
                    timings = Some(Timings::begun(Instant::now()));
                }
                let before = rest.len();
                let polled =
                    in_use.poll(cx, connection, |cx, connection| connection.stream.poll_write_all(cx, &mut rest));
                if rest.len() < before {
                    connection.sent += (before - rest.len()) as u64;
                    // The peer has taken some: the next wait has a limit of its own.
                    timeout.reset();
                }
                let polled = polled.map_err(|error| connection.fail(error.into(), Phase::Send));
                if polled.is_pending() && timeout.poll_elapsed(cx) {
                    return Poll::Ready(Err(connection.fail(timeout.elapsed_error(), Phase::Send)));
                }
                polled
            })
        })
        .await;
        if let Some(course) = &mut timings {
            course.sent = course.elapsed();
        }
        // A receiver that has begun meanwhile has ended the request.
        if !self.is_busy(Direction::Receive) {
            self.timings.replace(timings);
        }
        sent
    }

    /// Reads the available bytes into `room`, waiting at most `limit` for the first ones. Reads nothing only after the
    /// peer has closed. Heads and framing are not parsed.
    pub async fn receive(&self, room: &mut ReadBuf<'_>, limit: Option<Duration>) -> Result<()> {
        let in_use = self.begin(Direction::Receive, Phase::Body)?;
        // This is the answer to what was sent, a CONNECT for example: the next request begins with the next bytes.
        self.timings.replace(None);
        let mut timeout = WaitTimeout::new(&self.reactor, limit);
        let was_closed = self.is_closed.get();
        poll_fn(|cx| {
            if self.is_closed.get() && !was_closed {
                return Poll::Ready(Ok(()));
            }
            self.with(Phase::Body, |connection| {
                connection.wait_timeout.set(None, None);
                let polled = in_use.poll(cx, connection, |cx, connection| connection.poll_take(cx, room, Phase::Body));
                if polled.is_pending() && timeout.poll_elapsed(cx) {
                    return Poll::Ready(Err(connection.fail(timeout.elapsed_error(), Phase::Body)));
                }
                polled
            })
        })
        .await
    }

    /// Waits for the response to a request that was sent, at most `limit` for each read. Its body is read from the
    /// response, which returns the connection at its end. After 101 the connection is returned at once, for the
    /// protocol that was switched to (RFC 9110 section 7.8).
    pub async fn answer(
        &self,
        method_kind: MethodKind,
        limits: &Limits,
        limit: Option<Duration>,
    ) -> std::result::Result<Response, Unanswered> {
        let _uses = (self.begin(Direction::Send, Phase::Head)?, self.begin(Direction::Receive, Phase::Head)?);
        let mut lease = self.take(Phase::Head)?;
        if let Some(connection) = lease.connection() {
            connection.wait_timeout.set(limit, None);
        }
        let mut timings = self.timings.take().unwrap_or_else(|| Timings::begun(Instant::now()));
        timings.reused = self.reused.replace(true);
        let (response, upgraded) = read_response_or_upgrade(lease, method_kind, limits, timings).await?;
        self.put_back(upgraded);
        Ok(response)
    }

    /// Closes the connection, unless a response is still read from it: then it is closed after that. A task that waits
    /// in it receives its end, or fails to send.
    pub fn close(&self) {
        self.is_closed.set(true);
        self.slot.close();
        let lease = self.lease.take();
        let is_busy = self.is_busy(Direction::Send) || self.is_busy(Direction::Receive);
        if lease.is_none() && is_busy {
            // The task that has the connection alone finds its end.
            self.descriptor.iter().for_each(Descriptor::shut_down);
        }
        drop(lease);
        for used in [&self.sending, &self.receiving] {
            if let Some(waiting) = used.waiting.take() {
                waiting.wake();
            }
        }
    }
}

#[cold]
fn closed(phase: Phase) -> Error {
    let closed = io::Error::new(io::ErrorKind::NotConnected, "the connection is closed");
    Error::new(Kind::Io(closed), phase)
}

/// The use of one direction, until it is dropped.
struct InUse<'a> {
    raw: &'a RawConnection,
    direction: Direction,
}

impl InUse<'_> {
    /// Runs `work` with a waker for this task. A layer may have to write in order to read, and the other way round: it
    /// gets a waker for the tasks of both directions, since each place for a waker has room for one.
    fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
        work: impl FnOnce(&mut Context<'_>, &mut Connection) -> Poll<T>,
    ) -> Poll<T> {
        let other = self.raw.used(self.direction.other());
        let polled = match other.waiting.take() {
            Some(waiting) if connection.stream.holds_back() => {
                let both = Waker::from(Arc::new(Both(cx.waker().clone(), waiting.clone())));
                other.waiting.set(Some(waiting));
                work(&mut Context::from_waker(&both), connection)
            }
            waiting => {
                other.waiting.set(waiting);
                work(cx, connection)
            }
        };
        let waiting = polled.is_pending().then(|| cx.waker().clone());
        let before = self.raw.used(self.direction).waiting.replace(waiting);
        drop(before);
        polled
    }
}

impl Drop for InUse<'_> {
    /// Forgets the task that has waited: nothing wakes it or keeps it alive.
    fn drop(&mut self) {
        let used = self.raw.used(self.direction);
        used.is_busy.set(false);
        let waiting = used.waiting.take();
        let mut lease = self.raw.lease.take();
        if waiting.is_some()
            && let Some(connection) = lease.as_mut().and_then(Lease::connection)
        {
            connection.stream.forget_waiter(self.direction);
        }
        self.raw.put_back(lease);
        drop(waiting);
    }
}

/// Wakes two tasks.
struct Both(Waker, Waker);

impl Wake for Both {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake_by_ref();
        self.1.wake_by_ref();
    }
}

/// Slot into which a response returns the connection. The connection stays there until its owner takes it, even if the
/// peer closes it.
#[derive(Default)]
struct ReturnSlot {
    /// None while the connection is in use. Otherwise the connection, or None if it was closed.
    returned: Cell<Option<Option<Box<Connection>>>>,
    /// The owner is gone.
    closed: Cell<bool>,
}

impl ReturnSlot {
    /// Returns a lease of the returned connection: without a connection if that was closed, or is not reusable.
    fn take(self: &Rc<Self>) -> Option<Lease> {
        let mut connection = self.returned.take()?;
        let connection = connection.take_if(|connection| connection.is_reusable());
        Some(Lease::new(Some(self.clone()), connection))
    }

    fn close(&self) {
        self.closed.set(true);
        let returned = self.returned.take();
        drop(returned);
    }
}

impl LeaseOwner for ReturnSlot {
    fn give_back(self: Rc<Self>, connection: Option<Box<Connection>>) {
        if !self.closed.get() {
            self.returned.set(Some(connection));
        }
    }

    fn end(&self, connection: Box<Connection>, _: CloseReason) {
        drop(connection);
    }

    fn hold(&self, _: Box<dyn Held>) -> Option<Holding> {
        None
    }
}

impl Drop for RawConnection {
    fn drop(&mut self) {
        self.slot.close();
    }
}
