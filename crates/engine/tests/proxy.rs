//! Proxies that grant requests, and those that refuse or violate the protocol.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use engine::connect::Resolution;
use engine::connect::proxy::{Credentials, Protocol, Proxy, Refusal};
use engine::rt::stream::Stream;
use engine::rt::timeout::Deadline;
use engine::tls::{Handshake, Offer, Secured, Tls, TlsInfo};
use engine::{Client, Config, Error, Kind, Phase, Reactor, Request, Resolver, Result};
use support::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const ESTABLISHED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";
const GET: &str = "GET / HTTP/1.1\r\n\r\n";

/// TLS of an origin without encryption: sufficient for testing a tunnel.
struct Unhidden;

impl Tls for Unhidden {
    fn handshake(&self, stream: Stream, _: Offer) -> Handshake {
        Box::pin(async { Ok(Secured { stream, facts: Rc::new(TlsInfo::default()) }) })
    }
}

/// Resolves the proxy, and two addresses for every other name.
struct Addresses;

impl Resolver for Addresses {
    fn resolve(&self, host: &str, port: u16, _: Option<Deadline>) -> Resolution {
        let found = match host.parse() {
            Ok(ip) => vec![SocketAddr::new(ip, port)],
            Err(_) => vec![
                SocketAddr::new("2001:db8::7".parse().expect("IPv6"), port),
                SocketAddr::new("192.0.2.7".parse().expect("IPv4"), port),
            ],
        };
        Box::pin(async { Ok(found) })
    }
}

/// Creates a client of `host`, port 443 or 80, via the peer as its proxy.
fn through(protocol: Protocol, peer: &Peer, host: &str, secrets: Option<(&str, &str)>) -> (Rc<Reactor>, Client) {
    let reactor = Reactor::new().expect("a reactor");
    let is_http = protocol == Protocol::Http;
    let mut config = Config::new(host, if is_http { 443 } else { 80 });
    config.tls = is_http.then(|| Rc::new(Unhidden) as Rc<dyn Tls>);
    let mut proxy = Proxy::new(protocol, &peer.address.ip().to_string(), peer.address.port());
    proxy.credentials =
        secrets.map(|(user, password)| Credentials { user: user.to_owned(), password: password.to_owned() });
    config.route.proxy = Some(proxy);
    let client = Client::new(&reactor, config, 1);
    (reactor, client)
}

async fn ask(client: &Client, request: Request) -> Result<String> {
    let mut response = client.send(request, &Addresses).await?;
    let body = read_all(&mut response.body, 1024).await?;
    Ok(String::from_utf8(body).expect("text"))
}

fn assert_passes(protocol: Protocol, host: &str, secrets: Option<(&str, &str)>, script: Vec<Step>) {
    let peer = Peer::new([script]);
    let (reactor, client) = through(protocol, &peer, host, secrets);
    assert_eq!(run(&reactor, ask(&client, get())).expect("an answer of the origin"), "ok");
    drop(client);
    peer.finish();
}

/// Returns the error of a request that fails, which leaves nothing behind.
fn failure(protocol: Protocol, host: &str, secrets: Option<(&str, &str)>, script: Vec<Step>) -> Error {
    let peer = Peer::new([script]);
    let (reactor, client) = through(protocol, &peer, host, secrets);
    let failed = run(&reactor, ask(&client, get())).expect_err("no tunnel");
    let statistics = client.pool().statistics();
    assert_eq!((statistics.in_use, statistics.idle, statistics.opened), (0, 0, 0), "{statistics:?}");
    assert_eq!(failed.peer(), Some(peer.address.to_string().as_str()), "the proxy is to blame: {failed}");
    assert_eq!(failed.phase(), Phase::Proxy, "{failed}");
    drop(client);
    peer.finish();
    failed
}

fn refusal(protocol: Protocol, host: &str, secrets: Option<(&str, &str)>, script: Vec<Step>) -> Refusal {
    let failed = failure(protocol, host, secrets, script);
    let text = failed.to_string();
    match failed.into_kind() {
        Kind::Proxy(refusal) => {
            assert_eq!(text.split(" (asking the proxy ").next(), Some(refusal.to_string().as_str()));
            refusal
        }
        kind => panic!("{kind:?}"),
    }
}

fn connect_refused(script: Vec<Step>) -> Refusal {
    refusal(Protocol::Http, "example.org", None, script)
}

mod connect {
    use super::*;

