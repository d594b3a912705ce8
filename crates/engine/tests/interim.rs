//! Interim heads.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use engine::{Kind, RequestBody};
use support::*;
use wire::ResponseError;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";

fn expecting(body: &'static str) -> engine::Request {
    let lines = format!("Content-Length: {}\r\nExpect: 100-continue\r\n", body.len());
    request("POST", &lines, RequestBody::Bytes(body.into()))
}

#[test]
fn test_interim_heads_are_skipped() {
    let peer = Peer::new([vec![
        Step::Head,
        send([CONTINUE, HINTS, OK].concat()),
        Step::Head,
        trickle([HINTS, CONTINUE, HINTS, OK].concat()),
        Step::Head,
        send(CONTINUE),
        send(HINTS),
        send(HINTS),
        send(OK),
        Step::Closed,
    ]]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        for _ in 0..3 {
            assert_eq!(answer(&client, get()).await.expect("an answer"), (200, "ok".into()));
        }
    });
    drop(client);
    peer.finish();
}

#[test]
fn test_interim_heads_without_end_are_an_error() {
    // As large as a head may be, eight of them make a mebibyte.
    let large = ["HTTP/1.1 103 Early Hints\r\nLink: ", &"x".repeat(128 * 1024 - 36), "\r\n\r\n"].concat();
    assert_eq!(large.len(), 128 * 1024);
    let peer = Peer::new([
        vec![Step::Head, send(HINTS.repeat(1000) + OK), Step::Head, send(HINTS.repeat(1001) + OK), Step::Gone],
        vec![Step::Head, send(large.repeat(8) + OK), Step::Head, send(large.repeat(9) + OK), Step::Gone],
        vec![serve(OK)],
    ]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        assert_eq!(answer(&client, get()).await.expect("as many as may be").0, 200);
        let refused = answer(&client, get()).await.expect_err("too many");
        assert!(matches!(refused.kind(), Kind::Response(ResponseError::TooManyInterim(1000))), "{refused}");
        assert_eq!(answer(&client, get()).await.expect("as large as may be").0, 200);
        let refused = answer(&client, get()).await.expect_err("too large");
        assert!(matches!(refused.kind(), Kind::Response(ResponseError::InterimTooLarge(1_048_576))), "{refused}");
        assert_eq!(answer(&client, get()).await.expect("an answer").0, 200);
    });
    drop(client);
    peer.finish();
}

#[test]
fn test_end_behind_an_interim_head_is_an_error_and_not_retried() {
    let peer = Peer::new([vec![Step::Head, send(OK), Step::Head, send(HINTS)]]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        assert_eq!(answer(&client, get()).await.expect("an answer").0, 200);
        let cut = answer(&client, get()).await.expect_err("no final head");
        assert!(matches!(cut.kind(), Kind::Response(ResponseError::EarlyEnd(_))), "{cut}");
    });
    peer.finish();
}

#[test]
fn test_body_waits_for_100_continue() {
    let head = "POST / HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    let peer = Peer::new([vec![
        expect(head),
        send(CONTINUE),
        expect("hello"),
        send(OK),
        expect(head),
        trickle([HINTS, CONTINUE].concat()),
        expect("hello"),
        send(OK),
        Step::Closed,
    ]]);
    let (reactor, client) = client(&peer, 1);
    let started = Instant::now();
    run(&reactor, async {
        for _ in 0..2 {
            assert_eq!(answer(&client, expecting("hello")).await.expect("an answer").0, 200);
        }
    });
    assert!(started.elapsed() < Duration::from_secs(1), "leave was given at once");
    drop(client);
    peer.finish();
}

#[test]
fn test_final_head_instead_of_100_continue_is_the_response_without_a_body_sent() {
    for interim in ["", HINTS] {
        let refusal = format!("{interim}HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno");
        let peer = Peer::new([vec![Step::Head, send(refusal), Step::Closed], vec![serve(OK)]]);
        let (reactor, client) = client(&peer, 1);
        run(&reactor, async {
            assert_eq!(answer(&client, expecting("hello")).await.expect("an answer"), (413, "no".into()));
            assert_eq!(answer(&client, get()).await.expect("an answer"), (200, "ok".into()));
        });
        drop(client);
        peer.finish();
    }
}

#[test]
fn test_body_is_sent_after_a_second_without_100_continue() {
    let (came, has_come) = tell();
    let peer = Peer::new([vec![Step::Head, came, expect("hello"), send([CONTINUE, OK].concat()), Step::Closed]]);
    let (reactor, client) = client(&peer, 1);
    let started = Instant::now();
    assert_eq!(run(&reactor, answer(&client, expecting("hello"))).expect("an answer"), (200, "ok".into()));
    has_come.wait();
    let elapsed = started.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(2)).contains(&elapsed), "{elapsed:?}");
    drop(client);
    peer.finish();
}

#[test]
fn test_close_instead_of_100_continue_is_an_error() {
    let peer = Peer::new([vec![Step::Head], vec![Step::Head, send(HINTS)]]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        let closed = answer(&client, expecting("hello")).await.expect_err("closed");
        assert!(matches!(closed.kind(), Kind::Closed), "{closed}");
        let cut = answer(&client, expecting("hello")).await.expect_err("closed");
        assert!(matches!(cut.kind(), Kind::Response(ResponseError::EarlyEnd(_))), "{cut}");
    });
    assert_eq!(client.pool().statistics().in_use, 0);
    peer.finish();
}

#[test]
fn test_empty_body_does_not_wait_for_100_continue() {
    let peer = Peer::new([vec![Step::Head, send(OK), Step::Closed]]);
    let (reactor, client) = client(&peer, 1);
    let started = Instant::now();
    assert_eq!(run(&reactor, answer(&client, expecting(""))).expect("an answer").0, 200);
    assert!(started.elapsed() < Duration::from_secs(1));
    drop(client);
    peer.finish();
}
