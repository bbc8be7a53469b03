//! What a program needs to be allowed, table by table, and what stands around the tables that is not the store's.

use std::fmt::Write as _;

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::plan::HISTORY_TABLE;
use crate::reader::Reader;
use crate::schema::{Schema, quote};

const APPEND: &[&str] = &["SELECT", "INSERT"];
const CHANGE: &[&str] = &["SELECT", "INSERT", "UPDATE"];
const REPLACE: &[&str] = &["SELECT", "INSERT", "DELETE"];

/// The least rights with which a store runs: no table is dropped, truncated or altered by them.
const RIGHTS: [(&str, &[&str]); 15] = [
    ("users", CHANGE),
    ("user_settings", CHANGE),
    ("daily_free_generations", CHANGE),
    ("admin_limits", CHANGE),
    ("operations", APPEND),
    ("operation_keys", APPEND),
    ("balance_reserves", CHANGE),
    ("generation_jobs", CHANGE),
    ("generation_history", REPLACE),
    ("payments", CHANGE),
    ("referrals", CHANGE),
    ("referral_heights", CHANGE),
    ("id_routes", REPLACE),
    ("storage_meta", CHANGE),
    (HISTORY_TABLE, &["SELECT"]),
];

/// The SQL that gives a role the least rights to run a store. The owner of the tables runs it.
pub(crate) fn grants(schema: &Schema, role: &str) -> String {
    let (s, role) = (schema.quoted(), quote(role));
    let mut sql = format!("GRANT USAGE ON SCHEMA {s} TO {role};\n");
    for (table, rights) in RIGHTS {
        // Writing to a String cannot fail.
        let _ = writeln!(sql, "GRANT {} ON {s}.{table} TO {role};", rights.join(", "));
    }
    let _ = writeln!(
        sql,
        "-- For tables that a later release adds; for the role that runs this, which should be the one that migrates.\n\
         ALTER DEFAULT PRIVILEGES IN SCHEMA {s} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role};"
    );
    sql
}

/// What stands around the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Surroundings {
    /// What no store opens with, because rows would be missing or nothing could be written, and the SQL that helps.
    pub wrong: Vec<(String, String)>,
    /// What somebody should know of, and what to do about it.
    pub strange: Vec<(String, String)>,
}

/// One row for each table, none where it is missing; all from one moment.
const AROUND: &str = "
    SELECT c.relname::text, c.relkind::text, c.relpersistence::text, row_security_active(c.oid),
        ARRAY(SELECT right_of FROM unnest(string_to_array(t.rights, ',')) AS right_of
            WHERE NOT has_table_privilege(c.oid, right_of)),
        ARRAY(SELECT g.tgname::text FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid
            WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND NOT (p.pronamespace = n.oid
                AND p.proname IN ('storage_fill_updated_at', 'storage_refuse_moved')) ORDER BY g.tgname ASC),
        ARRAY(SELECT r.rulename::text FROM pg_rewrite r WHERE r.ev_class = c.oid AND c.relkind <> 'v'
            ORDER BY r.rulename ASC)
    FROM unnest($2, $3) AS t (name, rights) JOIN pg_namespace n ON n.nspname = $1
        JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.name
    ORDER BY c.relname ASC";

/// Whether anybody may make things in the schema; what is made there is found before what is not.
const OPEN: &str = "SELECT 1 FROM pg_namespace WHERE nspname = $1 AND has_schema_privilege('public', oid, 'CREATE')";

/// Looks around the tables that are there.
pub(crate) async fn surroundings(client: &Client, schema: &Schema) -> Result<Surroundings, tokio_postgres::Error> {
    let tables: Vec<&str> = RIGHTS.iter().map(|(table, _)| *table).collect();
    let rights: Vec<String> = RIGHTS.iter().map(|(_, rights)| rights.join(",")).collect();
    let values: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
        [(&schema.name(), Type::NAME), (&tables, Type::TEXT_ARRAY), (&rights, Type::TEXT_ARRAY)];
    let rows = Reader::Alone(client).rows(AROUND, &values).await?;
    let mut around = Surroundings::default();
    for row in &rows {
        let name: String = row.try_get(0)?;
        let (kind, lasting): (String, String) = (row.try_get(1)?, row.try_get(2)?);
        let place = format!("{}.{name}", schema.quoted());
        if let Some(kind) = stand_in(&kind) {
            around.wrong.push((
                format!("{name} is {kind} and no table"),
                format!("give {place} another name, and put the table back from a backup"),
            ));
            continue;
        }
        if row.try_get(3)? {
            around.wrong.push((
                format!("row security hides rows of {name} from this role"),
                format!("ALTER TABLE {place} DISABLE ROW LEVEL SECURITY, or ALTER ROLE ... BYPASSRLS"),
            ));
        }
        let missing: Vec<String> = row.try_get(4)?;
        if !missing.is_empty() {
            around.wrong.push((
                format!("this role may not {} {name}", missing.join(", ")),
                "storage migrate --grants ROLE, and what it prints as the owner of the tables".to_owned(),
            ));
        }
        if lasting != "p" {
            around.wrong.push((
                format!("{name} is not logged, and empty after a crash"),
                format!("ALTER TABLE {place} SET LOGGED"),
            ));
        }
        for trigger in row.try_get::<_, Vec<String>>(5)? {
            around.strange.push((
                format!("the trigger {trigger} on {name} is not the store's"),
                format!("see what it does: it runs in every change; DROP TRIGGER {} ON {place}", quote(&trigger)),
            ));
        }
        for rule in row.try_get::<_, Vec<String>>(6)? {
            around.strange.push((
                format!("the rule {rule} on {name} is not the store's"),
                format!("a rule can keep a change from the table; DROP RULE {} ON {place}", quote(&rule)),
            ));
        }
    }
    if !Reader::Alone(client).rows(OPEN, &[(&schema.name(), Type::NAME)]).await?.is_empty() {
        around.strange.push((
            format!("everybody may make things in the schema {schema}"),
            format!("REVOKE CREATE ON SCHEMA {} FROM PUBLIC", schema.quoted()),
        ));
    }
    Ok(around)
}

/// What stands in a table's place.
fn stand_in(kind: &str) -> Option<&'static str> {
    match kind {
        "r" | "p" => None,
        "v" => Some("a view"),
        "m" => Some("a materialized view"),
        "f" => Some("a foreign table"),
        _ => Some("something else"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table that a later migration adds needs rights too.
    #[test]
    fn every_table_has_its_rights() {
        let tables: Vec<&str> = crate::shard::TABLES.iter().map(|(table, _)| *table).collect();
        let granted = RIGHTS.iter().map(|(table, _)| *table).filter(|table| *table != HISTORY_TABLE);
        assert_eq!(granted.collect::<Vec<_>>(), tables);
    }

    #[test]
    fn a_role_is_quoted() {
        let sql = grants(&Schema::default(), "a\"b");
        assert!(sql.starts_with("GRANT USAGE ON SCHEMA \"public\" TO \"a\"\"b\";\n"), "{sql}");
        assert!(sql.contains("GRANT SELECT, INSERT ON \"public\".operations TO"), "{sql}");
    }
}
