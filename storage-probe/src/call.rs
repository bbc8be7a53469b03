//! Makes one operation of a lane into one call of the store.

use storage_core::{
    AddBalance, AddGenerationJob, AddGenerationToHistory, AddPayment, AddReferralBonus, Amount, BonusCount,
    CommitReserve, Error, IncrementFreeGenerations, MarkPaymentStatus, Memo, Money, OperationKey, PageSize, Params,
    QuotaReceipt, Receipt, RefundPayment, ReleaseReserve, ReserveBalance, Result, ResultUrls, ReturnFreeGeneration,
    SetAdminLimit, SetBalance, SetGiftClaimed, SetReferrer, SetUserLanguage, Storage, SubtractBalance, Timestamp,
    UpdateJobStatus, UserId,
};

use crate::lane::{Lane, MAIN, moment};
use crate::model::REASON;
use crate::op::{Misuse, Op};
use crate::plan::TOO_MUCH;

/// What a call answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    /// The figure that the operation itself produced, the same at each repetition.
    pub(crate) figure: Option<i128>,
    /// Whether the store says that it only repeated; nothing for a call without a key.
    pub(crate) replayed: Option<bool>,
}

impl Answered {
    fn money(receipt: Receipt) -> Self {
        Self { figure: Some(i128::from(receipt.balance_after.micros())), replayed: Some(receipt.replayed) }
    }
    fn quota(receipt: QuotaReceipt) -> Self {
        Self { figure: Some(i128::from(receipt.remaining_after)), replayed: Some(receipt.replayed) }
    }
    fn plain(replayed: bool) -> Self {
        Self { figure: None, replayed: Some(replayed) }
    }
    fn unkeyed() -> Self {
        Self { figure: None, replayed: None }
    }
}

/// The parameters of a job or a history entry: what JSON can hold that is easily damaged.
pub(crate) fn params(operation: u64) -> Result<Params> {
    Params::from_json(&format!(
        r#"{{"prompt":"кот {operation} \"под\" дождём\n🦊","seed":18446744073709551615,"scale":-0.0,"big":1e16,"tags":[null,true,{{}}]}}"#
    ))
}

/// The result URLs of a job or a history entry.
pub(crate) fn urls(operation: u64) -> Result<ResultUrls> {
    ResultUrls::new((0..=operation % 2).map(|n| format!("https://example.org/{operation}/{n}.png?a=1&b=\"2\"")))
}

pub(crate) fn user(lane: Lane, role: u32) -> Result<UserId> {
    UserId::new(lane.user(role))
}

fn amount(micros: i64) -> Result<Amount> {
    Money::from_micros(micros).and_then(Amount::new)
}

fn key(lane: Lane, operation: u64) -> Result<OperationKey> {
    lane.name("key", operation).parse()
}

fn memo(lane: Lane, operation: u64, wanted: bool) -> Result<Memo> {
    if !wanted {
        return Ok(Memo::default());
    }
    Ok(Memo {
        reference: Some(lane.name("memo", operation).parse()?),
        reason: Some(REASON.parse()?),
        actor: Some("probe".parse()?),
    })
}

/// Calls the store.
pub(crate) async fn call(storage: &dyn Storage, lane: Lane, operation: u64, op: &Op) -> Result<Answered> {
    let user = |role| user(lane, role);
    let own_key = key(lane, operation)?;
    match *op {
        Op::GetUser { role } => storage.get_user(user(role)?).await.map(|_| Answered::unkeyed()),
        Op::Credit { role, amount: micros, memo: noted } => {
            let add = AddBalance::new(user(role)?, amount(micros)?).with_key(own_key);
            let receipt = storage.add_balance(add.with_memo(memo(lane, operation, noted)?)).await?;
            // What the user of the expiring holds has at a moment depends on whoever sweeps.
            Ok(if role == MAIN { Answered::money(receipt) } else { Answered::plain(receipt.replayed) })
        }
        Op::Debit { amount: micros, memo: noted } => {
            let subtract = SubtractBalance::new(user(MAIN)?, amount(micros)?).with_key(own_key);
            let memo = memo(lane, operation, noted)?;
            storage.subtract_balance(subtract.with_memo(memo)).await.map(Answered::money)
        }
        Op::SetBalance { balance } => {
            let set = SetBalance::new(user(MAIN)?, Money::from_micros(balance)?).with_key(own_key);
            storage.set_balance(set.with_memo(memo(lane, operation, true)?)).await.map(Answered::money)
        }
        Op::Reserve { .. } | Op::Commit { .. } | Op::Release { .. } | Op::Sweep => {
            hold(storage, lane, operation, op).await
        }
        Op::Take { .. } | Op::Return { .. } | Op::Bonus { .. } => quota(storage, lane, operation, op).await,
        Op::Gift { role } => {
            let claim = SetGiftClaimed { user: user(role)?, key: Some(own_key) };
            let claim = storage.set_gift_claimed(claim).await?;
            Ok(Answered { figure: Some(i128::from(claim.first)), replayed: Some(claim.replayed) })
        }
        Op::Language { role, tag } => {
            let set = SetUserLanguage { user: user(role)?, language: tag.parse()?, key: Some(own_key) };
            storage.set_user_language(set).await.map(|done| Answered::plain(done.replayed))
        }
        Op::Limit { role, limit } => {
            let set = SetAdminLimit { user: user(role)?, limit: Money::from_micros(limit)?, key: Some(own_key) };
            storage.set_admin_limit(set).await.map(|done| Answered::plain(done.replayed))
        }
        Op::AddJob { .. } | Op::UpdateJob { .. } => job(storage, lane, operation, op).await,
        Op::History { price } => {
            let add = AddGenerationToHistory {
                user: user(MAIN)?,
                id: Some(lane.name("generation", operation).parse()?),
                model_id: "z-image".parse()?,
                model_name: "Z Image \u{2014} тест".parse()?,
                params: params(operation)?,
                result_urls: urls(operation)?,
                price: Money::from_micros(price)?,
            };
            storage.add_generation_to_history(add).await.map(|receipt| Answered::plain(receipt.replayed))
        }
        Op::AddPayment { .. } | Op::Mark { .. } | Op::Refund { .. } => payment(storage, lane, operation, op).await,
        Op::Refer { role, referrer, bonus } => {
            let set = SetReferrer {
                user: user(role)?,
                referrer: user(referrer)?,
                bonus: bonus.map(BonusCount::new).transpose()?,
                key: Some(own_key),
            };
            storage.set_referrer(set).await.map(|stored| Answered::plain(stored.replayed))
        }
        Op::Misuse(ref misuse) => call_wrongly(storage, lane, operation, misuse).await,
    }
}

