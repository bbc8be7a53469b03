//! Removing scratch schemas, in which `storage verify` works beside the store's own.

use storage_core::Error;
use tokio::time::timeout;

use crate::fault::Fault;
use crate::open::{OpenError, dial, schema};
use crate::options::PgOptions;

/// How the names of scratch schemas begin. No other schema is ever removed.
const PREFIX: &str = "storage_verify_";

/// Removes the schema of the options with everything in it, when it is a scratch schema: one whose name begins with
/// `storage_verify_`. One that is not there is no error.
///
/// # Errors
/// `InvalidInput` for every other schema; the true cause when there is no connection.
pub async fn drop_scratch_schema(options: &PgOptions) -> Result<(), OpenError> {
    let schema = schema(&options.schema)?;
    if !schema.name().starts_with(PREFIX) {
        return Err(Error::invalid("schema", format!("must begin with {PREFIX}: no other is ever removed")).into());
    }
    let (_, connection) = dial(&options.url, options).await?;
    let sql = format!("DROP SCHEMA IF EXISTS {} CASCADE", schema.quoted());
    let limit = options.limits.statement;
    match timeout(limit, connection.client.batch_execute(&sql)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Fault::from(error).into_error().into()),
        Err(_) => Err(Fault::Silent(limit).into_error().into()),
    }
}
