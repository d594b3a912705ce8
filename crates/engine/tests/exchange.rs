//! One request after another: the bytes sent, the responses, and the reuse of connections.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;

use bytes::Bytes;
use engine::connect::Resolution;
use engine::response::Incoming;
use engine::{FileBody, Kind, Phase, RequestBody, Resolver, SystemResolver};
use support::*;
use wire::framing::CloseCause;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn temporary_file(content: &[u8]) -> std::fs::File {
    let path = std::env::temp_dir().join(format!("engine-{}-{:p}", std::process::id(), content));
    let open = std::fs::OpenOptions::new().create_new(true).read(true).write(true).open(&path);
    let mut file = open.expect("a new file");
    std::fs::remove_file(&path).expect("a file's name");
    file.write_all(content).expect("a writable file");
    file
}

#[test]
fn test_requests_follow_each_other_on_one_connection() {
    let once = || [expect("GET / HTTP/1.1\r\nX: y\r\n\r\n"), send(OK)];
    let peer = Peer::new([once().into_iter().chain(once()).chain(once()).chain([Step::Closed]).collect()]);
    let (reactor, client) = client(&peer, 5);
    run(&reactor, async {
        for _ in 0..3 {
            let request = request("GET", "X: y\r\n", RequestBody::Bytes(Bytes::new()));
            let (response, body) = fetch(&client, request).await.expect("an answer");
            assert_eq!((response.head.status, response.head.reason(), body), (200, b"OK".as_slice(), b"ok".to_vec()));
            assert!(response.body.is_complete());
            assert_eq!(response.body.close_cause(), None);
        }
    });
    let statistics = client.pool().statistics();
    assert_eq!((statistics.idle, statistics.in_use, statistics.opened, statistics.reused), (1, 0, 1, 2));
    drop(client);
    peer.finish();
}

#[test]
fn test_connection_is_reused_after_any_way_of_reading_the_body() {
    const LENGTH: usize = 300_000;
    let answer = [format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n").into_bytes(), vec![b'x'; LENGTH]];
    let peer = Peer::new([vec![serve(answer.concat())]]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        for piece in [LENGTH, 2 * LENGTH, 16 * 1024, 1000, 10_000] {
            let mut response = client.send(get(), &SystemResolver).await.expect("an answer");
            assert_eq!(response.body.remaining(), Some(LENGTH as u64));
            let body = read_all(&mut response.body, piece).await.expect("a body");
            assert_eq!(body, vec![b'x'; LENGTH]);
        }
        let mut response = client.send(get(), &SystemResolver).await.expect("an answer");
        while response.body.fetch().await.expect("a body") {}
        assert_eq!(response.body.ready().len(), LENGTH);
    });
    assert_eq!(client.pool().statistics().opened, 1);
    drop(client);
    peer.finish();
}

#[test]
fn test_last_byte_of_a_body_returns_the_connection() {
    let peer = Peer::new([vec![Step::Head, send(OK), Step::Closed]]);
    let (reactor, client) = client(&peer, 1);
    let mut response = run(&reactor, client.send(get(), &SystemResolver)).expect("an answer");
    let whole = |body: &Incoming| body.is_complete() && body.is_detached();
    assert!(whole(&response.body), "its body came with its head");
    assert_eq!(client.pool().statistics().idle, 1);
    assert_eq!(response.body.remaining(), Some(2));
    assert_eq!(run(&reactor, read_all(&mut response.body, 1)).expect("a body"), b"ok");
    drop(client);
    peer.finish();
}

#[test]
fn test_bodies_are_sent_as_they_were_given() {
    let file = temporary_file(b"_the file_");
    let large = Bytes::from(vec![b'L'; 5_000_000]);
    let cases: Vec<(&str, RequestBody, Vec<u8>)> = vec![
        ("Content-Length: 5", RequestBody::Bytes("hello".into()), b"hello".to_vec()),
        ("Content-Length: 5000000", RequestBody::Bytes(large.clone()), large.to_vec()),
        (
            "Transfer-Encoding: chunked",
            RequestBody::Chunked(Pieces::of(["hello", "", ", world, that is"])),
            b"5\r\nhello\r\n10\r\n, world, that is\r\n0\r\n\r\n".to_vec(),
        ),
        ("Transfer-Encoding: chunked", RequestBody::Chunked(Pieces::of([""; 0])), b"0\r\n\r\n".to_vec()),
        (
            "Content-Length: 12",
            RequestBody::Counted(Pieces::of(["hello", "", ", world"]), 12),
            b"hello, world".to_vec(),
        ),
        ("Content-Length: 0", RequestBody::Counted(Pieces::of([""]), 0), Vec::new()),
        (
            "Content-Length: 8",
            RequestBody::File(FileBody { file: file.try_clone().expect("a descriptor"), offset: 1, length: 8 }),
            b"the file".to_vec(),
        ),
        ("Content-Length: 0", RequestBody::File(FileBody { file, offset: 10, length: 0 }), Vec::new()),
    ];
    let mut script = Vec::new();
    let mut requests = Vec::new();
    for (line, body, bytes) in cases {
        script.extend([expect(format!("POST / HTTP/1.1\r\n{line}\r\n\r\n")), expect(bytes), send(OK)]);
        requests.push(request("POST", &format!("{line}\r\n"), body));
    }
    script.push(Step::Closed);
    let peer = Peer::new([script]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        for request in requests {
            assert_eq!(answer(&client, request).await.expect("an answer"), (200, "ok".into()));
        }
    });
    drop(client);
    peer.finish();
}

