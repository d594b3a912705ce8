//! A tunnel by HTTP's CONNECT: RFC 9110 section 9.3.6.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::{Duration, Instant};

use wire::framing::Asked;
use wire::{Framing, RequestError, ResponseHead, request};

use super::{Proxy, Refusal, ascii_name, quote, refused, write_all};
use crate::config::authority;
use crate::stream::Stream;
use crate::timers::{Deadline, Patience};
use crate::{Config, Connection, Error, Kind, Phase, Reactor};

/// How much of a refusal's reason, and of its body, an error may quote, in characters.
const QUOTED: usize = 512;

/// How long to wait for that much. Whoever is refused wants to know soon rather than all.
const QUOTE_WAIT: Duration = Duration::from_millis(250);

pub(super) async fn open(
    reactor: &Rc<Reactor>,
    proxy: &Proxy,
    config: &Config,
    for_proxy: Option<&[u8]>,
    mut stream: Stream,
) -> Result<Stream, Kind> {
    let authorization = for_proxy.map(<[u8]>::to_vec).or_else(|| proxy.authorization());
    let authorization = authorization.as_deref();
    write_all(&mut stream, &head(authorization, config)?).await?;
    let mut connection = Connection::new(reactor, stream, proxy.peer().into(), Patience::new(reactor, None));
    let answer = connection.read_head(&config.limits).await.map_err(|error| no_answer(error, authorization, config))?;
    if !(200..300).contains(&answer.status) {
        let words = words(authorization, &mut connection, &answer).await;
        return Err(Kind::Proxy(Refusal { origin: config.peer.clone(), status: Some(answer.status), words }));
    }
    // The client speaks first: what is here already was not said by the origin. Length fields are no excuse, since a
    // 2xx has no body, whatever they say (RFC 9110 section 9.3.6).
    if !connection.buffer.is_empty() {
        return Err(refused(config, format!("its answer {} is followed by what nobody asked for", answer.status)));
    }
    Ok(connection.stream)
}

fn head(authorization: Option<&[u8]>, config: &Config) -> Result<Vec<u8>, Kind> {
    let target = authority(&ascii_name(config)?, config.port);
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
fn no_answer(error: Error, authorization: Option<&[u8]>, config: &Config) -> Kind {
    match error.into_kind() {
        Kind::Closed => refused(config, "it closed the connection instead of an answer"),
        Kind::Response(error) => {
            let words = format!("its answer is not good HTTP: {error}");
            refused(config, quote(authorization, words.as_bytes(), false, QUOTED))
        }
        kind => kind,
    }
}

/// The status line's, and as much of a body of plain text as is here or comes at once.
#[cold]
async fn words(authorization: Option<&[u8]>, connection: &mut Connection, head: &ResponseHead) -> String {
    let reason = quote(authorization, head.reason(), false, QUOTED);
    let status = format!("{} {reason}", head.status);
    let quoted = Box::pin(body(authorization, connection, head)).await;
    let separator = if quoted.is_empty() { "" } else { ": " };
    format!("{}{separator}{quoted}", status.trim_end())
}

async fn body(authorization: Option<&[u8]>, connection: &mut Connection, head: &ResponseHead) -> String {
    let length = match Framing::of(Asked::Other, head) {
        Ok(Framing::Counted(length)) => Some(usize::try_from(length).unwrap_or(usize::MAX)),
        Ok(Framing::UntilClose) => None,
        _ => return String::new(),
    };
    if head.headers.get(b"content-encoding").is_some() || !is_text(head) {
        return String::new();
    }
    connection.patience.set(None, Deadline::of_dial(Instant::now(), QUOTE_WAIT));
    while connection.buffer.len() < length.unwrap_or_default().min(QUOTED) {
        match poll_fn(|cx| connection.poll_fill_patiently(cx, Phase::Proxy)).await {
            Ok(1..) => {}
            _ => break,
        }
    }
    let here = connection.buffer.len();
    let said = connection.buffer.get(..here.min(length.unwrap_or(here))).unwrap_or_default();
    quote(authorization, said, length.is_none_or(|length| here < length), QUOTED)
}

/// Whether a person could read it in an error: text that is not HTML.
fn is_text(head: &ResponseHead) -> bool {
    let kind = head.headers.get(b"content-type").unwrap_or(b"text/plain").to_ascii_lowercase();
    (kind.starts_with(b"text/") && !kind.starts_with(b"text/html")) || kind.starts_with(b"application/json")
}
