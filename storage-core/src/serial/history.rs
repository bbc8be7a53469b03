//! The history of delivered generations.

use async_trait::async_trait;

use super::Serial;
use super::page::page;
use crate::{
    AddGenerationToHistory, Generation, GenerationId, GenerationReceipt, GetUserGenerationsHistory, History, Newest,
    Page, Result,
};

fn position(generation: &Generation) -> Newest<GenerationId> {
    Newest::new(generation.at, generation.id.clone())
}

#[async_trait]
impl History for Serial {
    async fn add_generation_to_history(&self, add: AddGenerationToHistory) -> Result<GenerationReceipt> {
        self.apply(add).await
    }

    async fn get_user_generations_history(&self, list: GetUserGenerationsHistory) -> Result<Page<Generation>> {
        self.look("get_user_generations_history", move |unit, _| {
            page(&list.page, list.filter(), |after, most| unit.history(list.user, after, most), position)
        })
        .await
    }
}
