//! One connection whose owner sends and reads bytes.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use engine::rt::socket::Direction;
use engine::{Config, IoState, Kind, Phase, RawConnection, Reactor, Result, SystemResolver};
use support::*;
use tokio::io::ReadBuf;
use wire::framing::MethodKind;
use wire::{Limits, ResponseError};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const WAIT_LIMIT: Option<Duration> = Some(BOUND);

fn opened(address: SocketAddr) -> (Rc<Reactor>, RawConnection) {
    let reactor = Reactor::new().expect("a reactor");
    let config = Config::new(&address.ip().to_string(), address.port());
    let raw = run(&reactor, RawConnection::open(&reactor, &config, &SystemResolver)).expect("a connection");
    (reactor, raw)
}

async fn ask(raw: &RawConnection) -> Result<String> {
    raw.send(REQUEST, WAIT_LIMIT).await?;
    let answer = raw.answer(MethodKind::Other, &Limits::default(), WAIT_LIMIT).await;
    let mut response = answer.map_err(|unanswered| unanswered.error)?;
    let body = read_all(&mut response.body, 100).await?;
    Ok(String::from_utf8(body).expect("text"))
}

async fn receive(raw: &RawConnection, length: usize) -> Result<Vec<u8>> {
    let mut room = vec![MaybeUninit::uninit(); length];
    let mut room = ReadBuf::uninit(&mut room);
    raw.receive(&mut room, WAIT_LIMIT).await?;
    Ok(room.filled().to_vec())
}

#[test]
fn test_turns_alternate_on_one_connection() {
    let peer = Peer::new([vec![Step::Head, send(OK), Step::Head, trickle(OK), Step::Head, send(OK), Step::Closed]]);
    let (reactor, raw) = opened(peer.address);
    for _ in 0..3 {
        assert_eq!(raw.io_state(), IoState::Send);
        assert_eq!(run(&reactor, ask(&raw)).expect("an answer"), "ok");
    }
    let number = raw.descriptor().expect("a socket").number();
    assert!(number.is_some_and(|number| number > 2));
    drop(raw);
    peer.finish();
}

#[test]
fn test_pieces_of_a_request_are_sent_one_by_one() {
    let peer = Peer::new([vec![
        expect("POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nabcd"),
        send("HTTP/1.1 204 x\r\n\r\n"),
        Step::Closed,
    ]]);
    let (reactor, raw) = opened(peer.address);
    run(&reactor, async {
        for piece in ["POST / HTTP/1.1\r\n", "Content-Length: 4\r\n\r\n", "", "ab", "cd"] {
            raw.send(piece.as_bytes(), WAIT_LIMIT).await.expect("a peer that listens");
        }
        let answer = raw.answer(MethodKind::Other, &Limits::default(), WAIT_LIMIT).await;
        assert_eq!(answer.expect("an answer").head.status, 204);
    });
    drop(raw);
    peer.finish();
}

#[test]
fn test_send_before_the_response_was_read_is_refused() {
    let (wait, go) = gate();
    let peer = Peer::new([vec![
        Step::Head,
        send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"),
        wait,
        send("lo"),
        Step::Head,
        send(OK),
        Step::Closed,
    ]]);
    let (reactor, raw) = opened(peer.address);
    run(&reactor, async {
        raw.send(REQUEST, WAIT_LIMIT).await.expect("a peer that listens");
        let answer = raw.answer(MethodKind::Other, &Limits::default(), WAIT_LIMIT).await;
        let mut response = answer.expect("an answer");
        assert_eq!(raw.io_state(), IoState::Receive);
        let refused = raw.send(REQUEST, WAIT_LIMIT).await.expect_err("it is not our turn");
        assert!(matches!(refused.kind(), Kind::Misuse(_)), "{refused}");
        go.send(()).expect("a peer that waits");
        assert_eq!(read_all(&mut response.body, 100).await.expect("a whole body"), b"hello");
        assert_eq!(raw.io_state(), IoState::Send);
        assert_eq!(ask(&raw).await.expect("an answer"), "ok");
    });
    drop(raw);
    peer.finish();
}

