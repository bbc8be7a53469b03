//! A throw-away PostgreSQL server.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::account::Account;
use crate::database::{Access, Database, quoted, when_unused};
use crate::guard::Guard;
use crate::sql::{Login, Session};
use crate::tls::{Certificate, TestCa};
use crate::{ports, process, programs};

/// The variable through which [`Server::shared`] finds a server that another process has started.
pub const SERVER_VARIABLE: &str = "STORAGE_TEST_SERVER";

const USER: &str = "storage_test";
const SUPERUSER: &str = "postgres";
/// Bounds what a test waits for when a server has stopped answering, a template's migration included.
const LIMIT: Option<Duration> = Some(Duration::from_mins(2));

/// The superuser's socket connections, which are ours, go without the password: working through it takes a debug build
/// longer than everything else about a new database. The socket's directory lets nobody else in.
const ACCESS_RULES: &str = "\
local all postgres trust
local replication postgres trust
local all all scram-sha-256
host all all samehost scram-sha-256
";

/// How to start a [`Server`].
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether the server writes through to the disk and keeps PostgreSQL's own defaults. Tests do without, in memory
    /// when there is room: a commit survives the server's crash, not the machine's. Measurements say `true`.
    pub fsync: bool,
    /// Encrypt, and show this certificate. Plain connections are accepted too.
    pub tls: Option<Certificate>,
    /// More lines of the configuration file: name and value. A later line wins over an earlier one and over ours.
    pub settings: Vec<(String, String)>,
    /// How many clients may be connected.
    pub max_connections: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self { fsync: false, tls: None, settings: Vec::new(), max_connections: 200 }
    }
}

/// A PostgreSQL server of its own. Stopped, and its directory removed, when the value is dropped or the process ends,
/// whatever ends it.
#[derive(Debug)]
pub struct Server {
    directory: PathBuf,
    socket_directory: PathBuf,
    access: Access,
    tls: Option<TestCa>,
    major: u32,
    fsync: bool,
    /// `None`: attached to a server of another process.
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    account: Account,
    programs: PathBuf,
    postmaster: Mutex<Option<Child>>,
    guard: Option<Guard>,
}

