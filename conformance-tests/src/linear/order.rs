//! Looks for an order of calls that shows what was seen: the algorithm of Wing and Gong, with Lowe's memory of what was
//! tried.

use std::collections::HashSet;

use super::act::{Act, Outcome, State};

/// A call: what was asked and when, and what was answered and when. A call that was dropped was not answered: it may
/// have happened at any time after it began, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) act: Act,
    pub(super) began: u64,
    pub(super) ended: Option<(u64, Outcome)>,
}

/// Whether there is an order in which each call happens between its beginning and its end, and answers what was seen.
pub(super) fn is_one_order(start: &State, seen: &[Seen]) -> bool {
    // One bit for each call.
    if seen.len() > 128 {
        return false;
    }
    let answered = (0..).zip(seen).filter(|(_, call)| call.ended.is_some());
    let wanted: u128 = answered.fold(0, |bits, (place, _): (u32, _)| bits | 1 << place);
    let mut tried: HashSet<(u128, State)> = HashSet::new();
    let mut open = vec![(0_u128, start.clone())];
    while let Some((done, state)) = open.pop() {
        if done & wanted == wanted {
            return true;
        }
        let is_left = |place: u32| done >> place & 1 == 0;
        let left = || (0..).zip(seen).filter(|(place, _)| is_left(*place));
        // Nothing that began after a call had ended can have happened before that call.
        let first_end = left().filter_map(|(_, call)| call.ended.map(|(at, _)| at)).min().unwrap_or(u64::MAX);
        for (place, call) in left().filter(|(_, call)| call.began < first_end) {
            let mut after = state.clone();
            let outcome = after.apply(call.act);
            let fits = call.ended.is_none_or(|(_, answered)| answered == outcome);
            let next = (done | 1 << place, after);
            if fits && !tried.contains(&next) {
                tried.insert(next.clone());
                open.push(next);
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(act: Act, began: u64, ended: u64, outcome: Outcome) -> Seen {
        Seen { act, began, ended: Some((ended, outcome)) }
    }

    #[test]
    fn overlapping_calls_may_stand_in_either_order() {
        let (credit, start) = (Act::Credit { micros: 5 }, State::new(0));
        let seen = [
            call(credit, 0, 5, Outcome::Figure(10, false)),
            call(credit, 1, 4, Outcome::Figure(5, false)),
            call(Act::Balance, 2, 3, Outcome::Figure(5, false)),
        ];
        assert!(is_one_order(&start, &seen));
    }

    #[test]
    fn a_stale_read_and_a_lost_update_are_seen() {
        let (credit, start) = (Act::Credit { micros: 5 }, State::new(0));
        let stale =
            [call(credit, 0, 1, Outcome::Figure(5, false)), call(Act::Balance, 2, 3, Outcome::Figure(0, false))];
        assert!(!is_one_order(&start, &stale));
        let lost = [call(credit, 0, 3, Outcome::Figure(5, false)), call(credit, 1, 2, Outcome::Figure(5, false))];
        assert!(!is_one_order(&start, &lost));
    }

    #[test]
    fn a_dropped_call_happened_later_or_never_but_not_before_it_began() {
        let (credit, start) = (Act::Credit { micros: 5 }, State::new(0));
        let dropped = Seen { act: credit, began: 2, ended: None };
        let read = |began, figure| call(Act::Balance, began, began + 1, Outcome::Figure(figure, false));
        assert!(is_one_order(&start, &[dropped, read(0, 0), read(4, 0), read(6, 0)]));
        assert!(is_one_order(&start, &[dropped, read(0, 0), read(4, 0), read(6, 5)]));
        assert!(!is_one_order(&start, &[dropped, read(0, 5)]));
        assert!(!is_one_order(&start, &[dropped, read(4, 5), read(6, 0)]), "what happened stays");
        assert!(!is_one_order(&start, &[dropped, read(4, 10)]), "once at most");
    }
}
