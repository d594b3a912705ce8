//! Limits of a response: one that exceeds them is refused.

use crate::error::ResponseError;

/// Bounds on the memory that the head and the framing of one response may take. The reader of a body limits its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one head, from the status line to the blank line. curl allows 300 KiB, Go 1 MiB, Node 16 KiB.
    pub head_bytes: usize,
    /// Header lines in one head, and in one trailer section. http.client and hyper allow 100.
    pub header_count: usize,
    /// Bytes of one chunk-size line, extensions included. Go allows 4 KiB.
    pub chunk_line_bytes: usize,
    /// Bytes of the trailer section of one chunked body.
    pub trailer_bytes: usize,
    /// Interim (1xx) responses before the final one. Some servers send a 102 every few seconds while they work.
    pub interim_responses: usize,
    /// Total bytes of the heads of interim responses.
    pub interim_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            head_bytes: 128 * 1024,
            header_count: 256,
            chunk_line_bytes: 4 * 1024,
            trailer_bytes: 16 * 1024,
            interim_responses: 1000,
            interim_bytes: 1024 * 1024,
        }
    }
}

/// Counter of the interim responses to one request.
#[derive(Clone, Copy, Debug, Default)]
pub struct InterimCount {
    responses: usize,
    bytes: usize,
}

impl InterimCount {
    /// Adds one response whose head has this many bytes.
    ///
    /// # Errors
    /// [`ResponseError::TooManyInterim`] or [`ResponseError::InterimTooLarge`] if it exceeds the limits.
    pub fn add(&mut self, bytes: usize, limits: &Limits) -> Result<(), ResponseError> {
        self.responses = self.responses.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.responses > limits.interim_responses {
            return Err(ResponseError::TooManyInterim(limits.interim_responses));
        }
        if self.bytes > limits.interim_bytes {
            return Err(ResponseError::InterimTooLarge(limits.interim_bytes));
        }
        Ok(())
    }

    /// Returns true if no interim response has arrived.
    pub fn is_empty(&self) -> bool {
        self.responses == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_interim_count_beyond_number_or_bytes_is_refused() {
        let limits = Limits { interim_responses: 3, interim_bytes: 100, ..Limits::default() };
        let mut few = InterimCount::default();
        assert!(few.is_empty());
        for _ in 0..3 {
            assert_eq!(few.add(10, &limits), Ok(()));
        }
        assert!(!few.is_empty());
        assert_eq!(few.add(10, &limits), Err(ResponseError::TooManyInterim(3)));
        let mut large = InterimCount::default();
        assert_eq!(large.add(100, &limits), Ok(()));
        assert_eq!(large.add(1, &limits), Err(ResponseError::InterimTooLarge(100)));
        assert_eq!(large.add(usize::MAX, &limits), Err(ResponseError::InterimTooLarge(100)));
    }

    #[test]
    fn test_interim_count_limit_of_bytes_is_exact() {
        let limits = Limits { interim_bytes: 100, ..Limits::default() };
        let mut count = InterimCount::default();
        assert_eq!((count.add(60, &limits), count.add(40, &limits)), (Ok(()), Ok(())));
        assert_eq!(count.add(1, &limits), Err(ResponseError::InterimTooLarge(100)));
    }
}
