//! Decoder of br: RFC 7932.

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};

use super::stream::{Damage, StreamDecoder, advance};

type State = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

/// Decoder of one brotli stream. Bytes after its end are an error, as in curl and in Google's decoder.
pub(super) struct Brotli {
    state: State,
    /// True if output waits for room.
    has_more: bool,
    at_end: bool,
}

impl Default for Brotli {
    fn default() -> Self {
        // Strict: no windows larger than the 16 MiB of the RFC.
        let [bytes, words, codes] = [StandardAlloc::default(), StandardAlloc::default(), StandardAlloc::default()];
        Brotli { state: BrotliState::new_strict(bytes, words, codes), has_more: false, at_end: false }
    }
}

impl StreamDecoder for Brotli {
    fn fill(&mut self, input: &mut &[u8], output: &mut [u8]) -> Result<usize, Damage> {
        let mut made = 0;
        while made < output.len() && !self.at_end && (self.has_more || !input.is_empty()) {
            let (mut available, mut used, mut room) = (input.len(), 0, output.len() - made);
            let result = BrotliDecompressStream(
                &mut available,
                &mut used,
                input,
                &mut room,
                &mut made,
                output,
                &mut 0,
                &mut self.state,
            );
            advance(input, used);
            self.has_more = matches!(result, BrotliResult::NeedsMoreOutput);
            self.at_end = matches!(result, BrotliResult::ResultSuccess);
            if matches!(result, BrotliResult::ResultFailure) {
                return Err(format!("the stream is damaged ({:?})", self.state.error_code));
            }
        }
        if self.at_end && !input.is_empty() {
            return Err("there are bytes behind the end of the stream".to_owned());
        }
        Ok(made)
    }

    fn is_whole(&self) -> bool {
        self.at_end
    }
}
