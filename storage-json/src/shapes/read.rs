//! Reading the files back, strictly: whatever is not as it should be is refused with its place, and nothing is guessed.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use storage_core::{
    AccountRecord, AddGenerationJob, Error, Generation, Hold, Job, Payment, PaymentOrigin, Quota, Result, TaskId,
    Timestamp, Total, UserId, check_spent, judge_chains,
};

use super::LISTS;
use super::record::{At, Fields};
use crate::json_text::{Dialect, Node, NodeValue, Source};
use crate::state::{Account, FileId, State};

/// The bytes of the files, and which of them were edited by hand.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) files: BTreeMap<FileId, Vec<u8>>,
    pub(crate) edited: Vec<FileId>,
}

/// Builds the state that the files describe.
///
/// A user whom only a hand-edited file names is created at `now`.
pub(crate) fn load(loaded: &Loaded, now: Timestamp) -> Result<State> {
    let mut reading = Reading { accounts: BTreeMap::new(), state: State::default(), now };
    // The accounts first: everything else refers to them.
    let order =
        [FileId::Users, FileId::Balances, FileId::Languages, FileId::Gifts, FileId::Quotas, FileId::AdminLimits];
    let rest = [FileId::Referrals, FileId::Holds, FileId::Payments, FileId::Jobs, FileId::History];
    for file in order.into_iter().chain(rest) {
        let Some(bytes) = loaded.files.get(&file) else { continue };
        let source = Source::new(file.name(), bytes)?;
        let strangers = loaded.edited.contains(&file);
        source.entries(Dialect::Strict, &mut |key, offset, node| {
            let at = At { source: &source, key: &key };
            reading.entry(file, at, offset, &node, strangers)
        })?;
        if file == FileId::Referrals && strangers {
            reading.judge_referrers(&source)?;
        }
    }
    Ok(reading.finish())
}

struct Reading {
    accounts: BTreeMap<UserId, Account>,
    state: State,
    now: Timestamp,
}

impl Reading {
    fn account(&mut self, at: At<'_, '_>, offset: usize, user: UserId, strangers: bool) -> Result<&mut AccountRecord> {
        match self.accounts.entry(user) {
            Entry::Occupied(entry) => Ok(&mut entry.into_mut().record),
            Entry::Vacant(entry) if strangers => {
                Ok(&mut entry.insert(Account::new(AccountRecord::new(user, self.now))).record)
            }
            Entry::Vacant(_) => Err(at.fail(offset, format!("user {user} is missing from users.json"))),
        }
    }

    fn entry(&mut self, file: FileId, at: At<'_, '_>, offset: usize, node: &Node<'_>, strangers: bool) -> Result<()> {
        match file {
            FileId::Users => {
                let account = user(at, offset, node)?;
                self.accounts.insert(account.record.user, account);
            }
            FileId::Balances => {
                let balance = at.money(node)?;
                self.account(at, offset, at.user(offset)?, strangers)?.balance = balance;
            }
            FileId::Languages => {
                let language = at.parsed(node)?;
                self.account(at, offset, at.user(offset)?, strangers)?.language = Some(language);
            }
            FileId::Gifts => {
                let NodeValue::Bool(claimed) = node.value else {
                    return Err(at.fail(node.offset, format!("true or false is expected, not {}", node.kind())));
                };
                self.account(at, offset, at.user(offset)?, strangers)?.gift_claimed = claimed;
            }
            FileId::Quotas => {
                let fields = at.fields(node, &["date", "count", "bonus"])?;
                // None of a user who never took from a day: no date could say so, each is a day like others.
                let date = fields.optional("date", At::parsed)?;
                let used = fields.needed("count", At::counted)?;
                let bank = fields.optional("bonus", At::counted)?.unwrap_or(0);
                let quota = Quota { date, used, bank };
                quota.check().map_err(|error| at.fail(node.offset, error.to_string()))?;
                let account = self.account(at, offset, at.user(offset)?, strangers)?;
                account.set_quota(quota);
            }
            FileId::AdminLimits => {
                let fields = at.fields(node, &["limit", "spent"])?;
                let limit = fields.needed("limit", At::money)?;
                let spent = fields.optional("spent", spent)?;
                let account = self.account(at, offset, at.user(offset)?, strangers)?;
                account.admin_limit = Some(limit);
                account.spent = spent.unwrap_or(account.spent);
            }
            FileId::Referrals => self.referral(at, offset, node, strangers)?,
            FileId::Holds => self.hold(at, offset, node)?,
            FileId::Payments => {
                let payment = payment(at, node)?;
                self.account(at, offset, payment.user, strangers)?;
                if let Some(provider) = &payment.provider_key
                    && let Some(other) = self.state.payments_by_provider.get(provider)
                {
                    let problem = format!("payment {other} has the same provider key {provider}; one may have it");
                    return Err(at.fail(offset, problem));
                }
                self.state.put_payment(Arc::new(payment));
            }
            FileId::Jobs => {
                let job = job(at, node)?;
                self.account(at, offset, job.user, strangers)?;
                if let Some(task) = &job.external_task_id
                    && let Some(other) = self.state.jobs_by_task.get(task)
                {
                    let problem = format!("job {other} has the same external task id {task}; one may have it");
                    return Err(at.fail(offset, problem));
                }
                self.state.put_job(Arc::new(job));
            }
            FileId::History => {
                let user = at.user(offset)?;
                self.account(at, offset, user, strangers)?;
                let NodeValue::Array(items) = &node.value else {
                    return Err(at.fail(node.offset, format!("a list is expected, not {}", node.kind())));
                };
                let mut ids = HashSet::new();
                for item in items {
                    let generation = generation(at, item)?;
                    if strangers && !ids.insert(generation.id.clone()) {
                        let problem =
                            format!("the generation {} stands twice in this list; one may stay", generation.id);
                        return Err(at.fail(item.offset, problem));
                    }
                    self.state.put_generation(user, Arc::new(generation));
                }
            }
        }
        Ok(())
    }

