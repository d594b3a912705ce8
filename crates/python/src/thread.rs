//! State of clients in each thread that uses them: the engine's clients, the groups that bound their idle connections,
//! and messages for the logger. The hub knows none of these.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use engine::{Client, IdleGroup};
use pyo3::prelude::*;

use crate::hub::gil::PendingError;
use crate::hub::registry::all_runtimes;
use crate::hub::{Extension, Runtime};
use crate::types;

/// The state of one thread's hub. Objects of the engine are found by the number of the Python object that they work
/// for.
#[derive(Default)]
pub(crate) struct ThreadState {
    clients: RefCell<HashMap<u64, Rc<Client>>>,
    idle_groups: RefCell<HashMap<u64, Rc<IdleGroup>>>,
    pub(crate) log: LogQueue,
}

impl Extension for ThreadState {
    fn after_callback(&self, py: Python<'_>) -> PyResult<()> {
        // The hub must not run a handler of logging's, which may wait.
        if self.log.is_empty() { Ok(()) } else { self.log.write_later(py) }
    }

    fn give_up(&self) -> Box<dyn Any> {
        Box::new((self.clients.take(), self.idle_groups.take()))
    }
}

impl ThreadState {
    /// Returns the state of that runtime's hub.
    #[expect(clippy::expect_used, reason = "no other module extends a runtime")]
    pub(crate) fn of(runtime: &Runtime) -> &Self {
        let extension: &dyn Any = runtime.extension(|| Box::new(ThreadState::default()));
        extension.downcast_ref().expect("a ThreadState")
    }

    /// Returns the engine's client of that number, created by `create` if this hub has not used it yet.
    pub(crate) fn client(&self, id: u64, create: impl FnOnce() -> Client) -> Rc<Client> {
        if let Some(client) = self.clients.borrow().get(&id) {
            return client.clone();
        }
        let client = Rc::new(create());
        self.clients.borrow_mut().insert(id, client.clone());
        client
    }

    /// Returns the engine's client of that number, if this hub has used it.
    pub(crate) fn known_client(&self, id: u64) -> Option<Rc<Client>> {
        self.clients.borrow().get(&id).cloned()
    }

    /// Returns the group of that number, created when this hub first asks for it.
    pub(crate) fn idle_group(&self, id: u64, limit: usize) -> Rc<IdleGroup> {
        self.idle_groups.borrow_mut().entry(id).or_insert_with(|| IdleGroup::new(limit)).clone()
    }
}

/// Closes the pools that a client has in any thread. Where Python does the TLS, it also sends HTTP/2's GOAWAY.
pub(crate) fn close_everywhere(py: Python<'_>, id: u64) {
    let pending = PendingError::set_aside(py);
    for runtime in all_runtimes(py) {
        let client = ThreadState::of(&runtime).clients.borrow_mut().remove(&id);
        if let Some(client) = client {
            client.close();
        }
    }
    pending.put_back(py);
}

/// Releases a group in all threads. Clients that are members hold it for as long as they live.
pub(crate) fn forget_idle_group(py: Python<'_>, id: u64) {
    for runtime in all_runtimes(py) {
        let group = ThreadState::of(&runtime).idle_groups.borrow_mut().remove(&id);
        drop(group);
    }
}

/// More messages than this are not kept: a program that never lets a greenlet run again would not read them.
const MOST_MESSAGES: usize = 1000;

/// Messages for the logger: level and text. They are queued by code within which no code of the program may run.
#[derive(Default)]
pub(crate) struct LogQueue(RefCell<Vec<(u8, String)>>);

impl LogQueue {
    fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Adds a message. False if there is no room for it.
    pub(crate) fn push(&self, level: u8, text: String) -> bool {
        let mut messages = self.0.borrow_mut();
        let has_room = messages.len() < MOST_MESSAGES;
        if has_room {
            messages.push((level, text));
        }
        has_room
    }

    /// Writes all messages now, as the current greenlet. For greenlets that have finished their work.
    pub(crate) fn write(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_empty() {
            return Ok(());
        }
        let messages = self.0.take();
        types::write_log(py)?.call1((messages,)).map(drop)
    }

    /// Has a new greenlet write all messages.
    fn write_later(&self, py: Python<'_>) -> PyResult<()> {
        let messages = self.0.take();
        types::spawn(py)?.call1((types::write_log(py)?, messages)).map(drop)
    }
}
