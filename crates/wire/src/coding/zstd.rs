//! zstd: RFC 8878, with the window that RFC 9659 allows for it in HTTP.

use std::cell::Cell;

use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, get_error_name, get_frame_content_size};

use super::{Damage, Undo, advance};

/// The largest window, 8 MiB, as a power of two: RFC 9659 section 3. It is what a stream may make us hold.
const WINDOW_LOG: u32 = 23;

/// A context is kept for the thread's next stream, unless it has come to more bytes than this: one that was handed whole
/// bodies takes about 100 KiB, one that was fed holds a window as well.
const KEPT: usize = 256 * 1024;

thread_local! {
    /// The library asks the CPU for its features whenever it makes a context. Virtual machines leave that to their host:
    /// 7 us, where a body of 600 bytes takes 1 to 2 otherwise.
    static SPARE: Cell<Option<DCtx<'static>>> = const { Cell::new(None) };
}

/// Any number of zstd frames, one behind the other. Whatever else stands behind a frame is an error, as for curl.
pub(super) struct Zstd {
    /// None only while it is dropped.
    context: Option<DCtx<'static>>,
    /// Within a frame.
    in_frame: bool,
    /// Output may wait for room. The library must not be asked in vain: it takes that for an endless loop.
    has_more: bool,
}

impl Zstd {
    pub(super) fn new() -> Result<Self, Damage> {
        let context = match SPARE.take() {
            Some(context) => context,
            None => {
                let mut context = DCtx::try_create().ok_or("no memory for a decoder")?;
                context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG)).map_err(get_error_name)?;
                context
            }
        };
        Ok(Zstd { context: Some(context), in_frame: false, has_more: false })
    }
}

impl Undo for Zstd {
    fn fill(&mut self, input: &mut &[u8], output: &mut [u8]) -> Result<usize, Damage> {
        let Some(context) = &mut self.context else { return Err("the decoder is gone".to_owned()) };
        let mut made = 0;
        while made < output.len() && (self.has_more || !input.is_empty()) {
            let mut source = InBuffer::around(input);
            let mut sink = OutBuffer::around_pos(&mut *output, made);
            // 0 where a frame has ended and all of it is out, else a guess at what is missing.
            let missing = context.decompress_stream(&mut sink, &mut source).map_err(get_error_name)?;
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

impl Drop for Zstd {
    fn drop(&mut self) {
        let Some(mut context) = self.context.take() else { return };
        if context.sizeof() <= KEPT && context.reset(ResetDirective::SessionOnly).is_ok() {
            // At the thread's end there is nothing to keep it in.
            let _ = SPARE.try_with(|spare| spare.set(Some(context)));
        }
    }
}

/// What the first frame says of its length, if it does.
pub(super) fn stated_length(whole: &[u8]) -> u64 {
    get_frame_content_size(whole).ok().flatten().unwrap_or(0)
}
