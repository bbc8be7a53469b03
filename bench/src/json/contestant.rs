//! Who does the job.

use std::path::Path;

use storage_json::Access;

use super::bare::{Append, Rewrite};
use super::fjall::Fjall;
use super::floor::{Disk, Floor};
use super::gather::{Batch, By};
use super::op::{Op, Pending, payment};
use super::redb::Redb;
use super::sqlite::Sqlite;
use super::store::{Filling, Json, fill};

/// Which contestant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Json,
    /// Without syncs: the most that hiding them behind other work could come to.
    Unsynced,
    Floor(By, Disk),
    Append,
    Rewrite,
    Sqlite(Batch),
    Redb(Batch),
    Fjall,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Json => "storage-json",
            Self::Unsynced => "the same, unsynced",
            Self::Floor(..) => "floor",
            Self::Append => "append, fdatasync",
            Self::Rewrite => "file rewritten",
            Self::Sqlite(Batch::Each) => "SQLite",
            Self::Sqlite(Batch::Gathered) => "SQLite batched",
            Self::Redb(Batch::Each) => "redb",
            Self::Redb(Batch::Gathered) => "redb batched",
            Self::Fjall => "fjall batched",
        }
    }
}

#[derive(Debug)]
enum Inner {
    Json(Json),
    Floor(Floor),
    Append(Append),
    Rewrite(Rewrite),
    Sqlite(Sqlite),
    Redb(Redb),
    Fjall(Fjall),
}

/// A contestant with its own files, filled with users.
#[derive(Debug)]
pub(super) struct Contestant {
    pub(super) kind: Kind,
    users: u32,
    inner: Inner,
    pub(super) pending: Pending,
}

impl Contestant {
    /// Makes one with its files in a directory, under a name that is not taken.
    pub(super) async fn open(kind: Kind, dir: &Path, users: u32) -> Result<Self, String> {
        let path = tempfile::Builder::new()
            .prefix("contestant-")
            .tempdir_in(dir)
            .map(tempfile::TempDir::keep)
            .map_err(|error| format!("{}: {error}", dir.display()))?;
        let inner = match kind {
            Kind::Json | Kind::Unsynced => {
                let path = path.join("store");
                fill(&path, Filling { users, ..Filling::default() }).await?;
                Inner::Json(match kind {
                    Kind::Unsynced => Json::unsynced(&path).await?,
                    _ => Json::open(&path, Access::Shared).await?,
                })
            }
            Kind::Floor(by, disk) => Inner::Floor(Floor::open(&path.join("log"), by, disk, users)?),
            Kind::Append => Inner::Append(Append::open(&path.join("log"))?),
            Kind::Rewrite => Inner::Rewrite(Rewrite::open(&path.join("files"), users)?),
            Kind::Sqlite(batch) => Inner::Sqlite(Sqlite::open(&path.join("store.sqlite"), batch, users)?),
            Kind::Redb(batch) => Inner::Redb(Redb::open(&path.join("store.redb"), batch, users)?),
            Kind::Fjall => Inner::Fjall(Fjall::open(&path.join("store"), users)?),
        };
        Ok(Self { kind, users, inner, pending: Pending::default() })
    }

    /// A store that is there already.
    pub(super) fn of_store(store: Json, users: u32) -> Self {
        Self { kind: Kind::Json, users, inner: Inner::Json(store), pending: Pending::default() }
    }

    /// Makes sure that so many payments wait.
    pub(super) async fn top_up(&self, wanted: u64) -> Result<(), String> {
        let payments = self.pending.top_up(wanted).map(|number| payment(number, self.users));
        match &self.inner {
            Inner::Json(store) => store.add_payments(payments).await,
            Inner::Floor(floor) => {
                payments.for_each(|(payment, _)| floor.add_payment(payment));
                Ok(())
            }
            Inner::Sqlite(sqlite) => sqlite.add_payments(payments),
            Inner::Redb(redb) => redb.add_payments(payments),
            Inner::Fjall(fjall) => fjall.add_payments(payments),
            Inner::Append(_) | Inner::Rewrite(_) => Err(format!("{} knows no payments", self.kind.name())),
        }
    }

    pub(super) async fn run(&self, op: Op) -> Result<(), String> {
        match &self.inner {
            Inner::Json(store) => store.run(op).await,
            Inner::Floor(floor) => floor.run(op).await,
            Inner::Sqlite(sqlite) => sqlite.run(op).await,
            Inner::Redb(redb) => redb.run(op).await,
            Inner::Fjall(fjall) => fjall.run(op).await,
            Inner::Append(append) => append.run(&op),
            Inner::Rewrite(rewrite) => rewrite.run(&op),
        }
    }

    pub(super) async fn close(&self) -> Result<(), String> {
        match &self.inner {
            Inner::Json(store) => store.close().await,
            _ => Ok(()),
        }
    }
}
