//! What the throw-away servers promise, checked against real ones.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pg_test_server::{Certificate, Database, Options, PgBouncer, SERVER_VARIABLE, Server};
use tokio_postgres::NoTls;

type Outcome = Result<(), String>;

fn shared() -> &'static Server {
    Server::shared().unwrap()
}

fn start(options: Options) -> Server {
    Server::start(options).unwrap()
}

/// Connects as a test of the storage does and runs one query.
fn ask(url: &str, sql: &str) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.map_err(|e| text(&e))?;
        let connection = tokio::spawn(connection);
        let answer = client.query_typed_one(sql, &[]).await.map_err(|e| text(&e)).map(|row| row.get(0));
        drop(client);
        let _ = connection.await;
        answer
    })
}

fn text(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string)
}

fn one_table(url: &str) -> Outcome {
    ask(url, "SELECT current_user::text").and_then(|user| {
        assert_eq!(user, "storage_test");
        let database = url.rsplit('/').next().unwrap_or_default();
        shared().execute(database, "CREATE TABLE one AS SELECT 1 AS x; ALTER TABLE one OWNER TO storage_test")
    })
}

fn databases(server: &Server) -> HashSet<String> {
    let rows = server.query_text("postgres", "SELECT datname FROM pg_database").unwrap_or_default();
    rows.into_iter().flatten().flatten().collect()
}

fn is_running(pid: u32) -> bool {
    // A process that nobody waits for stays as a zombie.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn within(limit: Duration, mut check: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < limit {
        if check() {
            return true;
        }
        thread::sleep(Duration::from_millis(20));
    }
    check()
}

#[test]
fn databases_are_copied_from_a_template_and_dropped() {
    let server = shared();
    let migrated = AtomicU32::new(0);
    let make = || {
        server.create_database_with("copied", |url| {
            migrated.fetch_add(1, Ordering::Relaxed);
            one_table(url)
        })
    };
    let (first, second) = (make().unwrap(), make().unwrap());
    assert_eq!(migrated.load(Ordering::Relaxed), 1);
    for database in [&first, &second] {
        assert_eq!(ask(&database.url(), "SELECT x::text FROM one").unwrap(), "1");
        assert_eq!(ask(&database.socket_url(), "SELECT current_user::text").unwrap(), "storage_test");
        assert!(databases(server).contains(database.name()));
    }
    let names = [first.name().to_owned(), second.name().to_owned()];
    drop((first, second));
    assert!(names.iter().all(|name| !databases(server).contains(name)));

    let empty = server.create_empty_database().unwrap();
    let owner = "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = current_database()";
    assert_eq!(ask(&empty.url(), owner).unwrap(), "storage_test");
    assert!(databases(server).contains(&empty.keep()));
}

#[test]
fn a_template_that_failed_is_made_anew() {
    let server = shared();
    let failed = server.create_database_with("fails_once", |_| Err("no such table".to_owned())).unwrap_err();
    assert_eq!(failed, "the template `fails_once` could not be made: no such table");
    let panicked = thread::scope(|scope| {
        scope.spawn(|| server.create_database_with("fails_once", |_| panic!("on purpose"))).join().is_err()
    });
    assert!(panicked);
    let database = server.create_database_with("fails_once", one_table).unwrap();
    assert_eq!(ask(&database.url(), "SELECT x::text FROM one").unwrap(), "1");
}

#[test]
fn a_connected_database_is_dropped_inside_a_runtime() {
    let server = shared();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let name = runtime.block_on(async {
        let database = server.create_empty_database().unwrap();
        let (client, connection) = tokio_postgres::connect(&database.url(), NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        let name = database.name().to_owned();
        drop(database);
        assert!(client.simple_query("SELECT 1").await.is_err_and(|error| error.is_closed() || error.code().is_some()));
        let _ = connection.await;
        name
    });
    assert!(!databases(server).contains(&name));
}

#[test]
fn threads_make_databases_at_once() {
    let server = shared();
    let migrated = Arc::new(AtomicU32::new(0));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let migrated = Arc::clone(&migrated);
            thread::spawn(move || -> Result<Vec<Database>, String> {
                (0..3)
                    .map(|_| {
                        server.create_database_with("at_once", |url| {
                            migrated.fetch_add(1, Ordering::Relaxed);
                            one_table(url)
                        })
                    })
                    .collect()
            })
        })
        .collect();
    let made: Vec<Database> = threads.into_iter().flat_map(|thread| thread.join().unwrap().unwrap()).collect();
    assert_eq!(migrated.load(Ordering::Relaxed), 1);
    assert_eq!(made.iter().map(Database::name).collect::<HashSet<_>>().len(), 24);
}

