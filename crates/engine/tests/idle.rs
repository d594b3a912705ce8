//! Several clients with a common limit on their idle connections.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use engine::{Client, CloseReason, Config, IdleGroup, Reactor, SystemResolver};
use support::program_tls::ProgramTls;
use support::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Creates a client of the peer whose idle connections count for the group.
fn member(reactor: &Rc<Reactor>, group: &Rc<IdleGroup>, peer: &Peer, connections: usize) -> Client {
    member_with(reactor, group, peer, connections, |_| ())
}

fn member_with(
    reactor: &Rc<Reactor>,
    group: &Rc<IdleGroup>,
    peer: &Peer,
    connections: usize,
    change: impl FnOnce(&mut Config),
) -> Client {
    let mut config = Config::new(&peer.address.ip().to_string(), peer.address.port());
    config.idle_group = Some(group.clone());
    change(&mut config);
    Client::new(reactor, config, connections)
}

fn serving(connections: usize) -> Peer {
    Peer::new((0..connections).map(|_| vec![serve(OK)]))
}

fn ask(reactor: &Rc<Reactor>, client: &Client) {
    assert_eq!(run(reactor, answer(client, get())).expect("an answer"), (200, "ok".into()));
}

/// Returns how many connections of each client are idle, and how many were closed because there were too many.
fn counts(clients: &[&Client]) -> Vec<(usize, u64)> {
    let of = |client: &&Client| {
        let statistics = client.statistics();
        assert_eq!(statistics.closed.total(), statistics.closed.of(CloseReason::IdleLimit));
        (statistics.idle, statistics.closed.of(CloseReason::IdleLimit))
    };
    clients.iter().map(of).collect()
}

#[test]
fn test_group_over_its_limit_closes_the_longest_idle_connection() {
    let peer = serving(5);
    let (reactor, group) = (Reactor::new().expect("a reactor"), IdleGroup::new(2));
    let [a, b, c] = [(); 3].map(|()| member(&reactor, &group, &peer, 2));
    ask(&reactor, &a);
    ask(&reactor, &b);
    assert_eq!(counts(&[&a, &b, &c]), [(1, 0), (1, 0), (0, 0)]);
    // Used again: now the other one has been idle longest.
    ask(&reactor, &a);
    assert_eq!(a.statistics().reused, 1);
    ask(&reactor, &c);
    assert_eq!(counts(&[&a, &b, &c]), [(1, 0), (0, 1), (1, 0)]);
    ask(&reactor, &b);
    assert_eq!(counts(&[&a, &b, &c]), [(0, 1), (1, 1), (1, 0)]);
    ask(&reactor, &c);
    assert_eq!((c.statistics().reused, group.idle()), (1, 2));
    ask(&reactor, &a);
    assert_eq!(counts(&[&a, &b, &c]), [(1, 1), (0, 2), (1, 0)]);
    assert_eq!(peer.connections(), 5);
    drop((a, b, c));
    assert_eq!(group.idle(), 0);
    peer.finish();
}

#[test]
fn test_connections_in_use_do_not_count_and_are_not_closed() {
    let (gates, go): (Vec<_>, Vec<_>) = (0..5).map(|_| gate()).unzip();
    let in_two = |wait| vec![Step::Head, send(&OK[..OK.len() - 1]), wait, send("k"), Step::Gone];
    let peer = Peer::new([vec![serve(OK)]].into_iter().chain(gates.into_iter().map(in_two)));
    let (reactor, group) = (Reactor::new().expect("a reactor"), IdleGroup::new(2));
    let (a, b) = (member(&reactor, &group, &peer, 5), member(&reactor, &group, &peer, 1));
    ask(&reactor, &b);
    let unread = run(&reactor, join_all((0..5).map(|_| a.send(get(), &SystemResolver))));
    assert_eq!((a.statistics().in_use, group.idle()), (5, 1));
    go.iter().for_each(|go| go.send(()).expect("a peer that waits"));
    for response in unread {
        let mut response = response.expect("an answer");
        assert_eq!(run(&reactor, read_all(&mut response.body, 100)).expect("a body"), b"ok");
    }
    assert_eq!(counts(&[&a, &b]), [(2, 3), (0, 1)]);
    drop((a, b));
    peer.finish();
}

#[test]
fn test_connection_that_is_handed_on_is_not_idle() {
    let peer = serving(1);
    let (reactor, group) = (Reactor::new().expect("a reactor"), IdleGroup::new(0));
    let client = member(&reactor, &group, &peer, 1);
    let answers = run(&reactor, join_all((0..10).map(|_| answer(&client, get()))));
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    // No waiter was left for the last one.
    assert_eq!(counts(&[&client]), [(0, 1)]);
    assert_eq!((client.statistics().opened, client.statistics().reused), (1, 9));
    drop(client);
    peer.finish();
}

#[test]
fn test_closed_connection_leaves_its_group() {
    let (wait, go) = gate();
    let (notify, notified) = tell();
    let mut scripts: Vec<_> = (0..5).map(|_| vec![serve(OK)]).collect();
    scripts.push(vec![Step::Head, send(OK), wait, Step::Close, notify]);
    let peer = Peer::new(scripts);
    let (reactor, group) = (Reactor::new().expect("a reactor"), IdleGroup::new(10));
    let clients: Vec<Client> = (0..6).map(|_| member(&reactor, &group, &peer, 1)).collect();
    clients.iter().for_each(|client| ask(&reactor, client));
    assert_eq!(group.idle(), 6);
    clients[0].close();
    clients[1].pool().close_idle();
    assert_eq!(group.idle(), 4);
    go.send(()).expect("a peer that waits");
    notified.wait();
    while clients[5].statistics().idle > 0 {
        reactor.turn(Some(BOUND)).expect("events");
    }
    assert_eq!(group.idle(), 3);
    drop(clients);
    assert_eq!(group.idle(), 0);
    peer.finish();
}

#[test]
fn test_close_excess_may_call_any_client_of_the_group() {
    let peer = serving(6);
    let (reactor, group) = (Reactor::new().expect("a reactor"), IdleGroup::new(1));
    let clients: Rc<RefCell<Vec<Client>>> = Rc::default();
    let calls = Rc::new(Cell::new(0));
    let on_drop = {
        let (clients, calls) = (clients.clone(), calls.clone());
        Rc::new(move || {
            calls.set(calls.get() + 1);
            for client in clients.borrow().iter() {
                client.statistics();
                // Takes what is idle there, and gives it up again: it is closed in the middle of this.
                let mut lease = Box::pin(client.pool().lease(None, None));
                let _ = poll_once(lease.as_mut());
                drop(lease);
                client.pool().close_idle();
            }
        }) as Rc<dyn Fn()>
    };
    for _ in 0..3 {
        let client = member_with(&reactor, &group, &peer, 2, |config| {
            config.tls = Some(Rc::new(ProgramTls { on_drop: Some(on_drop.clone()), ..Default::default() }));
        });
        clients.borrow_mut().push(client);
    }
    for round in 0..2 {
        for client in clients.borrow().iter() {
            ask(&reactor, client);
            assert!(group.idle() <= 1, "round {round}");
        }
    }
    assert!(calls.get() >= 5, "{} connections were closed", calls.get());
    let left = clients.take();
    left.iter().for_each(Client::close);
    assert_eq!(group.idle(), 0);
    let opened: u64 = left.iter().map(|client| client.statistics().opened).sum();
    let closed: u64 = left.iter().map(|client| client.statistics().closed.total()).sum();
    assert_eq!(opened, closed);
    drop(left);
    peer.finish();
}
