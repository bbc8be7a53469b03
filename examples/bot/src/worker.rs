//! From an order to its delivery.
//!
//! The delivery is an edit of the message that had the button. An edit can be made again: Telegram then says that
//! nothing changed. Sending a new message cannot, and a crash between sending it and noting that would deliver twice.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use storage_core::{ErrorKind, ErrorMessage, Job, JobId};
use teloxide::prelude::*;
use teloxide::types::{ChatAction, MessageId};
use teloxide::{ApiError, RequestError};
use tokio::sync::Semaphore;
use tracing::{error, warn};

use crate::provider::{Outcome, Provider};
use crate::shop::{Order, Shop};
use crate::trouble::Trouble;

/// So many generations go on at once.
const AT_ONCE: usize = 16;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

pub(crate) struct Worker {
    bot: Bot,
    shop: Shop,
    provider: Arc<dyn Provider>,
    under_way: Mutex<HashSet<JobId>>,
    slots: Semaphore,
}

impl Worker {
    pub(crate) fn new(bot: Bot, shop: Shop, provider: Arc<dyn Provider>) -> Arc<Self> {
        let (under_way, slots) = (Mutex::default(), Semaphore::new(AT_ONCE));
        Arc::new(Self { bot, shop, provider, under_way, slots })
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

    /// Takes a job to its end, beside everything else. One that is on its way already is left alone.
    pub(crate) fn take(self: &Arc<Self>, job: JobId) {
        if !self.under_way.lock().unwrap_or_else(PoisonError::into_inner).insert(job.clone()) {
            return;
        }
        let worker = Arc::clone(self);
        tokio::spawn(async move {
            // It is closed by nobody.
            if let Ok(_slot) = worker.slots.acquire().await {
                worker.finish(&job).await;
            }
            worker.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&job);
        });
    }

    /// Until it is done: what failed for the moment is tried again from where the store says that the job stands.
    async fn finish(&self, job: &JobId) {
        let mut pause = FIRST_PAUSE;
        while let Err(trouble) = self.go_on(job).await {
            if !trouble.passes() {
                error!("job {job} stays as it is until the next start: {trouble}");
                return;
            }
            warn!("job {job} is tried again: {trouble}");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn go_on(&self, job: &JobId) -> Result<(), Trouble> {
        let mut job = self.shop.job(job).await?;
        if job.status.is_final() {
            return Ok(());
        }
        let order = Order::of(&job)?;
        if job.result_urls.is_empty() && job.error_message.is_none() {
            let outcome = self.generate(&job, &order).await?;
            job = self.shop.decide(&job, outcome).await?;
        }
        if let Some(why) = job.error_message.clone() {
            return self.call_off(&job, &order, why).await;
        }
        if self.deliver(&order, &delivery(&job, &order)).await? {
            self.shop.sold(&job).await?;
            return Ok(());
        }
        self.call_off(&job, &order, "it could not be delivered".parse()?).await
    }

    /// Pays first: what cannot be paid is not asked for.
    async fn generate(&self, job: &Job, order: &Order) -> Result<Outcome, Trouble> {
        match self.shop.pay(job).await {
            Ok(()) => {}
            Err(error) => match error.kind() {
                ErrorKind::InsufficientFunds { available, required } => {
                    return Ok(Outcome::Failed(
                        format!("{required} credits are needed, {available} are there").parse()?,
                    ));
                }
                ErrorKind::InvalidTransition { .. } => return Ok(Outcome::Failed("it was called off".parse()?)),
                _ => return Err(error.into()),
            },
        }
        let task = match &job.external_task_id {
            Some(task) => task.clone(),
            None => {
                self.show_work(order).await?;
                let task = self.provider.start(&job.id, &order.prompt).await?;
                self.shop.started(job, task.clone()).await?;
                task
            }
        };
        self.provider.wait(&task).await
    }

    /// What people see while they wait. Not an edit of the offer: one that is late would hide the delivery that came after it.
    async fn show_work(&self, order: &Order) -> Result<(), Trouble> {
        match self.bot.send_chat_action(ChatId(order.chat), ChatAction::UploadPhoto).await {
            Ok(_) | Err(RequestError::Api(_)) => Ok(()),
            Err(passing) => Err(passing.into()),
        }
    }

    async fn call_off(&self, job: &Job, order: &Order, why: ErrorMessage) -> Result<(), Trouble> {
        self.shop.give_back(job).await?;
        let text = format!("{}\n\nThere is no picture: {why}. You were charged nothing.", order.prompt);
        self.deliver(order, &text).await?;
        self.shop.failed(job, why).await?;
        Ok(())
    }

    /// Makes the message say that. `false` when it never will: the bot is blocked, or the message is gone.
    async fn deliver(&self, order: &Order, text: &str) -> Result<bool, Trouble> {
        match self.bot.edit_message_text(ChatId(order.chat), MessageId(order.message), text).await {
            // It says so already: an earlier answer was lost.
            Ok(_) | Err(RequestError::Api(ApiError::MessageNotModified)) => Ok(true),
            Err(RequestError::Api(refusal)) => {
                warn!("message {} of chat {} cannot be edited: {refusal}", order.message, order.chat);
                Ok(false)
            }
            Err(passing) => Err(passing.into()),
        }
    }
}

fn delivery(job: &Job, order: &Order) -> String {
    let mut text = order.prompt.clone();
    for url in job.result_urls.as_slice() {
        // Writing to a string does not fail.
        let _ = write!(text, "\n\n{url}");
    }
    text
}
