//! What hooks tell the daemon: `POST /api/v1/hints`.

use std::collections::BTreeMap;

use hgci_core::Node;
use serde::{Deserialize, Serialize};

/// Where hints are posted. 404 means that the daemon does not serve the repository: the hook says
/// so, and spools only if a daemon once adopted it. On any other failure it spools.
pub const HINTS: &str = "/api/v1/hints";

/// The most bytes that a hint may have as JSON; a hook drops `pushvars` and lists to stay below.
pub const MAX_HINT: usize = 64 * 1024;

/// Something happened in a repository: look at it. Also the content of a spool file.
///
/// A hint is never believed about what changed: the daemon compares the repository with its mark.
/// What it adds is who, how and when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hint {
    /// [`crate::PROTOCOL`] of the sender.
    pub v: u32,
    /// The repository's root folder (the share source's), absolute, symlinks resolved.
    pub repo: String,
    /// Mercurial's transaction id, `HG_TXNID`. The same id is the same push.
    pub txid: String,
    /// The transaction's name, `HG_TXNNAME`.
    pub txnname: String,
    /// `HG_SOURCE`: `serve`, `push`, `pull`, `unbundle`, `strip`, …; empty for a commit.
    pub source: String,
    /// `HG_URL` as it was given.
    pub url: String,
    /// The first new changeset, `HG_NODE`.
    pub first: Option<Node>,
    /// The last new changeset, `HG_NODE_LAST`.
    pub last: Option<Node>,
    /// How many changesets are new, where the sender knows.
    pub changesets: Option<u64>,
    /// Whether phases, bookmarks or obsolescence markers moved, as far as the sender knows.
    pub moved: bool,
    /// `HG_USERVAR_*` of `hg push --pushvars`.
    pub pushvars: BTreeMap<String, String>,
    /// When the hook ran: milliseconds since 1970. Matters for what was spooled.
    pub time_ms: i64,
    /// Wait at most this long, in milliseconds, for the plan (`[hgci] wait`).
    pub wait_ms: u64,
}

/// The answer to a hint, sent when it is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hinted {
    /// The number of the push; `None` when there is nothing new to record.
    pub push: Option<u64>,
    /// The line for the pusher, without `ci: ` in front; empty: print nothing.
    pub line: String,
    /// More for the pusher: what is wrong with the pipeline, with `wait`.
    pub more: Vec<String>,
}
