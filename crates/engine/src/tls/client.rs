//! The client's side of TLS, implemented with rustls.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, KeyLogFile, ProtocolVersion, SupportedProtocolVersion};
use tokio_rustls::TlsConnector;

use super::error::{SetupError, TlsError};
use super::roots::Roots;
use super::stream::TlsStream;
use super::verify::{Verifier, Verify};
use super::{Handshake, Offer, Secured, Tls, TlsInfo, identity};
use crate::error::Kind;
use crate::rt::stream::Stream;

/// Maximum number of sessions that are kept for resumption: those of one server, with as many tickets as rustls keeps
/// for one.
const SESSIONS: usize = 8;

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// Settings of TLS.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A file, or a directory, with the certificates to trust (PEM), instead of the default ones.
    pub roots: Option<PathBuf>,
    /// The checks of the peer's certificate.
    pub verify: Verify,
    /// The client's certificate and its key (PEM), for servers that request one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The versions that are offered.
    pub versions: Versions,
    /// The protocols that are offered (RFC 7301), the preferred one first.
    pub alpn: Vec<Vec<u8>>,
}

/// Versions of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Versions {
    /// 1.2 and 1.3.
    #[default]
    All,
    /// Only 1.2.
    Tls12,
    /// Only 1.3.
    Tls13,
}

/// TLS to one host. Its sessions are resumed only by itself; all clients share the trusted certificates.
#[derive(Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    verify: Verify,
}

impl TlsClient {
    /// Creates a client for the host of that name, which may be an internationalised name or an address.
    pub fn new(host: &str, options: &Options) -> Result<Self, SetupError> {
        let name = server_name(host)?;
        let versions: &[&SupportedProtocolVersion] = match options.versions {
            Versions::All => &[&TLS13, &TLS12],
            Versions::Tls12 => &[&TLS12],
            Versions::Tls13 => &[&TLS13],
        };
        let failed = |error: rustls::Error| SetupError::Content(error.to_string());
        let provider = PROVIDER.clone();
        let verify = options.verify;
        let roots = match &options.roots {
            // They are not needed.
            None if verify == Verify::No => Arc::default(),
            path => Roots::of(path.as_deref())?,
        };
        let verifier = Verifier { verify, roots, algorithms: provider.signature_verification_algorithms };
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).map_err(failed)?;
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &options.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let (chain, private) = identity::read(certificate, key)?;
                builder.with_client_auth_cert(chain, private).map_err(|error| {
                    let files = format!("{} and {}", certificate.display(), key.display());
                    SetupError::Content(format!("the certificate and the key in {files} cannot be used: {error}"))
                })?
            }
        };
        config.alpn_protocols.clone_from(&options.alpn);
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        if std::env::var_os("SSLKEYLOGFILE").is_some_and(|path| !path.is_empty()) {
            // As Python's default contexts do, so that users can decrypt their own traffic.
            static KEY_LOG: LazyLock<Arc<KeyLogFile>> = LazyLock::new(|| Arc::new(KeyLogFile::new()));
            config.key_log = KEY_LOG.clone();
        }
        Ok(TlsClient { config: Arc::new(config), name, verify })
    }
}

/// Returns true if a [`TlsClient`] can be created for that host. rustls does not accept names with a hyphen at the end
/// of a label, with a last label of digits, or with characters that RFC 1123 does not allow; resolvers may accept them.
pub fn is_server_name(host: &str) -> bool {
    server_name(host).is_ok()
}

/// Returns the name that is sent (RFC 6066 section 3) and for which the certificate has to be valid.
fn server_name(host: &str) -> Result<ServerName<'static>, SetupError> {
    // A zone (RFC 6874) has a meaning only on this machine.
    let literal = host.trim_matches(['[', ']']).split('%').next().unwrap_or(host);
    if let Ok(address) = literal.parse::<IpAddr>() {
        return Ok(ServerName::IpAddress(address.into()));
    }
    let refuse = || SetupError::Name(host.to_owned());
    let ascii = wire::url::idna::to_ascii(host).map_err(|_| refuse())?;
    ServerName::try_from(ascii.into_owned()).map_err(|_| refuse())
}

impl Tls for TlsClient {
    fn handshake(&self, stream: Stream, offer: Offer) -> Handshake {
        let mut config = self.config.clone();
        if offer == Offer::Http1 {
            Arc::make_mut(&mut config).alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        let connecting = TlsStream::connect(TlsConnector::from(config), self.name.clone(), stream);
        let verify = self.verify;
        Box::pin(async move {
            let stream = connecting.await.map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => Kind::Tls(TlsError::closed_in_handshake()),
                _ => Kind::from(error),
            })?;
            let facts = facts(stream.session(), verify);
            Ok(Secured { stream: Stream::Layer(Box::new(stream)), facts: Rc::new(facts) })
        })
    }
}

fn facts(session: &ClientConnection, verified: Verify) -> TlsInfo {
    let version = match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "",
    };
    let cipher = session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or_default();
    TlsInfo {
        version: version.to_owned(),
        // rustls includes the version in the names of the suites of 1.3 (RFC 8446 appendix B.4).
        cipher: cipher.replacen("TLS13_", "TLS_", 1),
        alpn: session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
        peer_certificate: session.peer_certificates().and_then(<[_]>::first).map(|der| der.to_vec()),
        verified,
        resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
    }
}
