//! Everything that touches money.
//!
//! Each step can be made again, after whatever end of the process or lost answer: a job has an id of the outside world
//! (the message with its button), a hold and a free generation are named after the job, a payment after the message
//! that told of it. So nothing here asks whether it was done before. It does it, and the store knows.
//!
//! Holds have no expiry: the list of unfinished jobs says what is still to be done, and a sweep that gave the money back
//! behind its back would make a picture free.

use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use storage_core::{
    AddGenerationJob, AddGenerationToHistory, AddPayment, Amount, BonusCount, CommitReserve, Error, ErrorKind,
    ErrorMessage, FileId, GetUserGenerationsHistory, Hold, HoldStatus, IncrementFreeGenerations, Job, JobId, JobStatus,
    ListJobs, ListPayments, ListReserves, MarkPaymentStatus, Money, PageRequest, PageSize, Params, Payment, PaymentId,
    PaymentStatus, ProviderKey, ReleaseReserve, ReserveBalance, Result, ResultUrls, ReturnFreeGeneration, SetReferrer,
    SharedStorage, TaskId, UpdateJobStatus, UserId,
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
    pub(crate) message: i32,
    /// What tells this picture from every other: forwarded, or sent again, it is no second payment.
    pub(crate) picture: ProviderKey,
    pub(crate) file: FileId,
}

/// The shop.
#[derive(Clone, Debug)]
pub(crate) struct Shop {
    storage: SharedStorage,
    price: Amount,
    /// Telegram counts messages for each bot: another bot on the same store has the same numbers again.
    bot: u64,
}

/// What is taken for a job is named after it.
fn named_after<T: FromStr<Err = Error>>(job: &Job) -> Result<T> {
    job.id.as_str().parse()
}

/// What a job costs of which this is set aside: nothing when a free generation was taken, or an operator gave it back.
fn charged(hold: Option<&Hold>) -> Money {
    hold.filter(|hold| hold.status != HoldStatus::Released).map_or(Money::ZERO, |hold| hold.amount.money())
}

impl Shop {
    pub(crate) fn new(storage: SharedStorage, price: Amount, bot: u64) -> Self {
        Self { storage, price, bot }
    }
    pub(crate) fn price(&self) -> Money {
        self.price.money()
    }
    /// What can be spent, and the free generations.
    pub(crate) async fn standing(&self, user: UserId) -> Result<(Money, u64)> {
        let free = self.storage.get_user_free_generations_remaining(user).await?;
        Ok((self.storage.get_balance(user).await?, free))
    }
    /// The newest generations: what each costs, and its pictures. Those that are being delivered come first: people ask
    /// as soon as they see a picture, and it is noted as sold only after that.
    pub(crate) async fn newest(&self, user: UserId, most: u32) -> Result<Vec<(Money, ResultUrls)>> {
        let page = PageRequest::first(PageSize::new(most)?);
        let running = ListJobs { user: Some(user), statuses: vec![JobStatus::Running], page: page.clone() };
        // Before the history: what is sold between the two stands in both, not in none.
        let running = self.storage.list_jobs(running).await?.items;
        let sold = self.storage.get_user_generations_history(GetUserGenerationsHistory { user, page }).await?.items;
        let mut newest = Vec::new();
        for job in running.iter().filter(|job| !job.result_urls.is_empty() && job.error_message.is_none()) {
            if sold.iter().all(|sold| sold.id.as_str() != job.id.as_str()) {
                newest.push((charged(self.hold(job).await?.as_deref()), job.result_urls.clone()));
            }
        }
        newest.extend(sold.iter().map(|sold| (sold.price, sold.result_urls.clone())));
        newest.truncate(most as usize);
        Ok(newest)
    }

