//! Plays a history on a backend: one site after another, some handles, a driven clock, driven ids.

use std::io::Cursor;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use storage_core::{
    Environment, HistoryRetention, IdSource, ManualClock, OperationId, Policy, Storage, TimeZone, Timestamp,
};
use tokio::time::timeout;

use super::ask::{Answer, ask, refusal};
use super::build::{Call, Minted, START, call, user_id};
use super::op::{Op, Step};
use crate::harness::{Harness, Site};

/// Zones whose clocks are always as far ahead of UTC, by name and seconds.
const ZONE_TABLE: [(&str, i64); 5] = [
    ("UTC", 0),
    ("Asia/Kolkata", 19_800),
    ("Pacific/Kiritimati", 50_400),
    ("America/Phoenix", -25_200),
    ("Pacific/Marquesas", -34_200),
];
/// How many zones there are.
pub(crate) const ZONES: u8 = 5;
/// The longest that a store may take for one answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The policy of a history: a small quota and a short history, so that both run out.
pub(crate) fn policy(zone: u8) -> storage_core::Result<(Policy, i64)> {
    let (name, ahead) = ZONE_TABLE[usize::from(zone) % ZONE_TABLE.len()];
    let policy = Policy {
        default_language: "uk".parse()?,
        daily_free_generations: 2,
        default_admin_limit: "3".parse()?,
        main_admin: Some(user_id(3)?),
        history: HistoryRetention::Newest(NonZeroU32::new(3).unwrap_or(NonZeroU32::MIN)),
        time_zone: TimeZone::new(name)?,
    };
    Ok((policy, ahead))
}

/// Ids that are known beforehand: the number of the step, and of the write within it.
#[derive(Debug, Default)]
struct StepIds {
    step: AtomicU64,
    next: AtomicU64,
}

/// The id that a step's write gets, counted from 0.
pub(crate) fn step_id(step: u64, number: u64) -> OperationId {
    // Version 7 in bits 76..80, variant 0b10 in bits 62..64; the step fills the time field.
    OperationId::from_u128(u128::from(step) << 80 | 0x7 << 76 | 0b10 << 62 | u128::from(number))
}

impl IdSource for StepIds {
    fn next_id(&self) -> OperationId {
        step_id(self.step.load(Ordering::SeqCst), self.next.fetch_add(1, Ordering::SeqCst))
    }
}

/// A backend on which a history is played.
#[derive(Debug)]
pub(crate) struct Player {
    harness: Harnessed,
    sites: Mutex<Vec<Site>>,
    handles: Vec<Option<Arc<dyn Storage>>>,
    closed: Vec<bool>,
    clock: Arc<ManualClock>,
    ids: Arc<StepIds>,
    policy: Policy,
    minted: Minted,
}

#[derive(Clone)]
struct Harnessed(Arc<dyn Harness>);

impl std::fmt::Debug for Harnessed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.name())
    }
}

fn text(error: &storage_core::Error) -> String {
    error.report().to_string()
}

impl Player {
    /// A new site with some handles.
    pub(crate) async fn new(harness: &Arc<dyn Harness>, handles: u8, zone: u8) -> Result<Self, String> {
        let (policy, _) = policy(zone).map_err(|error| text(&error))?;
        let start = Timestamp::from_micros(START).map_err(|error| text(&error))?;
        let mut player = Self {
            harness: Harnessed(Arc::clone(harness)),
            sites: Mutex::default(),
            handles: (0..handles.max(1)).map(|_| None).collect(),
            closed: vec![false; usize::from(handles.max(1))],
            clock: Arc::new(ManualClock::at(start)),
            ids: Arc::default(),
            policy,
            minted: Minted::default(),
        };
        player.found().await?;
        Ok(player)
    }

    /// How many handles there are.
    pub(crate) fn handles(&self) -> usize {
        self.handles.len()
    }

    /// The backend's name.
    pub(crate) fn name(&self) -> &str {
        self.harness.0.name()
    }

    fn site(&self) -> Option<Site> {
        self.sites.lock().unwrap_or_else(PoisonError::into_inner).last().cloned()
    }

    /// Makes a site, and opens every handle there.
    async fn found(&mut self) -> Result<(), String> {
        let site = self.harness.0.create().await?;
        self.sites.lock().unwrap_or_else(PoisonError::into_inner).push(site);
        for place in 0..self.handles.len() {
            self.open(place).await?;
        }
        Ok(())
    }

    async fn open(&mut self, place: usize) -> Result<(), String> {
        let site = self.site().ok_or("no site")?;
        let environment = Environment {
            clock: Arc::<ManualClock>::clone(&self.clock),
            ids: Arc::<StepIds>::clone(&self.ids),
            policy: self.policy.clone(),
        };
        let opened = self.harness.0.open(&site, environment).await.map_err(|error| text(&error))?;
        self.handles[place] = Some(opened);
        self.closed[place] = false;
        Ok(())
    }

