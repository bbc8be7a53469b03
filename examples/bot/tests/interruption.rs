//! The bot is killed again and again, anywhere, and each user is charged for what was delivered and for nothing else.
//!
//! `BOT_KILLS` says how often, on each backend (default 12; `scripts/prove bot` takes 200), `BOT_SEED` where chance
//! begins. A kill comes at a request to Telegram, before or after it did what it says, or a moment later, which is
//! between two steps of the store.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that fails must stop; a long one tells how far it is"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::{ADMIN, Place, bot, press, told, until, user};
use fake_telegram::{Cut, Posted, Telegram, When};
use storage_core::{
    AuditScope, CivilDate, Clock as _, GetReferrals, HoldStatus, Job, JobStatus, ListJobs, ListOperations,
    ListPayments, ListReserves, Money, OperationKind, Payment, PaymentStatus, Policy, SharedStorage, SystemClock,
};

const USERS: std::ops::RangeInclusive<i64> = 1001..=1006;
/// What each of them pays at a time: a good many pictures.
const RECEIPT: u64 = 150;

/// splitmix64, as in the benchmarks: a seed is a history.
struct Chance(u64);

impl Chance {
    fn below(&mut self, many: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % many
    }
    fn user(&mut self) -> i64 {
        USERS.start() + i64::try_from(self.below(6)).unwrap()
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// What people did, and must not be lost.
#[derive(Default)]
struct Played {
    receipts: u64,
    /// The messages that asked for a picture, with who wrote them.
    asked: Vec<(i64, i32)>,
    /// The offers that were pressed.
    pressed: BTreeSet<(i64, i32)>,
}

/// Somebody does something.
fn something(telegram: &Telegram, chance: &mut Chance, played: &mut Played) {
    let who = chance.user();
    let buttons = |chat: Vec<Posted>| chat.into_iter().rev().filter(|posted| !posted.buttons.is_empty());
    match chance.below(12) {
        0..4 => {
            let word = ["impossible", "unreliable", "cat", "dog", "bird"][usize::try_from(chance.below(5)).unwrap()];
            let asked = telegram.say(who, &format!("/generate a {word} number {}", played.asked.len()));
            played.asked.push((who, asked));
        }
        4..7 => {
            for posted in buttons(telegram.chat(who)).take(4) {
                played.pressed.insert((who, posted.id));
                // Some press as often as it takes.
                for _ in 0..=chance.below(2) {
                    press(telegram, who, &posted, "generate");
                }
            }
        }
        7 => {
            // Sometimes a receipt that was sent before.
            let receipt =
                if chance.below(4) == 0 { chance.below(played.receipts + 1) } else { played.receipts + 1 }.max(1);
            played.receipts = played.receipts.max(receipt);
            telegram.photo(who, &format!("receipt-{receipt}"), &format!("/paid {RECEIPT}"));
        }
        8..11 => {
            for posted in buttons(telegram.chat(ADMIN)).take(4) {
                let word = if chance.below(4) == 0 { "reject" } else { "approve" };
                press(telegram, ADMIN, &posted, word);
            }
        }
        _ => drop(telegram.say(who, &format!("/start ref_{}", chance.user()))),
    }
}

async fn killed(place: Place) {
    let (kills, seed) = (number("BOT_KILLS", 12), number("BOT_SEED", 1));
    let more = [("BOT_TAKES_MS", "3"), ("STORAGE_DAILY_FREE", "2")];
    let telegram = Telegram::start("127.0.0.1:0").await.unwrap();
    // Between the kills some requests go wrong, which the bot outlives.
    telegram.fail_every(29);
    let mut chance = Chance(seed);
    let mut played = Played::default();
    telegram.say(ADMIN, "/start");
    let began = today();
    for kill in 1..=kills {
        for _ in 0..chance.below(8) {
            something(&telegram, &mut chance, &mut played);
        }
        let when = if chance.below(2) == 0 { When::Before } else { When::After };
        let mut reached = telegram.cut(Cut { passing: chance.below(60), when });
        let mut bot = bot(&telegram, &place, &more);
        // People go on until it is reached, and no faster than they are answered.
        while tokio::time::timeout(Duration::from_millis(5), &mut reached).await.is_err() {
            if telegram.unconfirmed() < 8 {
                something(&telegram, &mut chance, &mut played);
            }
        }
        // What hung on no request goes on meanwhile.
        tokio::time::sleep(Duration::from_micros(chance.below(4000))).await;
        bot.kill().await.unwrap();
        telegram.uncut();
        if kill % 20 == 0 {
            println!("{kill} kills of {kills}");
        }
    }

    // And then it is left alone.
    let storage = place.open().await;
    let last = bot(&telegram, &place, &more);
    for _ in 0..20 {
        something(&telegram, &mut chance, &mut played);
    }
    settled(&telegram, &storage).await;
    // The admin decides what is left.
    for posted in telegram.chat(ADMIN).into_iter().filter(|posted| !posted.buttons.is_empty()) {
        press(&telegram, ADMIN, &posted, "approve");
    }
    settled(&telegram, &storage).await;
    drop(last);
    nothing_lost(&telegram, &storage, &played).await;
    let found = Found::look(&telegram, &storage, began == today()).await;
    println!(
        "seed {seed}: {kills} kills; {} asked for, {} ordered: {} delivered ({} of them free), {} called off; {} receipts",
        played.asked.len(),
        played.pressed.len(),
        found.delivered,
        found.free,
        found.called_off,
        played.receipts
    );
    assert!(found.delivered > 0 && found.called_off > 0, "nothing was tried");
}

/// Whoever asked was answered, whoever pressed has ordered, whoever paid has been noted.
async fn nothing_lost(telegram: &Telegram, storage: &SharedStorage, played: &Played) {
    for &(who, asked) in &played.asked {
        assert!(
            telegram.chat(who).iter().any(|posted| posted.reply_to == Some(asked)),
            "{who} was not answered: {asked}"
        );
    }
    for &(who, offer) in &played.pressed {
        let job = storage.get_job(&format!("tg-1-{who}-{offer}").parse().unwrap()).await.unwrap();
        assert!(job.is_some(), "{who} pressed {offer}, and there is no job");
    }
    let payments = payments(storage).await;
    let noted: BTreeSet<&str> =
        payments.iter().filter_map(|payment| Some(payment.provider_key.as_ref()?.as_str())).collect();
    assert_eq!(noted.len(), payments.len(), "one receipt is one payment");
    let undecided: Vec<_> = payments.iter().filter(|payment| payment.status == PaymentStatus::Pending).collect();
    assert!(undecided.is_empty(), "no admin was asked: {undecided:#?}");
    for receipt in 1..=played.receipts {
        assert!(noted.contains(format!("telegram-receipt-{receipt}").as_str()), "receipt {receipt} is lost");
    }
}

/// Everything was heard and every job is at its end.
async fn settled(telegram: &Telegram, storage: &SharedStorage) {
    until("everything confirmed", || telegram.unconfirmed() == 0).await;
    let end = tokio::time::Instant::now() + Duration::from_mins(1);
    loop {
        let jobs = jobs(storage).await;
        if jobs.iter().all(|job| job.status.is_final()) {
            return;
        }
        assert!(tokio::time::Instant::now() < end, "{jobs:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn jobs(storage: &SharedStorage) -> Vec<Job> {
    let mut list = ListJobs::default();
    let mut jobs = Vec::new();
    loop {
        let page = storage.list_jobs(list.clone()).await.unwrap();
        jobs.extend(page.items.iter().map(|job| Job::clone(job)));
        let Some(next) = page.next else { return jobs };
        list.page.after = Some(next);
    }
}

async fn payments(storage: &SharedStorage) -> Vec<Payment> {
    let mut list = ListPayments::default();
    let mut payments = Vec::new();
    loop {
        let page = storage.list_payments(list.clone()).await.unwrap();
        payments.extend(page.items.iter().map(|payment| Payment::clone(payment)));
        let Some(next) = page.next else { return payments };
        list.page.after = Some(next);
    }
}

/// What came out of it.
#[derive(Default)]
struct Found {
    delivered: usize,
    free: usize,
    called_off: usize,
}

impl Found {
    /// Compares what people have with what they paid.
    async fn look(telegram: &Telegram, storage: &SharedStorage, one_day: bool) -> Self {
        let audit = storage.audit(AuditScope::Everyone).await.unwrap();
        assert!(audit.is_clean(), "{:#?}", audit.findings);
        let open = ListReserves { status: Some(HoldStatus::Open), ..Default::default() };
        assert_eq!(storage.list_reserves(open).await.unwrap().items, [], "money is held for nothing");

        let jobs = jobs(storage).await;
        let mut found = Self::default();
        let mut credited = BTreeSet::new();
        for who in USERS {
            let ledger = ledger(storage, who).await;
            let chat = telegram.chat(who);
            let (mut spent, free_before) = (Money::ZERO, found.free);
            for job in jobs.iter().filter(|job| job.user == user(who)) {
                let committed = ledger.get(&(OperationKind::Commit, job.id.as_str().to_owned())).copied().unwrap_or(0);
                if found.judge(job, &chat, committed) {
                    spent = spent.checked_add(job.price).unwrap();
                }
            }
            // A quota of a day that is over tells nothing any more.
            if one_day {
                assert_eq!(free_taken(storage, who).await, found.free - free_before, "{who}: free generations");
            }
            let payments = ledger.keys().filter(|(kind, _)| *kind == OperationKind::Payment);
            credited.extend(payments.map(|(_, payment)| payment.clone()));
            assert_eq!(
                storage.get_admin_spent(user(who)).await.unwrap().to_string(),
                spent.to_string(),
                "{who}: history"
            );
            let paid: u64 =
                ledger.iter().filter(|((kind, _), _)| *kind == OperationKind::Payment).map(|(_, n)| n).sum();
            let paid = Money::from_units(paid * RECEIPT).unwrap();
            let balance = storage.get_balance(user(who)).await.unwrap();
            assert_eq!(balance.checked_add(spent).unwrap(), paid, "{who}: balance {balance}, spent {spent}");
        }
        // Each payment that was approved is one credit, and the other way round.
        let approved = payments(storage).await.into_iter().filter(|payment| payment.status == PaymentStatus::Approved);
        let approved: BTreeSet<String> = approved.map(|payment| payment.id.to_string()).collect();
        assert_eq!(credited, approved, "credited and approved");
        let captions = telegram.chat(ADMIN).iter().filter(|posted| posted.text.contains("approved by")).count();
        assert!(captions >= credited.len(), "{} were approved, the admin sees {captions}", credited.len());
        // Nobody has a picture of nobody's job.
        let chats = USERS.chain([ADMIN]).flat_map(|who| telegram.chat(who));
        let pictures =
            chats.filter(|posted| posted.text.contains("https://") && !posted.text.contains("credits:")).count();
        assert_eq!(pictures, found.delivered, "pictures and deliveries");
        found
    }

    /// Whether the user paid for a job, which must be so exactly when it was delivered and was not free.
    fn judge(&mut self, job: &Job, chat: &[Posted], committed: u64) -> bool {
        let id: i32 = job.id.as_str().rsplit('-').next().unwrap().parse().unwrap();
        let posted = chat.iter().find(|posted| posted.id == id).unwrap();
        let shown = |text: &String| text.contains("https://example.org/");
        let times = chat.iter().flat_map(|posted| posted.earlier.iter().chain([&posted.text]));
        let url = format!("/{}.png", job.id);
        let times = times.filter(|text| text.contains(&url)).count();
        match job.status {
            JobStatus::Completed => {
                assert!(shown(&posted.text), "{job:?}: {posted:?}");
                assert_eq!(times, 1, "delivered once: {job:?}: {posted:?}");
                assert!(committed <= 1, "{job:?} was charged {committed} times");
                self.delivered += 1;
                self.free += usize::from(committed == 0);
                committed == 1
            }
            _ => {
                assert!(posted.text.contains("You were charged nothing"), "{job:?}: {posted:?}");
                assert_eq!((times, committed), (0, 0), "{job:?}: {posted:?}");
                self.called_off += 1;
                false
            }
        }
    }
}

/// How many free generations are gone: of today's quota, and of the bank that friends filled.
async fn free_taken(storage: &SharedStorage, who: i64) -> usize {
    // This handle has the default policy.
    let daily = u64::from(Policy::default().daily_free_generations);
    let left = storage.get_user_free_generations_remaining(user(who)).await.unwrap();
    let friends = storage.get_referrals(GetReferrals::of(user(who))).await.unwrap().items;
    let granted: u64 = friends.iter().map(|friend| u64::from(friend.bonus)).sum();
    usize::try_from((granted + daily).checked_sub(left).unwrap()).unwrap()
}

/// The day, as the store counts it.
fn today() -> CivilDate {
    Policy::default().today(SystemClock.now())
}

/// How many rows of each kind there are for each reference. A row of a kind that is there twice for one is a defect.
async fn ledger(storage: &SharedStorage, who: i64) -> BTreeMap<(OperationKind, String), u64> {
    let mut rows = BTreeMap::new();
    let mut list = ListOperations::of(user(who));
    loop {
        let page = storage.list_operations(list.clone()).await.unwrap();
        for row in &page.items {
            let reference = row.reference.as_ref().map_or("", |reference| reference.as_str());
            *rows.entry((row.kind, reference.to_owned())).or_insert(0) += 1;
        }
        let Some(next) = page.next else { break };
        list.page.after = Some(next);
    }
    assert!(rows.values().all(|&count| count == 1), "{who}: something was booked twice: {rows:#?}");
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_anywhere_on_json() {
    killed(Place::json()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_anywhere_on_postgresql() {
    killed(Place::postgres()).await;
}

/// What was told to a bot that died is told again, to the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_in_the_hands_of_a_bot_that_dies_is_not_lost() {
    let (telegram, place) = (Telegram::start("127.0.0.1:0").await.unwrap(), Place::json());
    telegram.say(1001, "/start");
    // The answer to the update is lost: GetUpdates passes, SendMessage does not come back.
    let reached = telegram.cut(Cut { passing: 1, when: When::Before });
    let mut dying = bot(&telegram, &place, &[]);
    reached.await.unwrap();
    dying.kill().await.unwrap();
    telegram.uncut();
    assert_eq!(telegram.chat(1001).len(), 1, "nothing was answered");
    let _bot = bot(&telegram, &place, &[]);
    told(&telegram, 1001, "Hello!").await;
}
