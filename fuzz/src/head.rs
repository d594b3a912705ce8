//! A head parses the same in any pieces, and as by a naive parser of its lines.

use std::mem::discriminant;

use wire::{HeadReader, Limits, ResponseError, ResponseHead, Version};

use crate::divisions;

/// Limits that inputs can reach.
const LIMITS: Limits = Limits {
    head_bytes: 1024,
    header_count: 40,
    chunk_line_bytes: 4096,
    trailer_bytes: 16 * 1024,
    interim_responses: 1000,
    interim_bytes: 1024 * 1024,
};

type Read = Result<Option<(ResponseHead, usize)>, ResponseError>;

/// Panics if the invariant does not hold.
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
                assert_eq!((head.status, *length), (status, its_length), "differs from the strict parser");
                assert_eq!(found(head), lines, "differs from the strict parser");
            }
        }
        (other, Some(_)) => panic!("a good head, and {other:?}"),
        (Ok(None), None) => assert!(data.len() <= LIMITS.head_bytes, "held, and too long"),
        (Err(_), None) => {}
    }
}

/// Returns the first result from a buffer that grows piece by piece.
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
        // The message may quote more or less of the input.
        (Err(one), Err(other)) => assert_eq!(discriminant(one), discriminant(other), "{one}; {other}"),
        _ => panic!("{one:?}, and in pieces {other:?}"),
    }
}

fn found(head: &ResponseHead) -> Vec<Line> {
    head.headers.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

/// Name and value of a field.
pub(crate) type Line = (Vec<u8>, Vec<u8>);

/// Compares the head with a lenient parse of the same lines, in which a fold is one blank.
fn check_head(head: &ResponseHead, text: &[u8]) {
    let mut lines = text.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let status_line = lines.by_ref().map(|line| line.trim_ascii_start()).find(|line| !line.is_empty()).expect("a line");
    // Later minor versions are read as 1.1 (RFC 9110 section 2.5).
    let minor = status_line.get("HTTP/1.".len()).copied().filter(u8::is_ascii_digit).expect("a minor version");
    assert_eq!(head.version, if minor == b'0' { Version::Http10 } else { Version::Http11 });
    let start = format!("HTTP/1.{} {}", char::from(minor), head.status);
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

/// Returns the value with each run of blanks as one, and none at the ends.
fn one_blank(value: &[u8]) -> Vec<u8> {
    let words = value.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(b" ".as_slice())
}

/// Parses a head that follows RFC 9112 strictly, with an ASCII reason. Returns its status, lines and length.
fn strict(data: &[u8]) -> Option<(u16, Vec<Line>, usize)> {
    let end = data.windows(4).position(|window| window == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&data[..end]).ok()?;
    let (status_line, lines) = text.split_once("\r\n").unwrap_or((text, ""));
    let rest =
        status_line.strip_prefix("HTTP/1.")?.strip_prefix(|minor: char| minor.is_ascii_digit())?.strip_prefix(' ')?;
    let (status, reason) = rest.split_once(' ')?;
    let graphic = |text: &str| text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    let is_status = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit()) && !status.starts_with('0');
    (is_status && graphic(reason)).then_some(())?;
    Some((status.parse().ok()?, strict_lines(lines.as_bytes())?, end + 4))
}

/// Parses `*( field-line CRLF )` without the last CRLF and without folds, RFC 9112 section 5.
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
