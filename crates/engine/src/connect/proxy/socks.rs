//! A tunnel via SOCKS: version 5 (RFC 1928) with user and password (RFC 1929), version 4 and its extension 4a.

use std::borrow::Cow;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;

use tokio::io::{AsyncRead, ReadBuf};

use super::error::refused;
use super::settings::{Credentials, Protocol, Proxy};
use crate::error::Kind;
use crate::origin::{Origin, without_zone};
use crate::rt::stream::Stream;

const CONNECT: u8 = 1;

pub(super) async fn open_5(
    proxy: &Proxy,
    origin: &Origin,
    addresses: &[SocketAddr],
    mut stream: Stream,
) -> Result<Stream, Kind> {
    let target = Target::of(proxy, origin, addresses)?;
    let methods: &[u8] =
        if proxy.credentials.is_some() { &[NO_AUTHENTICATION, PASSWORD] } else { &[NO_AUTHENTICATION] };
    let mut greeting = vec![5, methods.len() as u8];
    greeting.extend_from_slice(methods);
    stream.write_all(&greeting).await?;
    let [version, method] = read(&mut stream, origin).await?;
    if version != 5 {
        return Err(refused(&origin.peer, "its reply is not SOCKS 5").into());
    }
    match (method, &proxy.credentials) {
        (NO_AUTHENTICATION, _) => {}
        (PASSWORD, Some(credentials)) => authenticate(credentials, origin, &mut stream).await?,
        (_, Some(_)) => return Err(refused(&origin.peer, "it does not support a user and password").into()),
        (_, None) => return Err(refused(&origin.peer, "it requires a user and password").into()),
    }

    let mut request = vec![5, CONNECT, 0];
    match &target {
        Target::Address(SocketAddr::V4(address)) => {
            request.push(IPV4);
            request.extend_from_slice(&address.ip().octets());
        }
        Target::Address(SocketAddr::V6(address)) => {
            request.push(IPV6);
            request.extend_from_slice(&address.ip().octets());
        }
        Target::Name(name, length) => {
            request.push(NAME);
            request.push(*length);
            request.extend_from_slice(name.as_bytes());
        }
    }
    request.extend_from_slice(&target.port(origin).to_be_bytes());
    stream.write_all(&request).await?;

    let [version, reply, _, kind] = read(&mut stream, origin).await?;
    if version != 5 {
        return Err(refused(&origin.peer, "its reply is not SOCKS 5").into());
    }
    if reply != 0 {
        return Err(refused(&origin.peer, reply_5(reply)).into());
    }
    // The address from which the proxy connects. It is not needed, but has to be consumed.
    let bound = match kind {
        IPV4 => 4,
        IPV6 => 16,
        NAME => read::<1>(&mut stream, origin).await?[0].into(),
        _ => return Err(refused(&origin.peer, format!("its reply has an address of the unknown type {kind}")).into()),
    };
    read_exactly(&mut stream, &mut vec![0; bound + 2], origin).await?;
    Ok(stream)
}

const NO_AUTHENTICATION: u8 = 0;
const PASSWORD: u8 = 2;

const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Authenticates with user and password (RFC 1929). Lengths of 0 are outside its range, but in use: some services
/// identify their users only by name.
async fn authenticate(credentials: &Credentials, origin: &Origin, stream: &mut Stream) -> Result<(), Kind> {
    let mut request = vec![1];
    for part in [&credentials.user, &credentials.password] {
        let length = u8::try_from(part.len());
        request.push(length.map_err(|_| Kind::Misuse("a user or password of more than 255 bytes for SOCKS 5"))?);
        request.extend_from_slice(part.as_bytes());
    }
    stream.write_all(&request).await?;
    let [_, status] = read(stream, origin).await?;
    if status != 0 {
        return Err(refused(&origin.peer, "it does not accept this user and password").into());
    }
    Ok(())
}

/// Describes a reply code (RFC 1928 section 6).
#[cold]
fn reply_5(reply: u8) -> Cow<'static, str> {
    Cow::Borrowed(match reply {
        1 => "general failure",
        2 => "not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "time to live expired",
        7 => "it does not support the command",
        8 => "it does not support this type of address",
        _ => return format!("unknown reply {reply}").into(),
    })
}

