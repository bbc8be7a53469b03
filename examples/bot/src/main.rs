//! A Telegram bot that sells generations for credits: an example of the generation storage.
//!
//! [`shop`] is what it is about: everything that touches money, made to be copied. [`worker`] takes an order to its
//! delivery, [`updates`] hears everything at least once, [`counter`] answers people, [`trouble`] knows what passes.

mod counter;
mod provider;
mod saying;
mod settings;
mod shop;
mod trouble;
mod updates;
mod worker;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;

use storage_factory::get_storage;
use teloxide::prelude::*;
use teloxide::types::Me;
use teloxide::{ApiError, RequestError};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

use counter::Counter;
use provider::Demo;
use settings::Settings;
use shop::Shop;
use trouble::Pause;
use worker::Worker;

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            error!("{why}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let settings = Settings::from_env()?;
    let bot = Settings::bot()?;
    let storage = get_storage().await.map_err(|error| error.report().to_string())?;
    let backend = storage.backend();
    info!("{backend}");
    for warning in backend.warnings {
        warn!("{warning}");
    }

    let me = introduced(&bot).await?;
    if settings.admins.is_empty() {
        warn!("BOT_ADMINS is empty: nobody is asked about payments; storage payments list --status pending shows them");
    }
    let shop = Shop::new(Arc::clone(&storage), settings.price, me.id.0);
    shop.tidy().await.map_err(|error| error.report().to_string())?;
    let worker = Worker::new(bot.clone(), shop.clone(), Arc::new(Demo::new(settings.takes)));
    // What was ordered before the last end of this program, however that came.
    let resumed = worker.resume().await?;
    if resumed > 0 {
        info!("{resumed} orders go on");
    }
    let counter = Counter::new(bot.clone(), me.username().to_owned(), shop, Arc::clone(&worker), settings.admins);

    let (mut stop, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let ended: Result<(), Box<dyn std::error::Error>> = tokio::select! {
        trouble = updates::hear(bot, counter) => Err(trouble.into()),
        () = worker.broken() => Err("the store needs an operator; what is unfinished goes on at the next start".into()),
        _ = stop.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    // Orders that are under way go on at the next start: nothing needs to be waited for.
    info!("stopped");
    storage.close().await?;
    ended
}

/// Who the bot is. Asks until Telegram answers; a token that is none ends the program.
async fn introduced(bot: &Bot) -> Result<Me, Box<dyn std::error::Error>> {
    let mut pause = Pause::new();
    loop {
        match bot.get_me().await {
            Ok(me) => return Ok(me),
            Err(RequestError::Api(ApiError::InvalidToken)) => {
                return Err("Telegram does not know this TELOXIDE_TOKEN".into());
            }
            Err(error) => {
                warn!("Telegram does not answer: {error}");
                pause.after(&error.into()).await;
            }
        }
    }
}
