//! Which file system a directory lies on, and how much room it has. Only for the doctor: nothing else depends on it.

use std::path::{Path, PathBuf};

/// A mounted file system, as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) at: PathBuf,
    pub(crate) kind: String,
    pub(crate) read_only: bool,
}

/// What a kind of file system means for a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nature {
    /// A disk.
    Local,
    /// Memory: gone with the machine.
    Memory,
    /// The writable layer of a container: gone with the container.
    Layer,
    /// Another machine's: its locks and syncs promise less.
    Network,
}

impl Mount {
    /// The one that a directory lies on; `None` where the system does not tell.
    pub(crate) fn of(dir: &Path) -> Option<Self> {
        let list = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        let dir = dir.canonicalize().ok()?;
        // Of two on one place the later one is on top.
        Self::list(&list).filter(|mount| dir.starts_with(&mount.at)).max_by_key(|mount| mount.at.components().count())
    }

    /// The names in a directory that are mounts of their own, which no rename can replace.
    pub(crate) fn inside(dir: &Path) -> Vec<String> {
        let list = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let Ok(dir) = dir.canonicalize() else { return Vec::new() };
        Self::list(&list)
            .filter_map(|mount| Some(mount.at.strip_prefix(&dir).ok()?.display().to_string()))
            .filter(|name| !name.is_empty())
            .collect()
    }

    fn list(text: &str) -> impl Iterator<Item = Self> {
        text.lines().filter_map(|line| {
            let (about, kind) = line.split_once(" - ")?;
            let mut about = about.split(' ').skip(4);
            let (at, options) = (unescaped(about.next()?), about.next()?);
            let mut kind = kind.split(' ');
            let (name, of_device) = (kind.next()?, kind.nth(1).unwrap_or_default());
            let read_only = [options, of_device].iter().any(|options| options.split(',').any(|option| option == "ro"));
            Some(Self { at: at.into(), kind: name.to_owned(), read_only })
        })
    }

    pub(crate) fn nature(&self) -> Nature {
        match self.kind.as_str() {
            "tmpfs" | "ramfs" => Nature::Memory,
            "overlay" | "aufs" => Nature::Layer,
            "nfs" | "nfs4" | "cifs" | "smb3" | "smbfs" | "9p" | "afs" | "ceph" | "glusterfs" | "lustre"
            | "virtiofs" => Nature::Network,
            kind if kind.starts_with("fuse") && kind != "fuseblk" => Nature::Network,
            _ => Nature::Local,
        }
    }
}

/// The kernel writes spaces, tabs, new lines and backslashes as three octal digits.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, character)| text.replace(code, character))
}

/// Bytes that this user may still write there; `None` where the system does not tell.
#[cfg(unix)]
pub(crate) fn free(dir: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}
#[cfg(not(unix))]
pub(crate) fn free(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_is_read() {
        let list = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro\n\
                    40 22 0:35 / /mnt/my\\040disk ro,nosuid - nfs4 host:/x rw,vers=4.2\n\
                    41 22 0:36 / /run rw shared:9 master:1 - tmpfs tmpfs rw,size=1k\n\
                    broken line\n";
        let mounts: Vec<_> = Mount::list(list).collect();
        assert_eq!(mounts.len(), 3);
        assert_eq!((mounts[0].nature(), mounts[0].read_only), (Nature::Local, false));
        assert_eq!((mounts[1].at.as_path(), mounts[1].nature()), (Path::new("/mnt/my disk"), Nature::Network));
        assert!(mounts[1].read_only);
        assert_eq!(mounts[2].nature(), Nature::Memory);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_directory_lies_somewhere_and_has_room() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Mount::of(dir.path()).is_some());
        assert!(free(dir.path()).is_some_and(|free| free > 0));
        assert_eq!(free(&dir.path().join("missing")), None);
    }
}
