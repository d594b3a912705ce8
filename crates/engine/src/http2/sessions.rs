//! The HTTP/2 connections of one client to its origin: which of them a request goes to, who opens another, and who waits.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use wire::Limits;

use super::Options;
use super::session::{Session, Slot};
use crate::ending::Ending;
use crate::idle::IdleOwner;
use crate::pool::{Lease, Pool, wait_in_queue};
use crate::reactor::Keeper;
use crate::timers::Deadline;
use crate::{Connection, Error, Kind, Phase, Reactor, Result, Timeouts};

/// All connections, and the queue for room on them. Their number is bounded by the pool, in which each has a place.
pub(crate) struct Sessions {
    reactor: Rc<Reactor>,
    pool: Rc<Pool>,
    options: Options,
    limits: Limits,
    /// How long one may be without a request.
    idle_timeout: Option<Duration>,
    open: RefCell<Vec<Rc<Session>>>,
    queue: RefCell<VecDeque<Rc<Ticket>>>,
    /// Somebody opens a connection: one is enough, until it is known how many streams it takes.
    opening: Cell<bool>,
    /// The peer has chosen HTTP/1.1 the last time that it was asked.
    speaks_http1: Cell<bool>,
    closed: Cell<bool>,
    expires: Cell<Option<usize>>,
    /// Requests that found an open connection.
    reused: Cell<u64>,
}

/// What a request is to do.
pub(crate) enum Way {
    /// To speak HTTP/1.1, on connections of the pool's.
    Http1,
    /// To open a connection, which others wait for.
    Open(Opening),
    /// To go on that connection.
    Stream(Slot),
}

/// A place in the queue.
struct Ticket {
    granted: Cell<Option<Result<Way>>>,
    waker: Cell<Option<Waker>>,
    /// How long its owner would put up with a dial.
    dial_limit: Option<Duration>,
}

/// The task of opening a connection for all. Given up, it goes to the next who waits.
pub(crate) struct Opening(Rc<Sessions>);

impl Opening {
    /// Whoever waits for it fails as well, where that concerns him: not with an error that cannot be told twice, nor for
    /// want of the opener's own patience. Then the next one tries.
    pub(crate) fn fail(self, error: &Error) {
        let told = |ticket: &Ticket| match error.kind() {
            Kind::Deadline(_) | Kind::PoolClosed => None,
            Kind::Timeout(limit) if ticket.dial_limit.is_none_or(|own| own > *limit) => None,
            kind => kind.copy(),
        };
        let waiting = std::mem::take(&mut *self.0.queue.borrow_mut());
        let mut woken = Vec::new();
        for ticket in waiting {
            match told(&ticket) {
                Some(kind) => {
                    ticket.granted.set(Some(Err(Error::new(kind, error.phase()))));
                    woken.extend(ticket.waker.take());
                }
                None => self.0.queue.borrow_mut().push_back(ticket),
            }
        }
        woken.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.opening.set(false);
        self.0.room_was_made();
    }
}

