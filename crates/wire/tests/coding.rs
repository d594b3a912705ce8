//! Decodes the output of encoders: in pieces of every size, truncated, damaged, and as decompression bombs.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use support::Chance;
use wire::CodingError;
use wire::coding::{ALWAYS_ALLOWED, Coding, Decoder, MOST_CODINGS, MOST_EXPANSION};

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).expect("memory");
    encoder.finish().expect("memory")
}

fn zlib(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).expect("memory");
    encoder.finish().expect("memory")
}

fn bare_deflate(data: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).expect("memory");
    encoder.finish().expect("memory")
}

fn br(data: &[u8]) -> Vec<u8> {
    let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
    encoder.write_all(data).expect("memory");
    encoder.into_inner()
}

/// Returns a frame with its length in the header, and a checksum at the end.
fn zstd(data: &[u8]) -> Vec<u8> {
    let mut encoder = zstd_safe::CCtx::create();
    encoder.set_parameter(zstd_safe::CParameter::ChecksumFlag(true)).expect("known");
    let mut room = vec![0; zstd_safe::compress_bound(data.len())];
    let length = encoder.compress2(room.as_mut_slice(), data).expect("enough room");
    room.truncate(length);
    room
}

/// Returns text that compresses well, but not into one block.
fn text(lines: usize) -> Vec<u8> {
    (0..lines).flat_map(|i| format!("{{\"id\": {i}, \"name\": \"user {}\"}}\n", i * 7919 % 1000).into_bytes()).collect()
}

fn decode_within(coding: &str, pieces: &[&[u8]], limit: Option<u64>) -> Result<Vec<u8>, CodingError> {
    let mut decoder = Decoder::new(coding, limit)?;
    let mut output = Vec::new();
    for piece in pieces {
        decoder.feed(piece, &mut output)?;
    }
    decoder.finish()?;
    Ok(output)
}

fn decode(coding: &str, pieces: &[&[u8]]) -> Result<Vec<u8>, CodingError> {
    decode_within(coding, pieces, None)
}

/// Decodes into buffers of `room` bytes.
fn decode_through(coding: &str, mut input: &[u8], room: usize) -> Result<Vec<u8>, CodingError> {
    let mut decoder = Decoder::new(coding, None)?;
    let (mut output, mut room) = (Vec::new(), vec![0; room]);
    loop {
        let made = decoder.fill(&mut input, &mut room)?;
        output.extend_from_slice(&room[..made]);
        if made < room.len() {
            assert!(input.is_empty());
            decoder.finish()?;
            return Ok(output);
        }
    }
}

/// Returns pairs of a Content-Encoding and the data in it.
fn samples(data: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let halves = data.split_at(data.len() / 2);
    vec![
        ("gzip", gzip(data)),
        ("x-gzip", [gzip(halves.0), gzip(b""), gzip(halves.1)].concat()),
        ("deflate", zlib(data)),
        ("Deflate", bare_deflate(data)),
        ("br", br(data)),
        ("zstd", zstd(data)),
        ("ZSTD", [zstd(halves.0), b"\x50\x2a\x4d\x18\x02\x00\x00\x00no".to_vec(), zstd(halves.1)].concat()),
        ("gzip, br", br(&gzip(data))),
        ("br,identity , ,\tgzip", gzip(&br(data))),
        ("deflate, zstd, gzip", gzip(&zstd(&bare_deflate(data)))),
        ("identity", data.to_vec()),
        ("", data.to_vec()),
    ]
}

#[test]
fn test_decoder_body_in_any_pieces_decodes_the_same() {
    for data in [b"".to_vec(), b"x".to_vec(), text(60)] {
        for (coding, body) in samples(&data) {
            assert_eq!(decode(coding, &[&body]).as_ref(), Ok(&data), "{coding}");
            for cut in 0..body.len() {
                let (one, two) = body.split_at(cut);
                assert_eq!(decode(coding, &[one, two]).as_ref(), Ok(&data), "{coding} split at {cut}");
            }
            assert_eq!(decode(coding, &body.chunks(1).collect::<Vec<_>>()).as_ref(), Ok(&data), "{coding}");
        }
    }
}

