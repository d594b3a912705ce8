//! The event core: sockets, timers and tasks of one thread, on a polling instance that any event loop can watch.

pub mod cancel;
pub mod executor;
pub mod reactor;
pub mod socket;
pub mod stream;
pub(crate) mod sys;
pub(crate) mod tasks;
pub mod timeout;
pub(crate) mod timers;
