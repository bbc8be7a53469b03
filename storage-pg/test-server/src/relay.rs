//! Throw-away programs between a client and a server that are no `PgBouncer`.

use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::account::Account;
use crate::database::Access;
use crate::guard::Guard;
use crate::server::{Server, open_log};
use crate::{ports, process, programs};

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayKind {
    /// `pgpool`, which speaks the protocol itself and keeps its connections to the server for the next client.
    Pgpool,
    /// `haproxy`, which moves the bytes.
    Haproxy,
}

impl RelayKind {
    fn program(self) -> &'static str {
        match self {
            Self::Pgpool => "pgpool",
            Self::Haproxy => "haproxy",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::Pgpool => "pgpool2",
            Self::Haproxy => "haproxy",
        }
    }

    fn configuration(self, port: u16, control: u16, directory: &str, server: &Server) -> String {
        let (host, of_server) = (server.host(), server.port());
        match self {
            // Asks for the password in clear and logs in at the server with it: no list of passwords is needed.
            Self::Pgpool => format!(
                "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{directory}'\n\
                 pcp_listen_addresses = '127.0.0.1'\npcp_port = {control}\npcp_socket_dir = '{directory}'\n\
                 backend_clustering_mode = 'raw'\nbackend_hostname0 = '{host}'\nbackend_port0 = {of_server}\n\
                 enable_pool_hba = off\nallow_clear_text_frontend_auth = on\nconnection_cache = on\n\
                 num_init_children = 32\npid_file_name = '{directory}/pgpool.pid'\nlogdir = '{directory}'\n\
                 work_dir = '{directory}'\n"
            ),
            Self::Haproxy => format!(
                "global\n  maxconn 200\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
                 listen postgres\n  bind 127.0.0.1:{port}\n  server one {host}:{of_server}\n"
            ),
        }
    }
}

/// Such a program in front of a server, ended when dropped or when the process ends.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    access: Access,
    child: Child,
    guard: Option<Guard>,
}

impl Relay {
    /// Starts one in front of `server` and waits until it listens.
    pub fn start(kind: RelayKind, server: &Server) -> Result<Self, String> {
        let account = Account::find()?;
        let program = programs::find(kind.program(), kind.package())?;
        let guard = Guard::start(account, true)?;
        let directory = guard.directory().to_owned();
        let (file, log) = (directory.join("relay.conf"), directory.join("log"));
        let mut tries = 5;
        loop {
            let (port, control) = (ports::free()?, ports::free()?);
            let text = kind.configuration(port, control, &directory.display().to_string(), server);
            account.write(&file, &text)?;
            let (out, err) = open_log(account, &log)?;
            let mut command = account.command(&program, &directory);
            command.arg("-f").arg(&file).arg(if kind == RelayKind::Pgpool { "-n" } else { "-db" });
            command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
            let mut child = command.spawn().map_err(|e| format!("cannot run {}: {e}", kind.program()))?;
            let mut exited = None;
            let ready = process::wait_until(Duration::from_secs(20), || {
                exited = child.try_wait().ok().flatten();
                exited.is_some() || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
            });
            exited = exited.or_else(|| child.try_wait().ok().flatten());
            if ready && exited.is_none() {
                return Ok(Self { port, access: server.access().clone(), child, guard: Some(guard) });
            }
            let _ = child.kill();
            let _ = child.wait();
            tries -= 1;
            if tries == 0 {
                return Err(format!("{} did not start\n{}", kind.program(), process::last_lines(&log)));
            }
        }
    }

    /// The test user's URL of a database through it.
    pub fn url(&self, database: &str) -> String {
        Access::url(&self.access.user, self.port, database)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.guard.take());
        let _ = self.child.wait();
    }
}
