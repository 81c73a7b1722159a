//! What goes into the engine and what comes out of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::job::Plan;
use crate::push::{Lane, Push, Via};
use crate::result::{Entry, JobResult, Verdict};
use crate::{AttemptKey, BuildId, Node, PushId};

use super::{Config, Trigger};

/// Something happened. Every event may come twice without harm.
#[derive(Clone, Debug)]
pub enum Event {
    /// The configuration, at start and when it is read again. Queued jobs are looked at anew.
    Configure(Config),
    /// A push was accepted. Its number is [`super::Engine::next_push`] for a new one; a number
    /// that was used before is a repetition.
    Received(Push),
    /// A push was read. `push` replaces what [`Event::Received`] said. `builds` are those that the
    /// policy asks for, without those that the store's *history* knows by (repository, node,
    /// trigger): the caller looks there in the same turn, directly before this step. The engine
    /// drops those that it has itself in flight, or archived in a batch not yet written; and those
    /// that were asked for while another build of the changeset has not ended.
    Planned {
        /// The push, complete. `no_build` says why `builds` is empty.
        push: Push,
        /// What is to be built, in the order of the repository.
        builds: Vec<NewBuild>,
    },
    /// The push could not be read. [`Effect::Plan`] comes again after a pause.
    PlanFailed {
        /// The push.
        push: PushId,
        /// Which repository could not be read, and why.
        why: String,
    },
    /// The names of all repositories of the configuration, when they may have changed. Pushes of
    /// others that are not planned end without a build, with that as the reason, and builds of
    /// others are cancelled.
    Repositories(BTreeSet<String>),
    /// The hook of a push that was found before it spoke has spoken.
    Amended {
        /// The push.
        push: PushId,
        /// What the hook knows of it.
        amendment: Amendment,
    },
    /// A runner takes an attempt.
    Claimed {
        /// The attempt.
        attempt: AttemptKey,
        /// The runner's name for itself; at most [`Event::MAX_INSTANCE`] bytes.
        instance: String,
    },
    /// A runner is alive.
    Renewed {
        /// The attempt.
        attempt: AttemptKey,
        /// As in [`Event::Claimed`].
        instance: String,
    },
    /// A runner says how an attempt ended.
    Ended {
        /// The attempt.
        attempt: AttemptKey,
        /// As in [`Event::Claimed`].
        instance: String,
        /// How it ended.
        verdict: Verdict,
    },
    /// No runner was started for the attempt, and nothing is left of the try.
    LaunchFailed {
        /// The attempt.
        attempt: AttemptKey,
        /// Which host, which operation, what it said.
        why: String,
    },
    /// Nothing of the attempt is left on its host, and the slot is free: the runner has ended (as
    /// it does after a verdict), or the host is lost, or [`Effect::Kill`] was carried out. Pools
    /// report this for every attempt that they launched, and for every [`Effect::Kill`], also
    /// when there was nothing to kill.
    HostGone {
        /// The attempt.
        attempt: AttemptKey,
        /// How the runner ended, for the case that it ended without a verdict.
        why: String,
    },
    /// An [`Effect::Publish`] is durable in the results log.
    Published(Publication),
    /// An [`Effect::Mail`] is durable in the outbox.
    Mailed(PushId),
    /// Somebody wants a build, or one job of it, to stop.
    Cancel {
        /// The build.
        build: BuildId,
        /// The job, by its place in the plan; `None`: all of them.
        job: Option<u32>,
        /// Who.
        by: String,
    },
    /// Newer work makes a build pointless: what is not final of it is stopped, and superseded.
    Supersede {
        /// The build.
        build: BuildId,
        /// Why, as it is shown.
        why: String,
    },
    /// Finish what runs, start nothing; or go on.
    Drain(bool),
    /// Nothing may start, and why; or go on. The disk is below its limit, for example.
    Blocked(Option<String>),
    /// Time has passed. The caller takes all other events that wait first, so that a renewal
    /// that came in time counts even when the loop was slow.
    Tick,
}

impl Event {
    /// The longest name of a runner instance, in bytes.
    pub const MAX_INSTANCE: usize = 64;
}

/// A build to be.
#[derive(Clone, Debug)]
pub struct NewBuild {
    /// The repository's name in the configuration.
    pub repo: String,
    /// The changeset.
    pub node: Node,
    /// Why it is built.
    pub trigger: Trigger,
    /// The changeset's branch.
    pub branch: String,
    /// The changeset's author.
    pub author: String,
    /// The first line of its description.
    pub description: String,
    /// Trusted or try.
    pub lane: Lane,
    /// Its jobs, or why it has none.
    pub plan: Result<Arc<Plan>, NoPlan>,
    /// Who asked for it, where somebody did.
    pub by: Option<String>,
    /// Jobs of the plan, by place, that are not to run: they keep how they ended in an earlier
    /// build of the changeset. What is no end of that job is ignored.
    pub kept: BTreeMap<u32, JobResult>,
}

/// Why a build has no jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoPlan {
    /// What is wrong with its pipeline (file, line, column, message), or with the changeset: its
    /// own fault, so it failed.
    Malformed(String),
    /// Why the machine could not read it: nothing is known of it, so it is errored.
    Unreadable(String),
}

impl NoPlan {
    /// What is said of it.
    pub fn message(&self) -> &str {
        let (NoPlan::Malformed(message) | NoPlan::Unreadable(message)) = self;
        message
    }
}