    fn referral(&mut self, at: At<'_, '_>, offset: usize, node: &Node<'_>, strangers: bool) -> Result<()> {
        // The lists repeat what the entries say; an edit of them alone changes nothing.
        if at.key == LISTS {
            return Ok(());
        }
        let user = at.user(offset)?;
        let referrer: UserId = at.numeric(node)?;
        if user == referrer {
            return Err(at.fail(node.offset, "a user cannot be their own referrer"));
        }
        self.account(at, offset, referrer, strangers)?;
        let now = self.now;
        let account = self.account(at, offset, user, strangers)?;
        account.referrer = Some(referrer);
        account.referred_at.get_or_insert(now);
        Ok(())
    }

    /// Judges all referrers of a file that was edited.
    fn judge_referrers(&self, source: &Source<'_>) -> Result<()> {
        let users: Vec<UserId> = self.accounts.keys().copied().collect();
        let referrer = |at: usize| self.accounts.get(&users[at]).and_then(|account| account.record.referrer);
        let number = |at: usize| Ok(referrer(at).and_then(|referrer| users.binary_search(&referrer).ok()));
        let refuse = |at: usize, what: &'static str| (users[at], what);
        let Err((user, what)) = judge_chains(users.len(), number, refuse) else { return Ok(()) };
        // Read again, for the place.
        source.entries(Dialect::Strict, &mut |key, _, node| {
            let at = At { source, key: &key };
            if *key == user.to_string() {
                return Err(at.fail(node.offset, format!("this referrer {what}; remove the entry or name another one")));
            }
            Ok(())
        })
    }

    fn hold(&mut self, at: At<'_, '_>, offset: usize, node: &Node<'_>) -> Result<()> {
        let hold: Hold = serde_json::from_str(node.raw)
            .map_err(|error| at.fail(node.offset, "this is not a hold").caused_by(error))?;
        if at.key != format!("{}/{}", hold.user, hold.name) {
            return Err(at.fail(offset, "the key is not the hold's user and name"));
        }
        self.account(at, offset, hold.user, false)?;
        self.state.put_hold(Arc::new(hold));
        Ok(())
    }

    fn finish(self) -> State {
        let Self { mut accounts, mut state, .. } = self;
        for (user, _) in state.history.all() {
            if let Some(account) = accounts.get_mut(&user) {
                account.history += 1;
            }
        }
        for Account { record, .. } in accounts.values_mut() {
            match record.referrer.zip(record.referred_at) {
                Some((referrer, since)) => {
                    state.referred.insert((referrer, since, record.user));
                }
                // A referrer removed by hand leaves no date behind. That a bonus was granted stays known: none is granted
                // for this user again.
                None => record.referred_at = None,
            }
        }
        state.accounts = accounts;
        state.keep_heights();
        state.dirty.clear();
        state
    }
}

fn spent(at: &At<'_, '_>, node: &Node<'_>) -> Result<Total> {
    let spent = at.numeric(node)?;
    check_spent(spent).map_err(|error| at.fail(node.offset, error.to_string())).map(|()| spent)
}

fn user(at: At<'_, '_>, offset: usize, node: &Node<'_>) -> Result<Account> {
    let known =
        ["created_at", "updated_at", "held", "spent", "referred_at", "referral_bonus", "ledger_rows", "ledger_last"];
    let fields = at.fields(node, &known)?;
    let mut record = AccountRecord::new(at.user(offset)?, fields.needed("created_at", At::time)?);
    record.updated_at = fields.needed("updated_at", At::time)?;
    record.held = fields.optional("held", At::money)?.unwrap_or_default();
    record.spent = fields.optional("spent", spent)?.unwrap_or_default();
    record.referred_at = fields.optional("referred_at", At::time)?;
    record.referral_bonus = fields.optional("referral_bonus", At::counted)?.unwrap_or(0);
    let mut account = Account::new(record);
    account.rows = fields.optional("ledger_rows", At::counted)?.unwrap_or(0);
    account.last = fields.optional("ledger_last", At::counted)?;
    Ok(account)
}

