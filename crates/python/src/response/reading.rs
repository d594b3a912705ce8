//! Reading a response's body: at once, by pieces, by lines, as far as it goes.

use bytes::{Buf, BytesMut};
use engine::Incoming;
use engine::buffer::try_extend;
use memchr::memmem;
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use crate::convert::{contents, copied, copied_to_array, filled_by};
use crate::error::to_python;
use crate::hub::{Runtime, block_on};
use crate::response::state::{BodyState, SharedState, State};

/// Limit up to which memory is allocated at once for a length that the peer announces, before the bytes arrive.
/// Untouched memory costs nothing, but not without limit.
const TRUSTED_LENGTH: u64 = 4 << 30;

/// Limit up to which memory is allocated for the bytes that the caller asks for, if the body's length is not known.
const DIRECT_READ: usize = 256 * 1024;

impl SharedState {
    /// Returns the bytes that `enough` asks for if they are available without waiting, else None. Raises MemoryError if
    /// there is no room for a copy; nothing is taken then.
    fn ready_bytes<'py>(
        &self,
        py: Python<'py>,
        enough: impl FnOnce(&mut Incoming) -> Option<usize>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        self.take_back(py)?;
        let mut state = self.borrow_mut(py);
        let BodyState::Here(body) = &mut state.body else { return Ok(None) };
        let Some(length) = enough(body) else { return Ok(None) };
        let ready = body.ready();
        let length = length.min(ready.len());
        // The garbage collector does not follow bytes objects: making one runs no code of the program.
        let bytes = copied(py, ready.get(..length).unwrap_or_default())?;
        ready.advance(length);
        Ok(Some(bytes))
    }

    /// Puts the bytearray that was handed out back in front of the ready bytes, since it is read first.
    fn take_back(&self, py: Python<'_>) -> PyResult<()> {
        let buffer = {
            let mut state = self.borrow_mut(py);
            let State { body: BodyState::Here(body), buffer: slot, .. } = &mut *state else { return Ok(()) };
            let Some(buffer) = slot.take() else { return Ok(()) };
            let buffer = buffer.into_bound(py);
            if let Err(error) = contents(&buffer).and_then(|bytes| put_before(&bytes, body)) {
                *slot = Some(buffer.unbind());
                return Err(error);
            }
            buffer
        };
        // An exported buffer cannot be emptied; then it belongs to its owner. The exception that says so may run the
        // garbage collector, and with it code that calls this response: nothing is borrowed.
        if buffer.resize(0).is_ok() {
            self.borrow_mut(py).buffer.get_or_insert(buffer.unbind());
        }
        Ok(())
    }

    /// Reads all that is left.
    pub(super) fn read_all<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let all = |body: &mut Incoming| body.is_complete().then(|| body.ready().len());
        if let Some(bytes) = self.ready_bytes(py, all)? {
            return Ok(bytes);
        }
        let read = self.with_body(py, Read::Nothing, |runtime, body| match trusted(body.remaining()) {
            Some(length) => read_into_bytes(py, runtime, body, length),
            None => fetch_until(py, runtime, body, usize::MAX),
        })?;
        self.taken(py, read)
    }

    /// Returns the bytes of a read that has ended.
    fn taken<'py>(&self, py: Python<'py>, read: Read<'py>) -> PyResult<Bound<'py, PyBytes>> {
        match read {
            Read::Bytes(bytes) => Ok(bytes),
            Read::Nothing => Ok(PyBytes::new(py, b"")),
            Read::Ready(length) => {
                let bytes = self.ready_bytes(py, |_| Some(length))?;
                Ok(bytes.unwrap_or_else(|| PyBytes::new(py, b"")))
            }
        }
    }

    /// Reads exactly `length` bytes, or all that is left if that is less.
    pub(super) fn read_some<'py>(&self, py: Python<'py>, length: usize) -> PyResult<Bound<'py, PyBytes>> {
        let some = |body: &mut Incoming| {
            let ready = body.ready().len();
            (ready >= length || body.is_complete()).then(|| ready.min(length))
        };
        if let Some(bytes) = self.ready_bytes(py, some)? {
            return Ok(bytes);
        }
        let read = self.with_body(py, Read::Nothing, |runtime, body| match body.remaining() {
            Some(left) => {
                let length = u64::try_from(length).unwrap_or(u64::MAX).min(left);
                match trusted(Some(length)) {
                    Some(room) => read_into_bytes(py, runtime, body, room),
                    None => fetch_until(py, runtime, body, usize::try_from(length).unwrap_or(usize::MAX)),
                }
            }
            None if length <= DIRECT_READ => read_into_bytes(py, runtime, body, length),
            None => fetch_until(py, runtime, body, length),
        })?;
        self.taken(py, read)
    }

    /// Reads up to and including `sep`, which is not empty; all that is left if it does not come.
    pub(super) fn read_until<'py>(&self, py: Python<'py>, sep: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let line = |body: &mut Incoming| {
            let found = memmem::find(body.ready(), sep).map(|at| at.saturating_add(sep.len()));
            found.or_else(|| body.is_complete().then(|| body.ready().len()))
        };
        if let Some(bytes) = self.ready_bytes(py, line)? {
            return Ok(bytes);
        }
        let read = self.with_body(py, Read::Nothing, |runtime, body| {
            let line = block_on(py, runtime, async {
                // The bytes searched before are not searched again, except for a separator that lies across.
                let mut searched = 0;
                loop {
                    let ready = body.ready();
                    let from = searched_before(searched, sep);
                    if let Some(at) = memmem::find(ready.get(from..).unwrap_or_default(), sep) {
                        return Ok(from.saturating_add(at).saturating_add(sep.len()));
                    }
                    searched = ready.len();
                    if !body.fetch().await? {
                        return Ok(searched);
                    }
                }
            })?;
            Ok(line.map(Read::Ready))
        })?;
        self.taken(py, read)
    }

    /// Reads the available bytes, at most `length`, waiting only if there are none. `b""` at the end.
    pub(super) fn read_available<'py>(&self, py: Python<'py>, length: usize) -> PyResult<Bound<'py, PyBytes>> {
        if length == 0 {
            return Ok(PyBytes::new(py, b""));
        }
        let some = |body: &mut Incoming| {
            let ready = body.ready().len();
            (ready > 0 || body.is_complete()).then(|| ready.min(length))
        };
        if let Some(bytes) = self.ready_bytes(py, some)? {
            return Ok(bytes);
        }
        self.with_body(py, PyBytes::new(py, b""), |runtime, body| {
            let mut outcome = Ok(());
            let bytes = filled_by(py, length.min(DIRECT_READ), |room| {
                outcome = block_on(py, runtime, body.read(room))?;
                Ok(())
            })?;
            Ok(outcome.map(|()| bytes))
        })
    }

    /// Returns the available bytes, at most `length`, waiting only if there are none; they remain to be read.
    pub(super) fn peek<'py>(&self, py: Python<'py>, length: usize) -> PyResult<Bound<'py, PyBytes>> {
        self.with_body(py, PyBytes::new(py, b""), |runtime, body| {
            if body.ready().is_empty()
                && let Err(error) = block_on(py, runtime, body.fetch())?
            {
                return Ok(Err(error));
            }
            let ready = body.ready();
            copied(py, ready.get(..ready.len().min(length)).unwrap_or_default()).map(Ok)
        })
    }

    /// Reads `length` bytes, or all that is left if that is less. Returns them, and the error that has kept the rest
    /// from coming.
    pub(super) fn read_as_far_as_it_goes<'py>(
        &self,
        py: Python<'py>,
        length: Option<usize>,
    ) -> PyResult<(Bound<'py, PyBytes>, Option<PyErr>)> {
        let nothing = (PyBytes::new(py, b""), None);
        let (bytes, failure) = self.with_body(py, nothing, |runtime, body| {
            let length = length.unwrap_or(usize::MAX);
            match trusted(body.remaining()) {
                Some(left) if body.ready().len() < left.min(length) => {
                    let mut outcome = Ok(());
                    let bytes = filled_by(py, left.min(length), |room| {
                        outcome = block_on(py, runtime, body.read_fully(room))?;
                        Ok(())
                    })?;
                    Ok(Ok((bytes, outcome.err())))
                }
                _ => {
                    let outcome = block_on(py, runtime, async {
                        while body.ready().len() < length && body.fetch().await? {}
                        Ok::<_, engine::Error>(())
                    })?;
                    let ready = body.ready();
                    let length = ready.len().min(length);
                    let bytes = copied(py, ready.get(..length).unwrap_or_default())?;
                    ready.advance(length);
                    Ok(Ok((bytes, outcome.err())))
                }
            }
        })?;
        Ok((bytes, failure.map(|error| to_python(py, error))))
    }

    /// Returns how many bytes can be read without waiting.
    pub(super) fn ready_length(&self, py: Python<'_>) -> PyResult<usize> {
        self.take_back(py)?;
        match &mut self.borrow_mut(py).body {
            BodyState::Here(body) => Ok(body.ready().len()),
            _ => Ok(0),
        }
    }

    /// Returns the unread bytes that have arrived as a bytearray, which is read first with all that is added to it.
    pub(super) fn give_buffer<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyByteArray>> {
        self.take_back(py)?;
        let mut state = self.borrow_mut(py);
        let ready = match &mut state.body {
            BodyState::Here(body) => body.ready().split(),
            _ => BytesMut::new(),
        };
        // The garbage collector does not follow bytearrays: making one runs no code of the program.
        let buffer = match copied_to_array(py, &ready) {
            Ok(buffer) => buffer,
            Err(error) => {
                if let BodyState::Here(body) = &mut state.body {
                    *body.ready() = ready;
                }
                return Err(error);
            }
        };
        let replaced = state.buffer.replace(buffer.clone().unbind());
        drop(state);
        drop(replaced);
        Ok(buffer)
    }

    /// Replaces the unread bytes that have arrived by a bytearray.
    pub(super) fn take_buffer(&self, py: Python<'_>, buffer: Bound<'_, PyByteArray>) {
        let mut state = self.borrow_mut(py);
        if let BodyState::Here(body) = &mut state.body {
            body.ready().clear();
        }
        let replaced = state.buffer.replace(buffer.unbind());
        drop(state);
        drop(replaced);
    }
}

