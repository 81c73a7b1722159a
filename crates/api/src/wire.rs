//! What hg servers answer to hg clients about changesets: the wire commands of the extension.
//!
//! | command | arguments | answer |
//! |---|---|---|
//! | [`STATUS`] | `nodes`: hexadecimal, separated by spaces, at most [`MAX_NODES`]; and `seen`, `wait` as in [`crate::read::STATUS`] | [`Statuses`] as JSON |
//! | [`LOG`] | `node`, `job`, and `attempt`, `offset`, `wait` as in [`crate::read::LOG`] | a line of JSON, [`LogPart`], then bytes |
//! | [`ASK`] | `what`: `run`, `retry` or `cancel`; `node`; `jobs`: one a line; `id` as in [`crate::ask::Ask`] | [`Answered`] as JSON |
//!
//! [`ASK`] is for who may push: over http it comes as POST, and elsewhere the server first runs the
//! hooks with which wrappers keep readers from writing.
//!
//! A server that has them advertises the capability `hgci`.

use serde::{Deserialize, Serialize};

use crate::ask::Asked;
use crate::read::NodeStatus;

/// The wire command for states.
pub const STATUS: &str = "hgci-status";

/// The wire command for logs.
pub const LOG: &str = "hgci-log";

/// The wire command for runs, retries and cancels.
pub const ASK: &str = "hgci-ask";

/// The most nodes in one call of [`STATUS`].
pub const MAX_NODES: usize = 200;

/// An answer ends with the build that takes it over this many bytes; the client asks on.
pub const MAX_STATUSES: usize = 4 << 20;

/// What is known of some changesets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Statuses {
    /// The newest build of each changeset that has one.
    pub builds: Vec<NodeStatus>,
    /// Whether the daemon was asked what is queued and running.
    pub daemon: Daemon,
    /// What is wrong with the log, for people.
    pub notes: Vec<String>,
    /// How many of the changesets that were asked for this is about: the first so many.
    pub done: usize,
    /// Of what the daemon said: the same as long as nothing but time has changed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tag: String,
    /// Whether pushes wait for their plan, so that a changeset without a build may soon have one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub planning: bool,
}

/// Whether what is queued and running is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Daemon {
    /// No daemon is known to serve the repository, or none was asked.
    #[default]
    None,
    /// It answered.
    Answered,
    /// It did not, for this reason.
    Silent(String),
}

/// The answer to [`ASK`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answered {
    /// Why it was not done; `None` where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether the same, with the same id, may be asked for again later.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
    /// What was done.
    pub asked: Asked,
}

impl Answered {
    /// It was done.
    pub fn done(asked: Asked) -> Answered {
        Answered { asked, ..Answered::default() }
    }

    /// It was not.
    pub fn refused(why: String) -> Answered {
        Answered { error: Some(why), ..Answered::default() }
    }
}

impl Statuses {
    /// Adds what somebody says who may know more: of each changeset the newer build counts, and of
    /// the same build the results log, where that has its end.
    pub fn merge(&mut self, other: Statuses) {
        for build in other.builds {
            match self.builds.iter_mut().find(|known| known.node == build.node) {
                Some(known) => {
                    let in_log = known.source == "log" && known.state.is_final();
                    if build.build > known.build || (build.build == known.build && !in_log) {
                        *known = build;
                    }
                }
                None => self.builds.push(build),
            }
        }
        if other.daemon != Daemon::None && self.daemon != Daemon::Answered {
            (self.daemon, self.tag, self.planning) = (other.daemon, other.tag, other.planning);
        }
        self.notes.extend(other.notes);
    }
}

/// A part of a job's log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPart {
    /// Which attempt it is.
    pub attempt: u32,
    /// The offset after the last byte of this part.
    pub next: u64,
    /// Nothing will come after it.
    pub done: bool,
    /// Why there is no log, or not now; of the rest `retry` and `away` alone count then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The seconds after which the same call may be repeated, where that may help. The client waits,
    /// so that no server has to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<u32>,
    /// The daemon was not reached, or could not answer. With `retry`, who has read a part of the log
    /// can take it to come back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub away: bool,
}

#[cfg(test)]
mod tests {
    use hgci_core::{BuildState, Node};

    use super::*;

    fn build(n: u8, build: u64, state: BuildState, source: &str) -> NodeStatus {
        NodeStatus {
            node: Node([n; 20]),
            state,
            build,
            push: 1,
            source: source.into(),
            message: None,
            url: String::new(),
            by: None,
            jobs: vec![],
        }
    }

    fn statuses(builds: Vec<NodeStatus>, daemon: Daemon) -> Statuses {
        Statuses { builds, daemon, ..Statuses::default() }
    }

    #[test]
    fn of_two_answers_the_newer_build_counts_and_the_log_for_what_is_final() {
        use BuildState::*;
        let log = [
            build(1, 12, Passed, "log"),
            build(2, 13, Running, "log"),
            build(3, 14, Failed, "log"),
            build(5, 30, Passed, "log"),
        ];
        let live = vec![
            build(1, 12, Passed, "live"),
            build(2, 13, Running, "live"),
            build(3, 15, Running, "live"),
            build(4, 16, Running, "live"),
            build(5, 2, Failed, "live"),
        ];
        let mut merged = statuses(log.to_vec(), Daemon::None);
        merged.merge(statuses(live.clone(), Daemon::Answered));
        let expected =
            [log[0].clone(), live[1].clone(), live[2].clone(), log[3].clone(), live[3].clone()];
        assert_eq!(merged.builds, expected);
        assert_eq!(merged.daemon, Daemon::Answered);
    }

    #[test]
    fn an_answer_survives_the_wire() {
        let mut sent = statuses(vec![build(1, 12, BuildState::Passed, "log")], Daemon::None);
        sent.daemon = Daemon::Silent("not reachable".into());
        let text = serde_json::to_string(&sent).unwrap();
        assert_eq!(serde_json::from_str::<Statuses>(&text).unwrap(), sent);
        // What a newer server adds is passed over.
        let newer = r#"{"builds": [], "daemon": "answered", "more": 1}"#;
        assert_eq!(serde_json::from_str::<Statuses>(newer).unwrap().daemon, Daemon::Answered);
    }
}
