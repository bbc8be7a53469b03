//! The one home of the disk: every call that touches the data directory stands here.
//!
//! The rules that the callers rely on: names are looked up in the directory that was opened, wherever it is by now; a file is
//! replaced by writing a temporary one beside it, syncing it, renaming it and syncing the directory; a sync that failed is never
//! tried again on the same file; what stands in place of a regular file (a symlink, a directory) is refused.

mod at;
mod dir;
mod mount;
mod staged;

use std::fs::File;
use std::io::{self, ErrorKind as Io};
use std::path::Path;

use storage_core::{Error, ErrorKind};

pub(crate) use at::{Identity, Kind, stat_of, stat_path};
pub(crate) use dir::{Dir, SCRATCH, Standing};
pub(crate) use mount::{Mount, Nature, free};
pub(crate) use staged::Staged;

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
    let remedy = match error.kind() {
        Io::PermissionDenied => permission_remedy(path),
        Io::ReadOnlyFilesystem => "; the file system is mounted read-only".to_owned(),
        _ if kind == ErrorKind::StorageFull => "; make room and repeat".to_owned(),
        _ => String::new(),
    };
    Error::new(kind).message(format!("{what} {}{remedy}", path.display())).caused_by(error)
}

/// Whether a call failed before it did anything, for want of a file descriptor: it may be repeated.
pub(crate) fn lacks_descriptors(error: &Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let code = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error());
        code.is_some_and(|code| [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error).contains(&code))
    }
    #[cfg(not(unix))]
    {
        let _ = error;
        false
    }
}

/// A path as a shell takes it.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |character: char| character.is_alphanumeric() || "/._-+:@%,=".contains(character);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// What helps a process that has no right to a file.
fn permission_remedy(path: &Path) -> String {
    let owner_of = |path: &Path| at::stat_path(path).ok().map(|stat| stat.owner);
    let (Some(owner), Some(above)) = (owner_of(path), path.parent()) else {
        return ": permission denied; run this as the user who owns the directory".to_owned();
    };
    // A file that root made in somebody's directory keeps everybody else out.
    if owner_of(above).is_some_and(|above| above != owner) && path.is_file() {
        return format!(
            ": permission denied; it belongs to user {owner}, its directory to another; as root: chown --reference={} {}",
            quoted(above),
            quoted(path)
        );
    }
    format!(": permission denied; run this as its owner, user {owner}")
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
