//! What a stranger may do who can make things in the schema: for every function and operator of the server's catalog whose name
//! stands in our SQL, others of the same name for all types that would fit as well or better. Whoever calls one of them fails, and
//! is counted.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use pg_test_server::Server;

/// Calls of decoys in all databases that were looked at.
pub(crate) static CALLS: AtomicU64 = AtomicU64::new(0);

const SQL: &str = r"
CREATE SCHEMA decoy;
CREATE SEQUENCE decoy.calls MINVALUE 0 START 0;
GRANT USAGE ON SCHEMA decoy TO PUBLIC;
GRANT ALL ON SEQUENCE decoy.calls TO PUBLIC;
SET check_function_bodies = off;
SET search_path = pg_catalog;
DO $decoys$
DECLARE
    kinds text[] := '{int4,int8,numeric,text,name,bool,uuid,timestamptz,date,text[],int8[]}';
    body text := $body$ LANGUAGE plpgsql AS $f$BEGIN
        PERFORM pg_catalog.nextval('decoy.calls');
        RAISE EXCEPTION 'a decoy was called';
    END$f$ $body$;
    made record;
BEGIN
    FOR made IN
        WITH real AS (
            SELECT DISTINCT ON (p.proname, p.pronargs) p.proname, p.pronargs,
                CASE WHEN p.proretset THEN 'SETOF ' ELSE '' END
                    || CASE WHEN t.typtype = 'p' THEN 'text' ELSE format_type(t.oid, NULL) END AS result
            FROM pg_proc p JOIN pg_type t ON t.oid = p.prorettype
            WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY (string_to_array($names$NAMES$names$, ','))
                AND p.pronargs <= 3
            ORDER BY p.proname, p.pronargs, p.oid
        )
        SELECT proname, '' AS arguments, result FROM real WHERE pronargs = 0
        UNION ALL SELECT proname, a, result FROM real, unnest(kinds) a WHERE pronargs = 1
        UNION ALL SELECT proname, a || ',' || b, result FROM real, unnest(kinds) a, unnest(kinds) b WHERE pronargs = 2
        UNION ALL SELECT proname, 'text,text,bool', result FROM real WHERE pronargs = 3
    LOOP
        EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS %s %s', made.proname, made.arguments, made.result, body);
    END LOOP;
    FOR made IN
        SELECT o AS name, a AS l, b AS r, CASE WHEN o IN ('+', '-', '*', '/', '%') THEN 'numeric'
            WHEN o = '||' THEN 'text' ELSE 'bool' END AS result
        FROM unnest('{=,<>,<,<=,>,>=,+,-,*,/,%,||,~,~~,*<>}'::text[]) o, unnest(kinds) a, unnest(kinds) b
    LOOP
        EXECUTE format('CREATE OR REPLACE FUNCTION decoy.%I(%s, %s) RETURNS %s %s', 'of_' || made.result, made.l, made.r,
            made.result, body);
        EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = decoy.%I)', made.name, made.l, made.r,
            'of_' || made.result);
    END LOOP;
END $decoys$;
";

/// Makes them in a database that has nothing yet.
pub(crate) fn install(server: &Server, database: &str) -> Result<(), String> {
    let names = names_in_our_sources().map_err(|error| format!("the sources cannot be read: {error}"))?;
    server.execute(database, &SQL.replace("NAMES", &names.into_iter().collect::<Vec<_>>().join(",")))
}

/// How many functions and operators there are.
pub(crate) fn count(server: &Server, database: &str) -> Result<Vec<Vec<Option<String>>>, String> {
    let of =
        |table: &str, column: &str| format!("(SELECT count(*) FROM {table} WHERE {column} = 'public'::regnamespace)");
    server.query_text(
        database,
        &format!(
            "SET search_path = pg_catalog; SELECT {}, {}",
            of("pg_proc", "pronamespace"),
            of("pg_operator", "oprnamespace")
        ),
    )
}

/// Counts the calls in a database. One that never had decoys has none.
pub(crate) fn add_up(server: &Server, database: &str) {
    let called = server
        .query_text(database, "SET search_path = pg_catalog; SELECT last_value + is_called::int FROM decoy.calls");
    let called = called.ok().and_then(|rows| rows.first()?.first()?.as_ref()?.parse::<u64>().ok());
    CALLS.fetch_add(called.unwrap_or(0), Ordering::Relaxed);
}

/// Every word before a parenthesis: all functions of our SQL are among them.
fn names_in_our_sources() -> std::io::Result<BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names = BTreeSet::new();
    let mut folders = vec![root.join("src"), root.join("../migrations/src"), root.join("../migrations/sql")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(path)?;
            for (at, _) in text.match_indices('(') {
                let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
                names.extend(text[..at].rsplit(|c| !word(c)).next().filter(|name| !name.is_empty()).map(str::to_owned));
            }
        }
    }
    Ok(names)
}
