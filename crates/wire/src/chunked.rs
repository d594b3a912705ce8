//! The chunked transfer coding, encoder and decoder: RFC 9112 section 7.1.
//!
//! ```text
//! chunked-body = *chunk last-chunk trailer-section CRLF
//! chunk        = chunk-size [ chunk-ext ] CRLF chunk-data CRLF
//! chunk-size   = 1*HEXDIG
//! last-chunk   = 1*("0") [ chunk-ext ] CRLF
//! ```

use crate::error::{RequestError, ResponseError};
use crate::framing::Step;
use crate::head::parse_trailers;
use crate::headers::HeaderMap;
use crate::limits::Limits;
use crate::request;
use crate::token::line_feed;

/// The end of a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Returns the line before the data of a chunk; the data is followed by CRLF. `length` must not be 0, which would end
/// the body.
pub fn size_line(length: u64) -> String {
    format!("{length:x}\r\n")
}

/// Returns the end of a chunked body with trailers (section 7.1.2).
///
/// # Errors
/// [`RequestError::FieldName`] and [`RequestError::FieldValue`] for a malformed trailer.
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
    /// In the digits of a size line: the size so far, and its number of digits.
    Size(u64, u8),
    /// In the blanks after the size, before an extension or the end of the line.
    Blanks(u64),
    /// In an extension, which is ignored.
    Extension(u64),
    /// After the CR of a size line.
    SizeEnd(u64),
    /// In the data: the number of bytes that are still expected.
    Data(u64),
    /// After the data, before its CRLF; true after the CR.
    DataEnd(bool),
    /// In the lines after the last chunk.
    Trailers,
    Done,
}

/// Decodes a chunked body that arrives in pieces of any size.
#[derive(Clone, Debug)]
pub struct Decoder {
    state: State,
    /// Length of the current size line so far.
    line: usize,
    /// Received part of the trailer section.
    section: Vec<u8>,
    /// Start of its last line, which is incomplete.
    section_line: usize,
    trailers: HeaderMap,
    limits: Limits,
}

impl Decoder {
    /// Returns a decoder at the start of a body.
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

    /// Returns the field lines that followed the last chunk. They are never merged into those of the head
    /// (RFC 9110 section 6.5.1): otherwise a trailer could forge a framing or routing field.
    pub fn trailers(&self) -> &HeaderMap {
        &self.trailers
    }

    /// Reads framing from the start of `input`; see [`Body::step`](crate::Body::step).
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

