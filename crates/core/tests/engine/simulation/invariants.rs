//! The five invariants of design.md, and what must be true when all is over.

use std::collections::BTreeSet;

use hgci_core::engine::{AttemptState, BuildRow, Effect, Engine, JobRow, PushRow, Stage, Trigger};
use hgci_core::{BuildId, BuildState, JobState};

use super::world::World;

impl World {
    /// Looks at what is durable, and at the engine that made it.
    pub fn check_invariants(&mut self) {
        self.every_accepted_push_has_a_build_or_a_reason();
        self.nothing_is_built_twice();
        self.who_asks_waits_for_the_one_before();
        self.one_attempt_is_believed_alive();
        self.ends_are_final();
        self.whatever_is_not_final_will_be_looked_at();
        self.slots_are_held_once();
        if self.random.once_in(16) {
            self.a_replay_gives_the_same();
        }
    }

    /// Invariant 1. A push that is being planned has its reason in its stage.
    fn every_accepted_push_has_a_build_or_a_reason(&self) {
        for id in &self.accepted {
            let flight = self.store.pushes.get(id);
            let row = flight.or_else(|| self.store.history.pushes.get(id));
            let row = row.unwrap_or_else(|| panic!("push {id} is lost"));
            let reason = row.push.no_build.is_some() || row.stage == Stage::Planning;
            assert!(row.builds > 0 || reason, "{row:?}");
            let first = row.first_build.unwrap_or_default().0;
            for build in (first..first + u64::from(row.builds)).map(BuildId) {
                assert!(self.build(build).is_some_and(|build| build.push == *id), "{build}");
            }
        }
    }

    fn nothing_is_built_twice(&self) {
        let builds = self.store.builds.values().chain(self.store.history.builds.values());
        let mut names = BTreeSet::new();
        for row in builds.filter(|row| row.trigger == Trigger::Push) {
            assert!(names.insert((&row.repo, row.node, row.trigger)), "{row:?}");
        }
    }

    /// Invariant 2, the living.
    fn one_attempt_is_believed_alive(&self) {
        for row in self.store.jobs.values().chain(self.store.history.jobs.values()) {
            let alive: Vec<u32> = row
                .attempts
                .iter()
                .filter(|attempt| attempt.state != AttemptState::Over)
                .map(|attempt| attempt.n)
                .collect();
            let newest = row.attempts.last().map(|attempt| attempt.n);
            match row.state {
                JobState::Running => assert_eq!(alive, Vec::from_iter(newest), "{row:?}"),
                _ => assert!(alive.is_empty(), "{row:?}"),
            }
            assert_eq!(row.state.is_final(), row.ended_ms.is_some(), "{row:?}");
            // It says why, where its own command does not.
            let silent =
                [JobState::Errored, JobState::Skipped, JobState::Cancelled, JobState::Superseded];
            assert_eq!(silent.contains(&row.state), row.why.is_some(), "{row:?}");
        }
    }

    /// Invariant 2, the dead: what is durable of an end never changes, and the log has the same.
    fn ends_are_final(&mut self) {
        for row in self.store.jobs.values().chain(self.store.history.jobs.values()) {
            if row.state.is_final() {
                let end = self.ends.entry(row.key).or_insert(row.state);
                assert_eq!(*end, row.state, "{row:?}");
            } else {
                assert_eq!(self.ends.get(&row.key), None, "{row:?}");
            }
        }
        for (key, result) in &self.log.jobs {
            assert_eq!(self.ends.get(key), Some(&result.state), "{result:?}");
        }
        for (id, result) in &self.log.builds {
            let row = self.build(*id).unwrap();
            assert_eq!(row.state, result.state, "{row:?}");
            assert!(result.state.is_final());
        }
    }

    /// Invariant 3, as far as one moment shows it: somebody holds it, or a timer runs for it, or
    /// it stands in line. The end of the run shows the rest.
    fn whatever_is_not_final_will_be_looked_at(&self) {
        let Some(engine) = &self.engine else { return };
        let held = engine.held();
        assert!(held.iter().all(|held| held.due.is_some()), "{held:?}");
        for row in engine.builds() {
            let jobs = engine.jobs(row.id);
            let mut open = jobs.iter().filter(|job| !job.state.is_final()).peekable();
            assert_eq!(open.peek().is_some(), row.state == BuildState::Running, "{row:?}");
            for job in open {
                assert!(engine.waits_for(job.key).is_some() != (job.state == JobState::Running));
            }
            if !row.published && row.state.is_final() {
                assert!(engine.next_wake().is_some());
            }
        }
    }

    /// Invariant 4: a slot has one holder, and every attempt that is not gone holds one.
    fn slots_are_held_once(&self) {
        let Some(engine) = &self.engine else { return };
        let held = engine.held();
        let mut slots = BTreeSet::new();
        for held in &held {
            assert!(slots.insert((held.pool.clone(), held.slot)), "{held:?}");
        }
        let attempts = self.store.jobs.values().flat_map(|row| &row.attempts);
        assert_eq!(attempts.filter(|attempt| !attempt.gone).count(), held.len());
        for pool in engine.pools() {
            let count = held.iter().filter(|held| *held.pool == *pool.name).count();
            assert_eq!(pool.held as usize, count, "{pool:?}");
        }
    }

