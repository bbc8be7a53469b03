//! The queue's own tests.

use super::*;

const IDLE: Duration = Duration::from_secs(1);
const ROOM: Room = Room { calls: 1000, bytes: 1024 * 1024 };

fn call<'q>(
    queue: &'q Queue,
    room: Room,
    arguments: &Arc<str>,
) -> Result<Answer<'q, (), impl FnOnce(&mut Tx<'_>) -> Result<()> + Send + 'static>> {
    let (heap, arguments) = (arguments.len(), Arc::clone(arguments));
    queue.call(room, "k".parse()?, heap, move |_| {
        drop(arguments);
        Ok(())
    })
}

fn refused<T>(outcome: Result<T>) -> String {
    let Err(error) = outcome else { panic!("there was room") };
    assert_eq!(error.kind(), &ErrorKind::Busy { waited: Duration::ZERO });
    assert_eq!(error.applied(), Applied::No);
    error.to_string()
}

#[test]
fn what_is_given_up_leaves_nothing_behind() {
    let (queue, arguments) = (Queue::default(), Arc::<str>::from("x".repeat(1000)));
    let kept = call(&queue, ROOM, &arguments).unwrap();
    let of_one = queue.held();
    assert!(of_one.1 > 1000, "{of_one:?}");
    for round in 0..10_000 {
        let dropped = call(&queue, ROOM, &arguments).unwrap();
        let given_up = call(&queue, ROOM, &arguments).unwrap();
        assert_eq!(queue.held(), (3, 3 * of_one.1));
        drop(dropped);
        let error =
            given_up.give_up(Error::new(ErrorKind::Busy { waited: Duration::from_secs(1) }), String::new).unwrap_err();
        assert_eq!(error.applied(), Applied::No);
        // Before the caller lets go of it.
        assert_eq!(queue.held(), of_one);
        assert_eq!(Arc::strong_count(&arguments), 2, "the arguments of the given-up ones are still there");
        drop(given_up);
        assert!(unpoisoned(queue.inbox.lock()).work.len() <= GIVEN_UP + 1, "round {round}");
    }
    // The one that still waits was not swept away.
    let mut work = Vec::new();
    queue.take(&mut work, IDLE);
    let waiting: Vec<_> = work.into_iter().filter(|work| !work.is_given_up()).collect();
    assert_eq!(waiting.len(), 1);
    drop(kept);
    assert_eq!(queue.held(), (0, 0));
}

#[test]
fn work_that_is_not_given_up_keeps_its_order() {
    let (queue, arguments) = (Queue::default(), Arc::<str>::from("x"));
    let mut kept = Vec::new();
    for n in 0..400 {
        let answer = call(&queue, ROOM, &arguments).unwrap();
        if n % 3 == 0 {
            kept.push(answer);
        }
    }
    let mut work = Vec::new();
    queue.take(&mut work, IDLE);
    let taken: Vec<_> = work
        .iter()
        .filter_map(|work| match work {
            Work::Op(op) if op.take() => Some(Arc::as_ptr(&op.0).cast::<()>()),
            _ => None,
        })
        .collect();
    assert_eq!(taken, kept.iter().map(|answer| Arc::as_ptr(&answer.call).cast::<()>()).collect::<Vec<_>>());
    // What the writer has is counted until it is answered, whoever waits for it.
    drop(kept);
    assert_eq!(queue.held().0, taken.len() as u64);
    let taken = work.into_iter().filter_map(|work| match work {
        Work::Op(op) if !op.waits() => Some(op),
        _ => None,
    });
    queue.answer(taken, Ok(()));
    assert_eq!(queue.held(), (0, 0));
}

#[test]
fn both_limits_are_kept_and_named() {
    let (queue, arguments) = (Queue::default(), Arc::<str>::from("x".repeat(1000)));
    let few = Room { calls: 2, ..ROOM };
    let (_one, two) = (call(&queue, few, &arguments).unwrap(), call(&queue, few, &arguments).unwrap());
    let message = refused(call(&queue, few, &arguments));
    assert!(message.contains("2 calls wait") && message.contains("queue_calls is 2"), "{message}");
    drop(two);
    let _two = call(&queue, few, &arguments).unwrap();
    let tight = Room { bytes: queue.held().1 + 1000, ..ROOM };
    let message = refused(call(&queue, tight, &arguments));
    let held = queue.held().1;
    assert!(message.contains(&format!("{held} bytes")) && message.contains("queue_bytes is"), "{message}");
    refused(queue.step(Some(few), |_, _| {}));
    // What the store itself needs is not refused.
    drop(queue.step(None, |_, _| {}).unwrap());
    assert_eq!(queue.held(), (2, held));
}

#[test]
fn one_call_always_fits() {
    let (queue, arguments) = (Queue::default(), Arc::<str>::from("x".repeat(1000)));
    let none = Room { calls: 0, bytes: 0 };
    let only = call(&queue, none, &arguments).unwrap();
    refused(call(&queue, none, &arguments));
    drop(only);
    call(&queue, none, &arguments).unwrap();
}

#[test]
fn a_step_that_is_given_up_never_runs_and_leaves_nothing_behind() {
    let (queue, arguments) = (Queue::default(), Arc::<str>::from("x"));
    for _ in 0..10_000 {
        let with_it = Arc::clone(&arguments);
        let waiting = queue.step(Some(ROOM), move |_, _| drop(with_it)).unwrap();
        assert_eq!(queue.held().0, 1);
        let error = waiting.give_up(Error::new(ErrorKind::Busy { waited: Duration::from_secs(1) }), String::new);
        assert_eq!(error.applied(), Applied::No);
        assert_eq!((queue.held(), Arc::strong_count(&arguments)), ((0, 0), 1));
        assert!(unpoisoned(queue.inbox.lock()).work.len() <= GIVEN_UP);
    }
}

/// Whoever waits for what the end of the queue swept away is told.
#[test]
fn the_end_of_the_queue_gives_everything_back() {
    let (queue, arguments) = (Queue::default(), Arc::<str>::from("x"));
    let with_it = Arc::clone(&arguments);
    let waiting = queue.step(None, move |_, _| drop(with_it)).unwrap();
    queue.end();
    assert_eq!(Arc::strong_count(&arguments), 1);
    let error = waiting.give_up(Error::closed(), String::new);
    assert_eq!(error.applied(), Applied::Unknown);
    let with_it = Arc::clone(&arguments);
    let _waiting = queue.step(None, move |_, _| drop(with_it)).unwrap();
    assert_eq!(Arc::strong_count(&arguments), 1);
}
