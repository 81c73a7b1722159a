//! What the store keeps for the engine. The rows are the queue: the engine is rebuilt from them
//! and from nothing else.
//!
//! An effect that is not done has no row of its own: it follows from the row of its subject, so
//! the two cannot disagree. [`PushRow::stage`] asks for planning and mail, an attempt that is not
//! [`AttemptRow::gone`] for launch or kill, [`JobRow::published`] and [`BuildRow::published`] for
//! publishing.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::job::Plan;
use crate::push::{Lane, Push};
use crate::result::{BuildResult, JobResult, Verdict};
use crate::{BuildId, BuildState, JobKey, JobState, Node, PushId};

use super::Reply;

/// What changed in a turn: one batch of the store. Each names a row that is put or removed.
#[derive(Clone, Debug)]
pub enum Change {
    /// Put the counters.
    Meta(Meta),
    /// Put a plan, once for all builds that share it.
    Plan(PlanId, Arc<Plan>),
    /// No build in flight uses the plan. The history may keep it.
    DropPlan(PlanId),
    /// Put a push that is in flight.
    Push(Box<PushRow>),
    /// Put a build that is in flight.
    Build(Box<BuildRow>),
    /// Put a job that is in flight. A job without a row is as it was planned: waiting where it
    /// needs others, else queued since its build was made.
    Job(Box<JobRow>),
    /// No build in flight has the job: its build or its plan was lost.
    DropJob(JobKey),
    /// The push is done: from flight to history.
    ArchivePush(Box<PushRow>),
    /// The build is final and nothing is left to do for it: from flight to history, with the rows
    /// of all its jobs.
    ArchiveBuild {
        /// The build.
        build: Box<BuildRow>,
        /// Its jobs, in the order of the plan.
        jobs: Vec<JobRow>,
    },
}

/// Everything of the store that is in flight, as it is read at start.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// The counters.
    pub meta: Meta,
    /// The plans.
    pub plans: Vec<(PlanId, Arc<Plan>)>,
    /// The pushes.
    pub pushes: Vec<PushRow>,
    /// The builds.
    pub builds: Vec<BuildRow>,
    /// The jobs that have a row.
    pub jobs: Vec<JobRow>,
}

/// The numbers that come next. They never go back, so no number is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The next push.
    pub next_push: PushId,
    /// The next build.
    pub next_build: BuildId,
}

impl Default for Meta {
    fn default() -> Meta {
        Meta { next_push: PushId(1), next_build: BuildId(1) }
    }
}

/// Why a changeset is built. A changeset is built once because of pushes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// A push brought it.
    #[default]
    Push,
    /// Somebody asked for it. There may be any number of these, but one after the other.
    Asked,
}

/// The name of a plan: the SHA-256 of its JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlanId(pub [u8; 32]);

impl PlanId {
    /// The name of this plan.
    pub fn of(plan: &Plan) -> PlanId {
        let mut hash = Sha256::new();
        // Strings, numbers, lists and maps with text for keys always have a JSON form, and the
        // hash takes whatever is written into it.
        let _cannot_fail = serde_json::to_writer(&mut hash, plan);
        PlanId(hash.finalize().into())
    }
}

impl fmt::Display for PlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for PlanId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PlanId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<PlanId, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let mut id = [0; 32];
        let digit = |c: u8| (c as char).to_digit(16);
        if text.len() != 64 {
            return Err(serde::de::Error::custom("a plan is named by 64 hexadecimal digits"));
        }
        for (byte, pair) in id.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            match (digit(pair[0]), digit(pair[1])) {
                (Some(high), Some(low)) => *byte = (high * 16 + low) as u8,
                _ => return Err(serde::de::Error::custom("not a hexadecimal digit")),
            }
        }
        Ok(PlanId(id))
    }
}

/// What is to be done for a push.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// It is to be read and planned.
    #[default]
    Planning,
    /// Some of its builds are not published.
    Building,
    /// Its messages are to be put into the outbox.
    Mailing,
    /// Nothing.
    Done,
}

/// A push.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushRow {
    /// What is known of it. `no_build` is set when it is [`Stage::Done`] without a build,
    /// where it has too many changesets to build them all, and while it cannot be planned.
    pub push: Push,
    /// What is to be done for it.
    pub stage: Stage,
    /// The first of its builds; the others follow without a gap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_build: Option<BuildId>,
    /// How many builds it has.
    #[serde(default)]
    pub builds: u32,
    /// Changesets that a late hook has lifted into the trusted lane before there were builds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted: Vec<Node>,
}

