//! The store that is measured.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use storage_core::{
    AddBalance, AddGenerationJob, Amount, Error, ImportOutcome, ImportRecord, Job, JobStatus, MarkPaymentStatus, Money,
    Payment, PaymentOrigin, PaymentStatus, Result, SharedStorage, Storage, SubtractBalance, Timestamp, UpdateJobStatus,
    UserId,
};
use storage_json::{Access, Durability, JsonOptions, JsonStorage};

use super::bytes::now;
use super::op::{MICROS, Op, UNITS, job, seen};

/// Records that go in together.
const BATCH: usize = 10_000;

#[derive(Debug)]
pub(super) struct Json {
    storage: SharedStorage,
    amount: Amount,
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
pub(super) fn of_store(error: Error) -> String {
    error.report().to_string()
}

impl Json {
    /// Opens as a program opens it: durable, and shared or not.
    pub(super) async fn open(dir: &Path, access: Access) -> Result<Self, String> {
        Self::open_with(dir, access, None).await
    }

    /// [`Json::open`], with a limit that no wait of a measurement reaches: each is to be measured whole.
    pub(super) async fn patient(dir: &Path) -> Result<Self, String> {
        let options = JsonOptions { deadline: Duration::from_mins(10), ..JsonOptions::new(dir) };
        Self::with(options).await.map_err(of_store)
    }

    /// [`Json::open`], with a checkpoint after so many bytes of the journal.
    pub(super) async fn open_with(dir: &Path, access: Access, checkpoint_bytes: Option<u64>) -> Result<Self, String> {
        let mut options = JsonOptions::new(dir);
        options.access = access;
        options.checkpoint_bytes = checkpoint_bytes.unwrap_or(options.checkpoint_bytes);
        Self::with(options).await.map_err(of_store)
    }

    /// Opens shared, but a power cut may take what was answered.
    pub(super) async fn unsynced(dir: &Path) -> Result<Self, String> {
        let mut options = JsonOptions::new(dir);
        options.durability = Durability::ProcessOnly;
        Self::with(options).await.map_err(of_store)
    }

    /// Opens for filling: nothing has to survive a power cut before the close.
    async fn for_filling(dir: &Path) -> Result<Self, String> {
        let mut options = JsonOptions::new(dir);
        (options.access, options.durability) = (Access::Exclusive, Durability::ProcessOnly);
        // A checkpoint of a large store on a busy disk may take longer than a caller should wait.
        options.deadline = Duration::from_mins(10);
        Self::with(options).await.map_err(of_store)
    }

    async fn with(options: JsonOptions) -> Result<Self> {
        let storage: SharedStorage = Arc::new(JsonStorage::open(options).await?);
        Ok(Self { storage, amount: Amount::new(Money::from_micros(MICROS)?)? })
    }

    pub(super) async fn close(&self) -> Result<(), String> {
        self.storage.close().await.map_err(of_store)
    }

    pub(super) fn storage(&self) -> &SharedStorage {
        &self.storage
    }

    pub(super) async fn run(&self, op: Op) -> Result<(), String> {
        self.try_run(op).await.map_err(of_store)
    }

    async fn try_run(&self, op: Op) -> Result<()> {
        let storage = &self.storage;
        match op {
            Op::Balance { user } => {
                seen(storage.get_balance(UserId::new(user)?).await?);
            }
            Op::User { user } => {
                seen(storage.find_user(UserId::new(user)?).await?);
            }
            Op::Credit { user } => {
                storage.add_balance(AddBalance::new(UserId::new(user)?, self.amount)).await?;
            }
            Op::Debit { user, key } => {
                let debit = SubtractBalance::new(UserId::new(user)?, self.amount).with_key(key.parse()?);
                storage.subtract_balance(debit).await?;
            }
            Op::AddJob { user, job } => {
                storage.add_generation_job(new_job(user, &job)?).await?;
            }
            Op::Run { job } => {
                storage.update_job_status(UpdateJobStatus::new(job.parse()?, JobStatus::Running)).await?;
            }
            Op::Approve { user: _, payment } => {
                let mark = MarkPaymentStatus::new(payment.parse()?, PaymentStatus::Approved);
                storage.mark_payment_status(mark).await?;
            }
        }
        Ok(())
    }

    async fn import(&self, records: impl Iterator<Item = Result<ImportRecord>>) -> Result<(), String> {
        import(&*self.storage, records).await.map_err(of_store)
    }

