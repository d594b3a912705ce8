//! A tunnel via CONNECT: RFC 9110 section 9.3.6.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::{Duration, Instant};

use wire::framing::MethodKind;
use wire::{Framing, Limits, RequestError, ResponseHead, request};

use super::error::{Refusal, quote, refused};
use super::settings::Proxy;
use crate::error::{Error, Kind, Phase};
use crate::http1::connection::Connection;
use crate::origin::{Origin, authority};
use crate::rt::reactor::Reactor;
use crate::rt::stream::Stream;
use crate::rt::timeout::{Deadline, WaitTimeout};

/// Maximum number of characters that an error quotes of a refusal's reason, and of its body.
const QUOTED: usize = 512;

/// Time to wait for that many characters. A prompt error is better than a complete quote.
const QUOTE_WAIT: Duration = Duration::from_millis(250);

pub(super) async fn open(
    reactor: &Rc<Reactor>,
    proxy: &Proxy,
    origin: &Origin,
    limits: &Limits,
    for_proxy: Option<&[u8]>,
    mut stream: Stream,
) -> Result<Stream, Kind> {
    let authorization = for_proxy.map(<[u8]>::to_vec).or_else(|| proxy.authorization());
    let authorization = authorization.as_deref();
    stream.write_all(&head(authorization, origin)?).await?;
    let mut connection = Connection::new(reactor, stream, proxy.peer().into(), WaitTimeout::new(reactor, None));
    let answer = connection.read_head(limits).await.map_err(|error| no_answer(error, authorization, origin))?;
    if !(200..300).contains(&answer.status) {
        let words = words(authorization, &mut connection, &answer).await;
        return Err(Kind::Proxy(Refusal { origin: origin.peer.clone(), status: Some(answer.status), words }));
    }
    // The client sends first, so bytes that are already here are not from the origin. Length fields do not excuse them,
    // since a 2xx response has no body, whatever its fields declare (RFC 9110 section 9.3.6).
    if !connection.buffer.is_empty() {
        return Err(refused(&origin.peer, format!("unexpected bytes follow its response {}", answer.status)).into());
    }
    Ok(connection.stream)
}

fn head(authorization: Option<&[u8]>, origin: &Origin) -> Result<Vec<u8>, Kind> {
    let target = authority(&origin.ascii_name()?, origin.port);
    let mut head = Vec::with_capacity(128);
    let mut write = || -> Result<(), RequestError> {
        request::line(&mut head, b"CONNECT", target.as_bytes(), b"HTTP/1.1")?;
        request::field(&mut head, b"Host", target.as_bytes())?;
        if let Some(value) = authorization {
            request::field(&mut head, b"Proxy-Authorization", value)?;
        }
        Ok(())
    };
    write().map_err(|_| Kind::Misuse("the host holds white space or control characters"))?;
    head.extend_from_slice(b"\r\n");
    Ok(head)
}

#[cold]
fn no_answer(error: Error, authorization: Option<&[u8]>, origin: &Origin) -> Kind {
    match error.into_kind() {
        Kind::Closed => refused(&origin.peer, "it closed the connection without a response").into(),
        Kind::Response(error) => {
            let words = format!("its response is not valid HTTP: {error}");
            refused(&origin.peer, quote(authorization, words.as_bytes(), false, QUOTED)).into()
        }
        kind => kind,
    }
}

/// Quotes the status line, and as much of a plain-text body as is buffered or arrives within [`QUOTE_WAIT`].
#[cold]
async fn words(authorization: Option<&[u8]>, connection: &mut Connection, head: &ResponseHead) -> String {
    let reason = quote(authorization, head.reason(), false, QUOTED);
    let status = format!("{} {reason}", head.status);
    let quoted = Box::pin(body(authorization, connection, head)).await;
    let separator = if quoted.is_empty() { "" } else { ": " };
    format!("{}{separator}{quoted}", status.trim_end())
}

async fn body(authorization: Option<&[u8]>, connection: &mut Connection, head: &ResponseHead) -> String {
    let length = match Framing::of(MethodKind::Other, head) {
        Ok(Framing::Counted(length)) => Some(usize::try_from(length).unwrap_or(usize::MAX)),
        Ok(Framing::UntilClose) => None,
        _ => return String::new(),
    };
    if head.headers.get(b"content-encoding").is_some() || !is_text(head) {
        return String::new();
    }
    connection.wait_timeout.set(None, Deadline::of_dial(Instant::now(), QUOTE_WAIT));
    while connection.buffer.len() < length.unwrap_or_default().min(QUOTED) {
        match poll_fn(|cx| connection.poll_fill_or_time_out(cx, Phase::Proxy)).await {
            Ok(1..) => {}
            _ => break,
        }
    }
    let here = connection.buffer.len();
    let said = connection.buffer.get(..here.min(length.unwrap_or(here))).unwrap_or_default();
    quote(authorization, said, length.is_none_or(|length| here < length), QUOTED)
}

/// Returns true if the body is readable in an error: text that is not HTML.
fn is_text(head: &ResponseHead) -> bool {
    let kind = head.headers.get(b"content-type").unwrap_or(b"text/plain").to_ascii_lowercase();
    (kind.starts_with(b"text/") && !kind.starts_with(b"text/html")) || kind.starts_with(b"application/json")
}
