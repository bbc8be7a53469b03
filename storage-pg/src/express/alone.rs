//! The express forms against the kernel, each alone: on one connection and one state, a form, all tables, back to where it began, the
//! kernel, all tables. A form may decline. Where it does not, answer and tables are those of the kernel.

use std::collections::BTreeMap;
use std::sync::Arc;

use pg_test_server::Server;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use storage_core::kernel::{Atom, Call, Reply};
use storage_core::*;

use crate::account::{self, Account};
use crate::gather::Gathered as _;
use crate::options::PgOptions;
use crate::store::PgStorage;
use crate::tx::{Tx, borrowed};
use crate::{jobs, keys, payments, reserves};

/// The noon around which everything happens.
const NOON: &str = "2026-01-15T12:00:00Z";
const TABLES: [&str; 12] = [
    "users",
    "user_settings",
    "daily_free_generations",
    "admin_limits",
    "operations",
    "operation_keys",
    "balance_reserves",
    "generation_jobs",
    "payments",
    "id_routes",
    "generation_history",
    "referrals",
];

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn days(count: i64) -> Timestamp {
    NOON.parse::<Timestamp>().unwrap().plus_micros(count * 86_400_000_000)
}

fn micros(count: i64) -> Money {
    Money::from_micros(count).unwrap()
}

/// A state: what user 1 has, and records that are theirs or user 2's.
#[derive(Clone, Debug)]
struct State {
    balance: i64,
    is_known: bool,
    hold: Option<(HoldStatus, i64, Option<i64>)>,
    quota: (Option<i64>, u32, u64),
    job: Option<(JobStatus, bool, bool)>,
    payment: Option<(PaymentStatus, PaymentOrigin, bool, bool)>,
    /// Whether the key was used: by the very call, or by something else.
    key: Option<bool>,
}

const MOST: i64 = 999_999_999_999_999_999;

fn states() -> impl Strategy<Value = State> {
    use proptest::option::of;
    use proptest::sample::select;
    let hold = (
        prop_oneof![3 => Just(HoldStatus::Open), 1 => Just(HoldStatus::Committed), 1 => Just(HoldStatus::Released)],
        select(vec![1, 2_000_000]),
        of(select(vec![-1, 1])),
    );
    let origins = vec![PaymentOrigin::Here, PaymentOrigin::Imported, PaymentOrigin::ByHand];
    let decided = prop_oneof![2 => Just(PaymentStatus::Pending), 3 => select(PaymentStatus::ALL.to_vec())];
    let payment = (decided, select(origins), any::<bool>(), any::<bool>());
    let stage = prop_oneof![2 => select(JobStatus::ALL[..2].to_vec()), 1 => select(JobStatus::ALL.to_vec())];
    let job = (stage, any::<bool>(), any::<bool>());
    (
        select(vec![0, 1, 1_999_999, 2_000_000, 5_000_000, MOST - 2_000_000, MOST]),
        prop::bool::weighted(0.8),
        prop::option::weighted(0.8, hold),
        (of(select(vec![-1, 0, 1])), select(vec![0, 4, 5, 6]), select(vec![0, 1])),
        prop::option::weighted(0.8, job),
        prop::option::weighted(0.8, payment),
        prop::option::weighted(0.2, any::<bool>()),
    )
        .prop_map(|(balance, is_known, hold, quota, job, payment, key)| {
            let held = hold.map_or(0, |(status, amount, _)| if status == HoldStatus::Open { amount } else { 0 });
            State { balance: balance.min(MOST - held), is_known, hold, quota, job, payment, key }
        })
}

fn new_job(id: Option<&str>, task: Option<&str>) -> AddGenerationJob {
    AddGenerationJob {
        user: user(1),
        job: id.map(|id| id.parse().unwrap()),
        external_task_id: task.map(|task| task.parse().unwrap()),
        model_id: "m".parse().unwrap(),
        model_name: "M".parse().unwrap(),
        params: Params::from_json("{}").unwrap(),
        price: micros(1),
        key: None,
    }
}

