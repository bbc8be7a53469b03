//! What the environment says. The store has variables of its own: see `storage_factory`.

use std::env;
use std::str::FromStr;
use std::time::Duration;

use storage_core::{Amount, UserId};
use teloxide::prelude::*;

/// Telegram holds an empty request for updates for so long.
pub(crate) const LONG_POLL: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Settings {
    /// `BOT_ADMINS`, who decides payments: ids with commas between.
    pub(crate) admins: Vec<UserId>,
    /// `BOT_PRICE`, credits for a generation; 7.50.
    pub(crate) price: Amount,
    /// `BOT_TAKES_MS`, how long the demonstration takes for a generation; 2000.
    pub(crate) takes: Duration,
}

impl Settings {
    pub(crate) fn from_env() -> Result<Self, String> {
        let admins = env::var("BOT_ADMINS").unwrap_or_default();
        let admins =
            admins.split(',').map(str::trim).filter(|id| !id.is_empty()).map(|id| {
                id.parse().map_err(|error| format!("BOT_ADMINS: {id:?}: {error}; give ids with commas between"))
            });
        Ok(Self {
            admins: admins.collect::<Result<_, _>>()?,
            price: variable("BOT_PRICE", "7.50")?,
            takes: Duration::from_millis(variable("BOT_TAKES_MS", "2000")?),
        })
    }

    /// The bot of `TELOXIDE_TOKEN`, at `TELOXIDE_API_URL` if that is set.
    pub(crate) fn bot() -> Result<Bot, String> {
        if env::var_os("TELOXIDE_TOKEN").is_none() {
            return Err("TELOXIDE_TOKEN is not set: get a token from @BotFather, or try without one against \
                        `fake-telegram serve` with any token and its TELOXIDE_API_URL"
                .to_owned());
        }
        // An answer that has not come by then is lost: nothing hangs for ever.
        let client = teloxide::net::default_reqwest_settings().timeout(LONG_POLL + Duration::from_secs(10)).build();
        Ok(Bot::from_env_with_client(client.map_err(|error| error.to_string())?))
    }
}

fn variable<T: FromStr<Err: ToString>>(name: &str, default: &str) -> Result<T, String> {
    let text = env::var(name).unwrap_or_else(|_| default.to_owned());
    text.parse().map_err(|error: T::Err| format!("{name}: {text:?}: {}", error.to_string()))
}
