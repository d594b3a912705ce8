//! Connections that the peer closed while they were idle, or just as a request uses them.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use engine::{Client, FileBody, Kind, Reactor, Request, RequestBody, SystemResolver};
use support::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The way in which a peer ends a connection.
type End = fn() -> Step;

fn put() -> Request {
    request("PUT", "Content-Length: 5\r\n", RequestBody::Bytes("hello".into()))
}

async fn expect_ok(client: &Client, request: Request) {
    assert_eq!(answer(client, request).await.expect("an answer"), (200, "ok".into()));
}

#[test]
fn test_idempotent_request_is_retried_when_the_peer_closed_meanwhile() {
    let file = || std::fs::File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).expect("a file");
    let package = || FileBody { file: file(), offset: 1, length: 7 };
    let cases: [(End, Request, &str); 6] = [
        (|| Step::Close, get(), ""),
        (|| Step::Reset, get(), ""),
        (|| Step::Close, put(), "hello"),
        (|| Step::Reset, put(), "hello"),
        (|| Step::Close, request("DELETE", "", RequestBody::Bytes(Bytes::new())), ""),
        (|| Step::Close, request("PUT", "Content-Length: 7\r\n", RequestBody::File(package())), "package"),
    ];
    for (end, request, body) in cases {
        let peer = Peer::new([
            vec![Step::Head, send(OK), Step::Head, expect(body), end()],
            vec![Step::Head, expect(body), send(OK), Step::Closed],
        ]);
        let (reactor, client) = client(&peer, 1);
        run(&reactor, async {
            expect_ok(&client, get()).await;
            expect_ok(&client, request).await;
        });
        drop(client);
        assert_eq!(peer.connections(), 2);
        peer.finish();
    }
}

#[test]
fn test_request_that_is_not_idempotent_is_never_sent_twice() {
    let chunked = || request("POST", "Transfer-Encoding: chunked\r\n", RequestBody::Chunked(Pieces::of(["hello"])));
    let cases: [(End, Request, &str); 4] = [
        (|| Step::Close, post("hello"), "hello"),
        (|| Step::Reset, post("hello"), "hello"),
        (|| Step::Close, post(""), ""),
        (|| Step::Close, chunked(), "5\r\nhello\r\n0\r\n\r\n"),
    ];
    for (end, request, body) in cases {
        let peer = Peer::new([vec![Step::Head, send(OK), Step::Head, expect(body), end()], vec![serve(OK)]]);
        let (reactor, client) = client(&peer, 1);
        run(&reactor, async {
            expect_ok(&client, get()).await;
            let failed = answer(&client, request).await.expect_err("the request may have arrived");
            assert!(failed.is_disconnect(), "{failed}");
            assert_eq!(peer.connections(), 1);
            expect_ok(&client, get()).await;
        });
        drop(client);
        peer.finish();
    }
}

#[test]
fn test_body_that_was_read_is_not_sent_again() {
    let body = RequestBody::Chunked(Pieces::of(["hello"]));
    let request = request("PUT", "Transfer-Encoding: chunked\r\n", body);
    let peer = Peer::new([vec![Step::Head, send(OK), Step::Head, expect("5\r\nhello\r\n0\r\n\r\n")]]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        expect_ok(&client, get()).await;
        let failed = answer(&client, request).await.expect_err("half a body");
        assert!(failed.is_disconnect(), "{failed}");
    });
    peer.finish();
}

#[test]
fn test_new_connection_that_is_closed_is_not_retried() {
    let peer = Peer::new([vec![Step::Head, send(OK), Step::Head], vec![Step::Head], vec![Step::Head]]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        expect_ok(&client, get()).await;
        let failed = answer(&client, get()).await.expect_err("closed twice");
        assert!(matches!(failed.kind(), Kind::Closed), "{failed}");
        assert_eq!(peer.connections(), 2);
        let failed = answer(&client, get()).await.expect_err("closed at once");
        assert!(matches!(failed.kind(), Kind::Closed), "{failed}");
    });
    peer.finish();
}

#[test]
fn test_response_that_has_begun_is_not_retried() {
    let peer = Peer::new([vec![Step::Head, send(OK), Step::Head, send("HTTP/1.1 200 OK\r\n")]]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        expect_ok(&client, get()).await;
        let failed = answer(&client, get()).await.expect_err("half a head");
        assert!(!failed.is_disconnect(), "{failed}");
    });
    peer.finish();
}

/// Creates a client with one idle connection that its peer has closed, in that way.
fn with_closed_idle(end: Step, then: impl AsyncFnOnce(&std::rc::Rc<Reactor>, &Client)) {
    let ((closed, open), (ended, has_ended)) = (gate(), tell());
    let peer = Peer::new([vec![Step::Head, send(OK), closed, end, ended], vec![Step::Head, expect("hello"), send(OK)]]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        expect_ok(&client, get()).await;
        open.send(()).expect("a peer that waits");
        has_ended.wait();
        then(&reactor, &client).await;
        expect_ok(&client, post("hello")).await;
    });
    assert_eq!(client.pool().statistics().opened, 2);
    drop(client);
    peer.finish();
}

#[test]
fn test_closed_idle_connection_is_found_before_it_is_used() {
    for end in [Step::Close, Step::Reset] {
        with_closed_idle(end, async |reactor, _| turn(reactor).await);
    }
    // The reactor has not run since, although the close was long ago.
    for end in [Step::Close, Step::Reset] {
        with_closed_idle(end, async |_, _| {
            let idle = Instant::now();
            while idle.elapsed() < Duration::from_millis(10) {
                std::thread::yield_now();
            }
        });
    }
}

#[test]
fn test_idle_connection_closed_a_moment_ago_gets_no_request() {
    for end in [Step::Close, Step::Reset] {
        with_closed_idle(end, async |_, _| ());
    }
}

#[test]
fn test_closed_connection_is_not_handed_on() {
    let ((closed, open), (ended, has_ended)) = (gate(), tell());
    let peer = Peer::new([
        vec![Step::Head, send(&OK[..OK.len() - 1]), closed, send("k"), Step::HalfClose, ended, Step::Closed],
        vec![Step::Head, expect("hello"), send(OK), Step::Closed],
    ]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        let mut response = client.send(get(), &SystemResolver).await.expect("a head");
        let mut queued = Box::pin(answer(&client, post("hello")));
        assert!(poll_once(queued.as_mut()).is_pending());
        open.send(()).expect("a peer that waits");
        has_ended.wait();
        assert_eq!(read_all(&mut response.body, 100).await.expect("a body"), b"ok");
        assert_eq!(queued.await.expect("an answer"), (200, "ok".into()));
    });
    drop(client);
    peer.finish();
}

#[test]
fn test_streamed_body_that_was_not_sent_is_not_lost() {
    // The connection was reset unnoticed: the first write fails, before any byte of the body is read.
    let ((closed, open), (ended, has_ended)) = (gate(), tell());
    let peer = Peer::new([
        vec![Step::Head, send(OK), closed, Step::Reset, ended],
        vec![Step::Head, expect("5\r\nhello\r\n0\r\n\r\n"), send(OK)],
    ]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        expect_ok(&client, get()).await;
        open.send(()).expect("a peer that waits");
        has_ended.wait();
        let body = RequestBody::Chunked(Pieces::of(["hello"]));
        expect_ok(&client, request("PUT", "Transfer-Encoding: chunked\r\n", body)).await;
    });
    drop(client);
    peer.finish();
}
