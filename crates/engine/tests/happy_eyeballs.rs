//! A host with several addresses, some of which do not accept connections.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use engine::connect::Resolution;
use engine::rt::socket::Socket;
use engine::rt::timeout::{Deadline, sleep};
use engine::{Client, Config, Kind, Phase, Reactor, Resolver, Result};
use support::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The delay that RFC 8305 recommends.
const DELAY: Duration = Duration::from_millis(250);

/// Resolver that returns these addresses, and counts its calls.
#[derive(Default)]
struct Says(RefCell<Vec<SocketAddr>>, Cell<usize>);

impl Says {
    fn of(addresses: impl IntoIterator<Item = SocketAddr>) -> Says {
        Says(RefCell::new(addresses.into_iter().collect()), Cell::new(0))
    }
}

impl Resolver for Says {
    fn resolve(&self, _: &str, _: u16, _: Option<Deadline>) -> Resolution {
        self.1.set(self.1.get() + 1);
        let addresses = self.0.borrow().clone();
        Box::pin(async move { Ok(addresses) })
    }
}

fn client_of_many(change: impl FnOnce(&mut Config)) -> (Rc<Reactor>, Client) {
    let reactor = Reactor::new().expect("a reactor");
    let mut config = Config::new("many.test", 80);
    change(&mut config);
    let client = Client::new(&reactor, config, 1);
    (reactor, client)
}

/// Returns the number of this process's connection attempts to these addresses in progress, as counted by the kernel.
fn attempts_at(addresses: &[SocketAddr]) -> usize {
    const SYN_SENT: &str = "02";
    let remotes: Vec<String> = addresses.iter().map(in_hexadecimal).collect();
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.filter(|line| line.get(3) == Some(&SYN_SENT) && remotes.iter().any(|remote| line[2] == remote)).count()
}

fn in_hexadecimal(address: &SocketAddr) -> String {
    let SocketAddr::V4(address) = address else { panic!("IPv4 only") };
    format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
}

async fn status(client: &Client, addresses: &Says) -> Result<u16> {
    client.send(get(), addresses).await.map(|response| response.head.status)
}

fn assert_free(client: &Client) {
    let statistics = client.pool().statistics();
    assert_eq!((statistics.in_use, statistics.waiting), (0, 0), "{statistics:?}");
}

#[test]
fn test_silent_address_is_overtaken_by_the_next_and_closed() {
    let (silent, _full) = deaf_address();
    let fillers = attempts_at(&[silent]);
    let peer = Peer::new([vec![serve(OK)]]);
    let (reactor, client) = client_of_many(|config| config.timeouts.connection = Some(BOUND));
    let started = Instant::now();
    let response = run(&reactor, client.send(get(), &Says::of([silent, peer.address]))).expect("an answer");
    let took = started.elapsed();
    assert_eq!(response.head.status, 200);
    assert!(took >= DELAY, "the first had its time: {took:?}");
    assert!(took < DELAY * 4, "the second was not kept waiting: {took:?}");
    assert_eq!(attempts_at(&[silent]), fillers, "the first attempt was given up");
    drop((response, client));
    peer.finish();
}

#[test]
fn test_refused_address_is_followed_by_the_next_at_once() {
    let (refusing, _taken) = refusing_address();
    let peer = Peer::new([vec![serve(OK)]]);
    let (reactor, client) = client_of_many(|_| ());
    let started = Instant::now();
    let addresses = Says::of([refusing, refusing, refusing, peer.address]);
    assert_eq!(run(&reactor, status(&client, &addresses)).expect("an answer"), 200);
    assert!(started.elapsed() < DELAY, "{:?}", started.elapsed());
    drop(client);
    peer.finish();
}

/// The clock starts anew with each attempt, and one that is refused takes none of its successor's time.
#[test]
fn test_each_attempt_has_its_own_delay() {
    let (silent, _full) = deaf_address();
    let (refusing, _taken) = refusing_address();
    let peer = Peer::new([vec![serve(OK)]]);
    let (reactor, client) = client_of_many(|_| ());
    let started = Instant::now();
    let addresses = Says::of([silent, refusing, silent, peer.address]);
    assert_eq!(run(&reactor, status(&client, &addresses)).expect("an answer"), 200);
    let took = started.elapsed();
    assert!(took >= DELAY * 2 && took < DELAY * 3, "{took:?}");
    drop(client);
    peer.finish();
}

#[test]
fn test_first_of_two_that_accept_is_taken() {
    let (first, second) = (Peer::new([vec![serve(OK)]]), Peer::new([]));
    let (reactor, client) = client_of_many(|_| ());
    let addresses = Says::of([first.address, second.address]);
    assert_eq!(run(&reactor, status(&client, &addresses)).expect("an answer"), 200);
    drop(client);
    first.finish();
    second.finish();
}

#[test]
fn test_first_error_is_reported_when_all_fail() {
    let (refusing, _taken) = refusing_address();
    let unreachable: SocketAddr = "255.255.255.255:9".parse().expect("an address");
    let (reactor, client) = client_of_many(|_| ());
    for (addresses, kind) in [
        (vec![refusing, unreachable], ErrorKind::ConnectionRefused),
        (vec![refusing, refusing], ErrorKind::ConnectionRefused),
        (vec![refusing], ErrorKind::ConnectionRefused),
        (vec![], ErrorKind::NotFound),
    ] {
        let failed = run(&reactor, status(&client, &Says::of(addresses))).expect_err("no address accepts");
        assert!(matches!(failed.kind(), Kind::Io(error) if error.kind() == kind), "{failed}");
        assert_eq!((failed.phase(), failed.peer()), (Phase::Connect, Some("many.test:80")));
        assert_free(&client);
    }
}

