//! The received frames (RFC 9113 section 4.1), checked before h2 reads them. This finds the events that h2 does not
//! report, limits the frames that h2 does not limit, and corrects the cases in which h2 accepts a frame or ends the
//! connection contrary to the RFC.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use bytes::BytesMut;
use wire::Limits;

use super::blocks::{Blocks, Fault, MARK};
use super::error::{
    ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, HTTP_1_1_REQUIRED, Http2Error, NO_ERROR, PROTOCOL_ERROR,
    WORDS,
};

/// Size of a frame's header, which precedes its payload.
const HEADER: usize = 9;
/// Number of bytes of a frame's payload that are read: that of GOAWAY begins with the last stream and the error code.
const LOOK: usize = 8;
/// SETTINGS_MAX_FRAME_SIZE: the default, since the client announces no other value.
const MAX_FRAME_SIZE: usize = 16_384;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// The flag of a SETTINGS frame that only acknowledges the client's SETTINGS.
const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const WITH_PRIORITY: u8 = 0x20;

const ENABLE_PUSH: u16 = 2;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_WINDOW: u32 = (1 << 31) - 1;

/// Maximum number of consecutive frames without progress of any response. A peer that sends more is flooding the
/// client.
const MOST_CHATTER: u32 = 10_000;

/// Number of HEADERS frames that one request may receive besides its interim responses: the final head and the
/// trailers.
const HEADERS_PER_STREAM: usize = 2;

/// Maximum size of an encoded header block that is held back until it is complete, its frames included, as a multiple
/// of `head_bytes`. h2 reads heads up to this multiple of their limit, to keep the connection if a single head is too
/// large.
const HELD_HEADS: usize = 4;

/// Maximum memory that is kept for the next block that is received in parts.
const KEPT: usize = 4 * 1024;

/// Progress of the peer's message on a stream.
enum Stage {
    /// Its final head was not received. `interim_bytes` is the size of the heads of interim responses so far: h2 keeps
    /// them until their owner reads them, which counts them again and gives up a stream that has too many.
    Awaited {
        interim_bytes: usize,
    },
    /// Its final head was received.
    Begun,
    /// Its final head was received, with a status that has no content (RFC 9110 section 6.4.1). A Content-Length there
    /// describes another response (section 8.6).
    WithoutContent {
        has_length: bool,
    },
    Ended,
    /// It has ended, but h2 considers it malformed: its trailers had to reach h2, which applies the Content-Length of
    /// another response to it.
    Complete,
    Malformed(Fault),
}

/// The bytes that h2 gets instead of a frame's header.
enum Route {
    Pass,
    /// Neither the header nor a payload (the payload is empty).
    Drop,
    /// A frame that ends the stream, instead of the header.
    End,
    /// A frame that ends the stream as malformed, and then the header.
    Mark,
}

/// The state of the frames of one connection.
pub(super) struct Frames {
    /// The header of the current frame, and the first bytes of its payload.
    start: [u8; HEADER + LOOK],
    known: usize,
    /// Number of bytes of its payload that are still missing.
    left: usize,
    chatter: u32,
    headers: u64,
    headers_per_stream: u64,
    /// Limit beyond which the connection ends.
    most_interim_bytes: usize,
    has_settings: bool,
    last_stream: Option<u32>,
    /// The error code of the peer's GOAWAY: the first one that is an error.
    code: u32,
    /// The peer has declared, for a stream or the connection, that it requires HTTP/1.1.
    requires_http1: bool,
    /// The debug data of the peer's GOAWAY.
    words: Vec<u8>,
    blocks: Blocks,
    /// The streams whose owners wait for a message, or read it.
    live: BTreeMap<u32, Stage>,
    newest: u32,
    /// The stream whose header block is not complete yet.
    open: Option<u32>,
    /// The part that h2 gets when it is complete: a frame's header, a frame or a header block.
    held: Vec<u8>,
    most_held: usize,
    violation: Option<Http2Error>,
}

/// The bytes that h2 gets for the received ones: in place up to the first change, and in `out` after it.
struct Passed<'a> {
    all: &'a [u8],
    from: usize,
    in_place: Option<usize>,
    out: &'a mut BytesMut,
}

impl Passed<'_> {
    fn replace(&mut self, range: Range<usize>, with: &[u8]) {
        if self.in_place.is_some() {
            self.out.extend_from_slice(self.all.get(self.from..range.start).unwrap_or_default());
        } else {
            self.in_place = Some(range.start);
        }
        self.out.extend_from_slice(with);
        self.from = range.end;
    }

    fn finish(self) -> usize {
        if self.in_place.is_some() {
            self.out.extend_from_slice(self.all.get(self.from..).unwrap_or_default());
        }
        self.in_place.unwrap_or(self.all.len())
    }
}

