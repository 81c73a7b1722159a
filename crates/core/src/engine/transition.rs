//! The table of transitions. No state of a job or an attempt changes but by these two functions.
//!
//! Jobs:
//!
//! | from | what happens | to |
//! |---|---|---|
//! | waiting | all that it needs passed | queued |
//! | waiting | something that it needs ended otherwise | skipped |
//! | waiting, queued | somebody cancels it | cancelled |
//! | waiting, queued | newer work makes it pointless | superseded |
//! | waiting, queued | it is not to run in this build, and keeps its end of an earlier one | that |
//! | queued | no pool can take it, nor could if a late hook named its pusher | skipped |
//! | queued | a slot is free: an attempt is launched | running |
//! | running | the attempt is errored, and retries are left | queued |
//! | running | the attempt is errored, and none is left | errored |
//! | queued, running | a verdict on its newest attempt: passed, failed, timed-out | that |
//! | running | it is being cancelled, and its attempt is over without such a verdict | cancelled |
//! | running | the same for newer work's sake | superseded |
//!
//! The others are final: nothing leads out of them. A job is queued with a verdict to come when
//! its attempt was given up, for its lease ran out, and the runner is heard of before the next
//! attempt is launched.
//!
//! Attempts:
//!
//! | from | what happens | to |
//! |---|---|---|
//! | launching | a runner claims it | running |
//! | launching | the launch fails, its time is over, or the job is cancelled | over |
//! | running | its verdict, if the job is not final | over |
//! | running | its host is gone, its lease or its time is over | over |
//! | over | its verdict, if it has none, it is the job's newest and the job is not final | over |
//!
//! An attempt that is over still holds its slot, until its host says that nothing is left of it
//! ([`super::Event::HostGone`]), or for one more lease at the most: by then its runner, wherever
//! it is, has ended by itself.

use crate::JobState;

use super::AttemptState;

/// What happens to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// All that it needs passed.
    NeedsMet,
    /// Something that it needs will not pass.
    NeedsUnmet,
    /// No pool can take it.
    NoPool,
    /// An attempt is launched.
    Launch,
    /// The attempt is errored, and there will be another.
    Again,
    /// The attempt is errored, and there will be no other.
    GiveUp,
    /// The job's own command ended with 0.
    Pass,
    /// The job's own command said no.
    Fail,
    /// The job's own command took too long.
    TimeOut,
    /// Somebody asked for it to stop, and it has.
    Cancel,
    /// Newer work made it pointless, and it has stopped.
    Supersede,
    /// The build is new, and this is how the job ended in an earlier one.
    Keep(JobState),
}

/// The state of a job after `what`; `None` when that cannot happen to it.
pub(super) fn job(from: JobState, what: Move) -> Option<JobState> {
    use JobState::{
        Cancelled, Errored, Failed, Passed, Queued, Running, Skipped, Superseded, TimedOut, Waiting,
    };
    match (from, what) {
        (Waiting, Move::NeedsMet) => Some(Queued),
        (Waiting, Move::NeedsUnmet) => Some(Skipped),
        (Queued, Move::NoPool) => Some(Skipped),
        (Queued, Move::Launch) => Some(Running),
        (Running, Move::Again) => Some(Queued),
        (Running, Move::GiveUp) => Some(Errored),
        (Queued | Running, Move::Pass) => Some(Passed),
        (Queued | Running, Move::Fail) => Some(Failed),
        (Queued | Running, Move::TimeOut) => Some(TimedOut),
        (Waiting | Queued | Running, Move::Cancel) => Some(Cancelled),
        (Waiting | Queued | Running, Move::Supersede) => Some(Superseded),
        (Waiting | Queued, Move::Keep(end)) if end.is_final() => Some(end),
        _ => None,
    }
}

/// What happens to an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// A runner claims it.
    Claim,
    /// Its runner says how it ended.
    Verdict,
    /// It is given up.
    GiveUp,
}

/// The state of an attempt after `what`; `None` when that cannot happen to it.
pub(super) fn attempt(from: AttemptState, what: Sign) -> Option<AttemptState> {
    use AttemptState::{Launching, Over, Running};
    match (from, what) {
        (Launching, Sign::Claim) => Some(Running),
        (Launching | Running, Sign::GiveUp) => Some(Over),
        (Running | Over, Sign::Verdict) => Some(Over),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOVES: [Move; 13] = [
        Move::NeedsMet,
        Move::NeedsUnmet,
        Move::NoPool,
        Move::Launch,
        Move::Again,
        Move::GiveUp,
        Move::Pass,
        Move::Fail,
        Move::TimeOut,
        Move::Cancel,
        Move::Supersede,
        Move::Keep(JobState::Passed),
        Move::Keep(JobState::Failed),
    ];

    #[test]
    fn nothing_leads_out_of_a_final_state() {
        for state in JobState::ALL.into_iter().filter(|state| state.is_final()) {
            for what in MOVES {
                assert_eq!(job(state, what), None, "{state} {what:?}");
            }
        }
    }

    #[test]
    fn every_state_that_is_not_final_can_be_stopped() {
        for state in JobState::ALL.into_iter().filter(|state| !state.is_final()) {
            assert_eq!(job(state, Move::Cancel), Some(JobState::Cancelled));
            assert_eq!(job(state, Move::Supersede), Some(JobState::Superseded));
        }
    }

    #[test]
    fn an_end_is_kept_by_a_job_that_has_not_started_and_nothing_but_an_end() {
        for state in JobState::ALL {
            for end in JobState::ALL {
                let fresh = matches!(state, JobState::Waiting | JobState::Queued);
                let kept = (fresh && end.is_final()).then_some(end);
                assert_eq!(job(state, Move::Keep(end)), kept, "{state} {end}");
            }
        }
    }

    #[test]
    fn only_a_queued_job_is_launched_and_only_a_running_one_is_tried_again() {
        for state in JobState::ALL {
            assert_eq!(job(state, Move::Launch).is_some(), state == JobState::Queued);
            assert_eq!(job(state, Move::Again).is_some(), state == JobState::Running);
            assert_eq!(job(state, Move::GiveUp).is_some(), state == JobState::Running);
        }
    }

    #[test]
    fn an_attempt_that_is_over_stays_over() {
        for what in [Sign::Claim, Sign::Verdict, Sign::GiveUp] {
            let after = attempt(AttemptState::Over, what);
            assert!(matches!(after, None | Some(AttemptState::Over)), "{what:?}");
        }
        assert_eq!(attempt(AttemptState::Launching, Sign::Verdict), None);
    }
}
