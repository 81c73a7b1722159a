//! Hosts and runners: what they do when all is well, and how they fail.

use std::collections::{BTreeMap, BTreeSet};

use hgci_core::engine::{AttemptState, Event, Grant, Reply};
use hgci_core::result::{Outcome, Verdict};
use hgci_core::{AttemptKey, JobKey, JobState};

use super::world::{Future, MINUTE, SECOND, World};
use crate::make;

pub type RunnerId = u64;

/// All runners of the world.
#[derive(Default)]
pub struct Hosts {
    runners: BTreeMap<RunnerId, Runner>,
    started: u64,
    /// Attempts for which a runner was started.
    known: BTreeSet<AttemptKey>,
    /// Verdicts that were acknowledged: they are the job's end.
    acknowledged: BTreeMap<JobKey, JobState>,
}

struct Runner {
    attempt: AttemptKey,
    pool: String,
    slot: u32,
    /// It reaches nobody before that time, and nobody reaches it.
    cut_off_until: u64,
    does: Does,
}

#[derive(Clone)]
enum Does {
    /// Tries to claim, until it gives up.
    Claims { until: u64 },
    /// Runs the job.
    Works { lease_until: u64, renew_at: u64, end_at: u64, outcome: Outcome },
    /// Tries to tell how it ended, until it gives up.
    Reports { until: u64, verdict: Verdict },
}

impl Hosts {
    /// The machine that they are all on goes down.
    pub fn all_die(&mut self) {
        self.runners.clear();
        self.known.clear();
    }

    /// Whoever was cut off is so no more.
    pub fn heal(&mut self) {
        self.runners.values_mut().for_each(|runner| runner.cut_off_until = 0);
    }

    fn of(&self, attempt: AttemptKey) -> Option<RunnerId> {
        let mut all = self.runners.iter();
        all.find(|(_, runner)| runner.attempt == attempt).map(|(id, _)| *id)
    }
}

impl World {
    /// Invariant 4, as it really is on the hosts: no two jobs run on one slot.
    pub fn hosts_are_not_shared(&self) {
        let mut busy = BTreeSet::new();
        for runner in self.hosts.runners.values() {
            let Does::Works { lease_until, .. } = runner.does else { continue };
            if self.time < lease_until {
                let slot = (&runner.pool, runner.slot);
                assert!(busy.insert(slot), "two jobs run on {slot:?}\n{}", self.summary());
            }
        }
    }

    /// What was acknowledged to runners is what became of their jobs.
    pub fn verdicts_count(&self) {
        for (key, state) in &self.hosts.acknowledged {
            assert_eq!(self.ends.get(key), Some(state), "job {key:?}");
        }
    }

    pub fn launch(&mut self, attempt: AttemptKey, pool: &str, slot: u32) {
        if self.hosts.of(attempt).is_some() {
            return;
        }
        if self.hosts.known.contains(&attempt) {
            // Found by seed 15505: another runner would be taken for the first, whose end may
            // still be on its way to the daemon, and its slot be given to a second job.
            return self.tell(SECOND, Event::HostGone { attempt, why: "it has ended".into() });
        }
        if self.fails(12) {
            let why = "no such image".into();
            return self.tell(SECOND, Event::LaunchFailed { attempt, why });
        }
        self.hosts.started += 1;
        self.hosts.known.insert(attempt);
        let id = self.hosts.started;
        let does = Does::Claims { until: self.time + 5 * MINUTE };
        let pool = pool.to_owned();
        self.hosts.runners.insert(id, Runner { attempt, pool, slot, cut_off_until: 0, does });
        if self.fails(20) {
            return self.exit(id);
        }
        let delay = self.soon(5 * SECOND);
        self.after(delay, Future::Runner(id));
    }

    pub fn stop(&mut self, attempt: AttemptKey) {
        let Some(id) = self.hosts.of(attempt) else { return };
        let runner = &self.hosts.runners[&id];
        if runner.cut_off_until <= self.time && matches!(runner.does, Does::Works { .. }) {
            self.report(id, Outcome::Cancelled);
        }
    }

