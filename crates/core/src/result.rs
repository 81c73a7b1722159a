//! How things ended: what a runner says of an attempt, and what the results log keeps for ever.

use serde::{Deserialize, Serialize};

use crate::{BuildId, BuildState, JobKey, JobState, Node, PushId};

/// Tests as counted from a job's reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tests {
    /// Test cases that passed.
    pub passed: u32,
    /// Test cases with a failure or an error.
    pub failed: u32,
    /// Test cases that were skipped.
    pub skipped: u32,
}

/// How an attempt ended, as its runner saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Every step ended with status 0.
    Passed,
    /// A step of the job said no: by exit status, or by dying of a signal.
    Failed {
        /// The exit status, where it had one.
        exit: Option<i32>,
        /// The signal, where it died of one.
        signal: Option<i32>,
    },
    /// The job ran longer than its timeout and was killed.
    TimedOut,
    /// The daemon asked for the end.
    Cancelled,
    /// The machine, not the code: no checkout, disk full, no sandbox. It will be tried again.
    Errored {
        /// What went wrong, for people.
        why: String,
    },
}

impl JobResult {
    /// The job that ran and ended so: where its log is.
    pub fn ran_as(&self) -> JobKey {
        self.from.unwrap_or(JobKey { build: self.build, index: self.index })
    }
}

impl Outcome {
    /// The exit status and the signal that the job's last step ended with: 0 where all passed,
    /// neither where it was not the step that ended it.
    pub fn exit_and_signal(&self) -> (Option<i32>, Option<i32>) {
        match self {
            Outcome::Passed => (Some(0), None),
            Outcome::Failed { exit, signal } => (*exit, *signal),
            Outcome::TimedOut | Outcome::Cancelled | Outcome::Errored { .. } => (None, None),
        }
    }
}

/// The verdict on an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// How it ended.
    pub outcome: Outcome,
    /// When its first step started: milliseconds since 1970 by the host's clock.
    pub started_ms: i64,
    /// How long its steps took, in milliseconds of monotonic time.
    pub duration_ms: u64,
    /// Test counts, where it had reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<Tests>,
    /// What did not change the outcome but should be known: an unreadable report, a cut log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A record of the results log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Entry {
    /// Where the results that follow come from.
    Origin(Origin),
    /// The final state of a job.
    Job(JobResult),
    /// The final state of a build, after those of all its jobs.
    Build(BuildResult),
}

/// The daemon that writes the log, as clients may want to reach it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Origin {
    /// The daemon's random name, chosen when its state folder was made: 32 hexadecimal digits.
    /// Numbers of pushes and builds mean something together with it alone.
    #[serde(default)]
    pub daemon: String,
    /// The repository's name there.
    pub repo: String,
    /// The base of its web pages, ending in `/`; empty where it has none.
    pub url: String,
}

/// How a job ended, for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobResult {
    /// The changeset.
    pub node: Node,
    /// The push that brought it.
    pub push: PushId,
    /// The build.
    pub build: BuildId,
    /// Its place in the build's plan.
    pub index: u32,
    /// The job's name.
    pub name: String,
    /// A final state.
    pub state: JobState,
    /// Which attempt said so; 0 for a job that never ran.
    pub attempt: u32,
    /// The exit status of the step that failed, or 0 where all passed.
    pub exit: Option<i32>,
    /// The signal that ended the step that failed.
    pub signal: Option<i32>,
    /// When its first step started: milliseconds since 1970; 0 for a job that never ran.
    pub started_ms: i64,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// The pool, and the host in it, that the attempt ran on; empty for a job that never ran.
    pub pool: String,
    /// `pool/slot` or the host's name.
    pub host: String,
    /// Test counts, where it had reports.
    pub tests: Option<Tests>,
    /// Whether the build is well even when this job is not.
    pub allow_failure: bool,
    /// Why it is errored, skipped, cancelled or superseded.
    pub why: Option<String>,
    /// Where it ran, where that was not in this build: this one was asked for other jobs and kept
    /// its result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<JobKey>,
}

/// How a build ended, for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildResult {
    /// The changeset.
    pub node: Node,
    /// The push that brought it.
    pub push: PushId,
    /// The build.
    pub build: BuildId,
    /// A final state.
    pub state: BuildState,
    /// When it became final: milliseconds since 1970.
    pub ended_ms: i64,
    /// How many jobs it has.
    pub jobs: u32,
    /// What is wrong with a malformed pipeline: file, line, column, message; or why it cannot be
    /// read.
    pub message: Option<String>,
    /// Who asked for it, where somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}