    #[test]
    fn test_one_connect_serves_many_requests() {
        let asked = "CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n";
        let script = vec![expect(asked), send(ESTABLISHED), expect(GET), send(OK), expect(GET), send(OK), Step::Close];
        let again = vec![expect(asked), send(ESTABLISHED), expect(GET), send(OK), Step::Closed];
        let peer = Peer::new([script, again]);
        let (reactor, client) = through(Protocol::Http, &peer, "example.org", None);
        for _ in 0..3 {
            assert_eq!(run(&reactor, ask(&client, get())).expect("an answer"), "ok");
        }
        assert_eq!(peer.connections(), 2, "a tunnel that was closed is replaced");
        drop(client);
        peer.finish();
    }

    #[test]
    fn test_credentials_are_sent_to_the_proxy_alone() {
        let head = "CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\
                    Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n";
        let script = vec![expect(head), send(ESTABLISHED), expect(GET), send(OK), Step::Closed];
        // The pair and its encoding are those of RFC 7617 section 2.
        assert_passes(Protocol::Http, "example.org", Some(("Aladdin", "open sesame")), script);
    }

    #[test]
    fn test_connect_sends_the_requests_value_for_the_proxy() {
        let head =
            "CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\nProxy-Authorization: Digest mine\r\n\r\n";
        let script = vec![expect(head), send(ESTABLISHED), expect(GET), send(OK), expect(GET), send(OK), Step::Closed];
        let peer = Peer::new([script]);
        let (reactor, client) = through(Protocol::Http, &peer, "example.org", Some(("Aladdin", "open sesame")));
        for value in ["Digest mine", "Digest for a connection that is open"] {
            let request = Request { for_proxy: Some(value.into()), ..get() };
            assert_eq!(run(&reactor, ask(&client, request)).expect("an answer"), "ok");
        }
        drop(client);
        peer.finish();
    }

    #[test]
    fn test_hosts_are_written_as_authorities() {
        for (host, written) in [
            ("2001:db8::1", "[2001:db8::1]:443"),
            ("192.0.2.1", "192.0.2.1:443"),
            ("bücher.example", "xn--bcher-kva.example:443"),
        ] {
            let head = format!("CONNECT {written} HTTP/1.1\r\nHost: {written}\r\n\r\n");
            let script = vec![expect(head), send(ESTABLISHED), expect(GET), send(OK), Step::Closed];
            assert_passes(Protocol::Http, host, None, script);
        }
    }

    #[test]
    fn test_any_2xx_opens_the_tunnel() {
        for head in [
            "HTTP/1.0 200 Connection established\r\nProxy-agent: old\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 299 \r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        ] {
            let script = vec![Step::Head, send(head), expect(GET), send(OK), Step::Closed];
            assert_passes(Protocol::Http, "example.org", None, script);
            let script = vec![Step::Head, trickle(head), expect(GET), send(OK), Step::Closed];
            assert_passes(Protocol::Http, "example.org", None, script);
        }
    }

    #[test]
    fn test_refusal_quotes_the_proxy() {
        let cases = [
            ("407 Proxy Authentication Required\r\n\r\n", 407, "407 Proxy Authentication Required"),
            ("502 \r\nContent-Length: 0\r\n\r\n", 502, "502"),
            ("403 Forbidden\r\nContent-Length: 9\r\n\r\nnot  you\nand more", 403, "403 Forbidden: not you"),
            ("403 No\r\nContent-Type: text/plain\r\n\r\nup to\r\n the end", 403, "403 No: up to the end"),
            ("403 No\r\nContent-Type: application/json\r\n\r\n{\"a\": 1}", 403, "403 No: {\"a\": 1}"),
            ("403 No\r\nContent-Type: TEXT/HTML\r\n\r\n<h1>no</h1>", 403, "403 No"),
            ("403 No\r\nContent-Type: image/png\r\n\r\n\u{89}PNG", 403, "403 No"),
            ("403 No\r\nContent-Encoding: gzip\r\n\r\n\u{1f}...", 403, "403 No"),
            ("403 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", 403, "403 No"),
            ("403 No\r\n\r\n\u{1b}[2J\u{0}\u{7f}\u{85}bell\u{7}", 403, "403 No: [2J bell"),
            ("302 Found\r\nLocation: http://login/\r\n\r\n", 302, "302 Found"),
            ("101 Switching Protocols\r\n\r\n", 101, "101 Switching Protocols"),
        ];
        for (answer, status, words) in cases {
            let refusal = connect_refused(vec![Step::Head, send(format!("HTTP/1.1 {answer}")), Step::Gone]);
            assert_eq!((refusal.status, refusal.words.as_str()), (Some(status), words));
            assert_eq!(&*refusal.origin, "example.org:443");
        }
    }