fn new_payment(id: Option<&str>, provider: Option<&str>) -> AddPayment {
    AddPayment {
        payment: id.map(|id| id.parse().unwrap()),
        provider_key: provider.map(|provider| provider.parse().unwrap()),
        ..AddPayment::new(user(1), "2".parse().unwrap(), "card".parse().unwrap())
    }
}

/// The calls that have a form.
fn calls() -> impl Strategy<Value = Call> {
    use proptest::option::of;
    use proptest::sample::select;
    let amount = || select(vec![1, 2_000_000, MOST]).prop_map(|count| Amount::new(micros(count)).unwrap());
    let key = || of(Just("k".parse::<OperationKey>().unwrap()));
    let name = || select(vec!["h", "h", "h", "new"]).prop_map(|name| name.parse::<HoldName>().unwrap());
    let memo = || {
        of(Just(Memo { reference: Some("r".parse().unwrap()), reason: None, actor: Some("a".parse().unwrap()) }))
            .prop_map(Option::unwrap_or_default)
    };
    let (steps, decisions) = (JobStatus::ALL.to_vec(), PaymentStatus::ALL.to_vec());
    prop_oneof![
        (amount(), memo(), key())
            .prop_map(|(amount, memo, key)| AddBalance { user: user(1), amount, memo, key }.into()),
        (amount(), memo(), key())
            .prop_map(|(amount, memo, key)| SubtractBalance { user: user(1), amount, memo, key }.into()),
        (name(), amount(), memo(), key()).prop_map(|(name, amount, memo, key)| {
            ReserveBalance { memo, key, expires_at: Some(days(1)), ..ReserveBalance::new(user(1), name, amount) }.into()
        }),
        (name(), prop::option::weighted(0.3, amount()), key()).prop_map(|(name, amount, key)| CommitReserve {
            user: user(1),
            name,
            amount,
            key
        }
        .into()),
        (name(), key()).prop_map(|(name, key)| ReleaseReserve { user: user(1), name, key }.into()),
        key().prop_map(|key| IncrementFreeGenerations { user: user(1), key }.into()),
        (of(select(vec!["j", "new"])), of(select(vec!["t", "free"])), key())
            .prop_map(|(id, task, key)| AddGenerationJob { key, ..new_job(id, task) }.into()),
        (select(steps), of(Just(())), of(Just(())), key()).prop_map(|(status, urls, message, key)| {
            let mut update = UpdateJobStatus::new("j".parse().unwrap(), status);
            update.result_urls = urls.map(|()| ResultUrls::new(["https://example.org/1.png"]).unwrap());
            update.error_message = message.filter(|()| status != JobStatus::Completed).map(|()| "no".parse().unwrap());
            UpdateJobStatus { key, ..update }.into()
        }),
        (of(select(vec!["p", "new"])), of(select(vec!["v", "free"])), key())
            .prop_map(|(id, provider, key)| AddPayment { key, ..new_payment(id, provider) }.into()),
        (prop_oneof![Just(PaymentStatus::Approved), select(decisions)], of(Just(user(9))), of(Just(())), key())
            .prop_map(|(status, admin, notes, key)| {
                let mark = MarkPaymentStatus::new("p".parse().unwrap(), status);
                let notes = notes.map(|()| "n".parse().unwrap());
                MarkPaymentStatus { admin, notes, key, ..mark }.into()
            }),
    ]
}

