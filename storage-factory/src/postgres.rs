//! Opens the PostgreSQL database, remembers it, and falls back to JSON where that is right.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage_core::{Error, Result, SharedStorage, Store as _};
use storage_pg::{Limits, OpenError, PgOptions, PgStorage, PolicyMismatch, Statements};
use tokio::task::spawn_blocking;

#[cfg(feature = "json")]
use crate::claims::NoStandIn;
use crate::claims::{self, Asking, Unclaimed};
#[cfg(feature = "json")]
use crate::marker::FellBack;
use crate::marker::{Marker, Used};
use crate::open::{Manner, StandIn};
use crate::{Config, DatabaseUrl, Fallback, Mode, PostgresSettings, StatementMode};

/// The options with which the PostgreSQL backend opens the database of a configuration, for what is no operation of a
/// store: migrations and scratch schemas.
///
/// # Errors
/// `InvalidInput` for a configuration without a URL.
pub fn pg_options(config: &Config) -> Result<PgOptions> {
    let url = config.database_url.as_ref().ok_or_else(|| Error::invalid("DATABASE_URL", "must be set"))?;
    Ok(options(config, url, "opened directly".to_owned()))
}

fn options(config: &Config, url: &DatabaseUrl, reason: String) -> PgOptions {
    let PostgresSettings {
        schema,
        pool_min,
        pool_max,
        statements,
        pool_wait,
        statement_timeout,
        lock_timeout,
        deadline,
    } = config.postgres.clone();
    let mut options = PgOptions::new(url.expose());
    options.schema = schema;
    options.environment = config.environment.clone();
    options.min_connections = pool_min;
    options.max_connections = pool_max;
    options.statements = match statements {
        StatementMode::Auto => Statements::Auto,
        StatementMode::Unnamed => Statements::Unnamed,
        StatementMode::Prepared => Statements::Prepared,
    };
    // How long connecting may take is a word of the URL.
    options.limits = Limits {
        pool: pool_wait,
        statement: statement_timeout,
        lock: lock_timeout,
        operation: deadline,
        ..Limits::default()
    };
    options.reason = reason;
    options
}

/// Opens the database; in mode `auto` what the directory remembers is judged, and a server that cannot be reached is
/// replaced by JSON.
pub(crate) async fn open(config: Config, url: &DatabaseUrl, reason: String, manner: Manner) -> Result<SharedStorage> {
    if config.mode != Mode::Auto {
        let opened = open_database(&config, url, reason, manner, Vec::new()).await;
        return opened.map_err(|error| Error::from(error).in_operation("connect"));
    }
    let marker = Marker::read(&config.data_dir)?;
    let dir = config.data_dir.clone();
    if let Some(fallback) = marker.fallback.as_ref().filter(|_| claims::may_be_written(&dir)) {
        // Refused when the server answers again, and then nothing may be opened: opening founds a new store.
        return match storage_pg::schema_report(&options(&config, url, reason)).await {
            Ok(_) => Err(claims::postgres_after_json(&dir, fallback)),
            Err(error) => fall_back(config, url, error, manner).await,
        };
    }
    let mut notes = Vec::new();
    if marker.fallback.is_none() && claims::holds_users(&dir) && !claims::is_moved(&dir) {
        notes.push(format!(
            "{0} holds a JSON store with users, which PostgreSQL knows nothing of: bring them over with `storage copy --from \
             json:{0} --to DATABASE_URL`, or set STORAGE_MODE=json",
            config.data_dir.display()
        ));
    }
    match open_database(&config, url, reason, manner, notes).await {
        Ok(storage) => Ok(storage),
        Err(error) => fall_back(config, url, error, manner).await,
    }
}

/// Examines the server.
pub(crate) async fn examine(config: Config, url: &DatabaseUrl) -> Result<Vec<storage_core::Diagnosis>> {
    Ok(storage_pg::examine(&options(&config, url, "an examination".to_owned())).await)
}

