//! What is done: single operations and a bot's mix of them, each call with everything that it needs drawn before.

use std::sync::atomic::{AtomicU32, Ordering};

use clap::ValueEnum;
use storage_core::{
    AddBalance, AddGenerationJob, Amount, Balances as _, JobStatus, Jobs as _, ListJobs, MarkPaymentStatus,
    PageRequest, PageSize, Params, PaymentStatus, Payments as _, Result, SubtractBalance, UpdateJobStatus, UserId,
    Users as _,
};
use storage_pg::PgStorage;
use uuid::Uuid;

use crate::draw::Draw;

/// What is credited and debited each time.
pub(super) const AMOUNT: &str = "0.01";
/// The user to whom everybody gives.
pub(super) const HOT: i64 = 1;

/// What a job holds beside its id.
pub(super) mod job {
    pub(in crate::pg) const MODEL_ID: &str = "model-7";
    pub(in crate::pg) const MODEL_NAME: &str = "Model Seven";
    pub(in crate::pg) const PARAMS: &str = r#"{"prompt": "a cat on a roof at night", "steps": 30}"#;
    pub(in crate::pg) const PRICE: &str = "0.5";
}

/// One operation of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    GetBalance,
    GetUser,
    AddBalance,
    SubtractBalance,
    AddJob,
    RunJob,
    Approve,
    ListJobs,
}

impl Operation {
    pub(super) const ALL: [Self; 8] = [
        Self::GetBalance,
        Self::GetUser,
        Self::AddBalance,
        Self::SubtractBalance,
        Self::AddJob,
        Self::RunJob,
        Self::Approve,
        Self::ListJobs,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::GetBalance => "get_balance",
            Self::GetUser => "get_user",
            Self::AddBalance => "add_balance",
            Self::SubtractBalance => "subtract_balance",
            Self::AddJob => "add_generation_job",
            Self::RunJob => "update_job_status",
            Self::Approve => "approve_payment",
            Self::ListJobs => "list_jobs",
        }
    }
}

/// A line of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum Work {
    /// A random user's balance
    GetBalance,
    /// A credit to a random user with a fresh key, its ledger row included
    AddBalance,
    /// A debit of a random user with a fresh key, its ledger row included
    SubtractBalance,
    /// Credits to one user
    HotCredit,
    /// The newest 20 jobs of a random user
    ListJobs,
    /// What a bot does: 60 % balance, 10 % user, 10 % debit, 10 % add job, 5 % job status, 5 % approve a payment
    Bot,
}

impl Work {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::GetBalance => "get_balance",
            Self::AddBalance => "credit",
            Self::SubtractBalance => "debit with ledger row",
            Self::HotCredit => "credit to one hot user",
            Self::ListJobs => "newest 20 jobs of a user",
            Self::Bot => "bot mix",
        }
    }

    /// The operations, and how many of a hundred are of each.
    pub(super) fn mix(self) -> &'static [(Operation, u32)] {
        match self {
            Self::GetBalance => &[(Operation::GetBalance, 100)],
            Self::AddBalance | Self::HotCredit => &[(Operation::AddBalance, 100)],
            Self::SubtractBalance => &[(Operation::SubtractBalance, 100)],
            Self::ListJobs => &[(Operation::ListJobs, 100)],
            Self::Bot => &[
                (Operation::GetBalance, 60),
                (Operation::GetUser, 10),
                (Operation::SubtractBalance, 10),
                (Operation::AddJob, 10),
                (Operation::RunJob, 5),
                (Operation::Approve, 5),
            ],
        }
    }

    /// By how many tasks it is done.
    pub(super) fn tasks(self) -> &'static [u32] {
        match self {
            Self::GetBalance | Self::AddBalance | Self::SubtractBalance => &[1, 8, 64],
            Self::HotCredit | Self::ListJobs | Self::Bot => &[64],
        }
    }

    /// Which operation comes next.
    fn draw(self, draw: &mut Draw) -> Operation {
        let mix = self.mix();
        let mut left = draw.below(100);
        for (operation, percent) in mix {
            match left.checked_sub(*percent) {
                Some(rest) => left = rest,
                None => return *operation,
            }
        }
        mix[0].0
    }
}

