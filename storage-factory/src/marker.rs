//! What a data directory remembers of the backend that was used from it, so that `auto` never switches unasked between
//! two stores that know nothing of each other.
//!
//! The file `backend.json` is written before the thing that it remembers can be used: a crash in between leaves a mark too
//! many, which costs a question, and never one too few, which would cost money.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use storage_core::{Error, ErrorKind, Place, Result, Timestamp};

/// The file's name.
pub(crate) const NAME: &str = "backend.json";
/// The file's format.
pub(crate) const FORMAT: u32 = 1;

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marker {
    pub(crate) format: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) postgres: Option<Used>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fallback: Option<FellBack>,
}

/// A database that was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Used {
    /// The id that the store was founded with.
    pub(crate) store_id: String,
    /// Where it was, without secrets.
    pub(crate) location: String,
    /// Since when.
    pub(crate) since: Timestamp,
}

/// A database that could not be reached, so that JSON was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FellBack {
    /// Since when.
    pub(crate) since: Timestamp,
    /// Which database was meant, without secrets.
    pub(crate) location: String,
}

impl Marker {
    /// Reads a directory's marker; a missing one is empty. Changes nothing.
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let file = dir.join(NAME);
        let corrupt = |problem: String| Error::corrupt(Place::new(file.display().to_string()), problem);
        let text = match fs::read(&file) {
            Ok(text) => text,
            // A path through something that is no directory holds no marker, and no store either.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Self::default());
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let message = format!(
                    "permission denied reading {}, which tells which backend was used here; run this as the user that owns \
                     it, or as root: chown --reference={} {}",
                    file.display(),
                    dir.display(),
                    file.display()
                );
                return Err(Error::new(ErrorKind::ReadOnly).message(message).caused_by(error));
            }
            Err(error) if error.kind() != io::ErrorKind::IsADirectory => {
                let message = format!("{}, which tells which backend was used here, cannot be read", file.display());
                return Err(Error::new(ErrorKind::Unavailable).message(message).caused_by(error));
            }
            Err(error) => {
                return Err(
                    corrupt("it tells which backend was used here and cannot be read".to_owned()).caused_by(error)
                );
            }
        };
        let marker: Self = serde_json::from_slice(&text).map_err(|error| {
            corrupt("it tells which backend was used here and cannot be understood".to_owned()).caused_by(error)
        })?;
        if marker.format == FORMAT {
            Ok(marker)
        } else {
            Err(corrupt(format!("its format is {}, and this program knows {FORMAT}", marker.format)))
        }
    }

    /// Whether nothing is remembered.
    pub(crate) fn is_empty(&self) -> bool {
        self.postgres.is_none() && self.fallback.is_none()
    }
}

/// The refusal of JSON where PostgreSQL was used.
pub(crate) fn json_after_postgres(dir: &Path, used: &Used) -> Error {
    let Used { location, since, .. } = used;
    let dir = dir.display();
    Error::conflict(
        "backend",
        "json",
        format!(
            "PostgreSQL at {location} has been used from {dir} since {since}, and JSON files know nothing of it: set \
             DATABASE_URL and start the server; or STORAGE_MODE=json goes on with the files, and `storage merge --from \
             json:{dir} --to DATABASE_URL` brings together afterwards what belongs together"
        ),
    )
    .in_operation("connect")
}