/// Puts a state into the tables, with an operation of its own.
async fn load(tx: &mut Tx<'_>, state: &State, atom: &Atom) {
    let (now, before) = (days(0), Stamp { now: days(0), operation: OperationId::from_u128(77) });
    let receipt = Receipt { operation: before.operation, balance_after: micros(5), replayed: false };
    let mut owners = vec![(user(2), 0, 0)];
    if state.is_known {
        let held = match state.hold {
            Some((HoldStatus::Open, amount, _)) => amount,
            _ => 0,
        };
        owners.push((user(1), state.balance, held));
    }
    for (owner, balance, held) in owners {
        let mut account = Account::of(owner, None, now).unwrap();
        (account.record.balance, account.record.held, account.rows) = (micros(balance), micros(held), 3);
        if owner == user(1) {
            let (date, used, bank) = state.quota;
            let date = date.map(|offset| Policy::default().today(days(offset)));
            account.record.set_quota(Quota { date, used: if date.is_some() { used } else { 0 }, bank });
        }
        account::put(tx, before, &mut account);
    }
    tx.flush().await.unwrap();
    let owner = |is_theirs: bool| if is_theirs && state.is_known { user(1) } else { user(2) };
    if let Some((status, amount, expiry)) = state.hold.filter(|_| state.is_known) {
        let hold = Hold {
            user: user(1),
            name: "h".parse().unwrap(),
            amount: Amount::new(micros(amount)).unwrap(),
            status,
            committed: if status == HoldStatus::Committed { micros(amount) } else { Money::ZERO },
            expires_at: expiry.map(days),
            created_at: now,
            updated_at: now,
            opened: receipt,
            ended: (status != HoldStatus::Open).then_some(receipt),
        };
        reserves::put(tx, before, &hold, false);
    }
    if let Some((status, has_task, is_theirs)) = state.job {
        let task = has_task.then_some("t");
        let job = Job::create(new_job(Some("j"), task), "j".parse().unwrap(), now);
        jobs::put(tx, before, &Job { user: owner(is_theirs), status, ..job }, None);
    }
    if let Some((status, origin, has_provider, is_theirs)) = state.payment {
        let provider = has_provider.then_some("v");
        let payment = Payment::create(new_payment(Some("p"), provider), "p".parse().unwrap(), now);
        payments::put(tx, before, &Payment { user: owner(is_theirs), status, origin, ..payment }, false);
    }
    if let Some(is_same) = state.key.filter(|_| state.is_known) {
        let arguments = if is_same { atom.arguments() } else { Fingerprint::of("something", &["else"]) };
        let answer = match atom.call() {
            Call::IncrementFreeGenerations(_) => Answer::Quota(QuotaReceipt {
                operation: before.operation,
                source: QuotaSource::Bank,
                remaining_after: 1,
                replayed: false,
            }),
            Call::AddGenerationJob(_) | Call::UpdateJobStatus(_) | Call::AddPayment(_) | Call::MarkPaymentStatus(_) => {
                Answer::Record
            }
            _ => Answer::Money(receipt),
        };
        let used = UsedKey { arguments, operation: before.operation, answer };
        tx.queue_child(&tx.sql().keys.put, keys::values(user(1), KeySpace::Operation, &"k".parse().unwrap(), &used));
    }
    tx.flush().await.unwrap();
}

/// Every row of every table.
async fn tables(tx: &Tx<'_>) -> Vec<String> {
    let all =
        TABLES.map(|table| format!("SELECT '{table} ' || t::text AS row FROM public.{table} t")).join(" UNION ALL ");
    tx.asked(&format!("{all} ORDER BY 1")).await
}

fn is_replay(reply: &Reply) -> bool {
    match reply {
        Reply::Money(receipt) => receipt.replayed,
        Reply::Quota(receipt) => receipt.replayed,
        Reply::Job(stored) => stored.replayed,
        Reply::Payment(stored) => stored.replayed,
        _ => false,
    }
}

/// How often the kernel grants a call, and how often its form fires.
type Counts = BTreeMap<&'static str, (u32, u32)>;

