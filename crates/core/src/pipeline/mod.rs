//! The pipeline language: what `.hgci.toml` at the root of a changeset may say.
//!
//! The manual is `docs/pipeline.md`. Reading goes on after a mistake, so that a person sees all of
//! them at once. What a later version of the language knows is refused by name: a pipeline must
//! never run as if a key were not there.
//!
//! Rooms: `read` turns tables into jobs, `names` says what may be called how, `needs` orders jobs.

mod names;
mod needs;
mod read;

use std::collections::BTreeMap;
use std::time::Duration;

pub use names::{MAX_NAME, NotAName, check_env_name, check_name};
pub use read::parse;

/// Where a changeset has its pipeline.
pub const FILE: &str = ".hgci.toml";

/// The most bytes of a pipeline file. Read no more than one byte beyond it.
pub const MAX_SIZE: usize = crate::document::MAX_SIZE;

/// The versions of the language that can be read.
pub const VERSIONS: [i64; 1] = [1];

/// The most jobs of a pipeline.
pub const MAX_JOBS: usize = 1000;

/// The most steps of a job.
pub const MAX_STEPS: usize = 1000;

/// The most bytes of a step. It becomes one argument of `sh`, and Linux takes 128 KiB.
pub const MAX_STEP: usize = 100 << 10;

/// The most variables of one `env`.
pub const MAX_VARIABLES: usize = 200;

/// The most bytes of one `env`, names and values.
pub const MAX_ENV: usize = 16 << 10;

/// The most bytes of all jobs together, as they are stored: as JSON, each with a copy of the
/// pipeline's `[env]`. The daemon's store takes records of twice that.
pub const MAX_PLAN: usize = 2 << 20;

/// The most labels, and the most patterns of reports, of a job.
pub const MAX_LISTED: usize = 100;

/// The most bytes of a pattern of reports.
pub const MAX_PATTERN: usize = 1024;

/// A pipeline without mistakes. Made by [`parse`] alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pipeline {
    env: BTreeMap<String, String>,
    jobs: Vec<Job>,
    /// Places in `jobs`, each after what it needs.
    order: Vec<usize>,
}

impl Pipeline {
    /// The environment of every job.
    pub fn env(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    /// The jobs, in the order of the file.
    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    /// Places in [`Pipeline::jobs`]: each job after what it needs, otherwise as in the file.
    pub fn order(&self) -> &[usize] {
        &self.order
    }
}

/// A job as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its name, unique in the pipeline.
    pub name: String,
    /// Steps, each for `sh -e -c`. There is at least one.
    pub run: Vec<String>,
    /// Its own environment, which wins over the pipeline's.
    pub env: BTreeMap<String, String>,
    /// The jobs that must pass first, by their place in the pipeline.
    pub needs: Vec<usize>,
    /// What a pool must have to take it.
    pub labels: Vec<String>,
    /// The most that it may run; `None`: the daemon's limit.
    pub timeout: Option<Duration>,
    /// Glob patterns of JUnit XML files, from the root of the source tree.
    pub reports: Vec<String>,
    /// Whether the build is well even when this job is not.
    pub allow_failure: bool,
}
