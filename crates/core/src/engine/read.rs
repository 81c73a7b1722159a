//! For those who ask: status, the web, the hosts after a restart.

use std::sync::Arc;

use crate::job::Plan;
use crate::{AttemptKey, BuildId, JobKey, JobState, Node, PushId};

use super::{AttemptState, BuildRow, Config, Engine, JobRow, Meta, Now, PushRow, Tally};

/// How much is in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Builds, also those that are final and not yet published.
    pub builds: usize,
    /// Jobs by state, in the order of [`JobState::ALL`].
    jobs: [usize; JobState::ALL.len()],
}

impl Counts {
    /// How many jobs of builds in flight are in this state.
    pub fn jobs(&self, state: JobState) -> usize {
        self.jobs[state as usize]
    }

    pub(super) fn came(&mut self, state: JobState) {
        self.jobs[state as usize] += 1;
    }

    pub(super) fn went(&mut self, state: JobState) {
        let count = &mut self.jobs[state as usize];
        *count = count.saturating_sub(1);
    }

    pub(super) fn moved(&mut self, from: JobState, to: JobState) {
        self.went(from);
        self.came(to);
    }
}

/// How much of a pool is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolUse {
    /// The pool.
    pub name: String,
    /// Its slots.
    pub slots: u32,
    /// How many of them are held. More than `slots` after their number was lowered.
    pub held: u32,
}

/// An attempt that holds a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The attempt.
    pub attempt: AttemptKey,
    /// The pool; it may be gone from the configuration.
    pub pool: Arc<str>,
    /// The slot of it.
    pub slot: u32,
    /// Where the attempt stands. [`AttemptState::Over`]: its host is to be rid of it.
    pub state: AttemptState,
    /// The runner that claimed it.
    pub instance: Option<String>,
    /// The monotonic time at which something happens to it when nobody is heard of.
    pub due: Option<u64>,
}

/// A job that waits for its next attempt, since the machine failed the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The job.
    pub job: JobKey,
    /// Its name.
    pub name: String,
    /// Its repository's name in the configuration.
    pub repo: String,
    /// The monotonic time at which it comes into line again.
    pub due: u64,
    /// Why the last attempt came to nothing.
    pub why: String,
}

impl Engine {
    /// The number of the next new push.
    pub fn next_push(&self) -> PushId {
        self.meta.next_push
    }

    /// The rules it goes by.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The numbers that come next.
    pub fn meta(&self) -> Meta {
        self.meta
    }

    /// The latest time that it has seen.
    pub fn now(&self) -> Now {
        self.latest
    }

    /// How much is in flight.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What has happened since it was made.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Goes on counting from what an engine before this one has counted.
    pub fn count_on(&mut self, tally: Tally) {
        self.tally = tally;
    }

    /// How many plans are in memory.
    pub fn plans(&self) -> usize {
        self.plans.len()
    }

    /// Whether nothing new is started, as by [`super::Event::Drain`].
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Why nothing may start, as by [`super::Event::Blocked`].
    pub fn blocked(&self) -> Option<&str> {
        self.blocked.as_deref()
    }

    /// The configured pools, in order.
    pub fn pools(&self) -> Vec<PoolUse> {
        let uses = self.slots.pools().iter().enumerate().map(|(at, places)| PoolUse {
            name: places.pool.name.clone(),
            slots: places.pool.slots,
            held: self.slots.holders(at),
        });
        uses.collect()
    }

    /// Every attempt that holds a slot. After a restart pools take up what still runs of them.
    pub fn held(&self) -> Vec<Held> {
        let held = self.slots.held().filter_map(|(pool, slot, key)| {
            let job = self.builds.get(&key.job.build)?.jobs.get(key.job.index as usize)?;
            let attempt = job.attempts.iter().find(|attempt| attempt.row.n == key.n)?;
            Some(Held {
                attempt: key,
                pool: pool.clone(),
                slot,
                state: attempt.row.state,
                instance: attempt.row.instance.clone(),
                due: attempt.due,
            })
        });
        held.collect()
    }