    #[test]
    fn test_refusal_is_quoted_up_to_a_limit() {
        let long = format!("HTTP/1.1 403 {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(100_000));
        let refusal = connect_refused(vec![Step::Head, send(long), Step::Gone]);
        assert_eq!(refusal.words, format!("403 {}", "x".repeat(512)));
        for fields in ["", "Content-Length: 2000\r\n"] {
            let answer = format!("HTTP/1.1 403 No\r\n{fields}\r\n{}", "x".repeat(2000));
            let refusal = connect_refused(vec![Step::Head, send(answer), Step::Gone]);
            assert_eq!(refusal.words, format!("403 No: {}", "x".repeat(512)));
        }
    }

    #[test]
    fn test_body_of_a_refusal_is_not_waited_for_long() {
        let started = Instant::now();
        let refusal =
            connect_refused(vec![Step::Head, send("HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nsome"), Step::Gone]);
        assert_eq!(refusal.words, "403 No: some");
        let refusal = connect_refused(vec![Step::Head, send("HTTP/1.1 403 No\r\n\r\n"), Step::Gone]);
        assert_eq!(refusal.words, "403 No");
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    }

    #[test]
    fn test_body_of_a_refusal_in_flight_is_waited_for() {
        let script =
            vec![Step::Head, send("HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nall "), send("of it"), Step::Gone];
        assert_eq!(connect_refused(script).words, "403 No: all of it");
    }

    #[test]
    fn test_credentials_repeated_by_the_proxy_are_not_quoted() {
        let answer = "HTTP/1.1 407 no dXNlcjpzZWNyZXQ=\r\n\r\nyou said: Basic dXNlcjpzZWNyZXQ= (user:secret)";
        let script = vec![Step::Head, send(answer), Step::Gone];
        let failed = failure(Protocol::Http, "example.org", Some(("user", "secret")), script);
        assert!(failed.to_string().contains("407 no ***: you said: Basic *** (user:***)"), "{failed}");
        let shown = format!("{failed} {failed:?}");
        assert!(!shown.contains("secret") && !shown.contains("dXNlcjpzZWNyZXQ"), "{shown}");
    }

    #[test]
    fn test_half_of_the_credentials_is_not_quoted() {
        let secrets = Some(("user", "open sesame"));
        let words =
            |answer: String| refusal(Protocol::Http, "a.test", secrets, vec![Step::Head, send(answer), Step::Gone]);
        let long = "x".repeat(506);
        for said in ["open sesame", "dXNlcjpvcGVuIHNlc2FtZQ=="] {
            for answer in [
                format!("HTTP/1.1 407 {long}{said}\r\nContent-Length: 0\r\n\r\n"),
                format!("HTTP/1.1 407 No\r\n\r\n{long}{said}"),
                format!("HTTP/1.1 407 No\r\nContent-Length: 2000\r\n\r\n{long}{said}{}", "x".repeat(2000)),
                // No more than this has arrived so far.
                format!("HTTP/1.1 407 No\r\n\r\n{long}{}", &said[..5]),
                format!("HTTP/1.1 407 No\r\nContent-Length: 2000\r\n\r\n{long}{}", &said[..5]),
            ] {
                let words = words(answer).words;
                assert!(words.contains(&format!("{long}***")), "{words}");
                assert!(!words.contains("open") && !words.contains("dXNl"), "{words}");
            }
        }
        let whole = "HTTP/1.1 407 No\r\nContent-Length: 4\r\n\r\nzero".to_owned();
        assert_eq!(words(whole).words, "407 No: zero");
    }

    #[test]
    fn test_unsolicited_bytes_are_not_the_origins() {
        for behind in ["x", OK] {
            let script = vec![Step::Head, send(format!("{ESTABLISHED}{behind}")), Step::Gone];
            let refusal = connect_refused(script);
            assert_eq!(refusal.status, None);
            assert_eq!(refusal.words, "unexpected bytes follow its response 200");
        }
    }

    #[test]
    fn test_malformed_answer_is_an_error() {
        let closed = "it closed the connection without a response";
        assert_eq!(connect_refused(vec![Step::Head, Step::Close]).words, closed);
        let unfinished = vec![Step::Head, send("HTTP/1.1 200 OK\r\nA: b"), Step::HalfClose, Step::Gone];
        assert!(connect_refused(unfinished).words.starts_with("its response is not valid HTTP: "));
        for answer in ["SSH-2.0-OpenSSH\r\n", "HTTP/2.0 200 OK\r\n\r\n", "HTTP/1.1 abc\r\n\r\n"] {
            let refusal = connect_refused(vec![Step::Head, send(answer), Step::Gone]);
            assert_eq!(refusal.status, None);
            assert!(refusal.words.starts_with("its response is not valid HTTP: "), "{refusal}");
        }
        // The last of these bytes is the first one too many.
        let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "b".repeat(128 * 1024 + 1 - 20));
        assert!(connect_refused(vec![Step::Head, send(endless), Step::Gone]).words.contains("too large"));
        let talkative = vec![Step::Head, send("HTTP/1.1 100 Continue\r\n\r\n".repeat(1001)), Step::Gone];
        assert!(connect_refused(talkative).words.contains("not valid HTTP"));
    }