    pub fn kill(&mut self, attempt: AttemptKey) {
        if let Some(id) = self.hosts.of(attempt) {
            if self.hosts.runners[&id].cut_off_until > self.time {
                return;
            }
            self.hosts.runners.remove(&id);
        }
        if !self.fails(5) {
            self.tell(SECOND, Event::HostGone { attempt, why: "killed".into() });
        }
    }

    /// After a restart the pools look which runners are left.
    pub fn adopt(&mut self) {
        let held = self.engine.as_ref().map(|engine| engine.held()).unwrap_or_default();
        for held in held {
            let lost = self.hosts.of(held.attempt).is_none();
            if lost && held.state != AttemptState::Launching && !self.fails(2) {
                let why = "no such process".into();
                self.tell(SECOND, Event::HostGone { attempt: held.attempt, why });
            }
        }
    }

    /// Something goes wrong with some runner.
    pub fn trouble(&mut self) {
        let ids: Vec<RunnerId> = self.hosts.runners.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        let id = *self.random.pick(&ids);
        if self.random.once_in(2) {
            return self.exit(id);
        }
        let until = self.time + self.random.below(40 * MINUTE);
        if let Some(runner) = self.hosts.runners.get_mut(&id) {
            runner.cut_off_until = until;
        }
    }

    /// The runner's process ends, and its pool sees that.
    fn exit(&mut self, id: RunnerId) {
        let Some(runner) = self.hosts.runners.remove(&id) else { return };
        let unseen = runner.cut_off_until > self.time || self.fails(10);
        if !unseen {
            let why = "the runner has ended".into();
            self.tell(SECOND, Event::HostGone { attempt: runner.attempt, why });
        }
    }

    pub fn runner(&mut self, id: RunnerId) {
        let Some(runner) = self.hosts.runners.get(&id) else { return };
        let (attempt, does) = (runner.attempt, runner.does.clone());
        let reaches = runner.cut_off_until <= self.time;
        match does {
            Does::Claims { until } if self.time > until => self.exit(id),
            Does::Claims { .. } => self.claim(id, attempt, reaches),
            Does::Works { lease_until, .. } if self.time >= lease_until => self.exit(id),
            Does::Works { end_at, outcome, .. } if self.time >= end_at => self.report(id, outcome),
            Does::Works { renew_at, .. } => {
                if self.time >= renew_at {
                    self.renew(id, attempt, reaches);
                }
                self.doze(id);
            }
            Does::Reports { until, .. } if self.time > until => self.exit(id),
            Does::Reports { verdict, .. } => self.verdict(id, attempt, reaches, verdict),
        }
    }

    /// Asks the daemon, if it can be reached. The answer may get lost.
    fn ask(&mut self, reaches: bool, event: Event) -> Option<Reply> {
        let reply = if reaches { self.turn(event) } else { None };
        reply.filter(|_| !self.fails(15))
    }

    fn claim(&mut self, id: RunnerId, attempt: AttemptKey, reaches: bool) {
        let event = Event::Claimed { attempt, instance: instance(id) };
        match self.ask(reaches, event) {
            Some(Reply::Claimed(grant)) => self.work(id, &grant),
            Some(Reply::Conflict | Reply::Unknown) => self.exit(id),
            Some(other) => panic!("a claim was answered {other:?}"),
            None => self.again(id),
        }
    }

    fn work(&mut self, id: RunnerId, grant: &Grant) {
        assert!(!grant.spec().name.is_empty());
        if grant.cancel {
            return self.report(id, Outcome::Cancelled);
        }
        let mut takes = match self.random.below(8) {
            0 => 90 * MINUTE,
            1 => self.random.below(40 * MINUTE),
            _ => self.random.below(2 * MINUTE),
        };
        let mut outcome = match self.random.below(10) {
            0 => make::errored(),
            1 | 2 => make::failed(),
            _ => Outcome::Passed,
        };
        if takes > grant.timeout_ms {
            (takes, outcome) = (grant.timeout_ms, Outcome::TimedOut);
        }
        if self.fails(30) {
            // It keeps its lease, and no time.
            (takes, outcome) = (1_000_000 * MINUTE, Outcome::Passed);
        }
        let (lease_until, end_at) = (self.time + grant.lease_ms, self.time + takes);
        let renew_at = self.time + grant.lease_ms / 3;
        self.becomes(id, Does::Works { lease_until, renew_at, end_at, outcome });
        self.doze(id);
    }

