//! What stands in a schema, told from the catalog and the history alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tokio_postgres::types::Type;

use crate::plan::{HISTORY_TABLE, META_TABLE, Plan, UNFINISHED, WORKS_SINCE};
use crate::reader::Reader;
use crate::schema::Schema;
use crate::shape::{ORIGINAL, ORIGINAL_CORE};

/// What stands in a schema. `Display` says it, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// No schema, or nothing of ours in it and nothing in the way: everything is to be applied.
    Missing,
    /// An older program migrated it.
    Older {
        /// The last version applied.
        applied: i32,
        /// What is to be applied, in order.
        pending: Vec<i32>,
    },
    /// As this program needs it.
    Current {
        /// The last version applied, and known.
        version: i32,
    },
    /// A version is applied, and its steps outside of the transaction are not all done. Programs work with it unless something is pending
    /// or missing.
    Unfinished {
        /// The last version applied.
        applied: i32,
        /// The version whose steps are not done.
        unfinished: i32,
        /// What is to be applied after that, in order.
        pending: Vec<i32>,
        /// Unique indexes that are still to be built.
        missing: Vec<String>,
    },
    /// A newer program migrated it, and this one works with what that left: the schema says so.
    Ahead {
        /// The last version applied.
        applied: i32,
        /// The last version that this program knows.
        known: i32,
    },
    /// A newer program migrated it, and this one is not to touch what that left.
    Newer {
        /// The last version applied.
        applied: i32,
        /// The last version that this program knows.
        known: i32,
    },
    /// The history and this program, or the history and the tables, tell different things.
    Divergent {
        /// The last version that the history names, 0 when it names none.
        version: i32,
        /// Applied migrations that have another text here.
        changed: Vec<String>,
        /// Migrations, tables, columns and unique indexes that should be there.
        missing: Vec<String>,
    },
    /// The earlier system's tables.
    Original {
        /// Those that exist.
        tables: Vec<String>,
    },
    /// Relations that have the names of ours, and are neither ours nor the earlier system's.
    Foreign {
        /// Their names.
        tables: Vec<String>,
    },
}

impl State {
    /// Whether this program works with it.
    pub fn works(&self) -> bool {
        match self {
            Self::Current { .. } | Self::Ahead { .. } => true,
            Self::Unfinished { pending, missing, .. } => pending.is_empty() && missing.is_empty(),
            _ => false,
        }
    }

    /// Whether it has all that this program knows, and nothing else.
    pub fn is_known(&self) -> bool {
        self.works() && !matches!(self, Self::Ahead { .. })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("the schema has no tables of the store yet; run `storage migrate`"),
            Self::Older { applied, pending } => {
                let pending: Vec<_> = pending.iter().map(ToString::to_string).collect();
                let pending = pending.join(", ");
                write!(f, "the schema has version {applied} and lacks {pending}; run `storage migrate`")
            }
            Self::Current { version } => write!(f, "the schema has version {version}, there is nothing to do"),
            Self::Unfinished { applied, unfinished, pending, missing } => {
                write!(
                    f,
                    "the schema has version {applied}, and what comes after version {unfinished} beside working programs is not done yet"
                )?;
                let lacks = pending.iter().map(|version| format!("version {version}")).chain(missing.iter().cloned());
                let lacks: Vec<_> = lacks.collect();
                if !lacks.is_empty() {
                    write!(f, ", and it lacks {}", lacks.join(", "))?;
                }
                f.write_str("; run `storage migrate`")
            }
            Self::Ahead { applied, known } => write!(
                f,
                "the schema has version {applied}, with which this program, which knows {known}, goes on; there is nothing to do"
            ),
            Self::Newer { applied, known } => write!(
                f,
                "the schema has version {applied} and this program knows {known} at most; use a newer `storage`"
            ),
            Self::Divergent { version, changed, missing } => {
                write!(f, "the schema is not what its history says (version {version})")?;
                if !changed.is_empty() {
                    write!(f, "; applied with another text: {}", changed.join(", "))?;
                }
                if !missing.is_empty() {
                    write!(f, "; missing: {}", missing.join(", "))?;
                }
                f.write_str("; put it back by hand, or load a backup: nothing here changes such a schema")
            }
            Self::Original { tables } => {
                write!(f, "the earlier system's tables are here ({})", tables.join(", "))?;
                f.write_str("; run `storage migrate --adopt`, which keeps them under other names")
            }
            Self::Foreign { tables } => {
                write!(f, "other tables have the names of the store's ({})", tables.join(", "))?;
                f.write_str("; choose another schema, or rename them")
            }
        }
    }
}

/// An applied migration, as the history has it.
struct Applied {
    version: i32,
    name: String,
    checksum: String,
}

