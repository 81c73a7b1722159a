//! What came into a repository in one transaction.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Node, PushId};

/// How much the work of a push may see and do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lane {
    /// Public changesets, pushed by somebody the repository trusts.
    Trusted,
    /// Drafts, and whatever came from anybody else.
    Try,
}

/// How the daemon came to know of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// A hook told it.
    Hook,
    /// A hook wrote it into the spool.
    Spool,
    /// It found a difference between the repository and its mark.
    Reconcile,
    /// Nothing came in: somebody asked for a run of what is there.
    Asked,
}

/// Mercurial's phases that an exchange can move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Immutable and shared.
    Public,
    /// May still be changed.
    Draft,
    /// Never exchanged.
    Secret,
}

/// A changeset that was there already and whose phase moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseMove {
    /// The changeset.
    pub node: Node,
    /// Its phase afterwards.
    pub to: Phase,
}

/// A bookmark that was set, moved or deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BookmarkMove {
    /// Its name. Bytes that are not UTF-8 are replaced; of one that is longer than 200 bytes the
    /// end is a digest.
    pub name: String,
    /// Where it was; `None` when it is new.
    pub from: Option<Node>,
    /// Where it is; `None` when it was deleted.
    pub to: Option<Node>,
}

/// One transaction on the server that brought something in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// Its number.
    pub id: PushId,
    /// The name of the repository in the daemon's configuration.
    pub repo: String,
    /// When the daemon heard of it: milliseconds since 1970, UTC.
    pub received: i64,
    /// How the daemon heard of it.
    pub via: Via,
    /// Mercurial's transaction id; `None` for what reconciling found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub txid: Option<String>,
    /// Mercurial's word for how it came: `serve`, `push`, `pull`, `unbundle`, `commit`, …
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Who pushed, as authenticated by the server; `None` when nobody can say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// `HG_URL`: where it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The first new changeset, in the order of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Node>,
    /// The last new changeset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Node>,
    /// How many changesets are new.
    #[serde(default)]
    pub changesets: u64,
    /// New changesets without new children, at most [`Push::MAX_LISTED`] of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<Node>,
    /// Phases of older changesets that moved, at most [`Push::MAX_LISTED`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<PhaseMove>,
    /// Bookmarks that moved, at most [`Push::MAX_LISTED`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bookmarks: Vec<BookmarkMove>,
    /// How many obsolescence markers are new.
    #[serde(default)]
    pub markers: u64,
    /// `hg push --pushvars`, at most [`Push::MAX_LISTED`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pushvars: BTreeMap<String, String>,
    /// Why it has no build, or fewer than its changesets ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_build: Option<String>,
}

impl Push {
    /// How many entries of each list are kept in the record; the repository has the rest.
    pub const MAX_LISTED: usize = 1000;
}
