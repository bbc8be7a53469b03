//! The history of delivered generations.

use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{
    AddGenerationToHistory, Answer, Error, Fingerprint, Generation, GenerationId, GenerationReceipt,
    GetUserGenerationsHistory, History, KeySpace, Newest, OperationId, OperationKey, Page, Result, UsedKey, UserId,
};

use crate::MemoryStorage;
use crate::state::{Order, State, page};

fn position(generation: &Generation) -> Newest<GenerationId> {
    Newest::new(generation.at, generation.id.clone())
}

/// The arguments that the id stands for, when it was used.
pub(crate) fn used_id(state: &State, user: UserId, id: &GenerationId) -> Result<Option<Fingerprint>> {
    let key = OperationKey::new(id.as_str())?;
    Ok(state.keys.get(&(user, KeySpace::Generation, key)).map(|used| used.arguments))
}

/// Drops the oldest entries beyond this number.
pub(crate) fn trim(state: &mut State, user: UserId, kept: usize) {
    if let Some(entries) = state.history.get_mut(&user) {
        entries.truncate(kept);
    }
}

/// Adds an entry, and uses its id up.
pub(crate) fn record(
    state: &mut State,
    user: UserId,
    generation: Generation,
    arguments: Fingerprint,
    operation: OperationId,
) -> Result<()> {
    let key = OperationKey::new(generation.id.as_str())?;
    state.keys.insert((user, KeySpace::Generation, key), UsedKey { arguments, operation, answer: Answer::Record });
    let entries = state.history.entry(user).or_default();
    entries.push(Arc::new(generation));
    entries.sort_by_key(|entry| std::cmp::Reverse(position(entry)));
    Ok(())
}

#[async_trait]
impl History for MemoryStorage {
    async fn add_generation_to_history(&self, add: AddGenerationToHistory) -> Result<GenerationReceipt> {
        self.write("add_generation_to_history", |state, stamp| {
            let arguments = add.fingerprint();
            let AddGenerationToHistory { user, id, model_id, model_name, params, result_urls, price } = add;
            let id = id.map_or_else(|| GenerationId::new(stamp.operation.to_string()), Ok)?;
            match used_id(state, user, &id)? {
                Some(used) if used == arguments => return Ok(GenerationReceipt { id, replayed: true }),
                Some(_) => return Err(Error::conflict("generation", &id, "it was recorded with other arguments")),
                None => {}
            }
            let account = state.account(user, stamp.now);
            account.spend(price)?;
            let generation =
                Generation { id: id.clone(), model_id, model_name, params, result_urls, price, at: stamp.now };
            // What is recorded now stays, also when the clock went back: the others make room.
            trim(state, user, self.policy().history.limit() - 1);
            record(state, user, generation, arguments, stamp.operation)?;
            Ok(GenerationReceipt { id, replayed: false })
        })
    }

    async fn get_user_generations_history(&self, list: GetUserGenerationsHistory) -> Result<Page<Generation>> {
        self.read("get_user_generations_history", |state| {
            let entries = state.history.get(&list.user).into_iter().flatten();
            page(entries, &list.page, list.filter(), Order::Descending, position)
        })
    }
}
