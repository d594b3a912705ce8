//! A stream of server-sent events is read the same in any pieces, and as by a naive reader of the whole.

use wire::sse::{EventReader, EventTooLarge};

use crate::divisions;

/// Small, so that inputs reach it.
const MOST: usize = 64;

/// Type, data, ID and reconnection time.
type Fields = (String, String, String, Option<u64>);

#[derive(Debug, Default, PartialEq)]
struct Read {
    events: Vec<Fields>,
    last_id: String,
    retry: Option<u64>,
    is_too_large: bool,
}

/// Panics if the invariant does not hold.
pub fn run(data: &[u8]) {
    let expected = naive(data);
    for pieces in divisions(data) {
        assert_eq!(read(&pieces), expected, "in {} pieces", pieces.len());
    }
}

fn read(pieces: &[&[u8]]) -> Read {
    let (mut reader, mut read) = (EventReader::new(MOST), Read::default());
    'pieces: for &piece in pieces {
        let mut rest = piece;
        while !rest.is_empty() {
            match reader.read(rest) {
                Ok((used, event)) => {
                    assert!(used > 0 && (event.is_some() || used == rest.len()), "bytes are left");
                    rest = &rest[used..];
                    read.events.extend(event.map(|event| {
                        (event.event.into_owned(), event.data.into_owned(), event.id.to_string(), event.retry)
                    }));
                }
                Err(error) => {
                    assert_eq!(error, EventTooLarge(MOST));
                    read.is_too_large = true;
                    break 'pieces;
                }
            }
        }
    }
    read.last_id = reader.last_event_id().to_owned();
    read.retry = reader.last_retry();
    read
}

/// Reads a stream by section 9.2.6 of the HTML standard, step by step, with the whole stream in memory.
fn naive(data: &[u8]) -> Read {
    let data = data.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(data);
    let (mut read, mut event, mut text, mut id, mut retry) =
        (Read::default(), Vec::new(), Vec::<u8>::new(), None::<Vec<u8>>, None);
    for (line, is_complete) in naive_lines(data) {
        if line.first() == Some(&b':') {
            continue;
        }
        let size = |event: &[u8], text: &[u8], id: &Option<Vec<u8>>| {
            event.len() + text.len() + id.as_ref().map_or(0, Vec::len)
        };
        if size(&event, &text, &id) + line.len() > MOST {
            read.is_too_large = true;
            return read;
        }
        if !is_complete {
            break;
        }
        if line.is_empty() {
            if let Some(id) = id.take() {
                read.last_id = String::from_utf8_lossy(&id).into_owned();
            }
            let name = if event.is_empty() { b"message".to_vec() } else { std::mem::take(&mut event) };
            event.clear();
            if text.pop().is_some() {
                let decode = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                read.events.push((decode(&name), decode(&text), read.last_id.clone(), retry));
            }
            text.clear();
            retry = None;
            continue;
        }
        let colon = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = if value.first() == Some(&b' ') { &value[1..] } else { value };
        match &line[..colon] {
            b"data" => text.extend([value, b"\n"].concat()),
            b"event" => event = value.to_vec(),
            b"id" if !value.contains(&0) => id = Some(value.to_vec()),
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                let digits = std::str::from_utf8(value).expect("ASCII");
                retry = Some(digits.parse().unwrap_or(u64::MAX));
                read.retry = retry;
            }
            _ => {}
        }
        if size(&event, &text, &id) > MOST {
            read.is_too_large = true;
            return read;
        }
    }
    read
}

/// Returns the lines without their ends, each with whether it has one.
fn naive_lines(mut data: &[u8]) -> Vec<(&[u8], bool)> {
    let mut lines = Vec::new();
    while let Some(end) = data.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        lines.push((&data[..end], true));
        let behind = if data[end..].starts_with(b"\r\n") { end + 2 } else { end + 1 };
        data = &data[behind..];
    }
    lines.push((data, false));
    lines
}
