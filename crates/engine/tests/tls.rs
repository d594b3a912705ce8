//! TLS, against a rustls server that misbehaves on demand.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use engine::connect::proxy::{Protocol, Proxy};
use engine::tls::{Options, SetupError, TlsClient, TlsError, Verify, Versions};
use engine::{Client, Config, Error, IoState, Kind, Phase, RawConnection, Reactor, SystemResolver};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use support::*;
use tokio::io::ReadBuf;
use wire::Limits;
use wire::framing::MethodKind;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

type Stream<S = TcpStream> = StreamOwned<ServerConnection, S>;

/// A CA, and the path of its file.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
}

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| {
    let mut params = CertificateParams::new([]).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "a CA for tests");
    let key = KeyPair::generate().expect("a key");
    let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
    let file = file_of("ca.pem", &issuer.pem());
    Authority { issuer, file }
});

/// Returns the path of a file of this process alone.
fn file_of(name: &str, text: &str) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::SeqCst);
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{number}-{name}", std::process::id()));
    fs::write(&path, text).expect("a file");
    path
}

/// Returns a server's configuration, with a certificate of that name, signed by the CA.
fn certified(name: &str, edit: impl FnOnce(&mut CertificateParams)) -> Arc<ServerConfig> {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
    edit(&mut params);
    let certificate = params.signed_by(&key, &AUTHORITY.issuer).expect("a certificate");
    configured(certificate.der().clone(), key)
}

fn configured(certificate: CertificateDer<'static>, key: KeyPair) -> Arc<ServerConfig> {
    configured_with(vec![certificate], key)
}

fn configured_with(chain: Vec<CertificateDer<'static>>, key: KeyPair) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
    Arc::new(builder.with_single_cert(chain, key).expect("a key that fits"))
}

/// A listener with a script for each connection.
struct Server {
    address: SocketAddr,
    thread: JoinHandle<()>,
}

type Script = Box<dyn FnOnce(&mut Stream) + Send>;

impl Server {
    fn new(config: Arc<ServerConfig>, scripts: Vec<Script>) -> Self {
        Server::raw(scripts.into_iter().map(|script| {
            let config = config.clone();
            let raw: Box<dyn FnOnce(TcpStream) + Send> = Box::new(move |socket| {
                script(&mut StreamOwned::new(ServerConnection::new(config).expect("a session"), socket));
            });
            raw
        }))
    }

    fn raw(scripts: impl IntoIterator<Item = Box<dyn FnOnce(TcpStream) + Send>>) -> Self {
        let scripts: Vec<_> = scripts.into_iter().collect();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let thread = spawn(move || {
            for script in scripts {
                let (socket, _) = listener.accept().expect("a connection");
                // A second answer must not wait for the first one's acknowledgement.
                socket.set_nodelay(true).expect("a TCP socket");
                socket.set_read_timeout(Some(BOUND)).expect("a timeout");
                script(socket);
            }
        });
        Server { address, thread }
    }

    fn finish(self) {
        self.thread.join().expect("a script that was followed");
    }
}

fn script(script: impl FnOnce(&mut Stream) + Send + 'static) -> Script {
    Box::new(script)
}

/// Reads a request's head, `false` when the client has gone instead.
fn heard(stream: &mut impl Read) -> bool {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return false,
        }
    }
    true
}

fn answers(times: usize) -> Script {
    script(move |stream| {
        for _ in 0..times {
            assert!(heard(stream));
            stream.write_all(OK).expect("a client that listens");
        }
        assert!(!heard(stream), "no more than {times} requests");
    })
}

fn trusting() -> Options {
    Options { roots: Some(AUTHORITY.file.clone()), ..Options::default() }
}

fn secured(address: SocketAddr, name: &str, options: &Options) -> (Rc<Reactor>, Client) {
    let reactor = Reactor::new().expect("a reactor");
    let mut config = Config::new(&address.ip().to_string(), address.port());
    config.tls = Some(Rc::new(TlsClient::new(name, options).expect("good options")));
    config.timeouts.network = Some(Duration::from_secs(10));
    (reactor.clone(), Client::new(&reactor, config, 2))
}