#[test]
fn test_large_file_is_sent_by_the_kernel() {
    let content: Vec<u8> = (0..3_000_001u32).map(|i| (i % 251) as u8).collect();
    let file = temporary_file(&content);
    let peer = Peer::new([vec![Step::Head, expect(&content[1..]), send(OK), Step::Closed]]);
    let (reactor, client) = client(&peer, 1);
    let body = RequestBody::File(FileBody { file, offset: 1, length: 3_000_000 });
    let request = request("PUT", "Content-Length: 3000000\r\n", body);
    assert_eq!(run(&reactor, answer(&client, request)).expect("an answer"), (200, "ok".into()));
    drop(client);
    peer.finish();
}

#[test]
fn test_body_that_contradicts_its_length_closes_the_connection() {
    let file = temporary_file(b"short");
    let cases = [
        (RequestBody::Counted(Pieces::of(["hello", "!"]), 5), "the body is longer than its Content-Length"),
        (RequestBody::Counted(Pieces::of(["hell"]), 5), "the body is shorter than its Content-Length"),
        (RequestBody::Counted(Pieces::of(["!"]), 0), "the body is longer than its Content-Length"),
        (RequestBody::File(FileBody { file, offset: 1, length: 5 }), "the file ended before its length was sent"),
    ];
    for (body, words) in cases {
        let peer = Peer::new([vec![Step::Head, Step::Gone], vec![serve(OK)]]);
        let (reactor, client) = client(&peer, 1);
        run(&reactor, async {
            let refused = answer(&client, request("POST", "Content-Length: 5\r\n", body)).await.expect_err("misuse");
            assert!(matches!(refused.kind(), Kind::Misuse(said) if *said == words), "{refused}");
            assert_eq!(refused.phase(), Phase::Send);
            assert_eq!(client.pool().statistics().idle, 0, "half a request is on its way");
            assert_eq!(answer(&client, get()).await.expect("an answer").0, 200);
        });
        drop(client);
        peer.finish();
    }
}

#[test]
fn test_error_of_a_body_source_reaches_the_caller_and_closes_the_connection() {
    for failing in [
        RequestBody::Chunked(Pieces::failing(["hello"], "no more")),
        RequestBody::Counted(Pieces::failing(["hello"], "no more"), 10),
    ] {
        let peer = Peer::new([vec![Step::Head, Step::Gone]]);
        let (reactor, client) = client(&peer, 1);
        let failed = run(&reactor, answer(&client, request("POST", "", failing))).expect_err("an error");
        assert!(matches!(failed.kind(), Kind::Caller(_)));
        assert_eq!(failed.to_string(), "no more");
        assert_eq!((client.pool().statistics().idle, client.pool().statistics().in_use), (0, 0));
        peer.finish();
    }
}

#[test]
fn test_responses_to_head_204_and_304_have_no_body() {
    let peer = Peer::new([vec![
        expect("HEAD / HTTP/1.1\r\n\r\n"),
        send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        Step::Head,
        send("HTTP/1.1 204 No Content\r\n\r\n"),
        Step::Head,
        send("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
        Step::Closed,
    ]]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        let head = request("HEAD", "", RequestBody::Bytes(Bytes::new()));
        assert_eq!(answer(&client, head).await.expect("an answer"), (200, String::new()));
        assert_eq!(answer(&client, get()).await.expect("an answer"), (204, String::new()));
        assert_eq!(answer(&client, get()).await.expect("an answer"), (304, String::new()));
    });
    drop(client);
    peer.finish();
}

#[test]
fn test_101_is_a_response_and_ends_http_on_its_connection() {
    let upgraded = send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nNOT HTTP");
    let peer = Peer::new([vec![Step::Head, upgraded, Step::Closed], vec![serve(OK)]]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        let (response, body) = fetch(&client, get()).await.expect("an answer");
        assert_eq!((response.head.status, body), (101, Vec::new()));
        assert_eq!(response.body.close_cause(), Some(CloseCause::Upgraded));
        assert_eq!(answer(&client, get()).await.expect("an answer").0, 200);
    });
    drop(client);
    peer.finish();
}

