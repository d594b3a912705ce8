//! Reads each stream of events of `tests/vectors`, whole and split at every point.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::vectors::{EventFields, EventVector, first_failure, load_events};
use wire::sse::{EventReader, EventTooLarge, MOST_EVENT_BYTES};

/// Reads pieces as they arrive. Returns the events before an error, too.
fn read(reader: &mut EventReader, pieces: &[&[u8]]) -> (Vec<EventFields>, Result<(), EventTooLarge>) {
    let mut events = Vec::new();
    for &piece in pieces {
        let mut rest = piece;
        while !rest.is_empty() {
            match reader.read(rest) {
                Ok((used, event)) => {
                    assert!(used > 0 && (event.is_some() || used == rest.len()), "{used} of {}", rest.len());
                    rest = &rest[used..];
                    events.extend(event.map(|event| {
                        (event.event.into_owned(), event.data.into_owned(), event.id.to_string(), event.retry)
                    }));
                }
                Err(error) => return (events, Err(error)),
            }
        }
    }
    (events, Ok(()))
}

fn check(vector: &EventVector, pieces: &[&[u8]]) {
    let mut reader = EventReader::new(MOST_EVENT_BYTES);
    let (events, result) = read(&mut reader, pieces);
    assert_eq!(events, vector.events);
    assert_eq!(result.is_err(), vector.is_too_large);
    assert_eq!((reader.last_event_id(), reader.last_retry()), (&*vector.last_id, vector.last_retry));
}

#[test]
fn test_events_in_any_pieces_are_read_as_expected() {
    let failed: Vec<_> = load_events()
        .iter()
        .filter_map(|vector| first_failure(&vector.name, &vector.divisions(), |pieces| check(vector, pieces)))
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}
