//! What must hold of any bytes at all, one file for each kind of bytes.
//!
//! A target is a plain function of bytes that panics when its invariant, the first line of its file, is broken. cargo-fuzz
//! runs it on bytes that libFuzzer comes up with (`make fuzz`), and the tests of this crate on the corpus and on mutations
//! of it, with the same numbers drawn each time.
//!
//! What a target compares with is written the slow and obvious way in the same file, from the words of the RFC.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a finding is a panic")]

pub mod chance;
pub mod chunked;
pub mod coding;
pub mod escape;
pub mod exchange;
pub mod framing;
pub mod head;
pub mod seeds;
pub mod url;

/// One kind of bytes.
pub type Target = fn(&[u8]);

/// All of them, by the names that their corpora have.
pub const TARGETS: [(&str, Target); 7] = [
    ("chunked", chunked::run),
    ("coding", coding::run),
    ("escape", escape::run),
    ("exchange", exchange::run),
    ("framing", framing::run),
    ("head", head::run),
    ("url", url::run),
];

/// The same bytes whole, byte by byte, and in pieces of sizes that depend on the bytes alone.
fn divisions(data: &[u8]) -> [Vec<&[u8]>; 3] {
    let mut chance = chance::Chance::of(data);
    let largest = 1 + chance.below(40);
    let (mut pieces, mut rest) = (Vec::new(), data);
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at((1 + chance.below(largest)).min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    [vec![data], data.chunks(1).collect(), pieces]
}

/// The first byte, which says how the others are to be taken.
fn mode(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(&mode, rest)| (mode, rest))
}
