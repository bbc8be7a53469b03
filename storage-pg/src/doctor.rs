//! Examines a server and what the store needs of it. Reads catalogs and statistics alone, on one connection of its own.

use std::collections::BTreeMap;

use migrations::Schema;
use storage_core::{Diagnosis, Result, Timestamp};
use tokio_postgres::Row;

use crate::connect::Target;
use crate::fault::Fault;
use crate::fields::Fields;
use crate::open::{dial, migration_error, schema, target};
use crate::options::{PgOptions, Statements};
use crate::pool::{Connection, Manager};
use crate::release::Release;
use crate::statement::{Statement, statements};
use crate::wire::Value;

/// A clock that is this far away is told, in microseconds; beyond the second it is bad.
const CLOCK_NOTICE: i64 = 2_000_000;
const CLOCK_BAD: i64 = 60_000_000;
/// A table with so many dead rows, and as many as a fifth of the living, is bloated.
const DEAD_ROWS: i64 = 10_000;

statements! {
    /// Statements of the examination.
    DoctorStatements {
        server() =
            "SELECT current_setting('server_version') AS version, current_setting('server_version_num')::bigint AS number,
                 clock_timestamp() AS at, current_setting('fsync') AS fsync,
                 current_setting('full_page_writes') AS full_page_writes,
                 current_setting('synchronous_commit') AS synchronous_commit,
                 current_setting('synchronous_standby_names') AS standby_names,
                 current_setting('autovacuum') AS autovacuum";
        /// Others' sessions show their state only to a member of `pg_monitor`; their number shows to everybody.
        sessions() =
            "SELECT current_setting('max_connections')::bigint
                     - current_setting('superuser_reserved_connections')::bigint AS slots,
                 (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend') AS used,
                 (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE datname = current_database()
                     AND state LIKE 'idle in transaction%'
                     AND clock_timestamp() - state_change > interval '1 minute') AS idle,
                 pg_has_role(current_user, 'pg_monitor', 'MEMBER') AS sees_standbys,
                 (SELECT count(*) FROM pg_catalog.pg_stat_replication) AS standbys,
                 (SELECT count(*) FROM pg_catalog.pg_stat_replication
                     WHERE sync_state IN ('sync', 'quorum')) AS in_step";
        moved_to() = "SELECT value FROM {s}.storage_meta WHERE name = 'moved_to'";
        tables(TEXT) =
            "SELECT relname::text AS name, n_live_tup AS living, n_dead_tup AS dead
             FROM pg_catalog.pg_stat_all_tables WHERE schemaname = $1 ORDER BY relname ASC";
        indexes(TEXT) =
            "SELECT c.relname::text AS name, i.indisvalid AS valid FROM pg_catalog.pg_index i
                 JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = $1 ORDER BY c.relname ASC";
    }
}

/// Examines a database: version, clock, durability, standbys, connections, TLS, pooler, schema, dead rows, indexes.
///
/// Never fails: what cannot be looked at is a finding too. Nothing that is found holds a secret.
pub async fn examine(options: &PgOptions) -> Vec<Diagnosis> {
    const SUBJECT: &str = "connection";
    let (schema, target) = match schema(&options.schema).and_then(|schema| Ok((schema, target(&options.url)?))) {
        Ok(read) => read,
        Err(error) => return vec![Diagnosis::bad(SUBJECT, error.report().to_string(), "put the configuration right")],
    };
    let (manager, connection) = match dial(&options.url, options).await {
        Ok(dialled) => dialled,
        Err(error) => {
            let remedy = "do what the message says, then run storage doctor again";
            return vec![Diagnosis::bad(SUBJECT, error.error().report().to_string(), remedy)];
        }
    };
    let mut found = vec![connected(&connection, &target)];
    let mut patient = Patient { options, schema, manager, connection, sql: None };
    let limit = options.limits.operation;
    let examined = tokio::time::timeout(limit, patient.examine(&mut found)).await;
    if let Err(error) = examined.unwrap_or_else(|_| Err(Fault::Silent(limit).into_error())) {
        found.push(Diagnosis::bad("examination", error.report().to_string(), "look at the server's log"));
    }
    found
}

fn connected(connection: &Connection, target: &Target) -> Diagnosis {
    const SUBJECT: &str = "connection";
    let shown = target.shown();
    if connection.encrypted {
        Diagnosis::good(SUBJECT, format!("{shown}, encrypted"))
    } else if target.is_local() {
        Diagnosis::good(SUBJECT, format!("{shown}, on this machine"))
    } else {
        Diagnosis::notice(SUBJECT, format!("{shown}, in clear"), "sslmode=verify-full in the URL")
    }
}

struct Patient<'o> {
    options: &'o PgOptions,
    schema: Schema,
    manager: Manager,
    connection: Connection,
    sql: Option<DoctorStatements>,
}

