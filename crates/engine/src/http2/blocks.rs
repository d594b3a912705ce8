//! Header blocks (RFC 7541), checked before h2 reads them.
//!
//! A malformed message is an error of its stream (RFC 9113 section 8.1.1). h2 ends the whole connection for a field
//! that it cannot represent, and accepts request pseudo-header fields in a response. Its HPACK decoder cannot be
//! configured. So this module follows the peer's dynamic table without its text, and replaces a malformed block by one
//! that h2 can read, that leaves h2's table as the peer expects it, and that certainly causes a stream error.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;

use octets::Octets;
use wire::token;

use super::error::{COMPRESSION_ERROR, Http2Error};

/// SETTINGS_HEADER_TABLE_SIZE: the default, since the client announces no other value.
const TABLE: usize = 4096;

/// Size of an entry beyond its name and value (RFC 7541 section 4.1).
const OVERHEAD: usize = 32;

/// Number of parts of a block whose memory is kept for the next block.
const USUAL_PIECES: usize = 64;

/// Maximum number of bytes of a replacement beyond twice those of its block. A reference to a name takes three bytes of
/// a block, and up to [`TABLE`] bytes of the replacement.
const SPARE: usize = 16 * 1024;

/// The lengths of the names in the static table (RFC 7541 appendix A). `:status` is entries 8 to 14.
#[rustfmt::skip]
const STATIC: [usize; 61] = [
    10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15, 15, 13, 6, 27,
    3, 5, 13, 13, 19, 16, 16, 14, 16, 13, 12, 6, 4, 4, 6, 7, 4, 4, 8, 17,
    13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6, 10, 25, 17, 10, 4, 3,
    16,
];
/// The values of `:status` there.
const STATUSES: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
/// `content-length` there.
const CONTENT_LENGTH: usize = 28;
/// `transfer-encoding` there.
const TRANSFER_ENCODING: usize = 57;

/// Length of the longest field name that the crate http accepts.
const LONGEST_NAME: usize = 65_535;

/// Names that RFC 9113 section 8.2.2 forbids in a response.
const OF_THE_CONNECTION: [&[u8]; 6] =
    [b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"];

/// A field that h2 considers malformed and does not index: `connection` without a value.
pub(super) const MARK: &[u8] = b"\0\x0aconnection\0";

/// Reason why a message is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Name,
    Value,
    OfTheConnection,
    Pseudo,
    PseudoLate,
    PseudoInTrailers,
    Status,
    StatusMissing,
    StatusRepeated,
    Switching,
    InterimEnds,
    TrailersDoNotEnd,
    OwnDependency,
    DataFirst,
    Content,
    EmptyWindow,
}

impl Fault {
    pub(super) fn words(self) -> &'static str {
        match self {
            Fault::Name => "the response is malformed: a field name is empty or has a forbidden character",
            Fault::Value => {
                "the response is malformed: a field value has a forbidden character or white space at an end"
            }
            Fault::OfTheConnection => "the response is malformed: it has a connection-specific field",
            Fault::Pseudo => "the response is malformed: it has a pseudo-header field other than :status",
            Fault::PseudoLate => "the response is malformed: a pseudo-header field follows a regular field",
            Fault::PseudoInTrailers => "the response is malformed: its trailers have a pseudo-header field",
            Fault::Status => "the response is malformed: its :status is not a status code",
            Fault::StatusMissing => "the response is malformed: it has no :status",
            Fault::StatusRepeated => "the response is malformed: it has more than one :status",
            Fault::Switching => "the response is malformed: HTTP/2 has no status 101",
            Fault::InterimEnds => "the response is malformed: it ends with an interim response",
            Fault::TrailersDoNotEnd => "the response is malformed: its trailers do not end the stream",
            Fault::OwnDependency => "the stream depends on itself",
            Fault::DataFirst => "the response is malformed: DATA precedes its HEADERS",
            Fault::Content => "the response is malformed: its status has no content, but DATA follows",
            Fault::EmptyWindow => "a WINDOW_UPDATE of the stream is zero",
        }
    }
}

/// Kind of a field name.
#[derive(Clone, Copy)]
enum Name {
    Regular,
    Length,
    Status,
    /// A name that makes every message malformed.
    Bad(Fault),
}