async fn hold(storage: &dyn Storage, lane: Lane, operation: u64, op: &Op) -> Result<Answered> {
    let user = |role| user(lane, role);
    let key = Some(key(lane, operation)?);
    let name = |hold| lane.name("hold", hold).parse();
    match *op {
        Op::Reserve { role, amount: micros, expires } => {
            let reserve = ReserveBalance {
                user: user(role)?,
                name: name(operation)?,
                amount: amount(micros)?,
                expires_at: expires.map(Timestamp::from_micros).transpose()?,
                memo: memo(lane, operation, role == MAIN)?,
                key,
            };
            let receipt = storage.reserve_balance(reserve).await?;
            Ok(if role == MAIN { Answered::money(receipt) } else { Answered::plain(receipt.replayed) })
        }
        Op::Commit { hold, amount: part } => {
            let commit =
                CommitReserve { user: user(MAIN)?, name: name(hold)?, amount: part.map(amount).transpose()?, key };
            storage.commit_reserve(commit).await.map(Answered::money)
        }
        Op::Release { hold } => {
            let release = ReleaseReserve { user: user(MAIN)?, name: name(hold)?, key };
            storage.release_reserve(release).await.map(Answered::money)
        }
        _ => sweep(storage, operation).await,
    }
}

async fn sweep(storage: &dyn Storage, operation: u64) -> Result<Answered> {
    let now = Timestamp::from_micros(moment(operation))?;
    loop {
        let released = storage.release_expired_reserves(PageSize::MAX).await?;
        if let Some(early) = released.iter().find(|hold| hold.expires_at.is_none_or(|at| at > now)) {
            let expiry = early.expires_at.map_or_else(|| "never".to_owned(), |at| at.to_string());
            return Err(Error::internal(format!("hold {} expires {expiry} and was swept at {now}", early.name)));
        }
        // What it could not release shows in an error only when there was nothing else: until then there may be more.
        if released.is_empty() {
            return Ok(Answered::unkeyed());
        }
    }
}

async fn quota(storage: &dyn Storage, lane: Lane, operation: u64, op: &Op) -> Result<Answered> {
    let own_key = key(lane, operation)?;
    match *op {
        Op::Take { role } => {
            let take = IncrementFreeGenerations { user: user(lane, role)?, key: Some(own_key) };
            storage.increment_free_generations(take).await.map(Answered::quota)
        }
        Op::Return { take } => {
            let give_back = ReturnFreeGeneration { user: user(lane, MAIN)?, take: key(lane, take)? };
            storage.return_free_generation(give_back).await.map(|receipt| Answered::plain(receipt.replayed))
        }
        Op::Bonus { count } => {
            let bonus =
                AddReferralBonus { referrer: user(lane, MAIN)?, count: BonusCount::new(count)?, key: Some(own_key) };
            storage.add_referral_bonus(bonus).await.map(Answered::quota)
        }
        _ => Err(Error::internal("no operation of the quota")),
    }
}