fn refused(config: Arc<ServerConfig>, name: &str, options: &Options) -> Error {
    let server = Server::new(config, vec![script(|stream| assert!(!heard(stream)))]);
    let (reactor, client) = secured(server.address, name, options);
    let error = run(&reactor, fetch(&client, get())).map(drop).expect_err("no trust");
    assert_eq!(error.phase(), Phase::Tls);
    assert_eq!(client.pool().statistics().in_use, 0);
    server.finish();
    error
}

#[test]
fn test_one_connection_serves_many_requests_and_reports_its_tls() {
    let server = Server::new(certified("a.test", |_| ()), vec![answers(3)]);
    let (reactor, client) = secured(server.address, "a.test", &trusting());
    for _ in 0..3 {
        let (response, body) = run(&reactor, fetch(&client, get())).expect("an answer");
        assert_eq!(body, b"ok");
        let facts = response.tls.expect("a private connection");
        assert_eq!((facts.version.as_str(), facts.verified, facts.resumed), ("TLSv1.3", Verify::Full, false));
        assert!(facts.cipher.starts_with("TLS_"), "{}", facts.cipher);
        assert!(facts.peer_certificate.as_ref().is_some_and(|der| der.first() == Some(&0x30)));
    }
    assert_eq!(client.pool().statistics().opened, 1);
    drop(client);
    server.finish();
}

#[test]
fn test_sessions_are_resumed_within_one_client_only() {
    let config = certified("a.test", |_| ());
    let server = Server::new(config, vec![answers(1), answers(1), answers(1)]);
    let (reactor, client) = secured(server.address, "a.test", &trusting());
    let resumed = |client: &Client| {
        let (response, _) = run(&reactor, fetch(client, get())).expect("an answer");
        client.pool().close_idle();
        response.tls.expect("a private connection").resumed
    };
    assert!(!resumed(&client));
    assert!(resumed(&client));
    let (reactor, other) = secured(server.address, "a.test", &trusting());
    let (response, _) = run(&reactor, fetch(&other, get())).expect("an answer");
    assert!(!response.tls.expect("a private connection").resumed);
    drop(other);
    server.finish();
}

/// Returns OpenSSL's number for the certificate's problem.
fn code_of(error: &TlsError) -> Option<u32> {
    error.certificate.as_ref().map(|verdict| verdict.code)
}

#[test]
fn test_error_of_a_certificate_names_the_problem() {
    let code = |error: &Error| match error.kind() {
        Kind::Tls(error) => code_of(error),
        other => panic!("{other:?}"),
    };
    let error = refused(certified("a.test", |_| ()), "b.test", &trusting());
    assert_eq!(code(&error), Some(62));
    assert!(error.to_string().contains("wanted 'b.test', the certificate has 'a.test'"), "{error}");
    let error = refused(certified("a.test", |_| ()), "127.0.0.1", &trusting());
    assert_eq!(code(&error), Some(64));
    let old = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 2, 3);
    };
    let error = refused(certified("a.test", old), "a.test", &trusting());
    assert_eq!(code(&error), Some(10));
    assert!(error.to_string().contains("it expired on Sun, 03 Feb 2002 00:00:00 GMT"), "{error}");
    let new = |params: &mut CertificateParams| params.not_before = date_time_ymd(2999, 1, 1);
    let error = refused(certified("a.test", new), "a.test", &trusting());
    assert_eq!(code(&error), Some(9));
    assert!(error.to_string().contains("it is not valid before Tue, 01 Jan 2999"), "{error}");
    let error = refused(certified("a.test", |_| ()), "a.test", &Options::default());
    assert_eq!(code(&error), Some(20));
}

/// Returns a self-signed certificate, as a CA or not, and the path of its file.
fn self_signed(is_ca: bool) -> (Arc<ServerConfig>, PathBuf) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(["a.test".to_owned()]).expect("a name");
    if is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let certificate = params.self_signed(&key).expect("a certificate");
    let file = file_of("self.pem", &certificate.pem());
    (configured(certificate.der().clone(), key), file)
}