async fn open_database(
    config: &Config,
    url: &DatabaseUrl,
    reason: String,
    manner: Manner,
    mut notes: Vec<String>,
) -> Result<SharedStorage, OpenError> {
    let mut told = false;
    loop {
        let mut options = options(config, url, reason.clone());
        options.warnings.clone_from(&notes);
        if manner.adopt {
            options.on_policy_mismatch = PolicyMismatch::Adopt;
        }
        let storage = PgStorage::open(options).await?;
        let found = Used {
            store_id: storage.store_id().to_owned(),
            location: storage.backend().location,
            since: config.environment.clock.now(),
        };
        let asking = Asking { judged: config.mode == Mode::Auto, remember: manner.remember };
        // Before it is handed out: nobody may have used it without that being remembered.
        let claimed = beside(&config.data_dir, move |dir| claims::claim_postgres(&dir, found, asking)).await?;
        match claimed {
            Err(Unclaimed::Refused(error)) => {
                // The refusal is worth more than a close that fails after it.
                let _ = storage.close().await;
                return Err(error.into());
            }
            Err(Unclaimed::NotKept(error)) if !told && manner.remember => {
                let _ = storage.close().await;
                notes.push(format!(
                    "{error}, so nothing here remembers this database: without DATABASE_URL, or when the server cannot \
                     be reached, mode auto would start an empty JSON store beside it"
                ));
                told = true;
            }
            Ok(()) | Err(Unclaimed::NotKept(_)) => {
                let storage = Arc::new(storage);
                #[cfg(any(feature = "tracing", feature = "metrics"))]
                return Ok(crate::observe::observed_postgres(storage));
                #[cfg(not(any(feature = "tracing", feature = "metrics")))]
                return Ok(storage);
            }
        }
    }
}

/// Runs what waits for the disk beside everything else.
async fn beside<T: Send + 'static>(dir: &Path, work: impl FnOnce(PathBuf) -> T + Send + 'static) -> Result<T> {
    let dir = dir.to_owned();
    spawn_blocking(move || work(dir))
        .await
        .map_err(|error| Error::internal("what a directory remembers could not be looked at").caused_by(error))
}

/// Opens JSON in place of a server that cannot be reached. Every other error stays what it is.
async fn fall_back(config: Config, url: &DatabaseUrl, error: OpenError, manner: Manner) -> Result<SharedStorage> {
    let unreachable = error.is_unreachable();
    let error = Error::from(error);
    if !unreachable {
        return Err(error.in_operation("connect"));
    }
    if config.fallback == Fallback::Never {
        return Err(followed(&error, "STORAGE_FALLBACK is never, so JSON does not take its place"));
    }
    if cfg!(not(feature = "json")) {
        return Err(followed(&error, "the JSON backend is not compiled in, so it cannot take its place"));
    }
    if manner.stand_in == StandIn::Never {
        let dir = config.data_dir.display();
        let hint = format!("JSON does not take its place for this: STORAGE_MODE=json does it on the files at {dir}");
        return Err(followed(&error, &hint));
    }
    json_instead(config, url, error, manner).await
}

/// The server's error, and what follows from it.
fn followed(error: &Error, hint: &str) -> Error {
    let message = error.detail().map_or_else(|| hint.to_owned(), |detail| format!("{detail}; {hint}"));
    error.clone().message(message)
}

#[cfg(feature = "json")]
async fn json_instead(config: Config, url: &DatabaseUrl, error: Error, manner: Manner) -> Result<SharedStorage> {
    let schema = &config.postgres.schema;
    let schema = if schema == "public" { String::new() } else { format!(" schema {schema}") };
    let location = format!("{url}{schema}");
    let fallback = FellBack { since: config.environment.clock.now(), location: location.clone() };
    // Before JSON is opened: whatever is written there must not be forgotten when the server is back.
    match beside(&config.data_dir, move |dir| claims::claim_fallback(&dir, fallback, manner)).await? {
        Ok(()) => {}
        Err(NoStandIn::Because(hint)) => return Err(followed(&error, &hint)),
        Err(NoStandIn::Refused(refusal)) => {
            let because = if matches!(refusal.kind(), storage_core::ErrorKind::Conflict { .. }) {
                refusal.caused_by(error)
            } else {
                refusal
            };
            return Err(because.in_operation("connect"));
        }
    }
    let dir = config.data_dir.display();
    let reason = "STORAGE_MODE is auto and the PostgreSQL server cannot be reached".to_owned();
    let warning = format!(
        "JSON at {dir} stands in for {location}, which cannot be reached; what is written here must be brought over by \
         `storage merge --from json:{dir} --to DATABASE_URL` later: {}",
        error.detail().map_or_else(|| error.to_string(), ToOwned::to_owned)
    );
    crate::open::open_json(config, reason, vec![warning], manner.adopt).await
}

#[cfg(not(feature = "json"))]
fn json_instead(_: Config, _: &DatabaseUrl, error: Error, _: Manner) -> std::future::Ready<Result<SharedStorage>> {
    std::future::ready(Err(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_backend() {
        let url = "postgresql://h/d";
        let config = Config { database_url: Some(url.parse().unwrap()), ..Config::default() };
        let (ours, theirs) = (pg_options(&config).unwrap(), PgOptions::new(url));
        assert_eq!((ours.limits, ours.statements, &ours.schema), (theirs.limits, theirs.statements, &theirs.schema));
        assert_eq!((ours.min_connections, ours.max_connections), (theirs.min_connections, theirs.max_connections));
        pg_options(&Config::default()).unwrap_err();
    }
}
