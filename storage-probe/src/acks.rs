//! The acknowledgements: one line for each operation that the store promised.

use std::collections::BTreeMap;

use crate::lane::{Lane, MAX_SEED, MAX_TASKS};

/// One acknowledgement: `ok SEED LANE/TASKS OPERATION WORD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    /// Which lane.
    pub(crate) lane: Lane,
    /// How many lanes the run had.
    pub(crate) tasks: u32,
    /// Which of the lane's operations, counted from 0.
    pub(crate) operation: u64,
    /// What it was.
    pub(crate) word: String,
}

/// The line of an acknowledgement, its end included.
pub(crate) fn line(lane: Lane, tasks: u32, operation: u64, word: &str) -> String {
    format!("ok {} {}/{tasks} {operation} {word}\n", lane.seed, lane.task)
}

fn parse(line: &str) -> Option<Ack> {
    let mut words = line.split(' ');
    if words.next() != Some("ok") {
        return None;
    }
    let seed = words.next()?.parse().ok().filter(|seed| *seed < MAX_SEED)?;
    let (task, tasks) = words.next()?.split_once('/')?;
    let tasks = tasks.parse().ok().filter(|tasks| (1..=MAX_TASKS).contains(tasks))?;
    let task = task.parse().ok().filter(|task| *task < tasks)?;
    let operation = words.next()?.parse().ok()?;
    let word = words.next()?.to_owned();
    words.next().is_none().then_some(Ack { lane: Lane { seed, task }, tasks, operation, word })
}

/// What a file of acknowledgements says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Acks {
    /// What each lane was promised: the word of each operation.
    pub(crate) lanes: BTreeMap<Lane, BTreeMap<u64, String>>,
    /// How many lanes each seed has.
    pub(crate) tasks: BTreeMap<u32, u32>,
}

impl Acks {
    /// Reads the file's bytes. Lines may repeat, and a line that a crash cut off does not count; the next run
    /// continues right behind it.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        let text = String::from_utf8_lossy(bytes);
        let mut acks = Self::default();
        for (number, line) in text.split_inclusive('\n').enumerate() {
            let Some(whole) = line.strip_suffix('\n') else { continue };
            if whole.is_empty() {
                continue;
            }
            // `ok 1 0/1 5 cre` cut off, and `ok 1 0/1 0 credit` behind it on the same line.
            let ack = parse(whole).or_else(|| whole.rfind("ok ").and_then(|at| parse(&whole[at..])));
            let Some(ack) = ack else {
                return Err(format!("line {} is no acknowledgement: {whole:?}", number + 1));
            };
            acks.add(ack, number + 1)?;
        }
        Ok(acks)
    }
    fn add(&mut self, ack: Ack, number: usize) -> Result<(), String> {
        let Ack { lane, tasks, operation, word } = ack;
        let before = *self.tasks.entry(lane.seed).or_insert(tasks);
        if before != tasks {
            return Err(format!("line {number} says {tasks} tasks of seed {}, an earlier one {before}", lane.seed));
        }
        let promised = self.lanes.entry(lane).or_default();
        if promised.get(&operation).is_some_and(|earlier| *earlier != word) {
            return Err(format!("line {number} calls operation {operation} {word:?}, an earlier one otherwise"));
        }
        promised.insert(operation, word);
        Ok(())
    }
}

/// How many of `total` operations a lane does.
pub(crate) fn share(total: u64, task: u32, tasks: u32) -> u64 {
    let (task, tasks) = (u64::from(task), u64::from(tasks.max(1)));
    total / tasks + u64::from(task < total % tasks)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANE: Lane = Lane { seed: 1, task: 0 };

    #[test]
    fn lines_read_back() {
        let text = line(LANE, 2, 7, "credit");
        assert_eq!(text, "ok 1 0/2 7 credit\n");
        let acks = Acks::read(text.as_bytes()).unwrap();
        assert_eq!(acks.lanes[&LANE].get(&7).map(String::as_str), Some("credit"));
        assert_eq!(acks.tasks[&1], 2);
    }

    #[test]
    fn repeated_and_torn_lines() {
        let text = "ok 1 0/1 0 credit\nok 1 0/1 1 deb\
                    ok 1 0/1 0 credit\nok 1 0/1 1 debit\nok 1 0/1 2 cre";
        let acks = Acks::read(text.as_bytes()).unwrap();
        assert_eq!(acks.lanes[&LANE].len(), 2);
        assert_eq!(acks.lanes[&LANE][&1], "debit");
    }

    #[test]
    fn what_is_no_acknowledgement_is_named() {
        for bad in [
            "hello\n",
            "ok 1 1/1 0 credit\n",
            "ok 1 0/0 0 credit\n",
            "ok 1 0/1 x credit\n",
            "ok 1 0/1 0 credit more\n",
            "ok 1 0/1 0 credit\nok 1 0/2 1 debit\n",
            "ok 1 0/1 0 credit\nok 1 0/1 0 debit\n",
        ] {
            assert!(Acks::read(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(Acks::read(b"").unwrap().lanes.is_empty());
    }

    #[test]
    fn the_shares_add_up() {
        for total in 0..50 {
            for tasks in 1..12 {
                assert_eq!((0..tasks).map(|task| share(total, task, tasks)).sum::<u64>(), total);
            }
        }
    }
}
