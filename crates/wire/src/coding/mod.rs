//! Decodes content codings: RFC 9110 section 8.4.
//!
//! `Content-Encoding: gzip, br` means that the sender applied gzip and then br. A [`Decoder`] undoes them from the last
//! to the first, in pieces of any size. Each coding is a stage with a file of its own, and the output of one stage is
//! the input of the next. Memory holds only the windows of the codings, and a buffer of [`BETWEEN`] bytes between two
//! stages.
//!
//! A few bytes can decode to very many (a decompression bomb). No stage may produce more than [`ALWAYS_ALLOWED`] bytes,
//! or [`MOST_EXPANSION`] times the encoded bytes consumed so far if that is more; a limit in bytes can replace both.
//! The limit is checked for each piece of output, so a bomb is detected while it is small.

mod brotli;
mod error;
mod flate;
mod name;
mod stream;
mod zstd;

pub use error::CodingError;
pub use name::{Coding, MOST_CODINGS};
use stream::{Damage, StreamDecoder};

/// Decoded bytes that any body may have, whatever its encoded size.
pub const ALWAYS_ALLOWED: u64 = 64 << 20;

/// Ratio of decoded to encoded size that is allowed beyond [`ALWAYS_ALLOWED`]. Repetitive text reaches 10 to 50,
/// deflate 1,032 at most, br and zstd have no bound.
pub const MOST_EXPANSION: u64 = 200;

/// Size of the buffer between two stages.
pub const BETWEEN: usize = 16 * 1024;

/// Smallest and largest piece in which [`Decoder::feed_at_most`] grows its output.
const PIECES: (usize, usize) = (4 * 1024, 128 * 1024);

/// Returns a decoder for one coding.
fn stream_decoder(coding: Coding) -> Result<Box<dyn StreamDecoder>, Damage> {
    Ok(match coding {
        Coding::Gzip => Box::new(flate::Gzip::default()),
        Coding::Deflate => Box::new(flate::Deflate::default()),
        Coding::Brotli => Box::new(brotli::Brotli::default()),
        Coding::Zstd => Box::new(zstd::Zstd::new()?),
    })
}

/// One coding of the body, and the input that waits for it.
struct Stage {
    coding: Coding,
    /// `None` before the first byte: an empty body is valid, as in responses to HEAD, and in 204 and 304.
    decoder: Option<Box<dyn StreamDecoder>>,
    /// Bytes produced so far.
    made: u64,
    /// Output of the stage before, from `start` to `end`.
    waiting: Vec<u8>,
    start: usize,
    end: usize,
}

impl Stage {
    fn new(coding: Coding) -> Self {
        Stage { coding, decoder: None, made: 0, waiting: Vec::new(), start: 0, end: 0 }
    }

    fn fill(&mut self, input: &mut &[u8], output: &mut [u8]) -> Result<usize, CodingError> {
        if self.decoder.is_none() && input.is_empty() {
            return Ok(0);
        }
        let coding = self.coding;
        let damaged = |words| CodingError::Damaged { coding, words };
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            none => none.insert(stream_decoder(coding).map_err(damaged)?),
        };
        let made = decoder.fill(input, output).map_err(damaged)?;
        self.made += made as u64;
        Ok(made)
    }
}

/// Number of bytes consumed, and the limit for bytes produced.
struct Budget {
    encoded: u64,
    limit: Option<u64>,
}

impl Budget {
    fn check(&self, stage: &Stage, is_last: bool) -> Result<(), CodingError> {
        let usual = ALWAYS_ALLOWED.max(self.encoded.saturating_mul(MOST_EXPANSION));
        // The limit is for the final output. The output of an inner stage may be slightly larger.
        let allowed = match self.limit {
            Some(limit) if is_last => limit,
            Some(limit) => usual.max(limit),
            None => usual,
        };
        if stage.made > allowed {
            return Err(CodingError::TooLarge { coding: stage.coding, allowed });
        }
        Ok(())
    }
}

/// Decodes the content codings of a body that arrives in pieces of any size.
pub struct Decoder {
    /// Stages in the order in which they decode.
    stages: Vec<Stage>,
    unknown: Option<String>,
    budget: Budget,
    failed: Option<CodingError>,
}