    fn renew(&mut self, id: RunnerId, attempt: AttemptKey, reaches: bool) {
        let asked = self.time;
        let reply = self.ask(reaches, Event::Renewed { attempt, instance: instance(id) });
        let Some(runner) = self.hosts.runners.get_mut(&id) else { return };
        let Does::Works { lease_until, renew_at, .. } = &mut runner.does else { return };
        match reply {
            Some(Reply::Lease { ms, cancel: false }) => {
                (*lease_until, *renew_at) = (asked + ms, asked + ms / 3);
            }
            Some(Reply::Lease { cancel: true, .. }) => self.report(id, Outcome::Cancelled),
            Some(Reply::Conflict | Reply::Unknown) => self.exit(id),
            Some(other) => panic!("a renewal was answered {other:?}"),
            None => *renew_at = asked + 20 * SECOND,
        }
    }

    fn report(&mut self, id: RunnerId, outcome: Outcome) {
        let verdict = make::verdict(outcome);
        self.becomes(id, Does::Reports { until: self.time + 30 * MINUTE, verdict });
        self.after(0, Future::Runner(id));
    }

    fn verdict(&mut self, id: RunnerId, attempt: AttemptKey, reaches: bool, verdict: Verdict) {
        let event = Event::Ended { attempt, instance: instance(id), verdict: verdict.clone() };
        match self.ask(reaches, event) {
            Some(Reply::Accepted | Reply::Repeated) => {
                let state = match verdict.outcome {
                    Outcome::Passed => Some(JobState::Passed),
                    Outcome::Failed { .. } => Some(JobState::Failed),
                    Outcome::TimedOut => Some(JobState::TimedOut),
                    Outcome::Cancelled | Outcome::Errored { .. } => None,
                };
                if let Some(state) = state {
                    self.hosts.acknowledged.insert(attempt.job, state);
                }
                self.contradict(id, attempt, verdict);
                self.exit(id);
            }
            Some(Reply::Conflict | Reply::Unknown) => self.exit(id),
            Some(other) => panic!("a verdict was answered {other:?}"),
            None => self.again(id),
        }
    }

    /// The same verdict again is as good as before; another is refused, by engine and history.
    fn contradict(&mut self, id: RunnerId, attempt: AttemptKey, verdict: Verdict) {
        let mut other = verdict.clone();
        other.duration_ms += 1;
        for (verdict, good) in [(verdict, true), (other, false)] {
            let event = Event::Ended { attempt, instance: instance(id), verdict: verdict.clone() };
            let reply = match self.turn(event) {
                Some(Reply::Unknown) => {
                    let row = &self.store.history.jobs[&attempt.job];
                    row.reply_to(attempt.n, &instance(id), &verdict)
                }
                Some(reply) => reply,
                None => return,
            };
            assert_eq!(reply, if good { Reply::Repeated } else { Reply::Conflict });
        }
    }

    fn becomes(&mut self, id: RunnerId, does: Does) {
        if let Some(runner) = self.hosts.runners.get_mut(&id) {
            runner.does = does;
        }
    }

    fn again(&mut self, id: RunnerId) {
        let delay = self.soon(10 * SECOND);
        self.after(delay, Future::Runner(id));
    }

    /// Sleeps until there is something to do.
    fn doze(&mut self, id: RunnerId) {
        let Some(runner) = self.hosts.runners.get(&id) else { return };
        if let Does::Works { lease_until, renew_at, end_at, .. } = runner.does {
            let at = lease_until.min(renew_at).min(end_at).max(self.time + 1);
            self.after(at - self.time, Future::Runner(id));
        }
    }
}

fn instance(id: RunnerId) -> String {
    format!("{id:032x}")
}
