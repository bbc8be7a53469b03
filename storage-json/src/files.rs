//! The one home of the disk: every call that touches the data directory stands here.
//!
//! The rules that the callers rely on: a file is replaced by writing a temporary one beside it, syncing it, renaming
//! it and syncing the directory; a sync that failed is never tried again on the same file; what a caller finds in
//! place of a regular file (a symlink, a directory) is refused.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind as Io, Read as _};
use std::path::{Path, PathBuf};

use storage_core::{Error, ErrorKind, Place, Result};

/// A data directory.
#[derive(Clone, Debug)]
pub(crate) struct Dir {
    path: PathBuf,
}

/// Turns an I/O error into the error kind that its code stands for, naming the file.
pub(crate) fn io_error(error: io::Error, what: &str, path: &Path) -> Error {
    let kind = match error.kind() {
        Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => ErrorKind::StorageFull,
        Io::PermissionDenied | Io::ReadOnlyFilesystem => ErrorKind::ReadOnly,
        Io::NotADirectory => {
            let rule = format!("{} is, or lies below, something that is not a directory", path.display());
            return Error::invalid("data directory", rule).caused_by(error);
        }
        _ => ErrorKind::Unavailable,
    };
    let remedy = match kind {
        ErrorKind::StorageFull => "; make room and repeat",
        ErrorKind::ReadOnly => "; check owner and mode",
        _ => "",
    };
    Error::new(kind).message(format!("{what} {}{remedy}", path.display())).caused_by(error)
}

fn not_regular(path: &Path, found: &str) -> Error {
    Error::corrupt(
        Place::new(path.display().to_string()),
        format!("a {found} stands where a regular file should; put the file itself there"),
    )
}