async fn job(storage: &dyn Storage, lane: Lane, operation: u64, op: &Op) -> Result<Answered> {
    let key = Some(key(lane, operation)?);
    let stored = match *op {
        Op::AddJob { by_task, price } => {
            let add = AddGenerationJob {
                user: user(lane, MAIN)?,
                job: if by_task { None } else { Some(lane.name("job", operation).parse()?) },
                external_task_id: if by_task { Some(lane.name("task", operation).parse()?) } else { None },
                model_id: "z-image".parse()?,
                model_name: "Z Image".parse()?,
                params: params(operation)?,
                price: Money::from_micros(price)?,
                key,
            };
            storage.add_generation_job(add).await?
        }
        Op::UpdateJob { job, by_task, status, task } => {
            let id = lane.name(if by_task { "task" } else { "job" }, job);
            let mut update = UpdateJobStatus::new(id.parse()?, status.parse()?);
            update.key = key;
            if task {
                update.external_task_id = Some(lane.name("task", operation).parse()?);
            }
            match status {
                "completed" => update.result_urls = Some(urls(operation)?),
                "failed" => update.error_message = Some(format!("{REASON} {operation}").parse()?),
                _ => {}
            }
            storage.update_job_status(update).await?
        }
        _ => return Err(Error::internal("no operation of jobs")),
    };
    Ok(Answered::plain(stored.replayed))
}

async fn payment(storage: &dyn Storage, lane: Lane, operation: u64, op: &Op) -> Result<Answered> {
    let key = Some(key(lane, operation)?);
    let id = |payment| lane.name("payment", payment).parse();
    let admin = Some(user(lane, MAIN)?);
    let note = format!("{REASON} {operation}");
    let stored = match *op {
        Op::AddPayment { amount: micros, full } => {
            let mut add = AddPayment::new(user(lane, MAIN)?, amount(micros)?, "sbp".parse()?);
            add.payment = Some(id(operation)?);
            add.key = key;
            if full {
                add.provider_key = Some(lane.name("charge", operation).parse()?);
                add.screenshot_file_id = Some(lane.name("shot", operation).parse()?);
                add.notes = Some(note.parse()?);
            }
            storage.add_payment(add).await?
        }
        Op::Mark { payment, status, noted } => {
            let mut mark = MarkPaymentStatus::new(id(payment)?, status.parse()?);
            mark.key = key;
            if noted {
                (mark.admin, mark.notes) = (admin, Some(note.parse()?));
            }
            storage.mark_payment_status(mark).await?
        }
        Op::Refund { payment } => {
            let refund = RefundPayment { payment: id(payment)?, admin, notes: Some(note.parse()?), key };
            if operation.is_multiple_of(2) {
                storage.refund_payment(refund).await?
            } else {
                storage.mark_payment_status(refund.into()).await?
            }
        }
        _ => return Err(Error::internal("no operation of payments")),
    };
    Ok(Answered::plain(stored.replayed))
}

async fn call_wrongly(storage: &dyn Storage, lane: Lane, operation: u64, misuse: &Misuse) -> Result<Answered> {
    let user = |role| user(lane, role);
    let own_key = key(lane, operation)?;
    match *misuse {
        Misuse::DebitTooMuch { role } => {
            let subtract = SubtractBalance::new(user(role)?, amount(TOO_MUCH)?).with_key(own_key);
            storage.subtract_balance(subtract).await.map(Answered::money)
        }
        Misuse::ReserveTooMuch { role } => {
            let name = lane.name("hold", operation).parse()?;
            let reserve = ReserveBalance::new(user(role)?, name, amount(TOO_MUCH)?).with_key(own_key);
            storage.reserve_balance(reserve).await.map(Answered::money)
        }
        Misuse::ReusedKey { credit, amount: micros } => {
            let add = AddBalance::new(user(MAIN)?, amount(micros)?).with_key(key(lane, credit)?);
            storage.add_balance(add).await.map(Answered::money)
        }
        Misuse::ReferSelf => {
            let set = SetReferrer::new(user(MAIN)?, user(MAIN)?);
            storage.set_referrer(set).await.map(|stored| Answered::plain(stored.replayed))
        }
        Misuse::ReferAgain { role, referrer } => {
            let set = SetReferrer::new(user(role)?, user(referrer)?);
            storage.set_referrer(set).await.map(|stored| Answered::plain(stored.replayed))
        }
        Misuse::EndAgain { hold, commit } => {
            let (user, name) = (user(MAIN)?, lane.name("hold", hold).parse()?);
            if commit {
                storage.commit_reserve(CommitReserve::new(user, name)).await.map(Answered::money)
            } else {
                storage.release_reserve(ReleaseReserve::new(user, name)).await.map(Answered::money)
            }
        }
        Misuse::ReopenJob { job, by_task } => {
            let update = Op::UpdateJob { job, by_task, status: "running", task: false };
            self::job(storage, lane, operation, &update).await
        }
        Misuse::ApproveRejected { payment } => {
            let mark = Op::Mark { payment, status: "approved", noted: true };
            self::payment(storage, lane, operation, &mark).await
        }
        // No operation makes anything under the number of this one.
        Misuse::NotThere { what } => match what {
            0 => self::hold(storage, lane, operation, &Op::Commit { hold: operation, amount: None }).await,
            1 => {
                let update = Op::UpdateJob { job: operation, by_task: false, status: "completed", task: true };
                self::job(storage, lane, operation, &update).await
            }
            2 => self::payment(storage, lane, operation, &Op::Refund { payment: operation }).await,
            _ => quota(storage, lane, operation, &Op::Return { take: operation }).await,
        },
    }
}
