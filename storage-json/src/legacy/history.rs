//! The history of generations, counted per user by the bot and keyed by operation in the unified storage.

use std::collections::HashMap;

use storage_core::{Generation, GenerationId, ImportRecord, Result, UserId};

use super::fields::{Attempt, Read, Reason, list, object, ruled, text, urls, user_from};
use super::gather::Gather;
use super::source_files::LegacyFile;
use crate::json_text::{Node, NodeValue};

/// Reads `generations_history.json`.
pub(super) fn read(gather: &mut Gather<'_>, file: &LegacyFile) -> Result<()> {
    gather.entries(file, &mut |gather, key, node| {
        let Some((user, items)) = list_of(gather, file, key, node) else { return };
        let ids = Ids::of(user, file, items, "id");
        for (position, item) in items.iter().enumerate() {
            gather.attempt(file, &format!("{key}/{}", position + 1), |gather, attempt| {
                object(item)?;
                let id = ids.id(position, item)?;
                let at = attempt.moment(item, &["timestamp"], &["created_at", "updated_at"])?;
                generation(gather, attempt, user, id, item, at)
            });
        }
    })
}

/// Reads `history_events.json`. It may repeat the history, so it counts only for users without one.
pub(super) fn read_events(gather: &mut Gather<'_>, file: &LegacyFile) -> Result<()> {
    let with_history: std::collections::HashSet<UserId> =
        gather.history.iter().map(|legacy| legacy.record.user()).collect();
    gather.entries(file, &mut |gather, key, node| {
        let Some((user, items)) = list_of(gather, file, key, node) else { return };
        if with_history.contains(&user) {
            return gather.note(&file.name, key, "events of a user with a history: left alone, they may repeat it");
        }
        let ids = Ids::of(user, file, items, "event_id");
        for (position, item) in items.iter().enumerate() {
            gather.attempt(file, &format!("{key}/{}", position + 1), |gather, attempt| {
                object(item)?;
                if text(item, "kind")? != Some("generation") {
                    attempt.note("an event that is not a generation: left alone");
                    return Ok(None);
                }
                let id = ids.id(position, item)?;
                let at = attempt.moment(item, &["created_at"], &[])?;
                let Some(payload) = item.field("payload") else { return Err(Reason("payload: is missing".to_owned())) };
                object(payload)?;
                generation(gather, attempt, user, id, payload, at)
            });
        }
    })
}

/// A user and the list under the user's key; a refusal otherwise.
fn list_of<'n, 'a>(
    gather: &mut Gather<'_>,
    file: &LegacyFile,
    key: &str,
    node: &'n Node<'a>,
) -> Option<(UserId, &'n [Node<'a>])> {
    let read = || {
        let user = user_from("user id", key)?;
        let items = if matches!(node.value, NodeValue::Null) { &[] } else { list("history", node)? };
        Ok((user, items))
    };
    read().map_err(|reason| gather.refuse(&file.name, key, reason)).ok()
}

fn generation(
    gather: &mut Gather<'_>,
    attempt: &mut Attempt<'_>,
    user: UserId,
    id: GenerationId,
    item: &Node<'_>,
    at: storage_core::Timestamp,
) -> Read<Option<ImportRecord>> {
    let (model_id, model_name) = gather.model(attempt, text(item, "model_id")?, text(item, "model_name")?)?;
    let params = attempt.params(item)?;
    let result_urls = urls(item)?;
    let price = attempt.price(item)?;
    gather.add_spent(attempt, user, price);
    let generation = Generation { id, model_id, model_name, params, result_urls, price, at };
    Ok(Some(ImportRecord::Generation { user, generation }))
}

/// The ids of one user's entries. A text that stands once is kept; a number, which the bot counted and counted
/// again after trimming, and a text that repeats become user, file and position.
struct Ids<'n> {
    user: UserId,
    stem: &'n str,
    field: &'static str,
    times: HashMap<&'n str, u32>,
}

impl<'n> Ids<'n> {
    fn of(user: UserId, file: &'n LegacyFile, items: &'n [Node<'_>], field: &'static str) -> Self {
        let mut times = HashMap::new();
        for id in items.iter().filter_map(|item| lasting(item, field)) {
            *times.entry(id).or_default() += 1;
        }
        let stem = file.name.strip_suffix(".json").unwrap_or(&file.name);
        Self { user, stem, field, times }
    }
    fn id(&self, position: usize, item: &Node<'_>) -> Read<GenerationId> {
        if let Some(id) = lasting(item, self.field)
            && self.times.get(id) == Some(&1)
        {
            return ruled("id", GenerationId::new(id));
        }
        let mut id = format!("{}-{}-{}", self.user, self.stem, position + 1);
        while self.times.contains_key(id.as_str()) {
            id.push('+');
        }
        ruled("id", GenerationId::new(id))
    }
}

/// An entry's id when it is a text that no counter wrote.
fn lasting<'n>(item: &'n Node<'_>, field: &str) -> Option<&'n str> {
    match &item.field(field)?.value {
        NodeValue::String(id) if !id.bytes().all(|byte| byte.is_ascii_digit()) => Some(id),
        _ => None,
    }
}
