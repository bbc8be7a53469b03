//! What is to be done on the target so that it knows what the source did, and what nobody but a person can decide.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use storage_core::dump::KeyRecord;
use storage_core::{
    AddBalance, AddGenerationJob, AddGenerationToHistory, AddPayment, AddReferralBonus, Amount, Answer, BonusCount,
    CivilDate, CommitReserve, Error, Fingerprint, ImportRecord, IncrementFreeGenerations, Job, JobStatus, KeySpace,
    LedgerRow, MarkPaymentStatus, Memo, Money, OperationKey, OperationKind, Payment, PaymentId, PaymentOrigin,
    PaymentStatus, QuotaSource, RefundPayment, ReleaseReserve, ReserveBalance, Result, ReturnFreeGeneration,
    SetAdminLimit, SetGiftClaimed, SetReferrer, SetUserLanguage, SignedMoney, SubtractBalance, Timestamp,
    UpdateJobStatus, UserId,
};

use super::side::{Source, Target};
use super::step::{Action, Step};

/// Something that cannot be merged without a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Open {
    pub(super) user: UserId,
    pub(super) what: String,
    pub(super) reason: String,
}

/// A user whom both sides changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Both {
    pub(super) user: UserId,
    /// What is to be done, or was.
    pub(super) steps: u64,
    /// Ledger rows of the target since the first of them.
    pub(super) rows_there: u64,
}

/// What a merge will do.
#[derive(Debug, Default)]
pub(super) struct Planned {
    pub(super) steps: Vec<Step>,
    /// What the target knows already.
    pub(super) known: u64,
    pub(super) open: Vec<Open>,
    pub(super) both: Vec<Both>,
}

/// The most bonuses of one call that are told by their digest.
const LARGEST_BONUS: u32 = 10_000;

/// Plans a merge; `today` is the day whose quota is still open.
pub(super) fn plan(source: &Source, target: &Target, today: CivilDate) -> Result<Planned> {
    let mut planner = Planner {
        source,
        target,
        keys: source.keys.iter().map(|key| ((key.user, key.space, &key.key), key)).collect(),
        by_arguments: source
            .keys
            .iter()
            .filter(|key| key.space == KeySpace::Operation)
            .map(|key| ((key.user, key.used.arguments), &key.key))
            .collect(),
        planned: Planned::default(),
        last: BTreeMap::new(),
    };
    planner.money()?;
    planner.payments();
    planner.jobs();
    planner.generations();
    planner.quotas(today);
    planner.accounts()?;
    planner.unexplained();
    let mut planned = planner.planned;
    planned.steps.sort_by_key(|step| (step.at, step.action.phase()));
    let mut since: BTreeMap<UserId, (Timestamp, u64)> = BTreeMap::new();
    for step in &planned.steps {
        let (first, count) = since.entry(step.user).or_insert((step.at, 0));
        (*first, *count) = ((*first).min(step.at), *count + 1);
    }
    for (user, (first, steps)) in since {
        let rows = target.rows.get(&user).map_or(0, |rows| rows.iter().filter(|at| **at >= first).count() as u64);
        if rows > 0 {
            planned.both.push(Both { user, steps, rows_there: rows });
        }
    }
    Ok(planned)
}

struct Planner<'s> {
    source: &'s Source,
    target: &'s Target,
    keys: HashMap<(UserId, KeySpace, &'s OperationKey), &'s KeyRecord>,
    by_arguments: HashMap<(UserId, Fingerprint), &'s OperationKey>,
    planned: Planned,
    /// The time of each user's last step of money: their order is that of the ledger, whatever the clock did.
    last: BTreeMap<UserId, Timestamp>,
}