#[test]
fn test_response_outlives_its_connection_object_and_closes_at_its_end() {
    let peer = Peer::new([vec![Step::Head, trickle(OK), Step::Closed]]);
    let (reactor, raw) = opened(peer.address);
    run(&reactor, async {
        raw.send(REQUEST, WAIT_LIMIT).await.expect("a peer that listens");
        let answer = raw.answer(MethodKind::Other, &Limits::default(), WAIT_LIMIT).await;
        let mut response = answer.expect("an answer");
        let descriptor = raw.descriptor().cloned().expect("a socket");
        drop(raw);
        assert_eq!(read_all(&mut response.body, 1).await.expect("a whole body"), b"ok");
        assert_eq!(descriptor.number(), None);
    });
    peer.finish();
}

#[test]
fn test_turn_after_the_last_response_or_unsolicited_bytes_is_neither_sides() {
    let last = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    let glued = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n";
    for text in [last, glued, "HTTP/1.1 200 OK\r\n\r\nok"] {
        let peer = Peer::new([vec![Step::Head, send(text), Step::HalfClose, Step::Closed]]);
        let (reactor, raw) = opened(peer.address);
        assert_eq!(run(&reactor, ask(&raw)).expect("an answer"), "ok", "{text}");
        assert_eq!(raw.io_state(), IoState::Unusable, "{text}");
        let refused = run(&reactor, raw.send(REQUEST, WAIT_LIMIT)).expect_err("it is closed");
        assert!(refused.is_disconnect(), "{refused}");
        peer.finish();
    }
    let (notify, notified) = tell();
    let peer = Peer::new([vec![Step::Head, send(OK), Step::Close, notify]]);
    let (reactor, raw) = opened(peer.address);
    assert_eq!(run(&reactor, ask(&raw)).expect("an answer"), "ok");
    notified.wait();
    assert_eq!(raw.io_state(), IoState::Unusable);
    peer.finish();
}

#[test]
fn test_answer_without_a_head_returns_the_received_bytes() {
    for (text, received) in [("SSH-2.0-x\r\nmore", "SSH-2.0-x\r\nmore"), ("HTTP/1.1 200", "HTTP/1.1 200"), ("", "")] {
        let peer = Peer::new([vec![Step::Head, send(text)]]);
        let (reactor, raw) = opened(peer.address);
        let unanswered = run(&reactor, async {
            raw.send(REQUEST, WAIT_LIMIT).await.expect("a peer that listens");
            raw.answer(MethodKind::Other, &Limits::default(), WAIT_LIMIT).await.map(drop).expect_err("no head")
        });
        assert_eq!(String::from_utf8_lossy(&unanswered.received), received);
        let is_closed = matches!(unanswered.error.kind(), Kind::Closed);
        assert_eq!(is_closed, text.is_empty(), "{:?}", unanswered.error);
        assert!(is_closed || matches!(unanswered.error.kind(), Kind::Response(_)));
        assert_eq!(raw.io_state(), IoState::Unusable);
        peer.finish();
    }
}

#[test]
fn test_connection_after_101_returns_at_once_with_the_bytes_behind_the_head() {
    let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
    let peer = Peer::new([vec![Step::Head, send(format!("{head}hello")), expect("and more"), send("bye")]]);
    let (reactor, raw) = opened(peer.address);
    run(&reactor, async {
        raw.send(REQUEST, WAIT_LIMIT).await.expect("a peer that listens");
        let answer = raw.answer(MethodKind::Other, &Limits::default(), WAIT_LIMIT).await;
        let mut response = answer.expect("an answer");
        assert_eq!((response.head.status, response.body.is_complete()), (101, true));
        assert_eq!(response.body.received(), head.len() as u64);
        assert!(response.body.ended().is_some());
        assert_eq!(raw.io_state(), IoState::Send);
        assert_eq!(receive(&raw, 3).await.expect("bytes"), b"hel");
        assert_eq!(receive(&raw, 100).await.expect("bytes"), b"lo");
        raw.send(b"and more", WAIT_LIMIT).await.expect("a peer that listens");
        assert_eq!(receive(&raw, 100).await.expect("bytes"), b"bye");
        assert_eq!(receive(&raw, 100).await.expect("the end"), b"");
    });
    peer.finish();
}

#[test]
fn test_limit_holds_for_each_wait_by_itself() {
    let (wait, go) = gate();
    let peer = Peer::new([vec![Step::Head, wait, Step::Gone]]);
    let (reactor, raw) = opened(peer.address);
    run(&reactor, async {
        raw.send(REQUEST, WAIT_LIMIT).await.expect("a peer that listens");
        let short = Some(Duration::from_millis(5));
        let late = receive_within(&raw, short).await.expect_err("nothing comes");
        assert!(matches!(late.kind(), Kind::Timeout(_)), "{late}");
        assert_eq!(raw.io_state(), IoState::Send);
        let late = raw.answer(MethodKind::Other, &Limits::default(), short).await.map(drop).expect_err("no answer");
        assert!(matches!(late.error.kind(), Kind::Timeout(_)), "{}", late.error);
        assert_eq!((late.error.phase(), raw.io_state()), (Phase::Head, IoState::Unusable));
    });
    go.send(()).expect("a peer that waits");
    peer.finish();
}

