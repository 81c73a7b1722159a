//! The engine after a crash: rebuilt from rows, with every effect that is not done asked for
//! again, and a full term for every lease.

use std::collections::BTreeMap;

use crate::{AttemptKey, BuildId, BuildState, JobKey, JobState, PushId};

use super::cancel::Stop;
use super::schedule::Step;
use super::state::{Attempt, BuildInFlight, PushInFlight, attempt_key};
use super::timers::Timer;
use super::transition::Move;
use super::{
    AttemptRow, AttemptState, BuildRow, Config, Effect, Engine, JobRow, Meta, Now, PushRow, Rows,
    Stage,
};

/// An engine that was rebuilt.
#[derive(Debug)]
pub struct Restored {
    /// The engine. Its changes and effects are to be taken as after a step.
    pub engine: Engine,
    /// What the rows speak of and do not have, for people: nothing, unless the store was damaged.
    pub lost: Vec<String>,
}

/// What keeps an engine from starting anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restraint {
    /// As by [`super::Event::Drain`].
    pub draining: bool,
    /// As by [`super::Event::Blocked`].
    pub blocked: Option<String>,
}

impl Engine {
    /// What keeps it from starting anything.
    pub fn restraint(&self) -> Restraint {
        Restraint { draining: self.draining, blocked: self.blocked.clone() }
    }

    /// An engine with what the store has in flight. `least` has the smallest numbers that may be
    /// used next, as results logs and spools know them: a store that was lost must not lead to
    /// numbers being used twice.
    pub fn restore(config: Config, rows: Rows, least: Meta, now: Now) -> Restored {
        Engine::restore_under(Restraint::default(), config, rows, least, now)
    }

    /// The same, for an engine that may start nothing: what is asked for again goes on.
    pub fn restore_under(
        restraint: Restraint,
        config: Config,
        rows: Rows,
        least: Meta,
        now: Now,
    ) -> Restored {
        let Restraint { draining, blocked } = restraint;
        let mut engine = Engine { config, latest: now, draining, blocked, ..Engine::default() };
        let mut lost = Vec::new();
        let Rows { meta, plans, pushes, builds, jobs } = rows;
        engine.restore_meta(meta, least, &pushes, &builds, &jobs);
        for (id, plan) in plans {
            if let Err(why) = engine.plans.restore(id, plan) {
                lost.push(format!("plan {id} is no plan: {why}"));
            }
        }
        for row in pushes.into_iter().filter(|row| row.stage != Stage::Done) {
            engine.pushes.insert(row.push.id, Box::new(PushInFlight::new(row)));
        }
        let mut jobs_of: BTreeMap<BuildId, Vec<JobRow>> = BTreeMap::new();
        for job in jobs {
            jobs_of.entry(job.key.build).or_default().push(job);
        }
        for row in builds {
            let jobs = jobs_of.remove(&row.id).unwrap_or_default();
            engine.restore_build(row, jobs, &mut lost);
        }
        for (build, jobs) in jobs_of {
            lost.push(format!("build {build}, but for {} of its jobs", jobs.len()));
            engine.dirty.dropped_jobs.extend(jobs.iter().map(|job| job.key));
            for (key, attempt) in jobs.into_iter().flat_map(held_by) {
                engine.kill_unknown(key, attempt);
            }
        }
        engine.dirty.dropped_plans = engine.plans.settle();
        let pools = std::mem::take(&mut engine.config.pools);
        engine.slots.configure(&pools);
        engine.config.pools = pools;
        engine.resume(now);
        Restored { engine, lost }
    }

    fn restore_meta(
        &mut self,
        meta: Meta,
        least: Meta,
        pushes: &[PushRow],
        builds: &[BuildRow],
        jobs: &[JobRow],
    ) {
        // Whatever row was lost, a number that any other row speaks of has been used.
        let push = pushes.iter().map(|row| row.push.id).chain(builds.iter().map(|row| row.push));
        let last = |row: &PushRow| {
            let after = row.first_build?.0.checked_add(row.builds.into())?;
            Some(BuildId(after.saturating_sub(1)))
        };
        let build = builds.iter().map(|row| row.id).chain(jobs.iter().map(|row| row.key.build));
        let build = build.chain(pushes.iter().filter_map(last));
        let next_push = PushId(push.max().unwrap_or_default().0.saturating_add(1));
        let next_build = BuildId(build.max().unwrap_or_default().0.saturating_add(1));
        self.meta = Meta {
            next_push: meta.next_push.max(least.next_push).max(next_push),
            next_build: meta.next_build.max(least.next_build).max(next_build),
        };
        self.dirty.meta = self.meta != meta;
    }