    #[test]
    fn test_broken_connection_to_the_proxy_is_a_network_error() {
        let failed = failure(Protocol::Http, "example.org", None, vec![Step::Head, Step::Reset]);
        assert!(matches!(failed.kind(), Kind::Io(error) if error.kind() == std::io::ErrorKind::ConnectionReset));
    }

    #[test]
    fn test_host_cannot_forge_a_line() {
        let peer = Peer::new([vec![Step::Closed]]);
        let (reactor, client) = through(Protocol::Http, &peer, "example.org\r\nX: y", None);
        let failed = run(&reactor, ask(&client, get())).expect_err("no such host");
        assert!(matches!(failed.kind(), Kind::Misuse(_)), "{failed}");
        drop(client);
        peer.finish();
    }
}

#[test]
fn test_silent_proxy_ends_with_the_connection_timeout() {
    let limit = Duration::from_millis(100);
    let half = |protocol| match protocol {
        Protocol::Http => b"HTTP/1.1 200".as_slice(),
        Protocol::Socks4a => &[0],
        _ => &[5],
    };
    for protocol in [Protocol::Http, Protocol::Socks4a, Protocol::Socks5h] {
        for said in [b"".as_slice(), half(protocol)] {
            let peer = Peer::new([vec![send(said), Step::Gone]]);
            let (reactor, client) = through(protocol, &peer, "example.org", None);
            let timeouts = engine::Timeouts { connection: Some(limit), ..Default::default() };
            let request = Request { timeouts: Some(Box::new(timeouts)), ..get() };
            let failed = run(&reactor, ask(&client, request)).expect_err("no answer");
            assert!(matches!(failed.kind(), Kind::Timeout(timeout) if *timeout == limit), "{failed}");
            assert_eq!(failed.phase(), Phase::Proxy);
            assert_eq!(failed.peer(), Some(peer.address.to_string().as_str()));
            drop(client);
            peer.finish();
        }
    }
}

#[test]
fn test_error_of_a_missing_proxy_names_it() {
    let (address, _kept) = refusing_address();
    let (reactor, client) = client_with(address, 1, |config| {
        *config = Config::new("example.org", 80);
        config.route.proxy = Some(Proxy::new(Protocol::Socks5h, "127.0.0.1", address.port()));
    });
    let failed = run(&reactor, ask(&client, get())).expect_err("a port without a listener");
    assert!(matches!(failed.kind(), Kind::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused));
    assert_eq!((failed.phase(), failed.peer()), (Phase::Connect, Some(address.to_string().as_str())));
}

#[test]
fn test_credentials_are_never_shown() {
    let credentials = Credentials { user: "Aladdin".into(), password: "open sesame".into() };
    assert_eq!(format!("{credentials:?}"), "Credentials(..)");
}

mod socks {
    use super::*;

    const GRANTED_5: &[u8] = &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    const GRANTED_4: &[u8] = &[0, 90, 0, 0, 0, 0, 0, 0];

    /// Returns a script that expects these bytes and grants the request, without authentication.
    fn granting(request: &[u8]) -> Vec<Step> {
        vec![expect([5, 1, 0]), send([5, 0]), expect(request), send(GRANTED_5), expect(GET), send(OK), Step::Closed]
    }

    /// Returns the result of these answers, to the greeting and to the request, and `end`.
    fn refused_5(answers: &[&[u8]], end: Step) -> String {
        let mut script = vec![Step::Drain(3)];
        if let [method, reply] = answers {
            script.extend([send(method), Step::Drain(18), send(reply)]);
        } else {
            script.extend(answers.iter().map(send));
        }
        script.extend([end, Step::Gone]);
        let refusal = refusal(Protocol::Socks5h, "example.org", None, script);
        assert_eq!(refusal.status, None);
        refusal.words
    }

