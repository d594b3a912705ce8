//! What becomes of connections, for the package's logger.
//!
//! The engine tells it in the middle of things, where no code of the program's may run: a handler of logging's may
//! wait, and a greenlet that is being unwound must not. So it is kept, and told by the greenlet whose request comes to
//! its end, or else by one of its own.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use engine::{Ending, Error, Journal};
use pyo3::intern;
use pyo3::prelude::*;

use crate::hub::Runtime;
use crate::types;

/// Numbers of logging's levels.
const DEBUG: u8 = 10;
const WARNING: u8 = 30;

/// More than this is not kept for later: a program that never lets a greenlet run again has no use for it.
const MOST_NOTES: usize = 1000;

/// What is to be told: level and text.
#[derive(Default)]
pub(crate) struct Notes(RefCell<Vec<(u8, String)>>);

impl Notes {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Tells all of it, now, as the current greenlet.
    pub(crate) fn tell(&self, py: Python<'_>) -> PyResult<()> {
        let notes = self.0.take();
        types::write_log(py)?.call1((notes,)).map(drop)
    }

    /// Has a new greenlet tell all of it.
    pub(crate) fn tell_later(&self, py: Python<'_>) -> PyResult<()> {
        let notes = self.0.take();
        types::spawn(py)?.call1((types::write_log(py)?, notes)).map(drop)
    }
}

/// The journal of one client on one hub.
pub(crate) struct ClientJournal {
    runtime: Weak<Runtime>,
    /// Whether the logger wanted to know when it was last asked, which is for each new connection.
    wanted: Cell<bool>,
}

impl ClientJournal {
    pub(crate) fn new(runtime: &Rc<Runtime>) -> Rc<Self> {
        Rc::new(ClientJournal { runtime: Rc::downgrade(runtime), wanted: Cell::new(false) })
    }

    fn note(&self, level: u8, text: String) {
        let Some(runtime) = self.runtime.upgrade() else { return };
        {
            let mut notes = runtime.notes.0.borrow_mut();
            if notes.len() >= MOST_NOTES {
                return;
            }
            notes.push((level, text));
        }
        Python::attach(|py| runtime.schedule(py));
    }
}

fn is_wanted(py: Python<'_>) -> PyResult<bool> {
    // A program that has not imported logging listens to nobody: it is not imported here either, which takes 2 ms.
    let modules = py.import(intern!(py, "sys"))?.getattr(intern!(py, "modules"))?;
    if !modules.contains(intern!(py, "logging"))? {
        return Ok(false);
    }
    types::logger(py)?.call_method1(intern!(py, "isEnabledFor"), (DEBUG,))?.is_truthy()
}

impl Journal for ClientJournal {
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

    fn closed(&self, peer: &str, ending: Ending) {
        if ending.is_suspicious() {
            self.note(WARNING, format!("closed a connection to {peer}: {}", ending.explain()));
        } else if self.wanted.get() {
            self.note(DEBUG, format!("closed a connection to {peer}: {}", ending.explain()));
        }
    }

    fn repeated(&self, peer: &str, error: &Error) {
        if self.wanted.get() {
            self.note(DEBUG, format!("asking {peer} again, on another connection: {error}"));
        }
    }
}
