//! One polling instance for all sockets of a thread. It owns no event loop: its owner watches [`Reactor::descriptor`]
//! and calls [`Reactor::turn`].

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::{Rc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use mio::net::TcpStream as Handle;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::rt::sys;
use crate::rt::tasks::Tasks;
use crate::rt::timers::Timers;

/// Events taken from the kernel in one turn.
const EVENTS: usize = 1024;

/// The events of each socket that the kernel reports, from its registration on.
const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// Bytes that a socket is asked for at once if the reader has no better buffer for them.
const SCRATCH: usize = 64 * 1024;

/// A socket and its last known state.
///
/// Registered once, edge-triggered, for reading and writing: an event without a waiter is kept in the flags. The socket
/// is owned here and not by its user, so that all of them can be closed at once, even those still in use.
pub(crate) struct Registration {
    pub(crate) socket: RefCell<Option<Handle>>,
    token: Token,
    /// [`forks`] when it was created.
    process: u32,
    pub(crate) readable: Cell<bool>,
    pub(crate) writable: Cell<bool>,
    /// The kernel had nothing at the last read. A read that leaves room does not show this: more may follow.
    pub(crate) drained: Cell<bool>,
    /// Bytes read and written since other tasks had a turn.
    pub(crate) moved: Cell<usize>,
    /// The peer has closed, or the connection has failed: from here on a short read does not show that nothing is left,
    /// since data and FIN that arrive together are one event.
    pub(crate) closing: Cell<bool>,
    pub(crate) reader: Cell<Option<Waker>>,
    pub(crate) writer: Cell<Option<Waker>>,
    /// The owner of the connection while it is idle.
    pub(crate) idle_owner: Cell<Option<Weak<dyn IdleOwner>>>,
    /// True if an event was reported while it was idle.
    pub(crate) has_event: Cell<bool>,
}

/// An owner of idle connections.
pub(crate) trait IdleOwner {
    /// Closes those that have [`has_event`](Registration::has_event) and cannot be used again.
    fn check_idle(&self);

    /// Closes those that have been idle for too long at `now`, and returns when the next one will have been.
    fn expire(&self, now: Instant) -> Option<Instant>;
}

impl Registration {
    /// Marks the connection if it is idle, and returns the owner that has to check it.
    fn owner_of_event(&self) -> Option<Rc<dyn IdleOwner>> {
        let idle_owner = self.idle_owner.take()?;
        let found = idle_owner.upgrade();
        self.idle_owner.set(Some(idle_owner));
        self.has_event.set(true);
        found
    }

    /// Makes the next read ask the kernel, regardless of earlier events and of the task's turn: if it finds nothing,
    /// there is nothing.
    pub(crate) fn mark_readable(&self) {
        self.readable.set(true);
        self.moved.set(0);
    }

    pub(crate) fn add_moved(&self, bytes: usize) {
        self.moved.set(self.moved.get() + bytes);
    }

    /// Returns whether this process is the child of a fork, and the socket its parent's: all it may do is close it.
    ///
    /// [`Reactor::after_fork_in_child`] closes them all, but it is not the first code that runs in a child. CPython
    /// begins by destroying the state of other threads, and with it the connections that a `threading.local` holds.
    pub(crate) fn is_inherited(&self) -> bool {
        self.process != forks()
    }
}

/// Counts the forks between this process and the first that created a reactor: the same number is the same process.
pub fn forks() -> u32 {
    sys::forks()
}

/// The sockets, the deadlines and the scratch memory of one thread's clients.
pub struct Reactor {
    /// Borrowed for no longer than one system call. Its registry is asked for each time: a clone of that is a second
    /// descriptor of the same instance, which in the child of a fork would still belong to the parent's. None once the
    /// reactor was closed: tasks that never end may hold the reactor for ever, but not the descriptor.
    poll: RefCell<Option<Poll>>,
    descriptor: RawFd,
    events: RefCell<Events>,
    sources: RefCell<Slab<Rc<Registration>>>,
    generation: Cell<u32>,
    woken: Cell<Vec<Waker>>,
    scratch: Cell<Option<Box<[u8]>>>,
    pub(crate) timers: Timers,
    pub(crate) tasks: Tasks,
    /// The time of the last turn, for uses that need no exact one.
    now: Cell<Instant>,
    /// The owners of idle connections with a time limit, and when the first of these expires.
    idle_owners: RefCell<Slab<Weak<dyn IdleOwner>>>,
    next_expiry: Cell<Option<Instant>>,
    passive: Cell<usize>,
    /// Peers that will end passive waits.
    awaited: Cell<usize>,
    /// [`forks`] when it was created, or last notified of a fork.
    process: Cell<u32>,
    closed: Cell<bool>,
    /// Returns the key of the current task.
    current_task: Cell<fn() -> usize>,
}

impl Reactor {
    /// Creates a reactor. Fails only if the system has no descriptor or no memory left.
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
            idle_owners: RefCell::default(),
            next_expiry: Cell::new(None),
            passive: Cell::new(0),
            awaited: Cell::new(0),
            process: Cell::new(forks()),
            closed: Cell::new(false),
            current_task: Cell::new(|| 0),
        }))
    }

    /// Returns the descriptor that is readable when [`turn`](Reactor::turn) has something to do.
    pub fn descriptor(&self) -> RawFd {
        self.descriptor
    }

    /// Takes the kernel's events once, waiting for them up to `timeout` (`None`: without a limit), then wakes the tasks
    /// that waited for them and those whose deadline has passed.
    pub fn turn(&self, timeout: Option<Duration>) -> io::Result<()> {
        let mut woken = self.woken.take();
        let mut has_event: Vec<Rc<dyn IdleOwner>> = Vec::new();
        {
            let mut events = self.events.borrow_mut();
            match self.poll.borrow_mut().as_mut().map(|poll| poll.poll(&mut events, timeout)) {
                Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Some(other) => other?,
                None => events.clear(),
            }
            let sources = self.sources.borrow();
            for event in events.iter() {
                // A token of a registration that has ended may still be in this batch.
                let source = sources.get(slot(event.token())).filter(|source| source.token == event.token());
                let Some(source) = source else { continue };
                if let Some(idle_owner) = source.owner_of_event() {
                    has_event.push(idle_owner);
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
        // Waking may run code that calls this reactor again: nothing is borrowed here.
        woken.drain(..).for_each(Waker::wake);
        self.woken.set(woken);
        has_event.sort_by_key(|idle_owner| Rc::as_ptr(idle_owner).cast::<()>());
        has_event.dedup_by_key(|idle_owner| Rc::as_ptr(idle_owner).cast::<()>());
        has_event.iter().for_each(|idle_owner| idle_owner.check_idle());
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
    /// so as well; this sends what the tasks that they woke have left.
    pub fn run_tasks(&self) {
        self.tasks.run();
    }

    /// Returns whether a background task waits to be polled.
    pub fn has_work(&self) -> bool {
        self.tasks.is_woken()
    }

    /// Sets a waker that is woken when a background task has to be polled, and no turn of the reactor is about to do
    /// so.
    pub fn set_nudge(&self, waker: Waker) {
        self.tasks.set_nudge(waker);
    }

    /// Returns when the earliest deadline is due, or an idle connection expires. It may be too early, never too late.
    pub fn next_deadline(&self) -> Option<Instant> {
        match (self.timers.next(), self.next_expiry.get()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Wakes the tasks whose deadline has passed, and closes idle connections that have expired.
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
        let asked: Vec<_> =
            self.idle_owners.borrow().iter().map(|(key, idle_owner)| (key, idle_owner.upgrade())).collect();
        for (key, idle_owner) in asked {
            // Closing may call this reactor again: nothing is borrowed.
            match idle_owner.as_ref().and_then(|idle_owner| idle_owner.expire(now)) {
                Some(next) => self.expire_at(next),
                None => self.unwatch_expiry(key),
            }
        }
    }

    /// Asks `idle_owner` to expire its connections from `at` on, and again at the time that it then returns. Before it
    /// is dropped it has to be [removed](Self::unwatch_expiry) by the key that this returns: its memory is not free
    /// before.
    pub(crate) fn watch_expiry(&self, idle_owner: Weak<dyn IdleOwner>, at: Instant) -> usize {
        self.expire_at(at);
        self.idle_owners.borrow_mut().insert(idle_owner)
    }

    /// Stops asking the owner with that key.
    pub(crate) fn unwatch_expiry(&self, key: usize) {
        let removed = self.idle_owners.borrow_mut().try_remove(key);
        drop(removed);
    }

    fn expire_at(&self, at: Instant) {
        if self.next_expiry.get().is_none_or(|next| at < next) {
            self.next_expiry.set(Some(at));
        }
    }

    /// Returns the time of the last turn.
    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    /// Sets the function that returns a key for the current task: one that no other living task has.
    pub fn set_current_task(&self, function: fn() -> usize) {
        self.current_task.set(function);
    }

    pub(crate) fn current_task(&self) -> usize {
        (self.current_task.get())()
    }

    /// Returns how many tasks wait for another task and not for the kernel: for a pool slot, or for room on a
    /// connection whose peer does not decide that. An event loop that only these keep alive would never end.
    pub fn passive_waits(&self) -> usize {
        if self.awaited.get() > 0 { 0 } else { self.passive.get() }
    }

    /// Closes every socket, even those still in use. All further use of them, and of this reactor, fails.
    pub fn close(&self) {
        self.close_quietly();
        self.tasks.unmute();
        let sources: Vec<Rc<Registration>> = self.sources.borrow().iter().map(|(_, source)| source.clone()).collect();
        for source in sources {
            let wakers = (source.reader.take(), source.writer.take());
            wakers.0.into_iter().chain(wakers.1).for_each(Waker::wake);
        }
        self.close_poll();
    }

    /// Closes the polling instance, of a reactor that was closed and is no longer watched.
    pub fn close_poll(&self) {
        let poll = self.poll.borrow_mut().take();
        drop(poll);
    }

    /// Closes every socket without waking a task: for a thread that ends, whose tasks will never run again.
    pub fn close_quietly(&self) {
        self.closed.set(true);
        self.drop_sockets();
        self.tasks.clear();
    }

    /// Stops all events, for a process that ends while another thread still turns the reactor.
    pub fn mute(&self) {
        if self.poll.borrow().is_some() {
            // If the kernel refuses, only the protection is lost.
            let _ = sys::replace_poll(self.descriptor);
        }
    }

    /// Returns whether this process is the child of a fork of which the reactor was not notified:
    /// [`after_fork_in_child`](Reactor::after_fork_in_child) must be called first.
    pub fn is_inherited(&self) -> bool {
        self.process.get() != forks()
    }

    /// Prepares the reactor in the child of a fork: closes its copies of all sockets without sending anything to their
    /// peers, and replaces the polling instance that it shares with its parent. The reactor can be used for new
    /// sockets.
    pub fn after_fork_in_child(&self) {
        // If the kernel refuses, the reactor cannot be used: turning it would steal the parent's events.
        if self.poll.borrow().is_none() || sys::replace_poll(self.descriptor).is_err() {
            self.closed.set(true);
        }
        // The parent's tasks have copies here, which will never be woken: they do not count, now or when they are
        // dropped.
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
            // A woken task has to reach the socket to get its error, instead of waiting for an event.
            source.closing.set(true);
            source.readable.set(true);
            source.writable.set(true);
        }
    }

    /// Closes a socket, which is deregistered before: if the descriptor were shared with another process, its events
    /// would continue. An inherited one is not deregistered: that would end its parent's registration.
    fn close_socket(&self, source: &Registration, socket: Option<Handle>) {
        if let Some(mut socket) = socket
            && !source.is_inherited()
        {
            self.unregister(&mut socket);
        }
    }

    /// Returns whether the reactor was closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Fails once the reactor was closed. To be called before bytes are sent to a peer.
    pub(crate) fn check_open(&self) -> io::Result<()> {
        if self.closed.get() || self.is_inherited() {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the event loop of this client is gone"));
        }
        Ok(())
    }

    pub(crate) fn register(&self, mut socket: Handle) -> io::Result<Rc<Registration>> {
        self.check_open()?;
        let mut sources = self.sources.borrow_mut();
        let entry = sources.vacant_entry();
        let generation = self.generation.get().wrapping_add(1);
        self.generation.set(generation);
        let token = Token(entry.key() | (generation as usize) << 32);
        if let Some(poll) = &*self.poll.borrow() {
            poll.registry().register(&mut socket, token, INTEREST)?;
        }
        let source = Rc::new(Registration {
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
            idle_owner: Cell::new(None),
            has_event: Cell::new(false),
        });
        entry.insert(source.clone());
        Ok(source)
    }

    /// Makes the kernel report the socket again, at the next turn, if there is anything to read or room to write.
    pub(crate) fn rearm(&self, source: &Registration) -> io::Result<()> {
        self.check_open()?;
        match (&*self.poll.borrow(), &mut *source.socket.borrow_mut()) {
            (Some(poll), Some(socket)) => poll.registry().reregister(socket, source.token, INTEREST),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    pub(crate) fn deregister(&self, source: &Registration) {
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

    /// Takes memory to read into, which [`return_scratch`](Reactor::return_scratch) gives back: one piece for all
    /// sockets, since what was read is copied to its place before another task runs.
    pub(crate) fn take_scratch(&self) -> Box<[u8]> {
        self.scratch.take().unwrap_or_else(|| vec![0; SCRATCH].into_boxed_slice())
    }

    pub(crate) fn return_scratch(&self, scratch: Box<[u8]>) {
        self.scratch.set(Some(scratch));
    }

    /// Counts one more passive wait, until the returned value is dropped.
    pub(crate) fn passive_wait(self: &Rc<Self>) -> Counted {
        Counted::new(self, |reactor| &reactor.passive)
    }

    /// Counts one more peer that will end passive waits, until the returned value is dropped: they do not count
    /// meanwhile.
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
        // The child of a fork starts to count again.
        if self.process == forks() {
            let count = (self.count)(&self.reactor);
            count.set(count.get() - 1);
        }
    }
}

fn slot(token: Token) -> usize {
    token.0 & u32::MAX as usize
}