/// A field, or an entry of the dynamic table.
#[derive(Clone, Copy)]
struct Field {
    name: Name,
    name_length: usize,
    value_length: usize,
    /// The value of `:status`.
    status: Option<u16>,
    fault: Option<Fault>,
}

/// A part of a block that changes the dynamic table.
enum Piece {
    /// A part that h2 can read unchanged.
    Kept(Range<usize>),
    /// A field whose value is replaced by one of the same length; the range is the part of the field before the value.
    Value(Range<usize>, usize),
    /// A field that is replaced as a whole by one with that number of bytes of name and value.
    Field(usize),
}

/// Contents of a block.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) fault: Option<Fault>,
    pub(super) status: Option<u16>,
    pub(super) has_pseudo: bool,
    /// Whether it has a Content-Length.
    pub(super) has_length: bool,
    /// Size of the fields, as SETTINGS_MAX_HEADER_LIST_SIZE counts it (RFC 9113 section 6.5.2), without the values of
    /// the static table.
    pub(super) size: usize,
    has_regular: bool,
}

impl Contents {
    fn blame(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    fn take(&mut self, field: &Field) {
        self.size = self.size.saturating_add(field.size());
        if let Some(fault) = field.fault {
            self.has_pseudo |= matches!(fault, Fault::Pseudo | Fault::Status);
            self.blame(fault);
        }
        self.has_length |= matches!(field.name, Name::Length);
        let Some(status) = field.status else {
            self.has_regular = true;
            return;
        };
        self.has_pseudo = true;
        if self.has_regular {
            self.blame(Fault::PseudoLate);
        }
        if self.status.replace(status).is_some() {
            self.blame(Fault::StatusRepeated);
        }
    }
}

/// The state of the header compression of one connection.
#[derive(Default)]
pub(super) struct Blocks {
    entries: VecDeque<Field>,
    size: usize,
    /// Number of bytes by which the peer has lowered [`TABLE`].
    lowered: usize,
    /// Parts of the block that was read last.
    pieces: Vec<Piece>,
}

impl Blocks {
    /// Reads a whole block. An error is an error of the connection.
    pub(super) fn read(&mut self, block: &[u8]) -> Result<Contents, Http2Error> {
        self.pieces.clear();
        self.read_fields(block)
            .ok_or_else(|| Http2Error::violation(COMPRESSION_ERROR, "a header block is not valid HPACK"))
    }

    fn read_fields(&mut self, block: &[u8]) -> Option<Contents> {
        let mut contents = Contents::default();
        let mut may_resize = true;
        let mut rest = block;
        while let Some(&first) = rest.first() {
            let start = block.len() - rest.len();
            if first & 0xe0 == 0x20 {
                let size = integer(&mut rest, 5)?;
                if !may_resize || size > TABLE {
                    return None;
                }
                self.lowered = TABLE - size;
                self.make_room(0);
                self.pieces.push(Piece::Kept(start..block.len() - rest.len()));
                continue;
            }
            may_resize = false;
            if first & 0x80 != 0 {
                let index = integer(&mut rest, 7)?;
                contents.take(&self.entry(index)?);
                continue;
            }
            let is_indexed = first & 0x40 != 0;
            let index = integer(&mut rest, if is_indexed { 6 } else { 4 })?;
            let (name, name_length) = if index == 0 {
                let name = string(&mut rest)?;
                (name_of(&name), name.len())
            } else {
                let entry = self.entry(index)?;
                (entry.name, entry.name_length)
            };
            let value_at = block.len() - rest.len();
            let value = string(&mut rest)?;
            let field = Field::new(name, name_length, &value);
            contents.take(&field);
            if is_indexed {
                self.pieces.push(match (field.fault, name) {
                    (None, _) => Piece::Kept(start..block.len() - rest.len()),
                    (Some(_), Name::Regular | Name::Length) => Piece::Value(start..value_at, value.len()),
                    (Some(_), _) => Piece::Field(name_length + value.len()),
                });
                self.insert(field);
            }
        }
        Some(contents)
    }

