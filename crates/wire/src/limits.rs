//! What a response may ask of us before it is refused.

/// Bounds on what one response may make us hold. Bodies are not bounded here: whoever reads one decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one head, from the status line to the blank line. curl stops at 300 KiB, Go at 1 MiB, Node at 16 KiB.
    pub head_bytes: usize,
    /// Header lines in one head, and in one trailer section. http.client and hyper stop at 100.
    pub header_count: usize,
    /// Bytes of one chunk-size line, extensions included. Go stops at 4 KiB.
    pub chunk_line_bytes: usize,
    /// Bytes of the trailer section of one chunked body.
    pub trailer_bytes: usize,
    /// Interim (1xx) responses before the final one.
    pub interim_responses: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            head_bytes: 128 * 1024,
            header_count: 256,
            chunk_line_bytes: 4 * 1024,
            trailer_bytes: 16 * 1024,
            interim_responses: 32,
        }
    }
}
