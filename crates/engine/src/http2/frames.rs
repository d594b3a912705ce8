//! A look at the frames that come by (RFC 9113 section 4.1): what the crate h2 does not tell, and does not bound.

use super::error::{Http2Error, WORDS};

/// Bytes in front of a frame's payload.
pub(super) const HEADER: usize = 9;
/// What is looked at of a frame's payload: that of GOAWAY begins with the last stream and the error code.
const LOOK: usize = 8;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

/// The flag of a SETTINGS frame that says no more than that ours have come.
const ACK: u8 = 1;

/// Frames that bring nobody anything, one after the other and soon: then the peer has something else in mind than to
/// answer.
const MOST_CHATTER: u32 = 10_000;

/// HEADERS frames that one request may bring: its interim responses, the final one, the trailers.
const HEADERS_PER_STREAM: u64 = 34;

/// RFC 9113 section 7.
const PROTOCOL_ERROR: u32 = 1;
const ENHANCE_YOUR_CALM: u32 = 11;

/// Follows the bytes of one connection.
#[derive(Default)]
pub(super) struct Frames {
    /// The header of the frame under way, and the first bytes of its payload.
    start: [u8; HEADER + LOOK],
    known: usize,
    /// What of its payload is still to come.
    left: usize,
    chatter: u32,
    headers: u64,
    has_settings: bool,
    last_stream: Option<u32>,
    /// Why the peer has said GOAWAY.
    code: u32,
    /// What the peer has to say about its GOAWAY.
    words: Vec<u8>,
}

impl Frames {
    /// The last stream that the peer will answer, once it has said that it will not answer all.
    pub(super) fn last_stream(&self) -> Option<u32> {
        self.last_stream
    }

    /// The error code of that.
    pub(super) fn code(&self) -> u32 {
        self.code
    }

    /// What the peer has to say about it, as it stands there.
    pub(super) fn words(&self) -> &[u8] {
        &self.words
    }

    /// Whether the peer has said its SETTINGS, with which it has to begin.
    pub(super) fn has_settings(&self) -> bool {
        self.has_settings
    }

    /// What has brought nothing so far was not too much: it was for something that we have sent, or a while ago.
    pub(super) fn forgive(&mut self) {
        self.chatter = 0;
    }

    /// Looks at the bytes that came next. `begun` are the requests so far. Returns where in `bytes` there are frames of
    /// DATA with nothing in them: h2 does nothing with those but count them, all the life of a connection, and ends it
    /// soon. (One that is cut in two by the end of `bytes` is left to it.)
    pub(super) fn pass(&mut self, all: &[u8], begun: u64) -> Result<Vec<usize>, Http2Error> {
        let mut empty = Vec::new();
        let mut bytes = all;
        while !bytes.is_empty() {
            if self.known < HEADER {
                let (at, whole) = (all.len() - bytes.len(), self.known == 0);
                bytes = self.learn(bytes, HEADER);
                if self.known < HEADER {
                    break;
                }
                if whole && self.is_empty_data() {
                    empty.push(at);
                }
                self.left = self.length();
                self.count(begun)?;
            }
            let wanted = HEADER + self.length().min(LOOK);
            if self.known < wanted {
                let before = bytes.len();
                bytes = self.learn(bytes, wanted);
                self.left -= before - bytes.len();
            }
            let (rest, next) = bytes.split_at(self.left.min(bytes.len()));
            if self.start[3] == GOAWAY {
                let room = WORDS.saturating_sub(self.words.len()).min(rest.len());
                self.words.extend_from_slice(rest.get(..room).unwrap_or_default());
            }
            self.left -= rest.len();
            bytes = next;
            if self.left == 0 && self.known == wanted {
                self.end();
            }
        }
        Ok(empty)
    }

    /// Whether it is DATA of a stream which says nothing, not even that it is the last.
    fn is_empty_data(&self) -> bool {
        const END_STREAM_OR_PADDED: u8 = 0x1 | 0x8;
        let [_, _, _, kind, flags, stream @ ..] = self.start;
        kind == DATA && self.length() == 0 && flags & END_STREAM_OR_PADDED == 0 && stream[..4] != [0; 4]
    }

