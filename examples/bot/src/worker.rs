//! From an order to its delivery.
//!
//! The delivery is an edit of the message that had the button. An edit can be made again: Telegram then says that
//! nothing changed. Sending a new message cannot, and a crash between sending it and noting that would deliver twice.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use storage_core::{Clock as _, ErrorKind, ErrorMessage, Job, JobId, SystemClock};
use teloxide::prelude::*;
use teloxide::types::{ChatAction, MessageId};
use teloxide::{ApiError, RequestError};
use tokio::sync::{Notify, Semaphore};
use tracing::{error, warn};

use crate::provider::{Outcome, Provider};
use crate::saying::{LONGEST_MESSAGE, shortened};
use crate::shop::{Order, Shop};
use crate::trouble::{Cure, Pause, Trouble, is_refusal, was_done};

/// So many generations go on at once.
const AT_ONCE: usize = 16;
/// A provider that has not answered for so long never will: an hour, in microseconds.
const GIVEN_UP_AFTER: i64 = 3_600_000_000;

pub(crate) struct Worker {
    bot: Bot,
    shop: Shop,
    provider: Arc<dyn Provider>,
    under_way: Mutex<HashSet<JobId>>,
    slots: Semaphore,
    broken: Notify,
}

impl Worker {
    pub(crate) fn new(bot: Bot, shop: Shop, provider: Arc<dyn Provider>) -> Arc<Self> {
        let (under_way, slots) = (Mutex::default(), Semaphore::new(AT_ONCE));
        Arc::new(Self { bot, shop, provider, under_way, slots, broken: Notify::new() })
    }

    /// Goes on with what was unfinished when the process ended. Answers how many.
    pub(crate) async fn resume(self: &Arc<Self>) -> Result<usize, Trouble> {
        let jobs = self.shop.unfinished().await?;
        let count = jobs.len();
        for job in jobs {
            self.take(job.id.clone());
        }
        Ok(count)
    }

    /// Until the store needs an operator.
    pub(crate) async fn broken(&self) {
        self.broken.notified().await;
    }

    /// Takes a job to its end, beside everything else. One that is on its way already is left alone.
    pub(crate) fn take(self: &Arc<Self>, job: JobId) {
        if !self.under_way.lock().unwrap_or_else(PoisonError::into_inner).insert(job.clone()) {
            return;
        }
        let worker = Arc::clone(self);
        tokio::spawn(async move {
            worker.finish(&job).await;
            worker.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&job);
        });
    }

    /// Until it is done: what failed for the moment is tried again from where the store says that the job stands. Others
    /// go on in the pauses.
    async fn finish(&self, job: &JobId) {
        let mut pause = Pause::new();
        while let Err(trouble) = self.attempt(job).await {
            match trouble.cure() {
                Cure::Again => warn!("job {job} is tried again: {trouble}"),
                Cure::Never => {
                    error!("job {job} stays as it is until the next start: {trouble}");
                    return;
                }
                Cure::Operator => {
                    error!("job {job} stays as it is: {trouble}");
                    self.broken.notify_one();
                    return;
                }
            }
            pause.after(&trouble).await;
        }
    }

    async fn attempt(&self, job: &JobId) -> Result<(), Trouble> {
        // It is closed by nobody.
        let _slot = self.slots.acquire().await;
        let mut job = self.shop.job(job).await?;
        if job.status.is_final() {
            return Ok(());
        }
        let order = Order::of(&job)?;
        if job.result_urls.is_empty() && job.error_message.is_none() {
            let outcome = self.generate(&job, &order).await?;
            job = self.shop.decide(&job, outcome).await?;
        }
        if job.error_message.is_none() {
            if self.show(&order, &delivery(&job, &order)).await? {
                self.shop.sold(&job).await?;
                return Ok(());
            }
            // Noted first: the next process must not try again and succeed after the money was given back.
            job = self.shop.decide(&job, Outcome::Failed("it could not be delivered".parse()?)).await?;
        }
        if let Some(why) = job.error_message.clone() {
            self.call_off(&job, &order, why).await?;
        }
        Ok(())
    }

    /// Pays first: what cannot be paid is not asked for.
    async fn generate(&self, job: &Job, order: &Order) -> Result<Outcome, Trouble> {
        match self.shop.pay(job).await {
            Ok(()) => {}
            Err(error) => match error.kind() {
                ErrorKind::InsufficientFunds { available, required } => {
                    let why = format!("{required} credits are needed, {available} are there");
                    return Ok(Outcome::Failed(why.parse()?));
                }
                ErrorKind::InvalidTransition { .. } => return Ok(Outcome::Failed("it was called off".parse()?)),
                _ => return Err(error.into()),
            },
        }
        match self.ask(job, order).await {
            Err(Trouble::Provider(why)) if SystemClock.now().micros() - job.created_at.micros() > GIVEN_UP_AFTER => {
                warn!("job {} is given up: {why}", job.id);
                Ok(Outcome::Failed("the provider did not answer".parse()?))
            }
            answer => answer,
        }
    }

    async fn ask(&self, job: &Job, order: &Order) -> Result<Outcome, Trouble> {
        let task = match &job.external_task_id {
            Some(task) => task.clone(),
            None => {
                // What people see while they wait, if it comes. Not an edit of the offer: one that is late would hide the
                // delivery that came after it.
                let _ = self.bot.send_chat_action(ChatId(order.chat), ChatAction::UploadPhoto).await;
                let task = self.provider.start(&job.id, &order.prompt).await?;
                self.shop.started(job, task.clone()).await?;
                task
            }
        };
        self.provider.wait(&task).await
    }

    async fn call_off(&self, job: &Job, order: &Order, why: ErrorMessage) -> Result<(), Trouble> {
        self.shop.give_back(job).await?;
        let short = shortened(why.as_str(), 500);
        let text = format!("{}\n\nThere is no picture: {short}. You were charged nothing.", order.prompt);
        self.show(order, &text).await?;
        self.shop.failed(job, why).await?;
        Ok(())
    }

    /// Makes the message say that. `false` when it never will: the bot is blocked, or the message is gone.
    async fn show(&self, order: &Order, text: &str) -> Result<bool, Trouble> {
        match self.bot.edit_message_text(ChatId(order.chat), MessageId(order.message), text).await {
            // It says so already: an earlier answer was lost.
            Ok(_) | Err(RequestError::Api(ApiError::MessageNotModified)) => Ok(true),
            Err(error) if was_done(&error) => Ok(true),
            Err(error) if is_refusal(&error) => {
                warn!("message {} of chat {} cannot be edited: {error}", order.message, order.chat);
                Ok(false)
            }
            Err(passing) => Err(passing.into()),
        }
    }
}

/// The prompt and as many URLs as fit into a message; the first one does.
fn delivery(job: &Job, order: &Order) -> String {
    let mut text = order.prompt.clone();
    for (shown, url) in job.result_urls.as_slice().iter().enumerate() {
        if text.encode_utf16().count() + url.encode_utf16().count() + 40 > LONGEST_MESSAGE {
            // Writing to a string does not fail.
            let _ = write!(text, "\n\nand {} more", job.result_urls.as_slice().len() - shown);
            break;
        }
        let _ = write!(text, "\n\n{url}");
    }
    text
}
