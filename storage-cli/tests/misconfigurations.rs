//! What `storage status` answers to each way of pointing it at the wrong thing: the whole output and the exit code, kept as
//! a golden file and shown in `docs/operations.md`. `GOLDEN=write cargo test -p storage-cli --test misconfigurations`
//! renews both.
#![cfg(all(feature = "postgres", unix))]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that fails must stop, and it writes what it tests with"
)]

mod common;

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use common::Place;
use common::pg::{migrated, original, role};
use pg_test_server::{Certificate, Options, PgBouncer, Server};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/misconfigurations.txt");
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
const FROM: &str = "<!-- misconfigurations: written by storage-cli/tests/misconfigurations.rs -->";
const TO: &str = "<!-- end of misconfigurations -->";

/// What is gathered, and what stands for what differs from run to run.
#[derive(Default)]
struct Page {
    text: String,
    placeholders: Vec<(String, &'static str)>,
    cases: u32,
}

impl Page {
    fn put(&mut self, found: impl std::fmt::Display, placeholder: &'static str) {
        self.placeholders.push((format!("{found}"), placeholder));
    }

    fn shown(&self, text: &str) -> String {
        let mut shown = text.to_owned();
        for (found, placeholder) in &self.placeholders {
            shown = shown.replace(found, placeholder);
        }
        // The system's number for its words, and the moment of a mark.
        let words = shown.split_inclusive(' ').map(|word| {
            let moment = word.len() > 20 && word.starts_with("20") && word.contains('T') && word.contains('Z');
            if moment { word.replace(&word[..=word.find('Z').unwrap()], "MOMENT") } else { word.to_owned() }
        });
        let shown: String = words.collect();
        ["111", "2", "-2", "-3"]
            .iter()
            .fold(shown, |shown, number| shown.replace(&format!("(os error {number})"), "(os error N)"))
    }

    fn case(&mut self, place: &Place, title: &str, variables: &[(&str, &str)]) {
        self.command(place, title, &["status"], variables);
    }

    fn command(&mut self, place: &Place, title: &str, arguments: &[&str], variables: &[(&str, &str)]) {
        let mut with = variables.to_vec();
        with.push(("DATA_DIR", "./data"));
        let began = Instant::now();
        let ran = place.run_with(arguments, &with);
        // Most answer in milliseconds. The bound is for what stays silent, and for a machine that is busy.
        assert!(began.elapsed() < Duration::from_secs(8), "{title}: {:?}", began.elapsed());
        assert!(!format!("{ran:?}").contains("MARKED"), "{title}: {ran:#?}");
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| format!("{name}={} ", self.shown(value))).collect();
        let lead = if self.cases == 0 { "" } else { "\n" };
        let _ = writeln!(self.text, "{lead}# {title}\n$ {}storage {}", variables.concat(), arguments.join(" "));
        let (stdout, stderr) = (self.shown(&ran.stdout), self.shown(&ran.stderr));
        let _ = writeln!(self.text, "{stderr}{stdout}exit code {}", ran.code);
        self.cases += 1;
    }
}

