//! What runners and hosts say of attempts.

use crate::quantity::format_duration;
use crate::result::{Outcome, Verdict};
use crate::{AttemptKey, JobState};

use super::cancel::Stop;
use super::schedule::Step;
use super::state::BuildInFlight;
use super::timers::Timer;
use super::transition::{self, Move, Sign};
use super::{AttemptEnd, AttemptState, Effect, Engine, Event, Grant, Now, Reply, bound};

/// Why an attempt is given up.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault<'a> {
    /// Its host could not start a runner.
    Launch(&'a str),
    /// Its runner ended without a verdict, or its host with it.
    Gone(&'a str),
    /// No runner has claimed it.
    NeverClaimed,
    /// Its runner has not renewed the lease.
    Lease,
    /// Its runner renews the lease and does not come to an end.
    Limit,
    /// Its runner was told to cancel, or was never there to be told.
    Cancelled,
}

impl Engine {
    pub(super) fn claimed(&mut self, now: Now, key: AttemptKey, instance: String) -> Reply {
        let believed = now.mono.saturating_add(self.config.believed_ms());
        let backstop = self.config.timeout_margin_ms;
        let Some(job) = self.job_mut(key.job) else { return Reply::Unknown };
        if job.attempt(key.n).is_none() {
            return Reply::Unknown;
        }
        let Some(attempt) = job.deciding(key.n) else { return Reply::Conflict };
        match transition::attempt(attempt.row.state, Sign::Claim) {
            Some(running) if instance.len() <= Event::MAX_INSTANCE => {
                attempt.row.state = running;
                attempt.row.instance = Some(instance);
                attempt.row.claimed_ms = Some(now.wall);
                let most = attempt.row.timeout_ms.saturating_add(backstop);
                attempt.limit = Some(now.mono.saturating_add(most));
                self.dirty.jobs.insert(key.job);
            }
            // The answer to the first claim was lost.
            None if attempt.row.state == AttemptState::Running && attempt.is_held_by(&instance) => {
            }
            _ => return Reply::Conflict,
        }
        self.believe(key, believed);
        match self.grant(key) {
            Some(grant) => Reply::Claimed(Box::new(grant)),
            None => Reply::Conflict,
        }
    }

    /// Moves the lease of an attempt, and its timer with it.
    fn believe(&mut self, key: AttemptKey, until: u64) {
        if let Some((attempt, timers)) = self.attempt_and_timers(key) {
            attempt.believed_until = until;
            let at = attempt.deadline();
            timers.set(Timer::Attempt(key), &mut attempt.due, Some(at));
        }
    }

    pub(super) fn renewed(&mut self, now: Now, key: AttemptKey, instance: &str) -> Reply {
        let Some(job) = self.job_mut(key.job) else { return Reply::Unknown };
        let cancel = job.stop.is_some();
        let Some(attempt) = job.attempt(key.n) else { return Reply::Unknown };
        if attempt.row.state != AttemptState::Running || !attempt.is_held_by(instance) {
            return Reply::Conflict;
        }
        self.believe(key, now.mono.saturating_add(self.config.believed_ms()));
        Reply::Lease { ms: self.config.lease_ms, cancel }
    }

    pub(super) fn ended(
        &mut self,
        now: Now,
        key: AttemptKey,
        instance: &str,
        verdict: Verdict,
    ) -> Reply {
        let Some(job) = self.job_mut(key.job) else { return Reply::Unknown };
        let Some(attempt) = job.attempt(key.n) else { return Reply::Unknown };
        if !attempt.is_held_by(instance) || attempt.row.verdict.is_some() {
            return attempt.row.reply_to(instance, &verdict);
        }
        let stop = job.stop.clone();
        let Some(attempt) = job.deciding(key.n) else { return Reply::Conflict };
        let Some(over) = transition::attempt(attempt.row.state, Sign::Verdict) else {
            return Reply::Conflict;
        };
        let given_up = attempt.is_over();
        let verdict = bound::verdict(verdict);
        let outcome = verdict.outcome.clone();
        attempt.row.state = over;
        attempt.row.verdict = Some(Box::new(verdict));
        attempt.row.ended_ms = Some(now.wall);
        self.dirty.jobs.insert(key.job);
        if !given_up {
            self.tally.ended((&outcome).into());
            self.hold_on(now, key, false);
        }
        let step = match outcome {
            Outcome::Passed => Step { index: key.job.index, what: Move::Pass, why: None },
            Outcome::Failed { .. } => Step { index: key.job.index, what: Move::Fail, why: None },
            Outcome::TimedOut => Step { index: key.job.index, what: Move::TimeOut, why: None },
            // It was counted as errored when it was given up.
            Outcome::Cancelled | Outcome::Errored { .. } if given_up => return Reply::Accepted,
            Outcome::Cancelled => {
                let why = "its runner was told to stop, but not by us".to_owned();
                self.after_fault(key, stop.as_ref(), why)
            }
            Outcome::Errored { why } => self.after_fault(key, stop.as_ref(), why),
        };
        self.settle(now, key.job.build, vec![step]);
        Reply::Accepted
    }

    pub(super) fn launch_failed(&mut self, now: Now, key: AttemptKey, why: &str) -> Reply {
        let Some(attempt) = self.attempt_mut(key) else { return Reply::Unknown };
        match attempt.row.state {
            AttemptState::Launching => self.give_up(now, key, Fault::Launch(why)),
            // Somebody did start a runner, or else there were none to claim it.
            AttemptState::Running => return Reply::Conflict,
            AttemptState::Over if attempt.row.gone => return Reply::Repeated,
            AttemptState::Over => {}
        }
        self.release(key);
        Reply::Accepted
    }

    pub(super) fn host_gone(&mut self, now: Now, key: AttemptKey, why: &str) -> Reply {
        let Some(attempt) = self.attempt_mut(key) else { return Reply::Unknown };
        if attempt.row.gone {
            return Reply::Repeated;
        }
        self.give_up(now, key, Fault::Gone(why));
        self.release(key);
        Reply::Accepted
    }

    /// Ends an attempt without a verdict, if it is not over, and moves its job on.
    pub(super) fn give_up(&mut self, now: Now, key: AttemptKey, fault: Fault<'_>) {
        let (lease, limit) = (self.config.believed_ms(), self.config.timeout_margin_ms);
        let start = self.config.start_ms;
        let Some(job) = self.job_mut(key.job) else { return };
        let stop = job.stop.clone();
        let Some(attempt) = job.attempt(key.n) else { return };
        let Some(over) = transition::attempt(attempt.row.state, Sign::GiveUp) else { return };
        let host = attempt.row.host();
        let time = |ms| format_duration(std::time::Duration::from_millis(ms));
        let limit = attempt.row.timeout_ms.saturating_add(limit);
        let why = match fault {
            Fault::Launch(why) => format!("{host} could not be started: {why}"),
            Fault::Gone(why) => format!("lost {host}: {why}"),
            Fault::NeverClaimed => format!("no runner came up on {host} within {}", time(start)),
            Fault::Lease => format!("no word from {host} for {}", time(lease)),
            Fault::Limit => format!("no verdict from {host} within {}", time(limit)),
            Fault::Cancelled => "cancelled".to_owned(),
        };
        let why = bound::text(why, bound::REASON);
        attempt.row.state = over;
        attempt.row.ended_ms = Some(now.wall);
        attempt.row.why = Some(why.clone());
        self.dirty.jobs.insert(key.job);
        let end = if stop.is_some() { AttemptEnd::Cancelled } else { AttemptEnd::Lost };
        self.tally.ended(end);
        let kill = !matches!(fault, Fault::Launch(_) | Fault::Gone(_));
        self.hold_on(now, key, kill);
        let step = self.after_fault(key, stop.as_ref(), why);
        self.settle(now, key.job.build, vec![step]);
    }

    /// What becomes of a job whose newest attempt could not find out.
    fn after_fault(&self, key: AttemptKey, stop: Option<&Stop>, why: String) -> Step {
        let index = key.job.index;
        if let Some(stop) = stop {
            return stop.step(index);
        }
        if key.n <= self.config.retries {
            return Step { index, what: Move::Again, why: None };
        }
        let why = match key.n {
            1 => why,
            tries => format!("tried {tries} times; the last: {why}"),
        };
        Step { index, what: Move::GiveUp, why: Some(why) }
    }

    /// Keeps the slot of an attempt that is over until its host is rid of it, and has the host
    /// asked to, now or when the runner had time to end by itself.
    fn hold_on(&mut self, now: Now, key: AttemptKey, kill: bool) {
        let lease = now.mono.saturating_add(self.config.believed_ms());
        let grace = now.mono.saturating_add(self.config.grace_ms);
        let Some((attempt, timers)) = self.attempt_and_timers(key) else { return };
        let release = lease.max(attempt.believed_until);
        attempt.release = Some(release);
        timers.set(Timer::Attempt(key), &mut attempt.due, Some(grace.min(release)));
        if kill {
            self.kill(now, key);
        }
    }

    /// Asks the host to end what is left of an attempt, for the first time or again.
    pub(super) fn kill(&mut self, now: Now, key: AttemptKey) {
        let Some(attempt) = self.attempt_mut(key) else { return };
        attempt.kills = attempt.kills.saturating_add(1);
        let (kills, release) = (attempt.kills, attempt.release);
        let (pool, slot) = (attempt.row.pool.clone(), attempt.row.slot);
        self.effects.push(Effect::Kill { attempt: key, pool, slot });
        let again = now.mono.saturating_add(self.config.reissue(kills));
        let at = release.map_or(again, |release| release.min(again));
        if let Some((attempt, timers)) = self.attempt_and_timers(key) {
            timers.set(Timer::Attempt(key), &mut attempt.due, Some(at));
        }
    }

    /// Gives the slot of an attempt back: nothing of it is left.
    pub(super) fn release(&mut self, key: AttemptKey) {
        let Some(build) = self.builds.get_mut(&key.job.build) else { return };
        let job = build.jobs.get_mut(key.job.index as usize);
        let Some(attempt) = job.and_then(|job| job.attempt(key.n)) else { return };
        if std::mem::replace(&mut attempt.row.gone, true) {
            return;
        }
        self.timers.set(Timer::Attempt(key), &mut attempt.due, None);
        self.slots.give_back(&attempt.row.pool, attempt.row.slot, key);
        build.holding = build.holding.saturating_sub(1);
        self.dirty.jobs.insert(key.job);
        self.archive_if_done(key.job.build);
    }

    /// What a runner needs to know to run the attempt that it holds.
    fn grant(&self, key: AttemptKey) -> Option<Grant> {
        let BuildInFlight { row, shape, jobs, .. } = &**self.builds.get(&key.job.build)?;
        let job = jobs.get(key.job.index as usize)?;
        let attempt = job.attempts.iter().find(|attempt| attempt.row.n == key.n)?;
        Some(Grant {
            attempt: key,
            push: row.push,
            repo: row.repo.clone(),
            node: row.node,
            branch: row.branch.clone(),
            plan: shape.as_ref()?.plan.clone(),
            lane: attempt.row.lane,
            pool: attempt.row.pool.clone(),
            slot: attempt.row.slot,
            timeout_ms: attempt.row.timeout_ms,
            lease_ms: self.config.lease_ms,
            cancel: job.stop.is_some(),
        })
    }

    /// Whether what this runner sends for the attempt still counts: it has claimed it, it is the
    /// job's newest, and the job is not final.
    pub fn is_held_by(&self, key: AttemptKey, instance: &str) -> bool {
        let build = self.builds.get(&key.job.build);
        let job = build.and_then(|build| build.jobs.get(key.job.index as usize));
        job.is_some_and(|job| {
            let newest = job.attempts.last().filter(|attempt| attempt.row.n == key.n);
            job.state != JobState::Waiting
                && !job.state.is_final()
                && newest.is_some_and(|attempt| attempt.is_held_by(instance))
        })
    }
}
