//! The GIL as the lock of this crate's state, and the interpreter's calls that need it and that PyO3 does not wrap.
#![allow(unsafe_code)]

use pyo3::ffi;
use pyo3::prelude::*;

/// A value that is only accessed with the GIL held: `get` asks for proof, and Python's destructors run under it. The
/// module does not declare itself safe without a GIL, and an abi3 extension is not loaded by an interpreter that has
/// none.
pub(crate) struct GilBound<T>(T);

// SAFETY: every access goes through `get`, which needs an attached thread, or through drop, which happens in
// destructors of Python objects and in functions that hold the GIL. That orders these accesses: no code of this crate
// releases the GIL while such a value is borrowed.
unsafe impl<T> Send for GilBound<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for GilBound<T> {}

impl<T> GilBound<T> {
    pub(crate) fn new(_py: Python<'_>, value: T) -> Self {
        GilBound(value)
    }

    /// Wraps a value in code that holds the GIL but has no token: a destructor of a Python object.
    pub(super) fn in_destructor(value: T) -> Self {
        GilBound(value)
    }

    pub(crate) fn get(&self, _py: Python<'_>) -> &T {
        &self.0
    }

    /// Returns the value in `__traverse__` and destructors, which Python calls with the GIL held but without a token.
    pub(crate) fn while_collecting(&self) -> &T {
        &self.0
    }
}

/// Returns the token for functions that reactors and pools call without one: wakers, and the number of the running
/// greenlet.
pub(super) fn attached_by_engine<'py>() -> Python<'py> {
    // SAFETY: the engine's reactors and pools run attached only: each entry into them is a function that Python calls,
    // or a destructor of a Python object, and none releases the GIL meanwhile.
    unsafe { Python::assume_attached() }
}

/// An exception that is propagating while this crate is called: what is dropped as a frame is left (a response, say,
/// whose pool slot another greenlet waits for) is dropped with it set. Python must not be called then.
pub(crate) struct PendingError([*mut ffi::PyObject; 3]);

impl PendingError {
    pub(crate) fn set_aside(_py: Python<'_>) -> Self {
        let [mut kind, mut value, mut traceback] = [std::ptr::null_mut(); 3];
        // SAFETY: attached; the three pointers are valid, and each result is a new reference or null.
        unsafe { ffi::PyErr_Fetch(&mut kind, &mut value, &mut traceback) };
        PendingError([kind, value, traceback])
    }

    pub(crate) fn put_back(self, _py: Python<'_>) {
        let [kind, value, traceback] = self.0;
        // SAFETY: attached; gives back the references that were taken, each once.
        unsafe { ffi::PyErr_Restore(kind, value, traceback) };
    }

    /// Returns type, value and traceback. PyO3's own way to take an error would resume a panic that is wrapped in one.
    pub(super) fn into_parts<'py>(self, py: Python<'py>) -> [Option<Bound<'py, PyAny>>; 3] {
        let [mut kind, mut value, mut traceback] = self.0;
        // SAFETY: attached; the references that were taken are handed over, and each result is a new reference or null.
        unsafe {
            ffi::PyErr_NormalizeException(&mut kind, &mut value, &mut traceback);
            [kind, value, traceback].map(|part| Bound::from_owned_ptr_or_opt(py, part))
        }
    }
}

/// Returns the dictionary that Python keeps for this thread; None if it has none.
pub(super) fn thread_dict<'py>(py: Python<'py>) -> Option<Bound<'py, PyAny>> {
    // SAFETY: attached; a borrowed reference, or null without a dictionary.
    unsafe { Bound::from_borrowed_ptr_or_opt(py, ffi::PyThreadState_GetDict()) }
}