impl Own {
    fn postmaster(&self) -> MutexGuard<'_, Option<Child>> {
        // A test that panicked while it held the lock leaves a child process that is as good as before.
        self.postmaster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Options {
    /// A server that standbys can follow.
    pub fn replicated() -> Self {
        let settings = [("wal_level", "replica"), ("max_wal_senders", "4")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Self { settings, ..Self::default() }
    }
}

impl Server {
    /// Makes a cluster, starts its server and waits until it answers.
    pub fn start(options: Options) -> Result<Self, String> {
        let Options { fsync, tls, settings, max_connections } = options;
        let account = Account::find()?;
        let programs = programs::postgres_directory()?;
        let guard = Guard::start(account, !fsync)?;
        let directory = guard.directory().to_owned();
        let socket_directory = directory.join("socket");
        account.make_directory(&socket_directory)?;
        let password = password();
        initialize(account, &programs, &directory, &password)?;

        let mut configuration = base_configuration(fsync, max_connections, &socket_directory);
        let tls = match tls {
            Some(certificate) => {
                let tls_directory = directory.join("tls");
                account.make_directory(&tls_directory)?;
                let ca = TestCa::create_as(account, &tls_directory)?;
                let _ = write!(
                    configuration,
                    "ssl = on\nssl_cert_file = {}\nssl_key_file = {}\n",
                    setting(&ca.certificate_file(certificate).to_string_lossy()),
                    setting(&ca.key_file(certificate).to_string_lossy()),
                );
                Some(ca)
            }
            None => None,
        };
        for (name, value) in settings {
            let _ = writeln!(configuration, "{name} = {}", setting(&value));
        }
        let data = directory.join("data");
        account.write(&data.join("postgresql.conf"), &configuration)?;
        account.write(&data.join("pg_hba.conf"), ACCESS_RULES)?;

        let login = |user: &str, password: String| Login {
            socket_directory: socket_directory.clone(),
            port: 0,
            user: user.to_owned(),
            password,
        };
        let mut server = Self {
            access: Access { superuser: login(SUPERUSER, password), user: login(USER, self::password()) },
            socket_directory,
            tls,
            major: fs::read_to_string(data.join("PG_VERSION")).ok().and_then(|v| v.trim().parse().ok()).unwrap_or(0),
            fsync,
            own: Some(Own { account, programs, postmaster: Mutex::new(None), guard: Some(guard) }),
            directory,
        };
        server.launch_on_free_port()?;
        server.execute(
            "postgres",
            &format!("CREATE ROLE {USER} LOGIN CREATEDB PASSWORD '{}'", server.access.user.password),
        )?;
        account.write(&server.directory.join("attach"), &server.attachment())?;
        Ok(server)
    }

    /// Makes a standby of this server ([`Options::replicated`]) and waits until it answers. `SELECT pg_promote()` makes it a primary.
    pub fn standby(&self) -> Result<Self, String> {
        let Own { account, programs, .. } = self.own()?;
        let guard = Guard::start(*account, !self.fsync)?;
        let directory = guard.directory().to_owned();
        let (socket_directory, data) = (directory.join("socket"), directory.join("data"));
        account.make_directory(&socket_directory)?;
        let log = directory.join("log");
        let (out, err) = open_log(*account, &log)?;
        let from = format!("host={} port={} user={SUPERUSER}", self.socket_directory.display(), self.port());
        let status = account
            .command(&programs.join("pg_basebackup"), &directory)
            .args(["-d", &from, "-X", "stream", "-c", "fast", "--no-sync", "-R", "-D"])
            .arg(&data)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .status()
            .map_err(|e| format!("cannot run pg_basebackup: {e}"))?;
        if !status.success() {
            return Err(format!("pg_basebackup failed ({status})\n{}", process::last_lines(&log)));
        }
        let file = data.join("postgresql.conf");
        let configuration = fs::read_to_string(&file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
        let place = setting(&socket_directory.to_string_lossy());
        account.write(&file, &format!("{configuration}unix_socket_directories = {place}\n"))?;
        let mut access = self.access.clone();
        for login in [&mut access.superuser, &mut access.user] {
            login.socket_directory.clone_from(&socket_directory);
        }
        let mut standby = Self {
            access,
            socket_directory,
            tls: None,
            major: self.major,
            fsync: self.fsync,
            own: Some(Own {
                account: *account,
                programs: programs.clone(),
                postmaster: Mutex::new(None),
                guard: Some(guard),
            }),
            directory,
        };
        standby.launch_on_free_port()?;
        Ok(standby)
    }

    /// The one server of this process, started at the first call; or the one that [`SERVER_VARIABLE`] names.
    ///
    /// Do not stop or pause it: start one of your own for that.
    pub fn shared() -> Result<&'static Self, String> {
        static SHARED: OnceLock<Result<Server, String>> = OnceLock::new();
        SHARED
            .get_or_init(|| match std::env::var(SERVER_VARIABLE) {
                Ok(text) if !text.is_empty() => Self::attach(&text),
                _ => Self::start(Options::default()),
            })
            .as_ref()
            .map_err(Clone::clone)
    }

    /// Uses a server that another process has started; `text` is that server's [`Server::to_env`].
    ///
    /// Nothing happens to the server when the value is dropped, and it cannot be stopped or paused through it.
    pub fn attach(text: &str) -> Result<Self, String> {
        let directory = PathBuf::from(text);
        let file = directory.join("attach");
        let content = fs::read_to_string(&file).map_err(|e| {
            format!("no test server at {text}, which {SERVER_VARIABLE} may name: {}: {e}", file.display())
        })?;
        let mut lines = content.lines();
        let mut field = || lines.next().ok_or_else(|| format!("{} is cut short", file.display()));
        let number = |text: &str| text.parse::<u32>().map_err(|e| format!("{}: {e}", file.display()));
        let port = u16::try_from(number(field()?)?).map_err(|e| format!("{}: {e}", file.display()))?;
        let major = number(field()?)?;
        let encrypted = field()? == "tls";
        let fsync = field()? == "fsync";
        let socket_directory = directory.join("socket");
        let mut login = |user: &str| {
            let password = field()?.to_owned();
            Ok::<_, String>(Login { socket_directory: socket_directory.clone(), port, user: user.to_owned(), password })
        };
        let access = Access { superuser: login(SUPERUSER)?, user: login(USER)? };
        let tls = encrypted.then(|| TestCa::at(&directory.join("tls")));
        Ok(Self { directory, socket_directory, access, tls, major, fsync, own: None })
    }

    /// What another process gives to [`Server::attach`], or finds in [`SERVER_VARIABLE`].
    pub fn to_env(&self) -> String {
        self.directory.to_string_lossy().into_owned()
    }

    fn attachment(&self) -> String {
        let Access { superuser, user } = &self.access;
        let tls = if self.tls.is_some() { "tls" } else { "plain" };
        let fsync = if self.fsync { "fsync" } else { "no fsync" };
        format!("{}\n{}\n{tls}\n{fsync}\n{}\n{}\n", user.port, self.major, superuser.password, user.password)
    }

    /// The address it listens on: `127.0.0.1`.
    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.access.user.port
    }

    /// The directory of its Unix socket.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_directory
    }

