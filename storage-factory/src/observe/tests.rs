//! One of each operation, and what is told of it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails must stop")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Cursor;
use std::sync::Mutex;
use std::task::Poll;

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use storage_core::{BonusCount, JobStatus, Params, PaymentStatus, ResultUrls, Storage};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::*;
use crate::{Config, Mode, connect};

type Told = BTreeMap<&'static str, String>;

/// Spans with their fields, as they stand when they are closed.
#[derive(Default)]
struct Spans {
    open: Mutex<BTreeMap<u64, (String, Told)>>,
    closed: Arc<Mutex<Vec<String>>>,
}

struct Fields<'f>(&'f mut Told);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "storage"
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut open = self.open.lock().unwrap();
        let number = open.keys().last().map_or(1, |last| last + 1);
        let mut fields = BTreeMap::new();
        span.record(&mut Fields(&mut fields));
        open.insert(number, (span.metadata().name().to_owned(), fields));
        Id::from_u64(number)
    }
    fn record(&self, span: &Id, values: &Record<'_>) {
        if let Some((_, fields)) = self.open.lock().unwrap().get_mut(&span.into_u64()) {
            values.record(&mut Fields(fields));
        }
    }
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        panic!("no event is told: {event:?}");
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
    fn try_close(&self, id: Id) -> bool {
        let mut open = self.open.lock().unwrap();
        let Some((name, fields)) = open.get(&id.into_u64()).cloned() else { return true };
        // A span is cloned into the work that it is about; the one that is told has its outcome.
        if fields.contains_key("outcome") {
            open.remove(&id.into_u64());
            let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
            self.closed.lock().unwrap().push(format!("{name} {}", fields.join(" ")));
        }
        true
    }
}

