//! How many round trips each operation takes, counted on the wire: the table in `docs/postgres.md` is what this test saw.
//!
//! `GOLDEN=write cargo test -p storage-pg --test round_trips` writes the table anew.
#![expect(
    clippy::unwrap_used,
    clippy::many_single_char_names,
    reason = "helpers of tests: a surprise is a failure; a row of the table in a line"
)]

mod support;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use pg_test_server::Server;
use storage_core::{
    AddBalance, AddGenerationJob, AddGenerationToHistory, AddPayment, AddReferralBonus, CommitReserve, GetReferrals,
    GetUserGenerationsHistory, IncrementFreeGenerations, JobStatus, ListJobs, ListOperations, ListPayments,
    ListReserves, MarkPaymentStatus, PageRequest, PageSize, Params, PaymentStatus, RefundPayment, ReleaseReserve,
    ReserveBalance, Result, ResultUrls, ReturnFreeGeneration, SetAdminLimit, SetBalance, SetGiftClaimed, SetReferrer,
    SetUserLanguage, Storage, SubtractBalance, UpdateJobStatus, UserId,
};
use storage_pg::{PgOptions, PgStorage, Statements};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/postgres.md");
const BEGIN: &str = "<!-- round trips: written by storage-pg/tests/round_trips.rs -->\n";
const END: &str = "<!-- end of round trips -->";

/// Counts how often the client speaks after the server did: a round trip each.
#[derive(Debug, Default)]
struct Counter {
    trips: AtomicU32,
    /// Whose turn was the last: 1 the client's, 2 the server's.
    last: AtomicU8,
}

/// A proxy in front of the server; answers its port.
async fn count_through(server_port: u16, counter: Arc<Counter>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", server_port)).await.unwrap();
            let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                (client.into_split(), server.into_split());
            let counting = Arc::clone(&counter);
            tokio::spawn(async move {
                let mut buffer = vec![0; 65_536];
                while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
                    if counting.last.swap(1, Ordering::SeqCst) != 1 {
                        counting.trips.fetch_add(1, Ordering::SeqCst);
                    }
                    to_server.write_all(&buffer[..count]).await.unwrap();
                }
            });
            let counting = Arc::clone(&counter);
            tokio::spawn(async move {
                let mut buffer = vec![0; 65_536];
                while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
                    counting.last.store(2, Ordering::SeqCst);
                    to_client.write_all(&buffer[..count]).await.unwrap();
                }
            });
        }
    });
    port
}

struct Table {
    counter: Arc<Counter>,
    text: String,
}

impl Table {
    async fn row<T>(&mut self, operation: &str, case: &str, call: impl Future<Output = Result<T>>) {
        self.counter.trips.store(0, Ordering::SeqCst);
        self.counter.last.store(0, Ordering::SeqCst);
        if let Err(error) = call.await {
            assert!(case.contains("refused"), "{operation}, {case}: {}", error.report());
        }
        let trips = self.counter.trips.load(Ordering::SeqCst);
        let _ = writeln!(self.text, "| `{operation}` | {case} | {trips} |");
    }
}

fn job(user: UserId, id: &str) -> AddGenerationJob {
    AddGenerationJob {
        user,
        job: Some(id.parse().unwrap()),
        external_task_id: Some(format!("task of {id}").parse().unwrap()),
        model_id: "m".parse().unwrap(),
        model_name: "M".parse().unwrap(),
        params: Params::from_json("{}").unwrap(),
        price: "1".parse().unwrap(),
        key: None,
    }
}

fn generation(user: UserId, id: &str) -> AddGenerationToHistory {
    let AddGenerationJob { model_id, model_name, params, price, .. } = job(user, id);
    let result_urls = ResultUrls::default();
    AddGenerationToHistory { user, id: Some(id.parse().unwrap()), model_id, model_name, params, result_urls, price }
}

