//! Server-sent events: the `text/event-stream` format of the WHATWG HTML standard, section 9.2.
//!
//! ```text
//! stream  = [ bom ] *event
//! event   = *( comment / field ) end-of-line
//! comment = ":" *any-char end-of-line
//! field   = 1*name-char [ ":" [ space ] *any-char ] end-of-line
//! ```
//!
//! A line ends with CR LF, LF or CR. UTF-8 is decoded when an event is complete, with U+FFFD for invalid bytes. That
//! has the result of decoding the stream first: a line end or a colon is never part of a longer sequence.

use std::borrow::Cow;
use std::sync::Arc;

use memchr::{memchr, memchr2};

/// Default of the most bytes of one event.
pub const MOST_EVENT_BYTES: usize = 1024 * 1024;

/// The byte order mark that may begin a stream.
const MARK: &[u8] = b"\xEF\xBB\xBF";

/// Capacity that a buffer keeps after an event.
const KEPT_BYTES: usize = 16 * 1024;

/// An event is larger than the limit, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Server-sent event too large: more than {0} bytes")]
pub struct EventTooLarge(pub usize);

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The type, `message` by default.
    pub event: Cow<'a, str>,
    /// The data: its lines, joined by LF.
    pub data: Cow<'a, str>,
    /// The last event ID of the stream: its own, or else that of an earlier event. The same allocation until it changes.
    pub id: &'a Arc<str>,
    /// The reconnection time in milliseconds, if the event contains one.
    pub retry: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the start of the stream, after that many bytes of [`MARK`].
    Mark(usize),
    /// At the start of a line, or in one that is not a comment.
    Line,
    /// In a comment, which is ignored.
    Comment,
}

/// Parses a stream that arrives in pieces of any size.
///
/// ```
/// use wire::sse::{EventReader, MOST_EVENT_BYTES};
///
/// let mut reader = EventReader::new(MOST_EVENT_BYTES);
/// let (used, event) = reader.read(b"data: one\ndata: two\n\ndata: next").unwrap();
/// assert_eq!((used, &*event.unwrap().data), (21, "one\ntwo"));
/// ```
#[derive(Clone, Debug)]
pub struct EventReader {
    most: usize,
    state: State,
    /// Whether the last byte was a CR. A LF after it belongs to the same line end.
    is_after_return: bool,
    /// The received part of an incomplete line.
    line: Vec<u8>,
    event: Vec<u8>,
    /// The data, with a LF after each line.
    data: Vec<u8>,
    /// The ID that was received last, if no event has ended since.
    new_id: Option<Vec<u8>>,
    id: Arc<str>,
    retry: Option<u64>,
    /// The reconnection time that was received last.
    last_retry: Option<u64>,
    /// Whether the event in the buffers has been returned.
    is_returned: bool,
}

impl EventReader {
    /// Returns a reader at the start of a stream, for events of at most `most` bytes: those of type, ID and data, and
    /// of the line that is being received. Comments do not count.
    pub fn new(most: usize) -> Self {
        EventReader {
            most,
            state: State::Mark(0),
            is_after_return: false,
            line: Vec::new(),
            event: Vec::new(),
            data: Vec::new(),
            new_id: None,
            id: Arc::from(""),
            retry: None,
            last_retry: None,
            is_returned: false,
        }
    }

