//! What is to be looked at when, on the monotonic clock.

use std::collections::BTreeSet;

use crate::{AttemptKey, BuildId, JobKey, PushId};

/// Who is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A push: plan or mail it again.
    Push(PushId),
    /// A build: publish it again.
    Build(BuildId),
    /// A job: the pause before its next attempt is over.
    Job(JobKey),
    /// An attempt: its launch, lease, time or release is overdue.
    Attempt(AttemptKey),
}

/// Since when a subject has been due, as the subject itself remembers it.
pub(super) type Due = Option<u64>;

/// All timers, the next first. A subject has one at the most.
#[derive(Debug, Default)]
pub(super) struct Timers {
    all: BTreeSet<(u64, Timer)>,
}

impl Timers {
    /// Moves the timer of a subject from where it was to `to`.
    pub(super) fn set(&mut self, timer: Timer, due: &mut Due, to: Due) {
        if let Some(was) = std::mem::replace(due, to) {
            self.all.remove(&(was, timer));
        }
        if let Some(at) = to {
            self.all.insert((at, timer));
        }
    }

    /// How many timers are due.
    pub(super) fn due(&self, mono: u64) -> usize {
        self.all.iter().take_while(|(at, _)| *at <= mono).count()
    }

    /// Takes the next timer that is due.
    pub(super) fn pop(&mut self, mono: u64) -> Option<Timer> {
        let first = *self.all.first()?;
        (first.0 <= mono && self.all.remove(&first)).then_some(first.1)
    }

    /// The jobs among the subjects, the next first, and when each is due.
    pub(super) fn jobs(&self) -> impl Iterator<Item = (u64, JobKey)> {
        self.all.iter().filter_map(|(at, timer)| match timer {
            Timer::Job(key) => Some((*at, *key)),
            _ => None,
        })
    }

    /// When the next timer is due.
    pub(super) fn next(&self) -> Option<u64> {
        self.all.first().map(|(at, _)| *at)
    }
}
