//! What has happened since this engine was made: numbers for people who watch it, which decide
//! nothing and are kept nowhere.

use crate::JobState;
use crate::push::Via;
use crate::result::Outcome;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// Every step said yes.
    Passed,
    /// A step said no.
    Failed,
    /// It took longer than it may.
    TimedOut,
    /// It was told to stop.
    Cancelled,
    /// Its runner could not find out.
    Errored,
    /// It was given up: nobody started, claimed or renewed it, or its host is gone.
    Lost,
}

impl AttemptEnd {
    /// Every end.
    pub const ALL: [AttemptEnd; 6] = [
        AttemptEnd::Passed,
        AttemptEnd::Failed,
        AttemptEnd::TimedOut,
        AttemptEnd::Cancelled,
        AttemptEnd::Errored,
        AttemptEnd::Lost,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            AttemptEnd::Passed => "passed",
            AttemptEnd::Failed => "failed",
            AttemptEnd::TimedOut => "timed-out",
            AttemptEnd::Cancelled => "cancelled",
            AttemptEnd::Errored => "errored",
            AttemptEnd::Lost => "lost",
        }
    }
}

impl From<&Outcome> for AttemptEnd {
    fn from(outcome: &Outcome) -> AttemptEnd {
        match outcome {
            Outcome::Passed => AttemptEnd::Passed,
            Outcome::Failed { .. } => AttemptEnd::Failed,
            Outcome::TimedOut => AttemptEnd::TimedOut,
            Outcome::Cancelled => AttemptEnd::Cancelled,
            Outcome::Errored { .. } => AttemptEnd::Errored,
        }
    }
}

/// How often what has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pushes: [u64; 4],
    attempts: [u64; AttemptEnd::ALL.len()],
    jobs: [u64; JobState::ALL.len()],
}

impl Tally {
    /// Pushes that were received this way.
    pub fn pushes(&self, via: Via) -> u64 {
        self.pushes[via as usize]
    }

    /// Attempts that ended so.
    pub fn attempts(&self, end: AttemptEnd) -> u64 {
        self.attempts[end as usize]
    }

    /// Jobs that came to this final state.
    pub fn jobs(&self, state: JobState) -> u64 {
        self.jobs[state as usize]
    }

    pub(super) fn received(&mut self, via: Via) {
        self.pushes[via as usize] += 1;
    }

    pub(super) fn ended(&mut self, end: AttemptEnd) {
        self.attempts[end as usize] += 1;
    }

    pub(super) fn final_job(&mut self, state: JobState) {
        self.jobs[state as usize] += 1;
    }
}
