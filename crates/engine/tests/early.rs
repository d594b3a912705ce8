//! Responses that arrive before the request is sent completely.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write;

use bytes::Bytes;
use engine::{FileBody, Request, RequestBody};
use support::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const REFUSAL: &str = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno";
/// More than any pair of socket buffers holds.
const LARGE: usize = 32 * 1024 * 1024;

/// Sends the same large body in each of its forms.
fn test_large_requests_are_sent_and_answered() -> Vec<Request> {
    let counted = format!("Content-Length: {LARGE}\r\n");
    let pieces = || Pieces::of(std::iter::repeat_n(Bytes::from(vec![b'x'; LARGE / 32]), 32));
    let path =
        std::env::temp_dir().join(format!("engine-early-{}-{:?}", std::process::id(), std::thread::current().id()));
    let mut file = std::fs::File::options().create_new(true).read(true).write(true).open(&path).expect("a new file");
    std::fs::remove_file(&path).expect("a file's name");
    file.write_all(&vec![b'x'; LARGE]).expect("a writable file");
    vec![
        post(vec![b'x'; LARGE]),
        request("POST", "Transfer-Encoding: chunked\r\n", RequestBody::Chunked(pieces())),
        request("POST", &counted, RequestBody::Counted(pieces(), LARGE as u64)),
        request("POST", &counted, RequestBody::File(FileBody { file, offset: 0, length: LARGE as u64 })),
    ]
}

#[test]
fn test_refusal_by_a_peer_that_stops_reading_is_the_response() {
    for large in test_large_requests_are_sent_and_answered() {
        let peer = Peer::new([vec![Step::Head, send(REFUSAL), Step::Gone], vec![serve(OK)]]);
        let (reactor, client) = client(&peer, 1);
        run(&reactor, async {
            assert_eq!(answer(&client, large).await.expect("an answer"), (413, "no".into()));
            assert_eq!(client.pool().statistics().idle, 0, "half a request is on its way");
            assert_eq!(answer(&client, get()).await.expect("an answer").0, 200);
        });
        drop(client);
        peer.finish();
    }
}

#[test]
fn test_refusal_before_a_reset_is_the_response() {
    // Once before the client has seen it, and once while it is still sending; and a close with bytes unread is a reset.
    for (drained, last) in [(0, Step::Reset), (LARGE / 2, Step::Reset), (0, Step::Close), (LARGE / 2, Step::Close)] {
        let (notify, notified) = tell();
        let script = vec![Step::Head, Step::Drain(drained), send(REFUSAL), last, notify];
        let peer = Peer::new([script]);
        let (reactor, client) = client(&peer, 1);
        let answer = run(&reactor, answer(&client, post(vec![b'x'; LARGE]))).expect("an answer");
        assert_eq!(answer, (413, "no".into()));
        notified.wait();
        assert_eq!(client.pool().statistics().in_use, 0);
        peer.finish();
    }
}

#[test]
fn test_refusal_that_comes_slowly_is_the_response() {
    for large in test_large_requests_are_sent_and_answered() {
        let peer = Peer::new([vec![Step::Head, Step::Drain(100_000), trickle(REFUSAL), Step::Gone]]);
        let (reactor, client) = client(&peer, 1);
        assert_eq!(run(&reactor, answer(&client, large)).expect("an answer"), (413, "no".into()));
        peer.finish();
    }
}

/// Runs until the client, which is still sending, has read the response that the peer sent before it read the body.
fn run_into_the_answer<F: Future>(
    reactor: &std::rc::Rc<engine::Reactor>,
    mut sending: std::pin::Pin<&mut F>,
    was_sent: &Heard,
) {
    run(reactor, async {
        assert!(poll_once(sending.as_mut()).is_pending());
        turn(reactor).await;
        assert!(poll_once(sending.as_mut()).is_pending());
        was_sent.wait();
        for _ in 0..3 {
            turn(reactor).await;
            assert!(poll_once(sending.as_mut()).is_pending(), "the peer does not read the body");
        }
    });
}

#[test]
fn test_early_response_that_refuses_nothing_does_not_stop_the_body() {
    let ((sent, was_sent), (closed, open)) = (tell(), gate());
    let script = vec![Step::Head, send(OK), sent, closed, Step::Drain(LARGE), Step::Head, send(OK), Step::Closed];
    let peer = Peer::new([script]);
    let (reactor, client) = client(&peer, 1);
    let mut sending = Box::pin(answer(&client, post(vec![b'x'; LARGE])));
    run_into_the_answer(&reactor, sending.as_mut(), &was_sent);
    open.send(()).expect("a peer that waits");
    assert_eq!(run(&reactor, sending).expect("an answer"), (200, "ok".into()));
    assert_eq!(run(&reactor, answer(&client, get())).expect("an answer"), (200, "ok".into()));
    drop(client);
    peer.finish();
}

#[test]
fn test_early_response_before_the_connection_breaks_is_the_response() {
    for last in [Step::Reset, Step::Close] {
        let ((sent, was_sent), (closed, open)) = (tell(), gate());
        let peer = Peer::new([vec![Step::Head, send(OK), sent, closed, last]]);
        let (reactor, client) = client(&peer, 1);
        let mut sending = Box::pin(answer(&client, post(vec![b'x'; LARGE])));
        run_into_the_answer(&reactor, sending.as_mut(), &was_sent);
        open.send(()).expect("a peer that waits");
        assert_eq!(run(&reactor, sending).expect("an answer"), (200, "ok".into()));
        assert_eq!(client.pool().statistics().idle, 0);
        peer.finish();
    }
}

#[test]
fn test_early_response_that_closes_stops_the_body() {
    let closing = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    let peer = Peer::new([vec![Step::Head, send(closing), Step::Gone]]);
    let (reactor, client) = client(&peer, 1);
    let answer = run(&reactor, answer(&client, post(vec![b'x'; LARGE]))).expect("an answer");
    assert_eq!(answer, (200, "ok".into()));
    peer.finish();
}

#[test]
fn test_interim_heads_do_not_stop_the_body() {
    let interim = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
    let peer = Peer::new([vec![Step::Head, send(interim), Step::Drain(LARGE), send(OK), Step::Closed]]);
    let (reactor, client) = client(&peer, 1);
    let answer = run(&reactor, answer(&client, post(vec![b'x'; LARGE]))).expect("an answer");
    assert_eq!(answer, (200, "ok".into()));
    drop(client);
    peer.finish();
}
