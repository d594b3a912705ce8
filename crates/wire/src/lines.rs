//! Lines that end with LF, of a body in JSON lines (NDJSON).

use memchr::memchr;

/// Default of the most bytes of one line.
pub const MOST_LINE_BYTES: usize = 16 * 1024 * 1024;

/// Capacity that the buffer keeps after a line.
const KEPT_BYTES: usize = 16 * 1024;

/// A line is longer than the limit, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Line too long: more than {0} bytes")]
pub struct LineTooLong(pub usize);

/// Splits a body that arrives in pieces of any size.
#[derive(Clone, Debug)]
pub struct LineReader {
    most: usize,
    /// The received part of an incomplete line, or the line that has been returned.
    line: Vec<u8>,
    is_returned: bool,
}

impl LineReader {
    /// Returns a reader at the start of a body, for lines of at most `most` bytes without their ends.
    pub fn new(most: usize) -> Self {
        LineReader { most, line: Vec::new(), is_returned: false }
    }

    /// Reads from the start of `input` to the end of a line. Returns the number of bytes read, which is all of them if
    /// the line is not complete, and the line without its end, LF or CR LF.
    ///
    /// # Errors
    /// [`LineTooLong`]; the body cannot be read after that.
    pub fn read<'a>(&'a mut self, input: &'a [u8]) -> Result<(usize, Option<&'a [u8]>), LineTooLong> {
        self.forget();
        let end = memchr(b'\n', input);
        let (part, _) = input.split_at(end.unwrap_or(input.len()));
        // The CR of a line end is not known as such before the LF.
        let length = self.line.len().saturating_add(part.len());
        let last = part.last().or(self.line.last());
        if length.saturating_sub(usize::from(last == Some(&b'\r'))) > self.most {
            return Err(LineTooLong(self.most));
        }
        let Some(end) = end else {
            self.line.extend_from_slice(part);
            return Ok((input.len(), None));
        };
        if self.line.is_empty() {
            return Ok((end + 1, Some(without_return(part))));
        }
        self.line.extend_from_slice(part);
        self.is_returned = true;
        Ok((end + 1, Some(without_return(&self.line))))
    }

    /// Ends the body. Returns the last line if it has no end.
    pub fn finish(&mut self) -> Option<&[u8]> {
        self.forget();
        self.is_returned = !self.line.is_empty();
        self.is_returned.then(|| without_return(&self.line))
    }

    fn forget(&mut self) {
        if std::mem::take(&mut self.is_returned) {
            self.line.clear();
            self.line.shrink_to(KEPT_BYTES);
        }
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the lines of a body in these pieces.
    fn lines(pieces: &[&[u8]], most: usize) -> Result<Vec<Vec<u8>>, LineTooLong> {
        let (mut reader, mut found) = (LineReader::new(most), Vec::new());
        for &piece in pieces {
            let mut rest = piece;
            while !rest.is_empty() {
                let (used, line) = reader.read(rest)?;
                assert!(line.is_some() || used == rest.len());
                found.extend(line.map(<[u8]>::to_vec));
                rest = &rest[used..];
            }
        }
        found.extend(reader.finish().map(<[u8]>::to_vec));
        assert_eq!(reader.finish(), None);
        Ok(found)
    }

    #[test]
    fn test_lines_in_any_pieces() {
        let cases: [(&[u8], &[&[u8]]); 7] = [
            (b"", &[]),
            (b"a", &[b"a"]),
            (b"a\nbc\n", &[b"a", b"bc"]),
            (b"a\r\nb\rc\r\n", &[b"a", b"b\rc"]),
            (b"\n\r\n\n", &[b"", b"", b""]),
            (b"a\nbc", &[b"a", b"bc"]),
            (b"a\n\r", &[b"a", b""]),
        ];
        for (body, expected) in cases {
            let expected = Ok(expected.iter().map(|line| line.to_vec()).collect::<Vec<_>>());
            assert_eq!(lines(&[body], 10), expected, "{body:?}");
            assert_eq!(lines(&body.chunks(1).collect::<Vec<_>>(), 10), expected, "{body:?}");
            for cut in 0..body.len() {
                assert_eq!(lines(&[&body[..cut], &body[cut..]], 10), expected, "{body:?}, cut at {cut}");
            }
        }
    }

    #[test]
    fn test_limit_is_exact_and_does_not_count_line_ends() {
        for body in [b"12345\r\n".as_slice(), b"12345\n", b"12345", b"1\n12345\r\n"] {
            for size in 1..=body.len() {
                let pieces: Vec<_> = body.chunks(size).collect();
                assert!(lines(&pieces, 5).is_ok(), "{pieces:?}");
                assert_eq!(lines(&pieces, 4), Err(LineTooLong(4)), "{pieces:?}");
            }
        }
        assert_eq!(lines(&[b"12345\r6\n"], 6), Err(LineTooLong(6)));
    }

    #[test]
    fn test_buffer_shrinks_after_a_long_line() {
        let mut reader = LineReader::new(MOST_LINE_BYTES);
        reader.read(&[b'x'; 100_000]).unwrap();
        reader.read(b"\n").unwrap();
        reader.read(b"").unwrap();
        assert!(reader.line.capacity() <= KEPT_BYTES);
    }
}
