//! Looks at a large store: how long each takes, and how long it keeps others from the store meanwhile.
//!
//! Beside each look two threads go on: one asks again and again for what needs the state for a moment, the
//! other writes. What each of them waited at the longest says how long the look kept the state, and how long it kept the
//! writer. Each look is repeated, and the repetition that disturbed least counts: the rest is the machine's.

mod fill;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Args;
use storage_core::{
    AddBalance, AuditScope, Balances as _, Environment, Error, GetReferrals, GetUserGenerationsHistory, History as _,
    HistoryRetention, HoldStatus, JobStatus, Jobs as _, ListJobs, ListOperations, ListPayments, ListReserves,
    Operations as _, PageRequest, PaymentStatus, Payments as _, Policy, Referrals as _, Reserves as _, Result,
    SetReferrer, SetUserLanguage, Store as _, Timestamp, Users as _,
};
use storage_json::{JsonOptions, JsonStorage};

use self::fill::{each, fill, generation, user};
use crate::result::{Column, Grid};
use crate::single::scratch;

/// How often each look is repeated.
const ROUNDS: usize = 3;
/// Who has everything that one user can have much of.
const HEAVY: i64 = 1;
/// Whose credits stand beside the looks; nobody else looks at them.
const PROBE: i64 = 2;
/// The first of those who brought many; each round asks for the referrer of another one.
const BROUGHT: i64 = 3;

#[derive(Debug, Args)]
pub(crate) struct LooksArgs {
    /// Records of each kind
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u32).range(10..))]
    records: u32,
    /// Only looks with this word in their name
    #[arg(long)]
    only: Option<String>,
    /// Where the scratch directory is made
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

fn environment(records: u32) -> Environment {
    let kept = NonZeroU32::new(records).unwrap_or(NonZeroU32::MIN);
    let policy = Policy { history: HistoryRetention::Newest(kept), ..Policy::default() };
    Environment { policy, ..Environment::default() }
}

/// Waits of a large store are what is measured: nobody gives up, and no checkpoint comes between.
fn options(dir: &Path, records: u32) -> JsonOptions {
    JsonOptions {
        environment: environment(records),
        deadline: Duration::from_mins(10),
        checkpoint_bytes: 8 * 1024 * 1024 * 1024,
        ..JsonOptions::new(dir)
    }
}

/// The longest waits of those beside a look, in milliseconds.
struct Beside {
    state: f64,
    writer: f64,
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Asks for the state again and again, until it is over; says what it waited at the longest.
fn ask(store: Arc<JsonStorage>, over: Arc<AtomicBool>) -> JoinHandle<Duration> {
    std::thread::spawn(move || {
        let mut longest = Duration::ZERO;
        while !over.load(Ordering::Acquire) {
            let begun = Instant::now();
            std::hint::black_box(store.vitals());
            longest = longest.max(begun.elapsed());
            std::thread::sleep(Duration::from_micros(200));
        }
        longest
    })
}

/// Runs a look while two threads of their own ask for the state and write.
async fn beside<F: Future<Output = Result<()>>>(store: &Arc<JsonStorage>, look: F) -> Result<(f64, Beside)> {
    let over = Arc::new(AtomicBool::new(false));
    let asking = ask(Arc::clone(store), Arc::clone(&over));
    let (writing, done) = (Arc::clone(store), Arc::clone(&over));
    let writing = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok();
        let written = runtime.map(|runtime| {
            runtime.block_on(async {
                let mut longest = Duration::ZERO;
                while !done.load(Ordering::Acquire) {
                    let begun = Instant::now();
                    writing.add_balance(AddBalance::new(user(PROBE)?, "0.01".parse()?)).await?;
                    longest = longest.max(begun.elapsed());
                }
                Result::Ok(longest)
            })
        });
        written.unwrap_or_else(|| Err(Error::internal("no runtime")))
    });
    // So that both are at it.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let begun = Instant::now();
    let looked = look.await;
    let own = millis(begun.elapsed());
    over.store(true, Ordering::Release);
    let panicked = |_| Error::internal("a thread ended badly");
    let state = asking.join().map_err(panicked)?;
    let writer = writing.join().map_err(panicked)??;
    looked?;
    Ok((own, Beside { state: millis(state), writer: millis(writer) }))
}

struct Looks {
    store: Arc<JsonStorage>,
    only: Option<String>,
    rounds: usize,
    grid: Grid,
}