/// Jobs and payments that wait, each for one call: the lower half of those that the store was filled with. The upper
/// half is for pgbench, which draws at random.
#[derive(Debug)]
pub(super) struct Stock {
    pub(super) users: u32,
    pub(super) jobs: u32,
    pub(super) payments: u32,
    next_job: AtomicU32,
    next_payment: AtomicU32,
}

impl Stock {
    pub(super) fn new(users: u32, jobs: u32) -> Self {
        let (next_job, next_payment) = (AtomicU32::new(1), AtomicU32::new(1));
        Self { users, jobs, payments: (jobs / 4).max(2), next_job, next_payment }
    }

    fn take(next: &AtomicU32, of: u32, what: &str) -> Result<u32, String> {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number <= of / 2 { Ok(number) } else { Err(format!("every {what} is used up: more --jobs are needed")) }
    }
}

/// One call.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) operation: Operation,
    pub(super) user: i64,
    /// Of the job or the payment.
    pub(super) id: String,
    pub(super) key: String,
    /// What a peer needs besides, and the store makes by itself.
    pub(super) unique: Uuid,
}

impl Call {
    pub(super) fn draw(work: Work, draw: &mut Draw, stock: &Stock) -> Result<Self, String> {
        let operation = work.draw(draw);
        let user = if work == Work::HotCredit { HOT } else { draw.user(stock.users) };
        let id = match operation {
            Operation::RunJob => format!("job-{}", Stock::take(&stock.next_job, stock.jobs, "job")?),
            Operation::Approve => {
                format!("payment-{}", Stock::take(&stock.next_payment, stock.payments, "payment")?)
            }
            Operation::AddJob => format!("{:016x}", draw.number()),
            _ => String::new(),
        };
        Ok(Self { operation, user, id, key: format!("{:016x}", draw.number()), unique: draw.uuid() })
    }

    /// Lets the store do it.
    pub(super) async fn on(self, storage: &PgStorage, amount: Amount) -> Result<()> {
        let Self { operation, user, id, key, .. } = self;
        let user = UserId::new(user)?;
        match operation {
            Operation::GetBalance => storage.get_balance(user).await.map(drop),
            Operation::GetUser => storage.get_user(user).await.map(drop),
            Operation::AddBalance => {
                storage.add_balance(AddBalance::new(user, amount).with_key(key.parse()?)).await.map(drop)
            }
            Operation::SubtractBalance => {
                storage.subtract_balance(SubtractBalance::new(user, amount).with_key(key.parse()?)).await.map(drop)
            }
            Operation::AddJob => {
                let add = AddGenerationJob {
                    user,
                    job: Some(id.parse()?),
                    external_task_id: None,
                    model_id: job::MODEL_ID.parse()?,
                    model_name: job::MODEL_NAME.parse()?,
                    params: Params::from_json(job::PARAMS)?,
                    price: job::PRICE.parse()?,
                    key: Some(key.parse()?),
                };
                storage.add_generation_job(add).await.map(drop)
            }
            Operation::RunJob => {
                let update = UpdateJobStatus::new(id.parse()?, JobStatus::Running);
                storage.update_job_status(UpdateJobStatus { key: Some(key.parse()?), ..update }).await.map(drop)
            }
            Operation::Approve => {
                let approve = MarkPaymentStatus::new(id.parse()?, PaymentStatus::Approved);
                storage.mark_payment_status(MarkPaymentStatus { key: Some(key.parse()?), ..approve }).await.map(drop)
            }
            Operation::ListJobs => {
                let page = PageRequest::first(PageSize::new(20)?);
                storage.list_jobs(ListJobs { user: Some(user), page, ..ListJobs::default() }).await.map(drop)
            }
        }
    }
}
