//! Heads before the final one.
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
fn interim_heads_are_passed_over() {
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
fn interim_heads_do_not_go_on_for_ever() {
    let peer = Peer::new([
        vec![Step::Head, send(HINTS.repeat(32) + OK), Step::Head, send(HINTS.repeat(33) + OK), Step::Gone],
        vec![serve(OK)],
    ]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        assert_eq!(answer(&client, get()).await.expect("as many as may be").0, 200);
        let refused = answer(&client, get()).await.expect_err("too many");
        assert!(matches!(refused.kind(), Kind::Response(ResponseError::TooManyInterim(32))), "{refused}");
        assert_eq!(answer(&client, get()).await.expect("an answer").0, 200);
    });
    drop(client);
    peer.finish();
}

#[test]
fn an_end_behind_an_interim_head_is_an_error_and_not_tried_again() {
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
fn the_body_waits_for_leave() {
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
fn a_final_head_instead_of_leave_is_the_answer_and_no_body_follows() {
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
fn a_peer_that_never_gives_leave_gets_the_body_after_a_second() {
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
fn a_peer_that_closes_instead_of_giving_leave() {
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
fn leave_is_not_waited_for_where_there_is_no_body() {
    let peer = Peer::new([vec![Step::Head, send(OK), Step::Closed]]);
    let (reactor, client) = client(&peer, 1);
    let started = Instant::now();
    assert_eq!(run(&reactor, answer(&client, expecting(""))).expect("an answer").0, 200);
    assert!(started.elapsed() < Duration::from_secs(1));
    drop(client);
    peer.finish();
}
