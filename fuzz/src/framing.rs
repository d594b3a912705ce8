//! A response parses the same in any pieces, and is framed by the rules of RFC 9112 section 6.3.

use std::mem::{Discriminant, discriminant};

use wire::framing::{MethodKind, Step, close_cause};
use wire::{Body, Framing, HeadReader, InterimCount, Limits, ResponseError, ResponseHead, Version};

use crate::chunked::{Decoded, End, lines, naive};
use crate::head::Line;
use crate::{divisions, mode};

/// Bit of the first byte: the peer closes the connection after the last byte.
pub const EOF: u8 = 1;
/// Bit of the first byte: the request was a HEAD.
pub const HEAD: u8 = 2;
/// Bit of the first byte: the request was a CONNECT, unless it was a HEAD.
pub const CONNECT: u8 = 4;

/// Received parts of one response.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Received {
    pub(crate) head: Option<(u16, Vec<u8>, Vec<Line>)>,
    pub(crate) framing: Option<Framing>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<Line>,
    pub(crate) is_complete: bool,
    /// True if the connection can be used again.
    pub(crate) is_kept: bool,
    /// Number of bytes after the message.
    pub(crate) left: usize,
    pub(crate) error: Option<Discriminant<ResponseError>>,
}

/// Returns the method kind that the first byte selects.
pub(crate) fn method_kind(mode: u8) -> MethodKind {
    match (mode & HEAD, mode & CONNECT) {
        (0, 0) => MethodKind::Other,
        (0, _) => MethodKind::Connect,
        _ => MethodKind::Head,
    }
}

/// Panics if the invariant does not hold.
pub fn run(data: &[u8]) {
    let (mode, data) = mode(data);
    let method_kind = method_kind(mode);
    let is_closed = mode & EOF != 0;
    let (whole, head) = receive(method_kind, &[data], is_closed);
    for pieces in divisions(data) {
        assert_eq!(receive(method_kind, &pieces, is_closed).0, whole, "in {} pieces", pieces.len());
    }
    if let Some((head, start)) = head {
        check(method_kind, &head, &data[start..], is_closed, &whole);
    }
}

/// Final head, if it is valid, and the start of its body.
type Final = Option<(ResponseHead, usize)>;

/// Reads pieces as a connection does.
pub(crate) fn receive(method_kind: MethodKind, pieces: &[&[u8]], is_closed: bool) -> (Received, Final) {
    let mut received = Received::default();
    let mut head = None;
    if let Err(error) = read(method_kind, pieces, is_closed, &mut received, &mut head) {
        received.error = Some(discriminant(&error));
        received.is_kept = false;
    }
    (received, head)
}

fn read(
    method_kind: MethodKind,
    pieces: &[&[u8]],
    is_closed: bool,
    received: &mut Received,
    head: &mut Final,
) -> Result<(), ResponseError> {
    let limits = Limits::default();
    let (mut reader, mut interim, mut taken) = (HeadReader::default(), InterimCount::default(), 0);
    let mut framing: Option<Body> = None;
    let mut held = Vec::new();
    for piece in pieces {
        held.extend_from_slice(piece);
        while framing.is_none() && !held.is_empty() {
            let Some((found, length)) = reader.read(&held, &limits)? else { break };
            held.drain(..length);
            taken += length;
            if found.is_interim() {
                interim.add(length, &limits)?;
                continue;
            }
            received.head = Some((found.status, found.reason().to_vec(), lines(&found.headers)));
            *head = Some((found.clone(), taken));
            let rule = Framing::of(method_kind, &found)?;
            received.is_kept = close_cause(method_kind, &found, rule).is_none();
            received.framing = Some(rule);
            framing = Some(Body::new(rule, &limits));
        }
        let Some(body) = &mut framing else { continue };
        take(body, &mut held, received)?;
    }
    received.left = if received.is_complete { held.len() } else { 0 };
    if is_closed && !received.is_complete {
        received.is_kept = false;
        match &mut framing {
            None => return Err(ResponseError::EarlyEnd("in the head")),
            Some(body) => body.end_of_input()?,
        }
        received.is_complete = true;
    }
    received.trailers = framing.as_ref().and_then(Body::trailers).map(lines).unwrap_or_default();
    Ok(())
}

