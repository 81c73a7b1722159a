//! What a job is: the planned unit of a build.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The plan of one changeset: its jobs, in the order of the pipeline, each after what it needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The jobs. `needs` are places in this list, smaller than the job's own.
    pub jobs: Vec<JobSpec>,
}

/// One job as planned: all that the runner must know, but for the changeset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Its name, unique in the plan.
    pub name: String,
    /// Steps, each for `sh -e -c`; the first that fails ends the job.
    pub run: Vec<String>,
    /// The environment beyond what every job has: the pipeline's `[env]` and the job's `env`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Jobs that must pass first, by their place in the plan.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<u32>,
    /// What a pool must have to take it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// The most that it may run, in milliseconds; `None`: the daemon's limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Glob patterns of JUnit XML files, from the root of the source tree.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reports: Vec<String>,
    /// Whether the build is well even when this job is not.
    #[serde(default)]
    pub allow_failure: bool,
}
