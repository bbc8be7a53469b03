//! The bot in a process of its own, before people who are played, on each backend.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use fake_telegram::{Button, Posted, Telegram};
use pg_test_server::{Database, Server};
use storage_core::{SharedStorage, UserId};
use storage_factory::{Config, Mode, connect};
use storage_pg::PgOptions;
use tempfile::TempDir;
use tokio::process::{Child, Command};

pub(crate) const ADMIN: i64 = 1;
/// Long enough for a machine that does other work too.
const PATIENCE: Duration = Duration::from_mins(1);

/// Where a store is. Goes with this value.
#[derive(Debug)]
pub(crate) enum Place {
    Json(TempDir),
    Postgres(Database, TempDir),
}

impl Place {
    pub(crate) fn json() -> Self {
        Self::Json(TempDir::new().unwrap())
    }
    pub(crate) fn postgres() -> Self {
        let template = format!("storage_v{}", storage_pg::migration_steps().len());
        let database = Server::shared().unwrap().create_database_with(&template, migrate).unwrap();
        Self::Postgres(database, TempDir::new().unwrap())
    }
    fn dir(&self) -> PathBuf {
        let (Self::Json(dir) | Self::Postgres(_, dir)) = self;
        dir.path().join("data")
    }
    /// The variables by which a program finds it.
    fn environment(&self) -> Vec<(&'static str, String)> {
        let dir = ("DATA_DIR", self.dir().display().to_string());
        match self {
            Self::Json(_) => vec![dir, ("STORAGE_MODE", "json".to_owned())],
            Self::Postgres(database, _) => {
                vec![dir, ("STORAGE_MODE", "postgres".to_owned()), ("DATABASE_URL", database.url())]
            }
        }
    }
    /// The store, also beside a bot that has it open.
    pub(crate) async fn open(&self) -> SharedStorage {
        let config = match self {
            Self::Json(_) => Config { mode: Mode::Json, data_dir: self.dir(), ..Config::default() },
            Self::Postgres(database, _) => Config {
                mode: Mode::Postgres,
                database_url: Some(database.url().parse().unwrap()),
                data_dir: self.dir(),
                ..Config::default()
            },
        };
        connect(config).await.unwrap()
    }
}

fn migrate(url: &str) -> Result<(), String> {
    let url = url.to_owned();
    // The caller may be inside a runtime.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(storage_pg::migrate(&PgOptions::new(url), Duration::from_secs(30))).unwrap();
    })
    .join()
    .map_err(|_| "the migration panicked".to_owned())
}

/// Starts the bot. It is killed when the handle goes.
pub(crate) fn bot(telegram: &Telegram, place: &Place, more: &[(&str, &str)]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_generation-bot"));
    command.env_clear().kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null());
    // BOT_LOG=1 shows what it has to say.
    command.stderr(if std::env::var_os("BOT_LOG").is_some() { Stdio::inherit() } else { Stdio::null() });
    command
        .env("TELOXIDE_TOKEN", "1:token")
        .env("TELOXIDE_API_URL", telegram.url())
        .env("BOT_ADMINS", ADMIN.to_string())
        .env("BOT_PRICE", "7.50")
        .env("BOT_TAKES_MS", "3")
        .envs(place.environment())
        .envs(more.iter().copied());
    command.spawn().unwrap()
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < end, "not within {} s: {what}", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until the bot has said this to somebody, and answers the newest message that does.
pub(crate) async fn told(telegram: &Telegram, user: i64, text: &str) -> Posted {
    let find = || telegram.chat(user).into_iter().rev().find(|posted| posted.by_bot && posted.text.contains(text));
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(posted) = find() {
            return posted;
        }
        assert!(tokio::time::Instant::now() < end, "{user} was not told {text:?}: {:#?}", telegram.chat(user));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Asks for a picture and waits for the offer.
pub(crate) async fn offered(telegram: &Telegram, user: i64, prompt: &str) -> Posted {
    let asked = telegram.say(user, &format!("/generate {prompt}"));
    until(&format!("an offer of {prompt:?}"), || offer(telegram, user, asked).is_some()).await;
    offer(telegram, user, asked).unwrap()
}

/// The newest offer that answers a message.
fn offer(telegram: &Telegram, user: i64, asked: i32) -> Option<Posted> {
    telegram.chat(user).into_iter().rev().find(|posted| posted.by_bot && posted.reply_to == Some(asked))
}

/// Presses the button of a message whose data begin so.
pub(crate) fn press(telegram: &Telegram, user: i64, posted: &Posted, word: &str) {
    let Button { data, .. } = posted.buttons.iter().find(|button| button.data.starts_with(word)).unwrap();
    telegram.press(user, posted.id, data);
}

pub(crate) fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}