fn take(body: &mut Body, held: &mut Vec<u8>, received: &mut Received) -> Result<(), ResponseError> {
    while !received.is_complete {
        let (used, step) = body.step(held)?;
        held.drain(..used);
        match step {
            Step::End => received.is_complete = true,
            Step::Data(left) if !held.is_empty() => {
                let length = held.len().min(usize::try_from(left).expect("64 bits"));
                received.body.extend(held.drain(..length));
                body.taken(length as u64);
            }
            Step::Data(_) | Step::More => break,
        }
    }
    Ok(())
}

/// Returns the framing by the rules, or `None` if they refuse the head.
fn naive_framing(method_kind: MethodKind, head: &ResponseHead) -> Option<Framing> {
    let status = head.status;
    if method_kind == MethodKind::Head || status / 100 == 1 || status == 204 || status == 304 {
        return Some(Framing::None);
    }
    if method_kind == MethodKind::Connect && status / 100 == 2 {
        return Some(Framing::None);
    }
    // Lines of one name are one line, joined by commas (RFC 9110 section 5.3).
    let joined = |wanted: &str| {
        let lines = head.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes()));
        let values: Vec<String> = lines.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect();
        (!values.is_empty()).then(|| values.join(",").to_ascii_lowercase())
    };
    let members =
        |text: &str| -> Vec<String> { text.split(',').map(|part| part.trim_matches([' ', '\t']).to_owned()).collect() };
    if let Some(codings) = joined("transfer-encoding") {
        let codings: Vec<String> = members(&codings).into_iter().filter(|coding| !coding.is_empty()).collect();
        let is_identity = codings.first().is_some_and(|coding| coding == "identity");
        let others = &codings[usize::from(is_identity)..];
        return match (is_identity, others.is_empty()) {
            (true, true) => Some(Framing::UntilClose),
            (false, true) => None,
            (_, false) => others.iter().all(|coding| coding == "chunked").then_some(Framing::Chunked),
        };
    }
    let Some(lengths) = joined("content-length") else { return Some(Framing::UntilClose) };
    let is_number = |text: &String| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let lengths = members(&lengths);
    if !lengths.iter().all(is_number) {
        return None;
    }
    let numbers: Vec<u64> = lengths.iter().map(|text| text.parse().ok()).collect::<Option<_>>()?;
    numbers.iter().all(|number| number == &numbers[0]).then(|| Framing::Counted(numbers[0]))
}

fn check(method_kind: MethodKind, head: &ResponseHead, rest: &[u8], is_closed: bool, received: &Received) {
    let framing = naive_framing(method_kind, head);
    assert_eq!(received.framing, framing, "differs from the naive parser");
    let cut = |wanted: u64| rest.len().min(usize::try_from(wanted).expect("64 bits"));
    let (body, is_complete) = match framing {
        None => (Vec::new(), false),
        Some(Framing::None) => (Vec::new(), true),
        Some(Framing::Counted(length)) => (rest[..cut(length)].to_vec(), rest.len() as u64 >= length),
        Some(Framing::UntilClose) => (rest.to_vec(), is_closed),
        Some(Framing::Chunked) => {
            let (Decoded { body, end }, _) = naive(rest);
            // The naive decoder does not check the trailers.
            (body, matches!(end, End::Whole(_)) && received.error.is_none())
        }
    };
    assert_eq!((&received.body, received.is_complete), (&body, is_complete), "differs from the naive parser");
    if received.is_kept {
        let (one, zero) = (Version::Http11, Version::Http10);
        let says = |member: &[u8]| head.headers.lists(b"connection", member);
        assert!(!says(b"close"), "kept after Connection: close");
        assert!(head.version == one || (head.version == zero && says(b"keep-alive")), "kept by 1.0");
        assert!(!matches!(framing, None | Some(Framing::UntilClose)), "kept without an end");
        assert_ne!(head.status, 101, "kept after a switch of protocols");
        let both = [b"transfer-encoding".as_slice(), b"content-length"].map(|name| head.headers.get(name).is_some());
        assert_ne!(both, [true, true], "kept with two framings");
        let codings = head.headers.get_all(b"transfer-encoding").flat_map(|value| value.split(|&byte| byte == b','));
        let count = codings.filter(|coding| !coding.trim_ascii().is_empty()).count();
        assert!(count <= 1 || framing != Some(Framing::Chunked), "kept with two codings");
    }
}