    fn refused_4(reply: &[u8], end: Step) -> String {
        let script = vec![Step::Drain(9 + 12), send(reply), end, Step::Gone];
        refusal(Protocol::Socks4a, "example.org", None, script).words
    }

    #[test]
    fn test_socks5_gets_names_or_addresses() {
        let v6 = b"\x05\x01\x00\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07\x00\x50";
        assert_passes(Protocol::Socks5h, "example.org", None, granting(b"\x05\x01\x00\x03\x0bexample.org\x00\x50"));
        assert_passes(
            Protocol::Socks5h,
            "bücher.example",
            None,
            granting(b"\x05\x01\x00\x03\x15xn--bcher-kva.example\x00\x50"),
        );
        assert_passes(Protocol::Socks5h, "192.0.2.1", None, granting(b"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50"));
        assert_passes(Protocol::Socks5h, "2001:db8::7", None, granting(v6));
        assert_passes(Protocol::Socks5, "example.org", None, granting(v6));
        assert_passes(Protocol::Socks5, "192.0.2.1", None, granting(b"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50"));
    }

    #[test]
    fn test_socks5_authenticates_when_asked() {
        let asked = b"\x05\x01\x00\x03\x0bexample.org\x00\x50";
        let login = b"\x01\x07Aladdin\x0bopen sesame";
        let secrets = Some(("Aladdin", "open sesame"));
        let script = vec![
            expect([5, 2, 0, 2]),
            send([5, 2]),
            expect(login),
            send([1, 0]),
            expect(asked),
            send(GRANTED_5),
            expect(GET),
            send(OK),
            Step::Closed,
        ];
        assert_passes(Protocol::Socks5h, "example.org", secrets, script);
        let unsolicited =
            vec![expect([5, 2, 0, 2]), send([5, 0]), expect(asked), send(GRANTED_5), expect(GET), send(OK)];
        assert_passes(Protocol::Socks5h, "example.org", secrets, unsolicited);
        let script =
            vec![expect([5, 2, 0, 2]), send([5, 2]), expect(b"\x01\x05token\x00"), send([1, 0]), expect(asked)];
        let script = script.into_iter().chain([send(GRANTED_5), expect(GET), send(OK)]).collect();
        assert_passes(Protocol::Socks5h, "example.org", Some(("token", "")), script);
    }

    #[test]
    fn test_socks5_refusal_of_credentials_is_reported() {
        let secrets = Some(("Aladdin", "open sesame"));
        let script = vec![Step::Drain(4), send([5, 2]), Step::Drain(21), send([1, 1]), Step::Gone];
        let refused = refusal(Protocol::Socks5h, "example.org", secrets, script);
        assert_eq!(refused.words, "it does not accept this user and password");
        for method in [0xff, 1, 3] {
            let script = vec![Step::Drain(4), send([5, method]), Step::Gone];
            let refused = refusal(Protocol::Socks5h, "example.org", secrets, script);
            assert_eq!(refused.words, "it does not support a user and password");
            assert_eq!(refused_5(&[&[5, method]], Step::Gone), "it requires a user and password");
        }
        assert_eq!(refused_5(&[&[5, 2]], Step::Gone), "it requires a user and password");
    }

    #[test]
    fn test_socks_replies_are_explained() {
        for (reply, words) in [
            (1, "general failure"),
            (2, "not allowed by its rules"),
            (3, "network unreachable"),
            (4, "host unreachable"),
            (5, "connection refused"),
            (6, "time to live expired"),
            (7, "it does not support the command"),
            (8, "it does not support this type of address"),
            (9, "unknown reply 9"),
        ] {
            assert_eq!(refused_5(&[&[5, 0], &[5, reply, 0, 1]], Step::Gone), words);
        }
        for (reply, words) in [
            (91, "rejected or failed"),
            (92, "it cannot reach identd on this machine"),
            (93, "identd on this machine reports another user"),
            (94, "unknown reply 94"),
        ] {
            assert_eq!(refused_4(&[0, reply, 0, 0, 0, 0, 0, 0], Step::Gone), words);
        }
    }

