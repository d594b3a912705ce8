//! Decoders of gzip (RFC 1952) and deflate (RFC 1950, or RFC 1951 alone).

use flate2::{Decompress, FlushDecompress, Status};

use super::stream::{Damage, StreamDecoder, advance};

/// Largest window of a deflate stream, as a power of two.
const WINDOW_BITS: u8 = 15;

/// First bytes of a gzip member.
const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Highest possible ratio of deflate: 258 bytes for two bits.
const MOST_RATIO: u64 = 1032;

/// Inflates until `output` is full, all input is consumed, or the stream ends. Returns the bytes written, and if it
/// ended.
fn inflate(inflate: &mut Decompress, input: &mut &[u8], output: &mut [u8]) -> Result<(usize, bool), Damage> {
    let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
    let status = inflate.decompress(input, output, FlushDecompress::None).map_err(|error| match error.message() {
        Some(words) => words.to_owned(),
        None if error.needs_dictionary().is_some() => "the stream needs a dictionary".to_owned(),
        None => "the stream is damaged".to_owned(),
    })?;
    advance(input, (inflate.total_in() - before_in) as usize);
    Ok(((inflate.total_out() - before_out) as usize, status == Status::StreamEnd))
}

/// Position in a body of gzip members.
enum Place {
    Member,
    /// After a member; `magic` is true after the first byte of [`MAGIC`].
    Behind {
        magic: bool,
    },
    /// After the last member, where some senders leave a line end or zeros. urllib3 and the browsers ignore such bytes;
    /// the members before them are complete and verified.
    Rest,
}

/// Decoder of any number of consecutive gzip members (RFC 1952 section 2.2).
pub(super) struct Gzip {
    inflate: Decompress,
    place: Place,
}

impl Default for Gzip {
    fn default() -> Self {
        Gzip { inflate: Decompress::new_gzip(WINDOW_BITS), place: Place::Member }
    }
}

impl StreamDecoder for Gzip {
    fn fill(&mut self, input: &mut &[u8], output: &mut [u8]) -> Result<usize, Damage> {
        let mut made = 0;
        loop {
            match self.place {
                Place::Member => {
                    let (more, is_end) = inflate(&mut self.inflate, input, output.get_mut(made..).unwrap_or_default())?;
                    made += more;
                    if is_end {
                        self.place = Place::Behind { magic: false };
                    } else if input.is_empty() || made == output.len() {
                        return Ok(made);
                    }
                }
                Place::Behind { magic } => {
                    let Some(&byte) = input.first() else { return Ok(made) };
                    self.place = match (magic, byte == MAGIC[usize::from(magic)]) {
                        (_, false) => Place::Rest,
                        (false, true) => Place::Behind { magic: true },
                        (true, true) => {
                            self.inflate.reset(true);
                            inflate(&mut self.inflate, &mut MAGIC.as_slice(), &mut [])?;
                            Place::Member
                        }
                    };
                    advance(input, 1);
                }
                Place::Rest => {
                    *input = &[];
                    return Ok(made);
                }
            }
        }
    }

    fn is_whole(&self) -> bool {
        !matches!(self.place, Place::Member)
    }
}

/// Decoder of one zlib stream or one bare deflate stream. Bytes after it are ignored, as after a gzip member.
#[derive(Default)]
pub(super) struct Deflate {
    inflate: Option<Decompress>,
    at_end: bool,
}

impl StreamDecoder for Deflate {
    fn fill(&mut self, input: &mut &[u8], output: &mut [u8]) -> Result<usize, Damage> {
        let mut made = 0;
        while !self.at_end {
            let stream = match &mut self.inflate {
                Some(stream) => stream,
                none => {
                    let Some(&first) = input.first() else { return Ok(made) };
                    // A zlib stream begins with its method, which is 8. A bare stream begins with the same four bits
                    // only if its first block is stored and the padding before its length is not zero: no encoder does
                    // that.
                    none.insert(Decompress::new(first & 0x0f == 8))
                }
            };
            let (more, is_end) = inflate(stream, input, output.get_mut(made..).unwrap_or_default())?;
            made += more;
            self.at_end = is_end;
            if !is_end && (input.is_empty() || made == output.len()) {
                return Ok(made);
            }
        }
        *input = &[];
        Ok(made)
    }

    fn is_whole(&self) -> bool {
        self.at_end
    }
}

/// Returns the length that the last member states in its last four bytes, modulo 2^32; 0 if it is impossible.
pub(super) fn stated_length(whole: &[u8]) -> u64 {
    let Some(&last) = whole.last_chunk::<4>() else { return 0 };
    match u64::from(u32::from_le_bytes(last)) {
        length if length <= (whole.len() as u64).saturating_mul(MOST_RATIO) => length,
        _ => 0,
    }
}
