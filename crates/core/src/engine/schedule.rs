//! Which job starts where: into line, out of line, and on to a slot.

use std::collections::{BTreeSet, VecDeque};

use crate::push::{Lane, Via};
use crate::{BuildId, JobKey, JobState};

use super::state::{Attempt, BuildInFlight, attempt_key};
use super::timers::Timer;
use super::transition::{self, Move};
use super::{AttemptRow, AttemptState, Config, Effect, Engine, Now, Reply};

/// A job on its way to a new state.
pub(super) struct Step {
    pub(super) index: u32,
    pub(super) what: Move,
    pub(super) why: Option<String>,
}

impl Step {
    /// A job is skipped, since one that it needs has ended and not passed.
    pub(super) fn unmet(index: u32, build: &BuildInFlight, needed: u32) -> Step {
        let plan = build.shape.as_ref().map(|shape| &shape.plan);
        let name = plan.and_then(|plan| plan.jobs.get(needed as usize)).map_or("", |job| &job.name);
        let state = build.jobs.get(needed as usize).map_or(JobState::Skipped, |job| job.state);
        let why = Some(format!("needs {name}, which {}", ended_how(state)));
        Step { index, what: Move::NeedsUnmet, why }
    }
}

impl Engine {
    pub(super) fn configure(&mut self, now: Now, config: Config) -> Reply {
        self.slots.configure(&config.pools);
        self.config = config;
        // The pools have changed under the queues: everyone lines up anew.
        let mut of_build: Vec<(BuildId, Vec<u32>)> = Vec::new();
        let mut jobs = self.ready.clear();
        jobs.sort_unstable();
        for key in jobs {
            if let Some(job) = self.job_mut(key) {
                job.standing = None;
            }
            match of_build.last_mut() {
                Some((build, indexes)) if *build == key.build => indexes.push(key.index),
                _ => of_build.push((key.build, vec![key.index])),
            }
        }
        for (build, indexes) in of_build {
            self.enqueue(now, build, indexes);
        }
        Reply::Accepted
    }

    /// Puts queued jobs of a build into line, or skips those that no pool can take.
    pub(super) fn enqueue(&mut self, now: Now, build: BuildId, indexes: Vec<u32>) {
        let refused: Vec<Step> = indexes
            .into_iter()
            .filter_map(|index| {
                let why = self.line_up(now, JobKey { build, index })?;
                Some(Step { index, what: Move::NoPool, why: Some(why) })
            })
            .collect();
        if !refused.is_empty() {
            self.settle(now, build, refused);
        }
    }

    /// Puts a queued job into line. Returns the reason when no pool can take it.
    pub(super) fn line_up(&mut self, now: Now, key: JobKey) -> Option<String> {
        let build = self.builds.get_mut(&key.build)?;
        let lane = build.row.lane;
        let spec = build.shape.as_ref()?.plan.jobs.get(key.index as usize)?;
        let job = build.jobs.get_mut(key.index as usize)?;
        if job.state != JobState::Queued || job.standing.is_some() || job.retry.is_some() {
            return None;
        }
        let mut pools = self.slots.that_take(spec, lane);
        if pools.is_empty() {
            let unheard = self.pushes.get(&build.row.push);
            let unheard = unheard.is_some_and(|push| push.row.push.via == Via::Reconcile);
            let until = job.queued_ms.saturating_add_unsigned(self.config.late_hook_ms);
            let left = u64::try_from(until.saturating_sub(self.latest.wall)).unwrap_or(0);
            if unheard && left > 0 && !job.waited && self.slots.why_lane(spec, lane) {
                let at = now.mono.saturating_add(left.min(self.config.late_hook_ms));
                self.timers.set(Timer::Job(key), &mut job.retry, Some(at));
                return None;
            }
            return Some(self.slots.why_none(spec, lane));
        }
        if !job.attempts.is_empty() {
            // Another host may know better. If it is just another slot, `Slots::take` sees to it.
            let tried: BTreeSet<&str> =
                job.attempts.iter().map(|attempt| &*attempt.row.pool).collect();
            let names = self.slots.pools();
            let is_new = |pool: &usize| !tried.contains(names[*pool].pool.name.as_str());
            if pools.iter().any(is_new) {
                pools.retain(is_new);
            }
        }
        let ahead = match lane {
            Lane::Trusted => i64::try_from(self.config.ageing_ms).unwrap_or(i64::MAX),
            Lane::Try => 0,
        };
        job.standing = Some(self.ready.insert(pools, job.queued_ms.saturating_sub(ahead), key));
        None
    }

    /// Gives free slots to the jobs that are first in line.
    pub(super) fn start_ready(&mut self, now: Now) {
        if self.draining || self.blocked.is_some() {
            return;
        }
        for pool in 0..self.slots.pools().len() {
            while self.slots.has_room(pool) {
                let Some(key) = self.ready.pop(pool) else { break };
                self.launch(now, key, pool);
            }
        }
    }