    /// Records that data was consumed; see [`Body::taken`](crate::Body::taken).
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
                State::Size((size << 4) + u64::from(digit), digits + 1)
            }
            (State::Size(_, 0), _) => return Err(ResponseError::ChunkSize),
            // Blanks before an extension are BWS; some old servers also pad the bare size with them.
            (State::Size(size, _) | State::Blanks(size), b' ' | b'\t') => State::Blanks(size),
            (State::Size(size, _) | State::Blanks(size), b';') => State::Extension(size),
            (State::Size(size, _) | State::Blanks(size) | State::Extension(size), b'\r') => State::SizeEnd(size),
            (State::Size(..) | State::Blanks(_), _) => return Err(ResponseError::ChunkSize),
            // Some parsers end the line at a bare LF here and others do not, which enables request smuggling.
            (State::Extension(_), b'\n' | 0) => return Err(ResponseError::ChunkExtension("a control character")),
            (State::Extension(size), _) => State::Extension(size),
            (State::SizeEnd(0), b'\n') => State::Trailers,
            (State::SizeEnd(size), b'\n') => {
                self.line = 0;
                State::Data(size)
            }
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

    /// Consumes bytes of the trailer section and returns how many.
    fn trailer_section(&mut self, input: &[u8]) -> Result<usize, ResponseError> {
        let before = self.section.len();
        // The common case, a blank line alone, needs no copy.
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

/// Returns the end of the trailer section, or `None` if it is incomplete. The line that begins at `start` has no end
/// before `from`, so the search begins there. A lone LF may end a line of a head (RFC 9112 section 2.2), but it is
/// refused here: parsers disagree about it in the framing of a body, so some would see the end where others do not.
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

    /// Body, bytes that follow it, and the decoder with the trailers; no decoder if the body is incomplete.
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
    fn test_decoder_body_in_any_pieces_decodes_the_same() {
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
    fn test_decoder_truncated_body_does_not_end() {
        let end = WHOLE.len() - b"NEXT".len();
        for cut in 0..end {
            assert!(decode(&[&WHOLE[..cut]]).expect("good so far").2.is_none(), "{cut}");
        }
    }

    #[test]
    fn test_decoder_malformed_size_is_refused() {
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
    fn test_decoder_data_without_crlf_is_refused() {
        for text in [b"1\r\nabc\r\n".as_slice(), b"1\r\na\n0\r\n\r\n", b"1\r\na\r0"] {
            assert_eq!(decode(&[text]).map(|_| ()), Err(ResponseError::ChunkEnd));
        }
    }

    #[test]
    fn test_decoder_long_extension_or_trailers_are_refused() {
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
    fn test_decoder_trailers_byte_by_byte_are_searched_once() {
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
    fn test_decoder_trailer_line_without_crlf_is_refused() {
        for text in ["0\r\n\n", "0\r\nA: b\n", "0\r\nA: b\r\n\n", "0\r\n\rX", "0\r\nA: b\r\n\rX"] {
            let bytewise: Vec<_> = text.as_bytes().chunks(1).collect();
            for pieces in [&[text.as_bytes()][..], &bytewise] {
                assert_eq!(decode(pieces).map(|_| ()), Err(ResponseError::TrailerEnd), "{text:?}");
            }
        }
    }

    #[test]
    fn test_size_line_is_hexadecimal() {
        assert_eq!((size_line(1).as_str(), size_line(255).as_str()), ("1\r\n", "ff\r\n"));
    }

    #[test]
    fn test_last_chunk_appends_trailers() {
        let last = |trailers: &[(&'static [u8], &'static [u8])]| last_chunk(trailers.iter().copied());
        assert_eq!(last(&[]).as_deref(), Ok(LAST_CHUNK));
        assert_eq!(last(&[(b"A", b"b"), (b"C", b"")]).as_deref(), Ok(b"0\r\nA: b\r\nC: \r\n\r\n".as_slice()));
        assert!(matches!(last(&[(b"A b", b"")]), Err(RequestError::FieldName(_))));
    }

    #[test]
    fn test_decoder_size_line_limit_is_exact() {
        let step = |line: &[u8], limit| {
            let limits = Limits { chunk_line_bytes: limit, ..Limits::default() };
            Decoder::new(limits).step(line)
        };
        for line in [b"5\r\n".as_slice(), b"005\r\n", b"5;abc\r\n", b"5 \r\n"] {
            assert_eq!(step(line, line.len()), Ok((line.len(), Step::Data(5))));
            assert!(matches!(step(line, line.len() - 1), Err(ResponseError::ChunkExtension(_))));
        }
        // The limit is for each line, and the CRLF after data is not part of one.
        let mut decoder = Decoder::new(Limits { chunk_line_bytes: 4, ..Limits::default() });
        for _ in 0..3 {
            assert_eq!(decoder.step(b"01\r\n"), Ok((4, Step::Data(1))));
            decoder.taken(1);
            assert_eq!(decoder.step(b"\r\n"), Ok((2, Step::More)));
        }
    }

    #[test]
    fn test_decoder_sizes_have_up_to_16_digits() {
        let size = |text: &str| Decoder::new(Limits::default()).step(text.as_bytes()).map(|(_, step)| step);
        assert_eq!(size("0123456789abcdef\r\n"), Ok(Step::Data(0x0123_4567_89ab_cdef)));
        assert_eq!(size("FEDCBA9876543210\r\n"), Ok(Step::Data(0xfedc_ba98_7654_3210)));
        assert_eq!(size("00000000000000001\r\n"), Err(ResponseError::ChunkSize));
    }

    #[test]
    fn test_decoder_trailer_limit_is_exact() {
        let section = b"A: b\r\nC: d\r\n\r\n";
        let limits = |trailer_bytes| Limits { trailer_bytes, ..Limits::default() };
        let last = |limits, pieces: &[&[u8]]| {
            let mut decoder = Decoder::new(limits);
            decoder.step(b"0\r\n")?;
            pieces.iter().try_fold((0, Step::More), |_, piece| decoder.step(piece))
        };
        let bytewise: Vec<_> = section.chunks(1).collect();
        assert_eq!(last(limits(section.len()), &[section]), Ok((section.len(), Step::End)));
        assert_eq!(last(limits(section.len()), &bytewise), Ok((1, Step::End)));
        for pieces in [&[section.as_slice()][..], &bytewise] {
            let refused = Err(ResponseError::TrailersTooLarge(section.len() - 1));
            assert_eq!(last(limits(section.len() - 1), pieces), refused);
        }
        assert_eq!(last(limits(6), &[&section[..5]]), Ok((5, Step::More)));
        assert_eq!(last(limits(6), &[&section[..6]]), Err(ResponseError::TrailersTooLarge(6)));
    }

    #[test]
    fn test_taken_outside_of_data_changes_nothing() {
        let mut decoder = Decoder::new(Limits::default());
        decoder.taken(5);
        assert_eq!(decoder.step(b"3\r\n"), Ok((3, Step::Data(3))));
        decoder.taken(1);
        assert_eq!(decoder.step(b"bc"), Ok((0, Step::Data(2))));
        decoder.taken(5);
        assert_eq!(decoder.step(b"\r\n0\r\n\r\nnext"), Ok((7, Step::End)));
        decoder.taken(5);
        assert_eq!(decoder.step(b"next"), Ok((0, Step::End)));
    }
}
