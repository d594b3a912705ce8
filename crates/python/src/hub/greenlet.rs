//! greenlet's C interface: the only file that switches greenlets.
#![allow(unsafe_code)]

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::hub::gil::attached_by_engine;

type GetCurrent = unsafe extern "C" fn() -> *mut ffi::PyObject;
type Switch = unsafe extern "C" fn(*mut ffi::PyObject, *mut ffi::PyObject, *mut ffi::PyObject) -> *mut ffi::PyObject;

/// The part of the table in greenlet.h that is used here, the same since 1.0. A pointer that is not used is a number.
#[repr(C)]
struct GreenletApi {
    types_and_new: [usize; 4],
    get_current: GetCurrent,
    throw: usize,
    switch: Switch,
}

static API: PyOnceLock<&GreenletApi> = PyOnceLock::new();

#[cold]
fn import(py: Python<'_>) -> PyResult<&'static GreenletApi> {
    let import = || {
        py.import("greenlet")?;
        // SAFETY: the name is a C string. The capsule's table lives as long as the process, and its layout is
        // greenlet.h's.
        let table = unsafe { ffi::PyCapsule_Import(c"greenlet._C_API".as_ptr(), 0).cast::<GreenletApi>().as_ref() };
        table.ok_or_else(|| PyErr::fetch(py))
    };
    API.get_or_try_init(py, import).copied()
}

/// Imports the table. On None a Python error is set.
#[cold]
#[inline(never)]
fn import_or_set_error(py: Python<'_>) -> Option<&'static GreenletApi> {
    import(py).map_err(|error| error.restore(py)).ok()
}

/// Returns the running greenlet.
pub(crate) fn current_greenlet<'py>(py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
    let api = API.get(py).map_or_else(|| import(py), |api| Ok(api))?;
    // SAFETY: attached; the result is a new reference or null.
    let current = unsafe { Bound::from_owned_ptr_or_opt(py, (api.get_current)()) };
    current.ok_or_else(|| {
        // There are no greenlets any more at the interpreter's end; not every version says so with an exception.
        PyErr::take(py).unwrap_or_else(|| PyRuntimeError::new_err("no greenlet to wait in: the interpreter is exiting"))
    })
}

/// Returns the address of the running greenlet: a number that no other living one has. 0 at the interpreter's end.
pub(super) fn current_task() -> usize {
    current_greenlet(attached_by_engine()).map_or(0, |greenlet| greenlet.as_ptr().addr())
}

/// Switches to a greenlet. On `false` a Python error is set: the one thrown into the calling greenlet, or the one that
/// the other greenlet died of.
pub(super) fn switch(py: Python<'_>, target: &Py<PyAny>) -> bool {
    // No room for an error in this frame: it stays on the stack of a greenlet that waits.
    let Some(api) = API.get(py).copied().or_else(|| import_or_set_error(py)) else { return false };
    let nothing = std::ptr::null_mut();
    // SAFETY: attached, no error is set, the target is a greenlet that the caller keeps alive. Nothing of this frame is
    // borrowed by other code while other greenlets run. The result is a new reference or null.
    let result = unsafe { Bound::from_owned_ptr_or_opt(py, (api.switch)(target.as_ptr(), nothing, nothing)) };
    result.is_some()
}
