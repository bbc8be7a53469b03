//! From the numbers of an operation to the arguments of a call.

use storage_core::{
    AddBalance, AddGenerationJob, AddGenerationToHistory, AddPayment, AddReferralBonus, Amount, AuditScope, BonusCount,
    CivilDate, CommitReserve, GetReferrals, GetUserGenerationsHistory, HoldName, ImportRecord,
    IncrementFreeGenerations, JobId, JobStatus, ListJobs, ListOperations, ListPayments, ListReserves,
    MarkPaymentStatus, Memo, Money, OperationKey, PageRequest, PageSize, Params, PaymentId, RefundPayment,
    ReleaseReserve, ReserveBalance, Result, ResultUrls, ReturnFreeGeneration, SetAdminLimit, SetBalance,
    SetGiftClaimed, SetReferrer, SetUserLanguage, SubtractBalance, TaskId, Timestamp, UpdateJobStatus, UserId,
};

use super::op::Op;

/// When every history begins: 2026-01-15T10:00:00Z.
pub(crate) const START: i64 = 1_768_471_200_000_000;

/// A call, with the arguments of the store's traits.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    GetUser(UserId),
    FindUser(UserId),
    ListUsers(PageSize),
    GetLanguage(UserId),
    SetLanguage(SetUserLanguage),
    HasGift(UserId),
    ClaimGift(SetGiftClaimed),
    GetBalance(UserId),
    SetBalance(SetBalance),
    Credit(AddBalance),
    Debit(SubtractBalance),
    Reserve(ReserveBalance),
    Commit(CommitReserve),
    Release(ReleaseReserve),
    FindHold(UserId, HoldName),
    ListHolds(ListReserves),
    Sweep(PageSize),
    Ledger(ListOperations),
    Audit(AuditScope),
    TakenToday(UserId),
    Remaining(UserId),
    Take(IncrementFreeGenerations),
    GiveBack(ReturnFreeGeneration),
    Bonus(AddReferralBonus),
    GetLimit(UserId),
    SetLimit(SetAdminLimit),
    Spent(UserId),
    LimitLeft(UserId),
    AddJob(AddGenerationJob),
    UpdateJob(UpdateJobStatus),
    GetJob(JobId),
    FindTask(TaskId),
    ListJobs(ListJobs),
    Record(AddGenerationToHistory),
    History(GetUserGenerationsHistory),
    AddPayment(AddPayment),
    Mark(MarkPaymentStatus),
    Refund(RefundPayment),
    GetPayment(PaymentId),
    ListPayments(ListPayments),
    Refer(SetReferrer),
    GetReferrer(UserId),
    Referrals(GetReferrals),
    Import(ImportRecord),
    ForeignCursor(UserId),
    Ping,
    Dump,
}

impl Call {
    /// Whether it changes nothing.
    pub(crate) fn is_read(&self) -> bool {
        matches!(
            self,
            Self::FindUser(_)
                | Self::ListUsers(_)
                | Self::GetLanguage(_)
                | Self::HasGift(_)
                | Self::GetBalance(_)
                | Self::FindHold(..)
                | Self::ListHolds(_)
                | Self::Ledger(_)
                | Self::Audit(_)
                | Self::TakenToday(_)
                | Self::Remaining(_)
                | Self::GetLimit(_)
                | Self::Spent(_)
                | Self::LimitLeft(_)
                | Self::GetJob(_)
                | Self::FindTask(_)
                | Self::ListJobs(_)
                | Self::History(_)
                | Self::GetPayment(_)
                | Self::ListPayments(_)
                | Self::GetReferrer(_)
                | Self::Referrals(_)
                | Self::ForeignCursor(_)
                | Self::Ping
                | Self::Dump
        )
    }
}

/// The ids that the store minted last, which later calls may name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Minted {
    pub(crate) job: Option<String>,
    pub(crate) payment: Option<String>,
}