    /// The test user: may log in and make databases, is no superuser, and owns the databases made here.
    pub fn user(&self) -> &'static str {
        USER
    }

    /// The test user's password.
    pub fn password(&self) -> &str {
        &self.access.user.password
    }

    /// The major version of PostgreSQL.
    pub fn major_version(&self) -> u32 {
        self.major
    }

    /// The server's log.
    pub fn log_file(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// The authority behind the server's certificate, when it encrypts.
    pub fn tls(&self) -> Option<&TestCa> {
        self.tls.as_ref()
    }

    /// The test user's URL of a database through TCP.
    pub fn url(&self, database: &str) -> String {
        Access::url(&self.access.user, self.port(), database)
    }

    /// The test user's URL of a database through the Unix socket.
    pub fn socket_url(&self, database: &str) -> String {
        Access::socket_url(&self.access.user, database)
    }

    /// The superuser's URL of a database through TCP.
    pub fn superuser_url(&self, database: &str) -> String {
        Access::url(&self.access.superuser, self.port(), database)
    }

    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// Runs statements as the superuser.
    pub fn execute(&self, database: &str, sql: &str) -> Result<(), String> {
        self.query_text(database, sql).map(|_| ())
    }

    /// Runs statements as the superuser and answers their rows, each column as text.
    pub fn query_text(&self, database: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>, String> {
        let session = Session::open(&self.access.superuser, database, None)?;
        Ok(session.query(sql)?)
    }

    /// Makes an empty database.
    pub fn create_empty_database(&self) -> Result<Database, String> {
        let session = Session::open(&self.access.superuser, "postgres", LIMIT)?;
        // Not template1: somebody may be connected to that one.
        self.copy(&session, "template0")
    }

    /// Makes a database like the template `template`, which is made first when the server has none of that name:
    /// `migrate` gets the URL of an empty database, as its owner, the test user, and fills it.
    ///
    /// The template is made once per server, also when several threads and processes ask at once. One whose `migrate`
    /// failed is made anew by the next call. `migrate` must leave no connection behind.
    pub fn create_database_with(
        &self,
        template: &str,
        migrate: impl FnOnce(&str) -> Result<(), String>,
    ) -> Result<Database, String> {
        if template.is_empty() || template.len() > 48 {
            return Err(format!("`{template}` does not do as a template's name: 1 to 48 bytes"));
        }
        let session = Session::open(&self.access.superuser, "postgres", LIMIT)?;
        let literal = template.replace('\'', "''");
        let is_there = || session.query(&format!("SELECT FROM pg_database WHERE datname = '{literal}'"));
        if is_there()?.is_empty() {
            // Held by the session, so given back whatever happens to us.
            session.query(&format!("SELECT pg_advisory_lock(hashtextextended('pg-test-server {literal}', 0))"))?;
            if is_there()?.is_empty() {
                self.make_template(&session, template, migrate)?;
            }
            session.query("SELECT pg_advisory_unlock_all()")?;
        }
        self.copy(&session, template)
    }

    fn make_template(
        &self,
        session: &Session,
        template: &str,
        migrate: impl FnOnce(&str) -> Result<(), String>,
    ) -> Result<(), String> {
        // It gets its name when it is finished: a template of that name is always a complete one.
        let unfinished = format!("{template}_unfinished");
        let (from, to) = (quoted(&unfinished), quoted(template));
        session.query(&format!("DROP DATABASE IF EXISTS {from} WITH (FORCE)"))?;
        session.query(&format!("CREATE DATABASE {from} OWNER {USER} TEMPLATE template0"))?;
        migrate(&self.url(&unfinished)).map_err(|e| format!("the template `{template}` could not be made: {e}"))?;
        // Nobody may connect from here on: a template in use cannot be copied.
        session.query(&format!("ALTER DATABASE {from} ALLOW_CONNECTIONS false IS_TEMPLATE true"))?;
        when_unused(session, &format!("ALTER DATABASE {from} RENAME TO {to}"))
            .map_err(|e| format!("the template `{template}`: does `migrate` keep a connection open? {e}"))
    }

    fn copy(&self, session: &Session, template: &str) -> Result<Database, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{count}_{:08x}", std::process::id(), ports::random() & 0xffff_ffff);
        // Copying files takes two checkpoints: next to nothing where nothing is synced, and then two to three times
        // faster than going through the log; several times slower where it is.
        let strategy = match (self.major, self.fsync) {
            (..15, _) => "",
            (_, false) => " STRATEGY file_copy",
            (_, true) => " STRATEGY wal_log",
        };
        let sql = format!("CREATE DATABASE {} OWNER {USER} TEMPLATE {}{strategy}", quoted(&name), quoted(template));
        when_unused(session, &sql)?;
        Ok(Database::new(name, self.access.clone()))
    }

    /// The process id of the server's main process.
    pub fn pid(&self) -> Result<u32, String> {
        let (pid, _) = self.pid_file().ok_or("the server is not running")?;
        Ok(pid)
    }

    /// What the server says of itself: the id of its main process and whether it is ready.
    fn pid_file(&self) -> Option<(u32, bool)> {
        let text = fs::read_to_string(self.directory.join("data/postmaster.pid")).ok()?;
        let mut lines = text.lines();
        let pid = lines.next()?.trim().parse().ok()?;
        Some((pid, lines.nth(6).is_some_and(|state| state.trim() == "ready")))
    }

    fn own(&self) -> Result<&Own, String> {
        self.own.as_ref().ok_or_else(|| {
            "this server belongs to another process and to other tests: start one of your own to stop or pause it"
                .to_owned()
        })
    }

    /// Ends the server at once, as a crash would: it recovers when it is started again.
    pub fn stop_immediate(&self) -> Result<(), String> {
        self.stop("QUIT")
    }

    fn stop(&self, signal: &str) -> Result<(), String> {
        let mut postmaster = self.own()?.postmaster();
        let Some(child) = postmaster.as_mut() else { return Ok(()) };
        end(signal, child)?;
        *postmaster = None;
        Ok(())
    }

    /// Starts the server after [`Server::stop_immediate`], on the same port, and waits until it answers.
    pub fn start_again(&self) -> Result<(), String> {
        self.launch(self.port()).map_err(|(error, _)| error)
    }

    /// Ends the server in good order, sending everybody away, and starts it again.
    pub fn restart(&self) -> Result<(), String> {
        self.stop("INT")?;
        self.start_again()
    }

    /// Makes every process of the server stand still: connections stay open and get no answer.
    pub fn pause(&self) -> Result<(), String> {
        self.own()?;
        let main = self.pid()?;
        // The main process first: it starts no more others then.
        process::signal("STOP", &[main])?;
        let stopped = process::wait_until(Duration::from_secs(5), || process::is_stopped(main));
        let others = process::children(main);
        process::signal("STOP", &others)?;
        if stopped && process::wait_until(Duration::from_secs(5), || others.iter().all(|pid| process::is_stopped(*pid)))
        {
            Ok(())
        } else {
            Err("the server does not stand still".to_owned())
        }
    }

    /// Ends a [`Server::pause`].
    pub fn resume(&self) -> Result<(), String> {
        self.own()?;
        let main = self.pid()?;
        process::signal("CONT", &process::children(main))?;
        process::signal("CONT", &[main])
    }

    fn launch_on_free_port(&mut self) -> Result<(), String> {
        let mut tries = 5;
        loop {
            let port = ports::free()?;
            match self.launch(port) {
                Ok(()) => {
                    self.access.superuser.port = port;
                    self.access.user.port = port;
                    return Ok(());
                }
                // Somebody else took the port between our look and the server's.
                Err((_, true)) if tries > 0 => tries -= 1,
                Err((error, _)) => return Err(error),
            }
        }
    }

    /// On failure also says whether the port was taken.
    fn launch(&self, port: u16) -> Result<(), (String, bool)> {
        let other = |text: String| (text, false);
        let own = self.own().map_err(other)?;
        let mut postmaster = own.postmaster();
        if postmaster.is_some() {
            return Err(other("the server is running already".to_owned()));
        }
        let log = self.log_file();
        let log_start = fs::metadata(&log).map_or(0, |file| file.len());
        let (out, err) = open_log(own.account, &log).map_err(other)?;
        let mut child = own
            .account
            .command(&own.programs.join("postgres"), &self.directory)
            .arg("-D")
            .arg(self.directory.join("data"))
            .args(["-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            // Ctrl-C is ours, not the server's: tests that end in good order still need it.
            .process_group(0)
            .spawn()
            .map_err(|e| other(format!("cannot run postgres: {e}")))?;
        let pid = child.id();
        let mut exited = None;
        let ready = process::wait_until(Duration::from_mins(1), || {
            exited = child.try_wait().ok().flatten();
            exited.is_some() || self.pid_file() == Some((pid, true))
        });
        if ready && exited.is_none() {
            *postmaster = Some(child);
            return Ok(());
        }
        let what =
            exited.map_or_else(|| "did not get ready within 60 s".to_owned(), |status| format!("ended: {status}"));
        if exited.is_none() {
            end("QUIT", &mut child).map_err(other)?;
        }
        let said = fs::read(&log).unwrap_or_default();
        let said = said.get(usize::try_from(log_start).unwrap_or(0)..).unwrap_or_default();
        let taken = String::from_utf8_lossy(said).contains("Address already in use");
        Err((format!("the PostgreSQL server {what}\n{}", process::last_lines(&log)), taken))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(own) = &mut self.own {
            drop(own.guard.take());
            if let Some(mut child) = own.postmaster().take() {
                let _ = child.wait();
            }
        }
    }
}

/// Ends a server with the signal that its main process takes for it.
fn end(signal: &str, postmaster: &mut Child) -> Result<(), String> {
    let pid = postmaster.id();
    let family = [process::children(pid), vec![pid]].concat();
    process::signal(signal, &[pid])?;
    // Paused processes would not see the signal.
    process::signal("CONT", &family)?;
    if !process::wait_until(Duration::from_secs(20), || !matches!(postmaster.try_wait(), Ok(None))) {
        process::signal("KILL", &family)?;
        postmaster.wait().map_err(|e| format!("cannot wait for the server: {e}"))?;
    }
    Ok(())
}

fn initialize(account: Account, programs: &Path, directory: &Path, password: &str) -> Result<(), String> {
    let password_file = directory.join("password");
    account.write(&password_file, password)?;
    // Not a pipe, and a process group of its own: initdb must come to its end even when we are killed. Ended half-way,
    // it leaves shared memory behind.
    let log = directory.join("log");
    let (out, err) = open_log(account, &log)?;
    let status = account
        .command(&programs.join("initdb"), directory)
        .arg("-D")
        .arg(directory.join("data"))
        .arg(format!("--pwfile={}", password_file.display()))
        .args(["--no-sync", "-A", "scram-sha-256", "-U", SUPERUSER, "-E", "UTF8", "--locale=C.UTF-8"])
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .process_group(0)
        .status()
        .map_err(|e| format!("cannot run initdb: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("initdb failed ({status})\n{}", process::last_lines(&log))) }
}

fn base_configuration(fsync: bool, max_connections: u16, socket_directory: &Path) -> String {
    let mut text = format!(
        "listen_addresses = '127.0.0.1'\nunix_socket_directories = {}\nmax_connections = {max_connections}\n\
         password_encryption = 'scram-sha-256'\ntimezone = 'UTC'\nlog_timezone = 'UTC'\nlog_line_prefix = '%m [%p] %q%u@%d '\nlc_messages = 'C'\n",
        setting(&socket_directory.to_string_lossy())
    );
    if !fsync {
        // synchronous_commit stays on: what is committed must survive stop_immediate.
        text.push_str("fsync = off\nfull_page_writes = off\nwal_level = minimal\nmax_wal_senders = 0\n");
        // The directory is likely to be memory. Shared memory in it cannot be left behind, whatever kills the server.
        text.push_str("min_wal_size = 32MB\nmax_wal_size = 512MB\ndynamic_shared_memory_type = mmap\n");
    }
    text
}

fn setting(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

fn password() -> String {
    format!("{:016x}", ports::random())
}

/// The log, twice: for both streams of a server.
pub(crate) fn open_log(account: Account, log: &Path) -> Result<(File, File), String> {
    let fail = |e| format!("cannot open {}: {e}", log.display());
    let out = File::options().create(true).append(true).open(log).map_err(fail)?;
    account.give(log)?;
    let err = out.try_clone().map_err(fail)?;
    Ok((out, err))
}
