//! One connection that its owner sends on and reads from by turns.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use engine::{Config, Conversation, Kind, Phase, Reactor, Result, SystemResolver, Turn};
use support::*;
use tokio::io::ReadBuf;
use wire::framing::Asked;
use wire::{Limits, ResponseError};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const PATIENT: Option<Duration> = Some(BOUND);

fn opened(address: SocketAddr) -> (Rc<Reactor>, Conversation) {
    let reactor = Reactor::new().expect("a reactor");
    let config = Config::new(&address.ip().to_string(), address.port());
    let conversation = run(&reactor, Conversation::open(&reactor, &config, &SystemResolver)).expect("a connection");
    (reactor, conversation)
}

async fn ask(conversation: &mut Conversation) -> Result<String> {
    conversation.send(REQUEST, PATIENT).await?;
    let answer = conversation.answer(Asked::Other, &Limits::default(), PATIENT).await;
    let mut response = answer.map_err(|unanswered| unanswered.error)?;
    let body = read_all(&mut response.body, 100).await?;
    Ok(String::from_utf8(body).expect("text"))
}

async fn receive(conversation: &mut Conversation, length: usize) -> Result<Vec<u8>> {
    let mut room = vec![MaybeUninit::uninit(); length];
    let mut room = ReadBuf::uninit(&mut room);
    conversation.receive(&mut room, PATIENT).await?;
    Ok(room.filled().to_vec())
}

#[test]
fn turns_alternate_on_one_connection() {
    let peer = Peer::new([vec![Step::Head, send(OK), Step::Head, trickle(OK), Step::Head, send(OK), Step::Closed]]);
    let (reactor, mut conversation) = opened(peer.address);
    for _ in 0..3 {
        assert_eq!(conversation.turn(), Turn::Ours);
        assert_eq!(run(&reactor, ask(&mut conversation)).expect("an answer"), "ok");
    }
    let number = conversation.descriptor().expect("a socket").number();
    assert!(number.is_some_and(|number| number > 2));
    drop(conversation);
    peer.finish();
}

#[test]
fn pieces_of_a_request_go_out_one_by_one() {
    let peer = Peer::new([vec![
        expect("POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nabcd"),
        send("HTTP/1.1 204 x\r\n\r\n"),
        Step::Closed,
    ]]);
    let (reactor, mut conversation) = opened(peer.address);
    run(&reactor, async {
        for piece in ["POST / HTTP/1.1\r\n", "Content-Length: 4\r\n\r\n", "", "ab", "cd"] {
            conversation.send(piece.as_bytes(), PATIENT).await.expect("a peer that listens");
        }
        let answer = conversation.answer(Asked::Other, &Limits::default(), PATIENT).await;
        assert_eq!(answer.expect("an answer").head.status, 204);
    });
    drop(conversation);
    peer.finish();
}

#[test]
fn nothing_is_sent_before_a_response_has_been_read() {
    let (wait, go) = gate();
    let peer = Peer::new([vec![
        Step::Head,
        send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe"),
        wait,
        send("llo"),
        Step::Head,
        send(OK),
        Step::Closed,
    ]]);
    let (reactor, mut conversation) = opened(peer.address);
    run(&reactor, async {
        conversation.send(REQUEST, PATIENT).await.expect("a peer that listens");
        let answer = conversation.answer(Asked::Other, &Limits::default(), PATIENT).await;
        let mut response = answer.expect("an answer");
        assert_eq!(conversation.turn(), Turn::Theirs);
        let refused = conversation.send(REQUEST, PATIENT).await.expect_err("it is not our turn");
        assert!(matches!(refused.kind(), Kind::Misuse(_)), "{refused}");
        go.send(()).expect("a peer that waits");
        assert_eq!(read_all(&mut response.body, 100).await.expect("a whole body"), b"hello");
        assert_eq!(conversation.turn(), Turn::Ours);
        assert_eq!(ask(&mut conversation).await.expect("an answer"), "ok");
    });
    drop(conversation);
    peer.finish();
}

#[test]
fn a_response_outlives_its_conversation_and_closes_the_connection_at_its_end() {
    let peer = Peer::new([vec![Step::Head, trickle(OK), Step::Closed]]);
    let (reactor, mut conversation) = opened(peer.address);
    run(&reactor, async {
        conversation.send(REQUEST, PATIENT).await.expect("a peer that listens");
        let answer = conversation.answer(Asked::Other, &Limits::default(), PATIENT).await;
        let mut response = answer.expect("an answer");
        let descriptor = conversation.descriptor().cloned().expect("a socket");
        drop(conversation);
        assert_eq!(read_all(&mut response.body, 1).await.expect("a whole body"), b"ok");
        assert_eq!(descriptor.number(), None);
    });
    peer.finish();
}

#[test]
fn nobodys_turn_comes_after_the_last_response_and_after_what_was_not_asked_for() {
    let last = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    let glued = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n";
    for text in [last, glued, "HTTP/1.1 200 OK\r\n\r\nok"] {
        let peer = Peer::new([vec![Step::Head, send(text), Step::HalfClose, Step::Closed]]);
        let (reactor, mut conversation) = opened(peer.address);
        assert_eq!(run(&reactor, ask(&mut conversation)).expect("an answer"), "ok", "{text}");
        assert_eq!(conversation.turn(), Turn::Nobody, "{text}");
        let refused = run(&reactor, conversation.send(REQUEST, PATIENT)).expect_err("it is closed");
        assert!(refused.is_disconnect(), "{refused}");
        peer.finish();
    }
    let (told, heard) = tell();
    let peer = Peer::new([vec![Step::Head, send(OK), Step::Close, told]]);
    let (reactor, mut conversation) = opened(peer.address);
    assert_eq!(run(&reactor, ask(&mut conversation)).expect("an answer"), "ok");
    heard.wait();
    assert_eq!(conversation.turn(), Turn::Nobody);
    peer.finish();
}