#[test]
fn a_template_is_made_once_however_many_use_it() {
    let server = shared();
    for _ in 0..3 {
        // Two tables of one name: a second migration of the template would fail.
        let database = server.create_database_with("two_processes", one_table).unwrap();
        assert_eq!(ask(&database.url(), "SELECT x::text FROM one").unwrap(), "1");
    }
    // In the processes that the next test starts, and under `pg-test-server run`, the server is somebody else's.
    if std::env::var_os(SERVER_VARIABLE).is_some_and(|text| !text.is_empty()) {
        assert!(server.stop_immediate().unwrap_err().contains("belongs to another process"));
        assert!(server.pause().unwrap_err().contains("belongs to another process"));
    }
}

#[test]
fn processes_share_one_server() {
    let server = start(Options::default());
    let helpers: Vec<Child> = (0..2)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "a_template_is_made_once_however_many_use_it"])
                .env(SERVER_VARIABLE, server.to_env())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for helper in helpers {
        let output = helper.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }
    // Still there, and with nothing left but the template.
    let left: HashSet<String> = databases(&server).into_iter().filter(|name| name.starts_with('t')).collect();
    assert_eq!(left, ["template0", "template1", "two_processes"].map(str::to_owned).into());
}

#[test]
fn a_commit_survives_a_crash_of_the_server() {
    let server = start(Options::default());
    let database = server.create_empty_database().unwrap();
    server.execute(database.name(), "CREATE TABLE t AS SELECT 5 AS x").unwrap();
    let (port, before) = (server.port(), server.pid().unwrap());
    server.stop_immediate().unwrap();
    assert!(!is_running(before));
    assert!(server.query_text(database.name(), "SELECT 1").is_err());
    server.start_again().unwrap();
    assert_eq!(server.port(), port);
    assert_eq!(server.query_text(database.name(), "SELECT x FROM t").unwrap(), [[Some("5".to_owned())]]);
    server.restart().unwrap();
    assert_eq!(server.query_text(database.name(), "SELECT x, NULL FROM t").unwrap(), [[Some("5".to_owned()), None]]);
    assert_eq!(server.start_again().unwrap_err(), "the server is running already");
}

#[test]
fn a_paused_server_gives_no_answer_until_it_is_resumed() {
    let server = start(Options::default());
    server.pause().unwrap();
    let (reply, answer) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| reply.send(server.query_text("postgres", "SELECT 1")));
        assert!(answer.recv_timeout(Duration::from_millis(300)).is_err());
        server.resume().unwrap();
        let rows = answer.recv_timeout(Duration::from_secs(10)).unwrap().unwrap();
        assert_eq!(rows, [[Some("1".to_owned())]]);
    });
    // A paused one ends like any other.
    server.pause().unwrap();
    let (pid, directory) = (server.pid().unwrap(), server.to_env());
    drop(server);
    assert!(!is_running(pid) && !Path::new(&directory).exists());
}

#[test]
fn a_wrong_setting_is_an_error_with_the_log() {
    let options = Options { settings: vec![("no_such_setting".to_owned(), "1".to_owned())], ..Options::default() };
    let error = Server::start(options).unwrap_err();
    assert!(error.contains("unrecognized configuration parameter \"no_such_setting\""), "{error}");
}

#[test]
fn durable_servers_write_through() {
    let server = start(Options { fsync: true, max_connections: 33, ..Options::default() });
    let rows = server.query_text("postgres", "SHOW fsync; SHOW max_connections").unwrap();
    assert_eq!(rows, [[Some("on".to_owned())], [Some("33".to_owned())]]);
    assert!(!server.to_env().starts_with("/dev/shm"));
}

/// A run of the program whose command prints where its servers are and then sleeps.
struct Run {
    program: Child,
    directory: PathBuf,
    postmaster: u32,
    pgbouncer: String,
}