    /// Reads from the start of `input` to the end of an event. Returns the number of bytes read: all of them if the
    /// event is not complete. An event that is incomplete at the end of the stream is to be dropped.
    ///
    /// # Errors
    /// [`EventTooLarge`]; the stream cannot be read after that.
    pub fn read(&mut self, input: &[u8]) -> Result<(usize, Option<Event<'_>>), EventTooLarge> {
        if std::mem::take(&mut self.is_returned) {
            self.clear();
        }
        let mut rest = self.after_mark(input);
        while let Some(&first) = rest.first() {
            if std::mem::take(&mut self.is_after_return) && first == b'\n' {
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            if first == b':' && self.line.is_empty() && self.state == State::Line {
                self.state = State::Comment;
            }
            let Some(end) = memchr2(b'\r', b'\n', rest) else {
                self.keep(rest)?;
                break;
            };
            let (line, behind) = rest.split_at(end);
            self.is_after_return = behind.first() == Some(&b'\r');
            rest = behind.get(1..).unwrap_or_default();
            if self.end_line(line)? {
                self.is_returned = true;
                return Ok((input.len() - rest.len(), Some(self.current())));
            }
        }
        Ok((input.len(), None))
    }

    /// Returns the last event ID, which a new connection sends as Last-Event-ID. It may be that of an event without
    /// data, which is not returned.
    pub fn last_event_id(&self) -> &str {
        &self.id
    }

    /// Sets the ID of events before the first one that has an ID: that of the connection before.
    pub fn set_last_event_id(&mut self, id: &str) {
        self.id = Arc::from(id);
    }

    /// Returns the last reconnection time of the stream in milliseconds. It may be that of an event without data, which
    /// is not returned.
    pub fn last_retry(&self) -> Option<u64> {
        self.last_retry
    }

    /// Returns `input` without the bytes of a byte order mark.
    fn after_mark<'a>(&mut self, input: &'a [u8]) -> &'a [u8] {
        let State::Mark(before) = self.state else { return input };
        let expected = MARK.get(before..).unwrap_or_default();
        let same = expected.iter().zip(input).take_while(|(one, other)| one == other).count();
        let (mark, rest) = input.split_at(same);
        self.state = match (same == expected.len(), rest.is_empty()) {
            (true, _) => State::Line,
            (false, true) => State::Mark(before + same),
            (false, false) => {
                // They are the start of a line instead.
                self.line.extend_from_slice(MARK.get(..before + mark.len()).unwrap_or_default());
                State::Line
            }
        };
        rest
    }

    /// Keeps the start of a line.
    fn keep(&mut self, line: &[u8]) -> Result<(), EventTooLarge> {
        if self.state == State::Line {
            self.check(line.len())?;
            self.line.extend_from_slice(line);
        }
        Ok(())
    }

    /// Returns an error if the event has more bytes than allowed, with `more` of them.
    fn check(&self, more: usize) -> Result<(), EventTooLarge> {
        let id = self.new_id.as_ref().map_or(0, Vec::len);
        let size = self.line.len() + self.event.len() + self.data.len() + id;
        if size.saturating_add(more) > self.most { Err(EventTooLarge(self.most)) } else { Ok(()) }
    }

    /// Uses a line, of which `tail` is what has not been kept. Returns true if it completes an event.
    fn end_line(&mut self, tail: &[u8]) -> Result<bool, EventTooLarge> {
        if self.state == State::Comment {
            self.state = State::Line;
            return Ok(false);
        }
        self.check(tail.len())?;
        if self.line.is_empty() {
            return self.use_line(tail);
        }
        let mut line = std::mem::take(&mut self.line);
        line.extend_from_slice(tail);
        let is_event = self.use_line(&line)?;
        line.clear();
        line.shrink_to(KEPT_BYTES);
        self.line = line;
        Ok(is_event)
    }

    fn use_line(&mut self, line: &[u8]) -> Result<bool, EventTooLarge> {
        if line.is_empty() {
            return Ok(self.end_event());
        }
        let (name, value) = match memchr(b':', line) {
            Some(colon) => (line.get(..colon).unwrap_or_default(), line.get(colon + 1..).unwrap_or_default()),
            None => (line, b"".as_slice()),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"data" => {
                self.data.extend_from_slice(value);
                self.data.push(b'\n');
            }
            b"event" => {
                self.event.clear();
                self.event.extend_from_slice(value);
            }
            b"id" if memchr(0, value).is_none() => self.new_id = Some(value.to_vec()),
            b"retry" => {
                if let Some(milliseconds) = number(value) {
                    self.retry = Some(milliseconds);
                    self.last_retry = self.retry;
                }
            }
            _ => return Ok(false),
        }
        self.check(0).map(|()| false)
    }

    /// Ends the event at a blank line. Returns false if it has no data, and is ignored except for its ID and retry.
    fn end_event(&mut self) -> bool {
        if let Some(id) = self.new_id.take() {
            self.id = Arc::from(&*decode(&id));
        }
        if self.data.pop().is_none() {
            self.clear();
            return false;
        }
        true
    }

    fn current(&self) -> Event<'_> {
        let event = if self.event.is_empty() { b"message" } else { self.event.as_slice() };
        Event { event: decode(event), data: decode(&self.data), id: &self.id, retry: self.retry }
    }

    fn clear(&mut self) {
        self.retry = None;
        for buffer in [&mut self.event, &mut self.data] {
            buffer.clear();
            buffer.shrink_to(KEPT_BYTES);
        }
    }
}

