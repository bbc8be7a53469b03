//! A throw-away `PgBouncer` in front of a server.

use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::account::Account;
use crate::database::Access;
use crate::guard::Guard;
use crate::server::{Server, open_log};
use crate::{ports, process, programs};

/// The variable through which [`PgBouncer::shared`] finds the port of one that another process has started in front of
/// the server of [`crate::SERVER_VARIABLE`].
pub const PGBOUNCER_VARIABLE: &str = "STORAGE_TEST_PGBOUNCER";

/// A `PgBouncer` in transaction mode: 20 connections per database to the server, 500 clients, every other setting at its
/// default. So it refuses the startup parameter `options`. Ended when dropped or when the process ends.
///
/// Its users and passwords are the server's; the superuser may use its console, the database `pgbouncer`.
#[derive(Debug)]
pub struct PgBouncer {
    port: u16,
    access: Access,
    /// `None`: attached to one of another process.
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    account: Account,
    program: PathBuf,
    directory: PathBuf,
    child: Mutex<Option<Child>>,
    guard: Option<Guard>,
}

impl Own {
    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PgBouncer {
    /// Starts one in front of `server` and waits until it listens.
    pub fn start(server: &Server) -> Result<Self, String> {
        let account = Account::find()?;
        let program = programs::find("pgbouncer", "pgbouncer")?;
        let guard = Guard::start(account, true)?;
        let directory = guard.directory().to_owned();
        let access = server.access().clone();
        let users: String = [&access.superuser, &access.user]
            .map(|login| format!("\"{}\" \"{}\"\n", login.user, login.password))
            .concat();
        account.write(&directory.join("users.txt"), &users)?;
        let own = Own { account, program, directory, child: Mutex::new(None), guard: Some(guard) };
        let mut bouncer = Self { port: 0, access, own: Some(own) };
        let mut tries = 5;
        loop {
            bouncer.port = ports::free()?;
            bouncer.write_configuration(server)?;
            match bouncer.start_again() {
                // Most likely somebody else took the port between our look and its own.
                Err(_) if tries > 0 => tries -= 1,
                result => return result.map(|()| bouncer),
            }
        }
    }

    /// The one in front of [`Server::shared`], started at the first call; or the one whose port
    /// [`PGBOUNCER_VARIABLE`] names.
    ///
    /// Do not stop it: start one of your own for that.
    pub fn shared() -> Result<&'static Self, String> {
        static SHARED: OnceLock<Result<PgBouncer, String>> = OnceLock::new();
        SHARED
            .get_or_init(|| {
                let server = Server::shared()?;
                match std::env::var(PGBOUNCER_VARIABLE) {
                    Ok(text) if !text.is_empty() => {
                        let port = text.parse().map_err(|e| format!("{PGBOUNCER_VARIABLE}={text}: {e}"))?;
                        Ok(Self { port, access: server.access().clone(), own: None })
                    }
                    _ => Self::start(server),
                }
            })
            .as_ref()
            .map_err(Clone::clone)
    }

    fn write_configuration(&self, server: &Server) -> Result<(), String> {
        let own = self.own()?;
        let users = own.directory.join("users.txt");
        let text = format!(
            "[databases]\n* = host={} port={}\n\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\n\
             unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\nadmin_users = {}\n\
             pool_mode = transaction\ndefault_pool_size = 20\nmax_client_conn = 500\n",
            server.host(),
            server.port(),
            self.port,
            users.display(),
            self.access.superuser.user,
        );
        own.account.write(&own.directory.join("pgbouncer.ini"), &text)
    }

    /// The port it listens on, of `127.0.0.1`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The test user's URL of a database through it.
    pub fn url(&self, database: &str) -> String {
        Access::url(&self.access.user, self.port, database)
    }

    /// The superuser's URL of a database through it; the database `pgbouncer` is its console.
    pub fn superuser_url(&self, database: &str) -> String {
        Access::url(&self.access.superuser, self.port, database)
    }

    fn own(&self) -> Result<&Own, String> {
        self.own.as_ref().ok_or_else(|| {
            "this PgBouncer belongs to another process and to other tests: start one of your own to stop it".to_owned()
        })
    }

    /// Ends it at once; its clients are cut off.
    pub fn stop(&self) -> Result<(), String> {
        let mut child = self.own()?.child();
        if let Some(mut running) = child.take() {
            let fail = |e| format!("cannot end PgBouncer: {e}");
            running.kill().map_err(fail)?;
            running.wait().map_err(fail)?;
        }
        Ok(())
    }

    /// Starts it after [`PgBouncer::stop`], on the same port, and waits until it listens.
    pub fn start_again(&self) -> Result<(), String> {
        let own = self.own()?;
        let mut child = own.child();
        if child.is_some() {
            return Err("PgBouncer is running already".to_owned());
        }
        let log = own.directory.join("log");
        let (out, err) = open_log(own.account, &log)?;
        let mut started = own
            .account
            .command(&own.program, &own.directory)
            .arg(own.directory.join("pgbouncer.ini"))
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .map_err(|e| format!("cannot run pgbouncer: {e}"))?;
        let mut exited = None;
        let ready = process::wait_until(Duration::from_secs(20), || {
            exited = started.try_wait().ok().flatten();
            exited.is_some() || TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
        });
        // Somebody else's port answers too: ours must still be there after that answer.
        exited = exited.or_else(|| started.try_wait().ok().flatten());
        if ready && exited.is_none() {
            *child = Some(started);
            return Ok(());
        }
        let _ = started.kill();
        let _ = started.wait();
        Err(format!("PgBouncer did not start\n{}", process::last_lines(&log)))
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        if let Some(own) = &mut self.own {
            drop(own.guard.take());
            if let Some(mut child) = own.child().take() {
                let _ = child.wait();
            }
        }
    }
}