impl Dir {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Creates the directory with mode 0700 when missing, parents included, and syncs the one above.
    pub(crate) fn create(&self) -> Result<()> {
        if self.path.is_dir() {
            return Ok(());
        }
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.path).map_err(|error| io_error(error, "cannot create the directory", &self.path))?;
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => Dir::new(parent.to_owned()).sync(),
            _ => Dir::new(PathBuf::from(".")).sync(),
        }
    }

    /// [`Dir::create`] for a directory within ours, in whose place a symbolic link is refused.
    pub(crate) fn create_private(&self) -> Result<()> {
        if fs::symlink_metadata(&self.path).is_ok_and(|meta| !meta.is_dir()) {
            return Err(not_regular(&self.path, "symbolic link or file"));
        }
        self.create()
    }

    /// Makes names in this directory durable.
    pub(crate) fn sync(&self) -> Result<()> {
        // Windows has no way to open a directory for this; its file system journals names by itself.
        if cfg!(windows) {
            return Ok(());
        }
        File::open(&self.path)
            .and_then(|dir| dir.sync_all())
            .map_err(|error| io_error(error, "cannot sync the directory", &self.path))
    }

    /// The names in the directory; empty when there is no directory.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let failed = |error| io_error(error, "cannot list", &self.path);
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == Io::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Refuses anything but a regular file; answers whether there is one.
    pub(crate) fn check_regular(&self, name: &str) -> Result<bool> {
        let path = self.join(name);
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_file() => Ok(true),
            Ok(meta) if meta.is_dir() => Err(not_regular(&path, "directory")),
            Ok(meta) if meta.is_symlink() => Err(not_regular(&path, "symbolic link")),
            Ok(_) => Err(not_regular(&path, "special file")),
            Err(error) if error.kind() == Io::NotFound => Ok(false),
            Err(error) => Err(io_error(error, "cannot look at", &path)),
        }
    }

    /// Reads a whole file; `None` when there is none.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        if !self.check_regular(name)? {
            return Ok(None);
        }
        let path = self.join(name);
        let mut bytes = Vec::new();
        File::open(&path)
            .and_then(|mut file| file.read_to_end(&mut bytes))
            .map_err(|error| io_error(error, "cannot read", &path))?;
        Ok(Some(bytes))
    }

    /// Opens a file of ours for reading and writing, creating it with mode 0600.
    pub(crate) fn open(&self, name: &str) -> Result<File> {
        self.check_regular(name)?;
        let path = self.join(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        retry(|| options.open(&path)).map_err(|error| io_error(error, "cannot open", &path))
    }

    /// Opens an existing file for reading and writing; `None` when there is none.
    pub(crate) fn open_existing(&self, name: &str) -> Result<Option<File>> {
        if self.check_regular(name)? { self.open(name).map(Some) } else { Ok(None) }
    }

    /// A file without a name, which goes when it is closed.
    pub(crate) fn scratch(&self) -> Result<File> {
        tempfile::tempfile_in(&self.path).map_err(|error| io_error(error, "cannot make a file in", &self.path))
    }

    /// Writes a temporary file beside `name` and syncs it; an existing file's mode is kept.
    pub(crate) fn stage(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let staged = staged(name);
        self.remove(&staged)?;
        let path = self.join(&staged);
        let file = self.open(&staged)?;
        let written = write_all_at(&file, bytes, 0)
            .map_err(|(error, _)| error)
            .and_then(|()| self.keep_mode(name, &file))
            .and_then(|()| file.sync_all());
        written.map_err(|error| {
            drop(file);
            // The staged file holds nothing that is not elsewhere.
            let _ = self.remove(&staged);
            io_error(error, "cannot write", &path)
        })
    }

    fn keep_mode(&self, name: &str, staged: &File) -> io::Result<()> {
        match fs::symlink_metadata(self.join(name)) {
            Ok(meta) if meta.is_file() => {
                let (wanted, present) = (meta.permissions(), staged.metadata()?.permissions());
                if wanted == present { Ok(()) } else { staged.set_permissions(wanted) }
            }
            _ => Ok(()),
        }
    }

    /// Puts the staged file in place of `name`. The name is durable after [`Dir::sync`].
    pub(crate) fn publish(&self, name: &str) -> Result<()> {
        self.rename(&staged(name), name)
    }

    #[expect(clippy::disallowed_methods, reason = "the one home of renames; callers sync the directory")]
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<()> {
        fs::rename(self.join(from), self.join(to)).map_err(|error| io_error(error, "cannot rename", &self.join(from)))
    }

    /// Removes a file that holds nothing any more.
    #[expect(clippy::disallowed_methods, reason = "the one home of removals")]
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        let path = self.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != Io::NotFound => Err(io_error(error, "cannot remove", &path)),
            _ => Ok(()),
        }
    }

    /// Proves that the disk takes a file.
    pub(crate) fn probe(&self) -> Result<()> {
        const PROBE: &str = "ping";
        self.stage(PROBE, b"ping\n")?;
        self.remove(&staged(PROBE))
    }

    /// What changes whenever a file is replaced: its time, length and, where there is one, its inode.
    pub(crate) fn stamp(&self, name: &str) -> Result<(u64, u64, u64)> {
        let (modified, length) = self.stat(name)?.unwrap_or_default();
        #[cfg(unix)]
        let inode = fs::symlink_metadata(self.join(name)).map_or(0, |meta| std::os::unix::fs::MetadataExt::ino(&meta));
        #[cfg(not(unix))]
        let inode = 0;
        Ok((modified, length, inode))
    }

    /// When the file was last written, in nanoseconds since 1970, and its length; `None` when there is none.
    pub(crate) fn stat(&self, name: &str) -> Result<Option<(u64, u64)>> {
        let path = self.join(name);
        match fs::symlink_metadata(&path) {
            Ok(meta) => {
                let modified = meta
                    .modified()
                    .ok()
                    .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
                    .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
                Ok(Some((modified, meta.len())))
            }
            Err(error) if error.kind() == Io::NotFound => Ok(None),
            Err(error) => Err(io_error(error, "cannot look at", &path)),
        }
    }
}

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
            dir.remove(&staged(name))?;
            files.push((dir, dir.open(&staged(name))?));
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

/// The name under which a file is prepared before it replaces the one in use.
pub(crate) fn staged(name: &str) -> String {
    format!("{name}.tmp")
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == Io::Interrupted => {}
            outcome => return outcome,
        }
    }
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::write_at(file, bytes, offset)
}
#[cfg(windows)]
fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_write(file, bytes, offset)
}
#[cfg(unix)]
fn read_once_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}
#[cfg(windows)]
fn read_once_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}

/// Writes all bytes at an offset. An error says how many bytes had gone in before it.
pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> Result<(), (io::Error, usize)> {
    let mut done = 0;
    while done < bytes.len() {
        match retry(|| write_at(file, &bytes[done..], offset + done as u64)) {
            Ok(0) => return Err((Io::WriteZero.into(), done)),
            Ok(count) => done += count,
            Err(error) => return Err((error, done)),
        }
    }
    Ok(())
}

/// Reads up to `buffer.len()` bytes at an offset; fewer only at the end of the file.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match retry(|| read_once_at(file, &mut buffer[done..], offset + done as u64))? {
            0 => break,
            count => done += count,
        }
    }
    Ok(done)
}
