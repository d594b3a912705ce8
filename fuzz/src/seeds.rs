//! Seeds of the targets: the corpus of each, and `tests/vectors`.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// Longest response that is a seed: longer ones would take all the time of a short run.
const LONGEST: usize = 4096;

/// Returns the seeds of the target with this name, always in the same order.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a readable directory").path()).collect();
    paths.sort();
    let mut seeds: Vec<_> = paths.iter().map(|path| fs::read(path).expect("a readable file")).collect();
    match target {
        "head" => seeds.extend(responses().map(|(_, raw)| raw)),
        "exchange" | "framing" => seeds.extend(responses().map(|(mode, raw)| [vec![mode], raw].concat())),
        "sse" => {
            seeds.extend(cases("events.json").iter().map(|case| raw(&case["raw"])).filter(|raw| raw.len() <= LONGEST));
        }
        _ => {}
    }
    seeds
}

/// Returns the responses of `tests/vectors`, each with its mode: the method, and if the peer closes the connection.
fn responses() -> impl Iterator<Item = (u8, Vec<u8>)> {
    let short = |(_, raw): &(u8, Vec<u8>)| raw.len() <= LONGEST;
    cases("responses.json").into_iter().map(|case| (mode(&case), raw(&case["raw"]))).filter(short)
}

fn cases(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors").join(file);
    serde_json::from_slice(&fs::read(path).expect("a readable file")).expect("a list in JSON")
}

fn mode(case: &Value) -> u8 {
    let method = match case["method"].as_str() {
        Some("HEAD") => crate::framing::HEAD,
        Some("CONNECT") => crate::framing::CONNECT,
        _ => 0,
    };
    method | if case["eof"] == true { crate::framing::EOF } else { 0 }
}

fn raw(value: &Value) -> Vec<u8> {
    match value {
        Value::Array(parts) => parts.iter().flat_map(part).collect(),
        whole => part(whole),
    }
}

fn part(value: &Value) -> Vec<u8> {
    match value {
        Value::Array(pair) => latin_1(&pair[0]).repeat(pair[1].as_u64().expect("a number") as usize),
        whole => latin_1(whole),
    }
}

fn latin_1(value: &Value) -> Vec<u8> {
    let text = value.as_str().expect("text");
    text.chars().map(|character| u8::try_from(u32::from(character)).expect("latin-1")).collect()
}
