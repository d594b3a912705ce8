//! Content codings, undone: RFC 9110 section 8.4.
//!
//! `Content-Encoding: gzip, br` says that the sender applied gzip and then br. A [`Decoder`] undoes them from the last to
//! the first, in pieces of any size: each coding is a stage in a file of its own, and what one stage makes is the next
//! one's input. Nothing is held but the windows of the codings and one [`BETWEEN`] for each but the first.
//!
//! A few bytes can be made to decode to a great many. No stage may make more than [`ALWAYS_ALLOWED`] bytes, or
//! [`MOST_EXPANSION`] times the encoded bytes that went in so far if that is more; a limit in bytes may take the place of
//! both. It is looked at for each piece of output, so that a bomb is noticed long before it has gone off.

mod brotli;
mod flate;
mod zstd;

use std::fmt;

use crate::CodingError;

/// Codings that one body may have. curl and urllib3 stop at 5 as well.
pub const MOST_CODINGS: usize = 5;

/// Decoded bytes that any body may come to, whatever its size was before.
pub const ALWAYS_ALLOWED: u64 = 64 << 20;

/// How many times its encoded size a body may come to beyond [`ALWAYS_ALLOWED`]. Text that repeats itself shrinks by 10
/// to 50, deflate can do 1,032 at most, br and zstd have no bound.
pub const MOST_EXPANSION: u64 = 200;

/// Bytes of the room between two stages.
pub const BETWEEN: usize = 16 * 1024;

/// [`Decoder::feed_at_most`] makes its output in pieces of at least and at most so many bytes.
const PIECES: (usize, usize) = (4 * 1024, 128 * 1024);

/// A content coding that can be undone here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952; also known as x-gzip.
    Gzip,
    /// RFC 1950, and what some servers mean by the name: RFC 1951 alone.
    Deflate,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    /// By its name in a header, in any case.
    fn named(name: &str) -> Option<Self> {
        const NAMES: [(&str, Coding); 5] = [
            ("gzip", Coding::Gzip),
            ("x-gzip", Coding::Gzip),
            ("deflate", Coding::Deflate),
            ("br", Coding::Brotli),
            ("zstd", Coding::Zstd),
        ];
        NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|&(_, coding)| coding)
    }

    /// Its registered name.
    pub fn as_str(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
        }
    }

    fn undo(self) -> Result<Box<dyn Undo>, Damage> {
        Ok(match self {
            Coding::Gzip => Box::new(flate::Gzip::default()),
            Coding::Deflate => Box::new(flate::Deflate::default()),
            Coding::Brotli => Box::new(brotli::Brotli::default()),
            Coding::Zstd => Box::new(zstd::Zstd::new()?),
        })
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is wrong with a stage's input.
type Damage = String;

/// One coding that is being undone.
trait Undo: Send {
    /// Fills `output` and moves `input` on. It is filled to its end, unless the input is used up before.
    fn fill(&mut self, input: &mut &[u8], output: &mut [u8]) -> Result<usize, Damage>;

    /// Whether what came so far may be all there is.
    fn is_whole(&self) -> bool;
}

struct Stage {
    coding: Coding,
    /// None before the first byte: a body without any is a good one, since answers to HEAD, 204 and 304 have such.
    undo: Option<Box<dyn Undo>>,
    made: u64,
    /// What the stage before has made, from `start` to `end`.
    waiting: Vec<u8>,
    start: usize,
    end: usize,
}

impl Stage {
    fn new(coding: Coding) -> Self {
        Stage { coding, undo: None, made: 0, waiting: Vec::new(), start: 0, end: 0 }
    }

    fn fill(&mut self, input: &mut &[u8], output: &mut [u8]) -> Result<usize, CodingError> {
        if self.undo.is_none() && input.is_empty() {
            return Ok(0);
        }
        let coding = self.coding;
        let damaged = |words| CodingError::Damaged { coding, words };
        let undo = match &mut self.undo {
            Some(undo) => undo,
            none => none.insert(coding.undo().map_err(damaged)?),
        };
        let made = undo.fill(input, output).map_err(damaged)?;
        self.made += made as u64;
        Ok(made)
    }
}

/// What went in, and what may come out for it.
struct Budget {
    encoded: u64,
    limit: Option<u64>,
}

impl Budget {
    fn check(&self, stage: &Stage, is_last: bool) -> Result<(), CodingError> {
        let usual = ALWAYS_ALLOWED.max(self.encoded.saturating_mul(MOST_EXPANSION));
        // What goes from stage to stage is not what the limit speaks of, and may be a little more than comes out.
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

/// Takes the content codings off a body that comes in pieces of any size.
pub struct Decoder {
    /// In the order in which they are undone.
    stages: Vec<Stage>,
    unknown: Option<String>,
    budget: Budget,
    failed: Option<CodingError>,
}

impl Decoder {
    /// From the value of Content-Encoding; several lines are one, joined by commas. `limit` is how many decoded bytes
    /// there may be at most, in place of the usual bounds.
    ///
    /// Where one of the codings is [`unknown`](Self::unknown) here, none is undone. More than [`MOST_CODINGS`] are an
    /// error.
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

    /// The coding that is not known here, as the header named it; the last one if there are several. The bytes then
    /// pass as they are.
    pub fn unknown(&self) -> Option<&str> {
        self.unknown.as_deref()
    }

    /// Whether bytes pass as they are: no coding, or an unknown one. No limit applies to them.
    pub fn is_identity(&self) -> bool {
        self.stages.is_empty()
    }

    /// Fills `output` and moves `input` on; how many bytes that made. Fewer than there is room for mean that the input
    /// is used up, and that nothing is left to come out for it.
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

    /// Appends all that `input` decodes to.
    pub fn feed(&mut self, mut input: &[u8], output: &mut Vec<u8>) -> Result<(), CodingError> {
        self.feed_at_most(&mut input, output, usize::MAX)
    }

    /// Appends at most `most` bytes of what `input` decodes to, and moves `input` on. Fewer mean that it is used up.
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

    /// The body is at its end. An error if a coding's stream is not; a body without a single byte is fine.
    pub fn finish(&mut self) -> Result<(), CodingError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let is_cut = |stage: &&Stage| stage.undo.as_ref().is_some_and(|undo| !undo.is_whole());
        match self.stages.iter().find(is_cut) {
            Some(stage) => {
                let error = CodingError::CutShort(stage.coding);
                self.failed = Some(error.clone());
                Err(error)
            }
            None => Ok(()),
        }
    }

    /// How many bytes a whole body says that it decodes to, 0 if it does not say. Not to be trusted further than for the
    /// size of a buffer: the sender says it, and of the last of several gzip members alone, or the first zstd frame.
    pub fn expected_length(&self, whole: &[u8]) -> usize {
        let stated = match self.stages.as_slice() {
            [Stage { coding: Coding::Gzip, .. }] => flate::stated_length(whole),
            [Stage { coding: Coding::Zstd, .. }] => zstd::stated_length(whole),
            _ => 0,
        };
        usize::try_from(stated.min(self.budget.limit.unwrap_or(ALWAYS_ALLOWED)).min(ALWAYS_ALLOWED)).unwrap_or(0)
    }
}

/// Has the last stage fill `output`, and those before it make what that takes.
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

/// Moves `input` on, behind what was used of it.
fn advance(input: &mut &[u8], used: usize) {
    *input = input.get(used..).unwrap_or_default();
}