/// Relations of the schema that matter, with their columns, and the history when there is one.
struct Seen {
    tables: BTreeMap<String, Vec<String>>,
    /// Everything that has one of the asked names, whatever its kind.
    relations: BTreeSet<String>,
    history: Vec<Applied>,
    /// Since which version programs work with the schema, and of which version it says so.
    works_since: Option<(i32, i32)>,
    /// The version whose steps outside of its transaction are not all done.
    unfinished: Option<i32>,
}

/// The catalog is readable by everyone and locked by no one. An index that is not valid is none.
const CATALOG: &str = "
    SELECT c.relkind::text, c.relname::text, 0::int4, ARRAY(
        SELECT a.attname::text FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
        has_table_privilege(c.oid, 'SELECT')
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = ANY ($2) AND NOT EXISTS (
        SELECT 1 FROM pg_catalog.pg_index x WHERE x.indexrelid = c.oid AND NOT x.indisvalid)";

async fn look(reader: Reader<'_>, schema: &Schema, plan: &Plan) -> Result<Seen, tokio_postgres::Error> {
    let mut names: Vec<&str> = vec![HISTORY_TABLE];
    for addition in &plan.additions {
        names.push(addition.table);
        names.extend(addition.unique);
    }
    let mut rows = reader.rows(CATALOG, &[(&schema.name(), Type::NAME), (&names, Type::NAME_ARRAY)]).await?;
    let (mut has_history, mut has_meta) = (false, false);
    for row in &rows {
        let kind: String = row.try_get(0)?;
        let name: String = row.try_get(1)?;
        has_history |= name == HISTORY_TABLE && is_table(&kind);
        // Whoever may not read it learns no promise from it.
        has_meta |= name == META_TABLE && is_table(&kind) && row.try_get(4)?;
    }
    if has_history {
        // The catalog once more, with the history in the same statement: both from one moment, or a migration that
        // commits in between would look like damage.
        let s = schema.quoted();
        let mut history = format!(
            "{CATALOG} UNION ALL SELECT 'history', name::text, version::int4, ARRAY[checksum::text], true FROM {s}.{HISTORY_TABLE}"
        );
        if has_meta {
            let since = format!(
                " UNION ALL SELECT m.name, NULL, 0, ARRAY[m.value], true FROM {s}.{META_TABLE} m
                  WHERE m.name IN ('{WORKS_SINCE}', '{UNFINISHED}')"
            );
            history.push_str(&since);
        }
        rows = reader.rows(&history, &[(&schema.name(), Type::NAME), (&names, Type::NAME_ARRAY)]).await?;
    }
    let mut seen = Seen {
        tables: BTreeMap::new(),
        relations: BTreeSet::new(),
        history: Vec::new(),
        works_since: None,
        unfinished: None,
    };
    for row in rows {
        let kind: String = row.try_get(0)?;
        let name: Option<String> = row.try_get(1)?;
        let name = name.unwrap_or_default();
        if kind == WORKS_SINCE || kind == UNFINISHED {
            let value: Vec<Option<String>> = row.try_get(3)?;
            let value = value.into_iter().flatten().next().unwrap_or_default();
            // What cannot be read promises nothing.
            if kind == UNFINISHED {
                seen.unfinished = value.parse().ok();
            } else {
                let said = value.split_once(" in ");
                seen.works_since = said.and_then(|(since, version)| Some((since.parse().ok()?, version.parse().ok()?)));
            }
            continue;
        }
        if kind == "history" {
            let checksum: Vec<Option<String>> = row.try_get(3)?;
            let checksum = checksum.into_iter().flatten().collect();
            seen.history.push(Applied { version: row.try_get(2)?, name, checksum });
            continue;
        }
        if is_table(&kind) {
            seen.tables.insert(name.clone(), row.try_get(3)?);
        }
        seen.relations.insert(name);
    }
    seen.history.sort_by_key(|applied| applied.version);
    Ok(seen)
}

fn is_table(kind: &str) -> bool {
    kind == "r" || kind == "p"
}

/// Reads the state of a schema, without a lock.
pub(crate) async fn inspect(reader: Reader<'_>, schema: &Schema, plan: &Plan) -> Result<State, tokio_postgres::Error> {
    let seen = look(reader, schema, plan).await?;
    Ok(if seen.history.is_empty() { without_history(&seen, plan) } else { with_history(&seen, plan) })
}

fn with_history(seen: &Seen, plan: &Plan) -> State {
    let known = plan.latest();
    let applied = seen.history.last().map_or(0, |last| last.version);
    let mut changed = Vec::new();
    let mut missing = Vec::new();
    let mut pending = Vec::new();
    for migration in &plan.migrations {
        match seen.history.iter().find(|applied| applied.version == migration.version()) {
            Some(applied) => {
                if applied.name != migration.name() || applied.checksum != migration.checksum().to_string() {
                    changed.push(migration.to_string());
                }
            }
            None if migration.version() < applied => missing.push(format!("migration {migration}")),
            None => pending.push(migration.version()),
        }
    }
    for applied in seen.history.iter().filter(|applied| applied.version < known) {
        if !plan.migrations.iter().any(|migration| migration.version() == applied.version) {
            changed.push(format!("V{}__{}", applied.version, applied.name));
        }
    }
    let is_ahead =
        applied > known && seen.works_since.is_some_and(|(since, version)| since <= known && version == applied);
    // A newer program's steps are its own.
    let unfinished = seen.unfinished.filter(|version| applied <= known && *version <= applied);
    let mut unbuilt = Vec::new();
    // What a newer version has renamed or dropped is not ours to miss, unless it says that this program works with it.
    if applied <= known || is_ahead {
        let before = unfinished.map_or_else(Vec::new, |version| lacks(seen, plan, version - 1));
        let (index, lost): (Vec<_>, Vec<_>) = lacks(seen, plan, applied.min(known))
            .into_iter()
            .partition(|what| unfinished.is_some() && what.starts_with(UNIQUE_INDEX) && !before.contains(what));
        unbuilt = index;
        missing.extend(lost);
    }
    if !changed.is_empty() || !missing.is_empty() {
        State::Divergent { version: applied, changed, missing }
    } else if is_ahead {
        State::Ahead { applied, known }
    } else if applied > known {
        State::Newer { applied, known }
    } else if let Some(unfinished) = unfinished {
        State::Unfinished { applied, unfinished, pending, missing: unbuilt }
    } else if pending.is_empty() {
        State::Current { version: applied }
    } else {
        State::Older { applied, pending }
    }
}

const UNIQUE_INDEX: &str = "unique index";

/// What a schema of this version should have and has not.
fn lacks(seen: &Seen, plan: &Plan, version: i32) -> Vec<String> {
    let mut missing: Vec<_> = plan
        .tables(version)
        .into_iter()
        .filter(|table| !seen.tables.contains_key(*table))
        .map(|table| format!("table {table}"))
        .collect();
    for addition in plan.at(version) {
        let Some(columns) = seen.tables.get(addition.table) else { continue };
        for column in addition.columns.iter().filter(|name| !columns.iter().any(|column| column == *name)) {
            missing.push(format!("column {}.{column}", addition.table));
        }
        for index in addition.unique.iter().filter(|name| !seen.relations.contains(**name)) {
            missing.push(format!("{UNIQUE_INDEX} {index} of {}", addition.table));
        }
    }
    missing
}

fn without_history(seen: &Seen, plan: &Plan) -> State {
    let latest = plan.latest();
    let present: Vec<&str> = plan.tables(latest).into_iter().filter(|table| seen.relations.contains(*table)).collect();
    if present.is_empty() {
        return if seen.relations.contains(HISTORY_TABLE) && !seen.tables.contains_key(HISTORY_TABLE) {
            State::Foreign { tables: vec![HISTORY_TABLE.to_owned()] }
        } else {
            State::Missing
        };
    }
    let original: Vec<&str> = present.iter().copied().filter(|table| is_original(seen, table)).collect();
    let names = |tables: Vec<&str>| tables.into_iter().map(str::to_owned).collect();
    if original == present && ORIGINAL_CORE.iter().all(|core| original.contains(core)) {
        let order = ORIGINAL.iter().map(|table| table.name).filter(|name| original.contains(name));
        return State::Original { tables: names(order.collect()) };
    }
    // Nobody but us has these tables with these columns: the history was lost.
    if present.iter().all(|table| is_ours(seen, plan, table)) {
        let mut missing = vec![format!("table {HISTORY_TABLE} or its rows")];
        missing.extend(lacks(seen, plan, plan.migrations.first().map_or(0, refinery::Migration::version)));
        return State::Divergent { version: 0, changed: Vec::new(), missing };
    }
    let strange: Vec<&str> = present.iter().copied().filter(|table| !original.contains(table)).collect();
    // The earlier system's shapes without its core are somebody else's too.
    State::Foreign { tables: names(if strange.is_empty() { present } else { strange }) }
}

fn is_original(seen: &Seen, name: &str) -> bool {
    let Some(columns) = seen.tables.get(name) else { return false };
    ORIGINAL.iter().any(|table| table.name == name && table.matches(columns))
}

/// Whether the table has what its first version has.
fn is_ours(seen: &Seen, plan: &Plan, name: &str) -> bool {
    let Some(columns) = seen.tables.get(name) else { return false };
    let Some(first) = plan.additions.iter().find(|addition| addition.table == name) else { return false };
    first.columns.iter().all(|name| columns.iter().any(|column| column == name))
}