#[test]
fn test_connection_that_the_peer_asks_to_close_is_closed() {
    let closing = send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    let old = send("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let kept = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok";
    let peer = Peer::new([
        vec![Step::Head, closing, Step::Closed],
        vec![Step::Head, old, Step::Closed],
        vec![Step::Head, send(kept), Step::Head, send(kept), Step::Closed],
    ]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        let reasons = [Some(CloseCause::AskedByPeer), Some(CloseCause::Http10), None, None];
        for reason in reasons {
            let (response, body) = fetch(&client, get()).await.expect("an answer");
            assert_eq!((response.body.close_cause(), body), (reason, b"ok".to_vec()));
        }
    });
    drop(client);
    peer.finish();
}

#[test]
fn test_connection_that_the_request_asks_to_close_is_closed() {
    let peer = Peer::new([vec![Step::Head, send(OK), Step::Closed]]);
    let (reactor, client) = client(&peer, 1);
    let mut closing = request("GET", "Connection: close\r\n", RequestBody::Bytes(Bytes::new()));
    closing.closes = true;
    let (response, _) = run(&reactor, fetch(&client, closing)).expect("an answer");
    assert_eq!(response.body.close_cause(), Some(CloseCause::AskedByUs));
    peer.finish();
}

#[test]
fn test_bytes_behind_a_message_close_the_connection() {
    let glued = [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\r\n",
    ];
    let mut scripts: Vec<_> = glued.map(|text| vec![Step::Head, send(text), Step::Closed]).into();
    scripts.push(vec![serve(OK)]);
    let peer = Peer::new(scripts);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        for _ in 0..glued.len() + 1 {
            assert_eq!(answer(&client, get()).await.expect("an answer"), (200, "ok".into()));
        }
    });
    assert_eq!(client.pool().statistics().opened, glued.len() as u64 + 1);
    drop(client);
    peer.finish();
}

#[test]
fn test_bytes_later_behind_a_message_close_the_connection() {
    let ((closed, open), (sent, was_sent)) = (gate(), tell());
    let evil = send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL");
    let peer = Peer::new([
        vec![Step::Head, send(OK), closed, evil, sent, Step::Closed],
        vec![Step::Head, expect("x"), send(OK)],
    ]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        assert_eq!(answer(&client, get()).await.expect("an answer").1, "ok");
        open.send(()).expect("a peer that waits");
        was_sent.wait();
        turn(&reactor).await;
        assert_eq!(answer(&client, post("x")).await.map(|(_, body)| body).expect("an answer"), "ok");
    });
    drop(client);
    peer.finish();
}

#[test]
fn test_response_of_another_protocol_is_an_error() {
    let peer = Peer::new([vec![Step::Head, send("SSH-2.0-OpenSSH_9.6\r\n"), Step::Gone], vec![serve(OK)]]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        let refused = answer(&client, get()).await.expect_err("no HTTP");
        assert!(matches!(refused.kind(), Kind::Response(wire::ResponseError::NotHttp(_))), "{refused}");
        assert_eq!(refused.phase(), Phase::Head);
        assert_eq!(refused.peer(), Some(peer.address.to_string().as_str()));
        assert!(refused.elapsed().is_some());
        assert_eq!(answer(&client, get()).await.expect("an answer").0, 200);
    });
    drop(client);
    peer.finish();
}

#[test]
fn test_connect_to_a_closed_port_fails() {
    let (address, _taken) = refusing_address();
    let (reactor, client) = client_with(address, 1, |_| ());
    let refused = run(&reactor, answer(&client, get())).expect_err("a port without a listener");
    assert!(matches!(refused.kind(), Kind::Io(error) if error.kind() == ErrorKind::ConnectionRefused));
    assert_eq!(refused.phase(), Phase::Connect);
    assert_eq!(client.pool().statistics().in_use, 0);
}

/// Resolves to these addresses.
struct Known(Vec<SocketAddr>);

impl Resolver for Known {
    fn resolve(&self, _: &str, _: u16, _: Option<engine::rt::timeout::Deadline>) -> Resolution {
        let addresses = self.0.clone();
        Box::pin(async move { Ok(addresses) })
    }
}

#[test]
fn test_addresses_are_tried_in_their_order() {
    let (closed, _taken) = refusing_address();
    let peer = Peer::new([vec![Step::Head, send(OK), Step::Closed]]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        let known = Known(vec![closed, peer.address, closed]);
        assert_eq!(client.send(get(), &known).await.expect("an answer").head.status, 200);
        client.pool().close_idle();
        let refused =
            client.send(get(), &Known(vec![closed, closed])).await.map(drop).expect_err("a port without a listener");
        assert_eq!(refused.phase(), Phase::Connect);
        let unknown = client.send(get(), &Known(Vec::new())).await.map(drop).expect_err("no address");
        assert!(matches!(unknown.kind(), Kind::Io(error) if error.kind() == ErrorKind::NotFound), "{unknown}");
    });
    assert_eq!(client.pool().statistics().in_use, 0);
    peer.finish();
}