impl Frames {
    /// Creates the state for responses within those limits.
    pub(super) fn new(limits: &Limits) -> Self {
        let per_stream = limits.interim_responses.saturating_add(HEADERS_PER_STREAM);
        Frames {
            start: [0; HEADER + LOOK],
            known: 0,
            left: 0,
            chatter: 0,
            headers: 0,
            headers_per_stream: u64::try_from(per_stream).unwrap_or(u64::MAX),
            // The head that exceeds the limit reaches the owner, whose error names the limit.
            most_interim_bytes: limits.interim_bytes.saturating_add(limits.head_bytes),
            has_settings: false,
            last_stream: None,
            code: NO_ERROR,
            requires_http1: false,
            words: Vec::new(),
            blocks: Blocks::default(),
            live: BTreeMap::new(),
            newest: 0,
            open: None,
            held: Vec::new(),
            most_held: limits.head_bytes.saturating_mul(HELD_HEADS).saturating_add(MAX_FRAME_SIZE),
            violation: None,
        }
    }

    /// Returns the last stream that the peer will answer, None before a GOAWAY.
    pub(super) fn last_stream(&self) -> Option<u32> {
        self.last_stream
    }

    /// Returns the error code of the GOAWAY.
    pub(super) fn code(&self) -> u32 {
        self.code
    }

    /// Returns true if the peer has declared that it requires HTTP/1.1 (RFC 9113 section 7).
    pub(super) fn requires_http1(&self) -> bool {
        self.requires_http1
    }

    /// Returns the debug data of the GOAWAY, unchanged.
    pub(super) fn words(&self) -> &[u8] {
        &self.words
    }

    /// Returns true if the peer has sent SETTINGS, which have to be its first frame.
    pub(super) fn has_settings(&self) -> bool {
        self.has_settings
    }

    /// Resets the count of frames without progress: they were caused by data that the client has sent, or are long ago.
    pub(super) fn forgive(&mut self) {
        self.chatter = 0;
    }

    /// Notes that a stream has an owner.
    pub(super) fn begin(&mut self, stream: u32) {
        self.newest = stream;
        self.live.insert(stream, Stage::Awaited { interim_bytes: 0 });
    }

    /// Forgets a stream for which no task waits any more.
    pub(super) fn forget(&mut self, stream: u32) {
        self.live.remove(&stream);
    }

    /// Returns the reason why the message on that stream is malformed, None if it is not.
    pub(super) fn fault(&self, stream: u32) -> Option<Fault> {
        if let Some(Stage::Malformed(fault)) = self.live.get(&stream) { Some(*fault) } else { None }
    }

    /// Returns true if the message on that stream has ended without a fault, although h2 considers it malformed.
    pub(super) fn is_complete(&self, stream: u32) -> bool {
        matches!(self.live.get(&stream), Some(Stage::Complete))
    }

    /// Returns the violation that ends the connection, after the data that was passed so far.
    pub(super) fn violation(&mut self) -> Option<Http2Error> {
        self.violation.take()
    }

    /// Checks the next received bytes. `begun` is the number of requests so far. Returns how many of the bytes h2 gets
    /// unchanged; after them it gets the bytes that this appends to `out`.
    pub(super) fn pass(&mut self, all: &[u8], begun: u64, out: &mut BytesMut) -> usize {
        let mut passed = Passed { all, from: 0, in_place: None, out };
        let mut unit = 0;
        if let Err(violation) = self.follow(&mut passed, &mut unit, begun) {
            self.violation = Some(violation);
            passed.replace(unit..all.len(), b"");
        }
        passed.finish()
    }

