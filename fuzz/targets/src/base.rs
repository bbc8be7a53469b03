//! The stores that inputs are put into: one that was closed, the same after a crash with changes in its journal, and the same
//! in the middle of a checkpoint.

use std::path::Path;

use storage_core::{
    AddBalance, AddGenerationJob, AddGenerationToHistory, AddPayment, AdminLimits as _, Balances as _, CommitReserve,
    FreeGenerations as _, History as _, IncrementFreeGenerations, JobStatus, Jobs as _, MarkPaymentStatus, Params,
    PaymentStatus, Payments as _, Referrals as _, RefundPayment, ReserveBalance, Reserves as _, ResultUrls,
    SetAdminLimit, SetGiftClaimed, SetReferrer, SetUserLanguage, Store as _, UpdateJobStatus, UserId, Users as _,
};
use storage_json::JsonStorage;

use crate::tree::{self, Tree};
use crate::{Finding, check, seal, shown};

pub(crate) const LEDGER: &str = "ledger.jsonl";
pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const HEAD: &str = "journal.head";

/// The nine files and our own two.
pub(crate) const FILES: [&str; 11] = [
    "user_balances.json",
    "user_languages.json",
    "gift_claimed.json",
    "daily_free_generations.json",
    "admin_limits.json",
    "generations_history.json",
    "payments.json",
    "referrals.json",
    "generation_jobs.json",
    "users.json",
    "balance_reserves.json",
];
/// How many of them are the original's.
pub(crate) const ORIGINALS: usize = 9;

/// The stores.
#[derive(Debug)]
pub(crate) struct Bases {
    pub(crate) closed: Tree,
    pub(crate) crashed: Tree,
    /// A checkpoint of `crashed` whose manifest is in place and whose renames are not.
    pub(crate) between: Tree,
    /// Dumps of the closed store, and after each line of the crashed one's journal.
    pub(crate) dumps: Vec<Vec<u8>>,
}

impl Bases {
    pub(crate) async fn make(scratch: &Path) -> Result<Self, Finding> {
        let dir = scratch.join("base");
        let dir = dir.as_path();
        let storage = JsonStorage::open(check::options(dir, 1)?).await.map_err(shown)?;
        fill(&storage).await.map_err(shown)?;
        storage.close().await.map_err(shown)?;
        drop(storage);
        let closed = tree::take(dir)?;
        let storage = JsonStorage::open(check::options(dir, 2)?).await.map_err(shown)?;
        let mut dumps = vec![check::dump(&storage).await.map_err(shown)?];
        for step in 0..STEPS {
            change(&storage, step).await.map_err(shown)?;
            dumps.push(check::dump(&storage).await.map_err(shown)?);
        }
        let crashed = tree::take(dir)?;
        storage.close().await.map_err(shown)?;
        let between = between(&crashed, scratch).await?;
        let bases = Self { closed, crashed, between, dumps };
        if bases.lines().len() == STEPS { Ok(bases) } else { Err("a change is not one journal line".to_owned()) }
    }

    /// The crashed store's journal: its name and its lines.
    pub(crate) fn journal(&self) -> (&str, &[u8]) {
        let journal = self.crashed.iter().find(|(name, _)| name.starts_with("journal-"));
        journal.map_or(("", &[]), |(name, bytes)| {
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            (name.as_str(), &bytes[..end])
        })
    }

    /// Where each of its lines ends.
    pub(crate) fn lines(&self) -> Vec<usize> {
        let (_, bytes) = self.journal();
        (0..bytes.len()).filter(|at| bytes[*at] == b'\n').map(|at| at + 1).collect()
    }

    /// The store's own files, sealed here, are what they were.
    pub(crate) fn check(&self) -> Result<(), Finding> {
        let (_, journal) = self.journal();
        let file = |name: &str| self.closed.get(name).map_or(&[][..], Vec::as_slice);
        let manifest = seal::compact(file(MANIFEST));
        let fits = [
            ("the journal", seal::lines(journal) == journal && !journal.is_empty()),
            ("the ledger", seal::lines(file(LEDGER)) == file(LEDGER) && file(LEDGER).len() > 1000),
            (
                "the manifest",
                [seal::manifest(file(MANIFEST)), b"x".to_vec()].concat() == [&manifest[..], b"\nx"].concat(),
            ),
            (
                "a checkpoint",
                self.between.get(MANIFEST).is_some_and(|bytes| bytes.windows(6).any(|part| part == b"\"next\"")),
            ),
            (
                "a file's sum",
                seal::manifest_with(file(MANIFEST), FILES[0], file(FILES[0])) == seal::manifest(file(MANIFEST)),
            ),
            (
                "the ledger's length",
                seal::manifest_with(file(MANIFEST), LEDGER, file(LEDGER)) == seal::manifest(file(MANIFEST)),
            ),
        ];
        fits.into_iter()
            .find(|(_, fits)| !fits)
            .map_or(Ok(()), |(what, _)| Err(format!("{what} is sealed differently here")))
    }

    pub(crate) fn last_dump(&self) -> &[u8] {
        self.dumps.last().map_or(&[], Vec::as_slice)
    }
}