    async fn close(&mut self, place: usize) -> Result<(), String> {
        self.closed[place] = true;
        match &self.handles[place] {
            Some(handle) => handle.close().await.map_err(|error| format!("close: {}", text(&error))),
            None => Ok(()),
        }
    }

    /// Which handle a step asks.
    pub(crate) fn place(&self, step: Step) -> usize {
        usize::from(step.on) % self.handles.len()
    }

    /// The moment of the clock.
    pub(crate) fn now(&self) -> Timestamp {
        storage_core::Clock::now(&*self.clock)
    }

    /// The call that a step makes now; an error is a value that cannot be built.
    pub(crate) fn call(&self, step: Step) -> storage_core::Result<Call> {
        call(step.op, &self.minted)
    }

    /// Whether the handle that a step asks was closed.
    pub(crate) fn is_closed(&self, step: Step) -> bool {
        self.closed[self.place(step)]
    }

    /// Turns the surroundings.
    pub(crate) async fn turn(&mut self, number: u64, step: Step) -> Result<(), String> {
        self.begin(number);
        let place = self.place(step);
        match step.op {
            Op::Wait { seconds } => self.clock.advance_secs(seconds),
            Op::Close => self.close(place).await?,
            Op::Reopen => {
                self.close(place).await?;
                self.handles[place] = None;
                self.open(place).await?;
            }
            Op::ReopenAll => self.reopen_all().await?,
            Op::Move => self.move_on(place).await?,
            _ => {}
        }
        Ok(())
    }

    /// Closes every handle, then opens them all.
    pub(crate) async fn reopen_all(&mut self) -> Result<(), String> {
        for place in 0..self.handles.len() {
            self.close(place).await?;
        }
        self.handles.iter_mut().for_each(|handle| *handle = None);
        for place in 0..self.handles.len() {
            self.open(place).await?;
        }
        Ok(())
    }

    async fn move_on(&mut self, place: usize) -> Result<(), String> {
        if self.closed[place] {
            return Ok(());
        }
        let before = self.dump(place).await?;
        for place in 0..self.handles.len() {
            self.close(place).await?;
        }
        self.found().await?;
        let Some(handle) = &self.handles[place] else { return Err("no handle".to_owned()) };
        let restored = handle.restore(&mut Cursor::new(before.as_bytes())).await;
        restored.map_err(|error| format!("restore: {}", text(&error)))?;
        let after = self.dump(place).await?;
        if before == after { Ok(()) } else { Err(format!("the restored store dumps differently\n{before}\n{after}")) }
    }

    fn begin(&self, number: u64) {
        self.ids.step.store(number, Ordering::SeqCst);
        self.ids.next.store(0, Ordering::SeqCst);
    }

    /// Asks the handle that the step names.
    pub(crate) async fn ask(&mut self, number: u64, step: Step, call: Call) -> Answer {
        self.begin(number);
        let Some(handle) = &self.handles[self.place(step)] else { return "no handle".to_owned() };
        let answer = timeout(PATIENCE, ask(&**handle, call)).await.unwrap_or_else(|_| "no answer".to_owned());
        if answer.ends_with("false)") {
            match step.op {
                Op::AddJob { job: None, task: None, .. } => self.minted.job = Some(step_id(number, 0).to_string()),
                Op::AddPayment { payment: None, .. } => self.minted.payment = Some(step_id(number, 0).to_string()),
                _ => {}
            }
        }
        answer
    }

    /// The whole store as text.
    pub(crate) async fn dump(&self, place: usize) -> Result<String, String> {
        let Some(handle) = &self.handles[place] else { return Err("no handle".to_owned()) };
        let mut bytes = Vec::new();
        handle.dump(&mut bytes).await.map_err(|error| text(&error))?;
        String::from_utf8(bytes).map_err(|error| error.to_string())
    }

    /// Closes the handles and removes the sites.
    pub(crate) async fn finish(mut self) {
        for place in 0..self.handles.len() {
            // A handle that cannot be closed was reported, or is none of the history's business.
            let _ = self.close(place).await;
        }
        self.handles.clear();
        for site in self.sites.into_inner().unwrap_or_else(PoisonError::into_inner) {
            self.harness.0.destroy(site).await;
        }
    }
}

/// What a closed handle answers.
pub(crate) fn closed(op: Op) -> Answer {
    let closed = refusal(&storage_core::ErrorKind::Closed);
    match op {
        Op::ForeignCursor { .. } => [const { "" }; 7].map(|_| closed.clone()).join("; "),
        _ => closed,
    }
}
