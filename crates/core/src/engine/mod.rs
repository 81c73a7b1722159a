//! The engine: a state machine that decides what happens next.
//!
//! [`Engine::step`] takes the time and one [`Event`] and returns a [`Reply`]. What must be kept
//! and what must be done pile up until they are taken. One loop in the daemon feeds it:
//!
//! 1. take the events that wait, and a [`Event::Tick`] once [`Engine::next_wake`] has come;
//! 2. [`Engine::step`] each;
//! 3. write [`Engine::take_changes`] as one batch and wait until it is durable;
//! 4. carry out [`Engine::take_effects`], in order, and send the replies.
//!
//! When a batch cannot be written, the engine is dropped with its effects and replies and made
//! anew by [`Engine::restore`] from what the store has. Nothing here does I/O, reads a clock, or
//! panics, whatever comes in.
//!
//! Rooms: `config`, `event` and `row` are what others see; `transition` is the table of states;
//! `state` is what is in memory; `slots`, `ready`, `plans` and `timers` are indexes that are
//! rebuilt from it; `intake`, `attempt`, `cancel`, `schedule`, `publish`, `tick` and `restore` are
//! what happens; `read` is for those who ask.

mod attempt;
mod bound;
mod cancel;
mod config;
mod event;
mod intake;
mod plans;
mod publish;
mod read;
mod ready;
mod restore;
mod row;
mod schedule;
mod slots;
mod state;
mod tally;
mod tick;
mod timers;
mod transition;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::job::Plan;
use crate::{AttemptKey, BuildId, JobKey, Node, PushId};

pub use config::{Config, Now, Pool};
pub use event::{Amendment, Effect, Event, Grant, NewBuild, NoPlan, Publication, Reply};
pub use read::{Counts, Held, PoolUse};
pub use restore::{Restored, Restraint};
pub use row::{
    AttemptRow, AttemptState, BuildRow, Change, JobRow, Meta, PlanId, PushRow, Rows, Stage, Trigger,
};
pub use tally::{AttemptEnd, Tally};

use plans::Plans;
use ready::Ready;
use slots::Slots;
use state::{BuildInFlight, Job, PushInFlight};
use timers::Timers;

/// The state of everything that is in flight. See the module.
#[derive(Debug, Default)]
pub struct Engine {
    config: Config,
    meta: Meta,
    // In boxes, for the nodes of a map that grows at its end are half empty.
    pushes: BTreeMap<PushId, Box<PushInFlight>>,
    builds: BTreeMap<BuildId, Box<BuildInFlight>>,
    by_node: BTreeSet<(Node, BuildId)>,
    plans: Plans,
    slots: Slots,
    ready: Ready,
    timers: Timers,
    counts: Counts,
    tally: Tally,
    draining: bool,
    blocked: Option<String>,
    /// The latest times seen. A clock that goes back is taken to stand still, so that neither
    /// leases nor the order of the queue depend on it.
    latest: Now,
    dirty: Dirty,
    effects: Vec<Effect>,
}

/// What has changed since [`Engine::take_changes`].
#[derive(Debug, Default)]
struct Dirty {
    meta: bool,
    plans: Vec<(PlanId, Arc<Plan>)>,
    dropped_plans: Vec<PlanId>,
    pushes: BTreeSet<PushId>,
    builds: BTreeSet<BuildId>,
    jobs: BTreeSet<JobKey>,
    dropped_jobs: Vec<JobKey>,
    /// Rows that left, and the names of builds among them: they are in no history yet.
    archived: Vec<Change>,
    archived_builds: BTreeSet<(Node, Trigger, String)>,
}

impl Engine {
    /// An engine that knows of nothing. [`Engine::restore`] makes one from a store.
    pub fn new(config: Config) -> Engine {
        let mut engine = Engine::default();
        engine.slots.configure(&config.pools);
        engine.config = config;
        engine
    }