fn user(id: i64) -> Result<UserId, storage_core::Error> {
    UserId::new(id)
}

fn generation(id: i64, name: &str) -> Result<AddGenerationToHistory, storage_core::Error> {
    Ok(AddGenerationToHistory {
        user: user(id)?,
        id: Some(name.parse()?),
        model_id: "m-1".parse()?,
        model_name: "Model".parse()?,
        params: Params::from_json(r#"{"prompt":"x","n":[1,2.5,null]}"#)?,
        result_urls: ResultUrls::new(vec!["https://example.org/1".to_owned()])?,
        price: "1.5".parse()?,
    })
}

fn job(id: i64, name: &str) -> Result<AddGenerationJob, storage_core::Error> {
    Ok(AddGenerationJob {
        user: user(id)?,
        job: Some(name.parse()?),
        external_task_id: Some(format!("task-{name}").parse()?),
        model_id: "m-1".parse()?,
        model_name: "Model".parse()?,
        params: Params::from_json(r#"{"prompt":"кот"}"#)?,
        price: "2".parse()?,
        key: None,
    })
}

fn payment(id: i64, name: &str) -> Result<AddPayment, storage_core::Error> {
    let mut add = AddPayment::new(user(id)?, "100".parse()?, "card".parse()?);
    add.payment = Some(name.parse()?);
    add.provider_key = Some(format!("charge-{name}").parse()?);
    Ok(add)
}

/// A record of every kind in every file.
async fn fill(storage: &JsonStorage) -> storage_core::Result<()> {
    for id in 1..=3 {
        storage.add_balance(AddBalance::new(user(id)?, format!("{id}0.25").parse()?)).await?;
    }
    storage.set_user_language(SetUserLanguage::new(user(1)?, "en".parse()?)).await?;
    storage.set_gift_claimed(SetGiftClaimed::new(user(2)?)).await?;
    storage.set_admin_limit(SetAdminLimit::new(user(3)?, "80".parse()?)).await?;
    storage.increment_free_generations(IncrementFreeGenerations::new(user(1)?)).await?;
    let mut referrer = SetReferrer::new(user(2)?, user(1)?);
    referrer.bonus = Some(storage_core::BonusCount::new(5)?);
    storage.set_referrer(referrer).await?;
    for name in ["p-1", "p-2"] {
        storage.add_payment(payment(2, name)?).await?;
    }
    storage.mark_payment_status(MarkPaymentStatus::new("p-2".parse()?, PaymentStatus::Approved)).await?;
    storage.add_generation_job(job(1, "j-1")?).await?;
    for name in ["g-1", "g-2"] {
        storage.add_generation_to_history(generation(1, name)?).await?;
    }
    storage.reserve_balance(ReserveBalance::new(user(3)?, "h-1".parse()?, "5".parse()?)).await?;
    Ok(())
}

/// How many changes wait in the crashed store's journal.
const STEPS: usize = 8;

async fn change(storage: &JsonStorage, step: usize) -> storage_core::Result<()> {
    match step {
        0 => storage.add_balance(AddBalance::new(user(1)?, "7".parse()?)).await.map(drop),
        1 => storage.commit_reserve(CommitReserve::new(user(3)?, "h-1".parse()?)).await.map(drop),
        2 => {
            let mark = MarkPaymentStatus::new("p-1".parse()?, PaymentStatus::Approved);
            storage.mark_payment_status(mark).await.map(drop)
        }
        3 => {
            let update = UpdateJobStatus::new("j-1".parse()?, JobStatus::Completed);
            storage.update_job_status(update).await.map(drop)
        }
        4 => storage.add_generation_to_history(generation(4, "g-3")?).await.map(drop),
        5 => storage.set_user_language(SetUserLanguage::new(user(5)?, "uk".parse()?)).await.map(drop),
        6 => storage.refund_payment(RefundPayment::new("p-2".parse()?)).await.map(drop),
        _ => storage.set_referrer(SetReferrer::new(user(4)?, user(2)?)).await.map(drop),
    }
}

/// What a process leaves that dies in the middle of a checkpoint's renames. A directory in the way of one of them stands for
/// the death: it is refused, and everything from there on is as the process found it.
async fn between(crashed: &Tree, scratch: &Path) -> Result<Tree, Finding> {
    let dir = scratch.join("between");
    let dir = dir.as_path();
    tree::put(crashed, dir)?;
    let obstacle = dir.join(".checkpoint/generation_jobs.json");
    tree::put(&Tree::from([("file".to_owned(), Vec::new())]), &obstacle)?;
    if let Ok(storage) = JsonStorage::open(check::options(dir, 3)?).await {
        storage.close().await.map_err(shown)?;
        return Err("a checkpoint went through what was in its way".to_owned());
    }
    let mut tree = tree::take(dir)?;
    tree.retain(|name, _| !name.starts_with(".checkpoint/generation_jobs.json/"));
    let copy = ".checkpoint/generation_jobs.json";
    tree.extend(crashed.get(copy).map(|bytes| (copy.to_owned(), bytes.clone())));
    Ok(tree)
}
