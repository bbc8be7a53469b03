//! Who does what under which name: every id is derived from the seed, the lane and the operation's number.

/// Users of the probe lie above every id that Telegram hands out.
const FIRST_USER: i64 = 5_000_000_000_000_000;
/// Lanes of one seed.
pub(crate) const MAX_TASKS: u32 = 1000;
/// Users of one lane.
const ROLES: u32 = 10_000;
/// Seeds below this one have users of their own.
pub(crate) const MAX_SEED: u32 = 100_000_000;
/// Operations of one lane: as many as there are days with a quota user of their own.
pub(crate) const MAX_OPERATIONS: u64 = 70_000;

/// The lane's main user: money, jobs, payments, history.
pub(crate) const MAIN: u32 = 1;
/// The user whose holds expire. A sweep of any lane may give them back, so nothing else depends on this user.
pub(crate) const SWEPT: u32 = 2;
/// A user whom only refused operations name, and who therefore never exists.
pub(crate) const NOBODY: u32 = 3;
/// From here on: users who are created, bring each other, and claim gifts.
pub(crate) const FIRST_FRESH: u32 = 10;
/// How many of them.
pub(crate) const FRESH: u32 = 4_990;
/// From here on: one user for each day, who takes the whole quota of that day and is then refused.
const FIRST_OF_DAYS: u32 = 5_000;

/// 2026-01-15T00:00:00Z in microseconds.
const FIRST_MOMENT: i64 = 1_768_435_200_000_000;
/// Minutes from one operation to the next.
const STEP_MINUTES: u64 = 97;
/// Minutes of a day.
const DAY_MINUTES: u64 = 24 * 60;

/// One sequence of operations: a seed's task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lane {
    /// The seed.
    pub(crate) seed: u32,
    /// The task, counted from 0.
    pub(crate) task: u32,
}

impl Lane {
    /// The user who plays a role in this lane.
    pub(crate) fn user(self, role: u32) -> i64 {
        let lane = i64::from(self.seed) * i64::from(MAX_TASKS) + i64::from(self.task);
        FIRST_USER + lane * i64::from(ROLES) + i64::from(role)
    }
    /// The lane and role of a user, `None` for a user who is not the probe's.
    pub(crate) fn of_user(user: i64) -> Option<(Self, u32)> {
        let rest = user.checked_sub(FIRST_USER).filter(|rest| *rest >= 0)?;
        let (lane, role) = (rest / i64::from(ROLES), rest % i64::from(ROLES));
        let seed = u32::try_from(lane / i64::from(MAX_TASKS)).ok().filter(|seed| *seed < MAX_SEED)?;
        let task = u32::try_from(lane % i64::from(MAX_TASKS)).ok()?;
        Some((Self { seed, task }, u32::try_from(role).ok()?))
    }
    /// The name that an operation of this lane gives to something.
    pub(crate) fn name(self, what: &str, operation: u64) -> String {
        format!("{what}-{}-{}-{operation}", self.seed, self.task)
    }
}

/// When an operation happens, in microseconds: its number decides, so that a repetition happens on the same day.
pub(crate) fn moment(operation: u64) -> i64 {
    let minutes = i64::try_from(operation * STEP_MINUTES).unwrap_or(i64::MAX / 100_000_000);
    let odd_micros = i64::try_from(operation % 999_983).unwrap_or(0);
    FIRST_MOMENT + minutes * 60_000_000 + odd_micros
}

/// The day of an operation counted from the first, and the operation's place in that day.
pub(crate) fn day(operation: u64) -> (u64, u64) {
    let minutes = operation * STEP_MINUTES;
    (minutes / DAY_MINUTES, minutes % DAY_MINUTES / STEP_MINUTES)
}

/// The user who takes the quota of a day.
pub(crate) fn user_of_day(day: u64) -> u32 {
    FIRST_OF_DAYS + u32::try_from(day).unwrap_or(0) % (ROLES - FIRST_OF_DAYS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_lead_back_to_their_lane() {
        for (seed, task, role) in [(0, 0, 1), (7, 3, 9_999), (MAX_SEED - 1, MAX_TASKS - 1, 1)] {
            let lane = Lane { seed, task };
            assert_eq!(Lane::of_user(lane.user(role)), Some((lane, role)));
        }
        assert_eq!(Lane::of_user(1001), None);
        assert_eq!(Lane::of_user(-5), None);
        assert!(Lane { seed: MAX_SEED - 1, task: MAX_TASKS - 1 }.user(ROLES - 1) < 1 << 53, "exact as a double");
    }

    #[test]
    fn each_day_has_its_own_user() {
        assert_eq!(day(0), (0, 0));
        assert_eq!(day(14), (0, 14));
        assert_eq!(day(15), (1, 0));
        let (last, _) = day(MAX_OPERATIONS);
        assert!(last < u64::from(ROLES - FIRST_OF_DAYS));
        for operation in 0..2_000 {
            let civil = (moment(operation) - FIRST_MOMENT) / 86_400_000_000;
            assert_eq!(u64::try_from(civil).unwrap(), day(operation).0, "operation {operation}");
        }
    }
}