/// A build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildRow {
    /// Its number.
    pub id: BuildId,
    /// The push that brought the changeset.
    pub push: PushId,
    /// The repository's name in the configuration.
    pub repo: String,
    /// The changeset.
    pub node: Node,
    /// Why it is built.
    #[serde(default)]
    pub trigger: Trigger,
    /// The changeset's branch.
    pub branch: String,
    /// The changeset's author.
    pub author: String,
    /// The first line of its description.
    pub description: String,
    /// Trusted or try, for what has not started.
    pub lane: Lane,
    /// Its plan; `None` where the pipeline is malformed or cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanId>,
    /// What is wrong with the pipeline: file, line, column, message; or why it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it was made: milliseconds since 1970.
    pub created_ms: i64,
    /// When it became final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<i64>,
    /// Who asked for it, where somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Its state. [`BuildState::Running`] until it is final.
    pub state: BuildState,
    /// Whether its end is in the results log.
    #[serde(default)]
    pub published: bool,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRow {
    /// Which.
    pub key: JobKey,
    /// Its name in the plan.
    pub name: String,
    /// Whether the build is well even when this job is not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_failure: bool,
    /// Its state.
    pub state: JobState,
    /// Since when it is queued, which is its place in the queue: milliseconds since 1970.
    pub queued_ms: i64,
    /// When it became final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<i64>,
    /// Why it is errored, skipped, cancelled or superseded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Who asked for it to stop, where somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_by: Option<String>,
    /// Why newer work makes it pointless, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded: Option<String>,
    /// How it ended in an earlier build, where this one was not to run it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Box<JobResult>>,
    /// Its attempts, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptRow>,
    /// Whether its end is in the results log.
    #[serde(default)]
    pub published: bool,
}

impl BuildRow {
    /// How it ended, as the results log has it; `None` while it has not. `jobs`: how many it has.
    pub fn result(&self, jobs: u32) -> Option<BuildResult> {
        Some(BuildResult {
            node: self.node,
            push: self.push,
            build: self.id,
            state: self.state,
            ended_ms: self.ended_ms?,
            jobs,
            message: self.message.clone(),
            by: self.by.clone(),
        })
    }
}

impl JobRow {
    /// Whether it runs and is to stop.
    pub fn is_stopping(&self) -> bool {
        !self.state.is_final() && (self.cancelled_by.is_some() || self.superseded.is_some())
    }

    /// The job that ran, where its log is: this one, or that of an earlier build.
    pub fn ran_as(&self) -> JobKey {
        self.kept.as_ref().map_or(self.key, |kept| kept.ran_as())
    }

    /// How it ended, as the results log has it; `None` while it has not. `build` is its build.
    pub fn result(&self, build: &BuildRow) -> Option<JobResult> {
        if !self.state.is_final() {
            return None;
        }
        let (node, push, build, index) = (build.node, build.push, build.id, self.key.index);
        if let Some(kept) = &self.kept {
            let from = Some(kept.ran_as());
            return Some(JobResult { node, push, build, index, from, ..(**kept).clone() });
        }
        let last = self.attempts.last();
        let verdict = last.and_then(|attempt| attempt.verdict.as_deref());
        let (exit, signal) =
            verdict.map(|verdict| verdict.outcome.exit_and_signal()).unwrap_or_default();
        let claimed = last.and_then(|attempt| attempt.claimed_ms);
        let ended = last.and_then(|attempt| attempt.ended_ms);
        let believed = claimed.zip(ended).map_or(0, |(from, to)| to.saturating_sub(from).max(0));
        Some(JobResult {
            node,
            push,
            build,
            index,
            name: self.name.clone(),
            state: self.state,
            attempt: last.map_or(0, |attempt| attempt.n),
            exit,
            signal,
            started_ms: verdict.map_or(claimed.unwrap_or(0), |verdict| verdict.started_ms),
            duration_ms: verdict.map_or(believed.unsigned_abs(), |verdict| verdict.duration_ms),
            pool: last.map_or_else(String::new, |attempt| attempt.pool.to_string()),
            host: last.map_or_else(String::new, AttemptRow::host),
            tests: verdict.and_then(|verdict| verdict.tests),
            allow_failure: self.allow_failure,
            why: self.why.clone(),
            from: None,
        })
    }

    /// What a runner that reports this verdict is told, if the job is final: the same verdict
    /// again is as good as the first time, another is not.
    pub fn reply_to(&self, n: u32, instance: &str, verdict: &Verdict) -> Reply {
        let attempt = self.attempts.iter().find(|attempt| attempt.n == n);
        attempt.map_or(Reply::Unknown, |attempt| attempt.reply_to(instance, verdict))
    }
}

/// Where an attempt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttemptState {
    /// A host was asked to start a runner.
    Launching,
    /// A runner has claimed it and holds a lease.
    Running,
    /// It is over, with a verdict or given up.
    Over,
}

/// An attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRow {
    /// Which one of its job, from 1.
    pub n: u32,
    /// The pool that it was given to.
    pub pool: Arc<str>,
    /// The slot of that pool.
    pub slot: u32,
    /// Trusted or try, as it was at the launch.
    pub lane: Lane,
    /// Where it stands.
    pub state: AttemptState,
    /// Whether nothing of it is left on its host. Until then it holds the slot.
    #[serde(default)]
    pub gone: bool,
    /// The runner that claimed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// What the runner was told to enforce, in milliseconds.
    pub timeout_ms: u64,
    /// When it was launched: milliseconds since 1970.
    pub launched_ms: i64,
    /// When it was claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed_ms: Option<i64>,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<i64>,
    /// What its runner said, shortened to what a row may hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Box<Verdict>>,
    /// Why it was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl AttemptRow {
    /// The host, as it is shown.
    pub fn host(&self) -> String {
        format!("{}/{}", self.pool, self.slot)
    }

    /// The answer to a verdict that can change nothing any more.
    pub(super) fn reply_to(&self, instance: &str, verdict: &Verdict) -> Reply {
        let same = self.instance.as_deref() == Some(instance)
            && self.verdict.as_deref() == Some(&super::bound::verdict(verdict.clone()));
        if same { Reply::Repeated } else { Reply::Conflict }
    }
}
