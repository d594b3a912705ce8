//! Durations of the steps of a request, and its numbers of bytes, without Python.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use engine::{Address, Opened, Request, SystemResolver};
use support::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn test_each_request_has_its_own_timings() {
    let peer = Peer::new([vec![serve(OK)]]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        for reused in [false, true] {
            let (mut response, _) = fetch(&client, get()).await.expect("an answer");
            let timings = &response.timings;
            assert_eq!(timings.reused, reused);
            assert_eq!(timings.placed, Duration::ZERO);
            assert!(timings.connected <= timings.sent && timings.sent <= timings.answered);
            let ended = response.body.ended().expect("a whole body");
            assert!(ended >= timings.started + timings.answered);
            assert_eq!((timings.bytes_sent, response.body.received()), (18, OK.len() as u64));
            let dialled = response.timings.dialled.as_deref().expect("the engine has made it");
            assert_eq!(dialled.address, Some(Address::Inet(peer.address)));
            assert!(dialled.resolve.is_some() && dialled.connect.is_some());
            assert!(dialled.proxy.is_none() && dialled.tls.is_none());
        }
    });
    drop(client);
    peer.finish();
}

#[test]
fn test_end_is_the_time_of_the_last_byte() {
    let (step, go) = gate();
    let script = vec![Step::Head, send(&OK[..OK.len() - 1]), step, send(&OK[OK.len() - 1..]), Step::Closed];
    let peer = Peer::new([script]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        let mut response = client.send(get(), &SystemResolver).await.expect("an answer");
        assert_eq!(response.body.ended(), None);
        assert_eq!(response.body.received(), OK.len() as u64 - 1);
        go.send(()).expect("the peer waits");
        read_all(&mut response.body, 100).await.expect("a body");
        assert!(response.body.ended().is_some());
        assert_eq!(response.body.received(), OK.len() as u64);
    });
    drop(client);
    peer.finish();
}

#[test]
fn test_connections_of_a_failed_request_are_noted() {
    let peer = Peer::new([vec![serve(OK)], vec![Step::Head, Step::Close]]);
    let (reactor, client) = client(&peer, 1);
    run(&reactor, async {
        let opened = Rc::<RefCell<Vec<Opened>>>::default();
        let noting = || Request { opened: Some(opened.clone()), ..get() };
        fetch(&client, noting()).await.expect("an answer");
        fetch(&client, noting()).await.expect("an answer");
        assert_eq!(opened.borrow().len(), 1);
        client.pool().close_idle();
        fetch(&client, noting()).await.map(drop).expect_err("no answer");
        assert_eq!(opened.borrow().len(), 2);
        assert!(opened.borrow().iter().all(|opened| opened.tls.is_none() && !opened.http2));
    });
    drop(client);
    peer.finish();
}