    /// Takes one event.
    pub fn step(&mut self, now: Now, event: Event) -> Reply {
        let now = self.clamp(now);
        let reply = match event {
            Event::Configure(config) => self.configure(now, config),
            Event::Received(push) => self.received(now, push),
            Event::Planned { push, builds } => self.planned(now, push, builds),
            Event::PlanFailed { push, why } => self.plan_failed(now, push, why),
            Event::Amended { push, amendment } => self.amended(now, push, amendment),
            Event::Repositories(names) => self.repositories(now, &names),
            Event::Claimed { attempt, instance } => self.claimed(now, attempt, instance),
            Event::Renewed { attempt, instance } => self.renewed(now, attempt, &instance),
            Event::Ended { attempt, instance, verdict } => {
                self.ended(now, attempt, &instance, verdict)
            }
            Event::LaunchFailed { attempt, why } => self.launch_failed(now, attempt, &why),
            Event::HostGone { attempt, why } => self.host_gone(now, attempt, &why),
            Event::Published(publication) => self.published(now, &publication),
            Event::Mailed(push) => self.mailed(push),
            Event::Cancel { build, job, by } => self.cancel(now, build, job, by),
            Event::Supersede { build, why } => self.supersede(now, build, why),
            Event::Drain(draining) => {
                self.draining = draining;
                Reply::Accepted
            }
            Event::Blocked(why) => {
                self.blocked = why.map(|why| bound::text(why, bound::REASON));
                Reply::Accepted
            }
            Event::Tick => self.tick(now),
        };
        self.start_ready(now);
        reply
    }

    /// What changed since the last call, as one batch for the store. Rows are as they are now, so
    /// what changed twice is written once.
    pub fn take_changes(&mut self) -> Vec<Change> {
        let dirty = std::mem::take(&mut self.dirty);
        let mut changes = Vec::new();
        if dirty.meta {
            changes.push(Change::Meta(self.meta));
        }
        // A plan may have been dropped and added again in one turn; being known is what counts.
        let dropped = dirty.dropped_plans.into_iter().filter(|id| !self.plans.has(*id));
        changes.extend(dropped.map(Change::DropPlan));
        let added = dirty.plans.into_iter().filter(|(id, _)| self.plans.has(*id));
        changes.extend(added.map(|(id, plan)| Change::Plan(id, plan)));
        let pushes = dirty.pushes.iter().filter_map(|id| self.pushes.get(id));
        changes.extend(pushes.map(|push| Change::Push(Box::new(push.row.clone()))));
        changes.extend(dirty.dropped_jobs.into_iter().map(Change::DropJob));
        let builds = dirty.builds.iter().filter_map(|id| self.builds.get(id));
        changes.extend(builds.map(|build| Change::Build(Box::new(build.row.clone()))));
        let jobs = dirty.jobs.iter().filter_map(|key| self.job_row(*key));
        changes.extend(jobs.map(|row| Change::Job(Box::new(row))));
        changes.extend(dirty.archived);
        changes
    }

    /// What is to be done, in this order, once the changes are durable.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        let mut effects = std::mem::take(&mut self.effects);
        // What was given up before it was even asked for is not to be started.
        effects.retain(|effect| match effect {
            Effect::Launch { attempt, .. } => {
                let attempt = self.attempt_mut(*attempt);
                attempt.is_some_and(|attempt| attempt.row.state == AttemptState::Launching)
            }
            // Nor what was planned in the same turn to be read.
            Effect::Plan(push) => {
                let push = self.pushes.get(&push.id);
                push.is_some_and(|push| push.row.stage == Stage::Planning)
            }
            _ => true,
        });
        effects
    }

    /// When the next [`Event::Tick`] has something to do, on the monotonic clock.
    pub fn next_wake(&self) -> Option<u64> {
        self.timers.next()
    }

    fn clamp(&mut self, now: Now) -> Now {
        self.latest.mono = self.latest.mono.max(now.mono);
        self.latest.wall = self.latest.wall.max(now.wall);
        // What is shown to people follows their clock.
        Now { mono: self.latest.mono, wall: now.wall }
    }

    fn job_mut(&mut self, key: JobKey) -> Option<&mut Job> {
        self.builds.get_mut(&key.build)?.jobs.get_mut(key.index as usize)
    }

    fn attempt_and_timers(
        &mut self,
        key: AttemptKey,
    ) -> Option<(&mut state::Attempt, &mut Timers)> {
        let Engine { builds, timers, .. } = self;
        let job = builds.get_mut(&key.job.build)?.jobs.get_mut(key.job.index as usize)?;
        Some((job.attempt(key.n)?, timers))
    }

    fn attempt_mut(&mut self, key: AttemptKey) -> Option<&mut state::Attempt> {
        self.job_mut(key.job)?.attempt(key.n)
    }
}
