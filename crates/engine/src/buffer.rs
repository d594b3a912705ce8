//! Growing a buffer by what a peer sends: fails, instead of aborting the process, if there is no memory for it.

use std::io;
use std::mem;

use bytes::{Bytes, BytesMut};

/// Up to this size a buffer grows as usual: it is no larger than what is allocated for each connection anyway.
const SMALL: usize = 64 * 1024;

/// Appends `more` to `buffer`. Fails with [`io::ErrorKind::OutOfMemory`] if the allocator refuses; `buffer` is
/// unchanged then.
///
/// `BytesMut` itself aborts the process in that case, so that it is taken apart and grown as a `Vec`: for large buffers
/// the allocator then moves pages instead of copying them.
pub fn try_extend(buffer: &mut BytesMut, more: &[u8]) -> io::Result<()> {
    let is_large = buffer.len().saturating_add(more.len()) > SMALL;
    if is_large && buffer.capacity() - buffer.len() < more.len() && !buffer.try_reclaim(more.len()) {
        let mut grown = Vec::from(mem::take(buffer));
        // With room for what is still to come, if there is that much memory.
        let reserved = grown.try_reserve(more.len()).or_else(|_| grown.try_reserve_exact(more.len()));
        *buffer = BytesMut::from(Bytes::from(grown));
        reserved.map_err(|_| io::ErrorKind::OutOfMemory)?;
    }
    buffer.extend_from_slice(more);
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use bytes::Buf;

    use super::*;

    #[test]
    fn test_extend_in_pieces_of_any_size_keeps_every_byte() {
        let pieces: Vec<Vec<u8>> = (0..200_usize).map(|i| vec![i as u8; (i * 37) % 500]).collect();
        for taken in [0, 1, 300] {
            let (mut buffer, mut expected) = (BytesMut::new(), Vec::new());
            for piece in &pieces {
                try_extend(&mut buffer, piece).unwrap();
                expected.extend_from_slice(piece);
                let taken = taken.min(buffer.len());
                buffer.advance(taken);
                expected.drain(..taken);
                assert_eq!(buffer, expected);
            }
        }
    }

    #[test]
    fn test_extend_of_a_shared_buffer_leaves_the_other_part_alone() {
        let mut buffer = BytesMut::from(&b"headbody"[..]);
        let mut body = buffer.split_off(4);
        try_extend(&mut body, b"more").unwrap();
        try_extend(&mut buffer, b"er").unwrap();
        assert_eq!((&body[..], &buffer[..]), (&b"bodymore"[..], &b"header"[..]));
    }

    /// Amortised: a buffer that grows byte by byte is moved a logarithmic number of times.
    #[test]
    fn test_extend_byte_by_byte_moves_the_buffer_a_few_times() {
        let (mut buffer, mut moves, mut capacity) = (BytesMut::new(), 0, 0);
        for _ in 0..100_000 {
            try_extend(&mut buffer, b"x").unwrap();
            if buffer.capacity() != capacity {
                (moves, capacity) = (moves + 1, buffer.capacity());
            }
        }
        assert!(moves < 30, "{moves} moves");
    }
}
