//! The command line: how words, flags and environment variables become a command and a configuration.

mod words;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser};
use storage_factory::{Config, choose};

use crate::context::Context;
use crate::examples;
use crate::exit::Failure;
use crate::output::Output;

pub(crate) use words::{
    BackupArgs, Command, CompareArgs, Compression, CopyArgs, DecisionArgs, ImportArgs, JobsCommand, MergeArgs,
    MigrateArgs, MoneyArgs, Paging, PaymentsCommand, ShardArgs, UserCommand,
};

/// Look into, correct, import, verify, dump and restore a generation storage.
///
/// Data goes to stdout; plans, progress, prompts and errors go to stderr.
#[derive(Debug, Parser)]
#[command(name = "storage", version, after_help = EXIT_CODES, max_term_width = 110, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    everywhere: Everywhere,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 2 usage, 3 pending migrations, 4 differences found, 5 locked, 6 cannot connect, \
7 refused.
An empty environment variable counts as unset; a flag wins over its variable. The policy comes from \
STORAGE_TIME_ZONE, STORAGE_DAILY_FREE, STORAGE_MAIN_ADMIN, STORAGE_ADMIN_LIMIT, STORAGE_DEFAULT_LANGUAGE and \
STORAGE_HISTORY. PostgreSQL: STORAGE_SCHEMA, STORAGE_POOL_MIN, STORAGE_POOL_MAX, STORAGE_STATEMENTS, STORAGE_POOL_WAIT, \
STORAGE_STATEMENT_TIMEOUT, STORAGE_LOCK_TIMEOUT, STORAGE_DEADLINE, STORAGE_FALLBACK.";

/// The flags of every command. Their environment variables are read here and not by clap, which would print the
/// values in its help and its errors.
#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
struct Everywhere {
    #[arg(long, global = true, help = "The backend: auto, postgres or json [env: STORAGE_MODE]", value_name = "MODE")]
    mode: Option<OsString>,
    #[arg(long, global = true, help = "The PostgreSQL database [env: DATABASE_URL]", value_name = "URL")]
    database_url: Option<Secret>,
    #[arg(
        long,
        global = true,
        help = "The directory of the JSON backend, ./data when not given [env: DATA_DIR]",
        value_name = "DIR"
    )]
    data_dir: Option<PathBuf>,
    #[arg(long, global = true, help = "Answer with one JSON object [env: STORAGE_JSON]")]
    json: bool,
    #[arg(long, global = true, help = "Go on without asking [env: STORAGE_YES]")]
    yes: bool,
    #[arg(long, global = true, help = "Show what would be done, and change nothing [env: STORAGE_DRY_RUN]")]
    dry_run: bool,
}

/// A value that is never printed.
#[derive(Clone)]
struct Secret(OsString);

