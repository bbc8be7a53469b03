//! The history of delivered generations.

use std::fmt::Display;
use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{
    AddGenerationToHistory, Generation, GenerationId, GenerationReceipt, GetUserGenerationsHistory, History, Newest,
    Page, Result, UserId,
};
use tokio_postgres::Row;

use crate::codec::{Micros, Moment};
use crate::fields::Fields;
use crate::statement::statements;
use crate::store::PgStorage;
use crate::tx::{Param, Tx, param};
use crate::users::surplus;

macro_rules! generation_columns {
    () => {
        "user_id, generation_id, model_id, model_name, params, result_urls, price, created_at"
    };
}
macro_rules! generation_columns_read {
    () => {
        "user_id, generation_id, model_id, model_name, params::text AS params, result_urls, price, created_at"
    };
}
pub(crate) use generation_columns_read;

statements! {
    /// Statements of the history.
    HistoryStatements {
        list(INT8, TIMESTAMPTZ, TEXT, INT8) = concat!(
            "SELECT ", generation_columns_read!(), " FROM {s}.generation_history
             WHERE user_id = $1 AND (created_at, generation_id) < ($2, $3)
             ORDER BY created_at DESC, generation_id DESC LIMIT $4"
        );
        put(INT8, TEXT, TEXT, TEXT, TEXT, TEXT_ARRAY, NUMERIC, TIMESTAMPTZ) = concat!(
            "INSERT INTO {s}.generation_history (", generation_columns!(), ")
             VALUES ($1, $2, $3, $4, $5::text::json, $6, $7, $8)"
        );
        /// Drops all but the newest `$2`. The user's row is locked, so that nobody adds one meanwhile.
        trim(INT8, INT8) =
            "DELETE FROM {s}.generation_history WHERE user_id = $1 AND (created_at, generation_id) <= (
                 SELECT created_at, generation_id FROM {s}.generation_history WHERE user_id = $1
                 ORDER BY created_at DESC, generation_id DESC OFFSET $2 LIMIT 1)";
    }
}

/// Reads the columns of `generation_columns_read!`.
pub(crate) fn generation(row: &Row) -> Result<(UserId, Generation)> {
    let mut fields = Fields::of(row, "generation_history");
    let user = fields.user()?;
    let generation = Generation {
        id: fields.text()?,
        model_id: fields.text()?,
        model_name: fields.text()?,
        params: fields.params()?,
        result_urls: fields.urls()?,
        price: fields.money()?,
        at: fields.at()?,
    };
    Ok((user, generation))
}

/// The parameters of `put`.
pub(crate) fn values(user: UserId, generation: &Generation) -> Vec<Param> {
    vec![
        param(user.get()),
        param(generation.id.as_str().to_owned()),
        param(generation.model_id.as_str().to_owned()),
        param(generation.model_name.as_str().to_owned()),
        param(generation.params.as_json().to_owned()),
        param(generation.result_urls.as_slice().to_vec()),
        param(Micros::from(generation.price)),
        param(Moment::At(generation.at)),
    ]
}

/// Drops the oldest entries beyond this number.
pub(crate) fn trim(tx: &mut Tx<'_>, user: UserId, kept: usize) {
    // More than that is everything.
    if let Ok(kept) = i64::try_from(kept) {
        tx.queue_child(&tx.sql().history.trim, vec![param(user.get()), param(kept)]);
    }
}

impl PgStorage {
    async fn page_of_history(&self, list: GetUserGenerationsHistory) -> Result<Page<Generation>> {
        let filter = list.filter();
        let GetUserGenerationsHistory { user, page } = list;
        let (at, id) = behind(page.position::<Newest<GenerationId>>(filter)?);
        let (user, limit) = (user.get(), surplus(page.size));
        let rows =
            self.read("get_user_generations_history", &self.sql().history.list, &[&user, &at, &id, &limit]).await?;
        let entries = rows.iter().map(|row| Ok(Arc::new(generation(row)?.1))).collect::<Result<_>>()?;
        Ok(Page::from_surplus(entries, page.size, filter, |entry| Newest::new(entry.at, entry.id.clone())))
    }
}

/// The row that a page from the newest to the oldest begins behind; none is later than every row.
pub(crate) fn behind<Id: Display>(after: Option<Newest<Id>>) -> (Moment, String) {
    after.map_or((Moment::Infinity, String::new()), |Newest { at, id }| (Moment::At(at), id.to_string()))
}

#[async_trait]
impl History for PgStorage {
    async fn add_generation_to_history(&self, add: AddGenerationToHistory) -> Result<GenerationReceipt> {
        self.apply(add).await
    }

    async fn get_user_generations_history(&self, list: GetUserGenerationsHistory) -> Result<Page<Generation>> {
        self.opened("get_user_generations_history")?;
        self.page_of_history(list).await.map_err(|error| error.in_operation("get_user_generations_history"))
    }
}