/// The outcome of a read.
enum Read<'py> {
    /// These bytes.
    Bytes(Bound<'py, PyBytes>),
    /// There is no body.
    Nothing,
    /// This number of bytes is ready to be read. They stay with the body if there is no memory for a copy.
    Ready(usize),
}

/// Puts `bytes` in front of the bytes that are ready to be read.
#[cold]
fn put_before(bytes: &[u8], body: &mut Incoming) -> PyResult<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let mut ready = BytesMut::new();
    let room = try_extend(&mut ready, bytes).and_then(|()| try_extend(&mut ready, body.ready()));
    room.map_err(|_| PyMemoryError::new_err(()))?;
    *body.ready() = ready;
    Ok(())
}

/// Returns a length for which memory may be allocated at once.
fn trusted(length: Option<u64>) -> Option<usize> {
    length.filter(|&length| length <= TRUSTED_LENGTH).and_then(|length| usize::try_from(length).ok())
}

/// Reads straight into the memory of the object that the caller gets.
fn read_into_bytes<'py>(
    py: Python<'py>,
    runtime: &Runtime,
    body: &mut Incoming,
    length: usize,
) -> PyResult<engine::Result<Read<'py>>> {
    let mut outcome = Ok(());
    let bytes = filled_by(py, length, |room| {
        outcome = block_on(py, runtime, body.read_fully(room))?;
        Ok(())
    })?;
    Ok(outcome.map(|()| Read::Bytes(bytes)))
}

/// Collects `length` bytes, or all bytes of the body if these are fewer, to be copied once: for bodies of unknown
/// length.
fn fetch_until<'py>(
    py: Python<'py>,
    runtime: &Runtime,
    body: &mut Incoming,
    length: usize,
) -> PyResult<engine::Result<Read<'py>>> {
    let fetched = block_on(py, runtime, async {
        while body.ready().len() < length && body.fetch().await? {}
        Ok(())
    })?;
    Ok(fetched.map(|()| Read::Ready(body.ready().len().min(length))))
}

/// Returns where to continue a search that found nothing in `searched` bytes.
fn searched_before(searched: usize, sep: &[u8]) -> usize {
    searched.saturating_sub(sep.len().saturating_sub(1))
}