    /// Asks a host to end what no build is known for.
    fn kill_unknown(&mut self, key: JobKey, attempt: AttemptRow) {
        let AttemptRow { n, pool, slot, .. } = attempt;
        self.effects.push(Effect::Kill { attempt: attempt_key(key, n), pool, slot });
    }

    fn restore_build(&mut self, mut row: BuildRow, jobs: Vec<JobRow>, lost: &mut Vec<String>) {
        let id = row.id;
        let shape = row.plan.and_then(|plan| self.plans.share(plan));
        if let (Some(plan), None, false) = (row.plan, &shape, row.published) {
            lost.push(format!("plan {plan} of build {id}"));
            row.message = Some(format!("the plan of build {id} was lost; ask for a new build"));
            row.plan = None;
            row.state = BuildState::Errored;
            row.ended_ms = None;
            self.dirty.builds.insert(id);
        }
        self.latest.wall = self.latest.wall.max(row.created_ms);
        self.by_node.insert((row.node, id));
        if !row.published
            && let Some(push) = self.pushes.get_mut(&row.push)
        {
            push.open += 1;
        }
        let mut build = BuildInFlight::new(row, shape);
        for row in jobs {
            let (key, held) = (row.key, held_by(row.clone()));
            self.latest.wall = self.latest.wall.max(row.queued_ms);
            if restore_job(&mut build, row) {
                for (_, attempt) in held {
                    self.slots.restore(attempt.pool, attempt.slot, attempt_key(key, attempt.n));
                }
            } else {
                lost.push(format!("the plan that job {} of build {id} was from", key.index));
                self.dirty.dropped_jobs.push(key);
                held.into_iter().for_each(|(_, attempt)| self.kill_unknown(key, attempt));
            }
        }
        build.recount();
        self.insert_build(build);
    }

    /// Takes up everything where it was left.
    fn resume(&mut self, now: Now) {
        let pushes: Vec<PushId> = self.pushes.keys().copied().collect();
        for id in pushes {
            let push = self.pushes.get(&id);
            if push.is_some_and(|push| push.row.stage == Stage::Building && push.open == 0) {
                self.stage(id, Stage::Mailing);
            }
            self.ask_push(now, id);
        }
        let builds: Vec<BuildId> = self.builds.keys().copied().collect();
        for id in builds {
            self.resume_build(now, id);
        }
        self.start_ready(now);
    }

    fn resume_build(&mut self, now: Now, id: BuildId) {
        let Some(build) = self.builds.get_mut(&id) else { return };
        let (mut queued, mut held) = (Vec::new(), Vec::new());
        for (index, job) in (0..).zip(&mut build.jobs) {
            let key = JobKey { build: id, index };
            if job.state == JobState::Queued {
                queued.push(index);
                if !job.attempts.is_empty() {
                    let tries = u32::try_from(job.attempts.len()).unwrap_or(u32::MAX);
                    let at = now.mono.saturating_add(self.config.backoff(tries));
                    self.timers.set(Timer::Job(key), &mut job.retry, Some(at));
                }
            }
            let attempts = job.attempts.iter().filter(|attempt| !attempt.row.gone);
            held.extend(attempts.map(|attempt| attempt_key(key, attempt.row.n)));
        }
        let met = needs_of_waiting(build);
        if build.unfinished == 0 {
            self.end_build(now, id);
        }
        self.publish_again(now, id);
        for key in held {
            self.resume_attempt(now, key);
        }
        self.enqueue(now, id, queued);
        if !met.is_empty() {
            self.settle(now, id, met);
        }
        self.archive_if_done(id);
    }

