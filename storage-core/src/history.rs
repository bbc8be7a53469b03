//! The history of delivered generations.

use async_trait::async_trait;
use serde::Serialize;

use crate::{
    Fingerprint, GenerationId, ModelId, ModelName, Money, Page, PageRequest, PageSize, Params, Result, ResultUrls,
    Timestamp, UserId,
};

/// A delivered generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Generation {
    /// Its id, unique for the user.
    pub id: GenerationId,
    /// Which model.
    pub model_id: ModelId,
    /// The model's name.
    pub model_name: ModelName,
    /// The parameters, as they were given.
    pub params: Params,
    /// Where the results are.
    pub result_urls: ResultUrls,
    /// What it cost.
    pub price: Money,
    /// When it was recorded.
    pub at: Timestamp,
}

impl Generation {
    /// The call that records it.
    pub fn recorded(&self, user: UserId) -> AddGenerationToHistory {
        let Self { id, model_id, model_name, params, result_urls, price, at: _ } = self.clone();
        AddGenerationToHistory { user, id: Some(id), model_id, model_name, params, result_urls, price }
    }
}

/// Arguments of [`History::add_generation_to_history`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddGenerationToHistory {
    /// Whose generation.
    pub user: UserId,
    /// The operation's id, which makes the call repeatable; minted when absent.
    pub id: Option<GenerationId>,
    /// Which model.
    pub model_id: ModelId,
    /// The model's name.
    pub model_name: ModelName,
    /// The parameters.
    pub params: Params,
    /// Where the results are.
    pub result_urls: ResultUrls,
    /// What it cost.
    pub price: Money,
}

impl AddGenerationToHistory {
    /// What a replay must repeat.
    pub fn fingerprint(&self) -> Fingerprint {
        let Self { user: _, id: _, model_id, model_name, params, result_urls, price } = self;
        let (urls, price) = (result_urls.as_slice().join("\n"), price.to_string());
        Fingerprint::of(
            "add_generation_to_history",
            &[model_id.as_str(), model_name.as_str(), params.as_json(), &urls, &price],
        )
    }
}

/// What recording a generation answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GenerationReceipt {
    /// The generation's id: the caller's, else the minted one.
    pub id: GenerationId,
    /// Whether this call only repeated one that had succeeded.
    pub replayed: bool,
}

/// Arguments of [`History::get_user_generations_history`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetUserGenerationsHistory {
    /// Whose history.
    pub user: UserId,
    /// Which page.
    pub page: PageRequest,
}

impl GetUserGenerationsHistory {
    /// The first page, of the default size: 10.
    pub fn of(user: UserId) -> Self {
        Self { user, page: PageRequest::first(PageSize::HISTORY) }
    }
    /// Which list a cursor belongs to.
    pub fn filter(&self) -> Fingerprint {
        Fingerprint::of("get_user_generations_history", &[&self.user.to_string()])
    }
}

/// The history of delivered generations.
#[async_trait]
pub trait History {
    /// Records a generation, and adds its price to what the user spent, in one atom.
    ///
    /// # Contract
    /// - The same id with equal arguments is a replay, also when the entry was trimmed long ago.
    /// - The policy says how many entries are kept; ids and prices outlive the trimming. The entry just recorded stays,
    ///   also where the clock went back: of the others the oldest go.
    /// - Creates the user when missing.
    ///
    /// # Errors
    /// `Conflict` for a used id with other arguments; `InvalidInput` when the user's prices would come to more than
    /// [`MAX_SPENT`](crate::MAX_SPENT).
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage, user: UserId) -> Result<()> {
    /// storage
    ///     .add_generation_to_history(AddGenerationToHistory {
    ///         user,
    ///         id: Some("job-7".parse()?),
    ///         model_id: "z-image".parse()?,
    ///         model_name: "Z Image".parse()?,
    ///         params: Params::from_json(r#"{"prompt": "a cat in the rain"}"#)?,
    ///         result_urls: ResultUrls::new(["https://example.org/7.png"])?,
    ///         price: "7.50".parse()?,
    ///     })
    ///     .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `history::*`.
    async fn add_generation_to_history(&self, add: AddGenerationToHistory) -> Result<GenerationReceipt>;

    /// Lists the user's generations, newest first by time and id.
    ///
    /// # Errors
    /// `InvalidInput` for a cursor of another user's list.
    ///
    /// ```
    /// # use storage_core::*;
    /// # async fn example(storage: &dyn Storage, user: UserId) -> Result<()> {
    /// let newest = storage.get_user_generations_history(GetUserGenerationsHistory::of(user)).await?.items;
    /// # Ok(()) }
    /// ```
    ///
    /// Scenarios: `history::*`.
    async fn get_user_generations_history(&self, list: GetUserGenerationsHistory) -> Result<Page<Generation>>;
}