#[test]
fn test_fill_buffers_of_any_size_decode_the_same() {
    let data = text(300);
    for (coding, body) in samples(&data) {
        for room in [1, 2, 7, 1000, data.len() - 1, data.len(), data.len() + 1] {
            assert_eq!(decode_through(coding, &body, room).as_ref(), Ok(&data), "{coding} by {room}");
        }
    }
}

#[test]
fn test_decoder_long_body_in_pieces_decodes_the_same() {
    let data = text(60_000);
    for (coding, body) in samples(&data) {
        assert_eq!(decode(coding, &[&body]).as_ref(), Ok(&data), "{coding}");
        assert_eq!(decode(coding, &body.chunks(1460).collect::<Vec<_>>()).as_ref(), Ok(&data), "{coding}");
    }
}

#[test]
fn test_finish_truncated_body_is_an_error() {
    let data = text(40);
    for (coding, body) in samples(&data).into_iter().filter(|(coding, _)| !["identity", ""].contains(coding)) {
        // A body may end after a complete member or frame.
        let whole_before = |cut: usize| decode(coding, &[&body[..cut]]).is_ok();
        let fine: Vec<usize> = (1..body.len()).filter(|&cut| whole_before(cut)).collect();
        let half = data.len() / 2;
        let expected = match coding {
            "x-gzip" => {
                let (first, second) = (gzip(&data[..half]).len(), gzip(b"").len());
                // The first byte of the next member could be anything.
                vec![first, first + 1, first + second, first + second + 1]
            }
            "ZSTD" => vec![zstd(&data[..half]).len(), zstd(&data[..half]).len() + 10],
            _ => vec![],
        };
        assert_eq!(fine, expected, "{coding}");
        let last = coding.rsplit([',', ' ', '\t']).next().expect("one at least").to_lowercase();
        let error = decode(coding, &[&body[..body.len() - 1]]).expect_err("cut short").to_string();
        let name = last.trim_start_matches("x-");
        assert_eq!(error, format!("{name}: the body ends before the stream does"));
    }
}

#[test]
fn test_finish_empty_body_is_valid() {
    for coding in ["gzip", "deflate", "br", "zstd", "gzip, br, zstd"] {
        assert_eq!(decode(coding, &[]), Ok(vec![]));
        assert_eq!(decode(coding, &[b"", b""]), Ok(vec![]));
        // An empty body that is encoded once and not twice.
        assert_eq!(decode(&format!("{coding}, gzip"), &[&gzip(b"")]), Ok(vec![]));
    }
}

#[test]
fn test_decoder_bytes_after_the_end_depend_on_the_coding() {
    let data = text(10);
    for behind in [b"\r\n".as_slice(), b"\0\0\0\0", b"\x1f", b"\x1f\x00", b"<html>"] {
        for (coding, body) in [("gzip", gzip(&data)), ("deflate", zlib(&data)), ("deflate", bare_deflate(&data))] {
            let pieces = [body.as_slice(), behind];
            assert_eq!(decode(coding, &[&pieces.concat()]).as_ref(), Ok(&data), "{coding} {behind:?}");
            assert_eq!(decode(coding, &pieces.concat().chunks(1).collect::<Vec<_>>()).as_ref(), Ok(&data));
            assert_eq!(decode(coding, &pieces).as_ref(), Ok(&data));
        }
        for (coding, body) in [("br", br(&data)), ("zstd", zstd(&data))] {
            assert!(decode(coding, &[&body, behind]).is_err(), "{coding} {behind:?}");
        }
    }
    // Bytes that look like another member must be one.
    let damaged = decode("gzip", &[&gzip(&data), b"\x1f\x8b\x07\x00"]).expect_err("no such method").to_string();
    assert_eq!(damaged, "gzip: unknown compression method");
}

