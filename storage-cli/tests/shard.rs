//! `storage shard` on a server without a sharding engine, and on one with a stand-in that notes what it is told.
#![cfg(feature = "postgres")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails must stop")]

mod common;

use common::pg::{migrated, value};
use common::{Place, Ran};
use pg_test_server::Server;
use serde_json::json;

fn run(place: &Place, url: &str, arguments: &[&str]) -> Ran {
    place.run_with(arguments, &[("DATABASE_URL", url)])
}

/// What the store asks of the engine, as far as it shows: the extension, its view, its two functions. They refuse what the
/// engine refuses: a table that is spread already, and foreign keys to a table that is not.
const STAND_IN: &str = "
    SET allow_system_table_mods = on;
    INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
        VALUES (77777, 'citus', 10, 11, false, '12.1-stand-in');
    CREATE TABLE public.citus_tables (table_name regclass PRIMARY KEY, citus_table_type text, distribution_column text,
        beside text);
    GRANT SELECT, INSERT ON public.citus_tables TO PUBLIC;
    CREATE FUNCTION public.create_distributed_table(name regclass, col text, colocate_with text) RETURNS void
        LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM pg_constraint k WHERE k.contype = 'f' AND (k.conrelid = name OR k.confrelid = name)) THEN
            RAISE EXCEPTION 'a foreign key of %', name;
        END IF;
        IF current_setting('citus.enable_unsafe_triggers') <> 'on' THEN
            RAISE EXCEPTION 'triggers';
        END IF;
        INSERT INTO public.citus_tables VALUES (name, 'distributed', col, colocate_with);
    END $$;
    CREATE FUNCTION public.create_reference_table(name regclass) RETURNS void LANGUAGE sql AS
        $$ INSERT INTO public.citus_tables VALUES (name, 'reference', NULL, NULL) $$;";

#[test]
fn without_an_engine_there_is_nothing_to_do() {
    let server = Server::shared().unwrap();
    let (place, database) = (Place::new(), migrated(server));
    for arguments in [&["shard", "--check"][..], &["shard", "--apply"], &["shard", "--apply", "--yes"]] {
        let ran = run(&place, &database.url(), arguments).exits(0);
        assert!(ran.stdout.contains("no sharding engine") && ran.stdout.contains("nothing to do"), "{ran:#?}");
    }
    let answer = run(&place, &database.url(), &["shard", "--check", "--json"]).exits(0).json();
    assert_eq!(answer, json!({ "engine": null, "tables": [], "pending": [] }));
    run(&place, &database.url(), &["shard"]).exits(2);
    run(&place, &database.url(), &["shard", "--check", "--apply"]).exits(2);
    let ran = place.run(&["shard", "--check"]).exits(0);
    assert!(ran.stdout.contains("nothing to shard"), "{ran:#?}");
    let empty = server.create_empty_database().unwrap();
    let ran = run(&place, &empty.url(), &["shard", "--check"]).exits(3);
    assert!(ran.stderr.contains("storage migrate"), "{ran:#?}");
}

#[test]
fn every_table_is_spread_once_and_keeps_its_foreign_keys() {
    let server = Server::shared().unwrap();
    let (place, database) = (Place::new(), migrated(server));
    server.execute(database.name(), STAND_IN).unwrap();
    let run = |arguments: &[&str]| run(&place, &database.url(), arguments);
    let keys = "SELECT count(*) FROM pg_constraint WHERE contype = 'f'";
    let before = value(server, database.name(), keys);

    let checked = run(&["shard", "--check", "--json"]).exits(3).json();
    assert_eq!((&checked["engine"], checked["pending"].as_array().unwrap().len()), (&json!("12.1-stand-in"), 14));
    let planned = run(&["shard", "--apply"]).exits(7);
    assert!(planned.stderr.contains("operations by user_id"), "{planned:#?}");
    run(&["shard", "--apply", "--dry-run"]).exits(0);
    assert_eq!(value(server, database.name(), "SELECT count(*) FROM citus_tables"), "0");

    let spread = run(&["shard", "--apply", "--yes"]).exits(0);
    assert!(spread.stdout.starts_with("spread: users, "), "{spread:#?}");
    let by = "SELECT string_agg(DISTINCT coalesce(distribution_column, citus_table_type) || ' ' || coalesce(beside, '-'), ', '
                  ORDER BY coalesce(distribution_column, citus_table_type) || ' ' || coalesce(beside, '-')) FROM citus_tables";
    assert_eq!(value(server, database.name(), by), "id none, reference -, user_id \"public\".users");
    assert_eq!(value(server, database.name(), keys), before);

    for again in [&["shard", "--check"][..], &["shard", "--apply"], &["shard", "--apply", "--yes"]] {
        assert!(run(again).exits(0).stdout.contains("nothing to do"));
    }
    // A sharded store opens, and works user by user.
    run(&["status"]).exits(0);

    server
        .execute(
            database.name(),
            "UPDATE citus_tables SET distribution_column = 'seq' WHERE table_name = 'operations'::regclass",
        )
        .unwrap();
    let misplaced = run(&["shard", "--apply", "--yes"]).exits(7);
    assert!(misplaced.stderr.contains("operations by seq"), "{misplaced:#?}");
}
