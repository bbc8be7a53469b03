//! The journals that others begin while a handle reads the files. They are opened as they come, because the next checkpoint takes
//! their names away; so a handle that reads for longer than two checkpoints take can still follow, and stops nobody.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use storage_core::Result;

use crate::disk::Dir;
use crate::engine::unpoisoned;
use crate::journal::{Head, Journal};
use crate::manifest::Manifest;

/// Between two looks at the head. A checkpoint takes much longer.
const LOOK: Duration = Duration::from_millis(5);
/// So many journals are opened at the most, so that a handle which is slower than the writers comes to an end with them. Then it reads the
/// files again.
const MOST: usize = 64;

/// A journal, and the manifest with which it began.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) journal: Journal,
    pub(crate) manifest: Manifest,
}

/// Opens each journal that begins after one generation, until it is dropped.
#[derive(Debug)]
pub(crate) struct Ahead {
    begun: Arc<Mutex<VecDeque<Begun>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ahead {
    /// Begins. Where no thread can be had nothing is held open, and the handle reads the files more often.
    pub(crate) fn of(dir: &Dir, generation: u64) -> Result<Option<Self>> {
        let Some(head) = Head::look(dir)? else { return Ok(None) };
        let (begun, over) = (Arc::<Mutex<VecDeque<Begun>>>::default(), Arc::new(AtomicBool::new(false)));
        let (dir, found, done) = (dir.clone(), Arc::clone(&begun), Arc::clone(&over));
        let work = move || {
            let (mut last, mut count) = (generation, 0);
            while !done.load(Ordering::Acquire) && count < MOST {
                if let Some(one) = next(&dir, &head, last) {
                    (last, count) = (one.journal.generation, count + 1);
                    unpoisoned(found.lock()).push_back(one);
                }
                std::thread::park_timeout(LOOK);
            }
        };
        let thread = std::thread::Builder::new().name("journals ahead".to_owned()).spawn(work).ok();
        Ok(thread.map(|thread| Self { begun, over, thread: Some(thread) }))
    }

    /// How many wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        unpoisoned(self.begun.lock()).len()
    }

    /// The first of those that wait.
    pub(crate) fn take(&self) -> Option<Begun> {
        unpoisoned(self.begun.lock()).pop_front()
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It looks, and ends.
            let _ = thread.join();
        }
    }
}

/// The journal that is written now, when it began after `last`. What cannot be read now is looked at again, or missed: then the
/// handle finds that it cannot follow.
fn next(dir: &Dir, head: &Head, last: u64) -> Option<Begun> {
    let generation = head.read().ok()??.position.generation;
    if generation <= last {
        return None;
    }
    let manifest = Manifest::read(dir).ok()??;
    if manifest.current().generation != generation {
        return None;
    }
    let journal = Journal::open(dir, generation).ok()??;
    Some(Begun { journal, manifest })
}
