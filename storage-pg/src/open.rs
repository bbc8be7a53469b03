//! Opening a store: the true cause when that is not possible, the schema checked in both directions, the policy.

use std::fmt;
use std::sync::Arc;

use migrations::{Schema, State, Surroundings};
use storage_core::{BackendInfo, Environment, Error, ErrorKind, Place, Result};
use tokio_postgres::Row;

use crate::connect::{Cause, Failure, Target};
use crate::fault::Fault;
use crate::fields::Fields;
use crate::options::{FastForms, Gather, PgOptions, PolicyMismatch};
use crate::pool::{Connection, Manager, Pool};
use crate::release::Release;
use crate::store::{Opened, PgStorage, Sql};
use crate::wire::Wire;

/// Why a database could not be opened.
///
/// [`OpenError::is_unreachable`] tells a server that could not be reached from everything that somebody has to put
/// right: a wrong password, a missing table, another policy.
#[derive(Clone, Debug)]
pub struct OpenError {
    error: Error,
    unreachable: bool,
    /// Whether the server, or its name, may still come up.
    may_come_up: bool,
}

impl OpenError {
    /// Whether the server could not be reached: refused, no route, no answer in time, starting, no slots.
    pub fn is_unreachable(&self) -> bool {
        self.unreachable
    }
    pub(crate) fn may_come_up(&self) -> bool {
        self.may_come_up
    }
    /// The error itself.
    pub fn error(&self) -> &Error {
        &self.error
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.error)
    }
}

impl From<Error> for OpenError {
    fn from(error: Error) -> Self {
        Self { error, unreachable: false, may_come_up: false }
    }
}

impl From<Failure> for OpenError {
    fn from(failure: Failure) -> Self {
        let unreachable = failure.is_unreachable();
        let may_come_up = unreachable || *failure.cause() == Cause::NoSuchHost;
        Self { error: failure.to_error(), unreachable, may_come_up }
    }
}

impl From<OpenError> for Error {
    fn from(open: OpenError) -> Self {
        open.error
    }
}

/// Reads the URL. The error names the word and the rule, and shows nothing of the URL.
pub(crate) fn target(url: &str) -> Result<Target> {
    // libpq takes the name of whoever runs the program; so do the tools that people compare with.
    let user = std::env::var("USER").ok();
    Target::parse(url, user.as_deref()).map_err(|error| Error::invalid("DATABASE_URL", error.to_string()))
}

pub(crate) fn schema(name: &str) -> Result<Schema> {
    Schema::new(name).map_err(|error| Error::invalid("STORAGE_SCHEMA", error.to_string()))
}

/// A connection of its own, for what is no operation of a store.
pub(crate) async fn dial(url: &str, options: &PgOptions) -> Result<(Manager, Connection), OpenError> {
    let manager = Manager::new(target(url)?, options).await?;
    let connection = manager.dial().await?;
    encoding(&connection)?;
    Ok((manager, connection))
}

/// A database of another encoding cannot hold every text: what one backend takes, this one would refuse.
fn encoding(connection: &Connection) -> Result<()> {
    match connection.encoding.as_deref() {
        None | Some("UTF8") => Ok(()),
        Some(other) => Err(Error::schema(
            format!("a database of the encoding {other}"),
            "UTF8",
            "createdb --template=template0 --encoding=UTF8 with a new name, then storage migrate",
        )),
    }
}

