//! How many calls each caller may make in a minute. Pure: the time comes in.

use std::collections::HashMap;
use std::time::Duration;

use super::Caller;

/// The most callers that are remembered one by one. Further ones share what one of them may do.
const MOST_CALLERS: usize = 4096;

/// Calls may come in a burst of what this part of a minute allows.
const BURST: u32 = 4;

/// When each caller's calls would be over if they had come evenly: all that is remembered. Times
/// are nanoseconds of any clock that does not go back.
#[derive(Debug, Default)]
pub struct Rates {
    even: HashMap<Caller, u64>,
    /// The same of all for whom there was no room.
    others: u64,
}

impl Rates {
    /// Takes a call in, or says how long the caller should wait. `per_minute` is at least 1.
    pub fn take(&mut self, caller: Caller, per_minute: u32, now: u64) -> Result<(), Duration> {
        let each = 60_000_000_000 / u64::from(per_minute.max(1));
        let burst = each.saturating_mul(u64::from((per_minute / BURST).max(1)));
        let even = self.of(caller, now);
        let next = (*even).max(now).saturating_add(each);
        match next.checked_sub(now.saturating_add(burst)) {
            None | Some(0) => {
                *even = next;
                Ok(())
            }
            Some(early) => Err(Duration::from_nanos(early)),
        }
    }

    fn of(&mut self, caller: Caller, now: u64) -> &mut u64 {
        if !self.even.contains_key(&caller) && self.even.len() >= MOST_CALLERS {
            // Who has been silent for long enough is as one who never called.
            self.even.retain(|_, even| *even > now);
            if self.even.len() >= MOST_CALLERS {
                return &mut self.others;
            }
        }
        self.even.entry(caller).or_insert(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn account(uid: u32) -> Caller {
        Caller::Account(uid)
    }

    /// How many of `calls` are taken, one each `every` nanoseconds from `start`.
    fn taken(rates: &mut Rates, uid: u32, start: u64, every: u64, calls: u64) -> usize {
        let times = (0..calls).map(|n| start + n * every);
        times.filter(|now| rates.take(account(uid), 120, *now).is_ok()).count()
    }

    #[test]
    fn a_burst_is_taken_and_then_what_the_rate_allows() {
        let mut rates = Rates::default();
        assert_eq!(taken(&mut rates, 1, 0, 0, 1000), 30);
        // Two a second from then on, however many are tried; the 61st second is not quite over.
        assert_eq!(taken(&mut rates, 1, SECOND, SECOND / 100, 6000), 2 * 61 - 1);
        // After a pause there is a burst again.
        assert_eq!(taken(&mut rates, 1, 1000 * SECOND, 0, 1000), 30);
    }

    #[test]
    fn who_calls_evenly_is_never_refused() {
        let mut rates = Rates::default();
        assert_eq!(taken(&mut rates, 1, 0, SECOND / 2, 10_000), 10_000);
    }

    #[test]
    fn one_caller_is_not_refused_for_another() {
        let mut rates = Rates::default();
        taken(&mut rates, 1, 0, 0, 1000);
        assert_eq!(taken(&mut rates, 2, 0, 0, 30), 30);
    }

    #[test]
    fn who_waits_as_long_as_was_said_is_taken() {
        let mut rates = Rates::default();
        taken(&mut rates, 1, 0, 0, 1000);
        let wait = rates.take(account(1), 120, 0).unwrap_err();
        assert!(wait <= Duration::from_millis(500), "{wait:?}");
        assert!(rates.take(account(1), 120, wait.as_nanos() as u64 - 1).is_err());
        assert!(rates.take(account(1), 120, wait.as_nanos() as u64).is_ok());
    }

    #[test]
    fn memory_is_bounded_and_who_finds_no_room_shares() {
        let mut rates = Rates::default();
        let many = 3 * MOST_CALLERS as u32;
        let taken_at = |rates: &mut Rates, now| {
            (0..many).filter(|uid| rates.take(account(*uid), 120, now).is_ok()).count()
        };
        assert_eq!(taken_at(&mut rates, 0), MOST_CALLERS + 30);
        assert_eq!(rates.even.len(), MOST_CALLERS);
        // Later there is room for others.
        taken_at(&mut rates, 1000 * SECOND);
        assert!(rates.take(account(many + 1), 120, 2000 * SECOND).is_ok());
        assert!(rates.even.len() <= MOST_CALLERS);
    }

    #[test]
    fn no_number_is_too_small_or_too_large() {
        for per_minute in [0, 1, u32::MAX] {
            let mut rates = Rates::default();
            assert!(rates.take(account(1), per_minute, u64::MAX / 2).is_ok());
        }
        let mut rates = Rates::default();
        assert!(rates.take(account(1), 1, 0).is_ok());
        assert!(rates.take(account(1), 1, 59 * SECOND).is_err());
        assert!(rates.take(account(1), 1, 60 * SECOND).is_ok());
    }
}