    fn resume_attempt(&mut self, now: Now, key: AttemptKey) {
        let believed = now.mono.saturating_add(self.config.believed_ms());
        let start = now.mono.saturating_add(self.config.start_ms);
        let grace = now.mono.saturating_add(self.config.grace_ms);
        let margin = self.config.timeout_margin_ms;
        let cancelled = self.job_mut(key.job).is_some_and(|job| job.stop.is_some());
        let Some((attempt, timers)) = self.attempt_and_timers(key) else { return };
        attempt.believed_until = believed;
        match attempt.row.state {
            AttemptState::Launching => {
                attempt.believed_until = start;
                let (pool, slot) = (attempt.row.pool.clone(), attempt.row.slot);
                timers.set(Timer::Attempt(key), &mut attempt.due, Some(start));
                self.effects.push(Effect::Launch { attempt: key, pool, slot });
            }
            AttemptState::Running => {
                let most = attempt.row.timeout_ms.saturating_add(margin);
                let claimed = attempt.row.claimed_ms.unwrap_or(now.wall);
                // The wall clock may have jumped: it can shorten what is left to a lease, and
                // cannot make it longer than the whole.
                let passed = u64::try_from(now.wall.saturating_sub(claimed)).unwrap_or(0);
                let left = now.mono.saturating_add(most.saturating_sub(passed));
                attempt.limit = Some(left.max(believed));
                attempt.cancel_limit = cancelled.then_some(grace);
                let at = attempt.deadline();
                timers.set(Timer::Attempt(key), &mut attempt.due, Some(at));
            }
            AttemptState::Over => {
                attempt.release = Some(believed);
                self.kill(now, key);
            }
        }
    }
}

/// The attempts of a job that hold a slot.
fn held_by(row: JobRow) -> Vec<(JobKey, AttemptRow)> {
    let held = row.attempts.into_iter().filter(|attempt| !attempt.gone);
    held.map(|attempt| (row.key, attempt)).collect()
}

/// Gives a job the state of its row; `false` when the plan has no such job. What contradicts
/// itself, for rows were lost, becomes what is safe: nothing runs that is not known to.
fn restore_job(build: &mut BuildInFlight, row: JobRow) -> bool {
    let Some(job) = build.jobs.get_mut(row.key.index as usize) else { return false };
    job.state = row.state;
    job.published = row.published && row.state.is_final();
    job.queued_ms = row.queued_ms;
    job.ended_ms = row.ended_ms;
    job.why = row.why.map(String::into_boxed_str);
    job.stop = Stop::restored(row.cancelled_by, row.superseded);
    job.kept = row.kept;
    job.attempts = row.attempts.into_iter().map(|row| Attempt::new(row, 0)).collect();
    let last = job.attempts.len().saturating_sub(1);
    for (at, attempt) in job.attempts.iter_mut().enumerate() {
        if at < last || job.state != JobState::Running {
            attempt.row.state = AttemptState::Over;
        }
    }
    if job.state == JobState::Running && job.attempts.last().is_none_or(Attempt::is_over) {
        job.state = JobState::Queued;
    }
    true
}

/// Counts anew what waiting jobs need, and returns those for which that is decided.
pub(super) fn needs_of_waiting(build: &mut BuildInFlight) -> Vec<Step> {
    let Some(shape) = build.shape.clone() else { return Vec::new() };
    let mut decided = Vec::new();
    for (index, spec) in (0_u32..).zip(&shape.plan.jobs) {
        let waits = |build: &BuildInFlight| {
            build.jobs.get(index as usize).is_some_and(|job| job.state == JobState::Waiting)
        };
        if spec.needs.is_empty() || !waits(build) {
            continue;
        }
        let mut needs = spec.needs.clone();
        needs.sort_unstable();
        needs.dedup();
        needs.retain(|need| !build.counts_as_passed(*need));
        let unmet = needs.iter().find(|need| build.jobs[**need as usize].state.is_final());
        if let Some(need) = unmet {
            decided.push(Step::unmet(index, build, *need));
        } else if needs.is_empty() {
            decided.push(Step { index, what: Move::NeedsMet, why: None });
        }
        build.jobs[index as usize].needs = u32::try_from(needs.len()).unwrap_or(u32::MAX);
    }
    decided
}