impl Sessions {
    pub(crate) fn new(
        reactor: &Rc<Reactor>,
        pool: &Rc<Pool>,
        options: Options,
        limits: Limits,
        idle_timeout: Option<Duration>,
    ) -> Rc<Self> {
        Rc::new(Sessions {
            reactor: reactor.clone(),
            pool: pool.clone(),
            options,
            limits,
            idle_timeout,
            open: RefCell::default(),
            queue: RefCell::default(),
            opening: Cell::new(false),
            speaks_http1: Cell::new(false),
            closed: Cell::new(false),
            expires: Cell::new(None),
            reused: Cell::new(0),
        })
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Where a request is to go: waits for room, at most as long as `timeouts` say for the pool, and until `until`.
    pub(crate) async fn way(self: &Rc<Self>, timeouts: &Timeouts, until: Option<Deadline>) -> Result<(Way, bool)> {
        let fail = |kind| Error::new(kind, Phase::Pool);
        if self.closed.get() {
            return Err(fail(Kind::PoolClosed));
        }
        Deadline::check(until).map_err(fail)?;
        let (way, has_waited) = match self.way_now() {
            Some(way) => (way, false),
            None => (Box::pin(self.queue(timeouts, until)).await?, true),
        };
        self.reused.set(self.reused.get() + u64::from(matches!(way, Way::Stream(_))));
        Ok((way, has_waited))
    }

    fn way_now(self: &Rc<Self>) -> Option<Way> {
        if self.speaks_http1.get() {
            return Some(Way::Http1);
        }
        if !self.queue.borrow().is_empty() {
            return None;
        }
        // One that nobody uses may have ended unnoticed.
        let next = self.open.borrow().iter().find(|session| session.has_room()).cloned();
        if let Some(idle) = next.filter(|session| session.active() == 0) {
            idle.look();
        }
        self.grant()
    }

    /// The next thing that anybody may do.
    fn grant(self: &Rc<Self>) -> Option<Way> {
        if self.speaks_http1.get() {
            return Some(Way::Http1);
        }
        let open = self.open.borrow();
        if let Some(session) = open.iter().find(|session| session.has_room()) {
            return Some(Way::Stream(session.slot()));
        }
        let may_open = !self.opening.get() && !open.iter().any(|session| session.is_unsettled());
        if may_open && open.len() < self.pool.limit() {
            self.opening.set(true);
            return Some(Way::Open(Opening(self.clone())));
        }
        None
    }

    async fn queue(self: &Rc<Self>, timeouts: &Timeouts, until: Option<Deadline>) -> Result<Way> {
        let (granted, waker, timeout) = (Cell::default(), Cell::default(), timeouts.pool);
        let ticket = Rc::new(Ticket { granted, waker, dial_limit: timeouts.connection });
        let place = Place { sessions: self, ticket };
        self.queue.borrow_mut().push_back(place.ticket.clone());
        wait_in_queue(&self.reactor, timeout, until, |cx| place.poll(cx)).await
    }

    /// Whoever waits is told what he may do now.
    pub(super) fn room_was_made(self: &Rc<Self>) {
        let mut woken = Vec::new();
        // Tasks of a reactor that was closed are not to be woken.
        while !self.closed.get() && !self.reactor.is_closed() && !self.queue.borrow().is_empty() {
            let Some(way) = self.grant() else { break };
            let Some(ticket) = self.queue.borrow_mut().pop_front() else { break };
            ticket.granted.set(Some(Ok(way)));
            woken.extend(ticket.waker.take());
        }
        woken.into_iter().for_each(Waker::wake);
    }

    /// The peer has been asked, and has chosen HTTP/1.1.
    pub(crate) fn chose_http1(&self) {
        self.speaks_http1.set(true);
    }

    /// Takes a new connection on which HTTP/2 was agreed, with room for the request of its opener.
    pub(crate) async fn adopt(
        self: &Rc<Self>,
        connection: Box<Connection>,
        place: Lease,
        patience: Option<Duration>,
    ) -> std::result::Result<Slot, Kind> {
        self.speaks_http1.set(false);
        let session = Session::begin(self, &self.reactor, connection, place, self.options, patience).await?;
        let slot = session.slot();
        self.open.borrow_mut().push(session);
        self.watch_expiry();
        Ok(slot)
    }

    fn watch_expiry(self: &Rc<Self>) {
        if let Some(limit) = self.idle_timeout
            && self.expires.get().is_none()
            && let Some(at) = self.reactor.now().checked_add(limit)
        {
            self.expires.set(Some(self.reactor.watch_expiry(Rc::downgrade(self) as Weak<dyn Keeper>, at)));
        }
    }

    /// Enters a connection as idle if its last request has ended and no waiter in the queue has taken its room.
    pub(super) fn may_be_idle(&self, session: &Rc<Session>) {
        if let Some(group) = self.pool.idle_group()
            && session.active() == 0
            && session.takes_requests()
        {
            let owner = Rc::downgrade(session) as Weak<dyn IdleOwner>;
            session.set_idle_place(Some(group.enter(owner)));
            group.close_excess();
        }
    }

    /// It takes no more requests.
    pub(super) fn remove(self: &Rc<Self>, session: &Session) {
        let mut open = self.open.borrow_mut();
        let position = open.iter().position(|known| std::ptr::eq(Rc::as_ptr(known), session));
        let removed = position.map(|position| open.remove(position));
        drop(open);
        drop(removed);
        self.room_was_made();
    }

    pub(super) fn count_closed(&self, peer: &str, ending: Ending) {
        self.pool.count_closed(peer, ending);
    }

    /// Connections without a request, requests under way, requests that wait, requests that found a connection.
    pub(crate) fn counts(&self) -> (usize, usize, usize, u64) {
        let open = self.open.borrow();
        let idle = open.iter().filter(|session| session.active() == 0).count();
        let streams = open.iter().map(|session| session.active()).sum();
        (idle, streams, self.queue.borrow().len(), self.reused.get())
    }

    /// Closes what nobody uses now, the rest when its requests have come to their ends, and turns away the queue.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        let open = std::mem::take(&mut *self.open.borrow_mut());
        let queue = std::mem::take(&mut *self.queue.borrow_mut());
        open.iter().for_each(|session| session.retire(Ending::ClientClosed));
        queue.iter().filter_map(|ticket| ticket.waker.take()).for_each(Waker::wake);
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        if let Some(key) = self.expires.get() {
            self.reactor.unwatch_expiry(key);
        }
        self.close();
    }
}

impl Keeper for Sessions {
    /// Connections of HTTP/2 are never idle to the reactor: their tasks read what comes.
    fn look_over(&self) {}

    fn expire(&self, now: Instant) -> Option<Instant> {
        let limit = self.idle_timeout?;
        let mut expired = Vec::new();
        let mut next = None;
        for session in self.open.borrow().iter() {
            // One that is in use is looked at again when it could have been idle for so long.
            match session.idle_since().unwrap_or(now).checked_add(limit) {
                Some(at) if at <= now => expired.push(session.clone()),
                at => next = [next, at].into_iter().flatten().min(),
            }
        }
        expired.iter().for_each(|session| session.retire(Ending::IdleTimeout));
        if next.is_none() {
            self.expires.set(None);
        }
        next
    }
}

/// A task's place in the queue; leaving it early passes on what was already granted.
struct Place<'a> {
    sessions: &'a Rc<Sessions>,
    ticket: Rc<Ticket>,
}

impl Place<'_> {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<Way>> {
        if let Some(granted) = self.ticket.granted.take() {
            return Poll::Ready(granted);
        }
        if self.sessions.closed.get() {
            return Poll::Ready(Err(Error::new(Kind::PoolClosed, Phase::Pool)));
        }
        self.ticket.waker.set(Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(granted) = self.ticket.granted.take() {
            return drop(granted);
        }
        let mut queue = self.sessions.queue.borrow_mut();
        if let Some(position) = queue.iter().position(|ticket| Rc::ptr_eq(ticket, &self.ticket)) {
            queue.remove(position);
        }
    }
}
