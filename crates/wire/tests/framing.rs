//! Checks the framing of all combinations of method, version, status and fields against a table of rules. The first
//! rule that matches decides.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use wire::framing::{CloseCause, MethodKind, close_cause};
use wire::{Framing, HeadReader, Limits, ResponseError};

/// One response, and the method of its request.
#[derive(Debug)]
struct Case {
    method: &'static str,
    version: &'static str,
    status: u16,
    coding: &'static [&'static str],
    length: &'static [&'static str],
    connection: &'static [&'static str],
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Framed(Framing),
    BadCoding,
    BadLength,
}

const METHODS: [&str; 4] = ["GET", "POST", "HEAD", "CONNECT"];
const VERSIONS: [&str; 2] = ["1.0", "1.1"];
const STATUSES: [u16; 11] = [101, 200, 204, 206, 299, 300, 304, 404, 407, 500, 999];
const CODINGS: [&[&str]; 14] = [
    &[],
    &["chunked"],
    &["CHUNKED "],
    &["identity"],
    &["gzip"],
    &["gzip, chunked"],
    &["chunked", "gzip"],
    &["chunked", "chunked"],
    &["chunked, Chunked"],
    &["identity, chunked"],
    &["identity", "chunked"],
    &["chunked, identity"],
    &["x-chunked"],
    &[""],
];
const LENGTHS: [&[&str]; 9] =
    [&[], &["0"], &["5"], &[" 007 "], &["5, 5"], &["5", "5"], &["5", "6"], &["+5"], &["18446744073709551616"]];
const CONNECTIONS: [&[&str]; 5] = [&[], &["close"], &["Keep-Alive"], &["keep-alive, x", "Close"], &["closed"]];

/// A condition and its outcome.
type Rule<T> = (fn(&Case) -> bool, T);

/// Returns true if the response has no body because of its method or status.
fn bodiless(case: &Case) -> bool {
    case.method == "HEAD" || case.status == 101 || case.status == 204 || case.status == 304
}

/// Returns true for a body that is chunked although its codings are more than `chunked`.
fn redundantly_chunked(case: &Case) -> bool {
    matches!(
        case.coding,
        ["chunked", "chunked"] | ["chunked, Chunked"] | ["identity, chunked"] | ["identity", "chunked"]
    )
}

fn tunnel(case: &Case) -> bool {
    case.method == "CONNECT" && case.status / 100 == 2
}

/// Rules of RFC 9112 section 6.3.
#[rustfmt::skip]
const FRAMING: [Rule<Outcome>; 12] = [
    (|case| bodiless(case) || tunnel(case), Outcome::Framed(Framing::None)),
    (|case| matches!(case.coding, ["chunked" | "CHUNKED "]), Outcome::Framed(Framing::Chunked)),
    (|case| redundantly_chunked(case), Outcome::Framed(Framing::Chunked)),
    (|case| matches!(case.coding, ["identity"]), Outcome::Framed(Framing::UntilClose)),
    (|case| !case.coding.is_empty(), Outcome::BadCoding),
    (|case| case.length.is_empty(), Outcome::Framed(Framing::UntilClose)),
    (|case| matches!(case.length, ["0"]), Outcome::Framed(Framing::Counted(0))),
    (|case| matches!(case.length, [" 007 "]), Outcome::Framed(Framing::Counted(7))),
    (|case| matches!(case.length, ["5"]), Outcome::Framed(Framing::Counted(5))),
    (|case| matches!(case.length, ["5, 5"]), Outcome::Framed(Framing::Counted(5))),
    (|case| matches!(case.length, ["5", "5"]), Outcome::Framed(Framing::Counted(5))),
    (|_| true, Outcome::BadLength),
];

/// Rules of RFC 9112 sections 6.1 and 9.3, for responses with a framing.
#[rustfmt::skip]
const CLOSING: [Rule<Option<CloseCause>>; 9] = [
    (|case| case.status == 101 || tunnel(case), Some(CloseCause::Upgraded)),
    (|case| !case.coding.is_empty() && case.version == "1.0", Some(CloseCause::AmbiguousFraming)),
    (|case| !case.coding.is_empty() && !case.length.is_empty(), Some(CloseCause::AmbiguousFraming)),
    (|case| !bodiless(case) && case.coding == ["identity"], Some(CloseCause::CloseDelimitedBody)),
    (|case| !bodiless(case) && case.coding.is_empty() && case.length.is_empty(), Some(CloseCause::CloseDelimitedBody)),
    (|case| !bodiless(case) && redundantly_chunked(case), Some(CloseCause::AmbiguousFraming)),
    (|case| case.connection.concat().to_lowercase().ends_with("close"), Some(CloseCause::AskedByPeer)),
    (|case| case.version == "1.0" && case.connection != ["Keep-Alive"], Some(CloseCause::Http10)),
    (|_| true, None),
];

fn first<'a, T>(rules: &'a [Rule<T>], case: &Case) -> &'a T {
    &rules.iter().find(|(fits, _)| fits(case)).expect("the last rule fits all").1
}

fn check(case: &Case) {
    let mut text = format!("HTTP/{} {} x\r\n", case.version, case.status);
    for (name, values) in
        [("Transfer-Encoding", case.coding), ("content-length", case.length), ("Connection", case.connection)]
    {
        values.iter().for_each(|value| text.push_str(&format!("{name}: {value}\r\n")));
    }
    text.push_str("\r\n");
    let read = HeadReader::default().read(text.as_bytes(), &Limits::default());
    let (head, _) = read.expect("a good head").expect("a whole head");
    let method = MethodKind::by(case.method.as_bytes());
    let outcome = match Framing::of(method, &head) {
        Ok(framing) => Outcome::Framed(framing),
        Err(ResponseError::TransferEncoding(_)) => Outcome::BadCoding,
        Err(ResponseError::ContentLength(_)) => Outcome::BadLength,
        Err(other) => panic!("{other}: {case:?}"),
    };
    assert_eq!(&outcome, first(&FRAMING, case), "{case:?}");
    if let Outcome::Framed(framing) = outcome {
        assert_eq!(&close_cause(method, &head, framing), first(&CLOSING, case), "{case:?}");
    }
}

#[test]
fn test_framing_every_combination_follows_the_rules() {
    let mut cases = 0;
    for method in METHODS {
        for version in VERSIONS {
            for status in STATUSES {
                for coding in CODINGS {
                    for length in LENGTHS {
                        for connection in CONNECTIONS {
                            check(&Case { method, version, status, coding, length, connection });
                            cases += 1;
                        }
                    }
                }
            }
        }
    }
    assert_eq!(cases, 4 * 2 * 11 * 14 * 9 * 5);
}
