//! How long a writer waits for more units before it commits a group.
//!
//! A group has a cost of its own: a sync, and with a database round trips and statements. If calls arrive fast, a writer
//! waits briefly for more of them. They also wait for the processor, and get it sooner that way.

use std::time::Duration;

/// If the previous group had this many units, the writer waits for more.
const MANY: usize = 8;
/// With this many it stops waiting.
const ENOUGH: usize = 128;
/// How many pauses there are at most.
const PAUSES_MAX: usize = 4;
/// How many must arrive in one pause to justify another one.
const WORTH_A_PAUSE: usize = 4;

/// The pauses before one group.
pub struct Pauses {
    left: usize,
    /// How many units the group had before the last pause.
    had: Option<usize>,
}

impl Pauses {
    /// How long a pause takes.
    pub const LENGTH: Duration = Duration::from_millis(1);

    /// For the group after one of `before` units.
    #[must_use]
    pub fn after(before: usize) -> Self {
        Self {
            left: if before >= MANY { PAUSES_MAX } else { 0 },
            had: None,
        }
    }

    /// Whether to pause now, if the group has this many units so far.
    pub fn wants(&mut self, units: usize) -> bool {
        let was_worth_it = self
            .had
            .is_none_or(|had| units.saturating_sub(had) >= WORTH_A_PAUSE);
        if self.left == 0 || units >= ENOUGH || !was_worth_it {
            return false;
        }
        self.left -= 1;
        self.had = Some(units);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How large a group of one unit gets if so many arrive in each pause, and after how many pauses.
    fn gathered(before: usize, come: &[usize]) -> (usize, usize) {
        let (mut pauses, mut units, mut count) = (Pauses::after(before), 1, 0);
        while pauses.wants(units) {
            units += come[count];
            count += 1;
        }
        (units, count)
    }

    #[test]
    fn a_writer_waits_while_calls_come_fast() {
        assert_eq!(gathered(7, &[]), (1, 0), "the previous group was small");
        assert_eq!(gathered(8, &[0]), (1, 1));
        assert_eq!(gathered(8, &[4, 3]), (8, 2));
        assert_eq!(gathered(8, &[4, 5, 6, 7]), (23, 4));
        assert_eq!(gathered(8, &[200]), (201, 1));
    }
}