#[test]
fn test_trusted_self_signed_certificate_is_accepted() {
    for is_ca in [false, true] {
        let (config, file) = self_signed(is_ca);
        let error = refused(config.clone(), "a.test", &trusting());
        assert!(matches!(error.kind(), Kind::Tls(error) if error.certificate.is_some()), "{error}");
        let options = Options { roots: Some(file), ..Options::default() };
        let error = refused(config.clone(), "b.test", &options);
        assert!(matches!(error.kind(), Kind::Tls(error) if code_of(error) == Some(62)), "{error}");
        let server = Server::new(config, vec![answers(1)]);
        let (reactor, client) = secured(server.address, "a.test", &options);
        assert_eq!(run(&reactor, answer(&client, get())).expect("trust").1, "ok");
        drop(client);
        server.finish();
    }
}

type Edit = fn(&mut CertificateParams);

fn as_it_is(_: &mut CertificateParams) {}

/// Returns a server's configuration with a certificate issued by an edited root, perhaps via an intermediate one, and
/// the root's file.
fn issued(edit: impl FnOnce(&mut CertificateParams), by_intermediate: bool) -> (Arc<ServerConfig>, PathBuf) {
    issued_with(edit, by_intermediate.then_some(as_it_is), as_it_is)
}

/// Returns the same as [`issued`], with the intermediate and the server's certificate edited too.
fn issued_with(
    edit: impl FnOnce(&mut CertificateParams),
    between: Option<Edit>,
    server: Edit,
) -> (Arc<ServerConfig>, PathBuf) {
    let authority = |name: &str| {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params
    };
    let mut params = authority("an odd root");
    edit(&mut params);
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate");
    let file = file_of("root.pem", &root.pem());
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(["a.test".to_owned()]).expect("a name");
    server(&mut params);
    let Some(edit) = between else {
        let certificate = params.signed_by(&key, &root).expect("a certificate");
        return (configured(certificate.der().clone(), key), file);
    };
    let below = KeyPair::generate().expect("a key");
    let mut intermediate = authority("an intermediate");
    edit(&mut intermediate);
    let between = CertifiedIssuer::signed_by(intermediate, below, &root).expect("a certificate");
    let certificate = params.signed_by(&key, &between).expect("a certificate");
    (configured_with(vec![certificate.der().clone(), between.der().clone()], key), file)
}

#[test]
fn test_trusted_certificate_that_may_not_issue_others_is_refused() {
    let cases: [(Edit, bool, u32, &str); 6] = [
        (|params| params.is_ca = IsCa::ExplicitNoCa, false, 79, "'CN=an odd root', which is not a CA certificate"),
        (|params| params.is_ca = IsCa::NoCa, true, 79, "which is not a CA certificate"),
        (|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)), true, 25, "allows at most 0"),
        (|params| params.not_after = date_time_ymd(2002, 2, 3), false, 10, "which expired on Sun, 03 Feb 2002"),
        (|params| params.not_before = date_time_ymd(2999, 1, 1), false, 9, "which is not valid before Tue, 01 Jan"),
        (|params| params.custom_extensions = vec![odd()], false, 34, "which has a critical extension"),
    ];
    for (edit, by_intermediate, code, words) in cases {
        let (config, file) = issued(edit, by_intermediate);
        let error = refused(config, "a.test", &Options { roots: Some(file), ..Options::default() });
        assert!(matches!(error.kind(), Kind::Tls(error) if code_of(error) == Some(code)), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

/// Adds an unknown critical extension.
fn odd() -> CustomExtension {
    let mut odd = CustomExtension::from_oid_content(&[1, 2, 3, 4, 5], vec![5, 0]);
    odd.set_criticality(true);
    odd
}

#[test]
fn test_key_usage_that_does_not_permit_what_the_key_is_used_for_is_refused() {
    let cases: [(Option<Edit>, Edit, u32); 6] = [
        (Some(|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]), as_it_is, 79),
        (Some(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]), as_it_is, 79),
        (None, |params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign], 26),
        (None, |params| params.key_usages = vec![KeyUsagePurpose::ContentCommitment], 26),
        (Some(as_it_is), |params| params.key_usages = vec![KeyUsagePurpose::DataEncipherment], 26),
        (None, |params| params.custom_extensions = vec![unreadable_usage()], 26),
    ];
    for (between, server, code) in cases {
        let (config, file) = issued_with(as_it_is, between, server);
        let error = refused(config, "a.test", &Options { roots: Some(file), ..Options::default() });
        assert!(matches!(error.kind(), Kind::Tls(error) if code_of(error) == Some(code)), "{error}");
    }
}