#[test]
fn each_answer_is_known() {
    let server = Server::shared().unwrap();
    let mut page = Page::default();
    let database = migrated(server);
    page.put(server.port(), "PORT");
    page.put(database.name(), "DATABASE");
    page.put(server.password(), "PASSWORD");
    page.put("MARKED", "PASSWORD");
    page.put(server.user(), "USER");
    let url = database.url();
    let at = format!("127.0.0.1:{}/{}", server.port(), database.name());

    unreachable(&mut page);
    let none = Place::new();
    let mut case = |title: &str, url: &str| page.case(&none, title, &[("DATABASE_URL", url)]);
    case("no such host", "postgresql://bot:MARKED@no-such-host.invalid/bot");
    case("no such directory of a Unix socket", "postgresql://bot:MARKED@%2Fno%2Fsuch%2Fdirectory/bot");
    case("a wrong password", &format!("postgresql://{}:MARKED@{at}", server.user()));
    case("an unknown role", &format!("postgresql://nobody_here:MARKED@{at}"));
    case("no password", &format!("postgresql://{}@{at}", server.user()));
    case("no such database", &url.replace(database.name(), "no_such_database"));
    case("TLS is demanded and the server has none", &format!("{url}?sslmode=require"));
    case("an unknown word in the URL", &format!("{url}?sslmod=require"));
    case("a password that is not percent-encoded", "postgresql://bot:MARKED@MARKED@127.0.0.1/bot");
    case("not a URL of PostgreSQL", "mysql://bot:MARKED@127.0.0.1/bot");
    tls(&mut page, &none);
    schemas(&mut page, server, &none);
    rights(&mut page, server, &none);
    pooler(&mut page, &none, database.name());
    page.case(&none, "mode postgres without a URL", &[("STORAGE_MODE", "postgres")]);
    page.case(&none, "a setting that is no number", &[("STORAGE_POOL_MAX", "many"), ("DATABASE_URL", &url)]);
    assert!(!none.data().exists(), "status made a directory");

    let used = Place::new();
    used.run_with(&["user", "credit", "1", "5", "--yes"], &[("DATABASE_URL", &url)]).exits(0);
    page.case(&used, "the database was used from this directory, and the URL is gone", &[]);
    let other = migrated(server);
    page.put(other.name(), "OTHER_DATABASE");
    page.case(&used, "another database than the one that was used", &[("DATABASE_URL", &other.url())]);

    assert!(page.cases >= 20, "{}", page.cases);
    compare(Path::new(GOLDEN), &page.text);
    compare_document(&page.text);
}

fn unreachable(page: &mut Page) {
    const DEAD: &str = "postgresql://bot:MARKED@127.0.0.1:1/bot";
    let place = Place::new();
    page.case(&place, "the server is not running", &[("DATABASE_URL", DEAD)]);
    let never = [("STORAGE_FALLBACK", "never"), ("DATABASE_URL", DEAD)];
    page.case(&place, "the same, and no fallback is wanted", &never);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    page.put(port, "PORT");
    let silent = format!("postgresql://bot:MARKED@127.0.0.1:{port}/bot?connect_timeout=1");
    page.case(&place, "a server that accepts and never answers", &[("DATABASE_URL", &silent)]);
    assert!(!place.data().exists(), "status made a directory");
    place.run(&["user", "credit", "1", "5", "--yes"]).exits(0);
    page.case(
        &place,
        "the server is not running, and a JSON store of somebody else is there",
        &[("DATABASE_URL", DEAD)],
    );
    let stood_in = Place::new();
    stood_in.program_credits(DEAD, "5");
    page.case(&stood_in, "the server is not running, and a program fell back to JSON", &[("DATABASE_URL", DEAD)]);
    let change = ["user", "credit", "1", "5", "--yes"];
    page.command(&stood_in, "a command that changes something never does", &change, &[("DATABASE_URL", DEAD)]);
}

fn tls(page: &mut Page, place: &Place) {
    let server = Server::start(Options { tls: Some(Certificate::Localhost), ..Options::default() }).unwrap();
    let ca = server.tls().unwrap();
    page.put(server.port(), "PORT");
    page.put(server.password(), "PASSWORD");
    page.put(ca.ca_file().display(), "ca.pem");
    page.put(ca.other_ca_file().display(), "other_ca.pem");
    let url = |host: &str, ca: &Path| {
        let url = server.url("postgres").replace("127.0.0.1", host);
        format!("{url}?hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert={}", ca.display())
    };
    let wrong_ca = url("localhost", ca.other_ca_file());
    page.case(place, "the certificate is signed by another authority", &[("DATABASE_URL", &wrong_ca)]);
    let wrong_host = url("other.example", ca.ca_file());
    page.case(place, "the certificate is for another host", &[("DATABASE_URL", &wrong_host)]);
    let missing = url("localhost", Path::new("/no/such/file.pem"));
    page.case(place, "the file of trusted certificates is missing", &[("DATABASE_URL", &missing)]);
}

