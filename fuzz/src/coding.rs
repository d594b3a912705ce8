//! An encoded body decodes the same in any pieces and into buffers of any size, and never to more than its limit.

use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use wire::CodingError;
use wire::coding::Decoder;

use crate::{divisions, mode};

/// Values of Content-Encoding.
const NAMES: [&str; 8] = ["gzip", "deflate", "br", "zstd", "gzip, gzip", "zstd, br", "deflate, gzip", "x-gzip,br,zstd"];

/// Limits of decoded bytes.
const LIMITS: [u64; 2] = [100, 1 << 20];

/// Panics if the invariant does not hold.
pub fn run(data: &[u8]) {
    let (mode, data) = mode(data);
    let name = NAMES[usize::from(mode & 7)];
    let limit = LIMITS[usize::from(mode >> 3 & 1)];
    let whole = streamed(name, &[data], limit);
    for pieces in divisions(data) {
        check_same(&whole, &streamed(name, &pieces, limit));
    }
    for room in [1, 333] {
        check_same(&whole, &filled(name, data, room, limit));
    }
    if mode & 16 != 0 {
        for (name, coded) in [("gzip", gzip(data)), ("deflate", zlib(data))] {
            let decoded = streamed(name, &[&coded], u64::MAX);
            assert_eq!(decoded.as_ref().ok().map(Vec::as_slice), Some(data), "{decoded:?}");
        }
    }
}

type Decoded = Result<Vec<u8>, CodingError>;

fn check_same(one: &Decoded, other: &Decoded) {
    match (one, other) {
        (Ok(one), Ok(other)) => assert!(one == other, "{} and {} bytes", one.len(), other.len()),
        // A body that is damaged and too large gives either error, depending on the pieces.
        (Err(_), Err(_)) => {}
        _ => panic!("{:?} and {:?}", one.as_ref().map(Vec::len), other.as_ref().map(Vec::len)),
    }
}

fn streamed(name: &str, pieces: &[&[u8]], limit: u64) -> Decoded {
    let mut decoder = Decoder::new(name, Some(limit))?;
    let mut output = Vec::new();
    for piece in pieces {
        let fed = decoder.feed(piece, &mut output);
        assert!(output.len() as u64 <= limit, "{} bytes, more than {limit}", output.len());
        if let Err(error) = fed {
            assert_eq!(decoder.feed(b"x", &mut output), Err(error.clone()), "an error is not forgotten");
            assert_eq!(decoder.finish(), Err(error.clone()), "an error is not forgotten");
            return Err(error);
        }
    }
    decoder.finish()?;
    Ok(output)
}

fn filled(name: &str, mut input: &[u8], room: usize, limit: u64) -> Decoded {
    let mut decoder = Decoder::new(name, Some(limit))?;
    let (mut output, mut room) = (Vec::new(), vec![0; room]);
    loop {
        let before = input.len();
        let made = decoder.fill(&mut input, &mut room)?;
        output.extend_from_slice(&room[..made]);
        assert!(output.len() as u64 <= limit, "{} bytes, more than {limit}", output.len());
        if made < room.len() {
            assert!(input.is_empty(), "{} of {before} bytes left, although the buffer has room", input.len());
            decoder.finish()?;
            return Ok(output);
        }
    }
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).expect("memory");
    encoder.finish().expect("memory")
}

fn zlib(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).expect("memory");
    encoder.finish().expect("memory")
}
