//! The chunked transfer coding, both ways: RFC 9112 section 7.1.
//!
//! ```text
//! chunked-body = *chunk last-chunk trailer-section CRLF
//! chunk        = chunk-size [ chunk-ext ] CRLF chunk-data CRLF
//! chunk-size   = 1*HEXDIG
//! last-chunk   = 1*("0") [ chunk-ext ] CRLF
//! ```

use crate::body::Step;
use crate::head::parse_trailers;
use crate::token::line_feed;
use crate::{HeaderMap, Limits, RequestError, ResponseError, request};

/// The end of a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The line before a chunk's data; the data is followed by CRLF. Never of an empty chunk, which would end the body.
pub fn size_line(length: u64) -> String {
    format!("{length:x}\r\n")
}

/// The end of a chunked body with trailers (section 7.1.2).
pub fn last_chunk<'a>(trailers: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Result<Vec<u8>, RequestError> {
    let mut text = b"0\r\n".to_vec();
    for (name, value) in trailers {
        request::field(&mut text, name, value)?;
    }
    text.extend_from_slice(b"\r\n");
    Ok(text)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the digits of a size line: the size so far, and how many digits it has.
    Size(u64, u8),
    /// In blanks behind the size, before an extension or the line's end.
    Blanks(u64),
    /// In an extension, which means nothing to us.
    Extension(u64),
    /// Behind the CR of a size line.
    SizeEnd(u64),
    /// So many bytes of data to come.
    Data(u64),
    /// Behind the data, before its CRLF; whether the CR has been seen.
    DataEnd(bool),
    /// In the lines behind the last chunk.
    Trailers,
    Done,
}

/// Takes the chunked coding off a body that comes in pieces of any size.
#[derive(Clone, Debug)]
pub struct Decoder {
    state: State,
    /// Bytes of the current size line.
    line: usize,
    /// The trailer section as far as it has come.
    section: Vec<u8>,
    /// Where its last line begins, which has not ended.
    section_line: usize,
    trailers: HeaderMap,
    limits: Limits,
}

impl Decoder {
    /// At the beginning of a body.
    pub fn new(limits: Limits) -> Self {
        Decoder {
            state: State::Size(0, 0),
            line: 0,
            section: Vec::new(),
            section_line: 0,
            trailers: HeaderMap::default(),
            limits,
        }
    }

    /// The field lines that came behind the last chunk. They are never merged into the head's
    /// (RFC 9110 section 6.5.1): a trailer could otherwise forge a framing or routing field.
    pub fn trailers(&self) -> &HeaderMap {
        &self.trailers
    }

    /// See [`Body::step`](crate::Body::step).
    pub fn step(&mut self, input: &[u8]) -> Result<(usize, Step), ResponseError> {
        let mut used = 0;
        loop {
            match self.state {
                State::Data(left) => return Ok((used, Step::Data(left))),
                State::Done => return Ok((used, Step::End)),
                State::Trailers => {
                    let rest = input.get(used..).unwrap_or_default();
                    used += self.trailer_section(rest)?;
                    if self.state == State::Trailers {
                        return Ok((used, Step::More));
                    }
                }
                _ => {
                    let Some(&byte) = input.get(used) else { return Ok((used, Step::More)) };
                    used += 1;
                    self.framing_byte(byte)?;
                }
            }
        }
    }

    /// See [`Body::taken`](crate::Body::taken).
    pub fn taken(&mut self, length: u64) {
        if let State::Data(left) = self.state {
            self.state = match left.saturating_sub(length) {
                0 => State::DataEnd(false),
                left => State::Data(left),
            };
        }
    }

