//! The time as the engine wants it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hgci_core::engine::Now;

/// Monotonic milliseconds since the daemon's start, and the wall clock beside them.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Clock {
        Clock(Instant::now())
    }

    /// The time.
    pub fn now(&self) -> Now {
        Now {
            mono: u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX),
            wall: wall_ms(),
        }
    }
}

/// Milliseconds since 1970, UTC, by the wall clock.
pub fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
