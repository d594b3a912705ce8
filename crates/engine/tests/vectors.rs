//! Every response of `tests/vectors` through the engine, on a stream that gives each piece on its own.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;
#[path = "../../wire/tests/support/vectors.rs"]
#[allow(dead_code, reason = "the tests of wire use more of it")]
mod vectors;

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use engine::http1::exchange::read_response;
use engine::pool::lease::Lease;
use engine::rt::stream::{Layer, Stream};
use engine::rt::timeout::WaitTimeout;
use engine::{Connection, Error, Phase, Reactor};
use support::{read_all, run};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use vectors::{Expected, Kind, Vector, load};
use wire::framing::MethodKind;
use wire::{Limits, ResponseError};

/// Gives one piece at a time, lets other tasks run in between, and closes or fails behind the last.
struct Pieces {
    pieces: VecDeque<Vec<u8>>,
    eof: bool,
    waited: bool,
}

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.waited = !self.waited;
        if self.waited {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(mut piece) = self.pieces.pop_front() else {
            let silence = io::Error::new(io::ErrorKind::TimedOut, "asked for more than there is");
            return Poll::Ready(if self.eof { Ok(()) } else { Err(silence) });
        };
        let rest = piece.split_off(piece.len().min(out.remaining()));
        if !rest.is_empty() {
            self.pieces.push_front(rest);
        }
        out.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}

impl Layer for Pieces {}

impl AsyncWrite for Pieces {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn kind(error: Error) -> (bool, Kind) {
    let in_head = error.phase() == Phase::Head;
    let kind = match error.into_kind() {
        engine::Kind::Closed | engine::Kind::Response(ResponseError::EarlyEnd(_)) => Kind::Cut,
        engine::Kind::Response(
            ResponseError::HeadTooLarge(_)
            | ResponseError::TooManyHeaders(_)
            | ResponseError::TooManyInterim(_)
            | ResponseError::InterimTooLarge(_)
            | ResponseError::TrailersTooLarge(_)
            | ResponseError::ChunkExtension("the line is too long"),
        ) => Kind::TooLarge,
        engine::Kind::Response(_) => Kind::Malformed,
        other => panic!("{other:?}"),
    };
    (in_head, kind)
}

fn check(reactor: &Rc<Reactor>, vector: &Vector, pieces: &[&[u8]], room: usize) {
    let pieces = pieces.iter().filter(|piece| !piece.is_empty()).map(|piece| piece.to_vec()).collect();
    let stream = Pieces { pieces, eof: vector.eof, waited: false };
    let peer: Rc<str> = "peer".into();
    let connection = Connection::new(reactor, Stream::Layer(Box::new(stream)), peer, WaitTimeout::new(reactor, None));
    let received = run(reactor, async {
        let method_kind = MethodKind::by(vector.method.as_bytes());
        let limits = Limits::default();
        let response = read_response(Lease::of(connection), method_kind, &limits);
        let mut response = response.await.map_err(|unanswered| unanswered.error)?;
        let body = read_all(&mut response.body, room).await?;
        assert!(response.body.is_complete() && response.body.is_detached());
        Ok((response, body))
    });
    match (&vector.expected, received) {
        (Expected::Message(expected), Ok((response, body))) => {
            assert_eq!(response.head.status, expected.status);
            assert_eq!(body.escape_ascii().to_string(), expected.body.escape_ascii().to_string());
            assert!(response.body.close_cause().is_none() || !expected.keep_alive);
            let trailers = response.body.trailers().map_or(0, |trailers| trailers.len());
            assert_eq!(trailers, expected.trailers.len());
        }
        (Expected::Failure { in_head, kind: expected }, Err(error)) => {
            assert_eq!(kind(error), (*in_head, *expected));
        }
        (Expected::Message(_), Err(error)) => panic!("refused: {error}"),
        (Expected::Failure { .. }, Ok(_)) => panic!("not refused"),
    }
}

#[test]
fn test_every_response_is_read_the_same_in_any_pieces() {
    let reactor = Reactor::new().expect("a reactor");
    for vector in load() {
        for (number, pieces) in vector.divisions().iter().enumerate() {
            let room = [1, 100, 16 * 1024][number % 3];
            let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                check(&reactor, &vector, pieces, room);
            }));
            let shown: Vec<_> = pieces.iter().take(10).map(|piece| piece.len()).collect();
            assert!(checked.is_ok(), "{}, cut {shown:?}, read {room} at a time", vector.name);
        }
    }
}
