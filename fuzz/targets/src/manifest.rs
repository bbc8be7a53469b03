//! The manifest, of a store that was closed, that crashed, or that stands in the middle of a checkpoint.
//!
//! The first byte of an input: bits 0 and 1 choose the store; bit 2 makes the rest damage instead of a manifest; bit 3 makes the
//! checksum fit; bit 4 takes the journal's head away.

use std::path::Path;

use crate::base::{Bases, HEAD, MANIFEST};
use crate::check::{self, Came, Forged};
use crate::journal::NUMBERS;
use crate::{Outcome, damage, seal, tree};

const DAMAGED: u8 = 4;
const SEALED: u8 = 8;
const NO_HEAD: u8 = 16;

pub(crate) async fn run(bases: &Bases, dir: &Path, input: &[u8]) -> Outcome {
    let Some((flags, rest)) = input.split_first() else { return Ok(()) };
    let (mut before, expected) = match flags & 3 {
        0 | 3 => (bases.closed.clone(), bases.dumps[0].as_slice()),
        1 => (bases.crashed.clone(), bases.last_dump()),
        _ => (bases.between.clone(), bases.last_dump()),
    };
    let original = before.get(MANIFEST).map_or(&[][..], Vec::as_slice);
    let mut manifest = if flags & DAMAGED != 0 { damage::apply(original, rest) } else { rest.to_vec() };
    let sealed = flags & SEALED != 0;
    if sealed {
        manifest = seal::manifest(&manifest);
    }
    before.insert(MANIFEST.to_owned(), manifest);
    if flags & NO_HEAD != 0 {
        before.insert(HEAD.to_owned(), Vec::new());
    }
    tree::put(&before, dir)?;
    let forged = if sealed { Forged::Checksums } else { Forged::Nothing };
    match check::whole(dir, &before, forged).await? {
        Came::Held { dump, .. } if !sealed && dump != expected => {
            Err(format!("a manifest of somebody else was believed: {}", check::unlike(expected, &dump)))
        }
        _ => Ok(()),
    }
}

pub(crate) fn seeds(bases: &Bases) -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (store, (name, tree)) in
        [("closed", &bases.closed), ("crashed", &bases.crashed), ("between", &bases.between)].into_iter().enumerate()
    {
        let store = u8::try_from(store).unwrap_or(0);
        let manifest = tree.get(MANIFEST).map_or(&[][..], Vec::as_slice);
        let mut seed = |what: &str, flags: u8, rest: &[u8]| {
            seeds.push((format!("{name}-{what}"), [&[store | flags], rest].concat()));
        };
        seed("whole", 0, manifest);
        seed("whole-sealed", SEALED, manifest);
        seed("whole-no-head", NO_HEAD, manifest);
        seed("cut", 0, &manifest[..manifest.len() / 2]);
        seed("empty", 0, &[]);
        let text = String::from_utf8_lossy(manifest);
        for field in ["format", "generation", "seq", "ledger_bytes", "bytes", "newest"] {
            // In a checkpoint's middle a field stands once for what was and once for what will be.
            for (which, at) in
                [text.find(&format!("\"{field}\"")), text.rfind(&format!("\"{field}\""))].iter().enumerate()
            {
                let Some(value) = at.map(|at| at + field.len() + 4) else { continue };
                for number in NUMBERS {
                    let rest = damage::number(manifest, value, number);
                    seed(&format!("{field}-{which}-{number}"), DAMAGED | SEALED, &rest);
                    seed(&format!("{field}-{which}-{number}-no-head"), DAMAGED | SEALED | NO_HEAD, &rest);
                }
            }
        }
        for field in ["time_zone", "history", "files", "next", "moved_to", "crc32"] {
            let Some(at) = text.find(&format!("\"{field}\"")) else { continue };
            seed(&format!("{field}-text"), DAMAGED | SEALED, &damage::one(at + field.len() + 4, 1, b"\"x\","));
            seed(
                &format!("{field}-twice"),
                DAMAGED | SEALED,
                &damage::one(at, 0, format!("\"{field}\":1,").as_bytes()),
            );
        }
    }
    seeds
}
