//! Work is to stop: somebody wants it, or newer work makes it pointless.

use std::collections::BTreeSet;

use crate::{BuildId, JobKey, JobState, PushId};

use super::attempt::Fault;
use super::schedule::Step;
use super::state::attempt_key;
use super::timers::Timer;
use super::transition::Move;
use super::{AttemptState, Effect, Engine, Now, Reply, Stage, bound};

/// Why a job is to stop, which is how it ends if it does not come to an end of its own before.
#[derive(Clone, Debug)]
pub(super) enum Stop {
    /// Somebody wants it: who.
    Cancelled(Box<str>),
    /// Newer work makes it pointless: which.
    Superseded(Box<str>),
}

impl Stop {
    /// As the row of a job has it.
    pub(super) fn restored(by: Option<String>, superseded: Option<String>) -> Option<Stop> {
        let by = by.map(|by| Stop::Cancelled(by.into_boxed_str()));
        by.or(superseded.map(|why| Stop::Superseded(why.into_boxed_str())))
    }

    /// Who wants it.
    pub(super) fn by(&self) -> Option<String> {
        match self {
            Stop::Cancelled(by) => Some(by.to_string()),
            Stop::Superseded(_) => None,
        }
    }

    /// Why it is pointless.
    pub(super) fn superseded(&self) -> Option<String> {
        match self {
            Stop::Superseded(why) => Some(why.to_string()),
            Stop::Cancelled(_) => None,
        }
    }

    /// The end of a job that has stopped for this.
    pub(super) fn step(&self, index: u32) -> Step {
        let (what, why) = match self {
            Stop::Cancelled(by) => (Move::Cancel, format!("cancelled by {by}")),
            Stop::Superseded(why) => (Move::Supersede, why.to_string()),
        };
        Step { index, what, why: Some(why) }
    }
}

impl Engine {
    /// Cancels what is not final of a build or of one job. A runner is told at once where its pool
    /// can, else when it renews its lease next, and has a while to say how it ended; a job that
    /// comes to an end of its own before that keeps it.
    pub(super) fn cancel(
        &mut self,
        now: Now,
        id: BuildId,
        index: Option<u32>,
        by: String,
    ) -> Reply {
        let by = bound::text(by, bound::LINE).into_boxed_str();
        self.stop(now, id, index, &Stop::Cancelled(by))
    }

    /// Stops what is not final of a build that newer work makes pointless, as if it was cancelled.
    /// What somebody has cancelled before stays so.
    pub(super) fn supersede(&mut self, now: Now, id: BuildId, why: String) -> Reply {
        let why = bound::text(why, bound::REASON).into_boxed_str();
        self.stop(now, id, None, &Stop::Superseded(why))
    }

    fn stop(&mut self, now: Now, id: BuildId, index: Option<u32>, stop: &Stop) -> Reply {
        let Some(build) = self.builds.get(&id) else { return Reply::Unknown };
        let all = 0..u32::try_from(build.jobs.len()).unwrap_or(u32::MAX);
        let wanted = match index {
            None => all,
            Some(one) if all.contains(&one) => one..one.saturating_add(1),
            Some(_) => return Reply::Unknown,
        };
        let open = |index: &u32| {
            let job = &build.jobs[*index as usize];
            !job.state.is_final() && job.stop.is_none()
        };
        // The last first, for a job comes after what it needs: so it is stopped, and not skipped
        // because what it needs was.
        let open: Vec<u32> = wanted.clone().rev().filter(open).collect();
        if open.is_empty() {
            let over = build.unfinished == 0
                || wanted.len() == 1 && { build.jobs[wanted.start as usize].state.is_final() };
            return if over { Reply::Conflict } else { Reply::Repeated };
        }
        for index in open {
            self.stop_job(now, JobKey { build: id, index }, stop);
        }
        Reply::Accepted
    }

    /// Ends what is in flight of repositories that are not among these.
    pub(super) fn repositories(&mut self, now: Now, names: &BTreeSet<String>) -> Reply {
        let gone = |repo: &str| {
            let why = format!("the repository {repo:?} is no longer in the configuration");
            (!names.contains(repo)).then_some(why)
        };
        let unplanned = self.pushes.values().filter(|push| push.row.stage == Stage::Planning);
        let unplanned: Vec<(PushId, String)> = unplanned
            .filter_map(|push| Some((push.row.push.id, gone(&push.row.push.repo)?)))
            .collect();
        for (id, why) in unplanned {
            if let Some(push) = self.pushes.get_mut(&id) {
                push.row.push.no_build = Some(bound::text(why, bound::MESSAGE));
            }
            self.end_push(id);
        }
        let builds = self.builds.values().filter(|build| build.unfinished > 0);
        let builds: Vec<(BuildId, String)> =
            builds.filter_map(|build| Some((build.row.id, gone(&build.row.repo)?))).collect();
        for (id, why) in builds {
            self.cancel(now, id, None, format!("hgcid: {why}"));
        }
        Reply::Accepted
    }

    fn stop_job(&mut self, now: Now, key: JobKey, stop: &Stop) {
        let grace = now.mono.saturating_add(self.config.grace_ms);
        let Some(job) = self.job_mut(key) else { return };
        job.stop = Some(stop.clone());
        let newest = job.attempts.last().map(|attempt| (attempt.row.n, attempt.row.state));
        self.dirty.jobs.insert(key);
        match newest {
            Some((n, AttemptState::Running)) if self.is_running(key) => {
                let attempt = attempt_key(key, n);
                if let Some((attempt_of, timers)) = self.attempt_and_timers(attempt) {
                    attempt_of.cancel_limit = Some(grace);
                    let at = attempt_of.deadline();
                    timers.set(Timer::Attempt(attempt), &mut attempt_of.due, Some(at));
                    let (pool, slot) = (attempt_of.row.pool.clone(), attempt_of.row.slot);
                    self.effects.push(Effect::Stop { attempt, pool, slot });
                }
            }
            Some((n, AttemptState::Launching)) if self.is_running(key) => {
                self.give_up(now, attempt_key(key, n), Fault::Cancelled);
            }
            _ => {
                self.settle(now, key.build, vec![stop.step(key.index)]);
            }
        }
    }

    fn is_running(&mut self, key: JobKey) -> bool {
        self.job_mut(key).is_some_and(|job| job.state == JobState::Running)
    }
}
