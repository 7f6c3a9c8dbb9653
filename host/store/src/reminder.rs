//! What goes on and on is said in the log once, and again now and then.

use std::time::{Duration, Instant};

/// How often it is said again.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// When something was said last.
#[derive(Debug, Default)]
pub(super) struct Reminder {
    said_at: Option<Instant>,
}

impl Reminder {
    /// Whether it is time to say it, for the first time or again.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self
            .said_at
            .is_none_or(|at| now.saturating_duration_since(at) >= SAID_EVERY);
        if is_due {
            self.said_at = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_at_once_and_then_each_minute() {
        let (mut reminder, begun) = (Reminder::default(), Instant::now());
        let said = (0..200).filter(|second| reminder.is_due(begun + Duration::from_secs(*second)));
        assert_eq!(said.collect::<Vec<_>>(), [0, 60, 120, 180]);
    }
}