/// Adds a key usage that is no bit string.
fn unreadable_usage() -> CustomExtension {
    CustomExtension::from_oid_content(&[2, 5, 29, 15], vec![5, 0])
}

#[test]
fn test_key_usage_that_permits_what_the_key_is_used_for_is_accepted() {
    let uses: [Edit; 3] = [
        |params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature],
        |params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::DataEncipherment],
        |params| params.key_usages = vec![KeyUsagePurpose::KeyAgreement],
    ];
    for server in uses {
        let signs: Edit = |params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let (config, file) = issued_with(as_it_is, Some(signs), server);
        let peer = Server::new(config, vec![answers(1)]);
        let options = Options { roots: Some(file), ..Options::default() };
        let (reactor, client) = secured(peer.address, "a.test", &options);
        assert_eq!(run(&reactor, answer(&client, get())).expect("trust").1, "ok");
        drop(client);
        peer.finish();
    }
}

#[test]
fn test_trusted_certificate_that_allows_the_chain_is_accepted() {
    for (length, by_intermediate) in [(0, false), (1, true)] {
        let edit = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(length));
        let (config, file) = issued(edit, by_intermediate);
        let server = Server::new(config, vec![answers(1)]);
        let options = Options { roots: Some(file), ..Options::default() };
        let (reactor, client) = secured(server.address, "a.test", &options);
        assert_eq!(run(&reactor, answer(&client, get())).expect("trust").1, "ok");
        drop(client);
        server.finish();
    }
}

#[test]
fn test_less_is_checked_only_on_request() {
    let (config, _) = self_signed(true);
    for (options, name, verified) in [
        (Options { verify: Verify::Chain, ..trusting() }, "b.test", Verify::Chain),
        (Options { verify: Verify::No, ..Options::default() }, "b.test", Verify::No),
    ] {
        let own = if verified == Verify::No { config.clone() } else { certified("a.test", |_| ()) };
        let server = Server::new(own, vec![answers(1)]);
        let (reactor, client) = secured(server.address, name, &options);
        let (response, _) = run(&reactor, fetch(&client, get())).expect("an answer");
        assert_eq!(response.tls.expect("a private connection").verified, verified);
        drop(client);
        server.finish();
    }
    let unchecked_chain = refused(config, "a.test", &Options { verify: Verify::Chain, ..trusting() });
    assert!(matches!(unchecked_chain.kind(), Kind::Tls(_)));
}

/// Shows a certificate and signs with a key that is not its own.
#[derive(Debug)]
struct Impostor(Arc<rustls::sign::CertifiedKey>);

impl rustls::server::ResolvesServerCert for Impostor {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(self.0.clone())
    }
}

#[test]
fn test_certificate_without_its_key_is_refused_even_unverified() {
    let (own, shown) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
    let params = CertificateParams::new(["a.test".to_owned()]).expect("a name");
    let certificate = params.signed_by(&shown, &AUTHORITY.issuer).expect("a certificate");
    let key = PrivateKeyDer::try_from(own.serialize_der()).expect("a key");
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).expect("a key of a known kind");
    let stolen = rustls::sign::CertifiedKey::new(vec![certificate.der().clone()], key);
    for versions in [Versions::Tls12, Versions::Tls13] {
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
        let config = Arc::new(builder.with_cert_resolver(Arc::new(Impostor(Arc::new(stolen.clone())))));
        let error = refused(config, "a.test", &Options { verify: Verify::No, versions, ..Options::default() });
        assert!(matches!(error.kind(), Kind::Tls(_)), "{error}");
    }
}