impl Looks {
    async fn look<F: Future<Output = Result<()>>>(
        &mut self,
        name: &'static str,
        look: impl Fn(Arc<JsonStorage>, usize) -> F,
    ) -> Result<()> {
        if self.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            return Ok(());
        }
        let (mut own, mut state, mut writer) = (f64::MAX, f64::MAX, f64::MAX);
        for round in 0..self.rounds {
            let (took, beside) = beside(&self.store, look(Arc::clone(&self.store), round)).await?;
            (own, state, writer) = (own.min(took), state.min(beside.state), writer.min(beside.writer));
        }
        self.grid.add(name, vec![Some(own), Some(state), Some(writer)]);
        Ok(())
    }
}

/// Measures.
pub(crate) async fn measure(arguments: LooksArgs) -> Result<Grid, String> {
    let LooksArgs { records, only, dir } = arguments;
    let scratch = scratch(&dir)?;
    let looked = look(&scratch.path().join("store"), records, only).await;
    looked.map_err(|error: Error| error.report().to_string())
}

async fn look(dir: &Path, records: u32, only: Option<String>) -> Result<Grid> {
    fill(dir, records).await?;
    let opening = Instant::now();
    let store = Arc::new(JsonStorage::open(options(dir, records)).await?);
    let opening = opening.elapsed();
    let title = format!(
        "looks at a store of {records} records of each kind, opened in {:.1} s; the least of {ROUNDS} rounds",
        opening.as_secs_f64()
    );
    let columns = vec![Column("own ms", 1), Column("state ms", 1), Column("writer ms", 1)];
    let mut looks = Looks { store: Arc::clone(&store), only, rounds: ROUNDS, grid: Grid::new("looks", title, columns) };
    looks
        .look("nothing", |_, _| async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(())
        })
        .await?;
    lists(&mut looks).await?;
    pages(&mut looks).await?;
    changes(&mut looks, records).await?;
    moments(&mut looks, records).await?;
    follow(&mut looks, dir, records).await?;
    store.close().await?;
    Ok(looks.grid)
}

/// Lists in which nothing is found, however much there is.
async fn lists(looks: &mut Looks) -> Result<()> {
    let heavy = user(HEAVY)?;
    for (name, user) in [("payments, none of the status", None), ("a user's payments, none of the status", Some(heavy))]
    {
        let look = |store: Arc<JsonStorage>, _| async move {
            let list = ListPayments { user, status: Some(PaymentStatus::Pending), ..ListPayments::default() };
            store.list_payments(list).await.map(|_| ())
        };
        looks.look(name, look).await?;
    }
    for (name, user) in [("jobs, none of the statuses", None), ("a user's jobs, none of the statuses", Some(heavy))] {
        let look = |store: Arc<JsonStorage>, _| async move {
            let statuses = vec![JobStatus::Failed, JobStatus::Running];
            store.list_jobs(ListJobs { user, statuses, ..ListJobs::default() }).await.map(|_| ())
        };
        looks.look(name, look).await?;
    }
    let oldest = Some(Timestamp::from_micros(1)?);
    for (name, user, status, older_than) in [
        ("holds, none of the status", None, Some(HoldStatus::Released), None),
        ("a user's holds, none of the status", Some(heavy), Some(HoldStatus::Released), None),
        ("holds, none so old", None, None, oldest),
        ("a user's holds, none so old", Some(heavy), None, oldest),
    ] {
        let look = |store: Arc<JsonStorage>, _| async move {
            let page = PageRequest::default();
            store.list_reserves(ListReserves { user, status, older_than, page }).await.map(|_| ())
        };
        looks.look(name, look).await?;
    }
    Ok(())
}

/// Single calls that change something.
async fn changes(looks: &mut Looks, records: u32) -> Result<()> {
    looks
        .look("a referrer for who brought a third", |store, round| async move {
            let round = i64::try_from(round).unwrap_or(0);
            let referrer = user(i64::MAX - round)?;
            store.set_referrer(SetReferrer::new(user(BROUGHT + round)?, referrer)).await.map(|_| ())
        })
        .await?;
    looks
        .look("one more history entry, one too many", |store, round| async move {
            let number = records + u32::try_from(round).unwrap_or(0);
            store.add_generation_to_history(generation(number)?).await.map(|_| ())
        })
        .await?;
    // What happens once in so many cannot be repeated.
    looks.rounds = 1;
    let more = records * 3 / 5;
    looks
        .look("payments added, until their map has doubled", |store, _| async move {
            each(&store, more, |store, number| async move {
                let mut add = storage_core::AddPayment::new(user(HEAVY)?, "1".parse()?, "card".parse()?);
                add.payment = Some(format!("payment-{}", records + number).parse()?);
                store.add_payment(add).await.map(|_| ())
            })
            .await
        })
        .await?;
    looks.rounds = ROUNDS;
    Ok(())
}