impl Planner<'_> {
    fn open(&mut self, user: UserId, what: impl Into<String>, reason: impl Into<String>) {
        self.planned.open.push(Open { user, what: what.into(), reason: reason.into() });
    }
    /// The key that a call with these arguments used.
    fn key_of(&self, user: UserId, arguments: Fingerprint) -> Option<OperationKey> {
        self.by_arguments.get(&(user, arguments)).map(|key| (*key).clone())
    }
    fn arguments(&self, row: &LedgerRow) -> Option<Fingerprint> {
        self.keys.get(&(row.user, KeySpace::Operation, &row.key)).map(|key| key.used.arguments)
    }
    fn step(&mut self, user: UserId, what: impl Into<String>, at: Timestamp, action: Action) {
        // What is known under this key is known, if it is this.
        if let Some((key, fingerprint)) = action.key()
            && let Some(known) = self.target.keys.get(&(user, KeySpace::Operation, key.clone()))
        {
            let ours = self.keys.get(&(user, KeySpace::Operation, key)).map(|key| key.used.arguments);
            if *known == fingerprint || Some(*known) == ours {
                self.planned.known += 1;
            } else {
                let what = what.into();
                self.open(user, what, format!("the target used the key {key} for something else"));
            }
            return;
        }
        self.planned.steps.push(Step { user, what: what.into(), at, action });
    }

    /// The ledger, in the order of each user's rows.
    fn money(&mut self) -> Result<()> {
        let mut done: Option<(UserId, &OperationKey)> = None;
        for row in &self.source.rows {
            // An operation may have two rows: a hold that was spent in part gives the rest back.
            if done == Some((row.user, &row.key)) {
                continue;
            }
            done = Some((row.user, &row.key));
            let last = self.last.entry(row.user).or_insert(row.at);
            *last = (*last).max(row.at);
            let at = *last;
            self.row(row, at)?;
        }
        Ok(())
    }

    fn row(&mut self, row: &LedgerRow, at: Timestamp) -> Result<()> {
        let user = row.user;
        let what = format!("{} {} under the key {}", row.kind, row.balance_change, row.key);
        let key = Some(row.key.clone());
        let memo = Memo { reference: row.reference.clone(), reason: row.reason.clone(), actor: row.actor.clone() };
        let size = amount_of(row.balance_change);
        let action = match row.kind {
            OperationKind::Credit | OperationKind::Debit | OperationKind::Adjustment | OperationKind::ExternalEdit => {
                if row.balance_change.micros() > 0 {
                    Action::Credit(AddBalance { user, amount: size?, memo, key })
                } else {
                    Action::Debit(SubtractBalance { user, amount: size?, memo, key })
                }
            }
            OperationKind::Opening => {
                match (self.target.openings.get(&user), self.target.rows.contains_key(&user)) {
                    (Some(known), _) if *known == row.balance_after => self.planned.known += 1,
                    (_, true) => {
                        let reason = "it was imported here, and the target knows the user: `storage user credit` if it is missing there";
                        self.open(user, format!("opening balance {}", row.balance_after), reason);
                    }
                    (_, false) => {
                        let created_at = self.source.accounts.get(&user).map(|account| account.created_at);
                        let record = ImportRecord::Balance { user, balance: row.balance_after, created_at };
                        self.step(user, what, at, Action::Import(Box::new(record)));
                    }
                }
                return Ok(());
            }
            OperationKind::Payment | OperationKind::Refund => return self.decided(row, what, at),
            OperationKind::Hold => {
                let Some(name) = &row.reference else { return Err(nameless(row)) };
                let name: storage_core::HoldName = name.as_str().parse()?;
                let amount = amount_of(row.held_change)?;
                let expires_at = self.source.holds.get(&(user, name.clone())).and_then(|hold| hold.expires_at);
                // The row names the hold, whatever the caller's memo said.
                let plain = Memo { reference: None, ..memo.clone() };
                let with =
                    |memo| ReserveBalance { user, name: name.clone(), amount, expires_at, memo, key: key.clone() };
                let wanted = self.arguments(row);
                let named = with(memo);
                Action::Hold(if Some(named.fingerprint()) == wanted { named } else { with(plain) })
            }
            OperationKind::Commit => {
                let Some(name) = &row.reference else { return Err(nameless(row)) };
                let amount = amount_of(row.held_change)?;
                let whole = CommitReserve { user, name: name.as_str().parse()?, amount: None, key };
                let part = CommitReserve { amount: Some(amount), ..whole.clone() };
                let wanted = self.arguments(row);
                Action::Commit(if Some(whole.fingerprint()) == wanted { whole } else { part })
            }
            OperationKind::Release => {
                let Some(name) = &row.reference else { return Err(nameless(row)) };
                Action::Release(ReleaseReserve { user, name: name.as_str().parse()?, key })
            }
        };
        self.step(user, what, at, action);
        Ok(())
    }

    /// A payment's approval or refund, with the words of the decision.
    fn decided(&mut self, row: &LedgerRow, what: String, at: Timestamp) -> Result<()> {
        let Some(id) = &row.reference else { return Err(nameless(row)) };
        let id: PaymentId = id.as_str().parse()?;
        let payment = self.source.payments.get(&id);
        let (admin, notes) = payment.map_or((None, None), |payment| (payment.admin, payment.notes.clone()));
        let key = Some(row.key.clone());
        let action = if row.kind == OperationKind::Refund {
            Action::Refund(RefundPayment { payment: id, admin, notes, key })
        } else {
            let status = PaymentStatus::Approved;
            Action::Decide(MarkPaymentStatus { payment: id, status, admin, notes, key })
        };
        self.step(row.user, what, at, action);
        Ok(())
    }

    fn payments(&mut self) {
        for payment in self.source.payments.values() {
            let (user, what) = (payment.user, format!("payment {}", payment.id));
            let known = self.target.payments.get(&payment.id);
            if let Some(known) = known
                && (known.user, known.amount) != (user, payment.amount)
            {
                self.open(user, what, "the target has another payment of this id");
                continue;
            }
            let provider = payment.provider_key.as_ref().and_then(|key| self.target.providers.get(key));
            if let Some(other) = provider.filter(|other| **other != payment.id) {
                self.open(user, what, format!("the target has its provider key with payment {other}"));
                continue;
            }
            if known.is_some() {
                self.planned.known += 1;
            } else if payment.origin != PaymentOrigin::Here {
                let record = ImportRecord::Payment(payment.clone());
                self.step(user, what, payment.created_at, Action::Import(Box::new(record)));
                continue;
            } else {
                let add = Action::Pay(self.added(payment));
                self.step(user, what.clone(), payment.created_at, add);
            }
            let (there, here) = (known.map_or(PaymentStatus::Pending, |known| known.status), payment.status);
            match here {
                PaymentStatus::Rejected | PaymentStatus::Cancelled if there == PaymentStatus::Pending => {
                    let Payment { id, admin, notes, .. } = payment.clone();
                    let mark = MarkPaymentStatus { payment: id, status: here, admin, notes, key: None };
                    let mark = MarkPaymentStatus { key: self.key_of(user, mark.fingerprint()), ..mark };
                    self.step(user, what, payment.updated_at, Action::Decide(mark));
                }
                _ if payment.origin == PaymentOrigin::ByHand && there != here => {
                    self.open(user, what, format!("{here} by hand here, without a credit, and {there} on the target"));
                }
                // What moved money comes from the ledger, and is judged by the target.
                PaymentStatus::Approved | PaymentStatus::Refunded | PaymentStatus::Pending => {}
                _ if there == here => {}
                _ => self.open(user, what, format!("{here} here and {there} on the target")),
            }
        }
    }

    fn added(&self, payment: &Payment) -> AddPayment {
        let Payment { id, user, amount, method, screenshot_file_id, provider_key, notes, .. } = payment.clone();
        let payment = Some(id);
        let add = AddPayment { user, amount, method, payment, provider_key, screenshot_file_id, notes, key: None };
        let without = AddPayment { notes: None, ..add.clone() };
        for candidate in [&add, &without] {
            if let Some(key) = self.key_of(user, candidate.fingerprint()) {
                return AddPayment { key: Some(key), ..candidate.clone() };
            }
        }
        add
    }

    fn jobs(&mut self) {
        for job in &self.source.jobs {
            let (user, what) = (job.user, format!("job {}", job.id));
            let known = self.target.jobs.get(&job.id);
            if known.is_some_and(|known| (known.user, known.created_with) != (user, job.created_with)) {
                self.open(user, what, "the target has another job of this id");
                continue;
            }
            if known.is_some() {
                self.planned.known += 1;
            } else {
                self.step(user, what.clone(), job.created_at, Action::Order(Box::new(ordered(job))));
            }
            let there = known.map_or(JobStatus::Pending, |known| known.status);
            if there == job.status {
                continue;
            }
            if there.may_become(job.status) {
                let update = UpdateJobStatus {
                    job: job.id.clone(),
                    status: job.status,
                    result_urls: (!job.result_urls.as_slice().is_empty()).then(|| job.result_urls.clone()),
                    error_message: job.error_message.clone(),
                    external_task_id: job.external_task_id.clone(),
                    key: None,
                };
                self.step(user, what, job.updated_at, Action::Progress(Box::new(update)));
            } else if job.status.may_become(there) {
                // It went further on the target.
                self.planned.known += 1;
            } else {
                self.open(user, what, format!("{} here and {there} on the target", job.status));
            }
        }
    }

    fn generations(&mut self) {
        for (user, entry) in &self.source.generations {
            let key = OperationKey::new(entry.id.as_str());
            let known = key.is_ok_and(|key| self.target.keys.contains_key(&(*user, KeySpace::Generation, key)));
            if known {
                self.planned.known += 1;
                continue;
            }
            let Storedless { model_id, model_name, params, result_urls, price } = Storedless::of(entry);
            let id = Some(entry.id.clone());
            let add = AddGenerationToHistory { user: *user, id, model_id, model_name, params, result_urls, price };
            self.step(*user, format!("generation {}", entry.id), entry.at, Action::Record(Box::new(add)));
        }
        let kept: std::collections::HashSet<(UserId, &str)> =
            self.source.generations.iter().map(|(user, entry)| (*user, entry.id.as_str())).collect();
        for key in self.source.keys.iter().filter(|key| key.space == KeySpace::Generation) {
            let trimmed = !kept.contains(&(key.user, key.key.as_str()));
            if trimmed && !self.target.keys.contains_key(&(key.user, KeySpace::Generation, key.key.clone())) {
                self.open(
                    key.user,
                    format!("generation {}", key.key),
                    "it is older than the history that is kept, so its price is not known any more",
                );
            }
        }
    }

    fn quotas(&mut self, today: CivilDate) {
        for KeyRecord { user, space, key, used } in &self.source.keys {
            let Answer::Quota(receipt) = &used.answer else { continue };
            let at = self.source.accounts.get(user).map_or(Timestamp::MIN, |account| account.updated_at);
            let what = format!("free generation under the key {key}");
            let of_another_day = matches!(receipt.source, QuotaSource::Day(day) if day != today);
            let take = IncrementFreeGenerations { user: *user, key: Some(key.clone()) };
            if *space == KeySpace::Return {
                let known = self.target.keys.contains_key(&(*user, KeySpace::Return, key.clone()));
                if known || of_another_day {
                    self.planned.known += u64::from(known);
                } else {
                    let give_back = ReturnFreeGeneration { user: *user, take: key.clone() };
                    self.step(*user, what, at, Action::Return(give_back));
                }
            } else if used.arguments == take.fingerprint() {
                // The quota of a day that is over cannot be taken from any more, and nobody misses it.
                if !of_another_day {
                    self.step(*user, what, at, Action::Take(take));
                }
            } else {
                let found = bonus_of(*user, used.arguments).map(|count| AddReferralBonus {
                    referrer: *user,
                    count,
                    key: Some(key.clone()),
                });
                match found {
                    Some(bonus) => self.step(*user, format!("bonus under the key {key}"), at, Action::Bonus(bonus)),
                    None if self.target.keys.contains_key(&(*user, *space, key.clone())) => self.planned.known += 1,
                    None => {
                        let reason = format!("it brought more than {LARGEST_BONUS} free generations");
                        self.open(*user, format!("bonus under the key {key}"), reason);
                    }
                }
            }
        }
    }

    /// What an import or a hand put into the source, which no operation can repeat.
    fn unexplained(&mut self) {
        let mut banks: HashMap<UserId, i128> = HashMap::new();
        let mut by = |user, count: i128| *banks.entry(user).or_default() += count;
        for KeyRecord { user, space, used, .. } in &self.source.keys {
            let Answer::Quota(receipt) = &used.answer else { continue };
            let from_bank = i128::from(receipt.source == QuotaSource::Bank);
            let take = IncrementFreeGenerations { user: *user, key: None }.fingerprint();
            if *space == KeySpace::Return {
                by(*user, from_bank);
            } else if used.arguments == take {
                by(*user, -from_bank);
            } else if let Some(bonus) = bonus_of(*user, used.arguments) {
                by(*user, bonus.get().into());
            }
        }
        for account in self.source.accounts.values() {
            if let Some(referrer) = account.referrer {
                by(referrer, account.referral_bonus.into());
            }
        }
        let mut spent: HashMap<UserId, i128> = HashMap::new();
        for (user, entry) in &self.source.generations {
            *spent.entry(*user).or_default() += i128::from(entry.price.micros());
        }
        for (user, account) in &self.source.accounts {
            let there = self.target.accounts.get(user);
            let bank = i128::from(account.bank) - banks.get(user).copied().unwrap_or(0);
            if bank > 0 && there.is_none_or(|there| there.bank < account.bank) {
                self.open(
                    *user,
                    "free generations",
                    format!("{bank} in the bank came by no operation: an import, or a hand"),
                );
            }
            let more = account.spent.micros() - spent.get(user).copied().unwrap_or(0);
            if more > 0 && there.is_none_or(|there| there.spent < account.spent) {
                let more = storage_core::Total::from_micros(more);
                self.open(*user, "spent", format!("{more} of what was spent is in no generation that is kept"));
            }
        }
    }

    /// What is set and not added: it is taken over where the target has nothing.
    fn accounts(&mut self) -> Result<()> {
        for (user, here) in &self.source.accounts {
            let (user, at) = (*user, here.updated_at);
            let there = self.target.accounts.get(&user);
            if there.is_none() {
                self.step(user, "user", here.created_at, Action::User(user));
            }
            let differs = |what: &str, ours: &dyn std::fmt::Display, theirs: &dyn std::fmt::Display| {
                (what.to_owned(), format!("{ours} here and {theirs} on the target, which is kept"))
            };
            let mut apart = Vec::new();
            match (&here.language, there.and_then(|there| there.language.as_ref())) {
                (Some(ours), None) => {
                    let set = SetUserLanguage { user, language: ours.clone(), key: None };
                    let set = SetUserLanguage { key: self.key_of(user, set.fingerprint()), ..set };
                    self.step(user, "language", at, Action::Language(set));
                }
                (Some(ours), Some(theirs)) if ours != theirs => apart.push(differs("language", ours, theirs)),
                _ => {}
            }
            if here.gift_claimed && !there.is_some_and(|there| there.gift_claimed) {
                let set = SetGiftClaimed { user, key: None };
                let set = SetGiftClaimed { key: self.key_of(user, set.fingerprint()), ..set };
                self.step(user, "gift", at, Action::Gift(set));
            }
            match (here.admin_limit, there.and_then(|there| there.admin_limit)) {
                (Some(limit), None) => {
                    let set = SetAdminLimit { user, limit, key: None };
                    let set = SetAdminLimit { key: self.key_of(user, set.fingerprint()), ..set };
                    self.step(user, "admin limit", at, Action::Limit(set));
                }
                (Some(ours), Some(theirs)) if ours != theirs => apart.push(differs("admin limit", &ours, &theirs)),
                _ => {}
            }
            match (here.referrer, there.and_then(|there| there.referrer)) {
                (Some(referrer), None) => {
                    let bonus = Some(here.referral_bonus).filter(|bonus| *bonus > 0);
                    let bonus = bonus.map(BonusCount::new).transpose()?;
                    let set = SetReferrer { user, referrer, bonus, key: None };
                    let set = SetReferrer { key: self.key_of(user, set.fingerprint()), ..set };
                    self.step(user, "referrer", here.referred_at.unwrap_or(at), Action::Refer(set));
                }
                (Some(ours), Some(theirs)) if ours != theirs => apart.push(differs("referrer", &ours, &theirs)),
                _ => {}
            }
            for (what, reason) in apart {
                self.open(user, what, reason);
            }
        }
        Ok(())
    }
}

