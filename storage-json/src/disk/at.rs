//! System calls on names inside a directory that is already open.
//!
//! A path may lead elsewhere at every call: somebody renames a directory, switches a symbolic link, mounts over it. An open
//! directory stays the same one, so that nothing here can reach into a stranger's.

use std::fs::File;
use std::io;
use std::path::Path;

#[cfg(not(unix))]
pub(crate) use portable::Handle;
#[cfg(unix)]
pub(crate) use unix::Handle;

/// What tells one file or directory from every other, for as long as somebody has it open: a number is used again only
/// after the last one has closed it. All zero where the system has no such numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl Identity {
    /// The identity of an open file.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        stat_of(file).map(|stat| stat.identity)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Link,
    Other,
}

/// What the system knows of a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) kind: Kind,
    pub(crate) identity: Identity,
    /// How many names it has; 0 when it was removed.
    pub(crate) names: u64,
    pub(crate) length: u64,
    /// When its contents changed, in nanoseconds since 1970. People can set it.
    pub(crate) modified: u64,
    /// When anything about it changed; for a directory, its names too. Nobody can set it.
    pub(crate) changed: u64,
    pub(crate) mode: u32,
    pub(crate) owner: u32,
    pub(crate) group: u32,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// It must be there.
    Existing,
    /// Made when missing, with mode 0600.
    Create,
    /// Made with mode 0600; an error when it is there.
    New,
}

#[cfg(unix)]
pub(crate) use unix::{give_to, is_root, stat_of, stat_path};

#[cfg(unix)]
mod unix {
    use std::os::fd::OwnedFd;

    use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Uid};

    use super::{File, How, Identity, Kind, Path, Stat, io};

    /// An open directory.
    #[derive(Debug)]
    pub(crate) struct Handle(OwnedFd);

    const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

    impl Handle {
        pub(crate) fn open(path: &Path) -> io::Result<Self> {
            Ok(Self(fs::open(path, DIRECTORY, Mode::empty())?))
        }
        /// A directory inside; a symbolic link there is an error.
        pub(crate) fn open_sub(&self, name: &str) -> io::Result<Self> {
            Ok(Self(fs::openat(&self.0, name, DIRECTORY.union(OFlags::NOFOLLOW), Mode::empty())?))
        }
        pub(crate) fn make_sub(&self, name: &str) -> io::Result<()> {
            Ok(fs::mkdirat(&self.0, name, Mode::RWXU)?)
        }
        pub(crate) fn open_file(&self, name: &str, how: How) -> io::Result<File> {
            let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let flags = flags
                | match how {
                    How::Existing => OFlags::empty(),
                    How::Create => OFlags::CREATE,
                    How::New => OFlags::CREATE | OFlags::EXCL,
                };
            Ok(fs::openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?.into())
        }
        /// For reading alone: a reader may have no right to more.
        pub(crate) fn open_to_read(&self, name: &str) -> io::Result<File> {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            Ok(fs::openat(&self.0, name, flags, Mode::empty())?.into())
        }
        /// Of the directory itself.
        pub(crate) fn stat(&self) -> io::Result<Stat> {
            Ok(read(&fs::fstat(&self.0)?))
        }
        /// Of a name inside; a symbolic link is not followed.
        pub(crate) fn stat_name(&self, name: &str) -> io::Result<Stat> {
            Ok(read(&fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?))
        }
        pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            Ok(fs::renameat(&self.0, from, &self.0, to)?)
        }
        pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
            Ok(fs::unlinkat(&self.0, name, AtFlags::empty())?)
        }
        pub(crate) fn names(&self) -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::Dir::read_from(&self.0)? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                if name != "." && name != ".." {
                    names.push(name);
                }
            }
            Ok(names)
        }
        pub(crate) fn sync(&self) -> io::Result<()> {
            Ok(fs::fsync(&self.0)?)
        }
        pub(crate) fn give_to(&self, owner: u32, group: u32) -> io::Result<()> {
            Ok(fs::fchown(&self.0, Some(Uid::from_raw(owner)), Some(Gid::from_raw(group)))?)
        }
        pub(crate) fn may_write(&self) -> bool {
            let access = fs::Access::WRITE_OK | fs::Access::EXEC_OK;
            fs::accessat(&self.0, ".", access, AtFlags::EACCESS) != Err(rustix::io::Errno::ACCESS)
        }
        /// Where the directory is by now, as far as the system tells.
        pub(crate) fn present_path(&self) -> Option<std::path::PathBuf> {
            use std::os::fd::AsRawFd as _;
            std::fs::read_link(format!("/proc/self/fd/{}", self.0.as_raw_fd())).ok()
        }
    }

    /// The fields have other types on other systems.
    fn wide(number: impl Into<i128>) -> u64 {
        u64::try_from(number.into() & i128::from(u64::MAX)).unwrap_or_default()
    }

    fn read(stat: &fs::Stat) -> Stat {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Link,
            _ => Kind::Other,
        };
        let nanos = |seconds: u64, rest: u64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Stat {
            kind,
            identity: Identity { device: wide(stat.st_dev), inode: wide(stat.st_ino) },
            names: wide(stat.st_nlink),
            length: wide(stat.st_size),
            modified: nanos(wide(stat.st_mtime), wide(stat.st_mtime_nsec)),
            changed: nanos(wide(stat.st_ctime), wide(stat.st_ctime_nsec)),
            mode: u32::try_from(wide(stat.st_mode) & 0o7777).unwrap_or_default(),
            owner: stat.st_uid,
            group: stat.st_gid,
        }
    }

    pub(crate) fn stat_of(file: &File) -> io::Result<Stat> {
        Ok(read(&fs::fstat(file)?))
    }
    /// Of what a path leads to, through symbolic links.
    pub(crate) fn stat_path(path: &Path) -> io::Result<Stat> {
        Ok(read(&fs::stat(path)?))
    }
    pub(crate) fn give_to(file: &File, owner: u32, group: u32) -> io::Result<()> {
        Ok(fs::fchown(file, Some(Uid::from_raw(owner)), Some(Gid::from_raw(group)))?)
    }
    pub(crate) fn is_root() -> bool {
        rustix::process::geteuid().is_root()
    }
}

