//! A head comes out the same however it is cut, and holds what a naive reading of its lines finds there.

use std::mem::discriminant;

use wire::{HeadReader, Limits, ResponseError, ResponseHead, Version};

use crate::divisions;

/// Low enough to be reached.
const LIMITS: Limits = Limits {
    head_bytes: 1024,
    header_count: 40,
    chunk_line_bytes: 4096,
    trailer_bytes: 16 * 1024,
    interim_responses: 32,
};

type Read = Result<Option<(ResponseHead, usize)>, ResponseError>;

/// Panics where the invariant does not hold.
pub fn run(data: &[u8]) {
    let whole = read(&[data]);
    for pieces in divisions(data) {
        check_same(&whole, &read(&pieces));
    }
    let strict =
        strict(data).filter(|(_, lines, length)| *length <= LIMITS.head_bytes && lines.len() <= LIMITS.header_count);
    match (&whole, strict) {
        (Ok(Some((head, length))), strict) => {
            check_head(head, &data[..*length]);
            if let Some((status, lines, its_length)) = strict {
                assert_eq!((head.status, *length), (status, its_length), "beside a strict reading");
                assert_eq!(found(head), lines, "beside a strict reading");
            }
        }
        (other, Some(_)) => panic!("a good head, and {other:?}"),
        (Ok(None), None) => assert!(data.len() <= LIMITS.head_bytes, "held, and too long"),
        (Err(_), None) => {}
    }
}

/// The first result of a buffer that grows piece by piece.
fn read(pieces: &[&[u8]]) -> Read {
    let (mut reader, mut held) = (HeadReader::default(), Vec::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        let read = reader.read(&held, &LIMITS);
        if !matches!(read, Ok(None)) {
            return read;
        }
    }
    Ok(None)
}

fn check_same(one: &Read, other: &Read) {
    match (one, other) {
        (Ok(None), Ok(None)) => {}
        (Ok(Some((one, one_length))), Ok(Some((other, other_length)))) => {
            assert_eq!((one.status, one.version, one_length), (other.status, other.version, other_length));
            assert_eq!((one.reason(), found(one)), (other.reason(), found(other)));
        }
        // The words may show more or less of what has come.
        (Err(one), Err(other)) => assert_eq!(discriminant(one), discriminant(other), "{one}; {other}"),
        _ => panic!("{one:?}, and in pieces {other:?}"),
    }
}

fn found(head: &ResponseHead) -> Vec<Line> {
    head.headers.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

/// A name and its value.
pub(crate) type Line = (Vec<u8>, Vec<u8>);

/// Beside a lenient reading of the same lines, in which a fold is one blank.
fn check_head(head: &ResponseHead, text: &[u8]) {
    let mut lines = text.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let status_line = lines.by_ref().map(|line| line.trim_ascii_start()).find(|line| !line.is_empty()).expect("a line");
    let version = if head.version == Version::Http10 { "HTTP/1.0" } else { "HTTP/1.1" };
    let start = format!("{version} {}", head.status);
    assert!(status_line.starts_with(start.as_bytes()), "{} for {}", start, status_line.escape_ascii());
    assert_eq!(head.reason().trim_ascii(), status_line[start.len()..].trim_ascii());
    let mut expected: Vec<Line> = Vec::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        match (line.first(), expected.last_mut()) {
            (Some(b' ' | b'\t'), Some((_, value))) => value.extend([b" ", line].concat()),
            _ => {
                let colon = line.iter().position(|&byte| byte == b':').expect("a colon in each line");
                expected.push((line[..colon].to_vec(), line[colon + 1..].to_vec()));
            }
        }
    }
    let one_blank = |(name, value): &Line| (name.clone(), one_blank(value));
    let found = found(head);
    assert_eq!(found.iter().map(one_blank).collect::<Vec<_>>(), expected.iter().map(one_blank).collect::<Vec<_>>());
    for (name, value) in &found {
        assert!(wire::token::is_token(name), "a name: {}", name.escape_ascii());
        assert_eq!(wire::token::forbidden_in_value(value), None, "a value: {}", value.escape_ascii());
        assert_eq!(wire::token::trim(value), value, "blanks around a value");
    }
}

/// Each run of blanks as one, and none at the ends.
fn one_blank(value: &[u8]) -> Vec<u8> {
    let words = value.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(b" ".as_slice())
}

/// The status, the lines and the length of a head that follows RFC 9112 to the letter, with nothing odd in its reason.
fn strict(data: &[u8]) -> Option<(u16, Vec<Line>, usize)> {
    let end = data.windows(4).position(|window| window == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&data[..end]).ok()?;
    let (status_line, lines) = text.split_once("\r\n").unwrap_or((text, ""));
    let rest = status_line.strip_prefix("HTTP/1.1 ").or_else(|| status_line.strip_prefix("HTTP/1.0 "))?;
    let (status, reason) = rest.split_once(' ')?;
    let graphic = |text: &str| text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    let is_status = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit()) && !status.starts_with('0');
    (is_status && graphic(reason)).then_some(())?;
    Some((status.parse().ok()?, strict_lines(lines.as_bytes())?, end + 4))
}

/// `*( field-line CRLF )` without the last CRLF, of RFC 9112 section 5 without folds.
pub(crate) fn strict_lines(text: &[u8]) -> Option<Vec<Line>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let text = std::str::from_utf8(text).ok()?;
    let lines = text.split("\r\n").map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let is_good = |byte: u8| byte == b'\t' || byte == b' ' || byte.is_ascii_graphic();
        let fits = !name.is_empty() && name.bytes().all(is_token) && value.bytes().all(is_good);
        fits.then(|| (name.as_bytes().to_vec(), value.trim_matches([' ', '\t']).as_bytes().to_vec()))
    });
    lines.collect()
}