    #[test]
    fn test_malformed_answer_is_an_error() {
        assert_eq!(refused_5(&[b"HTTP/1.1 400 Bad Request\r\n\r\n"], Step::Gone), "its reply is not SOCKS 5");
        assert_eq!(refused_5(&[&[5, 0], &[4, 0, 0, 1]], Step::Gone), "its reply is not SOCKS 5");
        let unknown = refused_5(&[&[5, 0], &[5, 0, 0, 9]], Step::Gone);
        assert_eq!(unknown, "its reply has an address of the unknown type 9");
        assert_eq!(refused_4(b"HTTP/1.1", Step::Gone), "its reply is not SOCKS 4");
        let closed = "it closed the connection without a response";
        for said in 0..2 {
            assert_eq!(refused_5(&[&[5, 0][..said]], Step::HalfClose), closed);
        }
        for reply in [GRANTED_5, b"\x05\x00\x00\x03\x03abc\x00\x50"] {
            for said in 0..reply.len() {
                assert_eq!(refused_5(&[&[5, 0], &reply[..said]], Step::HalfClose), closed);
            }
        }
        for said in 0..8 {
            assert_eq!(refused_4(&GRANTED_4[..said], Step::HalfClose), closed);
        }
    }

    #[test]
    fn test_bound_address_of_any_kind_is_skipped_exactly() {
        let name = [b"\x05\x00\x00\x03\xff".as_slice(), &[0xfe; 255], b"\x00\x50"].concat();
        for bound in [b"\x05\x00\xee\x04aaaabbbbccccdddd\x00\x50".as_slice(), b"\x05\x00\x00\x03\x00\x00\x50", &name] {
            let script = vec![Step::Drain(3), trickle([5, 0]), Step::Drain(18), trickle(bound), expect(GET), send(OK)];
            assert_passes(Protocol::Socks5h, "example.org", None, script);
        }
    }

    #[test]
    fn test_socks4_gets_an_address_and_socks4a_a_name() {
        let granting = |request: &[u8]| vec![expect(request), trickle(GRANTED_4), expect(GET), send(OK), Step::Closed];
        let user = Some(("me", ""));
        assert_passes(Protocol::Socks4, "example.org", None, granting(b"\x04\x01\x00\x50\xc0\x00\x02\x07\x00"));
        assert_passes(Protocol::Socks4, "example.org", user, granting(b"\x04\x01\x00\x50\xc0\x00\x02\x07me\x00"));
        assert_passes(Protocol::Socks4a, "192.0.2.1", None, granting(b"\x04\x01\x00\x50\xc0\x00\x02\x01\x00"));
        assert_passes(Protocol::Socks4a, "example.org", user, granting(b"\x04\x01\x00\x50\0\0\0\x01me\0example.org\0"));
    }

    #[test]
    fn test_host_that_socks_cannot_encode_is_refused() {
        let v6 = refusal(Protocol::Socks4a, "2001:db8::7", None, vec![Step::Closed]);
        assert_eq!(v6.words, "SOCKS 4 has no IPv6 addresses");
        let failed = failure(Protocol::Socks4, "2001:db8::7", None, vec![Step::Closed]);
        assert!(matches!(failed.kind(), Kind::Io(_)), "{failed}");
        let long = "a".repeat(256);
        for (protocol, host, secrets, script) in [
            (Protocol::Socks4a, long.as_str(), None, vec![Step::Closed]),
            (Protocol::Socks4a, "", None, vec![Step::Closed]),
            (Protocol::Socks4a, "a\0b", None, vec![Step::Closed]),
            (Protocol::Socks4a, "example.org", Some(("a\0b", "")), vec![Step::Closed]),
            (Protocol::Socks5h, long.as_str(), None, vec![Step::Closed]),
            (Protocol::Socks5h, "", None, vec![Step::Closed]),
            (
                Protocol::Socks5h,
                "example.org",
                Some((long.as_str(), "x")),
                vec![Step::Drain(4), send([5, 2]), Step::Closed],
            ),
        ] {
            let failed = failure(protocol, host, secrets, script);
            assert!(matches!(failed.kind(), Kind::Misuse(_)), "{failed}");
        }
    }

    #[test]
    fn test_tunnel_is_kept_for_the_next_request() {
        let mut script = granting(b"\x05\x01\x00\x03\x0bexample.org\x00\x50");
        script.truncate(6);
        script.extend([expect(GET), send(OK), Step::Closed]);
        let peer = Peer::new([script]);
        let (reactor, client) = through(Protocol::Socks5h, &peer, "example.org", None);
        for _ in 0..2 {
            assert_eq!(run(&reactor, ask(&client, get())).expect("an answer"), "ok");
        }
        assert_eq!(client.pool().statistics().opened, 1);
        drop(client);
        peer.finish();
    }
}
