//! Lines about what clients cause, few enough that these cannot fill the log.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// At most one line in this time.
const EVERY: Duration = Duration::from_secs(5);

/// When something was said last, and how often it was not since.
#[derive(Debug, Default)]
pub struct Complaints(Mutex<(Option<Instant>, u64)>);

impl Complaints {
    /// Whether there may be a line now: then, how many there were not since the one before.
    pub fn next(&self) -> Option<u64> {
        self.next_at(Instant::now())
    }

    fn next_at(&self, now: Instant) -> Option<u64> {
        let mut said = self.0.lock();
        let (last, unsaid) = &mut *said;
        if last.is_some_and(|last| now.duration_since(last) < EVERY) {
            *unsaid += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_line_now_and_then_that_counts_the_rest() {
        let complaints = Complaints::default();
        let start = Instant::now();
        assert_eq!(complaints.next_at(start), Some(0));
        assert!((0..100).all(|_| complaints.next_at(start).is_none()));
        assert_eq!(complaints.next_at(start + EVERY), Some(100));
        assert_eq!(complaints.next_at(start + 2 * EVERY), Some(0));
    }
}
