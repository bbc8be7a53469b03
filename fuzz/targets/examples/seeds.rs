//! Writes inputs to begin the corpora with: `seeds CORPORA [DIRECTORY_OF_THE_EARLIER_SYSTEM ...]`.
//!
//! They are made of a store's real files, of the examples in `docs/legacy.md`, and of the directories given.

use std::error::Error;
use std::path::Path;

use fuzz_targets::{Bench, Target, packed, packed_directory};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let corpora = arguments.next().ok_or("usage: seeds CORPORA [DIRECTORY ...]")?;
    let bench = Bench::new()?;
    for target in Target::ALL {
        let dir = Path::new(&corpora).join(target.name());
        std::fs::create_dir_all(&dir)?;
        let mut seeds = bench.seeds(target);
        if target == Target::Import {
            seeds.extend(examples()?);
            for (n, given) in arguments.by_ref().enumerate() {
                seeds.push((format!("directory-{n}"), packed_directory(Path::new(&given))?));
            }
        }
        for (name, bytes) in seeds {
            write(&dir.join(name), &bytes)?;
        }
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "inputs of a fuzzer, not a store's data")]
fn write(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::write(file, bytes)
}

/// The rows of the table of files that hold an example; a row without a name goes on with the one above.
fn examples() -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/legacy.md"))?;
    let (mut seeds, mut name) = (Vec::new(), String::new());
    for (n, row) in text.lines().filter(|line| line.starts_with("| ")).enumerate() {
        if let Some(first) = row.split('|').nth(1).map(str::trim).filter(|first| !first.is_empty()) {
            first.split(',').next().unwrap_or(first).trim().clone_into(&mut name);
        }
        let example = row.split_once("`{").and_then(|(_, rest)| rest.split_once("}`"));
        if let Some((example, _)) = example.filter(|_| name.contains(".json") && !name.contains('/')) {
            seeds.push((format!("example-{n}"), packed(&[(name.clone(), format!("{{{example}}}").into_bytes())])));
        }
    }
    Ok(seeds)
}