/// An error of migrations, as the store's own.
pub(crate) fn migration_error(error: migrations::Error) -> Error {
    use migrations::Error as Migrating;
    match error {
        Migrating::State(state) | Migrating::NothingToAdopt(state) => mismatch(&state),
        Migrating::AdoptedTwice { tables } => Error::conflict(
            "tables",
            tables.join(", "),
            "each stands here both as it was and adopted: rename or move one of each pair",
        ),
        Migrating::Busy { waited, holders, source } => {
            let what = if source.is_some() { "locks on the tables" } else { "another migration" };
            let who = if holders.is_empty() { String::new() } else { format!(" ({})", holders.join("; ")) };
            let busy = Error::new(ErrorKind::Busy { waited }).message(format!(
                "{what} stood in the way{who}, and the last attempt changed nothing: repeat, or wait longer"
            ));
            match source {
                Some(source) => busy.caused_by(source),
                None => busy,
            }
        }
        right @ (Migrating::NotOwner { .. } | Migrating::NoRight { .. }) => {
            Error::new(ErrorKind::ReadOnly).message(right.to_string())
        }
        Migrating::Unfinished { version, doing, source } => {
            let text = format!(
                "version {version} is applied, and not yet done beside working programs: {doing}; when what stood in the way is gone, storage migrate goes on"
            );
            let cause = migration_error(*source);
            Error::new(cause.kind().clone()).message(text).caused_by(cause)
        }
        Migrating::Moved { to } => Error::new(ErrorKind::Moved { to }),
        Migrating::Taken { name, .. } => {
            Error::conflict("index", name, "something else has its name: look at it, then rename or drop it")
        }
        Migrating::Silent(waited) => Fault::Silent(waited).into_error(),
        Migrating::Postgres(error) => Fault::from(error).into_error(),
        Migrating::Migration { doing, source } => {
            let failed = Error::internal(format!("nothing was migrated, this failed: {doing}"));
            match source {
                Some(source) => failed.caused_by(source),
                None => failed,
            }
        }
        other => Error::internal("the schema could not be migrated").caused_by(other),
    }
}

/// The state of a schema that is not as this program needs it.
pub(crate) fn mismatch(state: &State) -> Error {
    let wanted = format!("version {}", migrations::latest());
    let (found, run) = match state {
        State::Missing => ("a schema without the store's tables".to_owned(), "storage migrate".to_owned()),
        State::Older { applied, .. } => (format!("version {applied}"), "storage migrate".to_owned()),
        State::Unfinished { applied, .. } => {
            (format!("version {applied}, not all of it"), "storage migrate".to_owned())
        }
        State::Current { version } => (format!("version {version}"), "storage migrate --check".to_owned()),
        State::Newer { applied, .. } | State::Ahead { applied, .. } => {
            (format!("version {applied}, of a newer program"), "a release of this program that knows it".to_owned())
        }
        State::Original { tables } => {
            (format!("tables of the earlier system ({})", tables.join(", ")), "storage migrate --adopt".to_owned())
        }
        State::Foreign { tables } => (
            format!("tables of somebody else ({})", tables.join(", ")),
            "storage migrate with another schema: STORAGE_SCHEMA".to_owned(),
        ),
        // Half there: its own words name what is missing.
        other => (other.to_string(), "storage migrate --check".to_owned()),
    };
    Error::schema(found, wanted, run)
}

/// A store is refused with what would hide rows from it or keep it from writing: it would be one without users.
pub(crate) fn refuse_wrong(around: &Surroundings) -> Result<()> {
    let Some((found, run)) = around.wrong.first() else { return Ok(()) };
    Err(Error::schema(found.clone(), "tables of which nothing is hidden and everything may be written", run.clone()))
}

/// What the store remembers of itself.
#[derive(Debug, Default)]
struct Meta {
    time_zone: Option<String>,
    history: Option<String>,
    store_id: Option<String>,
    moved_to: Option<String>,
}

impl Meta {
    fn read(rows: &[Row]) -> Result<Self> {
        let mut meta = Self::default();
        for row in rows {
            let mut fields = Fields::of(row, "storage_meta");
            let (name, value) = (fields.word()?, fields.word()?.to_owned());
            match name {
                "time_zone" => meta.time_zone = Some(value),
                "history" => meta.history = Some(value),
                "store_id" => meta.store_id = Some(value),
                "moved_to" => meta.moved_to = Some(value),
                // A later program may remember more.
                _ => {}
            }
        }
        Ok(meta)
    }
}

