//! What a scenario works with: a site, a clock, three users.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use storage_core::{
    Environment, HistoryRetention, IdSource, ManualClock, Policy, SequentialIds, Storage, TimeZone, Timestamp, UserId,
};

use crate::check::{Check, Failure};
use crate::harness::{Harness, Site};

/// When every scenario begins: 2026-01-15T10:00:00Z.
const START: i64 = 1_768_471_200_000_000;

/// What a scenario works with. Clones share everything.
#[derive(Clone)]
pub struct Context {
    harness: Arc<dyn Harness>,
    site: Site,
    sites: Arc<Mutex<Vec<Site>>>,
    lanes: Arc<AtomicU32>,
    notes: Arc<Mutex<Vec<String>>>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) alice: UserId,
    pub(crate) bob: UserId,
    pub(crate) carol: UserId,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({} at {})", self.harness.name(), self.site)
    }
}

impl Context {
    pub(crate) async fn new(harness: Arc<dyn Harness>) -> Check<Self> {
        let sites = Arc::new(Mutex::new(Vec::new()));
        let site = create(&*harness, &sites).await?;
        Ok(Self {
            harness,
            site,
            sites,
            lanes: Arc::new(AtomicU32::new(1)),
            notes: Arc::default(),
            clock: Arc::new(ManualClock::at(Timestamp::from_micros(START)?)),
            alice: UserId::new(1001)?,
            bob: UserId::new(1002)?,
            carol: UserId::new(-1003)?,
        })
    }

    /// The same clock and users, on another new site.
    pub(crate) async fn elsewhere(&self) -> Check<Self> {
        let site = create(&*self.harness, &self.sites).await?;
        Ok(Self { site, ..self.clone() })
    }

    /// Another user.
    #[expect(clippy::unused_self, reason = "reads like the context's other users")]
    pub(crate) fn user(&self, id: i64) -> Check<UserId> {
        Ok(UserId::new(id)?)
    }

    /// One of many users, numbered from a first one.
    pub(crate) fn numbered(&self, first: i64, number: usize) -> Check<UserId> {
        let number = i64::try_from(number).map_err(|error| Failure::new(error.to_string()))?;
        self.user(first + number)
    }

    /// A handle with the default policy.
    pub(crate) async fn open(&self) -> Check<Arc<dyn Storage>> {
        Ok(self.try_open(Policy::default()).await?)
    }

    /// A handle with a policy of its own.
    pub(crate) async fn open_with(&self, policy: Policy) -> Check<Arc<dyn Storage>> {
        Ok(self.try_open(policy).await?)
    }

    /// What opening answers. Each handle mints ids in a lane of its own.
    pub(crate) async fn try_open(&self, policy: Policy) -> storage_core::Result<Arc<dyn Storage>> {
        let ids = Arc::new(SequentialIds::lane(self.lanes.fetch_add(1, Ordering::SeqCst)));
        self.open_as(policy, ids).await
    }

    /// A handle with the default policy that mints its ids from this source.
    pub(crate) async fn open_minting(&self, ids: Arc<dyn IdSource>) -> Check<Arc<dyn Storage>> {
        Ok(self.open_as(Policy::default(), ids).await?)
    }

    async fn open_as(&self, policy: Policy, ids: Arc<dyn IdSource>) -> storage_core::Result<Arc<dyn Storage>> {
        let clock = Arc::<ManualClock>::clone(&self.clock);
        self.harness.open(&self.site, Environment { clock, ids, policy }).await
    }

    /// What makes the sites.
    pub(crate) fn harness(&self) -> Arc<dyn Harness> {
        Arc::clone(&self.harness)
    }

    /// Adds a line about how the scenario went, for the certificate: a seed, a count.
    pub(crate) fn note(&self, text: String) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn now(&self) -> Timestamp {
        storage_core::Clock::now(&*self.clock)
    }

    pub(crate) fn sites(&self) -> Vec<Site> {
        self.sites.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn create(harness: &dyn Harness, sites: &Mutex<Vec<Site>>) -> Check<Site> {
    let site = harness.create().await.map_err(|reason| Failure::new(format!("no site could be made: {reason}")))?;
    sites.lock().unwrap_or_else(PoisonError::into_inner).push(site.clone());
    Ok(site)
}

/// The default policy in another zone.
pub(crate) fn in_zone(name: &str) -> Check<Policy> {
    Ok(Policy { time_zone: TimeZone::new(name)?, ..Policy::default() })
}

/// The default policy that keeps so much history.
pub(crate) fn keeping(entries: u32) -> Policy {
    Policy {
        history: HistoryRetention::Newest(NonZeroU32::new(entries).unwrap_or(NonZeroU32::MIN)),
        ..Policy::default()
    }
}