/// What a late hook adds to a push.
#[derive(Clone, Debug, Default)]
pub struct Amendment {
    /// How the daemon heard of it.
    pub via: Option<Via>,
    /// Mercurial's transaction id.
    pub txid: Option<String>,
    /// Mercurial's word for how it came.
    pub source: Option<String>,
    /// Who pushed.
    pub user: Option<String>,
    /// Where it came from.
    pub url: Option<String>,
    /// `hg push --pushvars`.
    pub pushvars: BTreeMap<String, String>,
    /// Changesets of the push that belong into the trusted lane, now that their pusher is known:
    /// it is for the caller to see that they are his, and public. Their jobs that have not started leave the
    /// try lane. Nothing ever goes the other way. At most [`Push::MAX_LISTED`].
    pub trusted: Vec<Node>,
}

impl Amendment {
    /// Adds what the hook knows to what is known of the push.
    pub fn apply(self, push: &mut Push) {
        push.via = self.via.unwrap_or(push.via);
        push.txid = self.txid.or(push.txid.take());
        push.user = self.user.or(push.user.take());
        push.url = self.url.or(push.url.take());
        if let Some(source) = self.source {
            push.source = source;
        }
        if !self.pushvars.is_empty() {
            push.pushvars = self.pushvars;
        }
    }
}

/// Something to do, once the changes of the same turn are durable, in the order given. Each may
/// be asked for twice and must be harmless then. Except for [`Effect::Launch`] and [`Effect::Stop`]
/// each is asked for again until an event reports it done; a launch that leads to nothing is given
/// up and retried.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Read the push and say [`Event::Planned`] or [`Event::PlanFailed`].
    Plan(Box<Push>),
    /// Start a runner; nothing to do when one was started for this attempt already. If that one
    /// has ended since, say [`Event::HostGone`] and start no other: it could not be told from the
    /// first when the first one's end is reported late.
    Launch {
        /// For which attempt.
        attempt: AttemptKey,
        /// On which pool.
        pool: Arc<str>,
        /// On which of its slots, from 0.
        slot: u32,
    },
    /// Have the runner of a running attempt stop now. Asked for once: it hears of a cancel with its
    /// next renewal as well, so there is nothing to be said of it.
    Stop {
        /// The attempt.
        attempt: AttemptKey,
        /// Its pool; it may be gone from the configuration.
        pool: Arc<str>,
        /// Its slot.
        slot: u32,
    },
    /// End whatever is left of the attempt, give its host back, say [`Event::HostGone`].
    Kill {
        /// The attempt.
        attempt: AttemptKey,
        /// Its pool; it may be gone from the configuration.
        pool: Arc<str>,
        /// Its slot.
        slot: u32,
    },
    /// Append to the results log, in this order, and after all that was published before; say
    /// [`Event::Published`]. What the log has already is left out.
    Publish {
        /// Whose results log, by the repository's name in the configuration.
        repo: String,
        /// The entries.
        entries: Vec<Entry>,
        /// To be given back with [`Event::Published`].
        publication: Publication,
    },
    /// All builds of the push are final and published: put its messages into the outbox, say
    /// [`Event::Mailed`].
    Mail(PushId),
}

/// What an [`Effect::Publish`] publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The build.
    pub build: BuildId,
    /// Its jobs, by their place in the plan.
    pub jobs: Vec<u32>,
    /// Whether the build's own entry is in it.
    pub whole: bool,
}

/// What the sender of an event gets. It is sent when the changes of the turn are durable.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// It was taken.
    Accepted,
    /// It had been taken before; nothing changed. As good as [`Reply::Accepted`].
    Repeated,
    /// No such push, build or attempt is in flight: look in the history. For a verdict,
    /// [`super::JobRow::reply_to`] tells which answer a row of the history gives.
    Unknown,
    /// It contradicts what is known: not this runner's attempt any more, another verdict, a build
    /// that is over.
    Conflict,
    /// The answer to [`Event::Claimed`].
    Claimed(Box<Grant>),
    /// The answer to [`Event::Renewed`].
    Lease {
        /// It ends in so many milliseconds, unless it is renewed.
        ms: u64,
        /// The job is to be stopped and reported as cancelled.
        cancel: bool,
    },
    /// The answer to [`Event::Planned`]: the new builds.
    Planned(Vec<BuildId>),
}

/// What a runner that has claimed an attempt is to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// The attempt.
    pub attempt: AttemptKey,
    /// The push that brought the changeset.
    pub push: PushId,
    /// The repository's name in the configuration.
    pub repo: String,
    /// The changeset.
    pub node: Node,
    /// Its branch.
    pub branch: String,
    /// The plan; the job is at `attempt.job.index`.
    pub plan: Arc<Plan>,
    /// Trusted or try, as it was when the attempt was launched.
    pub lane: Lane,
    /// The pool that it runs on.
    pub pool: Arc<str>,
    /// The slot of that pool.
    pub slot: u32,
    /// The most that its steps may take together, in milliseconds.
    pub timeout_ms: u64,
    /// The lease, in milliseconds.
    pub lease_ms: u64,
    /// The job is to be stopped at once and reported as cancelled.
    pub cancel: bool,
}

impl Grant {
    /// The job to run.
    pub fn spec(&self) -> &crate::job::JobSpec {
        // A grant is made for a job of its plan alone.
        &self.plan.jobs[self.attempt.job.index as usize]
    }
}