/// How many free generations a bonus brought, found by the digest of its arguments.
fn bonus_of(referrer: UserId, arguments: Fingerprint) -> Option<BonusCount> {
    let counts = (1..=LARGEST_BONUS).filter_map(|count| BonusCount::new(count).ok());
    let mut counts = counts.map(|count| AddReferralBonus { referrer, count, key: None });
    counts.find(|bonus| bonus.fingerprint() == arguments).map(|bonus| bonus.count)
}

fn amount_of(change: SignedMoney) -> Result<Amount> {
    Money::from_micros(change.micros().abs()).and_then(Amount::new)
}

fn nameless(row: &LedgerRow) -> Error {
    Error::internal(format!("row {} of user {}'s ledger does not say what it refers to", row.seq, row.user))
}

/// The order that made a job, found by its digest: the task id may have come later.
fn ordered(job: &Job) -> AddGenerationJob {
    let Job { id, user, model_id, model_name, params, price, external_task_id, created_with, .. } = job.clone();
    let job = Some(id);
    let add = AddGenerationJob { user, job, external_task_id, model_id, model_name, params, price, key: None };
    if add.creation() == created_with { add } else { AddGenerationJob { external_task_id: None, ..add } }
}

/// A history entry without its id and time.
struct Storedless {
    model_id: storage_core::ModelId,
    model_name: storage_core::ModelName,
    params: storage_core::Params,
    result_urls: storage_core::ResultUrls,
    price: storage_core::Money,
}

impl Storedless {
    fn of(entry: &storage_core::Generation) -> Self {
        let storage_core::Generation { id: _, model_id, model_name, params, result_urls, price, at: _ } = entry.clone();
        Self { model_id, model_name, params, result_urls, price }
    }
}
