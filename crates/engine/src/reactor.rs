//! One polling instance for all sockets of a thread. It owns no loop: its owner watches [`Reactor::descriptor`] and
//! calls [`Reactor::turn`].

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::{Rc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use mio::net::TcpStream as Handle;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::sys;
use crate::tasks::Tasks;
use crate::timers::Timers;

/// Events taken from the kernel in one turn.
const EVENTS: usize = 1024;

/// What the kernel is to tell of each socket, from its registration on.
const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// Bytes that a socket is asked for at once where the reader has no better place for them.
const SCRATCH: usize = 64 * 1024;

/// A socket and what the kernel last said of it.
///
/// Registered once, edge-triggered, for reading and writing: an event without a waiter is kept in the flags. The
/// socket lives here and not in its user's hands, so that all of them can be closed at once, whoever holds on to them.
pub(crate) struct Source {
    pub(crate) socket: RefCell<Option<Handle>>,
    token: Token,
    /// [`forks`] when it was made.
    process: u32,
    pub(crate) readable: Cell<bool>,
    pub(crate) writable: Cell<bool>,
    /// The kernel had nothing when it was last asked. A read that leaves room does not say so: more may follow.
    pub(crate) drained: Cell<bool>,
    /// Bytes read and written since somebody else had a turn.
    pub(crate) moved: Cell<usize>,
    /// The peer has closed, or the connection has failed: from here on a short read is no sign that nothing is left,
    /// since data and FIN that arrive together are one event.
    pub(crate) closing: Cell<bool>,
    pub(crate) reader: Cell<Option<Waker>>,
    pub(crate) writer: Cell<Option<Waker>>,
    /// Who keeps the connection while it is idle.
    pub(crate) keeper: Cell<Option<Weak<dyn Keeper>>>,
    /// Something has happened to it while it was idle.
    pub(crate) stirred: Cell<bool>,
}

/// Keeps idle connections.
pub(crate) trait Keeper {
    /// Closes those that have [`stirred`](Source::stirred) and are of no use any more.
    fn look_over(&self);

    /// Closes those that have been idle for too long at `now`, and says when that will be so of the next one.
    fn expire(&self, now: Instant) -> Option<Instant>;
}

impl Source {
    /// Marks it as stirred if it is idle: then its keeper has to look.
    fn keeper_of_stirred(&self) -> Option<Rc<dyn Keeper>> {
        let keeper = self.keeper.take()?;
        let found = keeper.upgrade();
        self.keeper.set(Some(keeper));
        self.stirred.set(true);
        found
    }

    /// Has the next read ask the kernel, whatever it has told so far, and whoever's turn it is: that nothing comes of it
    /// is to mean that there is nothing.
    pub(crate) fn look_again(&self) {
        self.readable.set(true);
        self.moved.set(0);
    }

    pub(crate) fn add_moved(&self, bytes: usize) {
        self.moved.set(self.moved.get() + bytes);
    }

    /// Whether this process is the child of a fork, and the socket its parent's: it may be closed, and that is all.
    ///
    /// [`Reactor::after_fork_in_child`] closes them all, but it is not what runs first in a child. CPython begins by
    /// taking down what other threads have left, and with it the connections that are held by a `threading.local`.
    pub(crate) fn is_inherited(&self) -> bool {
        self.process != forks()
    }
}

/// Counts the forks between this process and the first that made a reactor: the same number is the same process.
pub fn forks() -> u32 {
    sys::forks()
}

/// The sockets, the deadlines and the scratch memory of one thread's clients.
pub struct Reactor {
    /// Borrowed for no longer than one system call. Its registry is asked for each time: a clone of that is a second
    /// descriptor of the same instance, which in the child of a fork would go on to work on the parent's. None once the
    /// reactor was closed: tasks that are never ended may hold it for ever, but not the descriptor.
    poll: RefCell<Option<Poll>>,
    descriptor: RawFd,
    events: RefCell<Events>,
    sources: RefCell<Slab<Rc<Source>>>,
    generation: Cell<u32>,
    woken: Cell<Vec<Waker>>,
    scratch: Cell<Option<Box<[u8]>>>,
    pub(crate) timers: Timers,
    pub(crate) tasks: Tasks,
    /// When the reactor last turned: the time to those who need no better one.
    now: Cell<Instant>,
    /// Who has idle connections that must not be so for ever, and when the first of these has been for too long.
    keepers: RefCell<Slab<Weak<dyn Keeper>>>,
    next_expiry: Cell<Option<Instant>>,
    passive: Cell<usize>,
    /// Peers whose word is waited for by those who wait for other tasks otherwise.
    awaited: Cell<usize>,
    /// [`forks`] when it was made, or last told of one.
    process: Cell<u32>,
    closed: Cell<bool>,
}

impl Reactor {
    /// Fails only when the system has no descriptor or no memory left.
    pub fn new() -> io::Result<Rc<Self>> {
        sys::count_forks()?;
        let poll = Poll::new()?;
        Ok(Rc::new(Reactor {
            descriptor: poll.as_raw_fd(),
            poll: RefCell::new(Some(poll)),
            events: RefCell::new(Events::with_capacity(EVENTS)),
            sources: RefCell::default(),
            generation: Cell::new(0),
            woken: Cell::default(),
            scratch: Cell::default(),
            timers: Timers::default(),
            tasks: Tasks::default(),
            now: Cell::new(Instant::now()),
            keepers: RefCell::default(),
            next_expiry: Cell::new(None),
            passive: Cell::new(0),
            awaited: Cell::new(0),
            process: Cell::new(forks()),
            closed: Cell::new(false),
        }))
    }

    /// Readable whenever [`turn`](Reactor::turn) has something to do.
    pub fn descriptor(&self) -> RawFd {
        self.descriptor
    }

    /// Takes the kernel's events once, waiting for them up to `timeout` (`None`: for ever), then wakes the tasks that
    /// waited for them and those whose deadline has passed.
    pub fn turn(&self, timeout: Option<Duration>) -> io::Result<()> {
        let mut woken = self.woken.take();
        let mut stirred: Vec<Rc<dyn Keeper>> = Vec::new();
        {
            let mut events = self.events.borrow_mut();
            match self.poll.borrow_mut().as_mut().map(|poll| poll.poll(&mut events, timeout)) {
                Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Some(other) => other?,
                None => events.clear(),
            }
            let sources = self.sources.borrow();
            for event in events.iter() {
                // A token of a source that has gone may still be in this batch.
                let source = sources.get(slot(event.token())).filter(|source| source.token == event.token());
                let Some(source) = source else { continue };
                if let Some(keeper) = source.keeper_of_stirred() {
                    stirred.push(keeper);
                }
                let closing = event.is_read_closed() || event.is_write_closed() || event.is_error();
                if closing {
                    source.closing.set(true);
                }
                if event.is_readable() || closing {
                    source.readable.set(true);
                    woken.extend(source.reader.take());
                }
                if event.is_writable() || closing {
                    source.writable.set(true);
                    woken.extend(source.writer.take());
                }
            }
        }
        // Waking may run code that comes back to this reactor: nothing is borrowed here.
        woken.drain(..).for_each(Waker::wake);
        self.woken.set(woken);
        stirred.sort_by_key(|keeper| Rc::as_ptr(keeper).cast::<()>());
        stirred.dedup_by_key(|keeper| Rc::as_ptr(keeper).cast::<()>());
        stirred.iter().for_each(|keeper| keeper.look_over());
        let now = Instant::now();
        self.now.set(now);
        self.expire(now);
        Ok(())
    }

    /// Polls `task` in this reactor's next turn, and whenever it is woken, until it is done.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.tasks.spawn(Box::pin(task));
        self.tasks.deliver();
    }

    /// Polls the background tasks that have something to do. [`turn`](Reactor::turn) and [`expire`](Reactor::expire) do
    /// so as well; this is for what the tasks that they woke have left to be sent.
    pub fn run_tasks(&self) {
        self.tasks.run();
    }

    /// Whether a background task waits to be polled.
    pub fn has_work(&self) -> bool {
        self.tasks.is_woken()
    }

    /// Has `waker` woken whenever a background task is to be polled, and no turn of the reactor is about to do so.
    pub fn set_nudge(&self, waker: Waker) {
        self.tasks.set_nudge(waker);
    }

    /// When the earliest deadline is due, or an idle connection has been so for too long; it may turn out that none is,
    /// and none has.
    pub fn next_deadline(&self) -> Option<Instant> {
        match (self.timers.next(), self.next_expiry.get()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Wakes the tasks whose deadline has passed, and has idle connections closed whose time is over.
    pub fn expire(&self, now: Instant) {
        self.timers.sweep(now);
        self.expire_idle(now);
        self.tasks.run();
    }

    fn expire_idle(&self, now: Instant) {
        if self.next_expiry.get().is_none_or(|next| next > now) {
            return;
        }
        self.next_expiry.set(None);
        let asked: Vec<_> = self.keepers.borrow().iter().map(|(key, keeper)| (key, keeper.upgrade())).collect();
        for (key, keeper) in asked {
            // What is closed may lead back here: nothing is borrowed.
            match keeper.as_ref().and_then(|keeper| keeper.expire(now)) {
                Some(next) => self.expire_at(next),
                None => self.unwatch_expiry(key),
            }
        }
    }

    /// Has `keeper` asked to expire its connections from `at` on. It is asked again at the time that it then names. One
    /// that goes has to be [unwatched](Self::unwatch_expiry) by the number that this returns: its memory is not free before.
    pub(crate) fn watch_expiry(&self, keeper: Weak<dyn Keeper>, at: Instant) -> usize {
        self.expire_at(at);
        self.keepers.borrow_mut().insert(keeper)
    }

    /// Has the keeper of that number not asked any more.
    pub(crate) fn unwatch_expiry(&self, key: usize) {
        let removed = self.keepers.borrow_mut().try_remove(key);
        drop(removed);
    }

    fn expire_at(&self, at: Instant) {
        if self.next_expiry.get().is_none_or(|next| at < next) {
            self.next_expiry.set(Some(at));
        }
    }

    /// The time when the reactor last turned.
    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    /// How many tasks wait for another task and not for the kernel: for a place in a pool, or for room on a connection
    /// whose peer has nothing to say to that. A loop that nothing but these keep alive would never end.
    pub fn passive_waits(&self) -> usize {
        if self.awaited.get() > 0 { 0 } else { self.passive.get() }
    }

    /// Closes every socket, whoever holds on to it. All further use of them, and of this reactor, fails.
    pub fn close(&self) {
        self.close_quietly();
        self.tasks.unmute();
        let sources: Vec<Rc<Source>> = self.sources.borrow().iter().map(|(_, source)| source.clone()).collect();
        for source in sources {
            let wakers = (source.reader.take(), source.writer.take());
            wakers.0.into_iter().chain(wakers.1).for_each(Waker::wake);
        }
        self.close_poll();
    }

    /// Closes the polling instance: for a reactor that was closed, and that nobody watches any more.
    pub fn close_poll(&self) {
        let poll = self.poll.borrow_mut().take();
        drop(poll);
    }

    /// Closes every socket and wakes nobody: for a thread that ends, whose tasks will never run again.
    pub fn close_quietly(&self) {
        self.closed.set(true);
        self.drop_sockets();
        self.tasks.clear();
    }

    /// From now on this reactor sees no events. For a process that ends while another thread still turns it.
    pub fn mute(&self) {
        if self.poll.borrow().is_some() {
            // Should the kernel refuse, nothing is lost but the protection.
            let _ = sys::replace_poll(self.descriptor);
        }
    }

    /// Whether this process is the child of a fork of which the reactor was not told:
    /// [`after_fork_in_child`](Reactor::after_fork_in_child) is to be called before anything else.
    pub fn is_inherited(&self) -> bool {
        self.process.get() != forks()
    }

    /// For the child of a fork: closes its copies of all sockets without a word to their peers, and parts from the
    /// polling instance that it shares with its parent. The reactor can be used for new sockets.
    pub fn after_fork_in_child(&self) {
        // Should the kernel refuse, the reactor is of no use; turning it would steal the parent's events.
        if self.poll.borrow().is_none() || sys::replace_poll(self.descriptor).is_err() {
            self.closed.set(true);
        }
        // The parent's tasks have copies here, which nobody will wake: they do not count, now or when they are dropped.
        self.timers.forget();
        self.passive.set(0);
        self.awaited.set(0);
        self.drop_sockets();
        self.tasks.clear();
        self.tasks.forget_noted();
        self.process.set(forks());
    }

    fn drop_sockets(&self) {
        for (_, source) in self.sources.borrow().iter() {
            let socket = source.socket.borrow_mut().take();
            self.close_socket(source, socket);
            // Whoever is woken has to come as far as the socket to be told, instead of waiting for an event.
            source.closing.set(true);
            source.readable.set(true);
            source.writable.set(true);
        }
    }

    /// Deregistered before it is closed: were the descriptor shared with another process, its events would come on. An
    /// inherited one is not: that would end its parent's registration.
    fn close_socket(&self, source: &Source, socket: Option<Handle>) {
        if let Some(mut socket) = socket
            && !source.is_inherited()
        {
            self.unregister(&mut socket);
        }
    }

    /// Whether nothing of it can be used any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Fails once the reactor was closed; to be asked before a peer hears anything.
    pub(crate) fn check_open(&self) -> io::Result<()> {
        if self.closed.get() || self.is_inherited() {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the event loop of this client is gone"));
        }
        Ok(())
    }

    pub(crate) fn register(&self, mut socket: Handle) -> io::Result<Rc<Source>> {
        self.check_open()?;
        let mut sources = self.sources.borrow_mut();
        let entry = sources.vacant_entry();
        let generation = self.generation.get().wrapping_add(1);
        self.generation.set(generation);
        let token = Token(entry.key() | (generation as usize) << 32);
        if let Some(poll) = &*self.poll.borrow() {
            poll.registry().register(&mut socket, token, INTEREST)?;
        }
        let source = Rc::new(Source {
            socket: RefCell::new(Some(socket)),
            token,
            process: forks(),
            readable: Cell::new(false),
            writable: Cell::new(false),
            drained: Cell::new(false),
            moved: Cell::new(0),
            closing: Cell::new(false),
            reader: Cell::new(None),
            writer: Cell::new(None),
            keeper: Cell::new(None),
            stirred: Cell::new(false),
        });
        entry.insert(source.clone());
        Ok(source)
    }

    /// Has the kernel tell of the socket again, at the next turn, if there is anything to be read or room to write.
    pub(crate) fn rearm(&self, source: &Source) -> io::Result<()> {
        self.check_open()?;
        match (&*self.poll.borrow(), &mut *source.socket.borrow_mut()) {
            (Some(poll), Some(socket)) => poll.registry().reregister(socket, source.token, INTEREST),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    pub(crate) fn deregister(&self, source: &Source) {
        let socket = source.socket.borrow_mut().take();
        self.close_socket(source, socket);
        let removed = self.sources.borrow_mut().try_remove(slot(source.token));
        let wakers = (source.reader.take(), source.writer.take());
        drop((removed, wakers));
    }

    fn unregister(&self, socket: &mut Handle) {
        if let Some(poll) = &*self.poll.borrow() {
            let _ = poll.registry().deregister(socket);
        }
    }

    /// Memory to read into, given back by [`return_scratch`](Reactor::return_scratch): one piece for all sockets, since
    /// what was read is copied to its place before anybody else runs.
    pub(crate) fn take_scratch(&self) -> Box<[u8]> {
        self.scratch.take().unwrap_or_else(|| vec![0; SCRATCH].into_boxed_slice())
    }

    pub(crate) fn return_scratch(&self, scratch: Box<[u8]>) {
        self.scratch.set(Some(scratch));
    }

    /// Counts one more passive wait until dropped.
    pub(crate) fn passive_wait(self: &Rc<Self>) -> Counted {
        Counted::new(self, |reactor| &reactor.passive)
    }

    /// Counts one more peer whose word passive waits wait for until dropped: then they are none.
    pub(crate) fn await_peer(self: &Rc<Self>) -> Counted {
        Counted::new(self, |reactor| &reactor.awaited)
    }
}

/// One more in one of the reactor's counts, until dropped.
pub(crate) struct Counted {
    reactor: Rc<Reactor>,
    count: fn(&Reactor) -> &Cell<usize>,
    process: u32,
}

impl Counted {
    fn new(reactor: &Rc<Reactor>, count: fn(&Reactor) -> &Cell<usize>) -> Self {
        count(reactor).set(count(reactor).get() + 1);
        Counted { reactor: reactor.clone(), count, process: forks() }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // The child of a fork counts anew.
        if self.process == forks() {
            let count = (self.count)(&self.reactor);
            count.set(count.get() - 1);
        }
    }
}

fn slot(token: Token) -> usize {
    token.0 & u32::MAX as usize
}
