//! What people ask the daemon to do: `POST` of an [`Ask`] to [`RUN`], [`RETRY`] or [`CANCEL`].
//!
//! | status | means |
//! |---|---|
//! | 200 | [`Asked`]: it is durable |
//! | 404 | no such repository, changeset or job |
//! | 409 | not now or not any more: a build of the changeset has not ended, or has; nothing failed |
//! | 422 | nothing can be run there: no pipeline, or a malformed one |

use hgci_core::Node;
use serde::{Deserialize, Serialize};

/// Run jobs of a changeset anew.
pub const RUN: &str = "/api/v1/run";

/// Run those again that did not pass.
pub const RETRY: &str = "/api/v1/retry";

/// Stop what is queued or running.
pub const CANCEL: &str = "/api/v1/cancel";

/// The most bytes that an [`Ask`] may have as JSON.
pub const MAX_ASK: usize = 64 * 1024;

/// The longest [`Ask::id`], in bytes.
pub const MAX_ID: usize = 64;

/// What somebody asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// [`crate::PROTOCOL`] of the sender.
    pub v: u32,
    /// Chosen at random by who asks. The same id again is the same request, whose answer was lost.
    #[serde(default)]
    pub id: String,
    /// The repository: its root folder or its name.
    pub repo: String,
    /// The changeset.
    pub node: Node,
    /// The jobs: names, or what a matrix has made several jobs of. Empty: whatever the call is for.
    #[serde(default)]
    pub jobs: Vec<String>,
    /// Where the request came from, as in `HG_URL`: of front ends that have authenticated somebody.
    #[serde(default)]
    pub url: String,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Asked {
    /// The build that was made, or whose jobs are cancelled.
    pub build: u64,
    /// The jobs that run, or are cancelled.
    pub jobs: Vec<String>,
    /// How many jobs keep the result that they had.
    pub kept: usize,
    /// Who asked, as the daemon knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Nothing new was done: the same was asked for before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
    /// Where people can see the build; empty without `[web]`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub url: String,
}