/// Decodes UTF-8, with U+FFFD for each invalid sequence.
fn decode(bytes: &[u8]) -> Cow<'_, str> {
    // `from_utf8_lossy` looks at each byte; this at eight ASCII characters at once.
    str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// Returns the value of digits alone, at most [`u64::MAX`].
fn number(digits: &[u8]) -> Option<u64> {
    let digit = |&byte: &u8| char::from(byte).to_digit(10).map(u64::from);
    let add = |sum: u64, byte| digit(byte).map(|digit| sum.saturating_mul(10).saturating_add(digit));
    if digits.is_empty() { None } else { digits.iter().try_fold(0, add) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a stream in one piece: type, data, ID and retry of each event.
    fn events(stream: &[u8]) -> Vec<(String, String, String, Option<u64>)> {
        let (mut reader, mut rest, mut found) = (EventReader::new(MOST_EVENT_BYTES), stream, Vec::new());
        loop {
            let (used, event) = reader.read(rest).expect("events of less than the limit");
            rest = &rest[used..];
            let Some(event) = event else { break };
            found.push((event.event.into(), event.data.into(), event.id.to_string(), event.retry));
        }
        assert!(rest.is_empty());
        found
    }

    fn data(stream: &[u8]) -> Vec<String> {
        events(stream).into_iter().map(|(_, data, ..)| data).collect()
    }

    #[test]
    fn test_read_stops_after_each_event() {
        let mut reader = EventReader::new(MOST_EVENT_BYTES);
        let stream = b"data: 1\n\ndata: 2\n\n";
        let (used, event) = reader.read(stream).unwrap();
        assert_eq!((used, &*event.unwrap().data), (9, "1"));
        let (used, event) = reader.read(&stream[9..]).unwrap();
        assert_eq!((used, &*event.unwrap().data), (9, "2"));
        assert_eq!(reader.read(b""), Ok((0, None)));
    }

    #[test]
    fn test_event_ends_at_the_cr_of_its_blank_line() {
        let mut reader = EventReader::new(MOST_EVENT_BYTES);
        assert_eq!(reader.read(b"data: 1\r\n"), Ok((9, None)));
        assert!(reader.read(b"\r").unwrap().1.is_some());
        assert_eq!(reader.read(b"\n"), Ok((1, None)));
        assert_eq!(reader.read(b"\n").unwrap(), (1, None));
    }

    #[test]
    fn test_id_remains_until_it_changes() {
        let mut reader = EventReader::new(MOST_EVENT_BYTES);
        reader.set_last_event_id("before");
        let mut stream = b"data: 1\n\nid: 7\ndata: 2\n\ndata: 3\n\nid\n\n".as_slice();
        let mut ids = Vec::new();
        while let (used, Some(event)) = reader.read(stream).unwrap() {
            ids.push(event.id.clone());
            stream = &stream[used..];
        }
        assert_eq!(ids.iter().map(|id| &**id).collect::<Vec<_>>(), ["before", "7", "7"]);
        assert!(Arc::ptr_eq(&ids[1], &ids[2]));
        assert_eq!(reader.last_event_id(), "");
    }

    #[test]
    fn test_id_counts_from_the_end_of_its_event() {
        let mut reader = EventReader::new(MOST_EVENT_BYTES);
        reader.read(b"id: 1\n").unwrap();
        assert_eq!(reader.last_event_id(), "");
        reader.read(b"\n").unwrap();
        assert_eq!(reader.last_event_id(), "1");
    }

    #[test]
    fn test_retry_belongs_to_the_event_that_contains_it() {
        let found = events(b"retry: 10\ndata: 1\n\ndata: 2\n\nretry: 20\n\ndata: 3\n\n");
        assert_eq!(found.iter().map(|event| event.3).collect::<Vec<_>>(), [Some(10), None, None]);
        let mut reader = EventReader::new(MOST_EVENT_BYTES);
        assert_eq!(reader.last_retry(), None);
        reader.read(b"retry: 20\n\nretry: x\n\n").unwrap();
        assert_eq!(reader.last_retry(), Some(20));
    }

    #[test]
    fn test_number_of_digits_alone() {
        let most = u64::MAX.to_string();
        for (digits, expected) in [
            ("0", Some(0)),
            ("0030", Some(30)),
            (&most, Some(u64::MAX)),
            ("99999999999999999999", Some(u64::MAX)),
            ("", None),
            ("+1", None),
            ("1.5", None),
            ("1 ", None),
            ("\u{661}", None),
        ] {
            assert_eq!(number(digits.as_bytes()), expected, "{digits:?}");
        }
    }

    #[test]
    fn test_limit_counts_type_id_and_data() {
        // The line `data: dddd` is ten bytes, beside the four of type and ID.
        let most = b"event: ee\nid: ii\ndata: dddd\n";
        for (limit, is_allowed) in [(14, true), (13, false)] {
            let mut reader = EventReader::new(limit);
            let read = reader.read(most);
            assert_eq!(read.is_ok(), is_allowed, "{limit}: {read:?}");
        }
    }

    #[test]
    fn test_limit_counts_an_incomplete_line() {
        let mut reader = EventReader::new(10);
        assert_eq!(reader.read(b"data:"), Ok((5, None)));
        assert_eq!(reader.read(b"12345"), Ok((5, None)));
        assert_eq!(reader.read(b"6"), Err(EventTooLarge(10)));
        assert_eq!(EventReader::new(10).read(b"unknown field"), Err(EventTooLarge(10)));
    }

    #[test]
    fn test_limit_does_not_count_comments_and_earlier_events() {
        let mut reader = EventReader::new(16);
        for _ in 0..100 {
            assert_eq!(reader.read(b": a comment beyond the limit"), Ok((28, None)));
            assert_eq!(reader.read(b" and its end\n"), Ok((13, None)));
            assert!(reader.read(b"data: 12345\n\n").unwrap().1.is_some());
        }
    }

    #[test]
    fn test_buffers_shrink_after_a_large_event() {
        let mut reader = EventReader::new(MOST_EVENT_BYTES);
        let large = [b"data: ".as_slice(), &[b'x'; 100_000]].concat();
        reader.read(&large).unwrap();
        reader.read(b"\n").unwrap();
        reader.read(&large[..100]).unwrap();
        reader.read(b"\n\n").unwrap();
        reader.read(b"").unwrap();
        assert!(reader.line.capacity() + reader.data.capacity() <= 2 * KEPT_BYTES);
    }

    #[test]
    fn test_mark_at_the_start_alone() {
        assert_eq!(data(b"\xEF\xBB\xBFdata: 1\n\n\xEF\xBB\xBFdata: 2\n\ndata: 3\n\n"), ["1", "3"]);
        assert_eq!(data(b"\xEF\xBB\xBF\xEF\xBB\xBFdata: 1\n\n"), Vec::<String>::new());
        assert_eq!(data(b"\xEF\xBB\n\ndata: 1\n\n"), ["1"]);
    }
}
