//! Lines of a body are read the same in any pieces, and as by a naive reader of the whole.

use wire::lines::{LineReader, LineTooLong};

use crate::divisions;

/// Small, so that inputs reach it.
const MOST: usize = 32;

#[derive(Debug, Default, PartialEq)]
struct Read {
    lines: Vec<Vec<u8>>,
    is_too_long: bool,
}

/// Panics if the invariant does not hold.
pub fn run(data: &[u8]) {
    let expected = naive(data);
    for pieces in divisions(data) {
        assert_eq!(read(&pieces), expected, "in {} pieces", pieces.len());
    }
}

fn read(pieces: &[&[u8]]) -> Read {
    let (mut reader, mut read) = (LineReader::new(MOST), Read::default());
    for &piece in pieces {
        let mut rest = piece;
        while !rest.is_empty() {
            match reader.read(rest) {
                Ok((used, line)) => {
                    assert!(used > 0 && (line.is_some() || used == rest.len()), "bytes are left");
                    rest = &rest[used..];
                    read.lines.extend(line.map(<[u8]>::to_vec));
                }
                Err(error) => {
                    assert_eq!(error, LineTooLong(MOST));
                    read.is_too_long = true;
                    return read;
                }
            }
        }
        assert_eq!(reader.read(b""), Ok((0, None)), "an empty piece has a line");
    }
    read.lines.extend(reader.finish().map(<[u8]>::to_vec));
    assert_eq!(reader.finish(), None, "the last line is returned again");
    read
}

/// Splits the whole body at each LF. A CR at the end of a line is a part of its end.
fn naive(data: &[u8]) -> Read {
    let mut read = Read::default();
    let mut lines: Vec<_> = data.split(|&byte| byte == b'\n').collect();
    if lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop(); // not a line: the body ends with an LF, or is empty
    }
    for line in lines {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > MOST {
            read.is_too_long = true;
            break;
        }
        read.lines.push(line.to_vec());
    }
    read
}