/// Opens a tunnel via SOCKS 4 or 4a: <https://www.openssh.com/txt/socks4.protocol> and
/// <https://www.openssh.com/txt/socks4a.protocol>.
pub(super) async fn open_4(
    proxy: &Proxy,
    origin: &Origin,
    addresses: &[SocketAddr],
    mut stream: Stream,
) -> Result<Stream, Kind> {
    let user = proxy.credentials.as_ref().map_or("", |credentials| &credentials.user);
    if user.contains('\0') {
        return Err(Kind::Misuse("a user with a NUL character for SOCKS 4"));
    }
    let target = Target::of(proxy, origin, addresses)?;
    let mut request = vec![4, CONNECT];
    request.extend_from_slice(&target.port(origin).to_be_bytes());
    request.extend_from_slice(&match &target {
        Target::Address(SocketAddr::V4(address)) => address.ip().octets(),
        Target::Address(SocketAddr::V6(_)) => return Err(refused(&origin.peer, "SOCKS 4 has no IPv6 addresses").into()),
        // An invalid address: a name follows.
        Target::Name(..) => [0, 0, 0, 1],
    });
    request.extend_from_slice(user.as_bytes());
    request.push(0);
    if let Target::Name(name, _) = &target {
        request.extend_from_slice(name.as_bytes());
        request.push(0);
    }
    stream.write_all(&request).await?;

    let [version, reply, ..] = read::<8>(&mut stream, origin).await?;
    if version != 0 {
        return Err(refused(&origin.peer, "its reply is not SOCKS 4").into());
    }
    match reply {
        90 => Ok(stream),
        91 => Err(refused(&origin.peer, "rejected or failed").into()),
        92 => Err(refused(&origin.peer, "it cannot reach identd on this machine").into()),
        93 => Err(refused(&origin.peer, "identd on this machine reports another user").into()),
        _ => Err(refused(&origin.peer, format!("unknown reply {reply}")).into()),
    }
}

/// The destination of a tunnel.
enum Target<'a> {
    Address(SocketAddr),
    /// A name with its length, which is one byte (RFC 1928 section 5).
    Name(Cow<'a, str>, u8),
}

impl<'a> Target<'a> {
    fn of(proxy: &Proxy, origin: &'a Origin, addresses: &[SocketAddr]) -> Result<Self, Kind> {
        if proxy.protocol.resolves_here() {
            let is_known = |address: &&SocketAddr| address.is_ipv4() || proxy.protocol != Protocol::Socks4;
            let none =
                || io::Error::new(io::ErrorKind::NotFound, "the host's name has no address that the proxy supports");
            return addresses
                .iter()
                .find(is_known)
                .map(|&address| Target::Address(address))
                .ok_or_else(|| none().into());
        }
        if let Ok(ip) = without_zone(&origin.host).parse::<IpAddr>() {
            return Ok(Target::Address(SocketAddr::new(ip, origin.port)));
        }
        let name = origin.ascii_name()?;
        if name.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(Kind::Misuse("the host holds white space or control characters"));
        }
        let length = u8::try_from(name.len()).ok().filter(|&length| length > 0);
        let length = length.ok_or(Kind::Misuse("the host's name must have 1 to 255 bytes for SOCKS"))?;
        Ok(Target::Name(name, length))
    }

    fn port(&self, origin: &Origin) -> u16 {
        match self {
            Target::Address(address) => address.port(),
            Target::Name(..) => origin.port,
        }
    }
}

async fn read<const N: usize>(stream: &mut Stream, origin: &Origin) -> Result<[u8; N], Kind> {
    let mut bytes = [0; N];
    read_exactly(stream, &mut bytes, origin).await?;
    Ok(bytes)
}

/// Fills `room`, and reads no further byte: those that follow are the origin's.
async fn read_exactly(stream: &mut Stream, room: &mut [u8], origin: &Origin) -> Result<(), Kind> {
    let mut room = ReadBuf::new(room);
    while room.remaining() > 0 {
        let before = room.remaining();
        poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut room)).await?;
        if room.remaining() == before {
            return Err(refused(&origin.peer, "it closed the connection without a response").into());
        }
    }
    Ok(())
}
