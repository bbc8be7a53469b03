//! A Telegram bot that sells generations for credits: an example of the generation storage.
//!
//! [`shop`] is what it is about: everything that touches money, made to be copied. [`worker`] takes an order to its
//! delivery, [`updates`] hears everything that is said at least once, [`counter`] answers people.

mod counter;
mod provider;
mod settings;
mod shop;
mod trouble;
mod updates;
mod worker;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;

use storage_factory::get_storage;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

use counter::Counter;
use provider::Demo;
use settings::Settings;
use shop::Shop;
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

    let shop = Shop::new(Arc::clone(&storage), settings.price);
    let worker = Worker::new(bot.clone(), shop.clone(), Arc::new(Demo::new(settings.takes)));
    // What was ordered before the last end of this program, however that came.
    let resumed = worker.resume().await?;
    if resumed > 0 {
        info!("{resumed} orders go on");
    }
    let counter = Counter::new(bot.clone(), shop, Arc::clone(&worker), settings.admins);

    let (mut stop, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        never = updates::hear(bot, counter) => match never {},
        _ = stop.recv() => {}
        _ = interrupt.recv() => {}
    }
    // Orders that are under way go on at the next start: nothing needs to be waited for.
    info!("stopped");
    storage.close().await?;
    Ok(())
}
