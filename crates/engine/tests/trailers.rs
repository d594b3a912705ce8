//! Trailers of a request.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use engine::rt::timeout::Deadline;
use engine::{FileBody, Kind, Phase, Request, RequestBody, TrailerSource};
use support::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

/// Trailers that count the calls.
struct Numbered(Rc<Cell<usize>>);

impl TrailerSource for Numbered {
    fn lines(&mut self, _: Option<Deadline>) -> Result<Vec<(Bytes, Bytes)>, Kind> {
        self.0.set(self.0.get() + 1);
        let time = self.0.get().to_string();
        Ok(vec![("X-Time".into(), time.into()), ("X-Empty".into(), Bytes::new())])
    }
}

struct Given(Result<Vec<(Bytes, Bytes)>, &'static str>);

impl TrailerSource for Given {
    fn lines(&mut self, _: Option<Deadline>) -> Result<Vec<(Bytes, Bytes)>, Kind> {
        self.0.clone().map_err(|problem| Kind::Caller(problem.into()))
    }
}

fn file(length: u64) -> RequestBody {
    let file = std::fs::File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).expect("a file");
    RequestBody::File(FileBody { file, offset: 1, length })
}

fn with(trailers: impl TrailerSource + 'static, method: &str, lines: &str, body: RequestBody) -> Request {
    Request { trailers: Some(Box::new(trailers)), ..request(method, &format!("{lines}{CHUNKED}"), body) }
}

#[test]
fn test_trailers_follow_the_last_chunk_of_any_body() {
    let cases = [
        (RequestBody::Bytes(Bytes::new()), ""),
        (RequestBody::Bytes("hello, world".into()), "c\r\nhello, world\r\n"),
        (file(7), "7\r\npackage\r\n"),
        (file(0), ""),
        (RequestBody::Chunked(Pieces::of(["hello", "", "world"])), "5\r\nhello\r\n5\r\nworld\r\n"),
        (RequestBody::Chunked(Pieces::of([""; 0])), ""),
    ];
    for (body, chunks) in cases {
        let times = Rc::new(Cell::new(0));
        let sent = format!("{chunks}0\r\nX-Time: 1\r\nX-Empty: \r\n\r\n");
        let peer = Peer::new([vec![Step::Head, expect(sent), send(OK), serve(OK)]]);
        let (reactor, client) = client(&peer, 1);
        run(&reactor, async {
            assert_eq!(times.get(), 0);
            let answered = answer(&client, with(Numbered(times.clone()), "POST", "", body)).await;
            assert_eq!(answered.expect("an answer"), (200, "ok".into()));
            assert_eq!(answer(&client, get()).await.expect("on the same connection").0, 200);
        });
        assert_eq!((peer.connections(), times.get()), (1, 1));
        drop(client);
        peer.finish();
    }
}

#[test]
fn test_no_trailers_are_an_empty_section() {
    let peer = Peer::new([vec![Step::Head, expect("2\r\nhi\r\n0\r\n\r\n"), send(OK), Step::Closed]]);
    let (reactor, client) = client(&peer, 1);
    let request = with(Given(Ok(Vec::new())), "POST", "", RequestBody::Bytes("hi".into()));
    assert_eq!(run(&reactor, answer(&client, request)).expect("an answer").0, 200);
    drop(client);
    peer.finish();
}

#[test]
fn test_trailers_are_made_again_for_a_retry() {
    let first = "5\r\nhello\r\n0\r\nX-Time: 1\r\nX-Empty: \r\n\r\n";
    let peer = Peer::new([
        vec![Step::Head, send(OK), Step::Head, expect(first), Step::Close],
        vec![Step::Head, expect(first.replace('1', "2")), send(OK), Step::Closed],
    ]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        assert_eq!(answer(&client, get()).await.expect("an answer").0, 200);
        let put = with(Numbered(Rc::default()), "PUT", "", RequestBody::Bytes("hello".into()));
        assert_eq!(answer(&client, put).await.expect("an answer").0, 200);
    });
    drop(client);
    peer.finish();
}