    fn launch(&mut self, now: Now, key: JobKey, pool: usize) {
        let Some(build) = self.builds.get_mut(&key.build) else { return };
        let Some(job) = build.jobs.get_mut(key.index as usize) else { return };
        job.standing = None;
        let Some(running) = transition::job(job.state, Move::Launch) else { return };
        let last = job.attempts.last().map(|last| &last.row);
        let not = last.map(|last| (last.pool.clone(), last.slot));
        let n = last.map_or(1, |last| last.n.saturating_add(1));
        let attempt = attempt_key(key, n);
        let Some((pool, slot)) = self.slots.take(pool, attempt, not.as_ref()) else { return };
        let spec = build.shape.as_ref().and_then(|shape| shape.plan.jobs.get(key.index as usize));
        let row = AttemptRow {
            n,
            pool: pool.clone(),
            slot,
            lane: build.row.lane,
            state: AttemptState::Launching,
            gone: false,
            instance: None,
            timeout_ms: spec.map_or(self.config.timeout_ms, |spec| self.config.timeout_of(spec)),
            launched_ms: now.wall,
            claimed_ms: None,
            ended_ms: None,
            verdict: None,
            why: None,
        };
        let until = now.mono.saturating_add(self.config.start_ms);
        let mut new = Attempt::new(row, until);
        self.timers.set(Timer::Attempt(attempt), &mut new.due, Some(until));
        job.attempts.push(new);
        build.holding += 1;
        self.counts.moved(job.state, running);
        job.state = running;
        self.dirty.jobs.insert(key);
        self.effects.push(Effect::Launch { attempt, pool, slot });
    }

    /// Moves jobs of a build on, and all that follows from it: jobs that need them come into line
    /// or are skipped, and what is final is published.
    pub(super) fn settle(&mut self, now: Now, id: BuildId, steps: Vec<Step>) {
        let mut steps = VecDeque::from(steps);
        let mut ended = Vec::new();
        while let Some(Step { index, what, why }) = steps.pop_front() {
            let key = JobKey { build: id, index };
            let Some(build) = self.builds.get_mut(&id) else { return };
            let Some(job) = build.jobs.get_mut(index as usize) else { continue };
            let Some(to) = transition::job(job.state, what) else { continue };
            if let Some(standing) = job.standing.take() {
                self.ready.remove(standing, key);
            }
            self.timers.set(Timer::Job(key), &mut job.retry, None);
            self.counts.moved(job.state, to);
            if to.is_final() {
                self.tally.final_job(to);
            }
            job.state = to;
            self.dirty.jobs.insert(key);
            if what == Move::Again {
                // Not in line before the pause is over. Its place there is what it was.
                let tries = u32::try_from(job.attempts.len()).unwrap_or(u32::MAX);
                let at = now.mono.saturating_add(self.config.backoff(tries));
                self.timers.set(Timer::Job(key), &mut job.retry, Some(at));
                continue;
            }
            if what == Move::NeedsMet {
                job.queued_ms = self.latest.wall;
                if let Some(why) = self.line_up(now, key) {
                    steps.push_back(Step { index, what: Move::NoPool, why: Some(why) });
                }
                continue;
            }
            job.ended_ms = Some(now.wall);
            job.why = why.map(String::into_boxed_str);
            build.unfinished = build.unfinished.saturating_sub(1);
            ended.push(index);
            self.follow(id, index, &mut steps);
        }
        if self.builds.get(&id).is_some_and(|build| build.unfinished == 0) {
            self.end_build(now, id);
        }
        if !ended.is_empty() {
            self.publish_open(now, id, ended);
        }
    }

    /// What the end of a job means for those that need it.
    fn follow(&mut self, id: BuildId, index: u32, steps: &mut VecDeque<Step>) {
        let Some(build) = self.builds.get_mut(&id) else { return };
        let passed = build.counts_as_passed(index);
        let Some(shape) = build.shape.clone() else { return };
        for dependent in &shape.dependents[index as usize] {
            let Some(job) = build.jobs.get_mut(*dependent as usize) else { continue };
            if passed {
                job.needs = job.needs.saturating_sub(1);
                if job.needs == 0 {
                    steps.push_back(Step { index: *dependent, what: Move::NeedsMet, why: None });
                }
            } else if job.state == JobState::Waiting {
                steps.push_back(Step::unmet(*dependent, build, index));
            }
        }
    }
}

/// A final state as the end of a sentence.
fn ended_how(state: JobState) -> &'static str {
    match state {
        JobState::TimedOut => "timed out",
        JobState::Cancelled => "was cancelled",
        JobState::Superseded => "was superseded",
        JobState::Skipped => "was skipped",
        other => other.name(),
    }
}
