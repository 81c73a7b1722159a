//! What a runner and the daemon say to each other about one attempt.
//!
//! Every call carries the attempt's token as `Authorization: Bearer TOKEN`. Every call can be
//! repeated without harm. 409 means: this attempt is not yours any more, kill it and let go. 422
//! from `source` means: there is no such tree and never will be.
//!
//! | call | body | answer |
//! |---|---|---|
//! | `POST …/claim` | [`Claim`] | [`Job`] |
//! | `GET …/source` | | tar of the source tree, chunked |
//! | `POST …/log?offset=N` | bytes | [`LogOffset`], also when N is not the daemon's offset |
//! | `POST …/renew` | [`Renew`] | [`Lease`] |
//! | `POST …/verdict` | [`Ended`] | `{}`, once it is durable |

use std::collections::BTreeMap;

use hgci_core::job::JobSpec;
use hgci_core::push::Lane;
use hgci_core::result::Verdict;
use hgci_core::{AttemptKey, Node};
use serde::{Deserialize, Serialize};

/// The path of a runner's call: `/api/v1/attempts/KEY/CALL`.
pub fn path(attempt: AttemptKey, call: &str) -> String {
    format!("/api/v1/attempts/{attempt}/{call}")
}

/// The header of a source tree's answer that says why the `hg` command reads it, where it does.
pub const READ_BY_HG: &str = "hgci-read-by-hg";

/// The most bytes of log in one call.
pub const MAX_LOG_CHUNK: usize = 1 << 20;

/// The most bytes of JSON that a runner's call may have.
pub const MAX_BODY: usize = 1 << 20;

/// A runner takes the attempt. A second instance gets 409; the same one gets the same job again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// [`crate::PROTOCOL`] of the runner.
    pub v: u32,
    /// Chosen at random by each runner process: 32 hexadecimal digits.
    pub instance: String,
    /// The runner's process id on its host.
    pub pid: u32,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The plan's unit: steps, needs, reports.
    pub spec: JobSpec,
    /// The variables that hgci sets: `CI`, `HGCI`, `HGCI_NODE`, … They win over `spec.env`.
    pub env: BTreeMap<String, String>,
    /// The changeset.
    pub node: Node,
    /// Trusted or try.
    pub lane: Lane,
    /// How the job is kept apart from the host.
    pub isolation: Isolation,
    /// What it may use.
    pub limits: Limits,
    /// The lease it starts with.
    pub lease: Lease,
}

/// How a job is kept apart from its host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// bubblewrap: a read-only system, its own tree, nothing else of the host in sight.
    Sandbox(Sandbox),
    /// Another account of the host.
    User(String),
    /// The runner's own account, everything in reach.
    None,
}

/// What the sandbox is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sandbox {
    /// Whether the job sees the host's network.
    pub network: bool,
    /// Folders of the host that it may read besides the system's, at the same path.
    pub readonly: Vec<String>,
}

/// What an attempt may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Milliseconds that its steps may take together.
    pub timeout_ms: u64,
    /// Bytes of log that are kept; what comes after is counted and dropped.
    pub log: u64,
}

/// The daemon's belief that an attempt is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// It ends this many milliseconds from now, unless it is renewed.
    pub ms: u64,
    /// The job is to be stopped and reported as cancelled.
    pub cancel: bool,
}

/// The runner is alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renew {
    /// As in [`Claim`].
    pub instance: String,
}

/// How much of the log the daemon has: the offset at which the next chunk starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogOffset {
    /// Bytes that are kept so far.
    pub offset: u64,
    /// No more is kept: the limit is reached.
    pub full: bool,
}

/// The attempt is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// As in [`Claim`].
    pub instance: String,
    /// How it ended.
    pub verdict: Verdict,
}
