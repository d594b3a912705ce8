//! Memory of Python objects as Rust buffers. `unsafe`, as gil.rs and greenlet.rs of the hub.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use pyo3::exceptions::PyMemoryError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};
use tokio::io::ReadBuf;

/// Returns a bytes object with a copy of `bytes`. MemoryError if there is no room: PyO3's own constructor panics then.
pub(crate) fn copied<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    // SAFETY: attached; the pointer and the length are those of a slice, whose length fits into an isize. The result is
    // a new reference to a bytes object, or null with an error set.
    unsafe {
        let object = ffi::PyBytes_FromStringAndSize(bytes.as_ptr().cast(), bytes.len().cast_signed());
        Ok(Bound::from_owned_ptr_or_err(py, object)?.cast_into_unchecked::<PyBytes>())
    }
}

/// Returns a copy of bytes that the program keeps, or may change. MemoryError if there is no room.
pub(crate) fn owned_copy(bytes: &[u8]) -> PyResult<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).map_err(|_| PyMemoryError::new_err(()))?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// Returns a copy of a bytearray, whose owner may change it at any time. MemoryError if there is no room.
pub(crate) fn contents(array: &Bound<'_, PyByteArray>) -> PyResult<Vec<u8>> {
    // SAFETY: attached, and no Python code runs while the slice lives: nothing can change or resize the array.
    owned_copy(unsafe { array.as_bytes() })
}

/// Returns a bytearray with a copy of `bytes`. MemoryError if there is no room: PyO3's own constructor panics then.
pub(crate) fn copied_to_array<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyByteArray>> {
    PyByteArray::new_with(py, bytes.len(), |room| {
        room.copy_from_slice(bytes);
        Ok(())
    })
}

/// Returns a bytes object of at most `length` bytes, filled in place by `fill`. MemoryError if there is no room.
pub(crate) fn filled_by<'py>(
    py: Python<'py>,
    length: usize,
    fill: impl FnOnce(&mut ReadBuf<'_>) -> PyResult<()>,
) -> PyResult<Bound<'py, PyBytes>> {
    let size = ffi::Py_ssize_t::try_from(length).map_err(|_| PyMemoryError::new_err(()))?;
    // SAFETY: attached; a new reference, or null with an error set. With a null pointer the contents are left
    // uninitialised, and no other code sees the object before they are written.
    let object = unsafe {
        Bound::from_owned_ptr_or_err(py, ffi::PyBytes_FromStringAndSize(std::ptr::null(), size))?
            .cast_into_unchecked::<PyBytes>()
    };
    // SAFETY: the object's memory is `length` bytes on the heap, stays where it is while `object` lives, and is
    // reached by no other reference, greenlet switches within `fill` included. (Python shares the empty and one-byte
    // objects only when they are made from contents.)
    let room = unsafe {
        let start = ffi::PyBytes_AsString(object.as_ptr()).cast::<MaybeUninit<u8>>();
        std::slice::from_raw_parts_mut(start, length)
    };
    prefer_huge_pages(room);
    let mut buffer = ReadBuf::uninit(room);
    fill(&mut buffer)?;
    let filled = buffer.filled();
    if filled.len() == length {
        return Ok(object);
    }
    copied(py, filled)
}

/// Asks for huge pages. The kernel clears fresh memory at its first touch, page by page: for a large body that takes
/// longer than copying it from the socket. With pages of 2 MiB there are 512 times fewer such faults.
#[cfg(target_os = "linux")]
fn prefer_huge_pages(room: &mut [MaybeUninit<u8>]) {
    const HUGE_PAGE: usize = 2 * 1024 * 1024;
    let start = room.as_mut_ptr().align_offset(HUGE_PAGE);
    let Some(aligned) = room.get_mut(start..) else { return };
    let rest = aligned.len() % HUGE_PAGE;
    let whole = aligned.len().saturating_sub(rest);
    if let Some(part) = aligned.get_mut(..whole).filter(|part| !part.is_empty()) {
        // SAFETY: the range belongs to `room`, is aligned to pages, and the advice does not change its contents. A
        // kernel without such pages refuses, which does no harm.
        let _ = unsafe { libc::madvise(part.as_mut_ptr().cast(), part.len(), libc::MADV_HUGEPAGE) };
    }
}

/// Does nothing: other systems decide by themselves.
#[cfg(not(target_os = "linux"))]
fn prefer_huge_pages(_room: &mut [MaybeUninit<u8>]) {}

/// Returns a second descriptor of the open file with that number, which a Python object owns.
pub(crate) fn duplicate(number: i32) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: the number is not -1. If no file is open under it, the kernel refuses.
    unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned()
}