    pub(super) async fn add_payments(&self, payments: impl Iterator<Item = (String, i64)>) -> Result<(), String> {
        self.import(payments.map(|(payment, user)| new_payment(&payment, user).map(ImportRecord::Payment))).await
    }
}

/// Puts records in; each has to be new to the store.
pub(crate) async fn import(store: &dyn Storage, records: impl Iterator<Item = Result<ImportRecord>>) -> Result<()> {
    let mut records = records.peekable();
    while records.peek().is_some() {
        let some = records.by_ref().take(BATCH).collect::<Result<Vec<_>>>()?;
        let outcomes = store.import_records(some).await?;
        if let Some(other) = outcomes.into_iter().find(|outcome| *outcome != ImportOutcome::Added) {
            return Err(Error::internal(format!("a record was not put in: {other:?}")));
        }
    }
    Ok(())
}

fn new_job(user: i64, job: &str) -> Result<AddGenerationJob> {
    Ok(AddGenerationJob {
        user: UserId::new(user)?,
        job: Some(job.parse()?),
        external_task_id: None,
        model_id: job::MODEL_ID.parse()?,
        model_name: job::MODEL_NAME.parse()?,
        params: storage_core::Params::from_json(job::PARAMS)?,
        price: Money::from_micros(job::PRICE_MICROS)?,
        key: None,
    })
}

/// A payment that waits, made now.
pub(crate) fn new_payment(payment: &str, user: i64) -> Result<Payment> {
    let at = Timestamp::from_micros(now())?;
    Ok(Payment {
        id: payment.parse()?,
        user: UserId::new(user)?,
        amount: Amount::new(Money::from_micros(MICROS)?)?,
        method: "card".parse()?,
        screenshot_file_id: None,
        provider_key: None,
        status: PaymentStatus::Pending,
        admin: None,
        notes: None,
        origin: PaymentOrigin::Here,
        created_at: at,
        updated_at: at,
    })
}

/// A job that another system left, pending since then.
pub(crate) fn old_job(job: &str, user: i64, at: i64) -> Result<Job> {
    Ok(Job::create(new_job(user, job)?, job.parse()?, Timestamp::from_micros(at)?))
}

/// What a store is filled with.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Filling {
    /// Users with balance, language, gift and one ledger row.
    pub(super) users: u32,
    /// Ledger rows of each user beyond the first.
    pub(super) more_rows: u32,
    /// Jobs, those of a user one after the other in time.
    pub(super) jobs: u32,
    /// Payments that wait.
    pub(super) payments: u32,
    /// How many users share jobs and payments; they need no balance.
    pub(super) owners: u32,
}

/// A job's id, owner and time, by its number.
pub(super) fn numbered_jobs(jobs: u32, owners: u32) -> impl Iterator<Item = (String, i64, i64)> {
    let begin = now() - i64::from(jobs);
    (0..jobs).map(move |n| (format!("job-{n}"), i64::from(n % owners.max(1)) + 1, begin + i64::from(n)))
}

/// Fills a new store and closes it, so that its files are complete.
pub(super) async fn fill(dir: &Path, filling: Filling) -> Result<(), String> {
    let Filling { users, more_rows, jobs, payments, owners } = filling;
    let store = Json::for_filling(dir).await?;
    let records = (1..=i64::from(users)).flat_map(|user| {
        let user = UserId::new(user);
        let of = move |record: &dyn Fn(UserId) -> Result<ImportRecord>| user.clone().and_then(record);
        [
            of(&|user| Ok(ImportRecord::Balance { user, balance: Money::from_units(UNITS)?, created_at: None })),
            of(&|user| Ok(ImportRecord::Language { user, language: "en".parse()? })),
            of(&|user| Ok(ImportRecord::Gift { user })),
        ]
    });
    store.import(records).await?;
    store
        .import(numbered_jobs(jobs, owners).map(|(job, user, at)| old_job(&job, user, at).map(ImportRecord::Job)))
        .await?;
    store.add_payments((0..payments).map(|n| super::op::payment(u64::from(n), owners))).await?;
    rows(&store, users, more_rows).await?;
    store.close().await
}

/// More ledger rows for everyone, by many tasks at once.
async fn rows(store: &Json, users: u32, rows: u32) -> Result<(), String> {
    const TASKS: u32 = 256;
    let tasks: Vec<_> = (1..=TASKS.min(users))
        .map(|first| {
            let (storage, amount) = (Arc::clone(&store.storage), store.amount);
            tokio::spawn(async move {
                for user in (first..=users).step_by(256) {
                    for _ in 0..rows {
                        storage.add_balance(AddBalance::new(UserId::new(i64::from(user))?, amount)).await?;
                    }
                }
                Result::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await.map_err(|error| format!("a task ended badly: {error}"))?.map_err(of_store)?;
    }
    Ok(())
}
