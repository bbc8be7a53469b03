//! The journal and its head, in a store that crashed with eight changes in it.
//!
//! The first byte of an input: bits 0 and 1 say whether the rest replaces the journal or damages it, and with or without
//! fitting checksums; bit 2 takes the head away, as a copy to another machine or a power cut does; bit 3 cuts the ledger back to
//! the checkpoint, which a power cut may do; bit 4 puts zeros behind the journal; bit 5 makes the rest damage to the head instead.

use std::path::Path;

use crate::base::{Bases, HEAD, LEDGER};
use crate::check::{self, Came, Forged};
use crate::{Outcome, damage, seal, tree};

const DAMAGED: u8 = 1;
const SEALED: u8 = 2;
const NO_HEAD: u8 = 4;
const LEDGER_CUT: u8 = 8;
const PADDED: u8 = 16;
const IN_HEAD: u8 = 32;

/// Numbers at the ends of what fits.
pub(crate) const NUMBERS: [&str; 4] = ["0", "9", "9223372036854775807", "18446744073709551615"];

pub(crate) async fn run(bases: &Bases, dir: &Path, input: &[u8]) -> Outcome {
    let Some((flags, rest)) = input.split_first() else { return Ok(()) };
    let has = |flag| flags & flag != 0;
    let (name, original) = bases.journal();
    let mut before = bases.crashed.clone();
    if has(LEDGER_CUT)
        && let (Some(cut), Some(whole)) = (bases.closed.get(LEDGER), before.get_mut(LEDGER))
    {
        whole.truncate(cut.len());
    }
    if has(IN_HEAD) {
        before.insert(HEAD.to_owned(), head(before.get(HEAD).map_or(&[], Vec::as_slice), rest, has(SEALED)));
        tree::put(&before, dir)?;
        return match check::whole(dir, &before, Forged::Nothing).await? {
            Came::Held { dump, .. } if dump != bases.last_dump() => {
                Err(format!("the head cost changes: {}", check::unlike(bases.last_dump(), &dump)))
            }
            _ => Ok(()),
        };
    }
    let mut journal = if has(DAMAGED) { damage::apply(original, rest) } else { rest.to_vec() };
    if has(SEALED) {
        journal = seal::lines(&journal);
    }
    let same = original.iter().zip(&journal).take_while(|(one, other)| one == other).count();
    if has(PADDED) {
        journal.resize(journal.len().next_multiple_of(64 * 1024), 0);
    }
    before.insert(name.to_owned(), journal);
    if has(NO_HEAD) {
        before.insert(HEAD.to_owned(), Vec::new());
    }
    tree::put(&before, dir)?;
    let forged = if has(SEALED) { Forged::Checksums } else { Forged::Nothing };
    let Came::Held { dump, .. } = check::whole(dir, &before, forged).await? else { return Ok(()) };
    if forged == Forged::Checksums {
        return Ok(());
    }
    // Whatever stands before the damage was acknowledged; so was everything, when the head says so.
    let kept =
        if has(NO_HEAD) { bases.lines().iter().filter(|end| **end <= same).count() } else { bases.lines().len() };
    if bases.dumps[kept..].contains(&dump) {
        return Ok(());
    }
    Err(format!("{kept} changes were promised: {}", check::unlike(&bases.dumps[kept], &dump)))
}

/// A damaged head; with fitting checksums, the two slots' numbers are damaged.
fn head(original: &[u8], input: &[u8], sealed: bool) -> Vec<u8> {
    if !sealed {
        return damage::apply(original, input);
    }
    let damaged = damage::apply(original, input);
    let numbers = |from: usize| {
        let mut numbers = [0; 40];
        for (to, byte) in numbers.iter_mut().zip(damaged.iter().skip(from)) {
            *to = *byte;
        }
        numbers
    };
    [seal::slot(&numbers(0)), seal::slot(&numbers(64))].concat()
}

pub(crate) fn seeds(bases: &Bases) -> Vec<(String, Vec<u8>)> {
    let (_, journal) = bases.journal();
    let lines = bases.lines();
    let mut seeds = Vec::new();
    let mut seed = |name: &str, flags: u8, rest: &[u8]| seeds.push((name.to_owned(), [&[flags], rest].concat()));
    for (name, flags) in [("raw", 0), ("sealed", SEALED), ("power-cut", NO_HEAD | LEDGER_CUT | PADDED)] {
        seed(&format!("whole-{name}"), flags, journal);
        seed(&format!("torn-{name}"), flags, &journal[..journal.len() - 30]);
        seed(&format!("half-{name}"), flags, &journal[..lines[3]]);
        seed(&format!("empty-{name}"), flags, &[]);
    }
    for (n, end) in lines.iter().enumerate() {
        for (name, flags) in [("raw", DAMAGED | NO_HEAD), ("sealed", DAMAGED | SEALED | NO_HEAD), ("promised", DAMAGED)]
        {
            seed(&format!("line-{n}-{name}"), flags | PADDED, &damage::one(end - 40, 1, b"0"));
            seed(&format!("newline-{n}-{name}"), flags, &damage::one(end - 1, 1, b""));
            seed(&format!("seq-{n}-{name}"), flags, &damage::one(end.saturating_sub(1) + 8, 1, b"9999999999"));
        }
    }
    let text = String::from_utf8_lossy(journal);
    for field in ["seq", "first", "gen", "at"] {
        let Some(at) = text.rfind(&format!("\"{field}\":")).map(|at| at + field.len() + 3) else { continue };
        for value in NUMBERS {
            let rest = damage::number(journal, at, value);
            seed(&format!("{field}-{value}"), DAMAGED | SEALED | NO_HEAD, &rest);
        }
    }
    for flags in [IN_HEAD, IN_HEAD | SEALED] {
        seed(&format!("head-offset-{flags}"), flags, &damage::one(8, 8, &[255; 8]));
        seed(&format!("head-generation-{flags}"), flags, &damage::one(64, 8, &[9, 0, 0, 0, 0, 0, 0, 0]));
        seed(&format!("head-dead-{flags}"), flags, &damage::one(32, 8, &[1, 0, 0, 0, 0, 0, 0, 0]));
    }
    seeds
}
