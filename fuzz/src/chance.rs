//! A deterministic random generator, and mutations of inputs.

/// Byte sequences with a meaning to the parsers, for insertion at random positions.
const SPECIAL: [&[u8]; 29] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"%",
    b"/",
    b"//",
    b"..",
    b"?",
    b"#",
    b"@",
    b"[",
    b"]",
    b"0",
    b"f",
    b"\0",
    b"\xff",
    b"\x7f",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.2 200 OK\r\n",
    b"Content-Length: 3\r\n",
    b"close",
    b"Transfer-Encoding: chunked\r\n",
    b"100",
];

/// Random generator (SplitMix64).
pub struct Chance(u64);

impl Chance {
    /// Returns a generator for a seed.
    pub fn new(seed: u64) -> Self {
        Chance(seed)
    }

    /// Returns a generator seeded with the hash of a text (FNV-1a).
    pub fn of(data: &[u8]) -> Self {
        let start = 0xcbf2_9ce4_8422_2325;
        Chance(data.iter().fold(start, |sum: u64, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)))
    }

    /// Returns the next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number from 0 to `end - 1`, or 0 if `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.number() % end.max(1) as u64) as usize
    }

    /// Applies one to four changes: replaces a byte, or removes, duplicates or inserts a piece, from `other` or
    /// [`SPECIAL`].
    pub fn mutate(&mut self, data: &[u8], other: &[u8]) -> Vec<u8> {
        let mut mutated = data.to_vec();
        for _ in 0..1 + self.below(4) {
            let at = self.below(mutated.len() + 1);
            let end = (at + 1 + self.below(16)).min(mutated.len());
            match self.below(6) {
                0 if at < mutated.len() => mutated[at] = self.number() as u8,
                1 if at < mutated.len() => mutated[at] ^= 1 << self.below(8),
                2 => drop(mutated.drain(at..end)),
                3 => {
                    let piece = mutated[at..end].to_vec();
                    mutated.splice(at..at, piece);
                }
                4 => {
                    let start = self.below(other.len());
                    let length = self.below(24);
                    mutated.splice(at..at, other.iter().copied().skip(start).take(length));
                }
                _ => {
                    let piece = SPECIAL[self.below(SPECIAL.len())];
                    mutated.splice(at..at, piece.iter().copied());
                }
            }
        }
        mutated
    }
}
