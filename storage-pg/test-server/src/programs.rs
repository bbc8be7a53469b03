//! Where the servers' programs are installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::account::path_variable;

/// The directory with `initdb` and `postgres`.
pub(crate) fn postgres_directory() -> Result<PathBuf, String> {
    if let Some(chosen) = std::env::var_os("PG_BIN_DIR") {
        let chosen = PathBuf::from(chosen);
        return if is_complete(&chosen) {
            Ok(chosen)
        } else {
            Err(format!("PG_BIN_DIR is {}, but initdb and postgres are not both there", chosen.display()))
        };
    }
    let newest = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, directory)| is_complete(directory))
        .max();
    if let Some((_, directory)) = newest {
        return Ok(directory);
    }
    // pg_config comes with the client library too: the server may still be missing where it points.
    Command::new("pg_config")
        .arg("--bindir")
        .output()
        .ok()
        .map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
        .filter(|directory| is_complete(directory))
        .ok_or_else(|| {
            "the PostgreSQL server is missing: apt-get install postgresql, or set PG_BIN_DIR to the directory \
             that holds initdb and postgres"
                .to_owned()
        })
}

/// A program by its name, which a package brings.
pub(crate) fn find(program: &str, package: &str) -> Result<PathBuf, String> {
    std::env::split_paths(&path_variable())
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
        .ok_or_else(|| format!("{program} is missing: apt-get install {package}"))
}

fn is_complete(directory: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|program| directory.join(program).is_file())
}
