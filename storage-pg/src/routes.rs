//! Ids that arrive without their user, and where they lead. One that leads to a user who has no such record is damage:
//! nothing can be stored under it and nothing is found there.

use storage_core::{Error, Place, Result};
use tokio_postgres::Row;

use crate::fields::Fields;
use crate::statement::{Statement, statements};
use crate::store::PgStorage;

macro_rules! dangling {
    ($kind:literal, $table:literal, $column:literal) => {
        concat!(
            "SELECT r.user_id FROM {s}.id_routes r WHERE r.kind = '",
            $kind,
            "' AND r.id = $1 AND NOT EXISTS (SELECT FROM {s}.",
            $table,
            " t WHERE t.user_id = r.user_id AND t.",
            $column,
            " = r.id)"
        )
    };
}

statements! {
    /// Where an id leads that leads nowhere. One statement, so that a record that is being made is there with its id or
    /// not at all.
    DanglingStatements {
        job(TEXT) = dangling!("job", "generation_jobs", "job_id");
        task(TEXT) = dangling!("task", "generation_jobs", "external_task_id");
        payment(TEXT) = dangling!("payment", "payments", "payment_id");
        provider(TEXT) = dangling!("provider", "payments", "provider_key");
    }
}

/// `Corrupt` when a statement of these found something; `what` is the kind and the id it asked for.
pub(crate) fn leads_somewhere(found: Option<&Vec<Row>>, what: (&str, &str)) -> Result<()> {
    let Some(row) = found.and_then(|rows| rows.first()) else { return Ok(()) };
    let (user, (kind, id)) = (Fields::of(row, "id_routes").int()?, what);
    let place = Place::new("table id_routes").key(format!("{kind} {id}"));
    Err(Error::corrupt(place, format!("it leads to user {user}, who has nothing under this id")))
}

impl PgStorage {
    /// Proves that a look-up which found nothing was right.
    pub(crate) async fn leads_nowhere(
        &self,
        operation: &'static str,
        dangling: &Statement,
        (kind, id): (&str, &str),
    ) -> Result<()> {
        let found = self.read(operation, dangling, &[&id]).await?;
        leads_somewhere(Some(&found), (kind, id)).map_err(|error| error.in_operation(operation))
    }
}
