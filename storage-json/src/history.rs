//! The history of delivered generations.

use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{
    AddGenerationToHistory, Answer, Generation, GenerationId, GenerationReceipt, GetUserGenerationsHistory,
    HeapSize as _, History, KeySpace, Newest, OperationKey, Page, Result, check_key,
};

use crate::engine::JsonStorage;
use crate::lists::Start;

impl JsonStorage {
    async fn page_of_history(&self, list: GetUserGenerationsHistory) -> Result<Page<Generation>> {
        let filter = list.filter();
        let GetUserGenerationsHistory { user, page } = list;
        let after = page.position(filter)?.map(Newest::into_parts);
        let rows = self
            .read("get_user_generations_history", |state| {
                let newest = state.history.newest_of(user, Start::behind(after)).take(page.size.get() + 1);
                newest.map(|(_, _, generation)| Arc::clone(generation)).collect()
            })
            .await?;
        Ok(Page::from_surplus(rows, page.size, filter, |generation| Newest::new(generation.at, generation.id.clone())))
    }
}

#[async_trait]
impl History for JsonStorage {
    async fn add_generation_to_history(&self, add: AddGenerationToHistory) -> Result<GenerationReceipt> {
        let key = add.id.as_ref().map(|id| OperationKey::new(id.as_str())).transpose()?;
        self.write("add_generation_to_history", key, add.heap_size(), move |tx| {
            let fingerprint = add.fingerprint();
            let AddGenerationToHistory { user, id, model_id, model_name, params, result_urls, price } = add;
            let id = match id {
                Some(id) => id,
                None => GenerationId::new(tx.stamp.operation.to_string())?,
            };
            // Found among the keys, not in the history: ids outlive the trimming.
            let key = OperationKey::new(id.as_str())?;
            let used = tx.used_key(user, KeySpace::Generation, &key)?;
            let known = check_key(user, &key, fingerprint, used).map_err(|_| {
                storage_core::Error::conflict("generation", &id, "it was recorded with other arguments")
            })?;
            if known.is_some() {
                return Ok(GenerationReceipt { id, replayed: true });
            }
            let mut account = tx.account_or_new(user);
            account.record.spend(price)?;
            tx.settle(account, (KeySpace::Generation, key), fingerprint, Answer::Record, Vec::new())?;
            let generation =
                Generation { id: id.clone(), model_id, model_name, params, result_urls, price, at: tx.now() };
            // What is recorded now stays, also when the clock went back: the others make room.
            tx.trim_history(user, tx.env.policy.history.limit() - 1);
            tx.put_generation(user, &generation);
            Ok(GenerationReceipt { id, replayed: false })
        })
        .await
    }

    async fn get_user_generations_history(&self, list: GetUserGenerationsHistory) -> Result<Page<Generation>> {
        self.opened("get_user_generations_history")?;
        self.page_of_history(list).await.map_err(|error| error.in_operation("get_user_generations_history"))
    }
}