impl Patient<'_> {
    async fn rows(&mut self, which: fn(&DoctorStatements) -> &Statement, values: &[Value<'_>]) -> Result<Vec<Row>> {
        let sql = self.sql.get_or_insert_with(|| DoctorStatements::new(&self.schema));
        let rows = self.connection.parts.wire(&self.connection.client).alone(which(sql), values).await;
        rows.map_err(|error| Fault::from(error).into_error())
    }

    async fn row(&mut self, which: fn(&DoctorStatements) -> &Statement) -> Result<Row> {
        let first = self.rows(which, &[]).await?.into_iter().next();
        first.ok_or_else(|| storage_core::Error::internal("the server answered nothing"))
    }

    async fn examine(&mut self, found: &mut Vec<Diagnosis>) -> Result<()> {
        let clock = &self.options.environment.clock;
        let before = clock.now();
        let server = self.row(|sql| &sql.server).await?;
        let after = clock.now();
        server_facts(&server, (before, after), found)?;
        found.push(self.pooler());
        sessions(&self.row(|sql| &sql.sessions).await?, &server, self.options, found)?;
        let state = migrations::inspect(&self.connection.client, &self.schema).await.map_err(migration_error)?;
        let current = state.works();
        let around = migrations::surroundings(&self.connection.client, &self.schema).await.map_err(migration_error)?;
        for (what, remedy) in around.wrong {
            found.push(Diagnosis::bad("tables", what, remedy));
        }
        for (what, remedy) in around.strange {
            found.push(Diagnosis::notice("surroundings", what, remedy));
        }
        found.push(if current {
            Diagnosis::good("schema", format!("{}, {state}", self.schema))
        } else {
            Diagnosis::bad("schema", format!("{}, {state}", self.schema), "storage migrate --check")
        });
        if current {
            let schema = self.schema.name().to_owned();
            found.push(dead_rows(&self.rows(|sql| &sql.tables, &[&schema]).await?, &self.schema)?);
            found.push(indexes(&self.rows(|sql| &sql.indexes, &[&schema]).await?, &self.schema)?);
            for row in self.rows(|sql| &sql.moved_to, &[]).await? {
                let mut fields = Fields::of(&row, "storage_meta");
                let told = format!("the contents were moved to {}", fields.word()?);
                found.push(Diagnosis::notice("moved", told, "use that store; writing here is refused"));
            }
        }
        Ok(())
    }

    fn pooler(&self) -> Diagnosis {
        const SUBJECT: &str = "pooler";
        match (self.manager.is_behind_pooler(), self.options.statements) {
            (true, Statements::Prepared) => Diagnosis::bad(
                SUBJECT,
                "there is one, or something like it, and it would mix prepared statements up among its clients",
                "STORAGE_STATEMENTS=auto",
            ),
            (true, _) => Diagnosis::good(
                SUBJECT,
                "there is one, or something like it: statements are unnamed, and each transaction has its limits",
            ),
            (false, Statements::Unnamed) => {
                Diagnosis::good(SUBJECT, "none; STORAGE_STATEMENTS=auto would prepare statements, which is faster")
            }
            (false, _) => Diagnosis::good(SUBJECT, "none; statements are prepared"),
        }
    }
}

