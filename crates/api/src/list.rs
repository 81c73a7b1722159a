//! What people and programs list: repositories, pushes, builds, jobs.
//!
//! Lists are pages, the newest first. [`Page::next`] is the cursor of the next one, for `after=`.
//! Only what the caller may see is listed, so a page can have fewer items than were asked for, even
//! none, and still have a next one. Times are seconds since 1970.

use hgci_core::push::{BookmarkMove, PhaseMove};
use hgci_core::{BuildState, JobState, Node};
use serde::{Deserialize, Serialize};

use crate::read::JobStatus;

/// `GET REPOS`: a [`Page`] of [`RepoInfo`], in the order of names.
pub const REPOS: &str = "/api/v1/repos";

/// `GET PUSHES[?repo=NAME]`: a [`Page`] of [`PushInfo`]; `PUSHES/17` is one of them.
pub const PUSHES: &str = "/api/v1/pushes";

/// `GET BUILDS[?repo=NAME[&node=HEX]]`: a [`Page`] of [`BuildInfo`]; `BUILDS/12` is a
/// [`BuildDetail`], `BUILDS/12/jobs` the [`Page`] of its [`JobDetail`]s, `BUILDS/12/jobs/NAME` one
/// of them, and `BUILDS/12/jobs/NAME/log` its log, as in [`crate::read::LOG`].
pub const BUILDS: &str = "/api/v1/builds";

/// How many items a page has, unless `limit=` says otherwise.
pub const PAGE: usize = 50;

/// The most items of a page.
pub const MAX_PAGE: usize = 200;

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page starts; `None` after the last.
    pub next: Option<String>,
}

/// A repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepoInfo {
    /// Its name in the daemon's configuration.
    pub name: String,
    /// Whether everybody may read it over TCP.
    pub public: bool,
    /// Which changesets of a push are built: `heads`, `every` or `tip`.
    pub build: String,
}

/// A push.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PushInfo {
    /// Its number.
    pub push: u64,
    /// The repository's name.
    pub repo: String,
    /// `planning`, `building`, `mailing` or `done`.
    pub stage: String,
    /// When the daemon heard of it.
    pub received: f64,
    /// `hook`, `spool`, `reconcile` or `asked`: how the daemon heard of it.
    pub via: String,
    /// Mercurial's word for how it came; empty where nobody said.
    pub source: String,
    /// Who pushed; `None` where nobody can say, and for those who see what is public alone.
    pub user: Option<String>,
    /// The first new changeset.
    pub first: Option<Node>,
    /// The last new changeset.
    pub last: Option<Node>,
    /// How many changesets are new.
    pub changesets: u64,
    /// New changesets without new children, some of them where they are many.
    pub heads: Vec<Node>,
    /// Changesets that were there before and whose phase moved, some of them where they are many.
    pub phases: Vec<PhaseMove>,
    /// Bookmarks that were set, moved or deleted, some of them where they are many.
    pub bookmarks: Vec<BookmarkMove>,
    /// How many obsolescence markers are new.
    pub markers: u64,
    /// The numbers of its builds.
    pub builds: Vec<u64>,
    /// Why it has none, or fewer than its changesets ask for, or cannot be planned.
    #[serde(rename = "no-build")]
    pub no_build: Option<String>,
    /// Its page; `None` without `[web] url`.
    pub url: Option<String>,
}

/// A build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BuildInfo {
    /// Its number.
    pub build: u64,
    /// The push that brought the changeset.
    pub push: u64,
    /// The repository's name.
    pub repo: String,
    /// The changeset.
    pub node: Node,
    /// The changeset's branch.
    pub branch: String,
    /// The changeset's author.
    pub author: String,
    /// The first line of its description.
    pub description: String,
    /// `trusted` or `try`.
    pub lane: String,
    /// Who asked for it; `None` where nobody did, and for those who see what is public alone.
    pub by: Option<String>,
    /// Its state.
    pub state: BuildState,
    /// What is wrong with the pipeline.
    pub message: Option<String>,
    /// When it was made.
    pub created: f64,
    /// When it became final.
    pub ended: Option<f64>,
    /// Its page; `None` without `[web] url`.
    pub url: Option<String>,
}

/// A build with its jobs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BuildDetail {
    /// The build.
    #[serde(flatten)]
    pub build: BuildInfo,
    /// Its jobs, in the plan's order.
    pub jobs: Vec<JobStatus>,
}

/// A job with its attempts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobDetail {
    /// The job, as of its newest attempt.
    #[serde(flatten)]
    pub job: JobStatus,
    /// Since when it was queued.
    pub queued: f64,
    /// When it became final.
    pub ended: Option<f64>,
    /// Its attempts, the oldest first.
    pub attempts: Vec<AttemptInfo>,
}

/// An attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptInfo {
    /// Its number, from 1.
    pub attempt: u32,
    /// `launching`, `running`, or how it ended: a final state, `errored` for what was given up.
    pub state: String,
    /// The pool.
    pub pool: String,
    /// The host in that pool.
    pub host: String,
    /// When it was launched.
    pub launched: f64,
    /// When a runner took it.
    pub claimed: Option<f64>,
    /// When it was over.
    pub ended: Option<f64>,
    /// Why it is errored.
    pub why: Option<String>,
    /// What did not change the outcome but should be known.
    pub notes: Vec<String>,
}

/// The state of an attempt that is over, by what its runner said.
pub fn ended_as(outcome: &hgci_core::result::Outcome) -> JobState {
    use hgci_core::result::Outcome;
    match outcome {
        Outcome::Passed => JobState::Passed,
        Outcome::Failed { .. } => JobState::Failed,
        Outcome::TimedOut => JobState::TimedOut,
        Outcome::Cancelled => JobState::Cancelled,
        Outcome::Errored { .. } => JobState::Errored,
    }
}
