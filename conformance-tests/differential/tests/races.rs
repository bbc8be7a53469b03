//! Any two calls at once, on PostgreSQL: a third session holds what they wait for (the user's row, the record's, an id that is not
//! committed), both start, both are seen to wait, it lets go. Answers and contents are those of one serial order, as the kernel has it
//! in memory.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test, whose own connection no pooler shares"
)]

use std::sync::Arc;
use std::time::Duration;

use memory_backend::MemoryPlace;
use pg_test_server::Server;
use storage_core::kernel::Call;
use storage_core::*;
use storage_pg::{PgOptions, PgStorage};
use tokio::time::sleep;

fn environment(lane: u32) -> Environment {
    let clock = ManualClock::at("2026-01-15T12:00:00Z".parse().unwrap());
    Environment { clock: Arc::new(clock), ids: Arc::new(SequentialIds::lane(lane)), policy: Policy::default() }
}

/// What the third session holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    User,
    Record,
    Id,
}

/// The ids of one round: they are its own.
struct Names {
    user: UserId,
    job: JobId,
    task: TaskId,
    payment: PaymentId,
    provider: ProviderKey,
}

impl Names {
    fn of(round: u32) -> Self {
        Self {
            user: UserId::new(i64::from(round) + 1000).unwrap(),
            job: format!("job-{round}").parse().unwrap(),
            task: format!("task-{round}").parse().unwrap(),
            payment: format!("payment-{round}").parse().unwrap(),
            provider: format!("charge-{round}").parse().unwrap(),
        }
    }
    fn new_job(&self, id: Option<JobId>, task: Option<TaskId>) -> AddGenerationJob {
        AddGenerationJob {
            user: self.user,
            job: id,
            external_task_id: task,
            model_id: "m".parse().unwrap(),
            model_name: "M".parse().unwrap(),
            params: Params::from_json("{}").unwrap(),
            price: Money::ZERO,
            key: None,
        }
    }
    fn new_payment(&self, id: Option<PaymentId>, provider: Option<ProviderKey>) -> AddPayment {
        let add = AddPayment::new(self.user, "5".parse().unwrap(), "card".parse().unwrap());
        AddPayment { payment: id, provider_key: provider, ..add }
    }
    /// What each round begins with.
    fn before(&self) -> Vec<Call> {
        vec![
            AddBalance::new(self.user, "10".parse().unwrap()).into(),
            ReserveBalance::new(self.user, "held".parse().unwrap(), "3".parse().unwrap()).into(),
            self.new_job(Some(self.job.clone()), None).into(),
            self.new_payment(Some(self.payment.clone()), None).into(),
        ]
    }
    /// Every call that has a fast form, and what may come beside it. `Held` that it waits for.
    fn calls(&self) -> Vec<(Call, Vec<Held>)> {
        use Held::{Id, Record, User};
        let (user, key) = (self.user, Some("k".parse().unwrap()));
        let amount = |text: &str| text.parse::<Amount>().unwrap();
        let hold = || "held".parse::<HoldName>().unwrap();
        let update = |status| UpdateJobStatus::new(self.job.clone(), status);
        let task = Some(self.task.clone());
        let renamed = UpdateJobStatus { external_task_id: task.clone(), ..update(JobStatus::Running) };
        let mark = |status| MarkPaymentStatus::new(self.payment.clone(), status);
        vec![
            (AddBalance { key: key.clone(), ..AddBalance::new(user, amount("1")) }.into(), vec![User]),
            (AddBalance::new(user, amount("2")).into(), vec![User]),
            (SubtractBalance { key: key.clone(), ..SubtractBalance::new(user, amount("6")) }.into(), vec![User]),
            (SubtractBalance::new(user, amount("5")).into(), vec![User]),
            (SetBalance::new(user, "1".parse().unwrap()).into(), vec![User]),
            (ReserveBalance::new(user, "new".parse().unwrap(), amount("4")).into(), vec![User]),
            (CommitReserve::new(user, hold()).into(), vec![User, Record]),
            (ReleaseReserve::new(user, hold()).into(), vec![User, Record]),
            (IncrementFreeGenerations { user, key }.into(), vec![User]),
            (self.new_job(None, task.clone()).into(), vec![User, Id]),
            (self.new_job(Some(format!("other-{}", self.job).parse().unwrap()), task).into(), vec![User, Id]),
            (update(JobStatus::Running).into(), vec![User, Record]),
            (update(JobStatus::Completed).into(), vec![User, Record]),
            (renamed.into(), vec![User, Record, Id]),
            (self.new_payment(None, Some(self.provider.clone())).into(), vec![User, Id]),
            (mark(PaymentStatus::Approved).into(), vec![User, Record]),
            (mark(PaymentStatus::Rejected).into(), vec![User, Record]),
        ]
    }
    /// The statement that holds it.
    fn hold(&self, held: Held) -> String {
        let user = self.user;
        match held {
            Held::User => format!("SELECT 1 FROM users WHERE id = {user} FOR UPDATE"),
            Held::Record => format!(
                "SELECT 1 FROM balance_reserves WHERE user_id = {user} FOR UPDATE;
                 SELECT 1 FROM generation_jobs WHERE user_id = {user} FOR UPDATE;
                 SELECT 1 FROM payments WHERE user_id = {user} FOR UPDATE"
            ),
            Held::Id => format!(
                "INSERT INTO id_routes (kind, id, user_id) VALUES ('task', '{}', 999), ('provider', '{}', 999)",
                self.task, self.provider
            ),
        }
    }
}