async fn receive_within(raw: &RawConnection, limit: Option<Duration>) -> Result<()> {
    let mut room = [MaybeUninit::uninit(); 8];
    raw.receive(&mut ReadBuf::uninit(&mut room), limit).await
}

#[test]
fn test_answer_dropped_in_the_middle_closes_the_connection() {
    let (notify, notified) = tell();
    let peer = Peer::new([vec![Step::Head, send("HTTP/1.1 200"), notify, Step::Closed]]);
    let (_reactor, raw) = opened(peer.address);
    {
        let limits = Limits::default();
        let mut asking = pin!(async {
            raw.send(REQUEST, WAIT_LIMIT).await.expect("a peer that listens");
            raw.answer(MethodKind::Other, &limits, WAIT_LIMIT).await.map(drop)
        });
        assert!(poll_once(asking.as_mut()).is_pending());
        notified.wait();
        assert!(poll_once(asking.as_mut()).is_pending());
    }
    assert_eq!(raw.io_state(), IoState::Unusable);
    peer.finish();
}

#[test]
fn test_body_cut_short_is_an_error() {
    let peer = Peer::new([vec![Step::Head, send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")]]);
    let (reactor, raw) = opened(peer.address);
    let error = run(&reactor, ask(&raw)).expect_err("a cut");
    assert!(matches!(error.kind(), Kind::Response(ResponseError::EarlyEnd(_))), "{error}");
    assert_eq!(raw.io_state(), IoState::Unusable);
    peer.finish();
}

#[test]
fn test_one_task_sends_while_another_receives() {
    let peer = Peer::new([vec![expect("ping"), send("pong"), Step::Closed]]);
    let (reactor, raw) = opened(peer.address);
    let mut receiving = Box::pin(receive(&raw, 8));
    assert!(poll_once(receiving.as_mut()).is_pending());
    assert!(raw.is_busy(Direction::Receive));
    assert_eq!(raw.io_state(), IoState::Send);
    let refused = run(&reactor, receive(&raw, 8)).expect_err("a second receiver");
    assert!(matches!(refused.kind(), Kind::Misuse(_)), "{refused}");
    run(&reactor, raw.send(b"ping", WAIT_LIMIT)).expect("a peer that listens");
    assert_eq!(run(&reactor, receiving).expect("an echo"), b"pong");
    assert_eq!(raw.io_state(), IoState::Send);
    drop(raw);
    peer.finish();
}

#[test]
fn test_request_needs_both_directions() {
    let (go_on, go) = gate();
    let peer = Peer::new([vec![go_on, Step::Closed]]);
    let (reactor, raw) = opened(peer.address);
    let mut receiving = Box::pin(receive(&raw, 8));
    assert!(poll_once(receiving.as_mut()).is_pending());
    let limits = Limits::default();
    let answer = run(&reactor, raw.answer(MethodKind::Other, &limits, WAIT_LIMIT)).map(drop);
    assert!(matches!(answer.expect_err("a receiver waits").error.kind(), Kind::Misuse(_)));
    // A receiver that gives up leaves the connection as it was.
    drop(receiving);
    assert_eq!(raw.io_state(), IoState::Send);
    go.send(()).expect("a peer that waits");
    drop(raw);
    peer.finish();
}

#[test]
fn test_close_ends_a_task_that_waits() {
    let peer = Peer::new([vec![Step::Closed]]);
    let (reactor, raw) = opened(peer.address);
    let mut receiving = Box::pin(receive(&raw, 8));
    assert!(poll_once(receiving.as_mut()).is_pending());
    raw.close();
    assert_eq!(run(&reactor, receiving).expect("its end"), b"");
    assert_eq!(raw.io_state(), IoState::Unusable);
    for error in [run(&reactor, receive(&raw, 8)).map(drop), run(&reactor, raw.send(b"x", WAIT_LIMIT))] {
        assert!(error.expect_err("a closed connection").to_string().contains("the connection is closed"));
    }
    peer.finish();
}
