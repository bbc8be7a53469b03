//! Who holds a lock: what the kernel says where it tells, else what the holders wrote into the lock file.

use std::fmt;
use std::fs::File;

use storage_core::Timestamp;

use crate::disk::{Identity, read_at, write_all_at};

/// Who holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) pid: Option<u32>,
    /// When it opened the store, or took the lock.
    pub(crate) since: Option<Timestamp>,
    state: State,
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It runs, or cannot be looked at.
    Running,
    Stopped,
    Gone,
}

/// The longest text that is read from a lock file.
const MOST_TEXT: usize = 64 * 1024;

impl Holder {
    /// Notes that this process holds the lock, unless it is noted already. The caller holds it exclusively.
    pub(crate) fn sign(file: &File, now: impl FnOnce() -> Timestamp) {
        let own = format!("{} ", std::process::id());
        let mut noted = [0; 12];
        let same = read_at(file, &mut noted, 0).is_ok_and(|count| noted[..count].starts_with(own.as_bytes()));
        if !same {
            // Padded: what a longer note left must not be read as part of this one.
            let note = format!("{:<63}\n", format!("{own}{}", now()));
            let _ = write_all_at(file, note.as_bytes(), 0);
        }
    }

    /// The holder of a lock file. Of several, another process than this one, where there is one.
    pub(crate) fn of(file: &File) -> Self {
        let noted = noted(file);
        let told = kernel::holders(file);
        let own = std::process::id();
        let pid = match told.as_deref() {
            Some(pids) => pids.iter().find(|pid| **pid != own).or(pids.first()).copied().filter(|pid| *pid != 0),
            None => {
                let living = noted.iter().find(|(pid, _)| kernel::state(*pid) != State::Gone);
                living.or(noted.first()).map(|(pid, _)| *pid)
            }
        };
        let since = noted.iter().find(|(noted, _)| Some(*noted) == pid).and_then(|(_, since)| *since);
        Self { pid, since, state: pid.map_or(State::Running, kernel::state) }
    }
}

impl Holder {
    pub(crate) fn is_stopped(&self) -> bool {
        self.state == State::Stopped
    }

    /// For the middle of a sentence: "process 7 has it open".
    pub(crate) fn has_it_open(&self) -> String {
        match self.pid {
            Some(pid) if pid == std::process::id() => "this very process has it open".to_owned(),
            Some(pid) => format!("process {pid} has it open"),
            None => "a process that cannot be seen from here has it open".to_owned(),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(pid) = self.pid else {
            return f.write_str("a process that cannot be seen from here; look in the other containers and machines");
        };
        if pid == std::process::id() {
            return f.write_str("this very process, which has the store open already");
        }
        match self.state {
            State::Running => write!(f, "process {pid}; end it, or wait for it"),
            State::Stopped => write!(f, "process {pid}, which is stopped; let it go on: kill -CONT {pid}"),
            State::Gone => write!(f, "process {pid}, which is gone: a process that it started may have kept the lock"),
        }
    }
}

/// The text of a lock file.
pub(crate) fn text(file: &File) -> String {
    let mut buffer = vec![0; MOST_TEXT];
    let count = read_at(file, &mut buffer, 0).unwrap_or(0);
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

/// Processes and times that stand in a lock file, one in a line.
fn noted(file: &File) -> Vec<(u32, Option<Timestamp>)> {
    text(file).lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<(u32, Option<Timestamp>)> {
    let mut words = line.split_whitespace();
    Some((words.next()?.parse().ok()?, words.next().and_then(|since| since.parse().ok())))
}

/// The lines of a lock file that name a process which may still be there.
pub(crate) fn living_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|text| line(text).is_some_and(|(pid, _)| kernel::state(pid) != State::Gone))
}

/// What the kernel of Linux tells; elsewhere nothing.
mod kernel {
    use super::{File, Identity, State};

    /// The processes that hold a lock on a file; 0 for one in another container. `None` where the kernel does not tell.
    pub(super) fn holders(file: &File) -> Option<Vec<u32>> {
        let Identity { device, inode } = Identity::of(file).ok()?;
        let list = std::fs::read_to_string("/proc/locks").ok()?;
        let pids: Vec<u32> = list.lines().filter_map(|line| holder(line, device, inode)).collect();
        // Some file systems show a device there that no file is said to be on.
        (!pids.is_empty()).then_some(pids)
    }

    /// `1: FLOCK  ADVISORY  WRITE 1234 fd:00:5678 0 EOF`; one that waits has `->` behind the number.
    pub(super) fn holder(line: &str, device: u64, inode: u64) -> Option<u32> {
        let mut words = line.split_whitespace().skip(1);
        let ("FLOCK", _, _, pid, place) = (words.next()?, words.next()?, words.next()?, words.next()?, words.next()?)
        else {
            return None;
        };
        let mut place = place.split(':');
        let mut hex = || u64::from_str_radix(place.next()?, 16).ok();
        let (major, minor) = (hex()?, hex()?);
        let same = (major, minor) == numbers(device) && place.next()?.parse() == Ok(inode);
        same.then(|| pid.parse().unwrap_or(0))
    }

    #[cfg(unix)]
    fn numbers(device: u64) -> (u64, u64) {
        // The numbers of a device have another type on other systems, where nothing is read here.
        #[cfg(target_os = "linux")]
        return (rustix::fs::major(device).into(), rustix::fs::minor(device).into());
        #[cfg(not(target_os = "linux"))]
        (device, device)
    }
    #[cfg(not(unix))]
    fn numbers(device: u64) -> (u64, u64) {
        (device, device)
    }

    /// What can be told of a process whose files are not shown: where they are hidden from other users, it may well live.
    fn hidden(pid: u32) -> State {
        #[cfg(unix)]
        if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw)
            && rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::PERM)
        {
            return State::Running;
        }
        let _ = pid;
        State::Gone
    }

    pub(super) fn state(pid: u32) -> State {
        if !std::path::Path::new("/proc/self/stat").exists() {
            return State::Running;
        }
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return hidden(pid) };
        // The name in brackets may hold anything.
        match stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()) {
            Some('T' | 't') => State::Stopped,
            Some('Z' | 'X') => State::Gone,
            _ => State::Running,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernels_list_names_holders_and_not_those_who_wait() {
        let device = 8 << 8 | 1;
        let holder = |line| kernel::holder(line, device, 77);
        assert_eq!(holder("1: FLOCK  ADVISORY  WRITE 1234 08:01:77 0 EOF"), Some(1234));
        assert_eq!(holder("1: FLOCK  ADVISORY  READ -1 08:01:77 0 EOF"), Some(0));
        for other in [
            "1: -> FLOCK  ADVISORY  WRITE 1234 08:01:77 0 EOF",
            "1: POSIX  ADVISORY  WRITE 1234 08:01:77 0 EOF",
            "1: FLOCK  ADVISORY  WRITE 1234 08:01:78 0 EOF",
            "1: FLOCK  ADVISORY  WRITE 1234 08:02:77 0 EOF",
            "nonsense",
            "",
        ] {
            assert_eq!(holder(other), None, "{other}");
        }
    }

    #[test]
    fn a_note_replaces_a_longer_one() {
        let file = tempfile::tempfile().unwrap();
        write_all_at(&file, b"4294967295 2026-01-15T10:00:00.000000Z\n", 0).unwrap();
        let now = "2026-01-16T10:00:00Z".parse().unwrap();
        Holder::sign(&file, || now);
        assert_eq!(noted(&file), [(std::process::id(), Some(now))]);
        // Who stands there already is not written again.
        Holder::sign(&file, || panic!("written again"));
    }
}
