//! Time has passed.

use crate::{AttemptKey, JobKey};

use super::attempt::Fault;
use super::timers::Timer;
use super::{AttemptState, Engine, Now, Reply};

impl Engine {
    pub(super) fn tick(&mut self, now: Now) -> Reply {
        // As many as are due now: at the end of time, timers are due again at once.
        for _due in 0..self.timers.due(now.mono) {
            let Some(timer) = self.timers.pop(now.mono) else { break };
            match timer {
                Timer::Push(id) => {
                    if let Some(push) = self.pushes.get_mut(&id) {
                        push.due = None;
                    }
                    self.ask_push(now, id);
                }
                Timer::Build(id) => {
                    if let Some(build) = self.builds.get_mut(&id) {
                        build.due = None;
                    }
                    self.publish_again(now, id);
                }
                Timer::Job(key) => self.end_pause(now, key),
                Timer::Attempt(key) => self.overdue(now, key),
            }
        }
        Reply::Accepted
    }

    /// The pause after an errored attempt is over, or the wait for a late hook.
    fn end_pause(&mut self, now: Now, key: JobKey) {
        if let Some(job) = self.job_mut(key) {
            job.retry = None;
            job.waited |= job.attempts.is_empty();
            self.enqueue(now, key.build, vec![key.index]);
        }
    }

    /// Something about an attempt takes too long.
    fn overdue(&mut self, now: Now, key: AttemptKey) {
        let Some(attempt) = self.attempt_mut(key) else { return };
        attempt.due = None;
        let past = |limit: Option<u64>| limit.is_some_and(|limit| limit <= now.mono);
        let fault = match attempt.row.state {
            AttemptState::Over if attempt.row.gone => return,
            AttemptState::Over if past(attempt.release) => return self.release(key),
            AttemptState::Over => return self.kill(now, key),
            AttemptState::Launching => Fault::NeverClaimed,
            AttemptState::Running if past(attempt.cancel_limit) => Fault::Cancelled,
            AttemptState::Running if past(attempt.limit) => Fault::Limit,
            AttemptState::Running => Fault::Lease,
        };
        self.give_up(now, key, fault);
    }
}
