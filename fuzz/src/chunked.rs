//! A chunked body decodes the same in any pieces, and as by a naive decoder.

use wire::chunked::Decoder;
use wire::framing::Step;
use wire::{HeaderMap, Limits};

use crate::divisions;
use crate::head::{Line, strict_lines};

/// Result of decoding some bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Decoded {
    pub(crate) body: Vec<u8>,
    pub(crate) end: End,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum End {
    Broken,
    /// More bytes are needed.
    Open,
    /// The body is complete; the number of bytes after it.
    Whole(usize),
}

/// Panics if the invariant does not hold.
pub fn run(data: &[u8]) {
    let (whole, trailers) = decode(&[data]);
    for pieces in divisions(data) {
        let (decoded, lines) = decode(&pieces);
        assert_eq!((&decoded, &lines), (&whole, &trailers), "in {} pieces", pieces.len());
    }
    let (expected, section) = naive(data);
    assert_eq!(whole.body, expected.body, "differs from the naive parser");
    let lines = strict_lines(section.strip_suffix(b"\r\n").unwrap_or(section));
    match (&whole.end, lines) {
        // The naive decoder does not decide which trailers are valid beyond those of the RFC.
        (End::Broken, None) => assert_ne!(expected.end, End::Open, "differs from the naive parser"),
        (end, lines) => {
            assert_eq!(end, &expected.end, "differs from the naive parser");
            if let (End::Whole(_), Some(lines)) = (end, lines) {
                assert_eq!(trailers, lines, "differs from the naive parser");
            }
        }
    }
}

fn decode(pieces: &[&[u8]]) -> (Decoded, Vec<Line>) {
    let (mut decoder, mut body, mut held) = (Decoder::new(Limits::default()), Vec::new(), Vec::new());
    for (number, piece) in pieces.iter().enumerate() {
        held.extend_from_slice(piece);
        loop {
            let Ok((used, step)) = decoder.step(&held) else {
                return (Decoded { body, end: End::Broken }, Vec::new());
            };
            held.drain(..used);
            match step {
                Step::End => {
                    let left = held.len() + pieces[number + 1..].iter().map(|piece| piece.len()).sum::<usize>();
                    return (Decoded { body, end: End::Whole(left) }, lines(decoder.trailers()));
                }
                Step::Data(left) if !held.is_empty() => {
                    let length = held.len().min(usize::try_from(left).expect("64 bits"));
                    body.extend(held.drain(..length));
                    decoder.taken(length as u64);
                }
                Step::Data(_) | Step::More => break,
            }
        }
    }
    assert!(held.is_empty(), "framing is consumed at once");
    (Decoded { body, end: End::Open }, Vec::new())
}

pub(crate) fn lines(headers: &HeaderMap) -> Vec<Line> {
    headers.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

/// Decodes by RFC 9112 section 7.1. Returns the result and the trailer section, of which only the end is checked.
pub(crate) fn naive(data: &[u8]) -> (Decoded, &[u8]) {
    let (mut body, mut rest) = (Vec::new(), data);
    loop {
        let (size, behind) = match naive_size(rest) {
            Ok(found) => found,
            Err(end) => return (Decoded { body, end }, b""),
        };
        if size == 0 {
            return match naive_trailers(behind) {
                Ok((section, left)) => (Decoded { body, end: End::Whole(left) }, section),
                Err(end) => (Decoded { body, end }, b""),
            };
        }
        let length = behind.len().min(usize::try_from(size).expect("64 bits"));
        body.extend_from_slice(&behind[..length]);
        let end = match &behind[length..] {
            [] => End::Open,
            [b'\r'] => End::Open,
            [b'\r', b'\n', left @ ..] => {
                rest = left;
                continue;
            }
            _ => End::Broken,
        };
        return (Decoded { body, end }, b"");
    }
}

/// Parses `chunk-size [ chunk-ext ] CRLF`. Returns the size and the bytes after it.
fn naive_size(data: &[u8]) -> Result<(u64, &[u8]), End> {
    let most = Limits::default().chunk_line_bytes;
    let digits = data.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let blanks = data[digits..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let mut end = digits + blanks;
    if data.get(end) == Some(&b';') {
        end += data[end..].iter().take_while(|byte| !matches!(byte, b'\r' | b'\n' | 0)).count();
    }
    if digits > 16 || (digits == 0 && !data.is_empty()) || end > most {
        return Err(End::Broken);
    }
    match &data[end..] {
        [b'\r', b'\n', ..] if end + 2 > most => Err(End::Broken),
        [b'\r'] if end + 1 > most => Err(End::Broken),
        [] | [b'\r'] => Err(End::Open),
        [b'\r', b'\n', behind @ ..] => {
            let text = std::str::from_utf8(&data[..digits]).expect("ASCII");
            Ok((u64::from_str_radix(text, 16).expect("at most 16 digits"), behind))
        }
        _ => Err(End::Broken),
    }
}

/// Returns the lines before the blank one, and the number of bytes after it.
fn naive_trailers(data: &[u8]) -> Result<(&[u8], usize), End> {
    let most = Limits::default().trailer_bytes;
    let mut start = 0;
    while let Some(length) = data[start..].iter().position(|&byte| byte == b'\n') {
        let line = &data[start..start + length];
        let end = start + length + 1;
        if line == b"\r" {
            return if end > most { Err(End::Broken) } else { Ok((&data[..start], data.len() - end)) };
        }
        if line.starts_with(b"\r") || !line.ends_with(b"\r") {
            return Err(End::Broken);
        }
        start = end;
    }
    let is_open = data.len() < most && !matches!(&data[start..], [b'\r', _, ..]);
    Err(if is_open { End::Open } else { End::Broken })
}
