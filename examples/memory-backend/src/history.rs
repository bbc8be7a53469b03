//! The history of delivered generations.

use async_trait::async_trait;
use storage_core::{
    AddGenerationToHistory, Generation, GenerationId, GenerationReceipt, GetUserGenerationsHistory, History, Newest,
    Page, Result,
};

use crate::MemoryStorage;
use crate::state::{Order, page};

fn position(generation: &Generation) -> Newest<GenerationId> {
    Newest::new(generation.at, generation.id.clone())
}

#[async_trait]
impl History for MemoryStorage {
    async fn add_generation_to_history(&self, add: AddGenerationToHistory) -> Result<GenerationReceipt> {
        self.apply(add)
    }

    async fn get_user_generations_history(&self, list: GetUserGenerationsHistory) -> Result<Page<Generation>> {
        self.read("get_user_generations_history", |state| {
            let entries = state.history.get(&list.user).into_iter().flatten();
            page(entries, &list.page, list.filter(), Order::Descending, position)
        })
    }
}