impl From<OsString> for Secret {
    fn from(value: OsString) -> Self {
        Self(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// The whole command line, with the examples of each command.
pub(crate) fn command() -> clap::Command {
    examples::add(Cli::command())
}

/// What became of a command line.
pub(crate) enum Parsed {
    /// Run this.
    Run(Box<Command>, Box<Context>),
    /// It is wrong.
    Wrong(Output, Failure),
    /// Help or version was asked for.
    Shown(clap::Error),
    /// The command is about the command line alone: no store, no configuration.
    About(Box<Command>, Output),
}

/// The variable whose database `storage migrate` prefers.
const MIGRATION_URL: &str = "MIGRATION_DATABASE_URL";

pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Reads arguments and environment.
pub(crate) fn parse(arguments: Vec<OsString>, environment: Lookup<'_>) -> Parsed {
    let json_flag = arguments.iter().any(|argument| argument == "--json");
    let cli = match command().try_get_matches_from(arguments).and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            let json = json_flag || switch("STORAGE_JSON", environment).unwrap_or(false);
            return Parsed::Wrong(Output::new(json, environment), Failure::Usage(error.render().to_string()));
        }
        Err(shown) => return Parsed::Shown(shown),
    };
    let Cli { everywhere, command } = cli;
    let json = everywhere.json || switch("STORAGE_JSON", environment).unwrap_or(false);
    let out = Output::new(json, environment);
    if matches!(command, Command::Completions { .. } | Command::Man { .. }) {
        return Parsed::About(Box::new(command), out);
    }
    // Migrations want a direct connection, and often another role than the program's.
    let own_url = matches!(command, Command::Migrate(_) | Command::Shard(_))
        && everywhere.database_url.is_none()
        && environment(MIGRATION_URL).is_some_and(|url| !url.is_empty());
    let url_variable = if own_url { MIGRATION_URL } else { "DATABASE_URL" };
    match context(everywhere, out.clone(), environment, url_variable) {
        Ok(context) => Parsed::Run(Box::new(command), Box::new(context)),
        Err(failure) => Parsed::Wrong(out, failure),
    }
}

fn context(
    everywhere: Everywhere,
    out: Output,
    environment: Lookup<'_>,
    url_variable: &'static str,
) -> Result<Context, Failure> {
    let Everywhere { mode, database_url, data_dir, json: _, yes, dry_run } = everywhere;
    switch("STORAGE_JSON", environment)?;
    let config = Config::from_lookup(|name| {
        let flag = match name {
            "STORAGE_MODE" => mode.clone(),
            "DATABASE_URL" => database_url.as_ref().map(|secret| secret.0.clone()),
            "DATA_DIR" => data_dir.clone().map(OsString::from),
            _ => None,
        };
        flag.or_else(|| environment(if name == "DATABASE_URL" { url_variable } else { name }))
    })
    .map_err(|error| Failure::from(error).naming_url(url_variable))?;
    Ok(Context {
        choice: choose(&config)?,
        config,
        url_variable,
        out,
        yes: yes || switch("STORAGE_YES", environment)?,
        dry_run: dry_run || switch("STORAGE_DRY_RUN", environment)?,
    })
}

/// A variable that switches something on or off.
fn switch(name: &str, environment: Lookup<'_>) -> Result<bool, Failure> {
    let value = environment(name).unwrap_or_default().to_ascii_lowercase();
    match value.to_str() {
        Some("" | "0" | "false" | "no" | "off") => Ok(false),
        Some("1" | "true" | "yes" | "on") => Ok(true),
        _ => Err(Failure::Usage(format!("error: {name} must be 1, true, yes, on, 0, false, no, off or empty"))),
    }
}

/// Whether a file argument means stdin or stdout.
pub(crate) fn is_pipe(file: &std::path::Path) -> bool {
    file.as_os_str() == OsStr::new("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_secret_never_shows() {
        let url = "postgresql://bot:s3cret@h/d";
        let cli = Cli::try_parse_from(["storage", "status", "--database-url", url]).unwrap();
        assert!(!format!("{cli:?}").contains("s3cret"));
    }

    #[test]
    fn flags_win_over_variables_and_empty_ones_are_unset() {
        let read = |arguments: &[&str], variables: &[(&str, &str)]| {
            let environment =
                |name: &str| variables.iter().find(|(given, _)| *given == name).map(|(_, value)| OsString::from(value));
            let arguments = std::iter::once("storage").chain(arguments.iter().copied()).map(OsString::from).collect();
            match parse(arguments, &environment) {
                Parsed::Run(_, context) => Ok(context),
                Parsed::Wrong(_, failure) => Err(failure.exit()),
                Parsed::Shown(_) | Parsed::About(..) => panic!("help"),
            }
        };
        let context = read(&["status", "--data-dir", "/a"], &[("DATA_DIR", "/b"), ("STORAGE_YES", "1")]).unwrap();
        assert_eq!(context.config.data_dir, PathBuf::from("/a"));
        assert!(context.yes && !context.dry_run);
        let context = read(&["status"], &[("DATA_DIR", "/b"), ("STORAGE_YES", ""), ("STORAGE_MODE", "")]).unwrap();
        assert_eq!(context.config.data_dir, PathBuf::from("/b"));
        assert!(!context.yes);
        let url = ("DATABASE_URL", "postgresql://pooled/d");
        let direct = ("MIGRATION_DATABASE_URL", "postgresql://direct/d");
        let shown = |arguments: &[&str], variables: &[(&str, &str)]| {
            read(arguments, variables).unwrap().config.database_url.unwrap().to_string()
        };
        assert_eq!(shown(&["migrate"], &[url, direct]), direct.1);
        assert_eq!(shown(&["migrate"], &[url, ("MIGRATION_DATABASE_URL", "")]), url.1);
        assert_eq!(shown(&["status"], &[url, direct]), url.1);
        assert_eq!(shown(&["migrate", "--database-url", "postgresql://flag/d"], &[url, direct]), "postgresql://flag/d");
        for wrong in [("STORAGE_YES", "maybe"), ("STORAGE_JSON", "2"), ("STORAGE_MODE", "sqlite")] {
            assert_eq!(read(&["status"], &[wrong]).unwrap_err(), crate::Exit::Usage, "{wrong:?}");
        }
    }
}
