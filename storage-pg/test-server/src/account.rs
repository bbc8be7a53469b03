//! Under which user the servers run: both PostgreSQL and `PgBouncer` refuse root.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

/// The user under which the servers run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account {
    /// The ids of the user `postgres` when we are root; `None`: the servers run as ourselves.
    other: Option<(u32, u32)>,
}

impl Account {
    pub(crate) fn find() -> Result<Self, String> {
        // The owner of a process's directory there is its effective user: the one safe way to ask without libc.
        let own = fs::metadata("/proc/self").map_err(|e| format!("cannot read /proc/self: {e}"))?.uid();
        if own != 0 {
            return Ok(Self { other: None });
        }
        let missing = "running as root, and PostgreSQL refuses root, but there is no user `postgres` to run it as: \
                       apt-get install postgresql";
        let users = fs::read_to_string("/etc/passwd").map_err(|e| format!("cannot read /etc/passwd: {e}"))?;
        users
            .lines()
            .find_map(|line| {
                let mut fields = line.split(':');
                (fields.next() == Some("postgres")).then_some(())?;
                Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
            })
            .map(|ids| Self { other: Some(ids) })
            .ok_or_else(|| missing.to_owned())
    }

    /// A command that runs `program` as the user, in `directory`, with nothing inherited that would steer it.
    pub(crate) fn command(self, program: &Path, directory: &Path) -> Command {
        let mut command = match self.other {
            Some(_) => {
                // Not runuser: it stays between us and the program, and a signal to it is not one to the program.
                let mut command = Command::new("setpriv");
                command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        // PGDATA, PGPORT, PGOPTIONS and the like of the caller must not reach the programs.
        command.env_clear().env("PATH", path_variable()).env("LC_ALL", "C").current_dir(directory);
        command
    }

    /// Makes the user the owner of `path`, and no one else able to read it.
    pub(crate) fn give(self, path: &Path) -> Result<(), String> {
        let fail = |e| format!("cannot set the owner of {}: {e}", path.display());
        let mode = if path.is_dir() { 0o700 } else { 0o600 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(fail)?;
        match self.other {
            Some((user, group)) => chown(path, Some(user), Some(group)).map_err(fail),
            None => Ok(()),
        }
    }

    /// Writes a file of the throw-away directory for the user.
    #[expect(
        clippy::disallowed_methods,
        reason = "a file of a throw-away directory: nothing here must survive a crash"
    )]
    pub(crate) fn write(self, path: &Path, text: &str) -> Result<(), String> {
        fs::write(path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        self.give(path)
    }

    /// Makes a directory for the user.
    pub(crate) fn make_directory(self, path: &Path) -> Result<(), String> {
        fs::create_dir(path).map_err(|e| format!("cannot make {}: {e}", path.display()))?;
        self.give(path)
    }
}

/// The search path of programs, with the directories of system programs, which a plain user's often lacks.
pub(crate) fn path_variable() -> String {
    format!(
        "{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        std::env::var("PATH").unwrap_or_default()
    )
}