#[test]
fn test_decoder_error_names_the_coding_and_is_repeated() {
    for (coding, name) in [("x-gzip", "gzip"), ("deflate", "deflate"), ("br", "br"), ("zstd", "zstd")] {
        let mut decoder = Decoder::new(coding, None).expect("known");
        let mut output = Vec::new();
        let error = decoder.feed(b"<html>this was never compressed</html>", &mut output).expect_err("not compressed");
        assert!(error.to_string().starts_with(&format!("{name}: ")), "{error}");
        assert_eq!(decoder.feed(b"more", &mut output), Err(error.clone()));
        assert_eq!(decoder.finish(), Err(error));
    }
    let error = decode("gzip, br", &[&br(b"never gzipped")]).expect_err("not gzip");
    assert_eq!(error.to_string(), "gzip: incorrect header check");
}

#[test]
fn test_decoder_wrong_checksum_is_an_error() {
    let data = text(40);
    for (coding, mut body, at) in
        [("gzip", gzip(&data), 8), ("gzip", gzip(&data), 1), ("deflate", zlib(&data), 1), ("zstd", zstd(&data), 1)]
    {
        let at = body.len() - at;
        body[at] ^= 1;
        let error = decode(coding, &[&body]).expect_err("damaged");
        assert!(matches!(error, CodingError::Damaged { .. }), "{coding} {error}");
    }
}

#[test]
fn test_decoder_damaged_bodies_do_not_panic() {
    let data = text(40);
    for (coding, body) in samples(&data) {
        for seed in 0..1500 {
            let mut chance = Chance::new(seed);
            let mut body = body.clone();
            for _ in 0..1 + chance.below(4) {
                chance.damage(&mut body);
                let at = chance.below(body.len());
                body[at] = chance.number() as u8;
            }
            let whole = decode_within(coding, &[&body], Some(1 << 20));
            let piecewise = decode_within(coding, &chance.cut(&body), Some(1 << 20));
            assert_eq!(whole.is_ok(), piecewise.is_ok(), "{coding} by seed {seed}");
            assert!(whole.is_err() || whole == piecewise, "{coding} by seed {seed}");
            let length = chance.below(200);
            let _ = decode_within(coding, &[&chance.bytes(length)], Some(1 << 20));
        }
    }
}

#[test]
fn test_decoder_limit_is_exact() {
    let data = text(3000);
    for (coding, body) in samples(&data).into_iter().filter(|(coding, _)| !["identity", ""].contains(coding)) {
        let length = data.len() as u64;
        assert_eq!(decode_within(coding, &[&body], Some(length)).as_ref(), Ok(&data), "{coding}");
        for limit in [length - 1, 1, 0] {
            let error = decode_within(coding, &[&body], Some(limit)).expect_err("more than that");
            assert!(matches!(error, CodingError::TooLarge { allowed, .. } if allowed == limit), "{coding} {error}");
        }
    }
    // The output of the inner coding may exceed the limit by a few bytes.
    let noise = Chance::new(1).bytes(5000);
    assert_eq!(decode_within("gzip, zstd", &[&zstd(&gzip(&noise))], Some(5000)), Ok(noise));
    assert_eq!(decode_within("gzip", &[&gzip(b"")], Some(0)), Ok(vec![]));
}