#[test]
fn what_came_instead_of_a_head_is_told() {
    for (text, received) in [("SSH-2.0-x\r\nmore", "SSH-2.0-x\r\nmore"), ("HTTP/1.1 200", "HTTP/1.1 200"), ("", "")] {
        let peer = Peer::new([vec![Step::Head, send(text)]]);
        let (reactor, mut conversation) = opened(peer.address);
        let unanswered = run(&reactor, async {
            conversation.send(REQUEST, PATIENT).await.expect("a peer that listens");
            conversation.answer(Asked::Other, &Limits::default(), PATIENT).await.map(drop).expect_err("no head")
        });
        assert_eq!(String::from_utf8_lossy(&unanswered.received), received);
        let is_closed = matches!(unanswered.error.kind(), Kind::Closed);
        assert_eq!(is_closed, text.is_empty(), "{:?}", unanswered.error);
        assert!(is_closed || matches!(unanswered.error.kind(), Kind::Response(_)));
        assert_eq!(conversation.turn(), Turn::Nobody);
        peer.finish();
    }
}

#[test]
fn a_switched_connection_is_ours_with_all_that_came_behind_the_head() {
    let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
    let peer = Peer::new([vec![Step::Head, send(&format!("{head}hello")), expect("and more"), send("bye")]]);
    let (reactor, mut conversation) = opened(peer.address);
    run(&reactor, async {
        conversation.send(REQUEST, PATIENT).await.expect("a peer that listens");
        let answer = conversation.answer(Asked::Other, &Limits::default(), PATIENT).await;
        let mut response = answer.expect("an answer");
        assert_eq!((response.head.status, response.body.is_complete()), (101, true));
        assert_eq!(response.body.received(), head.len() as u64);
        assert!(response.body.ended().is_some());
        assert_eq!(conversation.turn(), Turn::Ours);
        assert_eq!(receive(&mut conversation, 3).await.expect("bytes"), b"hel");
        assert_eq!(receive(&mut conversation, 100).await.expect("bytes"), b"lo");
        conversation.send(b"and more", PATIENT).await.expect("a peer that listens");
        assert_eq!(receive(&mut conversation, 100).await.expect("bytes"), b"bye");
        assert_eq!(receive(&mut conversation, 100).await.expect("the end"), b"");
    });
    peer.finish();
}

#[test]
fn patience_is_that_of_each_wait() {
    let (wait, go) = gate();
    let peer = Peer::new([vec![Step::Head, wait, Step::Gone]]);
    let (reactor, mut conversation) = opened(peer.address);
    run(&reactor, async {
        conversation.send(REQUEST, PATIENT).await.expect("a peer that listens");
        let short = Some(Duration::from_millis(5));
        let late = receive_within(&mut conversation, short).await.expect_err("nothing comes");
        assert!(matches!(late.kind(), Kind::Timeout(_)), "{late}");
        assert_eq!(conversation.turn(), Turn::Ours);
        let late = conversation.answer(Asked::Other, &Limits::default(), short).await.map(drop).expect_err("no answer");
        assert!(matches!(late.error.kind(), Kind::Timeout(_)), "{}", late.error);
        assert_eq!((late.error.phase(), conversation.turn()), (Phase::Head, Turn::Nobody));
    });
    go.send(()).expect("a peer that waits");
    peer.finish();
}

async fn receive_within(conversation: &mut Conversation, limit: Option<Duration>) -> Result<()> {
    let mut room = [MaybeUninit::uninit(); 8];
    conversation.receive(&mut ReadBuf::uninit(&mut room), limit).await
}

#[test]
fn giving_up_in_the_middle_of_an_answer_closes_the_connection() {
    let (told, heard) = tell();
    let peer = Peer::new([vec![Step::Head, send("HTTP/1.1 200"), told, Step::Closed]]);
    let (_reactor, mut conversation) = opened(peer.address);
    {
        let limits = Limits::default();
        let mut asking = pin!(async {
            conversation.send(REQUEST, PATIENT).await.expect("a peer that listens");
            conversation.answer(Asked::Other, &limits, PATIENT).await.map(drop)
        });
        assert!(poll_once(asking.as_mut()).is_pending());
        heard.wait();
        assert!(poll_once(asking.as_mut()).is_pending());
    }
    assert_eq!(conversation.turn(), Turn::Nobody);
    peer.finish();
}

#[test]
fn a_body_that_is_cut_short_is_no_whole_one() {
    let peer = Peer::new([vec![Step::Head, send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")]]);
    let (reactor, mut conversation) = opened(peer.address);
    let error = run(&reactor, ask(&mut conversation)).expect_err("a cut");
    assert!(matches!(error.kind(), Kind::Response(ResponseError::EarlyEnd(_))), "{error}");
    assert_eq!(conversation.turn(), Turn::Nobody);
    peer.finish();
}