    /// The jobs that wait for their next attempt, and hold no slot meanwhile: the next first.
    pub fn retries(&self) -> impl Iterator<Item = Retry> {
        self.timers.jobs().filter_map(|(due, key)| {
            let build = self.builds.get(&key.build)?;
            let last = build.jobs.get(key.index as usize)?.attempts.last()?;
            let spec = build.shape.as_ref()?.plan.jobs.get(key.index as usize)?;
            Some(Retry {
                job: key,
                name: spec.name.clone(),
                repo: build.row.repo.clone(),
                due,
                why: last.row.fault().unwrap_or_default().to_owned(),
            })
        })
    }

    /// A push in flight.
    pub fn push(&self, id: PushId) -> Option<&PushRow> {
        self.pushes.get(&id).map(|push| &push.row)
    }

    /// All pushes in flight, the oldest first.
    pub fn pushes(&self) -> impl Iterator<Item = &PushRow> {
        self.pushes.values().map(|push| &push.row)
    }

    /// Pushes in flight below a number, the newest first.
    pub fn pushes_below(&self, id: PushId) -> impl Iterator<Item = &PushRow> {
        self.pushes.range(..id).rev().map(|(_, push)| &push.row)
    }

    /// Builds in flight below a number, the newest first.
    pub fn builds_below(&self, id: BuildId) -> impl Iterator<Item = &BuildRow> {
        self.builds.range(..id).rev().map(|(_, build)| &build.row)
    }

    /// A build in flight.
    pub fn build(&self, id: BuildId) -> Option<&BuildRow> {
        self.builds.get(&id).map(|build| &build.row)
    }

    /// All builds in flight, the oldest first.
    pub fn builds(&self) -> impl Iterator<Item = &BuildRow> {
        self.builds.values().map(|build| &build.row)
    }

    /// The builds in flight of a changeset, the oldest first.
    pub fn builds_of(&self, repo: &str, node: Node) -> impl Iterator<Item = &BuildRow> {
        let ids = self.by_node.range((node, BuildId(0))..=(node, BuildId(u64::MAX)));
        ids.filter_map(|(_, id)| self.build(*id)).filter(move |build| build.repo == repo)
    }

    /// The plan of a build in flight; `None` also where the pipeline is malformed.
    pub fn plan(&self, id: BuildId) -> Option<&Arc<Plan>> {
        Some(&self.builds.get(&id)?.shape.as_ref()?.plan)
    }

    /// The jobs of a build in flight, in the order of the plan.
    pub fn jobs(&self, id: BuildId) -> Vec<JobRow> {
        let build = self.builds.get(&id);
        let count = build.map_or(0, |build| u32::try_from(build.jobs.len()).unwrap_or(u32::MAX));
        (0..count).filter_map(|index| build?.job_row(index)).collect()
    }

    /// A job of a build in flight.
    pub fn job_row(&self, key: JobKey) -> Option<JobRow> {
        self.builds.get(&key.build)?.job_row(key.index)
    }

    /// What a job that has not started waits for, for people.
    pub fn waits_for(&self, key: JobKey) -> Option<String> {
        let build = self.builds.get(&key.build)?;
        let job = build.jobs.get(key.index as usize)?;
        let spec = build.shape.as_ref()?.plan.jobs.get(key.index as usize)?;
        match job.state {
            JobState::Waiting => {
                let open = spec.needs.iter().filter(|need| !build.counts_as_passed(**need));
                let jobs = &build.shape.as_ref()?.plan.jobs;
                let names: Vec<&str> =
                    open.filter_map(|need| Some(jobs.get(*need as usize)?.name.as_str())).collect();
                Some(format!("waits for {}", names.join(", ")))
            }
            JobState::Queued if self.blocked.is_some() => self.blocked.clone(),
            JobState::Queued if self.draining => {
                Some("the daemon is draining: it finishes what runs and starts nothing".into())
            }
            JobState::Queued if job.retry.is_some() && job.attempts.is_empty() => {
                Some("only trusted jobs have a pool: waits for a hook to say who pushed".into())
            }
            JobState::Queued if job.retry.is_some() => {
                let why = job.attempts.last().and_then(|last| last.row.fault());
                Some(format!("tried again soon: {}", why.unwrap_or("the last attempt was errored")))
            }
            JobState::Queued => Some("waits for a free slot".into()),
            _ => None,
        }
    }
}