fn payment(at: At<'_, '_>, node: &Node<'_>) -> Result<Payment> {
    let fields = at.fields(
        node,
        &[
            "payment_id",
            "user_id",
            "amount",
            "payment_method",
            "screenshot_file_id",
            "status",
            "created_at",
            "updated_at",
            "admin_id",
            "notes",
            "provider_key",
            "origin",
        ],
    )?;
    let payment = Payment {
        id: fields.needed("payment_id", At::parsed)?,
        user: fields.needed("user_id", At::numeric)?,
        amount: fields.needed("amount", At::numeric)?,
        method: fields.needed("payment_method", At::parsed)?,
        screenshot_file_id: fields.optional("screenshot_file_id", At::parsed)?,
        provider_key: fields.optional("provider_key", At::parsed)?,
        status: fields.needed("status", At::parsed)?,
        admin: fields.optional("admin_id", At::numeric)?,
        notes: fields.optional("notes", At::parsed)?,
        origin: fields
            .optional("origin", |at, node| match at.text(node)? {
                "here" => Ok(PaymentOrigin::Here),
                "imported" => Ok(PaymentOrigin::Imported),
                "by_hand" => Ok(PaymentOrigin::ByHand),
                _ => Err(at.fail(node.offset, "must be here, imported or by_hand")),
            })?
            .unwrap_or(PaymentOrigin::Here),
        created_at: fields.needed("created_at", At::time)?,
        updated_at: fields.needed("updated_at", At::time)?,
    };
    same_id(at, node, payment.id.as_str())?;
    Ok(payment)
}

fn same_id(at: At<'_, '_>, node: &Node<'_>, id: &str) -> Result<(), Error> {
    if at.key == id { Ok(()) } else { Err(at.fail(node.offset, format!("the record's id {id:?} is not its key"))) }
}

fn job(at: At<'_, '_>, node: &Node<'_>) -> Result<Job> {
    let fields = at.fields(
        node,
        &[
            "job_id",
            "user_id",
            "model_id",
            "model_name",
            "params",
            "price",
            "status",
            "task_id",
            "external_task_id",
            "created_at",
            "updated_at",
            "result_urls",
            "error_message",
            "created_with",
        ],
    )?;
    let add = AddGenerationJob {
        user: fields.needed("user_id", At::numeric)?,
        job: Some(fields.needed("job_id", At::parsed)?),
        external_task_id: external_task_id(&fields)?,
        model_id: fields.needed("model_id", At::parsed)?,
        model_name: fields.needed("model_name", At::parsed)?,
        params: fields.needed("params", At::params)?,
        price: fields.needed("price", At::money)?,
        key: None,
    };
    let created_at = fields.needed("created_at", At::time)?;
    let id = fields.needed("job_id", At::parsed::<storage_core::JobId>)?;
    same_id(at, node, id.as_str())?;
    let mut job = Job::create(add, id, created_at);
    job.updated_at = fields.needed("updated_at", At::time)?;
    job.status = fields.needed("status", At::parsed)?;
    job.result_urls = fields.optional("result_urls", At::urls)?.unwrap_or_default();
    job.error_message = fields.optional("error_message", At::parsed)?;
    // Absent from a record added by hand: then it was created with what it holds now.
    job.created_with = fields.optional("created_with", At::parsed)?.unwrap_or(job.created_with);
    Ok(job)
}

/// The original wrote it twice; of an edit that changes only one of them nobody knows which is meant.
fn external_task_id(fields: &Fields<'_, '_, '_>) -> Result<Option<TaskId>> {
    let (ours, other) = ("external_task_id", "task_id");
    let task: Option<TaskId> = fields.optional(ours, At::parsed)?;
    match (fields.place(ours), fields.place(other)) {
        (None, Some(_)) => fields.optional(other, At::parsed),
        (Some(_), Some(offset)) if fields.optional::<TaskId>(other, At::parsed)? != task => {
            Err(fields.fail(offset, "task_id and external_task_id must be the same; change both"))
        }
        _ => Ok(task),
    }
}

fn generation(at: At<'_, '_>, node: &Node<'_>) -> Result<Generation> {
    let known = ["id", "model_id", "model_name", "params", "result_urls", "price", "timestamp"];
    let fields = at.fields(node, &known)?;
    Ok(Generation {
        id: fields.needed("id", At::parsed)?,
        model_id: fields.needed("model_id", At::parsed)?,
        model_name: fields.needed("model_name", At::parsed)?,
        params: fields.needed("params", At::params)?,
        result_urls: fields.optional("result_urls", At::urls)?.unwrap_or_default(),
        price: fields.needed("price", At::money)?,
        at: fields.needed("timestamp", At::time)?,
    })
}