    /// Returns a block that changes the table as the last one did, that h2 can read, and that h2 considers malformed if
    /// `is_marked`. Returns `None` if there is no such block, or none of about the same size. The filler is never
    /// longer than the table, since every larger field just empties it.
    pub(super) fn replacement(&self, block: &[u8], is_marked: bool) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let most = block.len().saturating_mul(2).saturating_add(SPARE);
        for piece in &self.pieces {
            if out.len() > most {
                return None;
            }
            match piece {
                Piece::Kept(range) => out.extend_from_slice(block.get(range.clone())?),
                Piece::Value(range, length) => {
                    out.extend_from_slice(block.get(range.clone())?);
                    put_filler(&mut out, (*length).min(TABLE));
                }
                Piece::Field(length) => {
                    out.push(0x40);
                    put_filler(&mut out, 1);
                    // h2 has no field as short as one without a name and a value.
                    put_filler(&mut out, length.checked_sub(1)?.min(TABLE));
                }
            }
        }
        if is_marked {
            out.extend_from_slice(MARK);
        }
        Some(out)
    }

    /// Returns true if the last block did not change the table.
    pub(super) fn leaves_table(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Frees the memory that the last block used.
    pub(super) fn release_buffers(&mut self) {
        self.pieces.clear();
        self.pieces.shrink_to(USUAL_PIECES);
    }

    fn entry(&self, index: usize) -> Option<Field> {
        let Some(&name_length) = STATIC.get(index.checked_sub(1)?) else {
            return self.entries.get(index - STATIC.len() - 1).copied();
        };
        let (name, status) = match index {
            ..8 => (Name::Bad(Fault::Pseudo), None),
            8..15 => (Name::Status, STATUSES.get(index - 8).copied()),
            CONTENT_LENGTH => (Name::Length, None),
            TRANSFER_ENCODING => (Name::Bad(Fault::OfTheConnection), None),
            _ => (Name::Regular, None),
        };
        let fault = if let Name::Bad(fault) = name { Some(fault) } else { None };
        // No entry of the static table is ever inserted unchanged, so the length of the value is not needed.
        Some(Field { name, name_length, value_length: 0, status, fault })
    }

    fn insert(&mut self, field: Field) {
        let size = field.size();
        self.make_room(size);
        // RFC 7541 section 4.4: an entry that is too large leaves an empty table.
        if size <= TABLE - self.lowered {
            self.size += size;
            self.entries.push_front(field);
        }
    }

    fn make_room(&mut self, size: usize) {
        while self.size + size > TABLE - self.lowered {
            let Some(last) = self.entries.pop_back() else { return };
            self.size -= last.size();
        }
    }
}

impl Field {
    fn new(name: Name, name_length: usize, value: &[u8]) -> Self {
        let (mut status, mut fault, mut name) = (None, None, name);
        match name {
            Name::Bad(what) => fault = Some(what),
            Name::Status => match status_of(value) {
                Some(code) => status = Some(code),
                // The field is replaced as a whole, so h2 does not get its name.
                None => (fault, name) = (Some(Fault::Status), Name::Bad(Fault::Status)),
            },
            Name::Regular | Name::Length => {
                if token::forbidden_in_value(value).is_some() || token::trim(value).len() < value.len() {
                    fault = Some(Fault::Value);
                }
            }
        }
        Field { name, name_length, value_length: value.len(), status, fault }
    }

    fn size(&self) -> usize {
        self.name_length + self.value_length + OVERHEAD
    }
}

fn name_of(name: &[u8]) -> Name {
    match name {
        b":status" => Name::Status,
        b"content-length" => Name::Length,
        [b':', ..] => Name::Bad(Fault::Pseudo),
        _ if !token::is_token(name) || name.iter().any(u8::is_ascii_uppercase) || name.len() > LONGEST_NAME => {
            Name::Bad(Fault::Name)
        }
        _ if OF_THE_CONNECTION.contains(&name) => Name::Bad(Fault::OfTheConnection),
        _ => Name::Regular,
    }
}

fn status_of(value: &[u8]) -> Option<u16> {
    let &[a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] = value else { return None };
    let digit = |byte: u8| u16::from(byte - b'0');
    Some(digit(a) * 100 + digit(b) * 10 + digit(c))
}

/// Takes an integer with a prefix of `prefix` bits (RFC 7541 section 5.1), in at most 5 bytes, as h2 does.
fn integer(rest: &mut &[u8], prefix: u32) -> Option<usize> {
    let mask = (1usize << prefix) - 1;
    let (&first, mut bytes) = rest.split_first()?;
    let mut value = usize::from(first) & mask;
    if value == mask {
        for shift in [0, 7, 14, 21] {
            let (&byte, more) = bytes.split_first()?;
            bytes = more;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                *rest = bytes;
                return Some(value);
            }
        }
        return None;
    }
    *rest = bytes;
    Some(value)
}