    /// Follows the received bytes. `unit` is the start of the current unit (frame or header block) in them, which h2
    /// gets as a whole, or 0 if a part of it is [held](Self::held).
    fn follow(&mut self, passed: &mut Passed<'_>, unit: &mut usize, begun: u64) -> Result<(), Http2Error> {
        let all = passed.all;
        let mut at = 0;
        while at < all.len() {
            if self.known < HEADER {
                if self.known == 0 && self.open.is_none() {
                    *unit = at;
                }
                at += self.learn(&all[at..], HEADER);
                if self.known < HEADER {
                    break;
                }
                self.left = self.length();
                self.count(begun)?;
                if !self.is_whole_kind() {
                    self.route(passed, *unit..at);
                }
            }
            let wanted = HEADER + self.length().min(LOOK);
            let learned = self.learn(&all[at..], wanted);
            let rest = at + learned..all.len().min(at + self.left);
            if self.start[3] == GOAWAY {
                let rest = all.get(rest.clone()).unwrap_or_default();
                let room = WORDS.saturating_sub(self.words.len()).min(rest.len());
                self.words.extend_from_slice(rest.get(..room).unwrap_or_default());
            }
            self.left -= rest.end - at;
            at = rest.end;
            if self.left == 0 {
                let is_whole_kind = self.is_whole_kind();
                self.end();
                if is_whole_kind && self.open.is_none() {
                    self.pass_whole(passed, *unit..at)?;
                }
            }
        }
        let is_held = self.open.is_some() || self.known > 0 && (self.known < HEADER || self.is_whole_kind());
        if is_held {
            let rest = all.get(*unit..).unwrap_or_default();
            if self.held.len() + rest.len() > self.most_held {
                return Err(Http2Error::violation(ENHANCE_YOUR_CALM, "a header block is too large"));
            }
            self.held.extend_from_slice(rest);
            passed.replace(*unit..all.len(), b"");
        }
        Ok(())
    }

    /// Returns true if h2 gets frames of this kind only when they are complete and checked.
    fn is_whole_kind(&self) -> bool {
        matches!(self.start[3], HEADERS | CONTINUATION | SETTINGS | WINDOW_UPDATE)
    }

    /// Passes the header of a frame whose payload is passed as it is received.
    fn route(&mut self, passed: &mut Passed<'_>, header: Range<usize>) {
        let route = if self.start[3] == DATA { self.data() } else { Route::Pass };
        let start = &self.start[..HEADER];
        match route {
            // In place, unless it was received in pieces.
            Route::Pass if self.held.is_empty() => {}
            Route::Pass => passed.replace(header, start),
            Route::Drop => passed.replace(header, b""),
            Route::End => passed.replace(header, &end(self.stream())),
            Route::Mark => passed.replace(header, &[&mark(self.stream()), start].concat()),
        }
        self.held.clear();
    }

    /// Returns the route of a DATA frame, and updates its stream.
    fn data(&mut self) -> Route {
        const END_STREAM_OR_PADDED: u8 = END_STREAM | PADDED;
        let (stream, flags, length) = (self.stream(), self.start[4], self.length());
        // h2 only counts such frames, over the whole life of a connection, and ends the connection after a few.
        let is_empty = length == 0 && flags & END_STREAM_OR_PADDED == 0;
        let was_begun = self.was_begun(stream);
        match self.live.get_mut(&stream) {
            Some(stage @ Stage::Awaited { .. }) => {
                *stage = Stage::Malformed(Fault::DataFirst);
                return Route::Mark;
            }
            Some(Stage::Begun | Stage::WithoutContent { .. } | Stage::Malformed(_)) if is_empty => return Route::Drop,
            // This includes mere padding, which is not distinguished here.
            Some(stage @ Stage::WithoutContent { .. }) if length > 0 => {
                *stage = Stage::Malformed(Fault::Content);
                return Route::Mark;
            }
            Some(stage @ Stage::WithoutContent { has_length: true }) if flags & END_STREAM != 0 => {
                *stage = Stage::Ended;
                return Route::End;
            }
            Some(stage @ (Stage::Begun | Stage::WithoutContent { .. })) if flags & END_STREAM != 0 => {
                *stage = Stage::Ended;
            }
            None if is_empty && was_begun => return Route::Drop,
            _ => {}
        }
        Route::Pass
    }

