//! Everything that touches money.
//!
//! Each step can be made again, after whatever end of the process or lost answer: a job has an id of the outside world
//! (the message with its button), a hold and a free generation are named after the job, a payment after the message
//! that told of it. So nothing here asks whether it was done before. It does it, and the store knows.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use storage_core::{
    AddGenerationJob, AddGenerationToHistory, AddPayment, Amount, BonusCount, CommitReserve, Error, ErrorKind,
    ErrorMessage, FileId, Hold, HoldStatus, IncrementFreeGenerations, Job, JobId, JobStatus, ListJobs,
    MarkPaymentStatus, Money, PageRequest, Params, Payment, PaymentId, PaymentStatus, ProviderKey, ReleaseReserve,
    ReserveBalance, Result, ReturnFreeGeneration, SetReferrer, SharedStorage, TaskId, UpdateJobStatus, UserId,
};

use crate::provider::Outcome;

/// What a generation is made from and where it goes: the parameters of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// What is to be drawn.
    pub(crate) prompt: String,
    /// The chat of the message that becomes the delivery.
    pub(crate) chat: i64,
    /// That message.
    pub(crate) message: i32,
}

impl Order {
    /// A button pressed twice is one order.
    pub(crate) fn job(&self) -> Result<JobId> {
        format!("tg-{}-{}", self.chat, self.message).parse()
    }
    /// Of a job that this shop took.
    pub(crate) fn of(job: &Job) -> Result<Self> {
        serde_json::from_value(job.params.to_value()?)
            .map_err(|error| Error::invalid("params", "must be those of an order of this bot").caused_by(error))
    }
}

/// A payment that somebody says they made.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) user: UserId,
    pub(crate) amount: Amount,
    /// The message that told of it: told again after a crash it is the same payment.
    pub(crate) payment: PaymentId,
    /// What tells this picture from every other: sent again it is no second payment.
    pub(crate) picture: ProviderKey,
    pub(crate) file: FileId,
}

/// The shop.
#[derive(Clone, Debug)]
pub(crate) struct Shop {
    pub(crate) storage: SharedStorage,
    price: Amount,
}

impl Shop {
    pub(crate) fn new(storage: SharedStorage, price: Amount) -> Self {
        Self { storage, price }
    }
    pub(crate) fn price(&self) -> Money {
        self.price.money()
    }

    /// Writes an order down. Nothing is paid yet.
    pub(crate) async fn order(&self, user: UserId, order: &Order) -> Result<Arc<Job>> {
        let id = order.job()?;
        // Before a new one is made: its price may be another one since.
        if let Some(job) = self.storage.get_job(&id).await? {
            return Ok(job);
        }
        let params = serde_json::to_value(order).map_err(|error| Error::internal("an order is JSON").caused_by(error));
        let add = AddGenerationJob {
            user,
            job: Some(id),
            external_task_id: None,
            model_id: "demo".parse()?,
            model_name: "Demonstration".parse()?,
            params: Params::new(&params?)?,
            price: self.price(),
            key: None,
        };
        Ok(self.storage.add_generation_job(add).await?.record)
    }

    /// The job as it stands.
    pub(crate) async fn job(&self, job: &JobId) -> Result<Arc<Job>> {
        self.storage.get_job(job).await?.ok_or_else(|| Error::not_found("job", job))
    }

    /// The jobs that are neither delivered nor given back, whatever became of the process that took them.
    pub(crate) async fn unfinished(&self) -> Result<Vec<Arc<Job>>> {
        let statuses = vec![JobStatus::Pending, JobStatus::Running];
        let mut list = ListJobs { user: None, statuses, page: PageRequest::default() };
        let mut jobs = Vec::new();
        loop {
            let page = self.storage.list_jobs(list.clone()).await?;
            jobs.extend(page.items);
            let Some(next) = page.next else { return Ok(jobs) };
            list.page.after = Some(next);
        }
    }

    /// Takes a free generation, or sets the price aside.
    ///
    /// `InsufficientFunds` when there is neither: then nothing was taken. `InvalidTransition` when an operator gave back
    /// what had been taken.
    pub(crate) async fn pay(&self, job: &Job) -> Result<()> {
        // Paid by a hold before midnight, it stays so, though a free one is there again.
        if self.hold(job).await?.is_none() {
            let take = IncrementFreeGenerations { user: job.user, key: Some(job.id.as_str().parse()?) };
            match self.storage.increment_free_generations(take).await {
                Err(error) if matches!(error.kind(), ErrorKind::QuotaExhausted { .. }) => {}
                answer => return answer.map(drop),
            }
        }
        let hold = ReserveBalance::new(job.user, job.id.as_str().parse()?, Amount::new(job.price)?);
        self.storage.reserve_balance(hold).await.map(drop)
    }