#[test]
fn test_versions_that_are_not_allowed_are_not_used() {
    for (versions, version) in [(Versions::Tls12, "TLSv1.2"), (Versions::Tls13, "TLSv1.3")] {
        let server = Server::new(certified("a.test", |_| ()), vec![answers(1)]);
        let (reactor, client) = secured(server.address, "a.test", &Options { versions, ..trusting() });
        let (response, _) = run(&reactor, fetch(&client, get())).expect("an answer");
        assert_eq!(response.tls.expect("a private connection").version, version);
        drop(client);
        server.finish();
    }
}

#[test]
fn test_tickets_and_new_keys_leave_an_idle_connection_reusable() {
    let (asked, ask) = gate();
    let (done, told) = tell();
    let (Step::Await(asked), Step::Tell(done)) = (asked, done) else { panic!("the steps that were made") };
    let server = Server::new(
        certified("a.test", |_| ()),
        vec![script(move |stream| {
            assert!(heard(stream));
            stream.write_all(OK).expect("a client that listens");
            asked.recv_timeout(BOUND).expect("the test goes on");
            stream.conn.refresh_traffic_keys().expect("TLS 1.3");
            stream.flush().expect("a client that listens");
            done.send(()).expect("the test waits");
            assert!(heard(stream), "the same connection");
            stream.write_all(OK).expect("a client that listens");
            assert!(!heard(stream));
        })],
    );
    let (reactor, client) = secured(server.address, "a.test", &trusting());
    assert_eq!(run(&reactor, answer(&client, get())).expect("an answer").1, "ok");
    ask.send(()).expect("a server that waits");
    told.wait();
    assert_eq!(run(&reactor, answer(&client, get())).expect("an answer").1, "ok");
    assert_eq!(client.pool().statistics().opened, 1);
    drop(client);
    server.finish();
}

#[test]
fn test_unsolicited_data_ends_an_idle_connection() {
    for words in [OK, b""] {
        let (done, told) = tell();
        let Step::Tell(done) = done else { panic!("the step that was made") };
        let server = Server::new(
            certified("a.test", |_| ()),
            vec![
                script(move |stream| {
                    assert!(heard(stream));
                    stream.write_all(OK).expect("a client that listens");
                    if words.is_empty() {
                        stream.conn.send_close_notify();
                        stream.flush().expect("a client that listens");
                    } else {
                        stream.write_all(words).expect("a client that listens");
                    }
                    done.send(()).expect("the test waits");
                    assert!(!heard(stream), "no second request");
                }),
                answers(1),
            ],
        );
        let (reactor, client) = secured(server.address, "a.test", &trusting());
        assert_eq!(run(&reactor, answer(&client, get())).expect("an answer").1, "ok");
        told.wait();
        assert_eq!(run(&reactor, answer(&client, get())).expect("an answer").1, "ok");
        assert_eq!(client.pool().statistics().opened, 2);
        drop(client);
        server.finish();
    }
}

#[test]
fn test_partial_record_on_an_idle_connection_ends_it() {
    let (done, told) = tell();
    let Step::Tell(done) = done else { panic!("the step that was made") };
    let server = Server::new(
        certified("a.test", |_| ()),
        vec![
            script(move |stream| {
                assert!(heard(stream));
                stream.write_all(OK).expect("a client that listens");
                stream.conn.writer().write_all(OK).expect("room");
                let mut record = Vec::new();
                stream.conn.write_tls(&mut record).expect("memory");
                stream.sock.write_all(&record[..9]).expect("a client that listens");
                done.send(()).expect("the test waits");
                assert!(!heard(stream), "no second request");
            }),
            answers(1),
        ],
    );
    let (reactor, client) = secured(server.address, "a.test", &trusting());
    assert_eq!(run(&reactor, answer(&client, get())).expect("an answer").1, "ok");
    told.wait();
    assert_eq!(run(&reactor, answer(&client, get())).expect("an answer").1, "ok");
    assert_eq!(client.pool().statistics().opened, 2);
    drop(client);
    server.finish();
}

