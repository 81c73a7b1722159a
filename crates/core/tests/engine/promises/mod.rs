//! What the engine promises, one at a time.

mod asking;
mod attempts;
mod intake;
mod jobs;
mod publishing;
mod restart;
mod scheduling;

use hgci_core::engine::{Config, Effect, Engine, Event, Grant, Meta, Now, Pool, Reply, Restored};
use hgci_core::job::JobSpec;
use hgci_core::result::{Entry, Outcome};
use hgci_core::{AttemptKey, BuildId, JobState};

use crate::make;
use crate::store::Store;

/// An engine, what is durable of it, the time, and the effects that wait.
struct World {
    config: Config,
    engine: Engine,
    store: Store,
    now: Now,
    effects: Vec<Effect>,
}

impl World {
    /// One pool `here` with so many slots.
    fn with_slots(slots: u32) -> World {
        World::new(Config { pools: vec![make::pool("here", slots, &[])], ..Config::default() })
    }

    fn with_pools(pools: Vec<Pool>) -> World {
        World::new(Config { pools, ..Config::default() })
    }

    fn new(config: Config) -> World {
        World {
            engine: Engine::new(config.clone()),
            config,
            store: Store::default(),
            now: Now { mono: 1_000_000, wall: 1_700_000_000_000 },
            effects: Vec::new(),
        }
    }

    fn step(&mut self, event: Event) -> Reply {
        let reply = self.engine.step(self.now, event);
        self.turn();
        reply
    }

    fn turn(&mut self) {
        self.store.write(self.engine.take_changes());
        self.effects.extend(self.engine.take_effects());
    }

    /// Lets time pass, with a tick whenever the engine asks for one.
    fn pass(&mut self, ms: u64) {
        let end = self.now.mono + ms;
        while let Some(at) = self.engine.next_wake().filter(|at| *at <= end) {
            self.set_clock(at.max(self.now.mono));
            self.step(Event::Tick);
        }
        self.set_clock(end);
    }

    fn set_clock(&mut self, mono: u64) {
        self.now.wall += (mono - self.now.mono) as i64;
        self.now.mono = mono;
    }

    /// The daemon dies, and what it was about to do with it. The rows are read as a store gives
    /// them: from JSON. The monotonic clock starts anew.
    fn restart(&mut self) {
        self.restart_with(Meta::default());
    }

    fn restart_with(&mut self, least: Meta) {
        let mut rows = self.store.rows();
        let json = serde_json::to_string(&(&rows.pushes, &rows.builds, &rows.jobs)).unwrap();
        (rows.pushes, rows.builds, rows.jobs) = serde_json::from_str(&json).unwrap();
        self.now.mono = 7;
        let restored = Engine::restore(self.config.clone(), rows, least, self.now);
        let Restored { engine, lost } = restored;
        assert!(lost.is_empty(), "{lost:?}");
        self.engine = engine;
        self.effects.clear();
        self.turn();
    }

    /// A push comes in and is planned: its builds.
    fn push(&mut self, plans: Vec<Result<Vec<JobSpec>, &str>>) -> Vec<BuildId> {
        let id = self.engine.next_push();
        assert_eq!(self.step(Event::Received(make::push(id))), Reply::Accepted);
        let builds = (0..).zip(plans).map(|(n, plan)| make::new_build(id.0 * 1000 + n, plan));
        match self.step(Event::Planned { push: make::push(id), builds: builds.collect() }) {
            Reply::Planned(builds) => builds,
            other => panic!("{other:?}"),
        }
    }

    fn build(&mut self, plan: Vec<JobSpec>) -> BuildId {
        self.push(vec![Ok(plan)])[0]
    }

    fn claim(&mut self, key: AttemptKey) -> Grant {
        match self.step(Event::Claimed { attempt: key, instance: runner(key) }) {
            Reply::Claimed(grant) => *grant,
            other => panic!("{other:?}"),
        }
    }

    fn renew(&mut self, key: AttemptKey) -> Reply {
        self.step(Event::Renewed { attempt: key, instance: runner(key) })
    }

    fn end(&mut self, key: AttemptKey, outcome: Outcome) -> Reply {
        let verdict = make::verdict(outcome);
        self.step(Event::Ended { attempt: key, instance: runner(key), verdict })
    }

    fn gone(&mut self, key: AttemptKey) -> Reply {
        self.step(Event::HostGone { attempt: key, why: "exit status 0".into() })
    }

    /// From claim to the end of the runner.
    fn run(&mut self, key: AttemptKey, outcome: Outcome) {
        self.claim(key);
        assert_eq!(self.end(key, outcome), Reply::Accepted);
        self.gone(key);
    }

    /// Publishes what is to be published, and returns it.
    fn publish(&mut self) -> Vec<Entry> {
        let mut all = Vec::new();
        let is_publish = |effect: &Effect| matches!(effect, Effect::Publish { .. });
        while let Some(at) = self.effects.iter().position(is_publish) {
            if let Effect::Publish { entries, publication, .. } = self.effects.remove(at) {
                all.extend(entries);
                self.step(Event::Published(publication));
            }
        }
        all
    }

    /// Which attempts were launched on which slots since this was asked last.
    fn launched(&mut self) -> Vec<(AttemptKey, String, u32)> {
        let mut launched = Vec::new();
        self.effects.retain(|effect| match effect {
            Effect::Launch { attempt, pool, slot } => {
                launched.push((*attempt, pool.to_string(), *slot));
                false
            }
            _ => true,
        });
        launched
    }

    fn launched_attempts(&mut self) -> Vec<AttemptKey> {
        self.launched().into_iter().map(|(attempt, ..)| attempt).collect()
    }

    /// Which attempts hosts were asked to kill since this was asked last.
    fn killed(&mut self) -> Vec<AttemptKey> {
        let mut killed = Vec::new();
        self.effects.retain(|effect| match effect {
            Effect::Kill { attempt, .. } => {
                killed.push(*attempt);
                false
            }
            _ => true,
        });
        killed
    }

    fn states(&self, build: BuildId) -> Vec<JobState> {
        self.engine.jobs(build).iter().map(|job| job.state).collect()
    }

    fn state(&self, build: u64, index: u32) -> JobState {
        self.engine.job_row(make::job_key(build, index)).unwrap().state
    }

    fn why(&self, build: u64, index: u32) -> String {
        let row = self.engine.job_row(make::job_key(build, index)).unwrap();
        row.why.unwrap_or_default()
    }
}

fn runner(key: AttemptKey) -> String {
    format!("runner of {key}")
}