#[cfg(not(unix))]
pub(crate) use portable::{give_to, is_root, stat_of, stat_path};

/// Where there are no calls relative to an open directory: by path, so that a directory that is replaced while it is open
/// is not noticed. Never compiled for such a system so far.
#[cfg(not(unix))]
mod portable {
    use std::fs::{self, OpenOptions};
    use std::path::PathBuf;

    use super::{File, How, Identity, Kind, Path, Stat, io};

    #[derive(Debug)]
    pub(crate) struct Handle(PathBuf);

    impl Handle {
        pub(crate) fn open(path: &Path) -> io::Result<Self> {
            if fs::metadata(path)?.is_dir() {
                Ok(Self(path.to_owned()))
            } else {
                Err(io::ErrorKind::NotADirectory.into())
            }
        }
        pub(crate) fn open_sub(&self, name: &str) -> io::Result<Self> {
            Self::open(&self.0.join(name))
        }
        pub(crate) fn make_sub(&self, name: &str) -> io::Result<()> {
            fs::create_dir(self.0.join(name))
        }
        pub(crate) fn open_file(&self, name: &str, how: How) -> io::Result<File> {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(how == How::Create).create_new(how == How::New);
            options.open(self.0.join(name))
        }
        pub(crate) fn open_to_read(&self, name: &str) -> io::Result<File> {
            File::open(self.0.join(name))
        }
        pub(crate) fn stat(&self) -> io::Result<Stat> {
            fs::metadata(&self.0).map(|meta| read(&meta))
        }
        pub(crate) fn stat_name(&self, name: &str) -> io::Result<Stat> {
            fs::symlink_metadata(self.0.join(name)).map(|meta| read(&meta))
        }
        #[expect(clippy::disallowed_methods, reason = "the one home of renames; callers sync the directory")]
        pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            fs::rename(self.0.join(from), self.0.join(to))
        }
        #[expect(clippy::disallowed_methods, reason = "the one home of removals")]
        pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
            fs::remove_file(self.0.join(name))
        }
        pub(crate) fn names(&self) -> io::Result<Vec<String>> {
            fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
        }
        /// Windows has no way to open a directory for this; its file system journals names by itself.
        pub(crate) fn sync(&self) -> io::Result<()> {
            Ok(())
        }
        pub(crate) fn give_to(&self, _: u32, _: u32) -> io::Result<()> {
            Ok(())
        }
        pub(crate) fn may_write(&self) -> bool {
            fs::metadata(&self.0).is_ok_and(|meta| !meta.permissions().readonly())
        }
        pub(crate) fn present_path(&self) -> Option<PathBuf> {
            None
        }
    }

    fn read(meta: &fs::Metadata) -> Stat {
        let kind = if meta.is_file() {
            Kind::File
        } else if meta.is_dir() {
            Kind::Directory
        } else if meta.is_symlink() {
            Kind::Link
        } else {
            Kind::Other
        };
        let since = meta.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        let modified = since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        Stat {
            kind,
            identity: Identity::default(),
            names: 1,
            length: meta.len(),
            modified,
            changed: modified,
            mode: 0,
            owner: 0,
            group: 0,
        }
    }

    pub(crate) fn stat_of(file: &File) -> io::Result<Stat> {
        file.metadata().map(|meta| read(&meta))
    }
    pub(crate) fn stat_path(path: &Path) -> io::Result<Stat> {
        fs::metadata(path).map(|meta| read(&meta))
    }
    pub(crate) fn give_to(_: &File, _: u32, _: u32) -> io::Result<()> {
        Ok(())
    }
    pub(crate) fn is_root() -> bool {
        false
    }
}