    /// Passes the unit that is complete now: the held bytes, and `range` of the received ones.
    fn pass_whole(&mut self, passed: &mut Passed<'_>, range: Range<usize>) -> Result<(), Http2Error> {
        let new = passed.all.get(range.clone()).unwrap_or_default();
        if self.held.is_empty() {
            if let Some(replaced) = self.whole(new)? {
                passed.replace(range, &replaced);
            }
            return Ok(());
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(new);
        let replaced = self.whole(&held)?;
        passed.replace(range, replaced.as_ref().unwrap_or(&held));
        held.clear();
        held.shrink_to(KEPT);
        self.held = held;
        Ok(())
    }

    /// Returns the bytes that h2 gets instead of a frame, or of the frames of a header block; None if it gets them
    /// unchanged.
    fn whole(&mut self, unit: &[u8]) -> Result<Option<Vec<u8>>, Http2Error> {
        let Some((header, rest)) = unit.split_first_chunk::<HEADER>() else { return Ok(None) };
        let [.., a, b, c, d] = *header;
        let stream = u32::from_be_bytes([a, b, c, d]) & MAX_WINDOW;
        match header[3] {
            SETTINGS => check_settings(rest).map(|()| None),
            WINDOW_UPDATE => Ok(self.window(stream, rest)),
            _ => {
                let replaced = self.block(unit, stream, header[4]);
                self.blocks.release_buffers();
                replaced
            }
        }
    }

    /// Replaces a WINDOW_UPDATE with an increment of zero, which is an error of its stream (RFC 9113 section 6.9).
    fn window(&mut self, stream: u32, payload: &[u8]) -> Option<Vec<u8>> {
        let &[a, b, c, d] = payload else { return None };
        if u32::from_be_bytes([a, b, c, d]) & MAX_WINDOW > 0 || !self.was_begun(stream) {
            return None;
        }
        match self.live.get_mut(&stream) {
            Some(Stage::Complete | Stage::Malformed(_)) | None => Some(Vec::new()),
            Some(stage) => {
                *stage = Stage::Malformed(Fault::EmptyWindow);
                Some(mark(stream))
            }
        }
    }

    /// Checks a header block, in its frames, and returns its replacement if it is malformed.
    fn block(&mut self, unit: &[u8], stream: u32, flags: u8) -> Result<Option<Vec<u8>>, Http2Error> {
        let ends = flags & END_STREAM != 0;
        let (block, dependency) = fragments(unit, flags)?;
        let contents = self.blocks.read(&block)?;
        let mut fault = contents.fault;
        if dependency == Some(stream) {
            // RFC 7540 section 5.3.1. h2 would not read the block, and its table would differ from the peer's.
            fault.get_or_insert(Fault::OwnDependency);
        }
        let mut is_marked = true;
        match self.live.get_mut(&stream) {
            Some(stage @ &mut Stage::Awaited { interim_bytes }) => {
                let misplaced = match contents.status {
                    None => Some(Fault::StatusMissing),
                    Some(101) => Some(Fault::Switching),
                    Some(100..200) if ends => Some(Fault::InterimEnds),
                    Some(_) => None,
                };
                fault = fault.or(misplaced);
                match (fault, contents.status) {
                    (Some(fault), _) => *stage = Stage::Malformed(fault),
                    (None, Some(100..200)) => {
                        let interim_bytes = interim_bytes.saturating_add(contents.size);
                        if interim_bytes > self.most_interim_bytes {
                            return Err(Http2Error::violation(ENHANCE_YOUR_CALM, "too many interim responses"));
                        }
                        *stage = Stage::Awaited { interim_bytes };
                    }
                    _ if ends => *stage = Stage::Ended,
                    (None, Some(204 | 304)) => *stage = Stage::WithoutContent { has_length: contents.has_length },
                    (None, _) => *stage = Stage::Begun,
                }
            }
            Some(stage @ (Stage::Begun | Stage::WithoutContent { .. })) => {
                let has_length = matches!(stage, Stage::WithoutContent { has_length: true });
                let misplaced = if contents.has_pseudo { Some(Fault::PseudoInTrailers) } else { None };
                fault = misplaced.or(fault).or((!ends).then_some(Fault::TrailersDoNotEnd));
                *stage = fault.map_or(Stage::Ended, Stage::Malformed);
                if fault.is_none() && has_length {
                    if self.blocks.leaves_table() {
                        return Ok(Some(end(stream)));
                    }
                    // Trailers that change h2's table have to reach h2, which considers them an error of the stream.
                    *stage = Stage::Complete;
                }
            }
            Some(Stage::Ended) => {}
            // h2 remembers that it has reset the stream.
            Some(Stage::Complete | Stage::Malformed(_)) | None => is_marked = false,
        }
        let Some(fault) = fault else { return Ok(None) };
        let replacement = self.blocks.replacement(&block, is_marked);
        // RFC 9113 section 5.4.1: an error of a stream may be treated as an error of the connection.
        let replacement = replacement.ok_or_else(|| Http2Error::violation(PROTOCOL_ERROR, fault.words()))?;
        Ok(Some(head(flags & END_STREAM, stream, &replacement)))
    }

    /// Returns true if the client has opened that stream, now or before.
    fn was_begun(&self, stream: u32) -> bool {
        !stream.is_multiple_of(2) && stream <= self.newest
    }

    /// Takes the missing bytes of the first `wanted` bytes of a frame, and returns their number.
    fn learn(&mut self, bytes: &[u8], wanted: usize) -> usize {
        let taken = wanted.saturating_sub(self.known).min(bytes.len());
        if let Some(place) = self.start.get_mut(self.known..self.known + taken) {
            place.copy_from_slice(bytes.get(..taken).unwrap_or_default());
        }
        self.known += taken;
        taken
    }

    fn length(&self) -> usize {
        let [a, b, c, ..] = self.start;
        usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)
    }

