//! The bound on the idle connections of several pools.

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::hub::Runtime;
use crate::thread::{ThreadState, forget_idle_group};

/// A bound on the idle connections of all pools that have joined it, in each thread: beyond `limit` the one that has
/// been idle for longest is closed.
#[pyclass(frozen, module = "geventhttpclient._core")]
pub(crate) struct IdleGroup {
    id: u64,
    /// The most connections that may be idle at once.
    #[pyo3(get)]
    limit: usize,
}

impl IdleGroup {
    /// Returns the engine's group for that hub.
    pub(crate) fn of_runtime(&self, runtime: &Runtime) -> Rc<engine::IdleGroup> {
        ThreadState::of(runtime).idle_group(self.id, self.limit)
    }
}

#[pymethods]
impl IdleGroup {
    #[new]
    fn new(limit: usize) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        IdleGroup { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), limit }
    }

    /// Makes a copy a group of its own with the same limit.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> (Bound<'py, PyType>, (usize,)) {
        (slf.get_type(), (slf.get().limit,))
    }
}

impl Drop for IdleGroup {
    fn drop(&mut self) {
        // Not at the interpreter's end, as for pools.
        Python::try_attach(|py| forget_idle_group(py, self.id));
    }
}
