//! Reads each response of `tests/vectors`, whole and split at every point.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::vectors::{Expected, Kind, Message, Vector, first_failure, load};
use wire::framing::{MethodKind, Step, close_cause};
use wire::{Body, Framing, HeadReader, HeaderMap, Limits, ResponseError, ResponseHead};

/// Parts of the response received so far.
#[derive(Default)]
struct Received {
    head: Option<ResponseHead>,
    body: Vec<u8>,
    framing: Option<Body>,
    complete: bool,
    closes: bool,
    left: Vec<u8>,
}

/// Reads pieces as a connection does.
fn receive(method: &str, pieces: &[&[u8]], eof: bool) -> Result<Received, (bool, ResponseError)> {
    let (method, limits) = (MethodKind::by(method.as_bytes()), Limits::default());
    let (mut received, mut reader, mut interim) = (Received::default(), HeadReader::default(), 0);
    for piece in pieces {
        received.left.extend_from_slice(piece);
        while received.head.is_none() && !received.left.is_empty() {
            let in_head = |error| (true, error);
            let Some((head, length)) = reader.read(&received.left, &limits).map_err(in_head)? else { break };
            received.left.drain(..length);
            if head.is_interim() {
                interim += 1;
                if interim > limits.interim_responses {
                    return Err((true, ResponseError::TooManyInterim(limits.interim_responses)));
                }
                continue;
            }
            let framing = Framing::of(method, &head).map_err(in_head)?;
            received.closes = close_cause(method, &head, framing).is_some();
            received.framing = Some(Body::new(framing, &limits));
            received.head = Some(head);
        }
        take_body(&mut received).map_err(|error| (false, error))?;
    }
    if eof && !received.complete {
        match &mut received.framing {
            None => return Err((true, ResponseError::EarlyEnd("head"))),
            Some(body) => body.end_of_input().map_err(|error| (false, error))?,
        }
        received.complete = true;
    }
    Ok(received)
}

fn take_body(received: &mut Received) -> Result<(), ResponseError> {
    let Some(body) = &mut received.framing else { return Ok(()) };
    while !received.complete {
        let (used, step) = body.step(&received.left)?;
        received.left.drain(..used);
        match step {
            Step::End => received.complete = true,
            Step::More => break,
            Step::Data(_) if received.left.is_empty() => break,
            Step::Data(left) => {
                let length = received.left.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                received.body.extend(received.left.drain(..length));
                body.taken(length as u64);
            }
        }
    }
    Ok(())
}

fn lines(headers: &HeaderMap) -> Vec<(Vec<u8>, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

fn check_message(expected: &Message, received: &Received) {
    let head = received.head.as_ref().expect("a head");
    assert!(received.complete, "incomplete");
    assert_eq!(head.status, expected.status);
    if let Some(version) = &expected.version {
        assert_eq!(head.version.as_str(), version);
    }
    if let Some(reason) = &expected.reason {
        assert_eq!(head.reason(), reason);
    }
    if let Some(headers) = &expected.headers {
        assert_eq!(&lines(&head.headers), headers);
    }
    assert_eq!(received.body.escape_ascii().to_string(), expected.body.escape_ascii().to_string());
    assert_eq!(!received.closes && received.left.is_empty(), expected.keep_alive);
    assert_eq!(received.left.escape_ascii().to_string(), expected.extra.escape_ascii().to_string());
    let trailers = received.framing.as_ref().and_then(Body::trailers).map(lines).unwrap_or_default();
    assert_eq!(trailers, expected.trailers);
}

fn kind(error: &ResponseError) -> Kind {
    match error {
        ResponseError::EarlyEnd(_) => Kind::Cut,
        ResponseError::HeadTooLarge(_)
        | ResponseError::TooManyHeaders(_)
        | ResponseError::TooManyInterim(_)
        | ResponseError::TrailersTooLarge(_) => Kind::TooLarge,
        ResponseError::ChunkExtension(what) if what.contains("too long") => Kind::TooLarge,
        _ => Kind::Malformed,
    }
}

fn check(vector: &Vector, pieces: &[&[u8]]) {
    match (&vector.expected, receive(&vector.method, pieces, vector.eof)) {
        (Expected::Message(expected), Ok(received)) => check_message(expected, &received),
        (Expected::Failure { in_head, kind: expected }, Err((was_in_head, error))) => {
            assert_eq!((was_in_head, kind(&error)), (*in_head, *expected), "{error}");
        }
        (Expected::Message(_), Err((_, error))) => panic!("refused: {error}"),
        (Expected::Failure { .. }, Ok(_)) => panic!("not refused"),
    }
}

#[test]
fn test_vectors_in_any_pieces_are_read_as_expected() {
    let failed: Vec<_> = load()
        .iter()
        .filter_map(|vector| first_failure(&vector.name, &vector.divisions(), |pieces| check(vector, pieces)))
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}