    fn stream(&self) -> u32 {
        let [_, _, _, _, _, a, b, c, d, ..] = self.start;
        // The first bit is reserved.
        u32::from_be_bytes([a, b, c, d]) & MAX_WINDOW
    }

    /// Checks the header of a frame, and counts the frame.
    fn count(&mut self, begun: u64) -> Result<(), Http2Error> {
        let (kind, flags, stream) = (self.start[3], self.start[4], self.stream());
        let broken = |words| Err(Http2Error::violation(PROTOCOL_ERROR, words));
        if !self.has_settings && (kind != SETTINGS || flags & ACK != 0) {
            // RFC 9113 section 3.4. The peer may well speak another protocol.
            return broken("its first frame is not SETTINGS");
        }
        if !self.has_right_length() {
            return Err(Http2Error::violation(FRAME_SIZE_ERROR, "a frame has a length that its type does not allow"));
        }
        // RFC 9113 section 6.10.
        match self.open {
            Some(open) if (kind, stream) != (CONTINUATION, open) => return broken("a header block is interrupted"),
            None if kind == CONTINUATION => return broken("CONTINUATION without HEADERS"),
            _ => {}
        }
        match kind {
            DATA if self.left > 0 => self.chatter = 0,
            HEADERS if !self.was_begun(stream) => return broken("HEADERS on a stream that no request has opened"),
            HEADERS => {
                self.chatter = 0;
                self.headers += 1;
                if self.headers > begun.saturating_mul(self.headers_per_stream) {
                    return Err(Http2Error::violation(ENHANCE_YOUR_CALM, "more HEADERS than the requests can have"));
                }
            }
            // RFC 9113 section 8.4.
            PUSH_PROMISE => return broken("PUSH_PROMISE, although the client has disabled push"),
            // Their number is bounded by the limit of held bytes, and they are part of responses.
            CONTINUATION => {}
            _ => {
                self.chatter += 1;
                if self.chatter > MOST_CHATTER {
                    return Err(Http2Error::violation(ENHANCE_YOUR_CALM, "too many frames without progress"));
                }
            }
        }
        Ok(())
    }

    /// Returns true if the length of the frame is allowed for its type (RFC 9113 sections 4.2 and 6).
    fn has_right_length(&self) -> bool {
        let length = self.length();
        match self.start[3] {
            SETTINGS if self.start[4] & ACK != 0 => length == 0,
            SETTINGS => length.is_multiple_of(6) && length <= MAX_FRAME_SIZE,
            PING => length == 8,
            RST_STREAM | WINDOW_UPDATE => length == 4,
            PRIORITY => length == 5,
            GOAWAY => (8..=MAX_FRAME_SIZE).contains(&length),
            _ => length <= MAX_FRAME_SIZE,
        }
    }

    fn end(&mut self) {
        match self.start[3] {
            SETTINGS => self.has_settings |= self.start[4] & ACK == 0,
            HEADERS | CONTINUATION => self.open = (self.start[4] & END_HEADERS == 0).then_some(self.stream()),
            RST_STREAM => {
                let [_, _, _, _, _, _, _, _, _, a, b, c, d, ..] = self.start;
                self.requires_http1 |= u32::from_be_bytes([a, b, c, d]) == HTTP_1_1_REQUIRED;
            }
            // A GOAWAY on a stream is an error that h2 detects.
            GOAWAY if self.stream() == 0 => {
                let [.., a, b, c, d, e, f, g, h] = self.start;
                let last = u32::from_be_bytes([a, b, c, d]) & MAX_WINDOW;
                let code = u32::from_be_bytes([e, f, g, h]);
                if self.code == NO_ERROR {
                    self.code = code;
                }
                self.requires_http1 |= code == HTTP_1_1_REQUIRED;
                // A second GOAWAY may lower the last stream, and must not raise it.
                self.last_stream = Some(self.last_stream.map_or(last, |before| before.min(last)));
            }
            _ => {}
        }
        self.known = 0;
    }
}

