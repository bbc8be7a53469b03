//! The list of migrations, and what each leaves behind.

use std::collections::BTreeSet;

use refinery::{Migration, Runner, Target};

use crate::outside::has_steps;
use crate::shape::{ADDITIONS, Addition};

/// The table in which refinery keeps what was applied. Not its default name, which another program that shares the
/// schema may use for migrations of its own.
pub const HISTORY_TABLE: &str = "storage_migrations";

/// What the store keeps of itself, and the row that says since which version programs work with the schema.
pub(crate) const META_TABLE: &str = "storage_meta";
pub(crate) const WORKS_SINCE: &str = "works_since";
/// How a migration says it: a line of its own. One that does not locks out every program that does not know it.
const WORKS_SINCE_LINE: &str = "-- works since: ";
/// The row with the version whose steps outside of its transaction are not all done.
pub(crate) const UNFINISHED: &str = "unfinished";

mod embedded {
    refinery::embed_migrations!("sql");
}

/// One migration of this program.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// Its version; versions rise.
    pub version: i32,
    /// The name in its file name.
    pub name: String,
    /// What it runs. What stands behind a line `-- outside of the transaction` comes after it, a statement at a time.
    pub sql: String,
}

/// Migrations and the shape that they leave behind. There is one, [`Plan::embedded`]; a test makes longer ones to see
/// what an older program does to a newer schema, and the other way round.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) migrations: Vec<Migration>,
    pub(crate) additions: Vec<Addition>,
}

impl Plan {
    /// The migrations of this program.
    pub fn embedded() -> Self {
        let mut migrations = embedded::migrations::runner().get_migrations().clone();
        migrations.sort();
        Self { migrations, additions: ADDITIONS.to_vec() }
    }

    /// The same with one more step, called as its file would be: `V2__name`.
    pub fn with(mut self, name: &str, sql: &str, additions: &[Addition]) -> Result<Self, refinery::Error> {
        self.migrations.push(Migration::unapplied(name, sql)?);
        self.migrations.sort();
        self.additions.extend_from_slice(additions);
        Ok(self)
    }

    /// The steps, in order.
    pub fn steps(&self) -> Vec<Step> {
        let step = |migration: &Migration| Step {
            version: migration.version(),
            name: migration.name().to_owned(),
            sql: migration.sql().unwrap_or_default().to_owned(),
        };
        self.migrations.iter().map(step).collect()
    }

    /// The last version, 0 without steps.
    pub fn latest(&self) -> i32 {
        self.migrations.last().map_or(0, Migration::version)
    }

    /// Since which version programs work with a schema to which all of this was applied: they may be older than the newest step when
    /// that, and each before it, says so.
    pub fn works_since(&self) -> i32 {
        self.works_since_at(self.latest())
    }

    fn works_since_at(&self, version: i32) -> i32 {
        let since = |migration: &Migration| {
            let lines = migration.sql().unwrap_or_default().lines();
            let mut said = lines.filter_map(|line| line.strip_prefix(WORKS_SINCE_LINE)?.trim().parse().ok());
            said.next().unwrap_or(migration.version())
        };
        self.migrations.iter().filter(|migration| migration.version() <= version).map(since).max().unwrap_or(0)
    }

    /// The same as it stands in a schema of a version: with the version, so that it says nothing of one that came some other way.
    pub(crate) fn works_since_row(&self, version: i32) -> String {
        format!("{} in {version}", self.works_since_at(version))
    }

    /// The text of a version's file.
    pub(crate) fn text(&self, version: i32) -> &str {
        let of = self.migrations.iter().find(|migration| migration.version() == version);
        of.and_then(Migration::sql).unwrap_or_default()
    }

    /// Up to which version one transaction goes when this is the last one applied: the next that has steps outside of it, or the last.
    /// With it, whether it has such steps.
    pub(crate) fn next_stop(&self, applied: i32) -> (i32, bool) {
        let mut coming = self.migrations.iter().filter(|migration| migration.version() > applied);
        let stop = coming.find(|migration| has_steps(migration.sql().unwrap_or_default()));
        stop.map_or((self.latest(), false), |migration| (migration.version(), true))
    }

    /// What each version adds, in the order in which it came.
    pub fn additions(&self) -> &[Addition] {
        &self.additions
    }

    /// The tables that a schema of this version has, each once.
    pub(crate) fn tables(&self, version: i32) -> BTreeSet<&'static str> {
        self.at(version).map(|addition| addition.table).collect()
    }

    /// What a schema of this version has, in the order in which it came.
    pub(crate) fn at(&self, version: i32) -> impl Iterator<Item = &Addition> {
        self.additions.iter().filter(move |addition| addition.version <= version)
    }

    /// Refinery's runner up to a version.
    pub(crate) fn runner(&self, version: i32) -> Runner {
        // Each on its own, so that an error names the migration: all of them share our one transaction anyway.
        let mut runner = Runner::new(&self.migrations).set_target(Target::Version(version));
        runner.set_migration_table_name(HISTORY_TABLE);
        runner
    }
}
