//! What the engine remembers of pushes, builds, jobs and attempts while they are in flight: their
//! rows, and what follows from rows or from time.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::result::JobResult;
use crate::{AttemptKey, BuildState, JobKey, JobState};

use super::cancel::Stop;
use super::plans::Shape;
use super::ready::Standing;
use super::timers::Due;
use super::transition::{self, Move};
use super::{AttemptRow, AttemptState, BuildRow, JobRow, PushRow, bound};

/// A push in flight.
#[derive(Debug)]
pub(super) struct PushInFlight {
    pub(super) row: PushRow,
    /// How many of its builds are not published.
    pub(super) open: u32,
    /// How often its effect was asked for, in this stage.
    pub(super) tries: u32,
    pub(super) due: Due,
}

impl PushInFlight {
    pub(super) fn new(row: PushRow) -> PushInFlight {
        PushInFlight { row, open: 0, tries: 0, due: None }
    }
}

/// A build in flight.
#[derive(Debug)]
pub(super) struct BuildInFlight {
    pub(super) row: BuildRow,
    /// `None` where the pipeline is malformed.
    pub(super) shape: Option<Arc<Shape>>,
    pub(super) jobs: Vec<Job>,
    /// How many jobs are not final.
    pub(super) unfinished: u32,
    /// How many jobs have an end that is not in the results log, or none.
    pub(super) unpublished: u32,
    /// How many attempts hold a slot.
    pub(super) holding: u32,
    /// How often publishing was asked for since all was published.
    pub(super) tries: u32,
    pub(super) due: Due,
}

impl BuildInFlight {
    /// A build whose jobs are as planned.
    pub(super) fn new(row: BuildRow, shape: Option<Arc<Shape>>) -> BuildInFlight {
        let needs = shape.as_ref().map_or(&[][..], |shape| &shape.needs);
        let jobs: Vec<Job> = needs.iter().map(|needs| Job::new(*needs, row.created_ms)).collect();
        // A plan has fewer jobs than that; `Shape` sees to it.
        let count = jobs.len() as u32;
        BuildInFlight {
            row,
            shape,
            jobs,
            unfinished: count,
            unpublished: count,
            holding: 0,
            tries: 0,
            due: None,
        }
    }

    /// Counts anew what is counted of the jobs.
    pub(super) fn recount(&mut self) {
        // All of them are fewer than 2³²: `Shape` sees to it, and retries are few.
        let attempts = self.jobs.iter().flat_map(|job| &job.attempts);
        self.holding = attempts.filter(|attempt| !attempt.row.gone).count() as u32;
        self.unfinished = self.jobs.iter().filter(|job| !job.state.is_final()).count() as u32;
        self.unpublished = self.jobs.iter().filter(|job| !job.published).count() as u32;
    }

    /// The row of a job.
    pub(super) fn job_row(&self, index: u32) -> Option<JobRow> {
        let job = self.jobs.get(index as usize)?;
        let spec = self.shape.as_ref()?.plan.jobs.get(index as usize)?;
        Some(JobRow {
            key: JobKey { build: self.row.id, index },
            name: spec.name.clone(),
            allow_failure: spec.allow_failure,
            state: job.state,
            queued_ms: job.queued_ms,
            ended_ms: job.ended_ms,
            why: job.why.as_deref().map(str::to_owned),
            cancelled_by: job.stop.as_ref().and_then(Stop::by),
            superseded: job.stop.as_ref().and_then(Stop::superseded),
            kept: job.kept.clone(),
            attempts: job.attempts.iter().map(|attempt| attempt.row.clone()).collect(),
            published: job.published,
        })
    }

    /// Whether the others may go on as if this job had passed.
    pub(super) fn counts_as_passed(&self, index: u32) -> bool {
        let Some((job, shape)) = self.jobs.get(index as usize).zip(self.shape.as_ref()) else {
            return false;
        };
        let allowed = shape.plan.jobs[index as usize].allow_failure;
        job.state.lets_others_go_on(allowed)
    }

    /// The state that follows from the jobs.
    pub(super) fn state_of_jobs(&self) -> BuildState {
        let Some(shape) = &self.shape else { return self.row.state };
        let specs = shape.plan.jobs.iter().map(|spec| spec.allow_failure);
        BuildState::of_jobs(self.jobs.iter().map(|job| job.state).zip(specs))
    }

