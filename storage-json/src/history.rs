//! The history of delivered generations.

use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{
    AddGenerationToHistory, Generation, GenerationReceipt, GetUserGenerationsHistory, History, Newest, Page, Result,
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
        self.apply(add).await
    }

    async fn get_user_generations_history(&self, list: GetUserGenerationsHistory) -> Result<Page<Generation>> {
        self.opened("get_user_generations_history")?;
        self.page_of_history(list).await.map_err(|error| error.in_operation("get_user_generations_history"))
    }
}
