//! What is known of a push whose builds are final.

use hgci_core::result::Tests;
use hgci_core::{BuildState, JobState, Node};
use serde::{Deserialize, Serialize};

/// The most jobs of a build that are told one by one.
const MAX_JOBS: usize = 10;

/// A push whose builds are final.
#[derive(Clone, Debug, PartialEq)]
pub struct PushReport {
    /// Its number.
    pub push: u64,
    /// The repository's name.
    pub repo: String,
    /// Who pushed, if anybody can say.
    pub user: Option<String>,
    /// When the daemon heard of it: milliseconds since 1970. Part of message ids.
    pub received_ms: i64,
    /// Its builds.
    pub builds: Vec<BuildReport>,
}

/// A final build.
#[derive(Clone, Debug, PartialEq)]
pub struct BuildReport {
    /// Its number.
    pub build: u64,
    /// The changeset.
    pub node: Node,
    /// Its branch.
    pub branch: String,
    /// Its author, as hg has it.
    pub author: String,
    /// The first line of its description.
    pub description: String,
    /// Its state.
    pub state: BuildState,
    /// What is wrong with a malformed pipeline.
    pub message: Option<String>,
    /// Its jobs, in the plan's order.
    pub jobs: Vec<JobReport>,
}

/// A final job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobReport {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: JobState,
    /// It did not run in this build, which has kept its earlier result.
    pub kept: bool,
    /// How the job of that name ended at the nearest ancestor where it ran to an end.
    pub before: Option<JobState>,
    /// Its steps, as the pipeline has them; empty where that is not known or not told.
    pub run: Vec<String>,
    /// The exit status of the step that failed.
    pub exit: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// Test counts, where it had reports.
    pub tests: Option<Tests>,
    /// Whether the build is well even when it is not.
    pub allow_failure: bool,
    /// Why it is errored, skipped, cancelled or superseded.
    pub why: Option<String>,
    /// What its log says of the failure, where that is told: see [`super::failing_lines`].
    pub lines: Vec<String>,
}

/// What a push did to a job, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Change {
    /// It was well before, and is not.
    Broken,
    /// It is not well, and nothing is known of it before.
    Failed,
    /// It was not well before, and still is not.
    StillFailing,
    /// No machine could run it: nothing is known of the code.
    Errored,
    /// It was not well before, and is.
    Fixed,
    /// It is well.
    Well,
    /// It says nothing of the code: cancelled, superseded or skipped.
    Silent,
}

impl Change {
    /// As subjects and headings have it.
    pub fn words(self) -> &'static str {
        match self {
            Change::Broken => "broken",
            Change::Failed => "failed",
            Change::StillFailing => "still failing",
            Change::Errored => "errored",
            Change::Fixed => "fixed",
            Change::Well => "passed",
            Change::Silent => "not run",
        }
    }

    /// Whether somebody should look at it.
    pub fn is_bad(self) -> bool {
        self <= Change::Errored
    }
}

impl JobReport {
    /// What the push did to it.
    pub fn change(&self) -> Change {
        let bad = |state| matches!(state, JobState::Failed | JobState::TimedOut);
        if self.kept {
            return Change::Silent;
        }
        match (self.state, self.before) {
            (JobState::Cancelled | JobState::Superseded | JobState::Skipped, _) => Change::Silent,
            (JobState::Failed | JobState::TimedOut | JobState::Errored, _)
                if self.allow_failure =>
            {
                Change::Well
            }
            (JobState::Errored, _) => Change::Errored,
            (state, Some(before)) if bad(state) && bad(before) => Change::StillFailing,
            (state, Some(JobState::Passed)) if bad(state) => Change::Broken,
            (state, _) if bad(state) => Change::Failed,
            (_, Some(before)) if bad(before) => Change::Fixed,
            _ => Change::Well,
        }
    }
}

impl BuildReport {
    /// Whether anybody is told of it: not of superseded or cancelled work, nor where nothing ran.
    pub fn is_told(&self) -> bool {
        !matches!(
            self.state,
            BuildState::Cancelled
                | BuildState::Superseded
                | BuildState::Skipped
                | BuildState::Running
        )
    }

    /// Which of its jobs are told one by one, by index: those that changed, the most urgent first,
    /// and not more than people read.
    pub fn shown(&self) -> Vec<usize> {
        let mut loud: Vec<_> = (0..self.jobs.len())
            .map(|n| (self.jobs[n].change(), n))
            .filter(|(change, _)| !matches!(change, Change::Well | Change::Silent))
            .collect();
        loud.sort_unstable();
        loud.truncate(MAX_JOBS);
        loud.into_iter().map(|(_, n)| n).collect()
    }

    /// The most urgent of what it did to its jobs.
    pub fn change(&self) -> Change {
        if self.message.is_some() {
            return if self.state == BuildState::Errored {
                Change::Errored
            } else {
                Change::Failed
            };
        }
        self.jobs.iter().map(JobReport::change).min().unwrap_or(Change::Silent)
    }
}

impl PushReport {
    /// The report without the builds that nobody is told of, and of those only what `keep` keeps;
    /// `None` where nothing is left.
    pub fn only(&self, keep: impl Fn(&BuildReport) -> bool) -> Option<PushReport> {
        let builds: Vec<_> =
            self.builds.iter().filter(|build| build.is_told() && keep(build)).cloned().collect();
        (!builds.is_empty()).then(|| PushReport { builds, ..self.clone() })
    }

    /// The most urgent of what it did.
    pub fn change(&self) -> Change {
        self.builds.iter().map(BuildReport::change).min().unwrap_or(Change::Silent)
    }
}