/// Makes a call, and tells what came of it.
async fn made(storage: &dyn Storage, call: Call) -> String {
    fn told<T: std::fmt::Debug>(outcome: Result<T>) -> String {
        match outcome {
            Ok(answer) => format!("{answer:?}"),
            Err(error) => format!("{:?}", error.kind()),
        }
    }
    match call {
        Call::AddBalance(add) => told(storage.add_balance(add).await),
        Call::SubtractBalance(subtract) => told(storage.subtract_balance(subtract).await),
        Call::SetBalance(set) => told(storage.set_balance(set).await),
        Call::ReserveBalance(reserve) => told(storage.reserve_balance(reserve).await),
        Call::CommitReserve(commit) => told(storage.commit_reserve(commit).await),
        Call::ReleaseReserve(release) => told(storage.release_reserve(release).await),
        Call::IncrementFreeGenerations(take) => told(storage.increment_free_generations(take).await),
        Call::AddGenerationJob(add) => told(storage.add_generation_job(add).await),
        Call::UpdateJobStatus(update) => told(storage.update_job_status(update).await),
        Call::AddPayment(add) => told(storage.add_payment(add).await),
        Call::MarkPaymentStatus(mark) => told(storage.mark_payment_status(mark).await),
        other => panic!("this test does not make {other:?}"),
    }
}