#[test]
fn test_connection_timeout_holds_for_all_attempts_together() {
    let (silent, _full) = deaf_address();
    let fillers = attempts_at(&[silent]);
    let limit = DELAY + Duration::from_millis(50);
    let (reactor, client) = client_of_many(|config| config.timeouts.connection = Some(limit));
    let started = Instant::now();
    let failed = run(&reactor, status(&client, &Says::of([silent; 4]))).expect_err("no address answers");
    assert!(matches!(failed.kind(), Kind::Timeout(after) if *after == limit), "{failed}");
    assert_eq!(failed.phase(), Phase::Connect);
    assert!(started.elapsed() >= limit && started.elapsed() < limit * 2, "{:?}", started.elapsed());
    assert_eq!(attempts_at(&[silent]), fillers);
    assert_free(&client);
}

#[test]
fn test_dropped_dial_closes_all_attempts() {
    let (silent, _full) = deaf_address();
    let fillers = attempts_at(&[silent]);
    let (reactor, client) = client_of_many(|_| ());
    let addresses = Says::of([silent; 3]);
    {
        let mut sending = pin!(client.send(get(), &addresses));
        run_until(&reactor, sending.as_mut(), || attempts_at(&[silent]) == fillers + 2);
    }
    assert_eq!(attempts_at(&[silent]), fillers);
    assert_free(&client);
}

#[test]
fn test_local_address_limits_attempts_to_its_family() {
    let peer = Peer::new([vec![serve(OK)]]);
    let other: SocketAddr = "[2001:db8::1]:80".parse().expect("an address");
    let local = "127.0.0.2:0".parse().expect("an address");
    let (reactor, client) = client_of_many(|config| config.route.local_address = Some(local));
    let started = Instant::now();
    let response = run(&reactor, client.send(get(), &Says::of([other, peer.address]))).expect("an answer");
    assert_eq!(response.head.status, 200);
    assert!(started.elapsed() < DELAY);
    drop((response, client));
    peer.finish();

    let (reactor, client) = client_of_many(|config| config.route.local_address = Some(local));
    let failed = run(&reactor, status(&client, &Says::of([other]))).expect_err("another family");
    assert!(failed.to_string().contains("no IPv4 address"), "{failed}");
    assert_free(&client);
}

#[test]
fn test_local_port_can_be_reused_for_another_peer() {
    let probe = TcpListener::bind("127.0.0.2:0").expect("a free port");
    let local = probe.local_addr().expect("bound");
    drop(probe);
    let reactor = Reactor::new().expect("a reactor");
    for _ in 0..2 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let socket = run(&reactor, Socket::connect(&reactor, address, Some(local))).expect("a connection");
        let (_accepted, from) = listener.accept().expect("a connection");
        assert_eq!(from, local);
        // The side that closes first keeps the port for a while, as far as this peer is concerned.
        drop(socket);
    }
}

/// The number of sockets does not grow with the number of addresses of a name.
#[test]
fn test_concurrent_attempts_are_limited() {
    let (silent, _full) = deaf_address();
    let fillers = attempts_at(&[silent]);
    let (reactor, client) = client_of_many(|_| ());
    let addresses = Says::of([silent; 12]);
    let mut sending = pin!(client.send(get(), &addresses));
    run_until(&reactor, sending.as_mut(), || attempts_at(&[silent]) == fillers + 8);
    let mut more = pin!(sleep(&reactor, DELAY * 2));
    let watching = async {
        std::future::poll_fn(|cx| {
            assert!(sending.as_mut().poll(cx).is_pending());
            assert!(attempts_at(&[silent]) <= fillers + 8);
            more.as_mut().poll(cx)
        })
        .await;
    };
    run(&reactor, watching);
}

#[test]
fn test_full_queue_of_a_unix_socket_is_waited_for() {
    let directory = std::env::temp_dir().join(format!("engine-race-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let path = directory.join("server");
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&socket2::SockAddr::unix(&path).expect("a short path")).expect("a free path");
    socket.listen(0).expect("bound");
    let listener = UnixListener::from(OwnedFd::from(socket));
    let reactor = Reactor::new().expect("a reactor");
    let mut filler = Vec::new();
    loop {
        let more = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).expect("a socket");
        more.set_nonblocking(true).expect("a socket");
        let full = more.connect(&socket2::SockAddr::unix(&path).expect("a short path")).is_err();
        if full {
            break;
        }
        filler.push(more);
    }
    let mut config = Config::new("name.test", 80);
    config.route.unix_socket = Some(path.clone());
    config.timeouts.connection = Some(Duration::from_millis(50));
    let client = Client::new(&reactor, config, 1);
    let failed = run(&reactor, status(&client, &Says::default())).expect_err("a full queue");
    assert!(matches!(failed.kind(), Kind::Timeout(_)), "{failed}");
    assert_eq!((failed.phase(), failed.peer()), (Phase::Connect, path.to_str()));

    let mut config = Config::new("name.test", 80);
    config.route.unix_socket = Some(path);
    let client = Client::new(&reactor, config, 1);
    let asked = Says::default();
    let mut sending = pin!(client.send(get(), &asked));
    assert!(poll_once(sending.as_mut()).is_pending());
    let accepting = std::thread::spawn(move || {
        for _ in 0..filler.len() {
            drop(listener.accept().expect("a filler"));
        }
        let (mut stream, _) = listener.accept().expect("the client");
        let mut head = [0; 1024];
        assert!(stream.read(&mut head).expect("a request") > 0);
        stream.write_all(OK.as_bytes()).expect("a client that reads");
    });
    assert_eq!(run(&reactor, sending).expect("an answer").head.status, 200);
    assert_eq!(asked.1.get(), 0, "nothing is to be resolved");
    accepting.join().expect("a server");
    std::fs::remove_dir_all(&directory).expect("a directory");
}
