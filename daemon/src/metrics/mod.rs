//! Numbers about the daemon itself: counted where things happen, read by `/metrics`.
//!
//! What is in flight is not counted here: the engine knows it.

mod histogram;
mod text;

use std::sync::atomic::{AtomicU64, Ordering};

pub use histogram::Histogram;
pub use text::{Kind, Text};

/// A number that grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn one(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// How many there were since the start.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Where a call comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The Unix socket.
    Socket,
    /// The TCP port.
    Tcp,
}

impl Door {
    /// Both.
    pub const ALL: [Door; 2] = [Door::Socket, Door::Tcp];

    /// Its name in labels.
    pub fn name(self) -> &'static str {
        match self {
            Door::Socket => "socket",
            Door::Tcp => "tcp",
        }
    }
}

/// The statuses that are counted one by one; the last stands for every other.
const STATUSES: [u16; 16] =
    [200, 400, 401, 403, 404, 405, 408, 409, 410, 413, 415, 429, 500, 503, 504, 0];

/// Why somebody was refused before being looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Too many calls in a minute.
    Rate,
    /// Too many calls at the same time.
    Busy,
    /// Every connection is busy.
    Full,
    /// An idle connection was closed for a new one.
    Idle,
    /// What came is no HTTP, or too much of it.
    Malformed,
}

impl Why {
    /// Every reason, with its name.
    pub const ALL: [(Why, &str); 5] = [
        (Why::Rate, "rate"),
        (Why::Busy, "busy"),
        (Why::Full, "full"),
        (Why::Idle, "idle"),
        (Why::Malformed, "malformed"),
    ];
}

/// What is counted at a door.
#[derive(Debug, Default)]
pub struct Calls {
    refused: [Counter; Why::ALL.len()],
    answers: [Counter; STATUSES.len()],
    /// Connections that were taken.
    pub connections: Counter,
    /// Those of them that are closed again.
    pub closed: Counter,
}

impl Calls {
    /// An answer was given.
    pub fn answered(&self, status: u16) {
        let at = STATUSES.iter().position(|one| *one == status).unwrap_or(STATUSES.len() - 1);
        self.answers[at].one();
    }

    /// A call or a connection was refused.
    pub fn refused(&self, why: Why) {
        self.refused[why as usize].one();
    }

    /// How often somebody was refused for this reason.
    pub fn refusals(&self, why: Why) -> u64 {
        self.refused[why as usize].get()
    }

    /// Statuses that were answered, as labels, and how often.
    pub fn answers(&self) -> impl Iterator<Item = (String, u64)> {
        let named = |status: u16| if status == 0 { "other".to_owned() } else { status.to_string() };
        let counted = STATUSES.iter().zip(&self.answers);
        counted.map(move |(status, count)| (named(*status), count.get())).filter(|(_, n)| *n > 0)
    }
}

/// What is counted in this process, since its start.
#[derive(Debug, Default)]
pub struct Metrics {
    /// From a hint to its durable answer.
    pub hints: Histogram,
    /// Hints that were not taken.
    pub hints_refused: Counter,
    /// Bytes of logs that were removed since they were past their time.
    pub swept_bytes: Counter,
    doors: [Calls; Door::ALL.len()],
}

impl Metrics {
    /// What is counted at a door.
    pub fn calls(&self, door: Door) -> &Calls {
        &self.doors[door as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_status() {
        let metrics = Metrics::default();
        for status in [200, 404, 200, 418, 0] {
            metrics.calls(Door::Tcp).answered(status);
        }
        let counted: Vec<_> = metrics.calls(Door::Tcp).answers().collect();
        let expected = [("200", 2), ("404", 1), ("other", 2)];
        assert_eq!(counted, expected.map(|(status, count)| (status.to_owned(), count)));
        assert_eq!(metrics.calls(Door::Socket).answers().count(), 0);
    }
}