    /// Takes what is missing of the first `wanted` bytes.
    fn learn<'a>(&mut self, bytes: &'a [u8], wanted: usize) -> &'a [u8] {
        let taken = (wanted - self.known).min(bytes.len());
        let (head, rest) = bytes.split_at(taken);
        if let Some(place) = self.start.get_mut(self.known..self.known + taken) {
            place.copy_from_slice(head);
        }
        self.known += taken;
        rest
    }

    fn length(&self) -> usize {
        let [a, b, c, ..] = self.start;
        usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)
    }

    fn count(&mut self, begun: u64) -> Result<(), Http2Error> {
        let kind = self.start[3];
        if !self.has_settings && (kind != SETTINGS || self.start[4] & ACK != 0) {
            // RFC 9113 section 3.4. It may well be something else that the peer speaks.
            return Err(Http2Error::violation(PROTOCOL_ERROR, "its first words are no SETTINGS"));
        }
        match kind {
            DATA if self.left > 0 => self.chatter = 0,
            HEADERS => {
                self.chatter = 0;
                self.headers += 1;
                if self.headers > begun.saturating_mul(HEADERS_PER_STREAM) {
                    return Err(Http2Error::violation(ENHANCE_YOUR_CALM, "more heads than requests can have"));
                }
            }
            // Their number is h2's affair, and the answers that they are part of.
            CONTINUATION => {}
            _ => {
                self.chatter += 1;
                if self.chatter > MOST_CHATTER {
                    return Err(Http2Error::violation(ENHANCE_YOUR_CALM, "frames without end that bring nothing"));
                }
            }
        }
        Ok(())
    }

    fn end(&mut self) {
        self.has_settings |= self.start[3] == SETTINGS && self.start[4] & ACK == 0;
        // One that is said of a stream is an error that h2 finds.
        if self.start[3] == GOAWAY && self.start[5..9] == [0; 4] && self.known == HEADER + LOOK {
            let [.., a, b, c, d, e, f, g, h] = self.start;
            // The first bit is reserved.
            let last = u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff;
            self.code = u32::from_be_bytes([e, f, g, h]);
            // A second GOAWAY may lower it, and must not raise it.
            self.last_stream = Some(self.last_stream.map_or(last, |before| before.min(last)));
        }
        self.known = 0;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, 0], &stream.to_be_bytes(), payload].concat()
    }

    /// Of a connection whose peer has said its SETTINGS.
    fn begun() -> Frames {
        let mut frames = Frames::default();
        frames.pass(&frame(SETTINGS, 0, b""), 0).unwrap();
        frames.forgive();
        frames
    }

    #[test]
    fn empty_data_is_found() {
        let last = [&frame(DATA, 3, b"")[..4], &[1, 0, 0, 0, 3]].concat();
        let pieces = [frame(DATA, 1, b""), frame(DATA, 1, b"x"), frame(DATA, 0, b""), last, frame(DATA, 3, b"")];
        let bytes = pieces.concat();
        assert_eq!(begun().pass(&bytes, 1).unwrap(), [0, 9 + 10 + 9 + 9]);
        let mut frames = begun();
        assert!(frames.pass(&bytes[..5], 1).unwrap().is_empty());
        assert_eq!(frames.pass(&bytes[5..], 1).unwrap(), [4 + 10 + 9 + 9]);
    }

    #[test]
    fn the_first_words_are_settings() {
        for (kind, passes) in [(SETTINGS, true), (DATA, false), (GOAWAY, false), (b'P', false)] {
            let passed = Frames::default().pass(&frame(kind, 0, &[0; 6]), 1);
            assert_eq!(passed.map(drop).map_err(|error| error.code), if passes { Ok(()) } else { Err(PROTOCOL_ERROR) });
        }
    }

    #[test]
    fn finds_the_last_stream_wherever_the_bytes_are_cut() {
        let goaway = frame(GOAWAY, 0, b"\x80\0\0\x05\0\0\0\x0bdebug data");
        let bytes = [frame(4, 0, b"sixxxx"), frame(DATA, 1, &[7; 300]), frame(4, 0, b""), goaway, frame(DATA, 1, b"")];
        let bytes = bytes.concat();
        for piece in 1..bytes.len() {
            let mut frames = begun();
            bytes.chunks(piece).for_each(|piece| drop(frames.pass(piece, 1).unwrap()));
            assert_eq!(frames.last_stream(), Some(5), "in pieces of {piece}");
            assert_eq!(frames.code(), ENHANCE_YOUR_CALM, "in pieces of {piece}");
            assert_eq!(frames.words(), b"debug data", "in pieces of {piece}");
            assert_eq!(frames.known, 0, "in pieces of {piece}");
        }
    }

    #[test]
    fn the_last_stream_only_falls() {
        let mut frames = begun();
        for (last, kept) in [(9u32, 9), (3, 3), (7, 3)] {
            let payload = [last.to_be_bytes(), [0; 4]].concat();
            frames.pass(&frame(GOAWAY, 0, &payload), 1).unwrap();
            assert_eq!(frames.last_stream(), Some(kept));
        }
    }

    #[test]
    fn chatter_is_bounded_and_forgiven() {
        let (ping, data) = (frame(6, 0, &[0; 8]), frame(DATA, 1, b"x"));
        let mut frames = begun();
        for _ in 0..3 {
            (0..MOST_CHATTER).for_each(|_| drop(frames.pass(&ping, 1).unwrap()));
            frames.pass(&data, 1).unwrap();
            (0..MOST_CHATTER).for_each(|_| drop(frames.pass(&ping, 1).unwrap()));
            frames.forgive();
        }
        (0..MOST_CHATTER).for_each(|_| drop(frames.pass(&ping, 1).unwrap()));
        assert_eq!(frames.pass(&ping, 1).map_err(|error| error.code), Err(ENHANCE_YOUR_CALM));
    }

    #[test]
    fn heads_are_counted_by_the_requests_there_were() {
        let head = frame(HEADERS, 1, b"x");
        let mut frames = begun();
        (0..HEADERS_PER_STREAM).for_each(|_| drop(frames.pass(&head, 1).unwrap()));
        assert!(frames.pass(&head, 1).is_err());
    }
}
