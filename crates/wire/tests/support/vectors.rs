//! Loads `tests/vectors`; see its README for the formats.

use serde_json::Value;

/// Longest response that is split at every point; longer ones are split into pieces of [`PIECE`].
const SPLIT_UP_TO: usize = 1024;
const PIECE: usize = 4096;

pub struct Vector {
    pub name: String,
    pub method: String,
    pub raw: Vec<u8>,
    pub eof: bool,
    pub expected: Expected,
}

pub enum Expected {
    Message(Message),
    Failure { in_head: bool, kind: Kind },
}

pub struct Message {
    pub status: u16,
    pub version: Option<String>,
    pub reason: Option<Vec<u8>>,
    pub headers: Option<Vec<(Vec<u8>, Vec<u8>)>>,
    pub body: Vec<u8>,
    pub keep_alive: bool,
    pub trailers: Vec<(Vec<u8>, Vec<u8>)>,
    pub extra: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Cut,
    Malformed,
    TooLarge,
}

impl Vector {
    /// Returns the response whole, byte by byte, and split in two at every point.
    pub fn divisions(&self) -> Vec<Vec<&[u8]>> {
        divisions(&self.raw)
    }
}

/// Returns the name of a vector and the sizes of its pieces if `check` panics for one of its divisions.
pub fn first_failure(name: &str, divisions: &[Vec<&[u8]>], check: impl Fn(&[&[u8]])) -> Option<String> {
    divisions.iter().find_map(|pieces| {
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(pieces)));
        let cut: Vec<_> = pieces.iter().take(10).map(|piece| piece.len()).collect();
        checked.is_err().then(|| format!("{name}, cut {cut:?}"))
    })
}

fn divisions(raw: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut all = vec![vec![raw]];
    if raw.len() > SPLIT_UP_TO {
        all.push(raw.chunks(PIECE).collect());
    } else {
        all.push(raw.chunks(1).collect());
        all.extend((1..raw.len()).map(|cut| vec![&raw[..cut], &raw[cut..]]));
    }
    all
}

pub fn load() -> Vec<Vector> {
    cases("responses.json").iter().map(vector).collect()
}

fn cases(file: &str) -> Vec<Value> {
    let path = format!("{}/../../tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let cases: Vec<Value> = serde_json::from_str(&text).expect("a list in JSON");
    assert!(!cases.is_empty());
    cases
}

/// Type, data, ID and reconnection time.
pub type EventFields = (String, String, String, Option<u64>);

/// A stream of server-sent events.
pub struct EventVector {
    pub name: String,
    pub raw: Vec<u8>,
    pub events: Vec<EventFields>,
    pub last_id: String,
    pub last_retry: Option<u64>,
    pub is_too_large: bool,
}

impl EventVector {
    /// Returns the stream whole, byte by byte, and split in two at every point.
    pub fn divisions(&self) -> Vec<Vec<&[u8]>> {
        divisions(&self.raw)
    }
}

pub fn load_events() -> Vec<EventVector> {
    cases("events.json").iter().map(event_vector).collect()
}

fn event_vector(case: &Value) -> EventVector {
    let name = text(&case["name"]);
    check_keys(case, &name, &["name", "rule", "raw", "events", "last_id", "last_retry", "error"]);
    let last_id = case.get("last_id").map(text).unwrap_or_default();
    let events = case["events"].as_array().expect("a list").iter().map(|event| {
        check_keys(event, &name, &["event", "data", "id", "retry"]);
        let kind = event.get("event").map_or_else(|| "message".to_owned(), text);
        let id = event.get("id").map(text).unwrap_or_default();
        (kind, repeated(&event["data"], text).concat(), id, event["retry"].as_u64())
    });
    EventVector {
        raw: raw(&case["raw"]),
        events: events.collect(),
        last_id,
        last_retry: case["last_retry"].as_u64(),
        is_too_large: case["error"] == "too_large",
        name,
    }
}

fn check_keys(case: &Value, name: &str, known: &[&str]) {
    for key in case.as_object().expect("an object").keys() {
        assert!(known.contains(&key.as_str()), "{name}: {key}");
    }
}

fn vector(case: &Value) -> Vector {
    let name = text(&case["name"]);
    check_keys(case, &name, &["name", "rule", "method", "raw", "eof", "response", "error"]);
    let expected = match (&case["response"], &case["error"]) {
        (message @ Value::Object(_), Value::Null) => Expected::Message(Message {
            status: u16::try_from(message["status"].as_u64().expect("a number")).expect("three digits"),
            version: message["version"].as_str().map(String::from),
            reason: message.get("reason").map(latin_1),
            headers: message.get("headers").map(lines),
            body: latin_1(&message["body"]),
            keep_alive: message["keep_alive"].as_bool().expect("yes or no"),
            trailers: message.get("trailers").map(lines).unwrap_or_default(),
            extra: message.get("extra").map(latin_1).unwrap_or_default(),
        }),
        (Value::Null, failure @ Value::Object(_)) => Expected::Failure {
            in_head: text(&failure["in"]) == "head",
            kind: match text(&failure["kind"]).as_str() {
                "cut" => Kind::Cut,
                "malformed" => Kind::Malformed,
                "too_large" => Kind::TooLarge,
                other => panic!("{name}: {other}"),
            },
        },
        _ => panic!("{name}: a response or an error"),
    };
    Vector {
        method: case["method"].as_str().unwrap_or("GET").to_owned(),
        raw: raw(&case["raw"]),
        eof: case["eof"].as_bool().unwrap_or(false),
        name,
        expected,
    }
}

fn raw(value: &Value) -> Vec<u8> {
    repeated(value, latin_1).concat()
}

/// Returns the parts of a text: those of a list, in which `[text, n]` is the text `n` times.
fn repeated<T: Clone>(value: &Value, read: fn(&Value) -> T) -> Vec<T> {
    let part = |part: &Value| match part {
        Value::Array(pair) => vec![read(&pair[0]); pair[1].as_u64().expect("a number") as usize],
        whole => vec![read(whole)],
    };
    match value {
        Value::Array(parts) => parts.iter().flat_map(part).collect(),
        whole => part(whole),
    }
}

fn lines(value: &Value) -> Vec<(Vec<u8>, Vec<u8>)> {
    value.as_array().expect("a list").iter().map(|line| (latin_1(&line[0]), latin_1(&line[1]))).collect()
}

fn latin_1(value: &Value) -> Vec<u8> {
    text(value).chars().map(|character| u8::try_from(u32::from(character)).expect("latin-1")).collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}
