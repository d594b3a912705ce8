//! A Python socket as a byte stream, for `HTTPSocketResponse(sock)`: read only.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use engine::rt::stream::Layer;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream of bytes that were read before, then those of a socket. The socket's `recv` waits by itself and switches
/// greenlets: the stream is polled by its own greenlet only, and is never pending.
pub(crate) struct PySocket {
    socket: Py<PyAny>,
    read_before: Vec<u8>,
    /// Bytes that the socket is asked for at once.
    block_size: usize,
}

impl PySocket {
    pub(crate) fn new(socket: Py<PyAny>, read_before: Vec<u8>, block_size: usize) -> Self {
        PySocket { socket, read_before, block_size: block_size.max(1) }
    }
}

impl AsyncRead for PySocket {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.read_before.is_empty() {
            let length = self.read_before.len().min(buf.remaining());
            buf.put_slice(self.read_before.get(..length).unwrap_or_default());
            self.read_before.drain(..length);
            return Poll::Ready(Ok(()));
        }
        let room = buf.remaining().min(self.block_size);
        let received = Python::attach(|py| {
            let received = self.socket.bind(py).call_method1(intern!(py, "recv"), (room,))?;
            let bytes = received.cast::<PyBytes>()?.as_bytes();
            if bytes.len() > room {
                return Err(PyValueError::new_err(format!("recv({room}) returned {} bytes", bytes.len())));
            }
            buf.put_slice(bytes);
            Ok(())
        });
        Poll::Ready(received.map_err(|error: PyErr| io::Error::other(error)))
    }
}

impl Layer for PySocket {}

impl AsyncWrite for PySocket {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