    fn framing_byte(&mut self, byte: u8) -> Result<(), ResponseError> {
        self.line += 1;
        if self.line > self.limits.chunk_line_bytes {
            return Err(ResponseError::ChunkExtension("the line is too long"));
        }
        self.state = match (self.state, byte) {
            (State::Size(size, digits), _) if byte.is_ascii_hexdigit() => {
                if digits == 16 {
                    return Err(ResponseError::ChunkSize);
                }
                let digit = (byte as char).to_digit(16).unwrap_or_default();
                State::Size(size << 4 | u64::from(digit), digits + 1)
            }
            (State::Size(_, 0), _) => return Err(ResponseError::ChunkSize),
            // Blanks before an extension are BWS; some old servers also pad the bare size with them.
            (State::Size(size, _) | State::Blanks(size), b' ' | b'\t') => State::Blanks(size),
            (State::Size(size, _) | State::Blanks(size), b';') => State::Extension(size),
            (State::Size(size, _) | State::Blanks(size) | State::Extension(size), b'\r') => State::SizeEnd(size),
            (State::Size(..) | State::Blanks(_), _) => return Err(ResponseError::ChunkSize),
            // A bare LF in here is read as the line's end by some and not by others: request smuggling lives on that.
            (State::Extension(_), b'\n' | 0) => return Err(ResponseError::ChunkExtension("a control character")),
            (State::Extension(size), _) => State::Extension(size),
            (State::SizeEnd(0), b'\n') => State::Trailers,
            (State::SizeEnd(size), b'\n') => State::Data(size),
            (State::SizeEnd(_), _) => return Err(ResponseError::ChunkSize),
            (State::DataEnd(false), b'\r') => State::DataEnd(true),
            (State::DataEnd(true), b'\n') => {
                self.line = 0;
                State::Size(0, 0)
            }
            (State::DataEnd(_), _) => return Err(ResponseError::ChunkEnd),
            (state @ (State::Data(_) | State::Trailers | State::Done), _) => state,
        };
        Ok(())
    }

    /// Takes what belongs to the trailer section; how many bytes that was.
    fn trailer_section(&mut self, input: &[u8]) -> Result<usize, ResponseError> {
        let before = self.section.len();
        // The common end needs no copy: nothing but the blank line.
        if before == 0 && input.starts_with(b"\r\n") {
            self.state = State::Done;
            return Ok(2);
        }
        let room = self.limits.trailer_bytes.saturating_sub(before);
        self.section.extend_from_slice(input.get(..input.len().min(room)).unwrap_or(input));
        match end_of_section(&self.section, &mut self.section_line, before)? {
            Some(end) => {
                self.section.truncate(end);
                self.trailers = parse_trailers(&self.section, &self.limits)?;
                self.section = Vec::new();
                self.state = State::Done;
                Ok(end - before)
            }
            None if self.section.len() >= self.limits.trailer_bytes => {
                Err(ResponseError::TrailersTooLarge(self.limits.trailer_bytes))
            }
            None => Ok(input.len()),
        }
    }
}

