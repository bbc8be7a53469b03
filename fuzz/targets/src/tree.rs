//! A directory as bytes: put down before an input is tried, taken up to see what became of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::{Finding, shown};

/// The files of a directory by their paths in it.
pub(crate) type Tree = BTreeMap<String, Vec<u8>>;

/// Makes a directory hold these files and nothing else.
#[expect(
    clippy::disallowed_methods,
    reason = "a store's directory as a crash or an editor left it, not a store at work"
)]
pub(crate) fn put(tree: &Tree, dir: &Path) -> Result<(), Finding> {
    if dir.is_dir() {
        fs::remove_dir_all(dir).map_err(shown)?;
    } else if dir.exists() {
        fs::remove_file(dir).map_err(shown)?;
    }
    fs::create_dir_all(dir).map_err(shown)?;
    for (name, bytes) in tree {
        let path = dir.join(name);
        if let Some(parent) = path.parent().filter(|parent| *parent != dir) {
            fs::create_dir_all(parent).map_err(shown)?;
        }
        fs::write(path, bytes).map_err(shown)?;
    }
    Ok(())
}

/// The locks of a store.
const LOCKS: [&str; 3] = ["presence.lock", "writer.lock", "checkpoint.lock"];

/// The files of a directory, but not a store's locks, whose contents are only for people.
pub(crate) fn take(dir: &Path) -> Result<Tree, Finding> {
    let mut tree = everything(dir)?;
    tree.retain(|name, _| !LOCKS.contains(&name.as_str()));
    Ok(tree)
}

/// The files of a directory, whatever their names: of a directory that is no store.
pub(crate) fn everything(dir: &Path) -> Result<Tree, Finding> {
    let mut tree = Tree::new();
    gather(dir, "", &mut tree)?;
    Ok(tree)
}

fn gather(dir: &Path, prefix: &str, tree: &mut Tree) -> Result<(), Finding> {
    for entry in fs::read_dir(dir).map_err(shown)? {
        let entry = entry.map_err(shown)?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type().map_err(shown)?.is_dir() {
            gather(&entry.path(), &format!("{name}/"), tree)?;
        } else {
            tree.insert(name, fs::read(entry.path()).map_err(shown)?);
        }
    }
    Ok(())
}

/// What is not the same in two directories.
pub(crate) fn difference(before: &Tree, after: &Tree) -> Option<String> {
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed: Vec<&str> =
        names.into_iter().filter(|name| before.get(*name) != after.get(*name)).map(String::as_str).collect();
    (!changed.is_empty()).then(|| changed.join(", "))
}