/// What the server says of itself.
fn server_facts(row: &Row, between: (Timestamp, Timestamp), found: &mut Vec<Diagnosis>) -> Result<()> {
    let mut fields = Fields::of(row, "server");
    let (version, number, at) = (fields.word()?, fields.int()?, fields.at()?);
    let release = Release(number);
    found.push(if release.is_too_old() {
        let remedy = format!("{} are supported: upgrade the server", Release::supported());
        Diagnosis::bad("version", format!("PostgreSQL {version}"), remedy)
    } else if release.is_untried() {
        let remedy = format!("this program was tested on {}: look for a newer one", Release::supported());
        Diagnosis::notice("version", format!("PostgreSQL {version}"), remedy)
    } else {
        Diagnosis::good("version", format!("PostgreSQL {version}"))
    });
    found.push(clock(at, between));
    // A connection to a server that takes no writes is refused before anything is asked.
    found.push(Diagnosis::good("role", "a primary"));
    let (fsync, pages, commit) = (fields.word()?, fields.word()?, fields.word()?);
    let off: Vec<&str> = [("fsync", fsync), ("full_page_writes", pages), ("synchronous_commit", commit)]
        .into_iter()
        .filter_map(|(name, value)| (value == "off").then_some(name))
        .collect();
    found.push(if off.is_empty() {
        Diagnosis::good("durability", "what is committed is on the disk")
    } else {
        let what = format!("{} off: a crash may lose what was acknowledged", off.join(", "));
        Diagnosis::bad("durability", what, "switch it on in postgresql.conf")
    });
    let (_, autovacuum) = (fields.word()?, fields.word()?);
    if autovacuum == "off" {
        found.push(Diagnosis::bad("autovacuum", "off: tables grow without end", "autovacuum = on in postgresql.conf"));
    }
    Ok(())
}

fn clock(server: Timestamp, (before, after): (Timestamp, Timestamp)) -> Diagnosis {
    const SUBJECT: &str = "clock";
    // Nobody knows when in between the server looked.
    let away = (before.micros() - server.micros()).max(server.micros() - after.micros()).max(0);
    let what = format!("{}.{:03} s apart from the server's", away / 1_000_000, away / 1000 % 1000);
    let remedy = "set both clocks right (NTP): times in the store are this machine's";
    match away {
        ..CLOCK_NOTICE => Diagnosis::good(SUBJECT, what),
        CLOCK_NOTICE..CLOCK_BAD => Diagnosis::notice(SUBJECT, what, remedy),
        _ => Diagnosis::bad(SUBJECT, what, remedy),
    }
}

fn sessions(row: &Row, server: &Row, options: &PgOptions, found: &mut Vec<Diagnosis>) -> Result<()> {
    let mut fields = Fields::of(row, "pg_stat_activity");
    let (slots, used, idle) = (fields.int()?, fields.int()?, fields.int()?);
    let most = i64::from(options.max_connections);
    let what = format!("{used} of {slots} in use; this program's pool takes up to {most}");
    found.push(if most > slots {
        Diagnosis::bad("connections", what, "lower STORAGE_POOL_MAX or raise max_connections")
    } else if used + most > slots {
        Diagnosis::notice("connections", what, "lower STORAGE_POOL_MAX, raise max_connections, or put a pooler between")
    } else {
        Diagnosis::good("connections", what)
    });
    if idle > 0 {
        let what = format!("{idle} transactions have been idle for more than a minute, and keep what they locked");
        found.push(Diagnosis::notice("idle transactions", what, "look for 'idle in transaction' in pg_stat_activity"));
    }
    let (sees, standbys, in_step) = (fields.flag()?, fields.int()?, fields.int()?);
    let names: String = server.try_get("standby_names").map_err(|error| Fault::from(error).into_error())?;
    found.push(match (names.is_empty(), sees, standbys, in_step) {
        (true, _, 0, _) => Diagnosis::good("standbys", "none"),
        (true, ..) => Diagnosis::good("standbys", format!("{standbys}, none of them synchronous")),
        (false, _, 0, _) | (false, true, _, 0) => Diagnosis::bad(
            "standbys",
            "synchronous_standby_names is set and no such standby is there: every change waits for it",
            "bring a standby back, or clear synchronous_standby_names",
        ),
        (false, true, ..) => Diagnosis::good("standbys", format!("{standbys}, {in_step} of them synchronous")),
        (false, false, ..) => {
            Diagnosis::good("standbys", format!("{standbys}; which are in step only pg_monitor may see"))
        }
    });
    Ok(())
}

