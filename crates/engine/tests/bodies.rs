//! Ends of bodies, and truncated or malformed bodies.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use engine::{Kind, Phase, SystemResolver};
use support::*;
use wire::ResponseError;
use wire::framing::CloseCause;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn test_body_without_a_length_ends_with_the_connection() {
    // The end comes in the same packet as the data, or behind it; with the head, or in pieces of its own.
    let (sent, was_sent) = tell();
    let head = "HTTP/1.1 200 OK\r\n\r\n";
    let peer = Peer::new([
        vec![Step::Head, send(format!("{head}all there is"))],
        vec![Step::Head, trickle(head), trickle("all there is")],
        vec![Step::Head, send("HTTP/1.0 200 OK\r\n\r\nall there is"), Step::HalfClose, Step::Closed],
        vec![Step::Head, send(head), Step::Repeat(vec![b'x'; 100_000], 20), Step::HalfClose, sent, Step::Closed],
        vec![Step::Head, send(head)],
    ]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        for _ in 0..3 {
            let (response, body) = fetch(&client, get()).await.expect("an answer");
            assert_eq!(body, b"all there is");
            assert_eq!(response.body.close_cause(), Some(CloseCause::CloseDelimitedBody));
            assert!(response.body.is_complete());
        }
        let (_, body) = fetch(&client, get()).await.expect("an answer");
        assert_eq!(body.len(), 2_000_000);
        was_sent.wait();
        assert_eq!(answer(&client, get()).await.expect("an answer"), (200, String::new()));
    });
    assert_eq!((client.pool().statistics().idle, client.pool().statistics().in_use), (0, 0));
    peer.finish();
}

#[test]
fn test_end_in_one_event_with_the_data_is_seen() {
    // Everything has arrived before the client's first read, in one event: no other event follows.
    for piece in [1, 2, 100, 8 * 1024, 100_000] {
        let ((closed, open), (sent, was_sent)) = (gate(), tell());
        let head = "HTTP/1.1 200 OK\r\n\r\n";
        let peer = Peer::new([vec![Step::Head, send(head), closed, send("rest"), Step::HalfClose, sent, Step::Closed]]);
        let (reactor, client) = client(&peer, 1);
        run(&reactor, async {
            let mut response = client.send(get(), &SystemResolver).await.expect("an answer");
            open.send(()).expect("a peer that waits");
            was_sent.wait();
            assert_eq!(read_all(&mut response.body, piece).await.expect("a body"), b"rest");
        });
        peer.finish();
    }
}

#[test]
fn test_chunks_and_trailers_byte_by_byte_are_decoded() {
    let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                5;a=b\r\nhello\r\n7\r\n, world\r\n0\r\nX-Sum: 9\r\nY: z\r\n\r\n";
    let peer = Peer::new([vec![Step::Head, trickle(text), Step::Head, send(text), Step::Closed]]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        for _ in 0..2 {
            let (response, body) = fetch(&client, get()).await.expect("an answer");
            assert_eq!(body, b"hello, world");
            let trailers: Vec<_> = response.body.trailers().expect("chunked").iter().collect();
            assert_eq!(trailers, [(b"X-Sum".as_slice(), b"9".as_slice()), (b"Y", b"z")]);
            assert_eq!(response.head.headers.len(), 1);
        }
    });
    drop(client);
    peer.finish();
}

#[test]
fn test_chunks_larger_than_any_buffer_are_decoded() {
    let piece = [b"30000\r\n".as_slice(), &[b'x'; 0x30000], b"\r\n"].concat();
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let whole = || [Step::Head, send(head), Step::Repeat(piece.clone(), 10), send("0\r\n\r\n")];
    let peer = Peer::new([whole().into_iter().chain(whole()).chain(whole()).chain([Step::Closed]).collect()]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        for room in [10_000_000, 16 * 1024, 1000] {
            let mut response = client.send(get(), &SystemResolver).await.expect("an answer");
            let body = read_all(&mut response.body, room).await.expect("a body");
            assert_eq!(body.len(), 10 * 0x30000);
        }
    });
    drop(client);
    peer.finish();
}

#[test]
fn test_early_end_is_an_error_for_each_reader() {
    let counted = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let in_size = format!("{chunked}5\r\nhello\r\n1");
    let in_chunk = format!("{chunked}a\r\nhello");
    let at_end = format!("{chunked}5\r\nhello\r\n");
    let in_last = format!("{chunked}5\r\nhello\r\n0\r\n");
    let in_trailers = format!("{chunked}5\r\nhello\r\n0\r\nX: y\r\n");
    for text in [counted, &in_size, &in_chunk, &at_end, &in_last, &in_trailers] {
        for (piece, whole) in [(100, true), (100, false), (16 * 1024, false), (1, true)] {
            let writing = if whole { send(text) } else { trickle(text) };
            let peer = Peer::new([vec![Step::Head, writing], vec![serve(OK)]]);
            let (reactor, client) = client(&peer, 1);
            run(&reactor, async {
                let mut response = client.send(get(), &SystemResolver).await.expect("a head");
                let (mut body, mut room) = (Vec::new(), vec![0; piece]);
                let failure = loop {
                    match read_piece(&mut response.body, &mut room).await {
                        Ok(0) => panic!("{text:?} seems to be whole"),
                        Ok(read) => body.extend_from_slice(&room[..read]),
                        Err(failure) => break failure,
                    }
                };
                assert_eq!(body, b"hello", "{text:?}");
                assert!(matches!(failure.kind(), Kind::Response(ResponseError::EarlyEnd(_))), "{failure}");
                assert_eq!(failure.phase(), Phase::Body);
                assert!(failure.peer().is_some());
                for _ in 0..3 {
                    let again = read_piece(&mut response.body, &mut room).await.expect_err("still cut short");
                    assert!(matches!(again.kind(), Kind::Response(ResponseError::EarlyEnd(_))), "{again}");
                    assert!(response.body.fetch().await.is_err());
                }
                assert!(!response.body.is_complete() && response.body.is_detached());
                assert_eq!(client.pool().statistics().in_use, 0);
                assert_eq!(answer(&client, get()).await.expect("an answer").0, 200);
            });
            drop(client);
            peer.finish();
        }
    }
}