/// Pages, each from its beginning.
async fn pages(looks: &mut Looks) -> Result<()> {
    let heavy = user(HEAVY)?;
    let page = PageRequest::default;
    looks
        .look("a page of referrals", |store, _| async move {
            store.get_referrals(GetReferrals::of(user(BROUGHT)?)).await.map(|_| ())
        })
        .await?;
    looks.look("a page of users", |store, _| async move { store.list_users(page()).await.map(|_| ()) }).await?;
    looks
        .look("a page of the ledger", |store, _| async move {
            store.list_operations(ListOperations { user: heavy, page: page() }).await.map(|_| ())
        })
        .await?;
    looks
        .look("a page of history", |store, _| async move {
            store.get_user_generations_history(GetUserGenerationsHistory::of(heavy)).await.map(|_| ())
        })
        .await?;
    looks
        .look("a sweep of expired holds", |store, _| async move {
            store.release_expired_reserves(page().size).await.map(|_| ())
        })
        .await
}

/// What looks at everything as it was at one moment.
async fn moments(looks: &mut Looks, records: u32) -> Result<()> {
    let heavy = user(HEAVY)?;
    looks
        .look("audit of the user with everything", |store, _| async move {
            store.audit(AuditScope::User(heavy)).await.map(|_| ())
        })
        .await?;
    looks
        .look("audit of everyone", |store, _| async move { store.audit(AuditScope::Everyone).await.map(|_| ()) })
        .await?;
    looks.look("dump", |store, _| async move { store.dump(&mut tokio::io::sink()).await.map(|_| ()) }).await?;
    changed_dump(looks, records).await
}

async fn change_everyone(store: &Arc<JsonStorage>, records: u32, language: &'static str) -> Result<()> {
    each(store, records, |store, number| async move {
        let set = SetUserLanguage::new(user(i64::from(number) + 1)?, language.parse()?);
        store.set_user_language(set).await.map(|_| ())
    })
    .await
}

/// A dump during which every user changes, and which is over then: what was kept for it is given back.
async fn changed_dump(looks: &mut Looks, records: u32) -> Result<()> {
    looks
        .look("dump during which everyone changed, given up", |store, round| async move {
            let (mut write, read) = tokio::io::duplex(1024);
            let dumping = Arc::clone(&store);
            let dump = tokio::spawn(async move { dumping.dump(&mut write).await });
            let language = if round % 2 == 0 { "en" } else { "de" };
            change_everyone(&store, records, language).await?;
            drop(read);
            // It fails, because nobody reads it any more.
            drop(dump.await);
            Ok(())
        })
        .await
}

/// A handle that looked away while another one changed everything.
async fn follow(looks: &mut Looks, dir: &Path, records: u32) -> Result<()> {
    const NAME: &str = "a read behind that many changes of another handle";
    if looks.only.as_ref().is_some_and(|only| !NAME.contains(only.as_str())) {
        return Ok(());
    }
    let store = Arc::clone(&looks.store);
    let (mut own, mut state) = (f64::MAX, f64::MAX);
    for round in 0..ROUNDS {
        let other = Arc::new(JsonStorage::open(options(dir, records)).await?);
        let language = if round % 2 == 0 { "fr" } else { "es" };
        change_everyone(&store, records, language).await?;
        let over = Arc::new(AtomicBool::new(false));
        let asking = ask(Arc::clone(&other), Arc::clone(&over));
        let begun = Instant::now();
        other.get_balance(user(PROBE)?).await?;
        own = own.min(millis(begun.elapsed()));
        over.store(true, Ordering::Release);
        let longest = asking.join().map_err(|_| Error::internal("a thread ended badly"))?;
        state = state.min(millis(longest));
        other.close().await?;
    }
    looks.grid.add(NAME, vec![Some(own), Some(state), None]);
    Ok(())
}