async fn compare(storage: &PgStorage, state: &State, call: &Call, counts: &mut Counts) -> Result<(), TestCaseError> {
    let pool = storage.enter().await.unwrap();
    let link = pool.checkout(std::time::Duration::from_secs(10)).await.unwrap();
    let atom = Atom::new(call.clone(), storage.environment()).unwrap();
    let mut tx = Tx::within(&link, storage).await;
    load(&mut tx, state, &atom).await;
    let express = storage.express(&atom);
    let mut forms: Vec<(&'static str, Option<Reply>, Vec<String>)> = Vec::new();
    if let Some(express) = &express {
        tx.run("SAVEPOINT here").await;
        let rows = link.wire().rows(express.statement, &borrowed(&express.values)).await;
        let answer = match rows {
            Ok(rows) => rows.first().map(|row| (express.answer)(row).unwrap()),
            Err(error) => {
                prop_assert!(crate::fault::Fault::from(error).is_constraint());
                None
            }
        };
        let after = if answer.is_some() { tables(&tx).await } else { Vec::new() };
        forms.push((call.operation(), answer, after));
        tx.run("ROLLBACK TO here").await;
    }
    if let Some(post) = express.as_ref().and_then(|express| express.post.clone()) {
        tx.run("SAVEPOINT here").await;
        let rows = crate::gather::Post::run(&link, storage.sql(), std::slice::from_ref(&post)).await.unwrap();
        let answer = rows[0].first().zip(express.as_ref()).map(|(row, express)| (express.answer)(row).unwrap());
        let after = if answer.is_some() { tables(&tx).await } else { Vec::new() };
        forms.push((
            if post.kind == OperationKind::Credit { "gathered credit" } else { "gathered debit" },
            answer,
            after,
        ));
        tx.run("ROLLBACK TO here").await;
    }
    let decided = tx.decide(&atom).await;
    tx.flush().await.unwrap();
    let after = tables(&tx).await;
    let granted = decided.as_ref().is_ok_and(|reply| !is_replay(reply));
    drop(tx);
    for (name, answer, seen) in forms {
        let count = counts.entry(name).or_default();
        count.0 += u32::from(granted);
        let Some(answer) = answer else { continue };
        count.1 += 1;
        let Ok(decided) = &decided else {
            return Err(TestCaseError::fail(format!("{name} answered {answer:?}, the kernel {decided:?}")));
        };
        prop_assert_eq!(&answer, decided, "{}", name);
        prop_assert_eq!(&seen, &after, "{}", name);
    }
    Ok(())
}

#[test]
fn each_form_does_what_the_kernel_decides() {
    let server = Server::shared().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let database = server
        .create_database_with("alone", |url| {
            let options = PgOptions::new(url);
            let migrated = runtime.block_on(crate::migrate(&options, std::time::Duration::from_secs(30)));
            migrated.map(drop).map_err(|error| error.error().report().to_string())
        })
        .unwrap();
    let clock = Arc::new(ManualClock::at(days(0)));
    let environment = Environment {
        clock: Arc::<ManualClock>::clone(&clock),
        ids: Arc::new(SequentialIds::lane(1)),
        policy: Policy::default(),
    };
    let options = PgOptions { environment, max_connections: 1, ..PgOptions::new(database.url()) };
    let storage = runtime.block_on(PgStorage::open(options)).unwrap();
    let mut counts = Counts::new();
    let config = Config { cases: 1500, failure_persistence: None, ..Config::default() };
    let offsets = proptest::sample::select(vec![-1, 0, 1]);
    let counted = std::cell::RefCell::new(&mut counts);
    let run = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::default())).run(
        &(states(), calls(), offsets),
        |(state, call, offset)| {
            clock.set(days(offset));
            let mut counts = counted.borrow_mut();
            runtime.block_on(compare(&storage, &state, &call, &mut counts))
        },
    );
    run.unwrap();
    println!("granted by the kernel, and by the form: {counts:?}");
    for (name, (granted, fired)) in &counts {
        assert!(*granted >= 5, "{name} was hardly tried: {counts:?}");
        assert!(fired * 2 >= *granted, "{name} declines too often: {counts:?}");
    }
    assert_eq!(counts.len(), 12, "{counts:?}");
}