    /// Writes an order down. Nothing is paid yet. A button pressed twice is one order. `None` when the price that was shown
    /// is no longer the price.
    pub(crate) async fn order(&self, user: UserId, order: &Order, shown: Option<Money>) -> Result<Option<Arc<Job>>> {
        let id: JobId = format!("tg-{}-{}-{}", self.bot, order.chat, order.message).parse()?;
        // Before a new one is made: the price may be another one since.
        if let Some(job) = self.storage.get_job(&id).await? {
            return Ok(Some(job));
        }
        if shown != Some(self.price()) {
            return Ok(None);
        }
        let params =
            serde_json::to_value(order).map_err(|error| Error::internal("an order is JSON").caused_by(error))?;
        let add = AddGenerationJob {
            user,
            job: Some(id),
            external_task_id: None,
            model_id: "demo".parse()?,
            model_name: "Demonstration".parse()?,
            params: Params::new(&params)?,
            price: self.price(),
            key: None,
        };
        Ok(Some(self.storage.add_generation_job(add).await?.record))
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
            let take = IncrementFreeGenerations { user: job.user, key: Some(named_after(job)?) };
            match self.storage.increment_free_generations(take).await {
                Err(error) if matches!(error.kind(), ErrorKind::QuotaExhausted { .. }) => {}
                answer => return answer.map(drop),
            }
        }
        let hold = ReserveBalance::new(job.user, named_after(job)?, Amount::new(job.price)?);
        self.storage.reserve_balance(hold).await.map(drop)
    }

    /// What is set aside for a job, or was.
    async fn hold(&self, job: &Job) -> Result<Option<Arc<Hold>>> {
        self.storage.find_reserve(job.user, &named_after(job)?).await
    }

    /// Notes what the provider calls the job.
    pub(crate) async fn started(&self, job: &Job, task: TaskId) -> Result<Arc<Job>> {
        let mut update = UpdateJobStatus::new(job.id.clone(), JobStatus::Running);
        update.external_task_id = Some(task);
        Ok(self.storage.update_job_status(update).await?.record)
    }

    /// Notes what becomes of it, before anybody is told: from here on it is only carried out. A failure stands above a
    /// picture, which it calls off.
    pub(crate) async fn decide(&self, job: &Job, outcome: Outcome) -> Result<Arc<Job>> {
        let mut update = UpdateJobStatus::new(job.id.clone(), JobStatus::Running);
        match outcome {
            Outcome::Done(urls) if urls.is_empty() => update.error_message = Some("the provider sent nothing".parse()?),
            Outcome::Done(urls) => update.result_urls = Some(urls),
            Outcome::Failed(why) => update.error_message = Some(why),
        }
        Ok(self.storage.update_job_status(update).await?.record)
    }

    /// Spends what was set aside for a job that was delivered. The last step makes it `Completed`: until then it is
    /// among [`Shop::unfinished`]. Where an operator gave the hold back meanwhile the picture is free: nobody is charged
    /// against an operator's word.
    pub(crate) async fn sold(&self, job: &Job) -> Result<()> {
        let hold = self.hold(job).await?;
        let price = charged(hold.as_deref());
        if let Some(hold) = hold.filter(|hold| hold.status != HoldStatus::Released) {
            self.storage.commit_reserve(CommitReserve::new(job.user, hold.name.clone())).await?;
        }
        let entry = AddGenerationToHistory {
            user: job.user,
            id: Some(named_after(job)?),
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
            Some(hold) => match hold.status {
                HoldStatus::Open => self.release(&hold).await,
                // Given back before; or an operator spent it, and knows why.
                HoldStatus::Released | HoldStatus::Committed => Ok(()),
            },
            None => {
                let give_back = ReturnFreeGeneration { user: job.user, take: named_after(job)? };
                match self.storage.return_free_generation(give_back).await {
                    // The process ended before anything was taken, or there was nothing to take.
                    Err(error) if matches!(error.kind(), ErrorKind::NotFound(_)) => Ok(()),
                    answer => answer.map(drop),
                }
            }
        }
    }

    async fn release(&self, hold: &Hold) -> Result<()> {
        self.storage.release_reserve(ReleaseReserve::new(hold.user, hold.name.clone())).await.map(drop)
    }

    /// The last step of a job that was given back.
    pub(crate) async fn failed(&self, job: &Job, why: ErrorMessage) -> Result<()> {
        let mut update = UpdateJobStatus::new(job.id.clone(), JobStatus::Failed);
        update.error_message = Some(why);
        self.storage.update_job_status(update).await.map(drop)
    }

    /// Gives back what is held for jobs that ended without it: two processes that worked at one job could leave that. The
    /// bot is meant to run once; this makes a mistake harmless.
    pub(crate) async fn tidy(&self) -> Result<()> {
        let mut list = ListReserves { status: Some(HoldStatus::Open), ..ListReserves::default() };
        let mut open = Vec::new();
        loop {
            let page = self.storage.list_reserves(list.clone()).await?;
            open.extend(page.items);
            let Some(next) = page.next else { break };
            list.page.after = Some(next);
        }
        for hold in open {
            // A hold of something else than a job is somebody else's.
            if let Some(job) = self.storage.get_job(&hold.name.as_str().parse()?).await?
                && job.user == hold.user
                && job.status.is_final()
            {
                self.release(&hold).await?;
            }
        }
        Ok(())
    }

    /// Notes a payment for an admin to decide. `Conflict` for a picture that told of another one.
    pub(crate) async fn claim(&self, claim: Claim) -> Result<Arc<Payment>> {
        let mut add = AddPayment::new(claim.user, claim.amount, "transfer".parse()?);
        add.payment = Some(format!("tg-{}-{}-{}", self.bot, claim.user, claim.message).parse()?);
        add.provider_key = Some(claim.picture);
        add.screenshot_file_id = Some(claim.file);
        Ok(self.storage.add_payment(add).await?.record)
    }

    /// The newest payments that wait for an admin.
    pub(crate) async fn waiting(&self, most: u32) -> Result<Vec<Arc<Payment>>> {
        let page = PageRequest::first(PageSize::new(most)?);
        let list = ListPayments { user: None, status: Some(PaymentStatus::Pending), page };
        Ok(self.storage.list_payments(list).await?.items)
    }

    /// Approves or rejects, and answers the payment as it stands then. Approval credits in the same atom, once, however many
    /// admins press at once; who comes too late changes nothing.
    pub(crate) async fn judge(&self, payment: PaymentId, admin: UserId, status: PaymentStatus) -> Result<Arc<Payment>> {
        let mark = MarkPaymentStatus { admin: Some(admin), ..MarkPaymentStatus::new(payment.clone(), status) };
        match self.storage.mark_payment_status(mark).await {
            Ok(stored) => Ok(stored.record),
            Err(error) if matches!(error.kind(), ErrorKind::InvalidTransition { .. }) => {
                self.storage.get_payment(&payment).await?.ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Somebody comes for the first time, perhaps by a link of somebody who then gets five free generations.
    pub(crate) async fn welcome(&self, user: UserId, invited_by: Option<UserId>) -> Result<()> {
        // One call makes the user, notes who brought them and grants the bonus. Who is known already was brought by nobody,
        // and a link of somebody who never came is nobody's.
        if let Some(referrer) = invited_by
            && self.storage.find_user(user).await?.is_none()
            && self.storage.find_user(referrer).await?.is_some()
        {
            let set = SetReferrer { bonus: Some(BonusCount::default()), ..SetReferrer::new(user, referrer) };
            match self.storage.set_referrer(set).await {
                Ok(_) => return Ok(()),
                // A circle, a chain of more than 1,000, a full bank; or somebody else was first.
                Err(error) if matches!(error.kind(), ErrorKind::InvalidInput { .. } | ErrorKind::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.storage.get_user(user).await.map(drop)
    }
}