/// Where the trailer section ends. Its line that begins at `start` is under way, and has no end before `from`: that is
/// not looked at again. Of a head's lines a lone LF may end any (RFC 9112 section 2.2), but in the framing of a body
/// readers differ over that, so that some would see the end where others do not.
fn end_of_section(section: &[u8], start: &mut usize, from: usize) -> Result<Option<usize>, ResponseError> {
    loop {
        let unseen = from.max(*start);
        let end = line_feed(section.get(unseen..).unwrap_or_default()).map_or(section.len(), |at| unseen + at + 1);
        match section.get(*start..end).unwrap_or_default() {
            b"\r\n" => return Ok(Some(end)),
            [b'\r', _, ..] => return Err(ResponseError::TrailerEnd),
            [.., b'\r', b'\n'] => *start = end,
            [.., b'\n'] => return Err(ResponseError::TrailerEnd),
            _ => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::SEARCHED;

    /// The body, what is left behind it, and the trailers; None while the end has not come.
    type Decoded = (Vec<u8>, Vec<u8>, Option<Decoder>);

    fn decode(pieces: &[&[u8]]) -> Result<Decoded, ResponseError> {
        let (mut decoder, mut body) = (Decoder::new(Limits::default()), Vec::new());
        for (i, piece) in pieces.iter().enumerate() {
            let mut input = *piece;
            loop {
                let (used, step) = decoder.step(input)?;
                input = &input[used..];
                match step {
                    Step::More => break,
                    Step::End => {
                        let rest = [&[input], &pieces[i + 1..]].concat().concat();
                        return Ok((body, rest, Some(decoder)));
                    }
                    Step::Data(_) if input.is_empty() => break,
                    Step::Data(left) => {
                        let n = (left as usize).min(input.len());
                        body.extend_from_slice(&input[..n]);
                        input = &input[n..];
                        decoder.taken(n as u64);
                    }
                }
            }
        }
        Ok((body, Vec::new(), None))
    }

    const WHOLE: &[u8] = b"5\r\nhello\r\n006;a=\"b;c\"\r\n world\r\n1 \r\n!\r\n0;last\r\nX-Sum: 9\r\nY:\r\n\r\nNEXT";

    #[test]
    fn whole_split_at_every_point_and_byte_by_byte() {
        let check = |pieces: &[&[u8]]| {
            let (body, rest, decoder) = decode(pieces).expect("good");
            assert_eq!((body.as_slice(), rest.as_slice()), (b"hello world!".as_slice(), b"NEXT".as_slice()));
            let lines: Vec<_> = decoder.as_ref().expect("ended").trailers().iter().collect();
            assert_eq!(lines, [(b"X-Sum".as_slice(), b"9".as_slice()), (b"Y", b"")]);
        };
        check(&[WHOLE]);
        for cut in 0..WHOLE.len() {
            check(&[&WHOLE[..cut], &WHOLE[cut..]]);
        }
        check(&WHOLE.chunks(1).collect::<Vec<_>>());
    }

    #[test]
    fn an_end_that_has_not_come_is_no_end() {
        let end = WHOLE.len() - b"NEXT".len();
        for cut in 0..end {
            assert!(decode(&[&WHOLE[..cut]]).expect("good so far").2.is_none(), "{cut}");
        }
    }

    #[test]
    fn bad_sizes_are_refused() {
        for text in [
            "+5\r\n",
            "-1\r\n",
            "0x5\r\n",
            "\r\n",
            " 5\r\n",
            "g\r\n",
            "5\n",
            "5\rx",
            "5 5\r\n",
            "12345678901234567\r\n",
            ";a\r\n",
        ] {
            assert_eq!(decode(&[text.as_bytes()]).map(|_| ()), Err(ResponseError::ChunkSize), "{text:?}");
        }
        assert_eq!(decode(&[b"ffffffffffffffff\r\n"]).map(|(body, ..)| body), Ok(Vec::new()));
    }

    #[test]
    fn data_must_end_where_its_size_says() {
        for text in [b"1\r\nabc\r\n".as_slice(), b"1\r\na\n0\r\n\r\n", b"1\r\na\r0"] {
            assert_eq!(decode(&[text]).map(|_| ()), Err(ResponseError::ChunkEnd));
        }
    }

    #[test]
    fn extensions_and_trailers_have_limits() {
        let endless = [b"5;".as_slice(), &[b'x'; 5000]].concat();
        assert!(matches!(decode(&[&endless]), Err(ResponseError::ChunkExtension(_))));
        assert!(matches!(decode(&[b"5;a\nb\r\n"]), Err(ResponseError::ChunkExtension(_))));
        let flood = [b"0\r\n".as_slice(), &b"A: b\r\n".repeat(4000)].concat();
        let refused = decode(&flood.chunks(100).collect::<Vec<_>>()).map(|_| ());
        assert_eq!(refused, Err(ResponseError::TrailersTooLarge(16 * 1024)));
        let many = [b"0\r\n".as_slice(), &b"A: b\r\n".repeat(257), b"\r\n"].concat();
        assert_eq!(decode(&[&many]).map(|_| ()), Err(ResponseError::TooManyHeaders(256)));
        assert_eq!(decode(&[b"0\r\nno colon\r\n\r\n"]).map(|_| ()), Err(ResponseError::HeaderToken));
    }

    #[test]
    fn body_that_comes_byte_by_byte_is_searched_once() {
        let limits = Limits::default();
        for size in [2, 4, 8, 15].map(|kilobytes| kilobytes * 1024) {
            let line = |length: usize| [b"A: ".as_slice(), &vec![b'a'; length], b"\r\n"].concat();
            for trailers in [line(size), line(size / 256).repeat(200), line(size / 256 - 7).repeat(250)] {
                let text = [b"0\r\n".as_slice(), &trailers, b"\r\n"].concat();
                SEARCHED.with(|searched| searched.set(0));
                let mut decoder = Decoder::new(limits);
                for (at, byte) in text.iter().enumerate() {
                    let (used, step) = decoder.step(&[*byte]).expect("good");
                    assert_eq!((used, step == Step::End), (1, at + 1 == text.len()));
                }
                let count = SEARCHED.with(std::cell::Cell::get);
                assert!(count <= 2 * text.len(), "{count} bytes of {}", text.len());
            }
        }
    }

    #[test]
    fn lines_behind_the_last_chunk_end_with_crlf() {
        for text in ["0\r\n\n", "0\r\nA: b\n", "0\r\nA: b\r\n\n", "0\r\n\rX", "0\r\nA: b\r\n\rX"] {
            let bytewise: Vec<_> = text.as_bytes().chunks(1).collect();
            for pieces in [&[text.as_bytes()][..], &bytewise] {
                assert_eq!(decode(pieces).map(|_| ()), Err(ResponseError::TrailerEnd), "{text:?}");
            }
        }
    }

    #[test]
    fn size_lines() {
        assert_eq!((size_line(1).as_str(), size_line(255).as_str()), ("1\r\n", "ff\r\n"));
    }
}
