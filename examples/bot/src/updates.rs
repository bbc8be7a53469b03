//! Hears everything that Telegram keeps for the bot, at least once.
//!
//! Telegram forgets an update as soon as a later one is asked for. So none is asked for before all of the last ones
//! were dealt with, to the end: what a process had in hand when it died is told again to the next one. (A dispatcher that
//! asks ahead loses it.) What was dealt with twice changes nothing, because each change has a name of the outside world.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use teloxide::prelude::*;
use teloxide::types::{AllowedUpdate, Update, UpdateKind};
use tracing::{error, warn};

use crate::counter::Counter;
use crate::settings::LONG_POLL;
use crate::trouble::{Cure, Pause, Trouble};

/// So many at a time: what a crash leaves to be told again, and what a bot that crashes again and again must get through to
/// come any further.
const BATCH: u8 = 20;

/// Until the store needs an operator. Then the updates in hand are not confirmed, and the next process hears them.
pub(crate) async fn hear(bot: Bot, counter: Counter) -> Trouble {
    let mut offset = 0;
    let mut pause = Pause::new();
    loop {
        let wait = u32::try_from(LONG_POLL.as_secs()).unwrap_or(u32::MAX);
        let kinds = vec![AllowedUpdate::Message, AllowedUpdate::CallbackQuery];
        let updates = match bot.get_updates().offset(offset).limit(BATCH).timeout(wait).allowed_updates(kinds).await {
            Ok(updates) => updates,
            Err(error) => {
                warn!("no updates: {error}");
                pause.after(&error.into()).await;
                continue;
            }
        };
        pause = Pause::new();
        let Some(last) = updates.last() else { continue };
        offset = last.id.as_offset();
        // Of one chat in their order; chats side by side.
        let mut chats = BTreeMap::<_, Vec<Update>>::new();
        for update in updates {
            chats.entry(update.chat().map(|chat| chat.id)).or_default().push(update);
        }
        if let Err(trouble) = try_join_all(chats.into_values().map(|updates| deal_with(&counter, updates))).await {
            return trouble;
        }
    }
}

/// Only the store is waited for here, which everybody waits for: what is said to one chat is left after a few tries.
async fn deal_with(counter: &Counter, updates: Vec<Update>) -> Result<(), Trouble> {
    for update in updates {
        if let UpdateKind::Error(raw) = &update.kind {
            error!("update {} cannot be read: {raw}", update.id.0);
        }
        let mut pause = Pause::new();
        while let Err(trouble) = counter.serve(&update).await {
            match trouble.cure() {
                Cure::Again => warn!("update {} is tried again: {trouble}", update.id.0),
                Cure::Never => {
                    error!("update {} is left: {trouble}", update.id.0);
                    break;
                }
                Cure::Operator => return Err(trouble),
            }
            pause.after(&trouble).await;
        }
    }
    Ok(())
}
