//! Databases on a throw-away server, and the suite on them by one of several ways in.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod decoys;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use conformance_tests::{Harness, Need, Site};
use pg_test_server::{Database, PgBouncer, Server};
use storage_core::{Environment, Storage};
use storage_pg::{Gather, Limits, PgOptions, PgStorage, Statements};

/// How the suite comes to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Straight to a server on which strangers made things, as a program opens it.
    Direct,
    /// Through PgBouncer in transaction mode, where every statement is unnamed, to a server on which strangers made things.
    Pooled,
    /// Over TLS with everything verified, as a role with the least rights.
    Tls,
}

impl Way {
    fn has_strangers(self) -> bool {
        self != Self::Tls
    }
}

/// A database for each site, from a template that is migrated once.
pub(crate) struct Databases {
    way: Way,
    server: &'static Server,
    sites: Mutex<BTreeMap<Site, Database>>,
}

impl Databases {
    pub(crate) fn new(way: Way, server: &'static Server) -> Self {
        Self { way, server, sites: Mutex::default() }
    }
}

/// The template's name changes with the migrations, so that a server that outlives a change has no stale one.
fn template() -> String {
    format!("storage_v{}", storage_pg::migration_steps().len())
}

/// A database like [`database`], in which strangers had made things before the store came, and in which names are looked up
/// among those first.
pub(crate) fn among_strangers(server: &Server) -> Result<Database, String> {
    let database = server.create_database_with(&format!("{}_strangers", template()), |url| {
        let name = url.rsplit('/').next().unwrap_or_default();
        decoys::install(server, name)?;
        look_among_strangers(server, name)?;
        migrate(url)
    })?;
    look_among_strangers(server, database.name())?;
    Ok(database)
}

fn look_among_strangers(server: &Server, database: &str) -> Result<(), String> {
    server.execute("postgres", &format!("ALTER DATABASE \"{database}\" SET search_path = public, pg_catalog"))
}

/// The URL of a role of its own, which has what `storage migrate --grants` prints, and its name. It goes with [`least_is_over`].
pub(crate) fn least(server: &Server, database: &Database) -> Result<(String, String), String> {
    let role = format!("least_{}", database.name());
    let grants = migrations::grants(&migrations::Schema::default(), &role);
    server.execute(database.name(), &format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'; {grants}"))?;
    let url = database.url();
    let (_, place) = url.split_once('@').ok_or("a URL without a user")?;
    Ok((format!("postgresql://{role}:secret@{place}"), role))
}

/// Takes such a role's rights and the role away.
pub(crate) fn least_is_over(server: &Server, database: &Database) -> Result<(), String> {
    let role = format!("least_{}", database.name());
    server.execute(database.name(), &format!("DROP OWNED BY {role}; DROP ROLE {role}"))
}

/// The console of a pooler, where its settings can be changed while it runs.
pub(crate) async fn console(bouncer: &PgBouncer) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let url = bouncer.superuser_url("pgbouncer");
    let (console, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(console)
}

/// A new database with the store's tables, and its URL on the server itself.
pub(crate) fn database(server: &Server) -> Result<Database, String> {
    server.create_database_with(&template(), migrate)
}

fn migrate(url: &str) -> Result<(), String> {
    let url = url.to_owned();
    // The caller may be inside a runtime.
    let migrating = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let migrated = runtime.block_on(storage_pg::migrate(&PgOptions::new(url), Duration::from_secs(30)));
        migrated.map(drop).map_err(|error| error.error().report().to_string())
    });
    migrating.join().map_err(|_| "the migration panicked".to_owned())?
}

pub(crate) fn options(url: String, environment: Environment) -> PgOptions {
    PgOptions { environment, ..PgOptions::new(url) }
}

#[async_trait::async_trait]
impl Harness for Databases {
    fn name(&self) -> &str {
        match self.way {
            Way::Direct => "postgres",
            Way::Pooled => "postgres behind PgBouncer",
            Way::Tls => "postgres over TLS, least rights, prepared statements, everything gathered",
        }
    }
    fn supports(&self, need: Need) -> bool {
        match need {
            Need::SecondHandle | Need::Reopen | Need::TimeZones => true,
            // Only the owner of the tables marks them.
            Need::Mark => self.way != Way::Tls,
        }
    }
    fn is_a_part(&self) -> bool {
        self.way == Way::Tls
    }
    async fn create(&self) -> Result<Site, String> {
        let (server, way) = (self.server, self.way);
        let make = move || if way.has_strangers() { among_strangers(server) } else { database(server) };
        let made = tokio::task::spawn_blocking(make).await;
        let database = made.map_err(|error| error.to_string())??;
        let url = match self.way {
            Way::Direct => database.url(),
            Way::Pooled => PgBouncer::shared()?.url(database.name()),
            Way::Tls => {
                let ca = self.server.tls().ok_or("the server has no TLS")?.ca_file();
                let (url, _) = least(server, &database)?;
                let url = url.replace("127.0.0.1", "localhost");
                format!("{url}?sslmode=verify-full&sslrootcert={}&hostaddr=127.0.0.1", ca.display())
            }
        };
        let site = Site::new(url);
        self.sites.lock().map_err(|error| error.to_string())?.insert(site.clone(), database);
        Ok(site)
    }
    async fn open(&self, site: &Site, environment: Environment) -> storage_core::Result<Arc<dyn Storage>> {
        // Whether statements are prepared, whether bytes are encrypted and whether operations are gathered do not meet:
        // one run proves them all.
        let (statements, gather) = match self.way {
            Way::Tls => (Statements::Prepared, Gather::Always),
            Way::Direct | Way::Pooled => (Statements::Auto, Gather::WhenBusy),
        };
        // Many scenarios run side by side on one small machine, and some open several handles.
        let patient = Limits { pool: Duration::from_secs(20), operation: Duration::from_secs(30), ..Limits::default() };
        let options = PgOptions {
            statements,
            gather,
            max_connections: 6,
            limits: patient,
            ..options(site.to_string(), environment)
        };
        Ok(Arc::new(PgStorage::open(options).await?))
    }
    async fn destroy(&self, site: Site) {
        let database = self.sites.lock().ok().and_then(|mut sites| sites.remove(&site));
        // Dropping it waits for the server.
        let (server, way) = (self.server, self.way);
        let end = move || {
            if let Some(database) = &database {
                if way.has_strangers() {
                    decoys::add_up(server, database.name());
                } else {
                    // What is left of it goes with the server.
                    let _ = least_is_over(server, database);
                }
            }
            drop(database);
        };
        let _ = tokio::task::spawn_blocking(end).await;
    }
}

/// Runs the suite.
pub(crate) fn run(way: Way, server: Result<&'static Server, String>) -> ExitCode {
    match server {
        Ok(server) => {
            let code = conformance_tests::run(Databases::new(way, server));
            match decoys::CALLS.load(Ordering::Relaxed) {
                0 => code,
                calls => {
                    say(&format!("{calls} calls of what a stranger made"));
                    ExitCode::FAILURE
                }
            }
        }
        // A missing server is a failure, never a skip.
        Err(reason) => {
            say(&reason);
            ExitCode::FAILURE
        }
    }
}

fn say(line: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{line}\n").as_bytes());
}