    /// The record of a final job.
    pub(super) fn result_of(&self, index: u32) -> Option<JobResult> {
        self.job_row(index)?.result(&self.row)
    }

    /// Gives jobs that are not to run the ends that they had in an earlier build.
    pub(super) fn keep(&mut self, kept: BTreeMap<u32, JobResult>, wall: i64) {
        let Some(shape) = self.shape.as_ref().filter(|_| !kept.is_empty()) else { return };
        for (index, mut result) in kept {
            let spec = shape.plan.jobs.get(index as usize);
            let Some((job, spec)) = self.jobs.get_mut(index as usize).zip(spec) else { continue };
            let to = transition::job(job.state, Move::Keep(result.state));
            let Some(to) = to.filter(|_| result.name == spec.name) else { continue };
            result.why = result.why.map(|why| bound::text(why, bound::REASON));
            job.state = to;
            job.ended_ms = Some(wall);
            job.why = result.why.clone().map(String::into_boxed_str);
            job.kept = Some(Box::new(result));
        }
        self.recount();
    }
}

/// A job in flight. There may be 100,000, most of them without an attempt.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) state: JobState,
    pub(super) published: bool,
    /// It has waited for a late hook, and there was none.
    pub(super) waited: bool,
    pub(super) queued_ms: i64,
    pub(super) ended_ms: Option<i64>,
    /// How many jobs that it needs have not passed yet.
    pub(super) needs: u32,
    /// Its place in line, when it could start now.
    pub(super) standing: Option<Standing>,
    /// When it comes into line again, after an errored attempt.
    pub(super) retry: Due,
    pub(super) why: Option<Box<str>>,
    /// It is to stop.
    pub(super) stop: Option<Stop>,
    /// How it ended in an earlier build, where this one was not to run it.
    pub(super) kept: Option<Box<JobResult>>,
    pub(super) attempts: Vec<Attempt>,
}

impl Job {
    fn new(needs: u32, queued_ms: i64) -> Job {
        Job {
            state: if needs == 0 { JobState::Queued } else { JobState::Waiting },
            published: false,
            waited: false,
            queued_ms,
            ended_ms: None,
            needs,
            standing: None,
            retry: None,
            why: None,
            stop: None,
            kept: None,
            attempts: Vec::new(),
        }
    }

    /// The newest attempt, if it is the `n`-th and may still decide the job.
    pub(super) fn deciding(&mut self, n: u32) -> Option<&mut Attempt> {
        let open = !self.state.is_final();
        self.attempts.last_mut().filter(|attempt| open && attempt.row.n == n)
    }

    /// The `n`-th attempt.
    pub(super) fn attempt(&mut self, n: u32) -> Option<&mut Attempt> {
        self.attempts.iter_mut().find(|attempt| attempt.row.n == n)
    }
}

/// An attempt in flight. Times are on the monotonic clock.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) row: AttemptRow,
    pub(super) due: Due,
    /// Until when it may be claimed, or its lease is believed in.
    pub(super) believed_until: u64,
    /// When its job has taken too long, whatever its runner says.
    pub(super) limit: Option<u64>,
    /// When a runner that was told to cancel is no longer waited for.
    pub(super) cancel_limit: Option<u64>,
    /// When its slot is free, whatever its host says.
    pub(super) release: Option<u64>,
    /// How often its host was asked to kill it.
    pub(super) kills: u32,
}

impl Attempt {
    pub(super) fn new(row: AttemptRow, believed_until: u64) -> Attempt {
        Attempt {
            row,
            due: None,
            believed_until,
            limit: None,
            cancel_limit: None,
            release: None,
            kills: 0,
        }
    }

    /// When it must be looked at, while it is not over.
    pub(super) fn deadline(&self) -> u64 {
        let limits = [self.limit, self.cancel_limit];
        limits.into_iter().flatten().fold(self.believed_until, u64::min)
    }

    /// Whether this runner holds it.
    pub(super) fn is_held_by(&self, instance: &str) -> bool {
        self.row.instance.as_deref() == Some(instance)
    }

    pub(super) fn is_over(&self) -> bool {
        self.row.state == AttemptState::Over
    }
}

/// The key of an attempt of a job.
pub(super) fn attempt_key(job: JobKey, n: u32) -> AttemptKey {
    AttemptKey { job, n }
}