#[test]
fn test_close_delimited_body_needs_close_notify() {
    for says_goodbye in [true, false] {
        let server = Server::new(
            certified("a.test", |_| ()),
            vec![script(move |stream| {
                assert!(heard(stream));
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nall of it?").expect("a client that listens");
                if says_goodbye {
                    stream.conn.send_close_notify();
                    stream.flush().expect("a client that listens");
                }
            })],
        );
        let (reactor, client) = secured(server.address, "a.test", &trusting());
        let read = run(&reactor, answer(&client, get()));
        match (says_goodbye, read) {
            (true, Ok((200, body))) => assert_eq!(body, "all of it?"),
            (false, Err(error)) => {
                assert!(matches!(error.kind(), Kind::Response(wire::ResponseError::EarlyEnd(_))), "{error}");
                assert_eq!(error.phase(), Phase::Body);
            }
            (_, other) => panic!("{other:?}"),
        }
        drop(client);
        server.finish();
    }
}

#[test]
fn test_large_bodies_arrive_whole_in_both_directions() {
    const SIZE: usize = 5_000_000;
    let body: Vec<u8> = (0..SIZE).map(|i| (i % 251) as u8).collect();
    let expected = body.clone();
    let server = Server::new(
        certified("a.test", |_| ()),
        vec![script(move |stream| {
            assert!(heard(stream));
            let mut sent = vec![0; SIZE];
            stream.read_exact(&mut sent).expect("a whole body");
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
            stream.write_all(head.as_bytes()).expect("a client that listens");
            stream.write_all(&sent).expect("a client that listens");
            assert!(!heard(stream));
        })],
    );
    let (reactor, client) = secured(server.address, "a.test", &trusting());
    let (_, echoed) = run(&reactor, fetch(&client, post(body))).expect("an answer");
    assert!(echoed == expected);
    assert_eq!(client.pool().statistics().idle, 1);
    drop(client);
    server.finish();
}

#[test]
fn test_peer_without_tls_or_that_closes_silently_is_an_error() {
    let plain: Box<dyn FnOnce(TcpStream) + Send> = Box::new(|mut socket| {
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("a client that listens");
        drop(socket.read(&mut [0; 1024]));
    });
    let gone: Box<dyn FnOnce(TcpStream) + Send> = Box::new(|mut socket| {
        assert!(socket.read(&mut [0; 4096]).expect("a hello") > 0);
    });
    let server = Server::raw([plain, gone]);
    let (reactor, client) = secured(server.address, "a.test", &trusting());
    let error = run(&reactor, fetch(&client, get())).map(drop).expect_err("no TLS");
    assert!(error.to_string().contains("may speak plain HTTP"), "{error}");
    let error = run(&reactor, fetch(&client, get())).map(drop).expect_err("no answer");
    let is_end = matches!(error.kind(), Kind::Tls(_))
        || matches!(error.kind(), Kind::Io(error) if error.kind() == ErrorKind::ConnectionReset);
    assert!(is_end && error.phase() == Phase::Tls, "{error}");
    server.finish();
}

#[test]
fn test_raw_connection_is_secured_on_request() {
    let config = certified("a.test", |_| ());
    let trusted = TlsClient::new("a.test", &trusting()).expect("good options");
    let unknown = TlsClient::new("b.test", &trusting()).expect("good options");
    for (tls, is_good) in [(trusted, true), (unknown, false)] {
        let config = config.clone();
        let server = Server::raw([Box::new(move |mut socket: TcpStream| {
            assert!(heard(&mut socket), "CONNECT");
            socket.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").expect("a client that listens");
            let mut stream = StreamOwned::new(ServerConnection::new(config).expect("a session"), socket);
            while heard(&mut stream) {
                stream.write_all(OK).expect("a client that listens");
            }
        }) as Box<dyn FnOnce(TcpStream) + Send>]);
        let reactor = Reactor::new().expect("a reactor");
        let config = Config::new("127.0.0.1", server.address.port());
        let (limits, wait_limit) = (Limits::default(), Some(BOUND));
        run(&reactor, async {
            let raw = RawConnection::open(&reactor, &config, &SystemResolver).await.expect("a connection");
            raw.send(b"CONNECT a.test:443 HTTP/1.1\r\n\r\n", wait_limit).await.expect("a proxy that listens");
            let mut room = [MaybeUninit::uninit(); 100];
            let mut room = ReadBuf::uninit(&mut room);
            while !room.filled().ends_with(b"\r\n\r\n") {
                raw.receive(&mut room, wait_limit).await.expect("an answer");
            }
            let secured = raw.secure(&tls, wait_limit).await;
            assert_eq!(secured.is_ok(), is_good, "{secured:?}");
            if let Err(error) = secured {
                assert_eq!((error.phase(), raw.io_state()), (Phase::Tls, IoState::Unusable));
                return;
            }
            assert!(raw.facts().is_some_and(|facts| facts.verified == Verify::Full));
            for _ in 0..2 {
                raw.send(b"GET / HTTP/1.1\r\n\r\n", wait_limit).await.expect("a host that listens");
                let answer = raw.answer(MethodKind::Other, &limits, wait_limit).await.expect("an answer");
                assert!(answer.tls.is_some() && answer.body.is_complete());
                assert!(raw.descriptor().is_some_and(|descriptor| descriptor.number().is_some()));
            }
        });
        server.finish();
    }
}