impl Decoder {
    /// Returns a decoder for a value of Content-Encoding, with several lines joined by commas. `limit` is the maximum
    /// number of decoded bytes, and replaces the default bounds.
    ///
    /// If one of the codings is [`unknown`](Self::unknown), none is decoded.
    ///
    /// # Errors
    /// [`CodingError::TooMany`] for more than [`MOST_CODINGS`].
    pub fn new(content_encoding: &str, limit: Option<u64>) -> Result<Self, CodingError> {
        let (mut stages, mut unknown) = (Vec::new(), None);
        let names = content_encoding.split(',').map(|name| name.trim_matches([' ', '\t']));
        for name in names.rev().filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity")) {
            match Coding::named(name) {
                Some(coding) => stages.push(Stage::new(coding)),
                None => unknown = unknown.or(Some(name.to_owned())),
            }
        }
        if unknown.is_some() {
            stages.clear();
        }
        if stages.len() > MOST_CODINGS {
            return Err(CodingError::TooMany(stages.len()));
        }
        Ok(Decoder { stages, unknown, budget: Budget { encoded: 0, limit }, failed: None })
    }

    /// Returns the unknown coding, as spelled in the header; the last one if there are several. The bytes then pass
    /// unchanged.
    pub fn unknown(&self) -> Option<&str> {
        self.unknown.as_deref()
    }

    /// Returns true if bytes pass unchanged: no coding, or an unknown one. No limit applies to them.
    pub fn is_identity(&self) -> bool {
        self.stages.is_empty()
    }

    /// Fills `output`, advances `input`, and returns the number of bytes written. If `output` is not full, all input
    /// was consumed and all of its output written.
    ///
    /// # Errors
    /// [`CodingError::Damaged`] and [`CodingError::TooLarge`], and the same error again in each later call.
    pub fn fill(&mut self, input: &mut &[u8], output: &mut [u8]) -> Result<usize, CodingError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let filled = fill(&mut self.stages, input, output, &mut self.budget, true);
        if let Err(error) = &filled {
            self.failed = Some(error.clone());
        }
        filled
    }

    /// Appends the decoded form of `input` to `output`.
    ///
    /// # Errors
    /// Those of [`Self::feed_at_most`].
    pub fn feed(&mut self, mut input: &[u8], output: &mut Vec<u8>) -> Result<(), CodingError> {
        self.feed_at_most(&mut input, output, usize::MAX)
    }

    /// Appends at most `most` decoded bytes to `output`, and advances `input`. If fewer were appended, all input was
    /// consumed.
    ///
    /// # Errors
    /// Those of [`Self::fill`], and [`CodingError::OutOfMemory`].
    pub fn feed_at_most(&mut self, input: &mut &[u8], output: &mut Vec<u8>, most: usize) -> Result<(), CodingError> {
        let (least, largest) = PIECES;
        let mut piece = input.len().saturating_mul(4).clamp(least, largest);
        let end = output.len().saturating_add(most);
        while output.len() < end {
            let start = output.len();
            let length = piece.min(end - start);
            output.try_reserve(length).map_err(|_| CodingError::OutOfMemory)?;
            output.resize(start + length, 0);
            let filled = self.fill(input, output.get_mut(start..).unwrap_or_default());
            output.truncate(start + filled.as_ref().map_or(0, |&made| made));
            if filled? < length {
                break;
            }
            piece = (piece * 2).min(largest);
        }
        Ok(())
    }

    /// Checks that the body may end here; an empty body may.
    ///
    /// # Errors
    /// [`CodingError::CutShort`] if the stream of a coding is incomplete, or the error of an earlier call.
    pub fn finish(&mut self) -> Result<(), CodingError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let is_cut = |stage: &&Stage| stage.decoder.as_ref().is_some_and(|decoder| !decoder.is_whole());
        match self.stages.iter().find(is_cut) {
            Some(stage) => {
                let error = CodingError::CutShort(stage.coding);
                self.failed = Some(error.clone());
                Err(error)
            }
            None => Ok(()),
        }
    }

    /// Returns the decoded length that a whole body states, 0 if it states none. Use it only to size a buffer: the
    /// sender wrote it, and for the last gzip member or the first zstd frame alone.
    pub fn expected_length(&self, whole: &[u8]) -> usize {
        let stated = match self.stages.as_slice() {
            [Stage { coding: Coding::Gzip, .. }] => flate::stated_length(whole),
            [Stage { coding: Coding::Zstd, .. }] => zstd::stated_length(whole),
            _ => 0,
        };
        usize::try_from(stated.min(self.budget.limit.unwrap_or(ALWAYS_ALLOWED)).min(ALWAYS_ALLOWED)).unwrap_or(0)
    }
}

/// Fills `output` from the last stage, and runs the stages before it as needed.
fn fill(
    stages: &mut [Stage],
    input: &mut &[u8],
    output: &mut [u8],
    budget: &mut Budget,
    is_last: bool,
) -> Result<usize, CodingError> {
    let Some((stage, before)) = stages.split_last_mut() else {
        let length = input.len().min(output.len());
        let (taken, rest) = input.split_at(length);
        output[..length].copy_from_slice(taken);
        *input = rest;
        return Ok(length);
    };
    if before.is_empty() {
        let length = input.len();
        let made = stage.fill(input, output)?;
        budget.encoded += (length - input.len()) as u64;
        budget.check(stage, is_last)?;
        return Ok(made);
    }
    let mut made = 0;
    loop {
        let mut room = std::mem::take(&mut stage.waiting);
        let mut waiting = room.get(stage.start..stage.end).unwrap_or_default();
        let filled = stage.fill(&mut waiting, &mut output[made..]);
        stage.start = stage.end - waiting.len();
        made += filled?;
        budget.check(stage, is_last)?;
        if made == output.len() {
            stage.waiting = room;
            return Ok(made);
        }
        room.resize(BETWEEN, 0);
        stage.end = fill(before, input, &mut room, budget, false)?;
        stage.start = 0;
        stage.waiting = room;
        if stage.end == 0 {
            return Ok(made);
        }
    }
}