const USER_IDS: [i64; 4] = [1001, 2, -1003, 40_000_000_000];
const LANGUAGES: [&str; 3] = ["ru", "en", "pt-BR"];
/// Their order by bytes is not their order by letters, and one begins like another.
const NAME_WORDS: [&str; 5] = ["a", "B", "a-1", "я", "a 1"];
const KEY_WORDS: [&str; 4] = ["k", "K", "k-1", "ключ"];
const TEXTS: [&str; 3] = ["", "once", "дважды \"так\" \\ и\nтак"];

fn pick(words: &[&'static str], place: u8) -> &'static str {
    words.get(usize::from(place) % words.len()).copied().unwrap_or_default()
}

/// The user at a place of the table.
pub(crate) fn user_id(place: u8) -> Result<UserId> {
    UserId::new(USER_IDS[usize::from(place) % USER_IDS.len()])
}

fn name(place: u8, minted: Option<&String>) -> &str {
    match (usize::from(place) < NAME_WORDS.len(), minted) {
        (false, Some(minted)) => minted,
        _ => pick(&NAME_WORDS, place),
    }
}

fn key(place: Option<u8>) -> Result<Option<OperationKey>> {
    place.map(|place| pick(&KEY_WORDS, place).parse()).transpose()
}

fn text<T: std::str::FromStr<Err = storage_core::Error>>(place: Option<u8>) -> Result<Option<T>> {
    place.map(|place| pick(&TEXTS, place).parse()).transpose()
}

fn optional<T: std::str::FromStr<Err = storage_core::Error>>(place: Option<u8>) -> Result<Option<T>> {
    place.map(|place| pick(&NAME_WORDS, place).parse()).transpose()
}

fn amount(micros: i64) -> Result<Amount> {
    Amount::new(Money::from_micros(micros)?)
}

fn memo(given: bool) -> Result<Memo> {
    if !given {
        return Ok(Memo::default());
    }
    Ok(Memo { reference: Some("ref-1".parse()?), reason: Some(TEXTS[2].parse()?), actor: Some("admin".parse()?) })
}

fn at(seconds: i64) -> Result<Timestamp> {
    Timestamp::from_micros(START + seconds * 1_000_000)
}

fn page(size: u32) -> Result<PageRequest> {
    PageSize::new(size).map(PageRequest::first)
}

fn params(place: u8) -> Result<Params> {
    let texts = [r#"{"prompt":"a cat in the rain","steps":30}"#, r#"{"x":-0.0,"y":[1e16,null]}"#, "[]"];
    Params::from_json(pick(&texts, place))
}

fn urls(place: u8) -> Result<ResultUrls> {
    let all = ["https://example.org/1.png", "https://example.org/2.png"];
    ResultUrls::new(all.into_iter().take(usize::from(place) % 3))
}

/// The call that an operation stands for. An error is a value that cannot be built.
pub(crate) fn call(op: Op, minted: &Minted) -> Result<Call> {
    Ok(match op {
        Op::GetUser { user } => Call::GetUser(user_id(user)?),
        Op::FindUser { user } => Call::FindUser(user_id(user)?),
        Op::ListUsers { size } => Call::ListUsers(PageSize::new(size)?),
        Op::GetLanguage { user } => Call::GetLanguage(user_id(user)?),
        Op::SetLanguage { user, language, key: place } => Call::SetLanguage(SetUserLanguage {
            user: user_id(user)?,
            language: pick(&LANGUAGES, language).parse()?,
            key: key(place)?,
        }),
        Op::HasGift { user } => Call::HasGift(user_id(user)?),
        Op::ClaimGift { user, key: place } => {
            Call::ClaimGift(SetGiftClaimed { user: user_id(user)?, key: key(place)? })
        }
        Op::GetBalance { user } => Call::GetBalance(user_id(user)?),
        Op::SetBalance { user, micros, memo: given, key: place } => Call::SetBalance(SetBalance {
            user: user_id(user)?,
            balance: Money::from_micros(micros)?,
            memo: memo(given)?,
            key: key(place)?,
        }),
        Op::Credit { user, micros, memo: given, key: place } => Call::Credit(AddBalance {
            user: user_id(user)?,
            amount: amount(micros)?,
            memo: memo(given)?,
            key: key(place)?,
        }),
        Op::Debit { user, micros, memo: given, key: place } => Call::Debit(SubtractBalance {
            user: user_id(user)?,
            amount: amount(micros)?,
            memo: memo(given)?,
            key: key(place)?,
        }),
        Op::Reserve { user, hold, micros, expires, memo: given, key: place } => Call::Reserve(ReserveBalance {
            user: user_id(user)?,
            name: name(hold, None).parse()?,
            amount: amount(micros)?,
            expires_at: expires.map(at).transpose()?,
            memo: memo(given)?,
            key: key(place)?,
        }),
        Op::Commit { user, hold, micros, key: place } => Call::Commit(CommitReserve {
            user: user_id(user)?,
            name: name(hold, None).parse()?,
            amount: micros.map(amount).transpose()?,
            key: key(place)?,
        }),
        Op::Release { user, hold, key: place } => {
            Call::Release(ReleaseReserve { user: user_id(user)?, name: name(hold, None).parse()?, key: key(place)? })
        }
        Op::FindHold { user, hold } => Call::FindHold(user_id(user)?, name(hold, None).parse()?),
        Op::ListHolds { user, status, older, size } => Call::ListHolds(ListReserves {
            user: user.map(user_id).transpose()?,
            status,
            older_than: older.map(at).transpose()?,
            page: page(size)?,
        }),
        Op::Sweep { limit } => Call::Sweep(PageSize::new(limit)?),
        Op::Ledger { user, size } => Call::Ledger(ListOperations { user: user_id(user)?, page: page(size)? }),
        Op::Audit { user: None } => Call::Audit(AuditScope::Everyone),
        Op::Audit { user: Some(user) } => Call::Audit(AuditScope::User(user_id(user)?)),
        Op::TakenToday { user } => Call::TakenToday(user_id(user)?),
        Op::Remaining { user } => Call::Remaining(user_id(user)?),
        Op::Take { user, key: place } => {
            Call::Take(IncrementFreeGenerations { user: user_id(user)?, key: key(place)? })
        }
        Op::GiveBack { user, take } => {
            Call::GiveBack(ReturnFreeGeneration { user: user_id(user)?, take: pick(&KEY_WORDS, take).parse()? })
        }
        Op::Bonus { user, count, key: place } => {
            Call::Bonus(AddReferralBonus { referrer: user_id(user)?, count: BonusCount::new(count)?, key: key(place)? })
        }
        Op::GetLimit { user } => Call::GetLimit(user_id(user)?),
        Op::SetLimit { user, micros, key: place } => {
            Call::SetLimit(SetAdminLimit { user: user_id(user)?, limit: Money::from_micros(micros)?, key: key(place)? })
        }
        Op::Spent { user } => Call::Spent(user_id(user)?),
        Op::LimitLeft { user } => Call::LimitLeft(user_id(user)?),
        op => return records(op, minted),
    })
}

/// The calls that are about jobs, generations, payments, referrals and the store as a whole.
fn records(op: Op, minted: &Minted) -> Result<Call> {
    Ok(match op {
        Op::AddJob { user, job, task, text, micros, key: place } => Call::AddJob(AddGenerationJob {
            user: user_id(user)?,
            job: job.map(|job| name(job, None).parse()).transpose()?,
            external_task_id: optional(task)?,
            model_id: "z-image".parse()?,
            model_name: "Z Image".parse()?,
            params: params(text)?,
            price: Money::from_micros(micros)?,
            key: key(place)?,
        }),
        Op::UpdateJob { job, status, urls: given, error, task, key: place } => Call::UpdateJob(UpdateJobStatus {
            job: name(job, minted.job.as_ref()).parse()?,
            status,
            result_urls: given.map(urls).transpose()?,
            error_message: text(error)?,
            external_task_id: optional(task)?,
            key: key(place)?,
        }),
        Op::GetJob { job } => Call::GetJob(name(job, minted.job.as_ref()).parse()?),
        Op::FindTask { task } => Call::FindTask(name(task, None).parse()?),
        Op::ListJobs { user, statuses, size } => Call::ListJobs(ListJobs {
            user: user.map(user_id).transpose()?,
            statuses: (0..).zip(JobStatus::ALL).filter(|(bit, _)| statuses >> bit & 1 == 1).map(|(_, s)| s).collect(),
            page: page(size)?,
        }),
        Op::Record { user, id, text, micros } => Call::Record(AddGenerationToHistory {
            user: user_id(user)?,
            id: optional(id)?,
            model_id: "z-image".parse()?,
            model_name: "Z Image".parse()?,
            params: params(text)?,
            result_urls: urls(text)?,
            price: Money::from_micros(micros)?,
        }),
        Op::History { user, size } => {
            Call::History(GetUserGenerationsHistory { user: user_id(user)?, page: page(size)? })
        }
        Op::AddPayment { user, micros, payment, provider, notes, key: place } => Call::AddPayment(AddPayment {
            user: user_id(user)?,
            amount: amount(micros)?,
            method: "card".parse()?,
            payment: optional(payment)?,
            provider_key: optional(provider)?,
            screenshot_file_id: optional(notes)?,
            notes: text(notes)?,
            key: key(place)?,
        }),
        Op::Mark { payment, status, admin, notes, key: place } => Call::Mark(MarkPaymentStatus {
            payment: name(payment, minted.payment.as_ref()).parse()?,
            status,
            admin: admin.map(user_id).transpose()?,
            notes: text(notes)?,
            key: key(place)?,
        }),
        Op::Refund { payment, admin, notes, key: place } => Call::Refund(RefundPayment {
            payment: name(payment, minted.payment.as_ref()).parse()?,
            admin: admin.map(user_id).transpose()?,
            notes: text(notes)?,
            key: key(place)?,
        }),
        Op::GetPayment { payment } => Call::GetPayment(name(payment, minted.payment.as_ref()).parse()?),
        Op::ListPayments { user, status, size } => {
            Call::ListPayments(ListPayments { user: user.map(user_id).transpose()?, status, page: page(size)? })
        }
        Op::Refer { user, referrer, bonus, key: place } => Call::Refer(SetReferrer {
            user: user_id(user)?,
            referrer: user_id(referrer)?,
            bonus: bonus.map(BonusCount::new).transpose()?,
            key: key(place)?,
        }),
        Op::GetReferrer { user } => Call::GetReferrer(user_id(user)?),
        Op::Referrals { user, size } => Call::Referrals(GetReferrals { referrer: user_id(user)?, page: page(size)? }),
        Op::ImportBalance { user, micros, since } => Call::Import(ImportRecord::Balance {
            user: user_id(user)?,
            balance: Money::from_micros(micros)?,
            created_at: since.map(at).transpose()?,
        }),
        Op::ImportLanguage { user, language } => {
            Call::Import(ImportRecord::Language { user: user_id(user)?, language: pick(&LANGUAGES, language).parse()? })
        }
        Op::ImportQuota { user, day, used, bank } => {
            let date = day.map(CivilDate::from_days);
            Call::Import(ImportRecord::Quota { user: user_id(user)?, date, used, bank })
        }
        Op::ImportReferral { user, referrer } => {
            let (user, referrer) = (user_id(user)?, user_id(referrer)?);
            Call::Import(ImportRecord::Referral { user, referrer, since: None })
        }
        Op::ForeignCursor { user } => Call::ForeignCursor(user_id(user)?),
        Op::Dump => Call::Dump,
        _ => Call::Ping,
    })
}