/// Founds the store when it is new, and compares its policy. Answers the store's id, and where it was moved to.
async fn policy(
    wire: Wire<'_>,
    sql: &Sql,
    environment: &Environment,
    on_mismatch: PolicyMismatch,
) -> Result<(String, Option<String>)> {
    let failed = |error: tokio_postgres::Error| Fault::from(error).into_error();
    let (zone, history) = (environment.policy.time_zone.name(), environment.policy.history.to_string());
    let mut meta = Meta::read(&wire.alone(&sql.store.meta, &[]).await.map_err(failed)?)?;
    if meta.store_id.is_none() || meta.time_zone.is_none() || meta.history.is_none() {
        let id = environment.ids.next_id().to_string();
        // Of several founders the first one's facts stay.
        wire.alone(&sql.store.found, &[&zone, &history, &id]).await.map_err(failed)?;
        meta = Meta::read(&wire.alone(&sql.store.meta, &[]).await.map_err(failed)?)?;
    }
    if on_mismatch == PolicyMismatch::Adopt {
        wire.alone(&sql.store.adopt_policy, &[&zone, &history]).await.map_err(failed)?;
    } else {
        let (found_zone, found_history) = (meta.time_zone.unwrap_or_default(), meta.history.unwrap_or_default());
        let unknown = |error: Error| {
            Error::corrupt(Place::new("table storage_meta"), "it does not say what the store was made with")
                .caused_by(error)
        };
        let found_zone = found_zone.parse().map_err(unknown)?;
        environment.policy.check_store(&found_zone, found_history.parse().map_err(unknown)?)?;
    }
    let id = meta.store_id.ok_or_else(|| Error::internal("a store that was just founded has no id"))?;
    Ok((id, meta.moved_to))
}

/// What the server says of itself.
struct Facts {
    warnings: Vec<String>,
    /// Whether it has an engine that could spread the tables.
    can_shard: bool,
}

fn facts(row: Option<&Row>, encrypted: bool, target: &Target) -> Result<Facts> {
    let row = row.ok_or_else(|| Error::internal("the server answered nothing"))?;
    let mut fields = Fields::of(row, "server");
    let (fsync, commit, version, can_shard) = (fields.word()?, fields.word()?, fields.int()?, fields.flag()?);
    let mut warnings = Vec::new();
    if fsync == "off" {
        warnings.push("fsync is off on the server: a power cut may lose what was acknowledged".to_owned());
    }
    if commit == "off" {
        warnings.push("synchronous_commit is off on the server: a crash may lose what was acknowledged".to_owned());
    }
    let release = Release(version);
    if release.is_too_old() {
        return Err(Error::schema(release.to_string(), Release::supported(), "pg_upgrade to one of those"));
    }
    if release.is_untried() {
        warnings.push(format!("{release} was not tried: this program was tested on {}", Release::supported()));
    }
    if !encrypted && target.may_go_unencrypted() {
        warnings.push(
            "the connection to another machine is not encrypted, and the password crossed it: use sslmode=verify-full"
                .to_owned(),
        );
    }
    Ok(Facts { warnings, can_shard })
}

impl PgStorage {
    /// Opens the store in a database that was migrated; the first opening founds it.
    ///
    /// # Errors
    /// The true cause when there is no connection; `SchemaMismatch` with the command that helps when the schema or the
    /// policy is another one; `ReadOnly` on a standby; `InvalidInput` for a URL or a schema that breaks a rule.
    ///
    /// ```no_run
    /// use storage_pg::{PgOptions, PgStorage};
    ///
    /// # async fn example() -> storage_core::Result<()> {
    /// let storage = PgStorage::open(PgOptions::new("postgresql://bot:secret@db.example.org/bot")).await?;
    /// # Ok(()) }
    /// ```
    pub async fn open(options: PgOptions) -> Result<Self, OpenError> {
        Self::open_in(options).await.map_err(|open| OpenError { error: open.error.in_operation("open"), ..open })
    }