    /// Invariant 4, at the moment of giving: within the configured number, to a job that fits,
    /// and not before one that has waited longer by more than the ageing.
    pub fn check_launches(&self, effects: &[Effect]) {
        let Some(engine) = &self.engine else { return };
        for effect in effects {
            let Effect::Launch { attempt, pool, slot } = effect else { continue };
            let Some(row) = engine.job_row(attempt.job) else { continue };
            let Some(newest) = row.attempts.last().filter(|newest| newest.n == attempt.n) else {
                continue;
            };
            // A restart asks again for launches from before the pool was made smaller.
            if newest.launched_ms != self.now().wall {
                continue;
            }
            let config = self.config.pools.iter().find(|config| config.name == **pool).unwrap();
            let holders = engine.held().iter().filter(|held| held.pool == *pool).count();
            assert!(*slot < config.slots && holders <= config.slots as usize, "{config:?}");
            assert!(config.lanes.contains(&newest.lane));
            let spec = &engine.plan(attempt.job.build).unwrap().jobs[attempt.job.index as usize];
            assert!(spec.labels.iter().all(|label| config.labels.contains(label)), "{spec:?}");
            self.nobody_is_overtaken(engine, &row, pool);
        }
    }

    fn nobody_is_overtaken(&self, engine: &Engine, started: &JobRow, pool: &str) {
        let config = self.config.pools.iter().find(|config| config.name == pool).unwrap();
        for build in engine.builds() {
            let Some(plan) = engine.plan(build.id) else { continue };
            for other in engine.jobs(build.id) {
                // One that was tried before may be waiting for another pool, or for its pause.
                let tried = other.attempts.iter().any(|attempt| *attempt.pool == *pool);
                let in_line =
                    engine.waits_for(other.key).as_deref() == Some("waits for a free slot");
                if other.state != JobState::Queued || tried || !in_line {
                    continue;
                }
                let spec = &plan.jobs[other.key.index as usize];
                let fits = config.lanes.contains(&build.lane)
                    && spec.labels.iter().all(|label| config.labels.contains(label));
                let ageing = self.config.ageing_ms as i64;
                // By when they came in truth, whatever the rows say.
                let overtaken = self.queued[&other.key] + ageing < self.queued[&started.key];
                assert!(!fits || !overtaken, "{other:?} is overtaken by {started:?}");
            }
        }
    }

    /// Invariant 5: an engine made from what is durable is the same as the one that wrote it.
    fn a_replay_gives_the_same(&self) {
        let Some(engine) = &self.engine else { return };
        // A replay knows nothing of these, and would start something.
        if engine.is_draining() || engine.blocked().is_some() {
            return;
        }
        let again = self.store.engine(self.config.clone(), self.now());
        assert_eq!(view(engine), view(&again));
        assert_eq!(engine.counts(), again.counts());
        assert_eq!(engine.pools(), again.pools());
        assert_eq!(engine.next_push(), again.next_push());
    }

    fn build(&self, id: BuildId) -> Option<&BuildRow> {
        self.store.builds.get(&id).or_else(|| self.store.history.builds.get(&id))
    }

    /// Invariant 3, in the end.
    pub fn everything_has_ended(&self) {
        let engine = self.engine.as_ref().expect("the daemon is up");
        assert_eq!(engine.counts().builds, 0, "{}", self.summary());
        assert_eq!(engine.next_wake(), None, "{}", self.summary());
        assert!(engine.held().is_empty() && self.store.jobs.is_empty());
        assert!(self.store.pushes.is_empty(), "{:?}", self.store.pushes);
        for id in &self.accepted {
            let row = &self.store.history.pushes[id];
            assert_eq!(row.stage, Stage::Done);
            assert_eq!(row.builds > 0, row.push.no_build.is_none(), "{row:?}");
            assert_eq!(row.builds > 0, self.outbox.contains(id), "{row:?}");
        }
        let history = &self.store.history;
        assert!(history.jobs.values().all(|job| job.state.is_final() && job.published));
        assert!(history.jobs.keys().eq(self.log.jobs.keys()), "every job has a result");
        assert!(history.builds.keys().eq(self.log.builds.keys()), "every build has a result");
        self.verdicts_count();
    }
}

/// All that can be seen of an engine's work.
fn view(engine: &Engine) -> (Vec<PushRow>, Vec<BuildRow>, Vec<JobRow>) {
    let builds: Vec<BuildRow> = engine.builds().cloned().collect();
    let jobs = builds.iter().flat_map(|build| engine.jobs(build.id)).collect();
    (engine.pushes().cloned().collect(), builds, jobs)
}
