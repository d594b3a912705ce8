//! Interface of the decoders of single content codings.

/// Description of a fault in the input of a stage.
pub(super) type Damage = String;

/// Decoder of one coding.
pub(super) trait StreamDecoder: Send {
    /// Fills `output`, advances `input`, and returns the number of bytes written. `output` is full unless all input was
    /// consumed.
    fn fill(&mut self, input: &mut &[u8], output: &mut [u8]) -> Result<usize, Damage>;

    /// Returns true if the stream may end here.
    fn is_whole(&self) -> bool;
}

/// Advances `input` by the bytes that were consumed.
pub(super) fn advance(input: &mut &[u8], used: usize) {
    *input = input.get(used..).unwrap_or_default();
}