    async fn open_in(options: PgOptions) -> Result<Self, OpenError> {
        let schema = schema(&options.schema)?;
        let target = target(&options.url)?;
        let manager = Manager::new(target.clone(), &options).await?;
        let limit = options.limits.statement;
        let connection = manager.dial().await?;
        encoding(&connection)?;
        if manager.is_behind_pooler() && options.statements == crate::options::Statements::Prepared {
            return Err(Error::invalid(
                "statements",
                "must be auto or unnamed behind a pooler, which shares connections",
            )
            .into());
        }
        let sql = Arc::new(Sql::new(&schema));
        let looking = look(&connection, &schema, &sql, &options, &target);
        let Seen { store_id, warnings: found, sharded } =
            tokio::time::timeout(limit, looking).await.unwrap_or(Err(Fault::Silent(limit).into_error()))?;
        let mut warnings = options.warnings.clone();
        warnings.extend(found);
        if manager.is_behind_pooler() {
            warnings.push("behind a pooler: time limits are set in each transaction".to_owned());
        }
        let location =
            if schema == Schema::default() { target.shown() } else { format!("{} schema {schema}", target.shown()) };
        let info = BackendInfo { name: "postgres".to_owned(), reason: options.reason.clone(), location, warnings };
        let statements = connection.parts.statements();
        let pool = Pool::new(manager, connection, &options);
        let at_once = usize::try_from(options.max_connections).unwrap_or(1).max(1);
        let PgOptions { environment, limits, gather, fast_forms, .. } = options;
        // A statement for many users would visit many nodes, and what one statement changes of a user and of a route may lie on two.
        let (gather, fast_forms) = if sharded { (Gather::Never, FastForms::Never) } else { (gather, fast_forms) };
        Ok(Self::new(Opened {
            pool,
            sql,
            gather,
            fast_forms,
            environment,
            limits,
            at_once,
            schema,
            info,
            store_id,
            sharded,
            statements,
        }))
    }
}

/// What a look at a database found.
struct Seen {
    store_id: String,
    warnings: Vec<String>,
    /// Whether users lie on several nodes.
    sharded: bool,
}

/// The first transaction on a new connection failed. A pooler in statement mode answers every one of them so, because it may give
/// each statement to another connection of the server.
fn refused_transaction(connection: &Connection, error: tokio_postgres::Error) -> Error {
    let is_protocol = error.code().is_some_and(|code| code.code() == "08P01");
    if connection.parts.behind_pooler() && is_protocol {
        let rule =
            "must not lead to a pooler in statement mode, which has no transactions: set pool_mode = transaction";
        return Error::invalid("DATABASE_URL", rule).caused_by(error);
    }
    Fault::from(error).into_error()
}

/// Looks at server, schema and policy on one connection.
async fn look(
    connection: &Connection,
    schema: &Schema,
    sql: &Sql,
    options: &PgOptions,
    target: &Target,
) -> Result<Seen> {
    let wire = connection.parts.wire(&connection.client);
    let rows = wire.alone(&sql.store.facts, &[]).await.map_err(|error| refused_transaction(connection, error))?;
    let Facts { mut warnings, can_shard } = facts(rows.first(), connection.encrypted, target)?;
    let state = migrations::inspect(&connection.client, schema).await;
    // What is not the store's is told as such; what is half there, or may not be looked at, has its reason here.
    if state.as_ref().map_or(true, |state| state.works() || matches!(state, State::Divergent { .. })) {
        let around = migrations::surroundings(&connection.client, schema).await.map_err(migration_error)?;
        refuse_wrong(&around)?;
    }
    let state = state.map_err(migration_error)?;
    if !state.works() {
        return Err(mismatch(&state));
    }
    let (store_id, moved_to) = policy(wire, sql, &options.environment, options.on_policy_mismatch).await?;
    warnings.extend(moved_to.map(|to| format!("the contents were moved to {to}: changes are refused here")));
    let sharded =
        can_shard && migrations::sharding(&connection.client, schema).await.map_err(migration_error)?.is_sharded();
    Ok(Seen { store_id, warnings, sharded })
}
