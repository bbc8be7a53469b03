//! A directory that is held open, and the files in it.

use std::fs::{self, File};
use std::io::{self, ErrorKind as Io, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use storage_core::{Error, Place, Result};

use super::at::{self, Handle, How, Kind, Stat};
use super::{Identity, io_error, retry, staged, write_all_at};

/// A data directory, or one inside it. Clones share the open directory.
#[derive(Clone, Debug)]
pub(crate) struct Dir {
    handle: Arc<Handle>,
    /// Where it was when it was opened. For messages, and for the look whether it is still there.
    path: Arc<Path>,
    identity: Identity,
}

/// What stands at the path that a directory was opened by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The very directory.
    Here,
    /// Nothing: the directory was renamed, and is still whole.
    Renamed(Option<PathBuf>),
    /// Another one.
    Replaced,
    /// Nothing, and the directory was removed.
    Removed,
}

fn not_regular(path: &Path, found: &str) -> Error {
    Error::corrupt(
        Place::new(path.display().to_string()),
        format!("a {found} stands where a regular file should; put the file itself there"),
    )
}

impl Dir {
    /// Opens a directory; `None` when there is none. A relative path is taken from where the process is now, and means the
    /// same directory wherever the process goes.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>> {
        let path = absolute(path)?;
        match Handle::open(&path) {
            Ok(handle) => Self::of(handle, path).map(Some),
            Err(error) if error.kind() == Io::NotFound => Ok(None),
            Err(error) => Err(io_error(error, "cannot open the directory", &path)),
        }
    }

    /// Opens a directory, made with mode 0700 when missing, parents included.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        if let Some(dir) = Self::open(path)? {
            return Ok(dir);
        }
        let path = absolute(path)?;
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path).map_err(|error| io_error(error, "cannot create the directory", &path))?;
        if let Some(above) = path.parent().map(Self::open).transpose()?.flatten() {
            above.sync()?;
        }
        Handle::open(&path)
            .map_err(|error| io_error(error, "cannot open the directory", &path))
            .and_then(|handle| Self::of(handle, path))
    }

    fn of(handle: Handle, path: PathBuf) -> Result<Self> {
        let stat = handle.stat().map_err(|error| io_error(error, "cannot look at", &path))?;
        Ok(Self { handle: Arc::new(handle), path: path.into(), identity: stat.identity })
    }

    /// Opens a directory inside, made when missing. A symbolic link in its place is refused.
    pub(crate) fn create_sub(&self, name: &str) -> Result<Self> {
        if let Some(sub) = self.sub(name)? {
            return Ok(sub);
        }
        let path = self.join(name);
        let made = match self.handle.make_sub(name) {
            Err(error) if error.kind() == Io::AlreadyExists => Ok(()),
            made => made,
        };
        made.map_err(|error| io_error(error, "cannot create the directory", &path))?;
        let sub = self.sub(name)?.ok_or_else(|| io_error(Io::NotFound.into(), "cannot open the directory", &path))?;
        if let Some((owner, group)) = self.heir(&sub.own_stat()?)? {
            given(sub.handle.give_to(owner, group)).map_err(|error| io_error(error, "cannot give away", &path))?;
        }
        Ok(sub)
    }

    /// Opens a directory inside; `None` when there is none.
    pub(crate) fn sub(&self, name: &str) -> Result<Option<Self>> {
        let path = self.join(name);
        match self.stat_name(name)? {
            None => Ok(None),
            Some(stat) if stat.kind == Kind::Directory => {
                let handle = self.handle.open_sub(name);
                handle
                    .map_err(|error| io_error(error, "cannot open the directory", &path))
                    .and_then(|handle| Self::of(handle, path))
                    .map(Some)
            }
            Some(_) => Err(Error::corrupt(
                Place::new(path.display().to_string()),
                "a symbolic link or file stands where a directory should; put the directory itself there",
            )),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
    /// The path of a file, for messages.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
    /// What the system knows of the directory.
    pub(crate) fn own_stat(&self) -> Result<Stat> {
        self.handle.stat().map_err(|error| io_error(error, "cannot look at", &self.path))
    }

    /// Whether this process may make and replace files here.
    pub(crate) fn may_write(&self) -> bool {
        self.handle.may_write()
    }

    /// What stands at its path now. A path that cannot be looked at tells nothing.
    pub(crate) fn standing(&self) -> Standing {
        match at::stat_path(&self.path) {
            Ok(stat) if stat.identity == self.identity => Standing::Here,
            Ok(_) => Standing::Replaced,
            Err(error) if matches!(error.kind(), Io::NotFound | Io::NotADirectory) => match self.handle.stat() {
                Ok(stat) if stat.names == 0 => Standing::Removed,
                _ => Standing::Renamed(self.handle.present_path()),
            },
            Err(_) => Standing::Here,
        }
    }

    /// Makes names in this directory durable.
    pub(crate) fn sync(&self) -> Result<()> {
        retry(|| self.handle.sync()).map_err(|error| io_error(error, "cannot sync the directory", &self.path))
    }

    /// The names in the directory, sorted.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let mut names = self.handle.names().map_err(|error| io_error(error, "cannot list", &self.path))?;
        names.sort_unstable();
        Ok(names)
    }

    /// What the system knows of a name; a symbolic link is not followed. `None` when there is none.
    pub(crate) fn stat_name(&self, name: &str) -> Result<Option<Stat>> {
        match self.handle.stat_name(name) {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if error.kind() == Io::NotFound => Ok(None),
            Err(error) => Err(io_error(error, "cannot look at", &self.join(name))),
        }
    }

    /// Refuses anything but a regular file; answers whether there is one.
    pub(crate) fn check_regular(&self, name: &str) -> Result<bool> {
        let found = match self.stat_name(name)?.map(|stat| stat.kind) {
            None => return Ok(false),
            Some(Kind::File) => return Ok(true),
            Some(Kind::Directory) => "directory",
            Some(Kind::Link) => "symbolic link",
            Some(Kind::Other) => "special file",
        };
        Err(not_regular(&self.join(name), found))
    }

    /// Opens a file for reading; `None` when there is none.
    pub(crate) fn open_to_read(&self, name: &str) -> Result<Option<File>> {
        if !self.check_regular(name)? {
            return Ok(None);
        }
        match retry(|| self.handle.open_to_read(name)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == Io::NotFound => Ok(None),
            Err(error) => Err(io_error(error, "cannot read", &self.join(name))),
        }
    }

    /// Reads a whole file; `None` when there is none.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(mut file) = self.open_to_read(name)? else { return Ok(None) };
        self.read_whole(&mut file, name).map(Some)
    }

    /// Reads an open file of this directory from its beginning to its end.
    pub(crate) fn read_whole(&self, file: &mut File, name: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| io_error(error, "cannot read", &self.join(name)))?;
        Ok(bytes)
    }

    /// Opens a file of ours for reading and writing, creating it with mode 0600.
    pub(crate) fn open_file(&self, name: &str) -> Result<File> {
        if self.check_regular(name)? {
            return retry(|| self.handle.open_file(name, How::Create))
                .map_err(|error| io_error(error, "cannot open", &self.join(name)));
        }
        let file = retry(|| self.handle.open_file(name, How::Create));
        self.own(file, name)
    }

    /// Opens an existing file for reading and writing; `None` when there is none.
    pub(crate) fn open_existing(&self, name: &str) -> Result<Option<File>> {
        if !self.check_regular(name)? {
            return Ok(None);
        }
        match retry(|| self.handle.open_file(name, How::Existing)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == Io::NotFound => Ok(None),
            Err(error) => Err(io_error(error, "cannot open", &self.join(name))),
        }
    }

    /// A file without a name, which goes when it is closed.
    pub(crate) fn scratch(&self) -> Result<File> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("{SCRATCH}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        // Left by a process of the same number that died at this point.
        self.remove(&name)?;
        let file = self.own(retry(|| self.handle.open_file(&name, How::New)), &name)?;
        self.remove(&name)?;
        Ok(file)
    }

    /// A file that was just made gets the directory's owner when root made it: the next process may not be root's.
    fn own(&self, made: io::Result<File>, name: &str) -> Result<File> {
        let failed = |error| io_error(error, "cannot open", &self.join(name));
        let file = made.map_err(failed)?;
        if let Some((owner, group)) = self.heir(&at::stat_of(&file).map_err(failed)?)? {
            given(at::give_to(&file, owner, group)).map_err(failed)?;
        }
        Ok(file)
    }

    /// Whose a file is that root made here; `None` for everybody else, whose files are their own.
    fn heir(&self, made: &Stat) -> Result<Option<(u32, u32)>> {
        if !at::is_root() {
            return Ok(None);
        }
        let stat = self.own_stat()?;
        let heir = (stat.owner, stat.group);
        Ok(Some(heir).filter(|heir| *heir != (made.owner, made.group)))
    }

    /// Begins a file that will replace `name`.
    pub(super) fn begin_staged(&self, name: &str) -> Result<File> {
        let staged = staged(name);
        self.remove(&staged)?;
        self.open_file(&staged)
    }

    /// Writes a temporary file beside `name` and syncs it; an existing file's mode is kept.
    pub(crate) fn stage(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let file = self.begin_staged(name)?;
        let written = write_all_at(&file, bytes, 0)
            .map_err(|(error, _)| error)
            .and_then(|()| self.keep_mode(name, &file))
            .and_then(|()| file.sync_all());
        written.map_err(|error| {
            drop(file);
            // The staged file holds nothing that is not elsewhere.
            let _ = self.remove(&staged(name));
            io_error(error, "cannot write", &self.join(&staged(name)))
        })
    }

    pub(super) fn keep_mode(&self, name: &str, staged: &File) -> io::Result<()> {
        #[cfg(unix)]
        if let Ok(present) = self.handle.stat_name(name)
            && present.kind == Kind::File
            && present.mode != at::stat_of(staged)?.mode
        {
            staged.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(present.mode))?;
        }
        #[cfg(not(unix))]
        let _ = (name, staged);
        Ok(())
    }

    /// Puts the staged file in place of `name`. The name is durable after [`Dir::sync`].
    pub(crate) fn publish(&self, name: &str) -> Result<()> {
        self.rename(&staged(name), name)
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.handle.rename(from, to).map_err(|error| io_error(error, "cannot rename", &self.join(from)))
    }

    /// Removes a file that holds nothing any more.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        match self.handle.remove(name) {
            Err(error) if error.kind() != Io::NotFound => Err(io_error(error, "cannot remove", &self.join(name))),
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
        let stat = self.stat_name(name)?;
        Ok(stat.map_or((0, 0, 0), |stat| (stat.modified, stat.length, stat.identity.inode)))
    }

    /// When the file was last written, in nanoseconds since 1970, and its length; `None` when there is none.
    pub(crate) fn stat(&self, name: &str) -> Result<Option<(u64, u64)>> {
        Ok(self.stat_name(name)?.map(|stat| (stat.modified, stat.length)))
    }
}

/// Root in a container may have no right to give files away, or not know their owner. That is no reason to refuse: the doctor
/// names such files.
fn given(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if matches!(error.kind(), Io::PermissionDenied | Io::InvalidInput) => Ok(()),
        outcome => outcome,
    }
}

/// What the names of files without a name begin with, for the moment in which they have one.
pub(crate) const SCRATCH: &str = "scratch-";

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| io_error(error, "cannot tell where this is:", path))
}
