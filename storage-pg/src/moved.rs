//! The mark of a store whose contents were moved elsewhere. [`migrations::remark`] says how it works.

use std::time::Duration;

use migrations::{Remark, State};
use storage_core::{Destination, Error, Result};
use tokio::time::timeout;

use crate::fault::Fault;
use crate::open::{migration_error, mismatch};
use crate::pool::Pool;
use crate::store::PgStorage;

/// How long marking waits for those who are changing something.
const WAIT: Duration = Duration::from_secs(20);

impl PgStorage {
    pub(crate) async fn destination(&self) -> Result<Option<Destination>> {
        let rows = self.read("moved_to", &self.sql().store.moved_to, &[]).await?;
        let to = rows.first().map(|row| row.try_get::<_, String>(0)).transpose();
        let to = to.map_err(|error| Fault::from(error).into_error())?;
        to.map(Destination::new).transpose()
    }

    /// Refuses where a newer program's schema has more than this one knows: whatever moves a store would leave that behind.
    pub(crate) async fn knows_all_of_it(&self, pool: &Pool) -> Result<()> {
        let state = self.schema_state(pool).await?;
        if state.is_known() { Ok(()) } else { Err(mismatch(&state)) }
    }

    async fn schema_state(&self, pool: &Pool) -> Result<State> {
        let mut link = pool.checkout(self.limits().pool).await?;
        link.reads();
        let (client, _) = link.split();
        let state = migrations::inspect(client, self.schema()).await.map_err(migration_error)?;
        link.finished();
        Ok(state)
    }

    pub(crate) async fn remark(&self, remark: Remark<'_>) -> Result<()> {
        let pool = self.enter().await?;
        let state = self.schema_state(&pool).await?;
        // A mark would refuse the rows that a migration still has to fill. Lifting one lets it go on.
        let is_ready = match remark {
            Remark::Set(_) => matches!(state, State::Current { .. }),
            Remark::Lift(_) => state.is_known(),
        };
        if !is_ready {
            return Err(mismatch(&state));
        }
        let mut link = pool.checkout(self.limits().pool).await?;
        let (client, _) = link.split();
        // The transaction has many steps, each with a limit of its own; this one is for a server that falls silent.
        let limit = WAIT * 2;
        let remarked = timeout(limit, migrations::remark(client, self.schema(), remark, WAIT)).await;
        let present = match remarked {
            Ok(Ok(present)) => present,
            Ok(Err(migrations::Error::Postgres(error))) => {
                let fault = Fault::from(error);
                let doubt = fault.leaves_doubt();
                let error = fault.into_error();
                return Err(if doubt { error.unknown(None) } else { error });
            }
            Ok(Err(error)) => return Err(migration_error(error)),
            Err(_) => return Err(Fault::Silent(limit).into_error().unknown(None)),
        };
        link.finished();
        match present {
            None => Ok(()),
            Some(other) => Err(Error::conflict(
                "mark",
                other,
                "the store is marked as moved there; that mark is lifted by this name",
            )),
        }
    }
}