impl Run {
    fn start() -> Self {
        let script = r#"echo "$STORAGE_TEST_SERVER"; head -n 1 "$STORAGE_TEST_SERVER/data/postmaster.pid"
                        echo "$STORAGE_TEST_PGBOUNCER"; exec sleep 60"#;
        let mut program = Command::new(env!("CARGO_BIN_EXE_pg-test-server"))
            .args(["run", "--pgbouncer", "--", "sh", "-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
        let mut line = || lines.next().unwrap().unwrap();
        let (directory, postmaster, pgbouncer) = (line(), line(), line());
        let run = Self {
            program,
            directory: directory.into(),
            postmaster: postmaster.trim().parse().unwrap(),
            pgbouncer: format!("127.0.0.1:{pgbouncer}"),
        };
        assert!(run.directory.is_dir() && is_running(run.postmaster) && TcpStream::connect(&run.pgbouncer).is_ok());
        run
    }

    fn nothing_is_left(&self) -> bool {
        within(Duration::from_secs(10), || {
            !self.directory.exists() && !is_running(self.postmaster) && TcpStream::connect(&self.pgbouncer).is_err()
        })
    }
}

#[test]
fn nothing_is_left_of_a_killed_process() {
    let mut run = Run::start();
    run.program.kill().unwrap();
    run.program.wait().unwrap();
    assert!(run.nothing_is_left());
}

#[test]
fn nothing_is_left_of_a_terminated_process() {
    let mut run = Run::start();
    Command::new("sh").args(["-c", &format!("kill {}", run.program.id())]).status().unwrap();
    assert_eq!(run.program.wait().unwrap().code(), Some(128 + 15));
    // The program itself has waited for the end of the servers.
    assert!(!run.directory.exists() && !is_running(run.postmaster));
}

#[test]
fn the_program_answers_as_its_command_does() {
    let program = env!("CARGO_BIN_EXE_pg-test-server");
    let run = |words: &[&str]| Command::new(program).args(words).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(run(&["run", "--", "sh", "-c", "exit 7"]).status.code(), Some(7));
    let usage = run(&["run", "--no-such-option"]);
    assert_eq!(usage.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&usage.stderr).starts_with("usage: pg-test-server run"));
}

#[test]
fn pgbouncer_passes_queries_and_refuses_options() {
    let bouncer = PgBouncer::shared().unwrap();
    let database = shared().create_empty_database().unwrap();
    let url = bouncer.url(database.name());
    assert_eq!(ask(&url, "SELECT current_database()::text").unwrap(), database.name());
    let refused = ask(&format!("{url}?options=-cgeqo%3Doff"), "SELECT 1::text").unwrap_err();
    assert!(refused.contains("unsupported startup parameter: options"), "{refused}");
}

#[test]
fn pgbouncer_can_be_stopped_and_started_again() {
    let server = shared();
    let bouncer = PgBouncer::start(server).unwrap();
    let url = bouncer.url("postgres");
    assert_eq!(ask(&url, "SELECT 'x'").unwrap(), "x");
    bouncer.stop().unwrap();
    assert!(ask(&url, "SELECT 'x'").is_err());
    bouncer.start_again().unwrap();
    assert_eq!(ask(&url, "SELECT 'x'").unwrap(), "x");
    let port = bouncer.port();
    drop(bouncer);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

/// What the server answers to the request for encryption.
fn answer_to_ssl_request(server: &Server) -> u8 {
    let mut stream = TcpStream::connect((server.host(), server.port())).unwrap();
    let mut answer = [0];
    stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).and_then(|()| stream.read_exact(&mut answer)).unwrap();
    answer[0]
}

/// Connects under the name `localhost`, trusting one authority.
fn ask_encrypted(server: &Server, authority: &Path) -> Result<String, String> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tls = tokio_postgres_rustls::MakeRustlsConnect::new(config);
    let url = format!("{}?sslmode=require", server.url("postgres").replace("127.0.0.1", "localhost"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&url, tls).await.map_err(|error| format!("{error:?}"))?;
        tokio::spawn(connection);
        let sql = "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        client.query_typed_one(sql, &[]).await.map(|row| row.get(0)).map_err(|e| text(&e))
    })
}

#[test]
fn encrypted_servers_show_their_certificate() {
    assert_eq!(answer_to_ssl_request(shared()), b'N');
    assert!(shared().tls().is_none());

    let good = start(Options { tls: Some(Certificate::Localhost), ..Options::default() });
    assert_eq!(answer_to_ssl_request(&good), b'S');
    assert_eq!(ask_encrypted(&good, good.tls().unwrap().ca_file()).unwrap(), "true");
    let unknown = ask_encrypted(&good, good.tls().unwrap().other_ca_file()).unwrap_err();
    assert!(unknown.contains("UnknownIssuer"), "{unknown}");

    for (certificate, reason) in [(Certificate::WrongHost, "NotValidForName"), (Certificate::Expired, "Expired")] {
        let server = start(Options { tls: Some(certificate), ..Options::default() });
        assert_eq!(answer_to_ssl_request(&server), b'S');
        let refused = ask_encrypted(&server, server.tls().unwrap().ca_file()).unwrap_err();
        assert!(refused.contains(reason), "{refused}");
    }
}