/// One of each, most of them twice, with marked names and figures.
async fn each(storage: &dyn Storage) -> Result<()> {
    let (user, other) = (UserId::new(424_242)?, UserId::new(434_343)?);
    let key = || Some("MARKED-key".parse().unwrap());
    storage.ping().await?;
    storage.get_user(user).await?;
    storage.find_user(user).await?;
    storage.list_users(PageRequest::default()).await?;
    storage.get_user_language(user).await?;
    storage.set_user_language(SetUserLanguage::new(user, "en".parse()?)).await?;
    storage.has_claimed_gift(user).await?;
    storage.set_gift_claimed(SetGiftClaimed::new(user)).await?;
    for _ in 0..2 {
        storage.add_balance(AddBalance { key: key(), ..AddBalance::new(user, "4242.42".parse()?) }).await?;
    }
    storage.get_balance(user).await?;
    let too_much = storage.subtract_balance(SubtractBalance::new(user, "9999999".parse()?)).await;
    assert_eq!(too_much.unwrap_err().kind().name(), "InsufficientFunds");
    storage.set_balance(SetBalance::new(user, "4242.43".parse()?)).await?;
    for name in ["MARKED-1", "MARKED-2"] {
        storage.reserve_balance(ReserveBalance::new(user, name.parse()?, "1".parse()?)).await?;
    }
    storage.commit_reserve(CommitReserve::new(user, "MARKED-1".parse()?)).await?;
    storage.release_reserve(ReleaseReserve::new(user, "MARKED-2".parse()?)).await?;
    storage.find_reserve(user, &"MARKED-1".parse()?).await?;
    storage.list_reserves(ListReserves::default()).await?;
    storage.release_expired_reserves(PageSize::DEFAULT).await?;
    storage.list_operations(ListOperations::of(user)).await?;
    storage.audit(AuditScope::Everyone).await?;
    storage.get_user_free_generations_today(user).await?;
    storage.get_user_free_generations_remaining(user).await?;
    let take = IncrementFreeGenerations { user, key: Some("MARKED-take".parse()?) };
    storage.increment_free_generations(take).await?;
    storage.return_free_generation(ReturnFreeGeneration { user, take: "MARKED-take".parse()? }).await?;
    storage.add_referral_bonus(AddReferralBonus { referrer: user, count: BonusCount::new(5)?, key: None }).await?;
    storage.get_admin_limit(user).await?;
    storage.set_admin_limit(SetAdminLimit { user, limit: "5".parse()?, key: None }).await?;
    storage.get_admin_spent(user).await?;
    storage.get_admin_remaining(user).await?;
    storage
        .add_generation_job(AddGenerationJob {
            user,
            job: Some("MARKED-job".parse()?),
            external_task_id: Some("MARKED-task".parse()?),
            model_id: "m".parse()?,
            model_name: "M".parse()?,
            params: Params::from_json(r#"{"prompt":"MARKED"}"#)?,
            price: "1".parse()?,
            key: None,
        })
        .await?;
    storage.update_job_status(UpdateJobStatus::new("MARKED-job".parse()?, JobStatus::Completed)).await?;
    storage.get_job(&"MARKED-job".parse()?).await?;
    storage.find_job_by_task_id(&"MARKED-task".parse()?).await?;
    storage.list_jobs(ListJobs::default()).await?;
    storage
        .add_generation_to_history(AddGenerationToHistory {
            user,
            id: Some("MARKED-generation".parse()?),
            model_id: "m".parse()?,
            model_name: "M".parse()?,
            params: Params::from_json("{}")?,
            result_urls: ResultUrls::new(vec!["https://example.org/MARKED".to_owned()])?,
            price: "1".parse()?,
        })
        .await?;
    storage.get_user_generations_history(GetUserGenerationsHistory::of(user)).await?;
    let pay = AddPayment::new(user, "4242".parse()?, "card".parse()?);
    storage.add_payment(AddPayment { payment: Some("MARKED-payment".parse()?), ..pay }).await?;
    for _ in 0..2 {
        let mark = MarkPaymentStatus::new("MARKED-payment".parse()?, PaymentStatus::Approved);
        storage.mark_payment_status(mark).await?;
    }
    storage.refund_payment(RefundPayment::new("MARKED-payment".parse()?)).await?;
    storage.get_payment(&"MARKED-payment".parse()?).await?;
    storage.list_payments(ListPayments::default()).await?;
    storage.set_referrer(SetReferrer::new(other, user)).await?;
    storage.get_referrer(other).await?;
    storage.get_referrals(GetReferrals::of(user)).await?;
    storage.import_records(vec![ImportRecord::Gift { user: other }]).await?;
    let mut dump = Vec::new();
    storage.dump(&mut dump).await?;
    assert!(storage.restore(&mut Cursor::new(dump)).await.is_err());
    storage.mark_moved("postgresql://MARKED/elsewhere".parse()?).await?;
    storage.moved_to().await?;
    storage.lift_moved("postgresql://MARKED/elsewhere".parse()?).await?;
    // Polled once, and dropped.
    let mut given_up = Box::pin(storage.add_balance(AddBalance::new(user, "1".parse()?)));
    let pending = std::future::poll_fn(|context| Poll::Ready(given_up.as_mut().poll(context).is_pending()));
    assert!(pending.await);
    drop(given_up);
    storage.close().await?;
    assert!(storage.ping().await.is_err());
    Ok(())
}

fn golden(name: &str, found: &str) {
    for marked in ["MARKED", "4242", "434343", "https"] {
        assert!(!found.contains(marked), "{name} tells {marked}:\n{found}");
    }
    let file = format!("{}/src/observe/golden/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var("GOLDEN").is_ok_and(|value| value == "write") {
        std::fs::create_dir_all(std::path::Path::new(&file).parent().unwrap()).unwrap();
        let mut file = std::fs::File::create(&file).unwrap();
        std::io::Write::write_all(&mut file, found.as_bytes()).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap_or_default(), found, "GOLDEN=write renews {name}");
}

#[test]
fn one_of_each_operation_is_told_and_nothing_about_people() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { mode: Mode::Json, data_dir: dir.path().join("data"), ..Config::default() };
    let recorder = DebuggingRecorder::new();
    let (snapshotter, spans) = (recorder.snapshotter(), Spans::default());
    let closed = Arc::clone(&spans.closed);
    // One thread, so that both are told of everything.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    metrics::with_local_recorder(&recorder, || {
        tracing::subscriber::with_default(spans, || {
            runtime.block_on(async {
                let storage = connect(config).await.unwrap();
                each(&*storage).await.unwrap();
            });
        });
    });
    let mut lines = closed.lock().unwrap().clone();
    lines.push(String::new());
    golden("spans", &lines.join("\n"));

    let mut told: BTreeMap<String, &'static str> = BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let (_, key) = key.into_parts();
        let labels: Vec<String> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let kind = match value {
            DebugValue::Counter(_) => "counter",
            DebugValue::Gauge(_) => "gauge",
            DebugValue::Histogram(_) => "histogram",
        };
        told.insert(format!("{} {}", key.name(), labels.join(" ")), kind);
    }
    let page = told.iter().fold(String::new(), |mut page, (metric, kind)| {
        let _ = writeln!(page, "{kind} {metric}");
        page
    });
    golden("metrics", &page);
}

/// The dashboard asks for nothing that is not told.
#[test]
fn the_dashboard_shows_what_there_is() {
    let read = |path: &str| std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&read("../docs/grafana.json")).unwrap();
    let told = read("src/observe/golden/metrics.txt") + "gauge storage_pool_connections\ngauge storage_pool_idle\n";
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() >= 6);
    for target in panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap()) {
        let expression = target["expr"].as_str().unwrap();
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let mut metrics = words.filter(|word| word.starts_with("storage_")).peekable();
        assert!(metrics.peek().is_some(), "{expression}");
        for metric in metrics {
            let metric = metric.strip_suffix("_bucket").or(metric.strip_suffix("_count")).unwrap_or(metric);
            assert!(told.contains(&format!(" {metric}")), "{metric} of {expression} is told by nobody");
        }
    }
}