/// Checks the settings of RFC 9113 section 6.5.2 that h2 does not check.
fn check_settings(payload: &[u8]) -> Result<(), Http2Error> {
    for setting in payload.chunks_exact(6) {
        let &[a, b, c, d, e, f] = setting else { continue };
        match (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f])) {
            (ENABLE_PUSH, 1..) => return Err(Http2Error::violation(PROTOCOL_ERROR, "a server enables push")),
            (INITIAL_WINDOW_SIZE, size) if size > MAX_WINDOW => {
                return Err(Http2Error::violation(FLOW_CONTROL_ERROR, "the initial window size is too large"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Returns the block in these frames, and the stream on which its own stream depends, if declared.
fn fragments(unit: &[u8], flags: u8) -> Result<(Cow<'_, [u8]>, Option<u32>), Http2Error> {
    let short = || Http2Error::violation(FRAME_SIZE_ERROR, "HEADERS is too short");
    let (mut first, mut rest) = split_frame(unit).ok_or_else(short)?;
    let mut padding = 0;
    if flags & PADDED != 0 {
        let (&length, more) = first.split_first().ok_or_else(short)?;
        (padding, first) = (usize::from(length), more);
    }
    let mut dependency = None;
    if flags & WITH_PRIORITY != 0 {
        let (&[a, b, c, d, _], more) = first.split_first_chunk::<5>().ok_or_else(short)?;
        dependency = Some(u32::from_be_bytes([a, b, c, d]) & MAX_WINDOW);
        first = more;
    }
    let end = first.len().checked_sub(padding);
    let end =
        end.ok_or_else(|| Http2Error::violation(PROTOCOL_ERROR, "the padding of HEADERS is longer than its payload"))?;
    let mut block = Cow::Borrowed(first.get(..end).unwrap_or_default());
    while let Some((more, behind)) = split_frame(rest) {
        block.to_mut().extend_from_slice(more);
        rest = behind;
    }
    Ok((block, dependency))
}

/// Returns the payload of the first of these frames, and the others.
fn split_frame(frames: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[a, b, c, ..], rest) = frames.split_first_chunk::<HEADER>()?;
    rest.split_at_checked(usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c))
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    [length.as_slice(), &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Returns the frames of a header block.
fn head(flags: u8, stream: u32, block: &[u8]) -> Vec<u8> {
    let (first, mut rest) = block.split_at(block.len().min(MAX_FRAME_SIZE));
    let last = |rest: &[u8]| if rest.is_empty() { END_HEADERS } else { 0 };
    let mut frames = frame(HEADERS, flags | last(rest), stream, first);
    while !rest.is_empty() {
        let (next, behind) = rest.split_at(rest.len().min(MAX_FRAME_SIZE));
        frames.extend(frame(CONTINUATION, last(behind), stream, next));
        rest = behind;
    }
    frames
}

/// Returns a frame for which h2 ends the stream as malformed.
fn mark(stream: u32) -> Vec<u8> {
    head(0, stream, MARK)
}

/// Returns a frame for which h2 ends the stream without comparing the received data with Content-Length.
fn end(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &[0; 4])
}

/// Returns the frame that informs the peer why the connection ends (RFC 9113 section 5.4.1).
pub(super) fn go_away(code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[[0; 4], code.to_be_bytes()].concat())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const OK: &[u8] = &[0x88];

    const LIMITS: Limits = Limits {
        head_bytes: 1000,
        header_count: 256,
        chunk_line_bytes: 4096,
        trailer_bytes: 16 * 1024,
        interim_responses: 100,
        interim_bytes: 10_000,
    };

    fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        super::frame(kind, 0, stream, payload)
    }

    fn head(stream: u32, block: &[u8]) -> Vec<u8> {
        super::head(0, stream, block)
    }

    /// Returns the bytes that h2 gets, or the error code with which the connection ends.
    fn pass(frames: &mut Frames, bytes: &[u8], begun: u64) -> Result<Vec<u8>, u32> {
        let mut out = BytesMut::new();
        let kept = frames.pass(bytes, begun, &mut out);
        match frames.violation() {
            Some(violation) => Err(violation.code),
            None => Ok([&bytes[..kept], &out].concat()),
        }
    }

    /// Passes the bytes in pieces of that length.
    fn pass_pieces(frames: &mut Frames, bytes: &[u8], piece: usize) -> Result<Vec<u8>, u32> {
        bytes.chunks(piece).map(|piece| pass(frames, piece, 9)).collect::<Result<Vec<_>, _>>().map(|all| all.concat())
    }

    /// Returns the state of a connection whose peer has sent its SETTINGS.
    fn begun() -> Frames {
        let mut frames = Frames::new(&LIMITS);
        pass(&mut frames, &frame(SETTINGS, 0, b""), 0).unwrap();
        frames.forgive();
        [1, 3, 5].into_iter().for_each(|stream| frames.begin(stream));
        frames
    }

    #[test]
    fn empty_data_is_dropped_if_it_is_allowed() {
        let last = super::frame(DATA, END_STREAM, 1, b"");
        let (some, empty) = (frame(DATA, 1, b"x"), |stream| frame(DATA, stream, b""));
        let pieces = [head(1, OK), empty(1), some.clone(), empty(1), last.clone(), empty(1), empty(7)];
        let left = [head(1, OK), some, last, empty(1), empty(7)].concat();
        let bytes = pieces.concat();
        for piece in 1..bytes.len() {
            assert_eq!(pass_pieces(&mut begun(), &bytes, piece).unwrap(), left, "in pieces of {piece}");
        }
        let mut frames = begun();
        frames.forget(1);
        assert_eq!(pass(&mut frames, &empty(1), 3), Ok(Vec::new()));
    }

    #[test]
    fn valid_frames_pass_unchanged_wherever_the_bytes_are_cut() {
        let parts = [super::frame(HEADERS, END_STREAM, 3, &[0x88, 0x40]), frame(CONTINUATION, 3, b"\x01a")].concat();
        let end = super::frame(CONTINUATION, END_HEADERS, 3, b"\x01b\xbe");
        let padded = super::frame(HEADERS, END_HEADERS | PADDED | WITH_PRIORITY, 5, b"\x02\0\0\0\x01\x05\x88xx");
        let more = [frame(WINDOW_UPDATE, 0, &[0, 0, 0, 9]), frame(6, 0, &[0; 8]), frame(0xbe, 1, b"anything")];
        let bytes = [head(1, OK), frame(DATA, 1, &[7; 300]), parts, end, padded, more.concat()].concat();
        for piece in 1..bytes.len() {
            assert_eq!(pass_pieces(&mut begun(), &bytes, piece).unwrap(), bytes, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_malformed_message_ends_its_stream_wherever_the_bytes_are_cut() {
        // An invalid name that is indexed, in two frames; then the next head, which refers to it.
        let parts = [frame(HEADERS, 1, &[0x88, 0x40]), super::frame(CONTINUATION, END_HEADERS, 1, b"\x01A\x01b")];
        let next = head(3, b"\x88\xbe");
        let bytes = [parts.concat(), next, head(5, OK)].concat();
        let table = [b"\x40\x01x\x01x", MARK].concat();
        let expected = [head(1, &table), head(3, MARK), head(5, OK)].concat();
        for piece in 1..bytes.len() {
            let mut frames = begun();
            assert_eq!(pass_pieces(&mut frames, &bytes, piece).unwrap(), expected, "in pieces of {piece}");
            assert_eq!([1, 3, 5].map(|stream| frames.fault(stream)), [Some(Fault::Name), Some(Fault::Name), None]);
        }
    }

    #[test]
    fn a_message_of_a_forgotten_stream_is_not_ended_again() {
        let mut frames = begun();
        frames.forget(1);
        assert_eq!(pass(&mut frames, &head(1, b"\x40\x01A\x01b"), 3), Ok(head(1, b"\x40\x01x\x01x")));
    }

    #[test]
    fn data_before_a_violation_is_passed() {
        let bytes = [frame(DATA, 5, b"x"), head(1, OK), frame(PUSH_PROMISE, 1, b"")].concat();
        let mut out = BytesMut::new();
        let mut frames = begun();
        frames.pass(&head(5, OK), 3, &mut out);
        assert_eq!(frames.pass(&bytes, 3, &mut out), bytes.len() - 9);
        assert!(out.is_empty());
        assert_eq!(frames.violation().map(|violation| violation.code), Some(PROTOCOL_ERROR));
    }

    #[test]
    fn a_header_block_without_end_is_bounded() {
        let mut frames = begun();
        let mut passed = pass(&mut frames, &frame(HEADERS, 1, OK), 3);
        let mut bytes = 0;
        while let Ok(nothing) = &passed {
            assert!(nothing.is_empty());
            bytes += HEADER;
            assert!(bytes <= 4 * 1000 + MAX_FRAME_SIZE);
            passed = pass(&mut frames, &frame(CONTINUATION, 1, b""), 3);
        }
        assert_eq!(passed, Err(ENHANCE_YOUR_CALM));
    }

    #[test]
    fn the_first_frame_is_settings() {
        for (kind, passes) in [(SETTINGS, true), (DATA, false), (GOAWAY, false), (b'P', false)] {
            let passed = pass(&mut Frames::new(&LIMITS), &frame(kind, 0, &[0; 6]), 1);
            assert_eq!(passed.map(drop), if passes { Ok(()) } else { Err(PROTOCOL_ERROR) });
        }
    }

    #[test]
    fn finds_the_last_stream_wherever_the_bytes_are_cut() {
        let goaway = frame(GOAWAY, 0, b"\x80\0\0\x05\0\0\0\x0bdebug data");
        let more = [goaway, frame(DATA, 1, b"")].concat();
        let bytes = [frame(4, 0, b"sixxxx"), frame(DATA, 1, &[7; 300]), frame(4, 0, b""), more];
        let bytes = bytes.concat();
        for piece in 1..bytes.len() {
            let mut frames = begun();
            pass_pieces(&mut frames, &bytes, piece).unwrap();
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
            pass(&mut frames, &frame(GOAWAY, 0, &payload), 1).unwrap();
            assert_eq!(frames.last_stream(), Some(kept));
        }
    }

    #[test]
    fn the_first_error_code_of_several_goaways_stays() {
        let mut frames = begun();
        for (code, kept) in
            [(NO_ERROR, NO_ERROR), (ENHANCE_YOUR_CALM, ENHANCE_YOUR_CALM), (NO_ERROR, ENHANCE_YOUR_CALM)]
        {
            let payload = [[0; 4], code.to_be_bytes()].concat();
            pass(&mut frames, &frame(GOAWAY, 0, &payload), 1).unwrap();
            assert_eq!(frames.code(), kept);
        }
    }

    #[test]
    fn finds_that_http1_is_required_wherever_the_bytes_are_cut() {
        let code = HTTP_1_1_REQUIRED.to_be_bytes();
        for last in [frame(RST_STREAM, 1, &code), frame(GOAWAY, 0, &[[0; 4], code].concat())] {
            let bytes = [frame(RST_STREAM, 3, &[0; 4]), last].concat();
            for piece in 1..bytes.len() {
                let mut frames = begun();
                assert_eq!(pass_pieces(&mut frames, &bytes, piece).unwrap(), bytes);
                assert!(frames.requires_http1(), "in pieces of {piece}");
            }
        }
        let mut frames = begun();
        pass(&mut frames, &frame(RST_STREAM, 1, &ENHANCE_YOUR_CALM.to_be_bytes()), 1).unwrap();
        assert!(!frames.requires_http1());
    }

    #[test]
    fn trailers_after_the_length_of_another_response_complete_the_message() {
        // 304 with a Content-Length, then trailers that are indexed, or not.
        for (trailers, is_complete) in [(b"\x40\x01x\x01y", true), (b"\x00\x01x\x01y", false)] {
            let mut frames = begun();
            pass(&mut frames, &head(1, b"\x8b\x0f\x0d\x0210"), 3).unwrap();
            let trailers = super::head(END_STREAM, 1, trailers);
            let expected = if is_complete { trailers.clone() } else { end(1) };
            assert_eq!(pass(&mut frames, &trailers, 3), Ok(expected));
            assert_eq!(frames.is_complete(1), is_complete);
        }
    }

    #[test]
    fn frames_without_progress_are_bounded_and_the_count_is_reset() {
        let (ping, data) = (frame(6, 0, &[0; 8]), frame(DATA, 1, b"x"));
        let mut frames = begun();
        for _ in 0..3 {
            (0..MOST_CHATTER).for_each(|_| drop(pass(&mut frames, &ping, 1).unwrap()));
            pass(&mut frames, &data, 1).unwrap();
            (0..MOST_CHATTER).for_each(|_| drop(pass(&mut frames, &ping, 1).unwrap()));
            frames.forgive();
        }
        (0..MOST_CHATTER).for_each(|_| drop(pass(&mut frames, &ping, 1).unwrap()));
        assert_eq!(pass(&mut frames, &ping, 1), Err(ENHANCE_YOUR_CALM));
    }

    #[test]
    fn the_number_of_heads_is_bounded_by_that_of_the_requests() {
        let interim = head(1, b"\x08\x03103");
        let mut frames = begun();
        (0..102).for_each(|_| drop(pass(&mut frames, &interim, 1).unwrap()));
        assert_eq!(pass(&mut frames, &interim, 1), Err(ENHANCE_YOUR_CALM));
    }

    #[test]
    fn interim_heads_of_a_stream_are_bounded_by_their_bytes() {
        let field = [b"\x08\x03103\x00\x01a\x7f\x81\x05".as_slice(), &[b'b'; 768]].concat();
        // 42 for the status, 801 for the field.
        let most = 11_000 / (42 + 801);
        let mut frames = begun();
        for stream in [1, 3] {
            (0..most).for_each(|_| drop(pass(&mut frames, &head(stream, &field), 9).unwrap()));
        }
        assert_eq!(pass(&mut frames, &head(1, &field), 9), Err(ENHANCE_YOUR_CALM));
    }
}