#[test]
fn test_decoder_bomb_is_refused_early() {
    const MIB: usize = 1 << 20;
    let zeros = vec![0; MIB];
    // 10 MB that would decode to 10 GB.
    let members = gzip(&zeros).repeat(10_000);
    let frames = zstd(&zeros).repeat(40_000);
    let hidden = gzip(&members[..members.len() / 10]);
    // The first stage produces too much, of which the second makes nothing.
    let for_nothing = gzip(&[gzip(b"whole"), vec![0; 65 * MIB]].concat());
    for (coding, body) in [("gzip", &members), ("zstd", &frames), ("gzip, gzip", &hidden), ("gzip, gzip", &for_nothing)]
    {
        let mut output = Vec::new();
        let error = Decoder::new(coding, None).expect("known").feed(body, &mut output).expect_err("too much");
        assert!(matches!(error, CodingError::TooLarge { allowed: ALWAYS_ALLOWED, .. }), "{coding} {error}");
        assert!(output.capacity() as u64 <= 2 * ALWAYS_ALLOWED + MIB as u64, "{}", output.capacity());
    }
    let zeros = br(&vec![0; 8 * MIB]);
    let error = decode_within("br", &[&zeros], Some(MIB as u64)).expect_err("too much");
    assert_eq!(error.to_string(), "br: the body decodes to more than the 1048576 bytes that are allowed");
}

#[test]
fn test_decoder_large_body_beyond_the_bound_is_allowed() {
    let noise = Chance::new(1).bytes(1 << 20);
    // Twice as large as is always allowed, from enough encoded bytes.
    let member = [noise, vec![0; 1 << 20]].concat();
    let (times, body) = (64, gzip(&member));
    let mut decoder = Decoder::new("gzip", None).expect("known");
    let (mut room, mut total) = (vec![0; 1 << 16], 0);
    for _ in 0..times {
        let mut input = body.as_slice();
        loop {
            let made = decoder.fill(&mut input, &mut room).expect("allowed");
            total += made;
            if made < room.len() {
                break;
            }
        }
    }
    assert_eq!(decoder.finish(), Ok(()));
    assert_eq!(total, times * member.len());
    assert!(total as u64 > ALWAYS_ALLOWED && (total as u64) < MOST_EXPANSION * (times * body.len()) as u64);
}

#[test]
fn test_decoder_unknown_coding_passes_bytes_unchanged() {
    for (coding, unknown) in
        [("compress", "compress"), ("gzip, aes128gcm", "aes128gcm"), ("Odd, br", "Odd"), ("a, b", "b")]
    {
        let mut decoder = Decoder::new(coding, Some(1)).expect("unknown is no error");
        assert_eq!((decoder.unknown(), decoder.is_identity()), (Some(unknown), true));
        let mut output = Vec::new();
        assert_eq!(decoder.feed(b"as it ", &mut output), Ok(()));
        assert_eq!(decoder.feed(b"is", &mut output), Ok(()));
        assert_eq!((decoder.finish(), output), (Ok(()), b"as it is".to_vec()));
    }
    let known = Decoder::new("gzip", None).expect("known");
    assert_eq!((known.unknown(), known.is_identity()), (None, false));
    assert!(Decoder::new(" identity,", None).expect("known").is_identity());
}

#[test]
fn test_decoder_too_many_codings_are_refused() {
    let (many, more) = (["gzip"; MOST_CODINGS].join(","), ["gzip"; MOST_CODINGS + 1].join(","));
    let body = (0..MOST_CODINGS).fold(b"deep".to_vec(), |body, _| gzip(&body));
    assert_eq!(decode(&many, &[&body]), Ok(b"deep".to_vec()));
    assert_eq!(Decoder::new(&more, None).err(), Some(CodingError::TooMany(MOST_CODINGS + 1)));
}

