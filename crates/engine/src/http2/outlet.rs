//! The sending end of one stream. END_STREAM belongs on the last frame of a body (RFC 9113 section 8.1), and only the
//! end of the source reveals which one that is. So the newest piece is held until the next one is available, or until
//! the connection's task runs.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use h2::SendStream;
use http::HeaderMap;

/// Size of the largest DATA frame that every peer accepts (RFC 9113 section 4.2): small pieces are joined up to this
/// size.
const JOINED: usize = 16 * 1024;

/// Minimum size of pieces that are not joined: copying them costs more than a frame.
const LARGE: usize = 1024;

type Sent = Result<(), h2::Error>;

/// The sending end, which is shared with the task of its connection while its owner waits for more data to send.
#[derive(Clone)]
pub(super) struct Outlet(Rc<RefCell<State>>);

struct State {
    /// `None` once the stream is over.
    send: Option<SendStream<Bytes>>,
    /// The newest piece. The stream has room for it.
    held: Bytes,
    /// Small pieces joined into one, instead of `held`.
    joined: BytesMut,
    /// The held piece is known to end the body, even if its source has not reported the end yet.
    is_last: bool,
    has_ended: bool,
    /// The connection's task has a reference to it.
    is_lent: bool,
}

impl State {
    fn held(&self) -> usize {
        self.held.len() + self.joined.len()
    }

    fn take(&mut self) -> Bytes {
        if self.joined.is_empty() { std::mem::take(&mut self.held) } else { self.joined.split().freeze() }
    }

    fn send(&mut self, piece: Bytes, ends: bool) -> Sent {
        self.has_ended |= ends;
        self.send.as_mut().map_or(Ok(()), |send| send.send_data(piece, ends))
    }

    fn flush(&mut self) -> Sent {
        if self.held() == 0 {
            return Ok(());
        }
        let piece = self.take();
        self.send(piece, self.is_last)
    }
}

impl Outlet {
    pub(super) fn new(send: SendStream<Bytes>) -> Self {
        Outlet(Rc::new(RefCell::new(State {
            send: Some(send),
            held: Bytes::new(),
            joined: BytesMut::new(),
            is_last: false,
            has_ended: false,
            is_lent: false,
        })))
    }

    /// Calls `poll` with the stream and the number of bytes held, unless the stream is over.
    pub(super) fn with<T>(&self, poll: impl FnOnce(&mut SendStream<Bytes>, usize) -> T) -> Option<T> {
        let mut state = self.0.borrow_mut();
        let held = state.held();
        state.send.as_mut().map(|send| poll(send, held))
    }

    /// Takes a piece, for which the stream has room. `is_last` is true if the body ends with it.
    pub(super) fn hold(&self, piece: Bytes, is_last: bool) -> Sent {
        let mut state = self.0.borrow_mut();
        let held = state.held();
        let mut sent = Ok(());
        if held > 0 && held.min(piece.len()) < LARGE && held + piece.len() <= JOINED {
            let first = std::mem::take(&mut state.held);
            state.joined.extend_from_slice(&first);
            state.joined.extend_from_slice(&piece);
        } else {
            sent = state.flush();
            state.held = piece;
        }
        state.is_last = is_last;
        sent
    }

    /// Sends the held piece.
    pub(super) fn flush(&self) -> Sent {
        self.0.borrow_mut().flush()
    }

    /// Ends the body, with the held piece if there is one.
    pub(super) fn finish(&self) -> Sent {
        let mut state = self.0.borrow_mut();
        if state.has_ended {
            return Ok(());
        }
        let piece = state.take();
        state.send(piece, true)
    }

    /// Sends the held piece, and `trailers`, which end the request.
    pub(super) fn send_trailers(&self, trailers: HeaderMap) -> Sent {
        let mut state = self.0.borrow_mut();
        state.flush()?;
        state.send.as_mut().map_or(Ok(()), |send| send.send_trailers(trailers))
    }

    /// Returns itself for the connection's task, which will send the held piece; None if there is no piece, or the task
    /// has the outlet already.
    pub(super) fn lend(&self) -> Option<Outlet> {
        let mut state = self.0.borrow_mut();
        let is_new = state.held() > 0 && !state.is_lent;
        state.is_lent |= is_new;
        is_new.then(|| self.clone())
    }

    /// Sends the held piece, since its owner has not continued yet. The stream reports an error to the owner.
    pub(super) fn take_back(&self) {
        let mut state = self.0.borrow_mut();
        state.is_lent = false;
        let _ = state.flush();
    }

    /// Ends all use of the stream, and cancels it if it has not ended.
    pub(super) fn close(&self) {
        let mut state = self.0.borrow_mut();
        let parts = (state.send.take(), std::mem::take(&mut state.held), std::mem::take(&mut state.joined));
        drop(state);
        drop(parts);
    }
}