/// Takes a string literal (RFC 7541 section 5.2).
fn string<'a>(rest: &mut &'a [u8]) -> Option<Cow<'a, [u8]>> {
    let is_huffman = rest.first()? & 0x80 != 0;
    let length = integer(rest, 7)?;
    let (bytes, more) = rest.split_at_checked(length)?;
    *rest = more;
    if is_huffman {
        return Octets::with_slice(bytes).get_huffman_decoded().ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(bytes))
}

/// Appends a string literal of `length` bytes that is valid as a name and as a value.
fn put_filler(out: &mut Vec<u8>, length: usize) {
    if length < 0x7f {
        out.extend(u8::try_from(length));
    } else {
        out.push(0x7f);
        let mut rest = length - 0x7f;
        while rest >= 0x80 {
            out.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
    }
    out.resize(out.len() + length, b'x');
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn literal(kind: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
        let (name_length, value_length) = (name.len() as u8, value.len() as u8);
        [&[kind, name_length], name, &[value_length], value].concat()
    }

    fn fault_of(block: &[u8]) -> Option<Fault> {
        Blocks::default().read(block).unwrap().fault
    }

    #[test]
    fn faults_of_fields_are_found() {
        let names: [(&[u8], Option<Fault>); 13] = [
            (b"x-a", None),
            (b"!#$%&'*+-.^_`|~09az", None),
            (b"", Some(Fault::Name)),
            (b"X-a", Some(Fault::Name)),
            (b"x a", Some(Fault::Name)),
            (b"x:a", Some(Fault::Name)),
            (b"x\xe9", Some(Fault::Name)),
            (b"x\0", Some(Fault::Name)),
            (b":path", Some(Fault::Pseudo)),
            (b":nonsense", Some(Fault::Pseudo)),
            (b"connection", Some(Fault::OfTheConnection)),
            (b"te", Some(Fault::OfTheConnection)),
            (b"proxy-connection", Some(Fault::OfTheConnection)),
        ];
        for (name, fault) in names {
            for kind in [0, 0x10, 0x40] {
                assert_eq!(fault_of(&[b"\x88".to_vec(), literal(kind, name, b"v")].concat()), fault, "{name:?}");
            }
        }
        let values: [(&[u8], bool); 9] = [
            (b"", true),
            (b"a\tb c\xff", true),
            (b" a", false),
            (b"a\t", false),
            (b" ", false),
            (b"a\0", false),
            (b"a\r\nb: c", false),
            (b"a\x7f", false),
            (b"a\x01", false),
        ];
        for (value, is_good) in values {
            let fault = fault_of(&[b"\x88".to_vec(), literal(0x40, b"x", value)].concat());
            assert_eq!(fault, (!is_good).then_some(Fault::Value), "{value:?}");
        }
    }

    #[test]
    fn faults_of_pseudo_header_fields_are_found() {
        let status = |value: &[u8]| literal(0, b":status", value);
        for (value, code) in [(b"100", 100), (b"200", 200), (b"999", 999)] {
            let contents = Blocks::default().read(&status(value)).unwrap();
            assert_eq!((contents.fault, contents.status, contents.has_pseudo), (None, Some(code), true));
        }
        for value in [b"".as_slice(), b"20", b"2000", b"099", b"2x0", b" 20"] {
            assert_eq!(fault_of(&status(value)), Some(Fault::Status), "{value:?}");
        }
        assert_eq!(fault_of(b"\x88\x88"), Some(Fault::StatusRepeated));
        assert_eq!(fault_of(&[literal(0, b"x", b""), vec![0x88]].concat()), Some(Fault::PseudoLate));
        assert_eq!(fault_of(b"\x84"), Some(Fault::Pseudo));
        assert_eq!(fault_of(b"\xb9"), Some(Fault::OfTheConnection));
    }

    #[test]
    fn invalid_hpack_is_an_error() {
        let bad: [&[u8]; 9] = [
            b"\x80",
            b"\xbe",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x40\x0aab",
            b"\x40\x81\0\x01a",
            b"\x40\x84\xff\xff\xff\xff\x01a",
            b"\x40\x82\x1f\xff\x01a",
            b"\x3f\xe1\xff\xff\x7f",
            b"\x88\x20",
        ];
        for block in bad {
            let error = Blocks::default().read(block).map(drop).unwrap_err();
            assert_eq!(error.code, COMPRESSION_ERROR, "{block:?}");
        }
    }

    #[test]
    fn the_table_is_that_of_rfc_7541() {
        let mut blocks = Blocks::default();
        let names: Vec<u8> = (b'a'..=b'z').collect();
        // 26 entries of 100 + 33 bytes, then one for which entries are evicted.
        for &name in &names {
            blocks.read(&literal(0x40, &[name], &[b'v'; 100])).unwrap();
        }
        assert_eq!((blocks.entries.len(), blocks.size), (26, 26 * 133));
        blocks.read(&literal(0x40, b"long", &[b'v'; 120])).unwrap();
        for &name in &names {
            blocks.read(&literal(0x40, &[name], &[b'v'; 100])).unwrap();
        }
        assert_eq!((blocks.entries.len(), blocks.size), (30, 29 * 133 + 156));
        blocks.read(b"\x3f\x80\x02").unwrap();
        assert_eq!((blocks.entries.len(), blocks.size), (2, 266));
        blocks.read(b"\x20\x3f\xe1\x1f").unwrap();
        assert_eq!((blocks.entries.len(), blocks.size, blocks.lowered), (0, 0, 0));
    }

    #[test]
    fn the_replacement_of_references_to_a_long_bad_name_is_bounded() {
        let mut long = vec![0x40, 0x7f];
        // 0x7f + 3,873 = 4,000 bytes.
        long.extend_from_slice(&[0xa1, 0x1e]);
        long.extend(std::iter::repeat_n(b'X', 4000));
        long.push(0);
        let few = [long.clone(), b"\x7e\0".repeat(3)].concat();
        let many = [long, b"\x7e\0".repeat(10_000)].concat();
        let mut blocks = Blocks::default();
        assert!(blocks.read(&few).unwrap().fault.is_some());
        assert!(blocks.replacement(&few, true).is_some());
        assert!(blocks.read(&many).unwrap().fault.is_some());
        // 40 MB for 24 KB.
        assert!(blocks.replacement(&many, true).is_none());
    }

    #[test]
    fn a_replacement_leaves_entries_of_the_same_size() {
        let good = literal(0x40, b"x-good", b"v");
        let bad = [
            literal(0x40, b"x-a", b"bad\0"),
            literal(0x40, b"Bad", b""),
            literal(0x40, b"", b"v"),
            literal(0x40, b":status", b"2000"),
            [b"\x48\x04".as_slice(), b"2000"].concat(),
            [b"\x44\x02".as_slice(), b"/\xff"].concat(),
        ];
        let left_out = [b"\x88".to_vec(), literal(0, b"x", b"v"), literal(0x10, b"Y", b"v")].concat();
        let block = [b"\x20\x3f\xe1\x1f".to_vec(), good, bad.concat(), left_out].concat();
        let (mut theirs, mut ours) = (Blocks::default(), Blocks::default());
        assert!(theirs.read(&block).unwrap().fault.is_some());
        let replaced = theirs.replacement(&block, false).unwrap();
        assert_eq!(ours.read(&replaced).unwrap().fault, None);
        let sizes = |blocks: &Blocks| blocks.entries.iter().map(Field::size).collect::<Vec<_>>();
        assert_eq!(sizes(&ours), sizes(&theirs));
        assert_eq!(ours.size, theirs.size);
        // A reference to a valid name is still possible.
        assert!(matches!(theirs.entries[5].name, Name::Regular));
        assert_eq!(theirs.read(b"\x88\x7f\x04\x01v").unwrap().fault, None);

        theirs.read(&literal(0x40, b"", b"")).unwrap();
        assert!(theirs.replacement(&literal(0x40, b"", b""), false).is_none());
    }
}