#[test]
fn test_tls_within_tls_through_a_proxy_works() {
    let (outer, inner) = (certified("proxy.test", |_| ()), certified("a.test", |_| ()));
    let server = Server::new(
        outer,
        vec![script(move |stream| {
            assert!(heard(stream), "CONNECT");
            stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").expect("a client that listens");
            let mut within = StreamOwned::new(ServerConnection::new(inner).expect("a session"), stream);
            for _ in 0..2 {
                assert!(heard(&mut within));
                within.write_all(OK).expect("a client that listens");
            }
            assert!(!heard(&mut within));
        })],
    );
    let reactor = Reactor::new().expect("a reactor");
    let mut config = Config::new("a.test", 443);
    config.tls = Some(Rc::new(TlsClient::new("a.test", &trusting()).expect("good options")));
    let mut proxy = Proxy::new(Protocol::Http, "127.0.0.1", server.address.port());
    proxy.tls = Some(Rc::new(TlsClient::new("proxy.test", &trusting()).expect("good options")));
    config.route.proxy = Some(proxy);
    let client = Client::new(&reactor, config, 1);
    for _ in 0..2 {
        assert_eq!(run(&reactor, answer(&client, get())).expect("an answer").1, "ok");
    }
    assert_eq!(client.pool().statistics().opened, 1);
    drop(client);
    server.finish();
}

#[test]
fn test_setup_error_names_its_file() {
    let setup = |options: &Options| TlsClient::new("a.test", options).map(drop).expect_err("bad options");
    let missing = PathBuf::from("/nowhere/ca.pem");
    let error = setup(&Options { roots: Some(missing.clone()), ..Options::default() });
    assert!(matches!(&error, SetupError::File(path, _) if *path == missing), "{error}");
    let empty = file_of("empty.pem", "nothing\n");
    let error = setup(&Options { roots: Some(empty.clone()), ..Options::default() });
    assert!(matches!(&error, SetupError::Content(words) if words.contains(&*empty.to_string_lossy())), "{error}");
    let certificate = AUTHORITY.file.clone();
    let error = setup(&Options { identity: Some((certificate.clone(), empty.clone())), ..trusting() });
    assert!(error.to_string().contains("no private key"), "{error}");
    let error = setup(&Options { identity: Some((empty, certificate.clone())), ..trusting() });
    assert!(error.to_string().contains("no certificate"), "{error}");
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let error = setup(&Options { identity: Some((certificate.clone(), file_of("locked.pem", locked))), ..trusting() });
    assert!(error.to_string().contains("is encrypted"), "{error}");
    let other = file_of("other.pem", &KeyPair::generate().expect("a key").serialize_pem());
    let error = setup(&Options { identity: Some((certificate, other)), ..trusting() });
    assert!(matches!(error, SetupError::Content(_)), "{error}");
    for name in ["", "a b", "-", "a..b"] {
        assert!(matches!(TlsClient::new(name, &trusting()), Err(SetupError::Name(_))), "{name:?}");
    }
}
