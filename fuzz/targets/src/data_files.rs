//! The nine files, our own two and the ledger.
//!
//! The first byte of an input: bits 0 to 3 choose the file; bit 4 makes the rest damage instead of a file; bit 5 makes the
//! manifest's checksum fit, as if the store itself had written this; bit 6 takes the store that crashed instead of the one that was
//! closed; bit 7 makes the checksums of the ledger's lines fit, or damages a file's second copy as well.

use std::path::Path;

use serde_json::{Map, Value};

use crate::base::{Bases, FILES, LEDGER, MANIFEST, ORIGINALS};
use crate::check::{self, Came, Forged};
use crate::{Finding, Outcome, damage, seal, tree};

const DAMAGED: u8 = 16;
const OURS: u8 = 32;
const CRASHED: u8 = 64;
const DEEPER: u8 = 128;

pub(crate) async fn run(bases: &Bases, dir: &Path, input: &[u8]) -> Outcome {
    let Some((flags, rest)) = input.split_first() else { return Ok(()) };
    let has = |flag| flags & flag != 0;
    let number = usize::from(flags & 15) % (FILES.len() + 1);
    let name = FILES.get(number).copied().unwrap_or(LEDGER);
    let (mut before, expected) = if has(CRASHED) {
        (bases.crashed.clone(), bases.last_dump())
    } else {
        (bases.closed.clone(), bases.dumps[0].as_slice())
    };
    let original = before.get(name).cloned().unwrap_or_default();
    let mut file = if has(DAMAGED) { damage::apply(&original, rest) } else { rest.to_vec() };
    if name == LEDGER && has(DEEPER) {
        file = seal::lines(&file);
    } else if has(DEEPER) {
        before.insert(format!(".checkpoint/{name}"), file.clone());
    }
    if has(OURS) {
        let manifest = before.get(MANIFEST).map_or(&[][..], Vec::as_slice);
        let manifest = seal::manifest_with(manifest, name, &file);
        before.insert(MANIFEST.to_owned(), manifest);
    }
    let edited = file != original;
    before.insert(name.to_owned(), file.clone());
    tree::put(&before, dir)?;
    let forged = if has(OURS) || name == LEDGER && has(DEEPER) { Forged::Checksums } else { Forged::Nothing };
    let Came::Held { dump, files } = check::whole(dir, &before, forged).await? else { return Ok(()) };
    let by_hand = number < ORIGINALS && !has(CRASHED);
    if forged == Forged::Nothing && !by_hand && dump != expected {
        return Err(format!("{name} was believed: {}", check::unlike(expected, &dump)));
    }
    if forged == Forged::Nothing && edited && number >= ORIGINALS && number < FILES.len() {
        return Err(format!("{name} was changed by somebody else, and the store opened"));
    }
    if forged == Forged::Nothing && edited && number < ORIGINALS && has(CRASHED) {
        let aside = files.iter().any(|(other, bytes)| other.starts_with(&format!("{name}.edited-")) && *bytes == file);
        return if aside { Ok(()) } else { Err(format!("an edit of {name} is nowhere any more")) };
    }
    if by_hand || number < FILES.len() && !has(CRASHED) {
        let written = files.get(name).map_or(&[][..], Vec::as_slice);
        return kept(name, &file, written);
    }
    Ok(())
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, Finding> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    serde_json::from_slice(bytes).map_err(|error| format!("a file that was taken over is no object: {error}"))
}

/// Whether everything that a file said when it was opened stands in it after closing.
fn kept(name: &str, read: &[u8], written: &[u8]) -> Outcome {
    let (read, written) = (object(read)?, object(written)?);
    for (key, value) in &read {
        let now = written.get(key);
        let fits = match name {
            "user_balances.json" => now.is_some_and(|now| same(value, now)),
            "user_languages.json" => now == Some(value),
            "gift_claimed.json" => *value == Value::Bool(false) || now == Some(value),
            "daily_free_generations.json" => {
                let is_nothing = ["count", "bonus"].iter().all(|field| value[field].as_f64().unwrap_or(0.0) == 0.0);
                is_nothing || now.is_some_and(|now| fields(&["count", "bonus"], value, now))
            }
            "admin_limits.json" => now.is_some_and(|now| fields(&["limit", "spent"], value, now)),
            "generations_history.json" => entries(value, now.unwrap_or(&Value::Null)),
            "payments.json" => now.is_some_and(|now| {
                let names = ["payment_id", "user_id", "amount", "payment_method", "status", "admin_id", "notes"];
                fields(&names, value, now) && fields(&["screenshot_file_id", "provider_key"], value, now)
            }),
            "generation_jobs.json" => now.is_some_and(|now| {
                let names = ["job_id", "user_id", "model_id", "model_name", "params", "price", "status"];
                fields(&names, value, now) && fields(&["external_task_id", "result_urls", "error_message"], value, now)
            }),
            "referrals.json" => key == "referrals" || now.is_some_and(|now| same(value, now)),
            "users.json" => now.is_some_and(|now| fields(&["held", "spent"], value, now)),
            _ => now.is_some_and(|now| fields(&["user", "name", "amount", "status"], value, now)),
        };
        if !fits {
            let now = now.map_or_else(|| "nothing".to_owned(), Value::to_string);
            return Err(format!("{name}, key {key:?}: {value} became {now}"));
        }
    }
    Ok(())
}

/// The same value, however a number is written.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, one)| other.get(key).is_some_and(|other| same(one, other)))
        }
        _ => one == other,
    }
}

fn fields(names: &[&str], read: &Value, written: &Value) -> bool {
    names.iter().all(|name| match &read[name] {
        Value::Null => true,
        // What is nothing is not written.
        Value::Number(zero) if zero.as_f64() == Some(0.0) => {
            written[name].is_null() || written[name].as_f64() == Some(0.0)
        }
        value => same(value, &written[name]),
    })
}

/// History entries: each has its id, its price and its parameters.
fn entries(read: &Value, written: &Value) -> bool {
    let (Some(read), written) = (read.as_array(), written.as_array()) else { return false };
    let written = written.map_or(&[][..], Vec::as_slice);
    let names = ["id", "model_id", "model_name", "params", "result_urls", "price"];
    read.len() == written.len() && read.iter().all(|entry| written.iter().any(|other| fields(&names, entry, other)))
}

pub(crate) fn seeds(bases: &Bases) -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (number, name) in FILES.into_iter().chain([LEDGER]).enumerate() {
        let number = u8::try_from(number).unwrap_or(0);
        let mut seed = |what: &str, flags: u8, rest: &[u8]| {
            seeds.push((format!("{name}-{what}"), [&[number | flags], rest].concat()));
        };
        let file = bases.closed.get(name).map_or(&[][..], Vec::as_slice);
        let later = bases.crashed.get(name).map_or(&[][..], Vec::as_slice);
        seed("whole", 0, file);
        seed("ours", OURS | if name == LEDGER { DEEPER } else { 0 }, file);
        seed("crashed", CRASHED, later);
        seed("cut", 0, &file[..file.len() / 2]);
        let text = String::from_utf8_lossy(file);
        for (n, digit) in ["1", "2", "0."].into_iter().enumerate() {
            let Some(at) = text.find(digit) else { continue };
            for flags in
                [DAMAGED, DAMAGED | OURS, DAMAGED | CRASHED, DAMAGED | CRASHED | DEEPER, DAMAGED | OURS | DEEPER]
            {
                seed(&format!("digit-{n}-{flags}"), flags, &damage::one(at, 1, b"3"));
            }
        }
    }
    seeds
}