fn schemas(page: &mut Page, server: &Server, place: &Place) {
    let empty = server.create_empty_database().unwrap();
    let newer = migrated(server);
    let insert = "INSERT INTO storage_migrations (version, name, applied_on, checksum)
                  SELECT 999, 'later', applied_on, checksum FROM storage_migrations LIMIT 1";
    server.execute(newer.name(), insert).unwrap();
    let half = migrated(server);
    server.execute(half.name(), "ALTER TABLE payments DROP COLUMN notes").unwrap();
    let foreign = server.create_empty_database().unwrap();
    server.execute(foreign.name(), "CREATE TABLE payments (x text)").unwrap();
    let original = original(server);
    for (title, database) in [
        ("the schema was never migrated", &empty),
        ("the schema is of a newer program", &newer),
        ("the schema was changed by hand", &half),
        ("tables of somebody else have the same names", &foreign),
        ("the tables of the earlier system", &original),
    ] {
        page.put(database.name(), "DATABASE");
        page.case(place, title, &[("DATABASE_URL", &database.url())]);
    }
    let variables = [("STORAGE_SCHEMA", "Shop A"), ("DATABASE_URL", &original.url())];
    page.case(place, "a name that is none for a schema", &variables);
}

fn rights(page: &mut Page, server: &Server, place: &Place) {
    let database = migrated(server);
    let name = format!("reader_{}", database.name());
    let url = role(server, &database, &name, &format!("GRANT USAGE ON SCHEMA public TO {name}"));
    // The role's name holds the database's.
    page.placeholders.insert(0, (name.clone(), "ROLE"));
    page.put(database.name(), "DATABASE");
    page.case(place, "a role without rights to the tables", &[("DATABASE_URL", &url)]);
    server.execute(database.name(), &format!("DROP OWNED BY {name}; DROP ROLE {name}")).unwrap();
    let read_only = format!("ALTER DATABASE {} SET default_transaction_read_only = on", database.name());
    server.execute("postgres", &read_only).unwrap();
    let url = database.url();
    page.case(place, "a database that takes no writes, and a new store", &[("DATABASE_URL", &url)]);
    let strict = format!("{url}?target_session_attrs=read-write");
    page.case(place, "the same, and the URL demands one that does", &[("DATABASE_URL", &strict)]);
}

fn pooler(page: &mut Page, place: &Place, database: &str) {
    let pooler = PgBouncer::shared().unwrap();
    page.put(pooler.port(), "PORT");
    let options = format!("{}?options=-c%20statement_timeout%3D1", pooler.url(database));
    page.case(place, "options in the URL, through PgBouncer", &[("DATABASE_URL", &options)]);
    let url = pooler.url(database);
    let prepared = [("STORAGE_STATEMENTS", "prepared"), ("DATABASE_URL", &url)];
    page.case(place, "prepared statements through PgBouncer", &prepared);
}

/// Compares with what is kept; renews it with `GOLDEN=write`.
#[track_caller]
fn compare(file: &Path, text: &str) {
    if std::env::var_os("GOLDEN").is_some_and(|word| word == "write") {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    let kept = std::fs::read_to_string(file).unwrap_or_default();
    for (line, (found, kept)) in text.lines().zip(kept.lines()).enumerate() {
        assert_eq!(found, kept, "{}, line {}: GOLDEN=write renews it", file.display(), line + 1);
    }
    assert_eq!(text.lines().count(), kept.lines().count(), "{}: GOLDEN=write renews it", file.display());
}

/// The same text, between two marks.
#[track_caller]
fn compare_document(text: &str) {
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let (before, rest) = document.split_once(FROM).unwrap();
    let (_, after) = rest.split_once(TO).unwrap();
    compare(Path::new(DOCUMENT), &format!("{before}{FROM}\n```text\n{text}```\n{TO}{after}"));
}
