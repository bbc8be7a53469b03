//! Hears everything that is said, at least once.
//!
//! Telegram forgets an update as soon as a later one is asked for. So none is asked for before all of the last ones
//! were dealt with, to the end: what a process had in hand when it died is told again to the next one. (A dispatcher that
//! asks ahead loses it.) What was dealt with twice changes nothing, because each change has a name of the outside world.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use futures_util::future::join_all;
use teloxide::prelude::*;
use teloxide::types::{AllowedUpdate, Update};
use tracing::{error, warn};

use crate::counter::Counter;
use crate::settings::LONG_POLL;

/// So many at a time: what a crash leaves to be told again, and what a bot that crashes again and again must get through to
/// come any further.
const BATCH: u8 = 20;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

pub(crate) async fn hear(bot: Bot, counter: Counter) -> Infallible {
    let mut offset = 0;
    let mut pause = FIRST_PAUSE;
    loop {
        let wait = u32::try_from(LONG_POLL.as_secs()).unwrap_or(u32::MAX);
        let kinds = vec![AllowedUpdate::Message, AllowedUpdate::CallbackQuery];
        let updates = match bot.get_updates().offset(offset).limit(BATCH).timeout(wait).allowed_updates(kinds).await {
            Ok(updates) => updates,
            Err(refusal) => {
                warn!("no updates: {refusal}");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
        };
        pause = FIRST_PAUSE;
        let Some(last) = updates.last() else { continue };
        offset = last.id.as_offset();
        // Of one chat in their order; chats side by side, so that none waits for another.
        let mut chats = BTreeMap::<_, Vec<Update>>::new();
        for update in updates {
            chats.entry(update.chat().map(|chat| chat.id)).or_default().push(update);
        }
        join_all(chats.into_values().map(|updates| deal_with(&counter, updates))).await;
    }
}

async fn deal_with(counter: &Counter, updates: Vec<Update>) {
    for update in updates {
        let mut pause = FIRST_PAUSE;
        while let Err(trouble) = counter.serve(&update).await {
            if !trouble.passes() {
                // Never again and again for ever: the others wait behind it.
                error!("update {} is left: {trouble}", update.id.0);
                break;
            }
            warn!("update {} is tried again: {trouble}", update.id.0);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