#[test]
fn test_reset_of_a_close_delimited_body_is_an_error() {
    let ((closed, open), (sent, was_sent)) = (gate(), tell());
    let peer = Peer::new([vec![Step::Head, send("HTTP/1.1 200 OK\r\n\r\nhello"), sent, closed, Step::Reset]]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        let mut response = client.send(get(), &SystemResolver).await.expect("a head");
        was_sent.wait();
        let mut room = [0; 100];
        assert_eq!(read_piece(&mut response.body, &mut room).await.expect("some of it"), 5);
        open.send(()).expect("a peer that waits");
        let failure = read_piece(&mut response.body, &mut room).await.expect_err("a reset");
        assert!(matches!(failure.kind(), Kind::Io(_)), "{failure}");
        assert!(read_piece(&mut response.body, &mut room).await.is_err());
        assert!(!response.body.is_complete());
    });
    peer.finish();
}

#[test]
fn test_data_before_a_broken_chunk_is_delivered_before_the_error() {
    // In one packet with the error, or byte by byte.
    let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nworld!";
    let (head, body) = text.split_at(text.len() - "5\r\nhello\r\n5\r\nworld!".len());
    for steps in [vec![send(text)], vec![send(head), send(body)], vec![trickle(text)], vec![send(head), trickle(body)]]
    {
        for piece in [1, 100, 16 * 1024] {
            let peer = Peer::new([vec![Step::Head].into_iter().chain(steps_of(&steps)).chain([Step::Gone]).collect()]);
            let (reactor, client) = client(&peer, 1);
            run(&reactor, async {
                let mut response = client.send(get(), &SystemResolver).await.expect("a head");
                let (mut body, mut room) = (Vec::new(), vec![0; piece]);
                let failure = loop {
                    match read_piece(&mut response.body, &mut room).await {
                        Ok(read) => body.extend_from_slice(&room[..read]),
                        Err(failure) => break failure,
                    }
                };
                assert!(matches!(failure.kind(), Kind::Response(ResponseError::ChunkEnd)), "{failure}");
                assert_eq!(body.escape_ascii().to_string(), "helloworld");
                let again = read_piece(&mut response.body, &mut room).await.expect_err("still broken");
                assert!(matches!(again.kind(), Kind::Response(ResponseError::EarlyEnd(_))), "{again}");
            });
            peer.finish();
        }
    }
}

fn steps_of(steps: &[Step]) -> Vec<Step> {
    let copy = |step: &Step| match step {
        Step::Send(bytes) => Step::Send(bytes.clone()),
        Step::Trickle(bytes) => Step::Trickle(bytes.clone()),
        _ => panic!("not a step that writes"),
    };
    steps.iter().map(copy).collect()
}

#[test]
fn test_head_that_ends_early_is_an_error() {
    let peer = Peer::new([vec![Step::Head, send("HTTP/1.1 200 OK\r\nContent-Le")], vec![Step::Head]]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        let cut = answer(&client, get()).await.expect_err("half a head");
        assert!(matches!(cut.kind(), Kind::Response(ResponseError::EarlyEnd(_))), "{cut}");
        assert_eq!(cut.phase(), Phase::Head);
        let none = answer(&client, get()).await.expect_err("no head");
        assert!(matches!(none.kind(), Kind::Closed), "{none}");
    });
    assert_eq!(client.pool().statistics().in_use, 0);
    peer.finish();
}

#[test]
fn test_body_dropped_before_its_end_closes_the_connection() {
    let large = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome";
    let peer = Peer::new([vec![Step::Head, send(large), Step::Closed], vec![serve(OK)]]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        let mut response = client.send(get(), &SystemResolver).await.expect("a head");
        assert_eq!(read_piece(&mut response.body, &mut [0; 2]).await.expect("some of it"), 2);
        assert_eq!(client.pool().statistics().in_use, 1);
        drop(response);
        assert_eq!(client.pool().statistics().in_use, 0);
        assert_eq!(answer(&client, get()).await.expect("an answer").0, 200);
    });
    drop(client);
    peer.finish();
}

#[test]
fn test_read_that_is_cancelled_fails_and_is_not_the_end_of_the_body() {
    let head = "HTTP/1.1 200 OK\r\n\r\n";
    let peer =
        Peer::new([vec![Step::Head, send(format!("{head}some of it")), Step::Closed], vec![Step::Head, send(OK)]]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        let mut response = client.send(get(), &SystemResolver).await.expect("an answer");
        response.body.stop().expect("something to wait for").cancel();
        // The bytes received so far can still be read.
        while response.body.ready().len() < 10 && response.body.fetch().await.is_ok() {}
        let error = response.body.fetch().await.expect_err("a cancelled wait receives nothing");
        assert_eq!(error.phase(), Phase::Body);
        assert!(response.body.is_detached() && !response.body.is_complete());
        let (mut response, _) = fetch(&client, get()).await.expect("an answer on the next connection");
        assert!(response.body.stop().is_none());
    });
    assert_eq!(client.pool().statistics().in_use, 0);
    peer.finish();
}