    /// What is set aside for a job, or was.
    async fn hold(&self, job: &Job) -> Result<Option<Arc<Hold>>> {
        self.storage.find_reserve(job.user, &job.id.as_str().parse()?).await
    }

    /// Notes what the provider calls the job.
    pub(crate) async fn started(&self, job: &Job, task: TaskId) -> Result<Arc<Job>> {
        let mut update = UpdateJobStatus::new(job.id.clone(), JobStatus::Running);
        update.external_task_id = Some(task);
        Ok(self.storage.update_job_status(update).await?.record)
    }

    /// Notes what became of it, before anybody is told: from here on it is decided, and only carried out.
    pub(crate) async fn decide(&self, job: &Job, outcome: Outcome) -> Result<Arc<Job>> {
        let mut update = UpdateJobStatus::new(job.id.clone(), JobStatus::Running);
        match outcome {
            Outcome::Done(urls) => update.result_urls = Some(urls),
            Outcome::Failed(why) => update.error_message = Some(why),
        }
        Ok(self.storage.update_job_status(update).await?.record)
    }

    /// Spends what was set aside for a job that was delivered. The last step makes it `Completed`: until then it is
    /// among [`Shop::unfinished`].
    pub(crate) async fn sold(&self, job: &Job) -> Result<()> {
        let price = match self.hold(job).await? {
            // A free one, or one that an operator gave back meanwhile.
            None => Money::ZERO,
            Some(hold) if hold.status == HoldStatus::Released => Money::ZERO,
            Some(hold) => {
                self.storage.commit_reserve(CommitReserve::new(job.user, hold.name.clone())).await?;
                hold.amount.money()
            }
        };
        let entry = AddGenerationToHistory {
            user: job.user,
            id: Some(job.id.as_str().parse()?),
            model_id: job.model_id.clone(),
            model_name: job.model_name.clone(),
            params: job.params.clone(),
            result_urls: job.result_urls.clone(),
            price,
        };
        self.storage.add_generation_to_history(entry).await?;
        self.storage.update_job_status(UpdateJobStatus::new(job.id.clone(), JobStatus::Completed)).await?;
        Ok(())
    }

    /// Gives back whatever was taken for a job that will not be delivered.
    pub(crate) async fn give_back(&self, job: &Job) -> Result<()> {
        match self.hold(job).await? {
            Some(hold) if hold.status == HoldStatus::Open => {
                self.storage.release_reserve(ReleaseReserve::new(job.user, hold.name.clone())).await?;
            }
            Some(_) => {}
            None => {
                let give_back = ReturnFreeGeneration { user: job.user, take: job.id.as_str().parse()? };
                match self.storage.return_free_generation(give_back).await {
                    // The process ended before anything was taken, or there was nothing to take.
                    Err(error) if matches!(error.kind(), ErrorKind::NotFound(_)) => {}
                    answer => drop(answer?),
                }
            }
        }
        Ok(())
    }

    /// The last step of a job that was given back.
    pub(crate) async fn failed(&self, job: &Job, why: ErrorMessage) -> Result<()> {
        let mut update = UpdateJobStatus::new(job.id.clone(), JobStatus::Failed);
        update.error_message = Some(why);
        self.storage.update_job_status(update).await.map(drop)
    }

    /// Notes a payment for an admin to decide. `Conflict` for a picture that told of another one.
    pub(crate) async fn claim(&self, claim: Claim) -> Result<Arc<Payment>> {
        let mut add = AddPayment::new(claim.user, claim.amount, "transfer".parse()?);
        add.payment = Some(claim.payment);
        add.provider_key = Some(claim.picture);
        add.screenshot_file_id = Some(claim.file);
        Ok(self.storage.add_payment(add).await?.record)
    }

    /// Approves or declines. Approval credits in the same atom, once, however many admins press at once.
    pub(crate) async fn judge(&self, payment: PaymentId, admin: UserId, status: PaymentStatus) -> Result<Arc<Payment>> {
        let mark = MarkPaymentStatus { admin: Some(admin), ..MarkPaymentStatus::new(payment, status) };
        Ok(self.storage.mark_payment_status(mark).await?.record)
    }

    /// Somebody comes for the first time, perhaps by a link of somebody who then gets five free generations.
    pub(crate) async fn welcome(&self, user: UserId, invited_by: Option<UserId>) -> Result<()> {
        // One call makes the user, notes who brought them and grants the bonus. Who is known already was brought by nobody.
        if let (Some(referrer), None) = (invited_by, self.storage.find_user(user).await?) {
            let set = SetReferrer { bonus: Some(BonusCount::default()), ..SetReferrer::new(user, referrer) };
            match self.storage.set_referrer(set).await {
                Ok(_) => return Ok(()),
                // Oneself, a circle, or somebody else was first.
                Err(error) if matches!(error.kind(), ErrorKind::InvalidInput { .. } | ErrorKind::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.storage.get_user(user).await.map(drop)
    }
}
