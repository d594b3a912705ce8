//! Decoder of zstd: RFC 8878, with the window that RFC 9659 allows in HTTP.

use std::cell::Cell;

use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, get_error_name, get_frame_content_size};

use super::stream::{Damage, StreamDecoder, advance};

/// Largest window, 8 MiB, as a power of two: RFC 9659 section 3. It bounds the memory of a stream.
const WINDOW_LOG: u32 = 23;

/// Largest context that is kept for the next stream of the thread, in bytes. A context that decoded whole bodies takes
/// about 100 KiB; one that decoded pieces holds a window as well.
const KEPT: usize = 256 * 1024;

thread_local! {
    /// Spare context. The library queries the features of the CPU whenever it creates a context. A virtual machine
    /// passes the query to its host, which takes 7 us; decoding a body of 600 bytes takes 1 to 2 us.
    static SPARE: Cell<Option<DCtx<'static>>> = const { Cell::new(None) };
}

/// Decoder of any number of consecutive zstd frames. Other bytes after a frame are an error, as in curl.
pub(super) struct Zstd {
    /// `None` only while the decoder is dropped.
    context: Option<DCtx<'static>>,
    /// True within a frame.
    in_frame: bool,
    /// True if output may wait for room. The library treats calls without progress as an endless loop.
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

impl StreamDecoder for Zstd {
    fn fill(&mut self, input: &mut &[u8], output: &mut [u8]) -> Result<usize, Damage> {
        let Some(context) = &mut self.context else { return Err("the decoder is gone".to_owned()) };
        let mut made = 0;
        while made < output.len() && (self.has_more || !input.is_empty()) {
            let mut source = InBuffer::around(input);
            let mut sink = OutBuffer::around_pos(&mut *output, made);
            // 0 if a frame has ended and all of it is written, otherwise an estimate of the missing bytes.
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
            // While the thread ends, its spare context no longer exists.
            let _ = SPARE.try_with(|spare| spare.set(Some(context)));
        }
    }
}

/// Returns the length that the first frame states, 0 if it states none.
pub(super) fn stated_length(whole: &[u8]) -> u64 {
    get_frame_content_size(whole).ok().flatten().unwrap_or(0)
}