async fn connected(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn dumped(storage: &dyn Storage) -> String {
    let mut bytes = Vec::new();
    storage.dump(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

/// What one order comes to: the answers, each by its call, and the contents.
async fn in_order(before: &str, lanes: [u32; 2], calls: [&Call; 2], first: usize) -> ([String; 2], String) {
    let place = Arc::new(MemoryPlace::default());
    let [one, other] = lanes.map(|lane| memory_backend::open(Arc::clone(&place), environment(lane)));
    let handles = [one.await.unwrap(), other.await.unwrap()];
    handles[0].restore(&mut std::io::Cursor::new(before.as_bytes().to_vec())).await.unwrap();
    let mut answers = [String::new(), String::new()];
    for at in [first, 1 - first] {
        answers[at] = made(&handles[at], calls[at].clone()).await;
    }
    (answers, dumped(&handles[0]).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_calls_that_wait_for_one_row_have_an_order() {
    let server = Server::shared().unwrap();
    let (mut round, mut waited, mut rounds) = (0, 0, 0);
    let count = Names::of(0).calls().len();
    let mut database = None;
    for one in 0..count {
        for other in one..count {
            for held in [Held::User, Held::Record, Held::Id] {
                let is_waited_for = |at: usize| Names::of(0).calls()[at].1.contains(&held);
                if !is_waited_for(one) || !is_waited_for(other) {
                    continue;
                }
                round += 1;
                // A store of a few users is dumped at once.
                if round % 40 == 1 {
                    database = Some(conformance_differential::database(server).unwrap());
                }
                let url = database.as_ref().unwrap().url();
                let names = Names::of(round);
                let options = |lane| PgOptions {
                    environment: environment(lane),
                    max_connections: 2,
                    ..PgOptions::new(url.clone())
                };
                let first = PgStorage::open(options(100 + round)).await.unwrap();
                for call in names.before() {
                    made(&first, call).await;
                }
                // A session sees one moment of the others for as long as its transaction lasts, so somebody else watches.
                let [holder, watcher] = [connected(&url).await, connected(&url).await];
                holder.batch_execute("INSERT INTO users (id) VALUES (999) ON CONFLICT DO NOTHING").await.unwrap();
                let before = dumped(&first).await;
                first.close().await.unwrap();
                let [a, b] = [one, other].map(|at| names.calls()[at].0.clone());
                holder.batch_execute("BEGIN").await.unwrap();
                holder.batch_execute(&names.hold(held)).await.unwrap();
                let mut opened = Vec::new();
                // Ids that no other round mints.
                let lanes = [10_000 + 2 * round, 10_001 + 2 * round];
                for lane in lanes {
                    opened.push(Arc::new(PgStorage::open(options(lane)).await.unwrap()));
                }
                let tasks: Vec<_> = [(0, a.clone()), (1, b.clone())]
                    .into_iter()
                    .map(|(at, call)| {
                        let storage = Arc::clone(&opened[at]);
                        tokio::spawn(async move { made(&*storage, call).await })
                    })
                    .collect();
                // Both wait, or are done.
                for _ in 0..400 {
                    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                               AND wait_event_type = 'Lock' AND state = 'active'";
                    let waiting: i64 = watcher.query_one(sql, &[]).await.unwrap().get(0);
                    let done = tasks.iter().filter(|task| task.is_finished()).count();
                    if usize::try_from(waiting).unwrap() + done >= 2 {
                        waited += u32::from(waiting == 2);
                        break;
                    }
                    sleep(Duration::from_millis(5)).await;
                }
                holder.batch_execute("ROLLBACK").await.unwrap();
                let mut answers = Vec::new();
                for task in tasks {
                    answers.push(task.await.unwrap());
                }
                let seen = ([answers[0].clone(), answers[1].clone()], dumped(&*opened[0]).await);
                let orders = [in_order(&before, lanes, [&a, &b], 0).await, in_order(&before, lanes, [&a, &b], 1).await];
                let of_this_round = |(answers, contents): &([String; 2], String)| {
                    let mark = format!("\"user\":{}", names.user);
                    let lines: Vec<&str> = contents.lines().filter(|line| line.contains(&mark)).collect();
                    format!("{answers:#?}\n{}", lines.join("\n"))
                };
                assert!(
                    orders.contains(&seen),
                    "{held:?} held, {a:?} and {b:?}\n{}\nis neither\n{}\nnor\n{}",
                    of_this_round(&seen),
                    of_this_round(&orders[0]),
                    of_this_round(&orders[1])
                );
                for storage in opened {
                    storage.close().await.unwrap();
                }
                rounds += 1;
            }
        }
    }
    println!("{rounds} pairs, both seen to wait in {waited}");
    assert!(waited * 10 >= rounds * 9, "only {waited} of {rounds} pairs waited");
}