#[test]
fn test_error_of_the_source_closes_the_connection_before_the_last_chunk() {
    let forged: Vec<(Bytes, Bytes)> = vec![("X".into(), "y\r\nZ: forged".into())];
    for (given, is_own) in [(Err("no sum"), true), (Ok(forged), false)] {
        let peer = Peer::new([vec![Step::Head, expect("2\r\nhi\r\n"), Step::Closed], vec![serve(OK)]]);
        let (reactor, client) = client(&peer, 1);
        run(&reactor, async {
            let request = with(Given(given), "POST", "", RequestBody::Bytes("hi".into()));
            let failed = answer(&client, request).await.expect_err("no trailers");
            assert_eq!(failed.phase(), Phase::Send);
            assert_eq!(matches!(failed.kind(), Kind::Caller(_)), is_own, "{failed}");
            assert_eq!(matches!(failed.kind(), Kind::Misuse(_)), !is_own, "{failed}");
            assert_eq!(client.pool().statistics().in_use, 0);
            assert_eq!(answer(&client, get()).await.expect("an answer").0, 200);
        });
        drop(client);
        peer.finish();
    }
}

#[test]
fn test_trailers_of_a_counted_body_are_refused() {
    let peer = Peer::new([vec![Step::Head, Step::Closed]]);
    let (reactor, client) = client(&peer, 1);
    let body = RequestBody::Counted(Pieces::of(["hello"]), 5);
    let request = with(Numbered(Rc::default()), "POST", "", body);
    let failed = run(&reactor, answer(&client, request)).expect_err("framed in two ways");
    assert!(matches!(failed.kind(), Kind::Misuse(_)), "{failed}");
    drop(client);
    peer.finish();
}

#[test]
fn test_source_is_asked_only_after_the_body() {
    const REFUSAL: &str = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno";
    let large = || Bytes::from(vec![b'x'; 32 * 1024 * 1024]);
    let cases = [
        (vec![Step::Head, send(REFUSAL), Step::Closed], "Expect: 100-continue\r\n", RequestBody::Bytes("hi".into())),
        (vec![Step::Head, send(REFUSAL), Step::Gone], "", RequestBody::Bytes(large())),
        (vec![Step::Head, send(REFUSAL), Step::Gone], "", RequestBody::Chunked(Pieces::of([large()]))),
    ];
    for (script, lines, body) in cases {
        let times = Rc::new(Cell::new(0));
        let peer = Peer::new([script]);
        let (reactor, client) = client(&peer, 1);
        let answered = run(&reactor, answer(&client, with(Numbered(times.clone()), "POST", lines, body)));
        assert_eq!(answered.expect("an answer"), (413, "no".into()));
        assert_eq!(times.get(), 0);
        drop(client);
        peer.finish();
    }
}

#[test]
fn test_trailers_wait_for_100_continue_like_the_body() {
    let sent = "2\r\nhi\r\n0\r\nX-Time: 1\r\nX-Empty: \r\n\r\n";
    let leave = "HTTP/1.1 100 Continue\r\n\r\n";
    let peer = Peer::new([vec![
        Step::Head,
        send(leave),
        expect(sent),
        send(OK),
        // Without a body, the request does not wait for `100 Continue`.
        Step::Head,
        expect(sent.strip_prefix("2\r\nhi\r\n").expect("its chunk")),
        send(OK),
        Step::Closed,
    ]]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        for body in ["hi", ""] {
            let body = RequestBody::Bytes(body.into());
            let request = with(Numbered(Rc::default()), "POST", "Expect: 100-continue\r\n", body);
            assert_eq!(answer(&client, request).await.expect("an answer"), (200, "ok".into()));
        }
    });
    drop(client);
    peer.finish();
}
