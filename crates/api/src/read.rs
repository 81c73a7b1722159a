//! What people ask the daemon: states and logs, live.

use hgci_core::result::Tests;
use hgci_core::{BuildState, JobState, Node};
use serde::{Deserialize, Serialize};

/// `GET STATUS?repo=PATH&node=HEX&node=HEX…` gives a list of [`NodeStatus`], one for each node
/// that has a build. `repo` is the root folder or the configured name. With `&wait=MS&seen=TAG` an
/// answer whose [`STATUS_TAG`] is that one comes only after that time.
pub const STATUS: &str = "/api/v1/status";

/// `GET LOG?repo=PATH&node=HEX&job=NAME[&attempt=N][&offset=N][&wait=MS]` gives bytes of a log
/// from the offset, at most [`MAX_LOG_READ`], with the headers below. With `wait`, an answer
/// without bytes comes only after that time or when the attempt is over. With `tail=N` in the place
/// of an offset, the last N bytes.
pub const LOG: &str = "/api/v1/log";

/// The most bytes in one answer of [`LOG`].
pub const MAX_LOG_READ: usize = 1 << 20;

/// Header of a log answer: which attempt it is.
pub const LOG_ATTEMPT: &str = "hgci-attempt";
/// Header of a log answer: the offset after its last byte.
pub const LOG_NEXT: &str = "hgci-next";
/// Header of a log answer: `1` when nothing will come after it.
pub const LOG_DONE: &str = "hgci-done";

/// Header of an answer of [`STATUS`]: the same as long as nothing but time has changed.
pub const STATUS_TAG: &str = "hgci-tag";
/// Header of an answer of [`STATUS`]: `1` when pushes of the repository wait for their plan, so that
/// a changeset without a build may soon have one.
pub const STATUS_PLANNING: &str = "hgci-planning";

/// The most nodes in one call of [`STATUS`].
pub const MAX_NODES: usize = 1000;

/// The newest build of a changeset, in the form of `hg ci-status -T json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The changeset.
    pub node: Node,
    /// The build's state.
    pub state: BuildState,
    /// The build's number.
    pub build: u64,
    /// The push's number.
    pub push: u64,
    /// `log` for what is final and in the results log, `live` for what the daemon says.
    pub source: String,
    /// What is wrong with a malformed pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Where people can see the build; empty without `[web]`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// Who asked for it, where somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Its jobs, in the plan's order.
    pub jobs: Vec<JobStatus>,
}

/// A job of [`NodeStatus`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobStatus {
    /// The job's name.
    pub name: String,
    /// Where it stands.
    pub state: JobState,
    /// The newest attempt; 0 before the first.
    pub attempt: u32,
    /// The exit status, once there is one.
    pub exit: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Seconds that it took, or has taken so far.
    pub duration: Option<f64>,
    /// When it started: seconds since 1970.
    pub started: Option<f64>,
    /// The pool that it ran or runs on.
    pub pool: Option<String>,
    /// The host in that pool.
    pub host: Option<String>,
    /// Test counts, where it had reports.
    pub tests: Option<Tests>,
    /// Whether the build is well even when this job is not.
    #[serde(default, rename = "allow-failure", skip_serializing_if = "std::ops::Not::not")]
    pub allow_failure: bool,
    /// Why it is errored, skipped, cancelled, superseded or waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The build that it ran in, where this one has kept its result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// Where people can see the job; `None` without `[web]`.
    pub url: Option<String>,
}