#[test]
fn test_feed_flushed_bytes_are_decoded_at_once() {
    let flushed = |coding: &str, body: &[u8]| {
        let mut decoder = Decoder::new(coding, None).expect("known");
        let mut output = Vec::new();
        decoder.feed(body, &mut output).expect("good so far");
        for _ in 0..100 {
            decoder.feed(b"", &mut output).expect("nothing new is no error");
        }
        assert_eq!(output, b"data: 1\n\n", "{coding}");
        assert!(decoder.finish().is_err());
    };
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(b"data: 1\n\n").and_then(|()| encoder.flush()).expect("memory");
    flushed("gzip", encoder.get_ref());
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(b"data: 1\n\n").and_then(|()| encoder.flush()).expect("memory");
    flushed("deflate", encoder.get_ref());
    let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
    encoder.write_all(b"data: 1\n\n").and_then(|()| encoder.flush()).expect("memory");
    flushed("br", encoder.get_ref());
    let (mut encoder, mut room) = (zstd_safe::CCtx::create(), [0; 200]);
    let mut sink = zstd_safe::OutBuffer::around(&mut room[..]);
    encoder.compress_stream(&mut sink, &mut zstd_safe::InBuffer::around(b"data: 1\n\n")).expect("room");
    encoder.flush_stream(&mut sink).expect("room");
    flushed("zstd", sink.as_slice());
}

#[test]
fn test_decoder_large_window_is_refused() {
    // Magic, no length, a window of 2^(10 + exponent), and a last raw block of 3 bytes.
    let frame = |exponent: u8| [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, exponent << 3, 0x19, 0, 0], b"abc".as_slice()].concat();
    assert_eq!(decode("zstd", &[&frame(13)]), Ok(b"abc".to_vec()));
    let error = decode("zstd", &[&frame(14)]).expect_err("16 MiB").to_string();
    assert_eq!(error, "zstd: Frame requires too much memory for decoding");
    // Large windows are an extension that RFC 7932 does not have.
    let error = decode("br", &[b"\x11\x1e\x03\x03\x03"]).expect_err("1 GiB").to_string();
    assert!(error.starts_with("br: ") && error.contains("WINDOW_BITS"), "{error}");
}

#[test]
fn test_decoder_abandoned_body_does_not_affect_the_next() {
    let data = text(20);
    for (coding, body) in samples(&data) {
        for cut in [1, body.len() / 2, body.len() - 1] {
            let mut abandoned = Decoder::new(coding, None).expect("known");
            abandoned.feed(&body[..cut], &mut Vec::new()).expect("good so far");
            drop(abandoned);
            assert_eq!(decode(coding, &[&body]).as_ref(), Ok(&data), "{coding} after {cut} bytes of one");
            let _ = decode(coding, &[&body[cut..]]);
            assert_eq!(decode(coding, &[&body]).as_ref(), Ok(&data), "{coding} after a damaged one");
        }
    }
}

#[test]
fn test_decoder_preset_dictionary_is_an_error() {
    let error = decode("deflate", &[b"\x78\xbb\x00\x00\x00\x01\x00"]).expect_err("not ours").to_string();
    assert_eq!(error, "deflate: the stream needs a dictionary");
}

#[test]
fn test_expected_length_is_the_stated_length() {
    let expected = |coding: &str, limit, body: &[u8]| Decoder::new(coding, limit).expect("known").expected_length(body);
    let data = text(100);
    assert_eq!(expected("gzip", None, &gzip(&data)), data.len());
    assert_eq!(expected("zstd", None, &zstd(&data)), data.len());
    assert_eq!(expected("gzip", Some(10), &gzip(&data)), 10);
    for (coding, body) in [("br", br(&data)), ("deflate", zlib(&data)), ("gzip, gzip", gzip(&gzip(&data)))] {
        assert_eq!(expected(coding, None, &body), 0);
    }
    // No deflate stream of six bytes can be that long.
    assert_eq!(expected("gzip", None, b"ab\xff\xff\xff\x0f"), 0);
    assert_eq!(expected("gzip", None, b"ab"), 0);
    // A frame that states 2^40 bytes.
    let boast = [0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 1, 0, 0];
    assert_eq!(expected("zstd", None, &boast) as u64, ALWAYS_ALLOWED);
}

#[test]
fn test_coding_displays_its_name() {
    let names = [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd].map(|coding| coding.to_string());
    assert_eq!(names, ["gzip", "deflate", "br", "zstd"]);
}