// One thread: what is sent together then leaves together, and the count is the same every time.
#[tokio::test]
async fn the_guide_says_how_many_round_trips_each_operation_takes() {
    let server = Server::shared().unwrap();
    let database = support::database(server).unwrap();
    let counter = Arc::new(Counter::default());
    let port = count_through(server.port(), Arc::clone(&counter)).await;
    let url = database.url().replace(&format!(":{}/", server.port()), &format!(":{port}/"));
    let mut options = PgOptions { max_connections: 1, ..PgOptions::new(format!("{url}?sslmode=disable")) };
    options.statements = Statements::Unnamed;
    let storage: Arc<dyn Storage> = Arc::new(PgStorage::open(options).await.unwrap());
    let s = &*storage;
    let (a, b) = (UserId::new(1).unwrap(), UserId::new(2).unwrap());
    let key = || Some("k".parse().unwrap());
    let p = |id: &str| AddPayment {
        payment: Some(id.parse().unwrap()),
        ..AddPayment::new(a, "5".parse().unwrap(), "card".parse().unwrap())
    };
    let mark = |id: &str, status| MarkPaymentStatus::new(id.parse().unwrap(), status);
    let hold = |name: &str| ReserveBalance::new(a, name.parse().unwrap(), "2".parse().unwrap());
    let mut table = Table { counter, text: String::from("| operation | case | round trips |\n| --- | --- | --- |\n") };
    let t = &mut table;
    // The pool's own connection is there before anything is counted.
    s.ping().await.unwrap();
    t.row("get_user", "first call", s.get_user(a)).await;
    t.row("get_user", "known user", s.get_user(a)).await;
    t.row("find_user", "", s.find_user(a)).await;
    t.row("list_users", "a page", s.list_users(PageRequest::first(PageSize::MAX))).await;
    t.row("get_user_language", "", s.get_user_language(a)).await;
    t.row("set_user_language", "", s.set_user_language(SetUserLanguage::new(a, "en".parse().unwrap()))).await;
    t.row("has_claimed_gift", "", s.has_claimed_gift(a)).await;
    t.row("set_gift_claimed", "", s.set_gift_claimed(SetGiftClaimed::new(a))).await;
    t.row("get_balance", "", s.get_balance(a)).await;
    let add = AddBalance { key: key(), ..AddBalance::new(a, "100".parse().unwrap()) };
    t.row("add_balance", "", s.add_balance(add.clone())).await;
    t.row("add_balance", "a replay", s.add_balance(add)).await;
    t.row("subtract_balance", "", s.subtract_balance(SubtractBalance::new(a, "1".parse().unwrap()))).await;
    let short = SubtractBalance::new(a, "1000".parse().unwrap());
    t.row("subtract_balance", "refused, too little money", s.subtract_balance(short)).await;
    t.row("set_balance", "", s.set_balance(SetBalance::new(a, "50".parse().unwrap()))).await;
    t.row("reserve_balance", "", s.reserve_balance(hold("h-1"))).await;
    t.row("commit_reserve", "all of it", s.commit_reserve(CommitReserve::new(a, "h-1".parse().unwrap()))).await;
    s.reserve_balance(hold("h-2")).await.unwrap();
    let part = CommitReserve { amount: Some("1".parse().unwrap()), ..CommitReserve::new(a, "h-2".parse().unwrap()) };
    t.row("commit_reserve", "a part", s.commit_reserve(part)).await;
    s.reserve_balance(hold("h-3")).await.unwrap();
    t.row("release_reserve", "", s.release_reserve(ReleaseReserve::new(a, "h-3".parse().unwrap()))).await;
    t.row("find_reserve", "", s.find_reserve(a, &"h-1".parse().unwrap())).await;
    t.row("list_reserves", "a page", s.list_reserves(ListReserves::default())).await;
    t.row("release_expired_reserves", "none expired", s.release_expired_reserves(PageSize::MAX)).await;
    s.reserve_balance(hold("h-4").expiring_at(storage_core::Timestamp::MIN)).await.unwrap();
    t.row("release_expired_reserves", "one expired", s.release_expired_reserves(PageSize::MAX)).await;
    t.row("list_operations", "a page", s.list_operations(ListOperations::of(a))).await;
    t.row("audit", "one user", s.audit(storage_core::AuditScope::User(a))).await;
    t.row("audit", "everyone, to 500 users", s.audit(storage_core::AuditScope::Everyone)).await;
    t.row("get_user_free_generations_today", "", s.get_user_free_generations_today(a)).await;
    t.row("get_user_free_generations_remaining", "", s.get_user_free_generations_remaining(a)).await;
    let take = IncrementFreeGenerations { user: a, key: Some("take".parse().unwrap()) };
    t.row("increment_free_generations", "from the day", s.increment_free_generations(take)).await;
    let give_back = ReturnFreeGeneration { user: a, take: "take".parse().unwrap() };
    t.row("return_free_generation", "", s.return_free_generation(give_back)).await;
    t.row("add_referral_bonus", "", s.add_referral_bonus(AddReferralBonus::new(a))).await;
    t.row("get_admin_limit", "", s.get_admin_limit(a)).await;
    t.row("set_admin_limit", "", s.set_admin_limit(SetAdminLimit::new(a, "5".parse().unwrap()))).await;
    t.row("get_admin_spent", "", s.get_admin_spent(a)).await;
    t.row("get_admin_remaining", "", s.get_admin_remaining(a)).await;
    t.row("add_generation_job", "", s.add_generation_job(job(a, "j-1"))).await;
    t.row("add_generation_job", "a replay", s.add_generation_job(job(a, "j-1"))).await;
    let to = |status| UpdateJobStatus::new("j-1".parse().unwrap(), status);
    t.row("update_job_status", "", s.update_job_status(to(JobStatus::Running))).await;
    let renamed = UpdateJobStatus { external_task_id: Some("t-2".parse().unwrap()), ..to(JobStatus::Completed) };
    t.row("update_job_status", "with a new external id", s.update_job_status(renamed)).await;
    t.row("get_job", "", s.get_job(&"j-1".parse().unwrap())).await;
    t.row("find_job_by_task_id", "", s.find_job_by_task_id(&"t-2".parse().unwrap())).await;
    t.row("list_jobs", "a page", s.list_jobs(ListJobs::default())).await;
    t.row("add_generation_to_history", "", s.add_generation_to_history(generation(a, "g-1"))).await;
    let history = GetUserGenerationsHistory::of(a);
    t.row("get_user_generations_history", "a page", s.get_user_generations_history(history)).await;
    t.row("add_payment", "", s.add_payment(p("p-1"))).await;
    t.row("add_payment", "a replay", s.add_payment(p("p-1"))).await;
    t.row("mark_payment_status", "approved", s.mark_payment_status(mark("p-1", PaymentStatus::Approved))).await;
    let again = s.mark_payment_status(mark("p-1", PaymentStatus::Approved));
    t.row("mark_payment_status", "approved, a replay", again).await;
    s.add_payment(p("p-2")).await.unwrap();
    t.row("mark_payment_status", "rejected", s.mark_payment_status(mark("p-2", PaymentStatus::Rejected))).await;
    t.row("refund_payment", "", s.refund_payment(RefundPayment::new("p-1".parse().unwrap()))).await;
    t.row("get_payment", "", s.get_payment(&"p-1".parse().unwrap())).await;
    t.row("list_payments", "a page", s.list_payments(ListPayments::default())).await;
    t.row("set_referrer", "the first time", s.set_referrer(SetReferrer::new(b, a))).await;
    t.row("set_referrer", "the same again", s.set_referrer(SetReferrer::new(b, a))).await;
    t.row("get_referrer", "", s.get_referrer(b)).await;
    t.row("get_referrals", "a page", s.get_referrals(GetReferrals::of(a))).await;
    t.row("ping", "", s.ping()).await;
    let guide = std::fs::read_to_string(GUIDE).unwrap();
    let (before, rest) = guide.split_once(BEGIN).unwrap();
    let (kept, after) = rest.split_once(END).unwrap();
    if std::env::var("GOLDEN").is_ok_and(|word| word == "write") {
        #[expect(clippy::disallowed_methods, reason = "the guide is no part of a store")]
        std::fs::write(GUIDE, format!("{before}{BEGIN}{}{END}{after}", table.text)).unwrap();
    } else {
        assert_eq!(table.text, kept, "docs/postgres.md tells other round trips: look at it, then GOLDEN=write");
    }
}
