//! What a store is to the engine: batches of changes go in, rows come out.

use std::collections::BTreeMap;
use std::sync::Arc;

use hgci_core::engine::{
    BuildRow, Change, Config, Engine, JobRow, Meta, Now, PlanId, PushRow, Restored, Rows, Trigger,
};
use hgci_core::job::Plan;
use hgci_core::{BuildId, JobKey, Node, PushId};

/// What is durable.
#[derive(Clone, Default)]
pub struct Store {
    pub meta: Meta,
    pub plans: BTreeMap<PlanId, Arc<Plan>>,
    pub pushes: BTreeMap<PushId, PushRow>,
    pub builds: BTreeMap<BuildId, BuildRow>,
    pub jobs: BTreeMap<JobKey, JobRow>,
    pub history: History,
}

/// What is over.
#[derive(Clone, Default)]
pub struct History {
    pub pushes: BTreeMap<PushId, PushRow>,
    pub builds: BTreeMap<BuildId, BuildRow>,
    pub jobs: BTreeMap<JobKey, JobRow>,
}

impl Store {
    /// One batch.
    pub fn write(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Meta(meta) => self.meta = meta,
                Change::Plan(id, plan) => drop(self.plans.insert(id, plan)),
                Change::DropPlan(id) => drop(self.plans.remove(&id)),
                Change::Push(row) => drop(self.pushes.insert(row.push.id, *row)),
                Change::Build(row) => drop(self.builds.insert(row.id, *row)),
                Change::DropJob(key) => drop(self.jobs.remove(&key)),
                Change::Job(row) => drop(self.jobs.insert(row.key, *row)),
                Change::ArchivePush(row) => {
                    self.pushes.remove(&row.push.id);
                    let before = self.history.pushes.insert(row.push.id, *row);
                    assert!(before.is_none(), "a push is archived once: {before:?}");
                }
                Change::ArchiveBuild { build, jobs } => {
                    self.builds.remove(&build.id);
                    self.jobs.retain(|key, _| key.build != build.id);
                    self.history.jobs.extend(jobs.into_iter().map(|row| (row.key, row)));
                    let before = self.history.builds.insert(build.id, *build);
                    assert!(before.is_none(), "a build is archived once: {before:?}");
                }
            }
        }
    }

    /// What is in flight.
    pub fn rows(&self) -> Rows {
        Rows {
            meta: self.meta,
            plans: self.plans.clone().into_iter().collect(),
            pushes: self.pushes.values().cloned().collect(),
            builds: self.builds.values().cloned().collect(),
            jobs: self.jobs.values().cloned().collect(),
        }
    }

    /// The engine that these rows make.
    pub fn engine(&self, config: Config, now: Now) -> Engine {
        let Restored { engine, lost } = Engine::restore(config, self.rows(), Meta::default(), now);
        assert!(lost.is_empty(), "{lost:?}");
        engine
    }

    /// Whether the history has a build of this name.
    pub fn knows(&self, repo: &str, node: Node, trigger: Trigger) -> bool {
        let mut builds = self.history.builds.values();
        builds.any(|row| row.repo == repo && row.node == node && row.trigger == trigger)
    }
}
