//! People who ask for runs and retries of what was built before.

use std::sync::Arc;

use hgci_core::engine::{BuildRow, Event, JobRow, NewBuild, Reply, Trigger};
use hgci_core::push::{Push, Via};
use hgci_core::rerun::{Rerun, Selection};
use hgci_core::result::JobResult;
use hgci_core::{BuildId, BuildState, Node};

use super::pushes::{lane, plan};
use super::world::World;
use crate::make;

impl World {
    /// Somebody asks for a changeset that has a build. The daemon looks at what is there, and tells
    /// the engine all of it in one turn.
    pub fn somebody_asks(&mut self) {
        let Some(engine) = &self.engine else { return };
        let id = engine.next_push();
        let builds = self.store.builds.values().chain(self.store.history.builds.values());
        let nodes: Vec<Node> = builds.map(|row| row.node).collect();
        if nodes.is_empty() {
            return;
        }
        let node = *self.random.pick(&nodes);
        let Ok(whole) = plan(node) else { return };
        let some: Vec<String> = match self.random.below(2) {
            0 => Vec::new(),
            _ => whole.jobs.iter().take(1).map(|spec| spec.name.clone()).collect(),
        };
        let what = match self.random.below(2) {
            0 => Rerun::Run(&some),
            _ => Rerun::Retry(&some),
        };
        let Ok(selection) = Selection::of(&whole, &self.ends_of(node), what) else { return };
        let by = Some("alice".to_owned());
        let push = Push { via: Via::Asked, user: by.clone(), ..make::push(id) };
        let build = NewBuild {
            node,
            trigger: Trigger::Asked,
            by,
            lane: lane(node),
            plan: Ok(Arc::new(selection.plan)),
            kept: selection.kept,
            ..make::new_build(0, Err(""))
        };
        let is_open = self.engine.as_ref().unwrap().knows_build("widgets", node, Trigger::Asked);
        let planned = Event::Planned { push: push.clone(), builds: vec![build] };
        if let Some(Reply::Planned(builds)) = self.turn_of(vec![Event::Received(push), planned]) {
            assert_eq!(builds.is_empty(), is_open, "one after the other");
            self.accepted.insert(id);
        }
    }

    /// How the jobs of a changeset ended in its newest build that has ended.
    fn ends_of(&self, node: Node) -> Vec<JobResult> {
        let builds = self.store.builds.values().chain(self.store.history.builds.values());
        let ended = builds.filter(|row| row.node == node && row.state != BuildState::Running);
        let Some(newest) = ended.max_by_key(|row| row.id) else { return Vec::new() };
        self.jobs_of(newest).iter().filter_map(|job| job.result(newest)).collect()
    }

    fn jobs_of(&self, build: &BuildRow) -> Vec<JobRow> {
        let live = self.engine.as_ref().map(|engine| engine.jobs(build.id)).unwrap_or_default();
        if !live.is_empty() {
            return live;
        }
        let of = |id: BuildId| make::job_key(id.0, 0)..make::job_key(id.0 + 1, 0);
        self.store.history.jobs.range(of(build.id)).map(|(_, row)| row.clone()).collect()
    }

    /// While a build that was asked for runs, no other of its changeset does.
    pub fn who_asks_waits_for_the_one_before(&self) {
        let running = self.store.builds.values().filter(|row| row.state == BuildState::Running);
        let mut nodes: Vec<Node> = running.map(|row| row.node).collect();
        nodes.sort_unstable();
        let count = nodes.len();
        nodes.dedup();
        assert_eq!(nodes.len(), count, "{}", self.summary());
    }
}
