//! Reports of connections for the package's logger.
//!
//! The engine reports in the middle of its work, where no code of the program may run: a logging handler may wait, and
//! a greenlet that is being unwound must not. So messages are queued, and written by a greenlet whose request ends,
//! otherwise by a new one.

use std::cell::Cell;
use std::rc::{Rc, Weak};
use std::time::Duration;

use engine::pool::exhaustion::Exhaustion;
use engine::{CloseReason, ConnectionObserver, Error};
use pyo3::intern;
use pyo3::prelude::*;

use crate::hub::Runtime;
use crate::thread::ThreadState;
use crate::types;

/// Numbers of logging's levels.
const DEBUG: u8 = 10;
const WARNING: u8 = 30;

/// The observer of one client's connections on one hub.
pub(crate) struct ClientJournal {
    runtime: Weak<Runtime>,
    /// The peer of the client.
    peer: Rc<str>,
    /// True if the logger accepts messages of level DEBUG, as checked for each new connection.
    wanted: Cell<bool>,
}

impl ClientJournal {
    pub(crate) fn new(runtime: &Rc<Runtime>, peer: Rc<str>) -> Rc<Self> {
        Rc::new(ClientJournal { runtime: Rc::downgrade(runtime), peer, wanted: Cell::new(false) })
    }

    fn note(&self, level: u8, text: String) {
        let Some(runtime) = self.runtime.upgrade() else { return };
        if ThreadState::of(&runtime).log.push(level, text) {
            Python::attach(|py| runtime.schedule(py));
        }
    }
}

fn is_wanted(py: Python<'_>) -> PyResult<bool> {
    // A program that has not imported logging reads no log: it is not imported here either, which takes 2 ms.
    let modules = py.import(intern!(py, "sys"))?.getattr(intern!(py, "modules"))?;
    if !modules.contains(intern!(py, "logging"))? {
        return Ok(false);
    }
    types::logger(py)?.call_method1(intern!(py, "isEnabledFor"), (DEBUG,))?.is_truthy()
}

impl ConnectionObserver for ClientJournal {
    fn opened(&self, peer: &str, took: Duration) {
        // The greenlet that has connected is the one that runs here, and nothing of the engine is borrowed.
        self.wanted.set(Python::attach(|py| {
            is_wanted(py).unwrap_or_else(|error| {
                if let Some(runtime) = self.runtime.upgrade() {
                    runtime.keep_interrupt(py, error);
                }
                false
            })
        }));
        if self.wanted.get() {
            self.note(DEBUG, format!("connected to {peer} in {:.1} ms", took.as_secs_f64() * 1e3));
        }
    }

    fn closed(&self, peer: &str, reason: CloseReason) {
        if reason.is_suspicious() {
            self.note(WARNING, format!("closed a connection to {peer}: {}", reason.explain()));
        } else if self.wanted.get() {
            self.note(DEBUG, format!("closed a connection to {peer}: {}", reason.explain()));
        }
    }

    fn repeated(&self, peer: &str, error: &Error) {
        if self.wanted.get() {
            self.note(DEBUG, format!("asking {peer} again, on another connection: {error}"));
        }
    }

    fn waits(&self, exhaustion: &Exhaustion) {
        self.note(WARNING, format!("a request has waited for long: {}", exhaustion.explain(&self.peer)));
    }
}