fn dead_rows(rows: &[Row], schema: &Schema) -> Result<Diagnosis> {
    const SUBJECT: &str = "dead rows";
    let mut bloated = Vec::new();
    for row in rows {
        let mut fields = Fields::of(row, "pg_stat_all_tables");
        let (name, living, dead) = (fields.word()?, fields.int()?, fields.int()?);
        if dead >= DEAD_ROWS && dead >= living / 5 {
            bloated.push(format!("{name} ({dead} beside {living})"));
        }
    }
    if bloated.is_empty() {
        return Ok(Diagnosis::good(SUBJECT, format!("few in all {} tables", rows.len())));
    }
    let what = format!("many in {}", bloated.join(", "));
    let remedy = format!("VACUUM (ANALYZE) the tables of {schema}, and look why autovacuum does not");
    Ok(Diagnosis::notice(SUBJECT, what, remedy))
}

/// Every index that the migrations make must be there and usable; unique ones are part of the schema's state too.
fn indexes(rows: &[Row], schema: &Schema) -> Result<Diagnosis> {
    const SUBJECT: &str = "indexes";
    let mut present = BTreeMap::new();
    for row in rows {
        let mut fields = Fields::of(row, "pg_index");
        present.insert(fields.word()?, fields.flag()?);
    }
    let wanted = index_names();
    let missing: Vec<&str> = wanted.iter().map(String::as_str).filter(|name| !present.contains_key(name)).collect();
    let invalid: Vec<&str> = present.iter().filter(|(_, valid)| !**valid).map(|(name, _)| *name).collect();
    Ok(if !missing.is_empty() {
        let what = format!("missing in {schema}: {}", missing.join(", "));
        Diagnosis::bad(SUBJECT, what, "make them again: storage migrate --dry-run on an empty schema prints how")
    } else if !invalid.is_empty() {
        Diagnosis::bad(SUBJECT, format!("not usable in {schema}: {}", invalid.join(", ")), "REINDEX INDEX CONCURRENTLY")
    } else {
        Diagnosis::good(SUBJECT, format!("all {} are there", wanted.len()))
    })
}

/// The names of the indexes that the migrations make by themselves.
fn index_names() -> Vec<String> {
    let mut names = Vec::new();
    for step in migrations::steps() {
        let mut words = step.sql.split_whitespace();
        while let Some(word) = words.next() {
            if word == "INDEX" {
                names.extend(words.next().map(ToOwned::to_owned));
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage_core::Verdict;

    #[test]
    fn the_doctor_only_looks() {
        let sql = DoctorStatements::new(&Schema::default());
        for Statement { name, text, .. } in sql.all() {
            assert!(text.lines().nth(1).is_some_and(|line| line.starts_with("SELECT ")), "{name}");
            assert!(!text.contains(" FOR ") && !text.contains("{s}"), "{name}");
        }
    }

    #[test]
    fn the_migrations_name_their_indexes() {
        let names = index_names();
        assert!(names.contains(&"generation_jobs_by_status".to_owned()), "{names:?}");
        assert!(names.iter().all(|name| name.contains("_by_")), "{names:?}");
    }

    #[test]
    fn clocks_are_compared_with_the_time_of_the_question() {
        let at = |seconds: i64| Timestamp::from_micros(1_700_000_000_000_000 + seconds * 1_000_000).unwrap();
        let verdict = |server, before, after| clock(at(server), (at(before), at(after))).verdict;
        assert_eq!(verdict(5, 0, 10), Verdict::Good);
        assert_eq!(verdict(13, 0, 10), Verdict::Notice);
        assert_eq!(verdict(-3, 0, 10), Verdict::Notice);
        assert_eq!(verdict(100, 0, 10), Verdict::Bad);
        assert_eq!(verdict(-61, 0, 10), Verdict::Bad);
    }
}
