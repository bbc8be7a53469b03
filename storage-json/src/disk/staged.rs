//! Files that are written beside the ones they will replace.

use std::fs::File;
use std::io;

use storage_core::{Error, Result};

use super::{Dir, io_error, staged, write_all_at};

/// A file that is being written, piece by piece, to replace the one in use; the same bytes may go to a second directory.
pub(crate) struct Staged<'a> {
    name: String,
    files: Vec<(&'a Dir, File)>,
    pub(crate) bytes: Vec<u8>,
    written: u64,
    unsynced: u64,
    crc: crc32fast::Hasher,
}

impl<'a> Staged<'a> {
    /// How much is written at a time.
    const PIECE: usize = 256 * 1024;
    /// How much may wait in the page cache. A sync of everything at the end would keep the disk from others for long.
    const UNSYNCED: u64 = 4 * 1024 * 1024;

    pub(crate) fn begin(name: &str, dirs: impl IntoIterator<Item = &'a Dir>) -> Result<Self> {
        let mut files = Vec::new();
        for dir in dirs {
            files.push((dir, dir.begin_staged(name)?));
        }
        let (written, unsynced, crc) = Default::default();
        Ok(Self { name: name.to_owned(), files, bytes: Vec::with_capacity(2 * Self::PIECE), written, unsynced, crc })
    }

    fn failed(&self, dir: &Dir, error: io::Error) -> Error {
        io_error(error, "cannot write", &dir.join(&staged(&self.name)))
    }

    /// Writes what waits in `bytes` when it is enough to be worth a call.
    pub(crate) fn flush_if_full(&mut self) -> Result<()> {
        if self.bytes.len() < Self::PIECE { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<()> {
        self.crc.update(&self.bytes);
        for (dir, file) in &self.files {
            write_all_at(file, &self.bytes, self.written).map_err(|(error, _)| self.failed(dir, error))?;
        }
        self.written += self.bytes.len() as u64;
        self.unsynced += self.bytes.len() as u64;
        self.bytes.clear();
        if self.unsynced >= Self::UNSYNCED {
            self.unsynced = 0;
            for (dir, file) in &self.files {
                file.sync_data().map_err(|error| self.failed(dir, error))?;
            }
        }
        Ok(())
    }

    /// Makes the file durable under its staged name; an existing file's mode is kept. Answers length and checksum.
    pub(crate) fn finish(mut self) -> Result<(u64, u32)> {
        self.flush()?;
        for (dir, file) in &self.files {
            dir.keep_mode(&self.name, file).and_then(|()| file.sync_all()).map_err(|error| self.failed(dir, error))?;
        }
        self.files.clear();
        Ok((self.written, self.crc.clone().finalize()))
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        // Not finished: it holds nothing that is not elsewhere.
        for (dir, _) in self.files.drain(..) {
            let _ = dir.remove(&staged(&self.name));
        }
    }
}
