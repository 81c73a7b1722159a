//! The states of jobs and builds, and how a build's follows from its jobs'.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// For other jobs that it needs.
    Waiting,
    /// For a host.
    Queued,
    /// An attempt is believed alive.
    Running,
    /// Its command said yes.
    Passed,
    /// Its own command said no.
    Failed,
    /// We could not find out, more often than the retries allow.
    Errored,
    /// Its command took longer than the job's timeout.
    TimedOut,
    /// Somebody asked for it to stop.
    Cancelled,
    /// Newer work made it pointless.
    Superseded,
    /// It never ran: a job that it needs did not pass, or no pool can take it.
    Skipped,
}

impl JobState {
    /// Every state, in the order of a job's life.
    pub const ALL: [JobState; 10] = [
        JobState::Waiting,
        JobState::Queued,
        JobState::Running,
        JobState::Passed,
        JobState::Failed,
        JobState::Errored,
        JobState::TimedOut,
        JobState::Cancelled,
        JobState::Superseded,
        JobState::Skipped,
    ];

    /// Whether nothing more will happen to such a job.
    pub fn is_final(self) -> bool {
        !matches!(self, JobState::Waiting | JobState::Queued | JobState::Running)
    }

    /// Whether the job ran to an end of its own, so that the state is about the code: not one that
    /// was never run or stopped, nor one that no machine could run.
    pub fn says_of_the_code(self) -> bool {
        matches!(self, JobState::Passed | JobState::Failed | JobState::TimedOut)
    }

    /// Whether those that need such a job go on; `allowed`: it may fail.
    pub fn lets_others_go_on(self, allowed: bool) -> bool {
        BuildState::of_jobs([(self, allowed)]) == BuildState::Passed
    }

    /// The name in JSON, templates and revsets.
    pub fn name(self) -> &'static str {
        match self {
            JobState::Waiting => "waiting",
            JobState::Queued => "queued",
            JobState::Running => "running",
            JobState::Passed => "passed",
            JobState::Failed => "failed",
            JobState::Errored => "errored",
            JobState::TimedOut => "timed-out",
            JobState::Cancelled => "cancelled",
            JobState::Superseded => "superseded",
            JobState::Skipped => "skipped",
        }
    }
}

/// Where a build stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BuildState {
    /// Some job is not final.
    Running,
    /// A job that may not fail has failed, or the pipeline is malformed.
    Failed,
    /// The worst of its jobs is one that we could not find out about.
    Errored,
    /// The worst of its jobs took too long.
    TimedOut,
    /// The worst of its jobs was stopped by somebody.
    Cancelled,
    /// The worst of its jobs was made pointless by newer work.
    Superseded,
    /// All is well.
    Passed,
    /// No job of it ran, and none was at fault.
    Skipped,
}

impl BuildState {
    /// Every state, worst first but for `Running`.
    pub const ALL: [BuildState; 8] = [
        BuildState::Running,
        BuildState::Failed,
        BuildState::Errored,
        BuildState::TimedOut,
        BuildState::Cancelled,
        BuildState::Superseded,
        BuildState::Passed,
        BuildState::Skipped,
    ];

    /// The state of a build whose jobs are `(state, allowed to fail)`: `Running` while one is not
    /// final, else the worst. A job that is allowed to fail counts as passed once it has run.
    /// A build without jobs is `Skipped`.
    pub fn of_jobs(jobs: impl IntoIterator<Item = (JobState, bool)>) -> BuildState {
        jobs.into_iter()
            .map(|(state, allowed)| match state {
                JobState::Waiting | JobState::Queued | JobState::Running => BuildState::Running,
                JobState::Failed | JobState::Errored | JobState::TimedOut if allowed => {
                    BuildState::Passed
                }
                JobState::Passed => BuildState::Passed,
                JobState::Failed => BuildState::Failed,
                JobState::Errored => BuildState::Errored,
                JobState::TimedOut => BuildState::TimedOut,
                JobState::Cancelled => BuildState::Cancelled,
                JobState::Superseded => BuildState::Superseded,
                JobState::Skipped => BuildState::Skipped,
            })
            .min()
            .unwrap_or(BuildState::Skipped)
    }

    /// Whether nothing more will happen to such a build by itself.
    pub fn is_final(self) -> bool {
        self != BuildState::Running
    }

    /// The name in JSON, templates and revsets.
    pub fn name(self) -> &'static str {
        match self {
            BuildState::Running => "running",
            BuildState::Failed => "failed",
            BuildState::Errored => "errored",
            BuildState::TimedOut => "timed-out",
            BuildState::Cancelled => "cancelled",
            BuildState::Superseded => "superseded",
            BuildState::Passed => "passed",
            BuildState::Skipped => "skipped",
        }
    }

    /// The exit status of `hg ci-status` for a build in this state: 0 well, 1 not, 2 unfinished.
    pub fn exit_status(self) -> u8 {
        match self {
            BuildState::Passed | BuildState::Skipped => 0,
            BuildState::Running => 2,
            // Superseded work says nothing of the code, but it was not shown to pass either.
            _ => 1,
        }
    }
}

/// Text that names no state.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown state {0:?}")]
pub struct UnknownState(String);

macro_rules! text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl FromStr for $name {
            type Err = UnknownState;

            fn from_str(text: &str) -> Result<Self, UnknownState> {
                $name::ALL
                    .into_iter()
                    .find(|state| state.name() == text)
                    .ok_or_else(|| UnknownState(text.chars().take(64).collect()))
            }
        }
    };
}
text!(JobState);
text!(BuildState);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_as_bad_as_its_worst_job() {
        use JobState::*;
        let state = |jobs: &[(JobState, bool)]| BuildState::of_jobs(jobs.iter().copied());
        assert_eq!(state(&[]), BuildState::Skipped);
        assert_eq!(state(&[(Passed, false), (Skipped, false)]), BuildState::Passed);
        assert_eq!(state(&[(Passed, false), (Failed, true)]), BuildState::Passed);
        assert_eq!(state(&[(Errored, false), (Failed, false)]), BuildState::Failed);
        assert_eq!(state(&[(Failed, false), (Queued, false)]), BuildState::Running);
        assert_eq!(state(&[(Superseded, false), (Cancelled, false)]), BuildState::Cancelled);
        assert_eq!(state(&[(Cancelled, true), (Passed, false)]), BuildState::Cancelled);
    }

    #[test]
    fn names_are_the_same_in_json_and_text() {
        for state in JobState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
            assert_eq!(state.name().parse(), Ok(state));
        }
        for state in BuildState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
            assert_eq!(state.name().parse(), Ok(state));
        }
        assert!("green".parse::<BuildState>().is_err());
    }
}
