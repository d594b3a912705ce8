//! zstd: RFC 8878, with the window that RFC 9659 allows for it in HTTP.

use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name, get_frame_content_size};

use super::{Damage, Undo, advance};

/// The largest window, 8 MiB, as a power of two: RFC 9659 section 3. It is what a stream may make us hold.
const WINDOW_LOG: u32 = 23;

/// Any number of zstd frames, one behind the other. Whatever else stands behind a frame is an error, as for curl.
pub(super) struct Zstd {
    context: DCtx<'static>,
    /// Within a frame.
    in_frame: bool,
    /// Output may wait for room. The library must not be asked in vain: it takes that for an endless loop.
    has_more: bool,
}

impl Zstd {
    pub(super) fn new() -> Result<Self, Damage> {
        let mut context = DCtx::try_create().ok_or("no memory for a decoder")?;
        context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG)).map_err(get_error_name)?;
        Ok(Zstd { context, in_frame: false, has_more: false })
    }
}

impl Undo for Zstd {
    fn fill(&mut self, input: &mut &[u8], output: &mut [u8]) -> Result<usize, Damage> {
        let mut made = 0;
        while made < output.len() && (self.has_more || !input.is_empty()) {
            let mut source = InBuffer::around(input);
            let mut sink = OutBuffer::around_pos(&mut *output, made);
            // 0 where a frame has ended and all of it is out, else a guess at what is missing.
            let missing = self.context.decompress_stream(&mut sink, &mut source).map_err(get_error_name)?;
            made = sink.pos();
            advance(input, source.pos());
            self.in_frame = missing != 0;
            self.has_more = self.in_frame && made == output.len();
        }
        Ok(made)
    }

    fn is_whole(&self) -> bool {
        !self.in_frame
    }
}

/// What the first frame says of its length, if it does.
pub(super) fn stated_length(whole: &[u8]) -> u64 {
    get_frame_content_size(whole).ok().flatten().unwrap_or(0)
}
