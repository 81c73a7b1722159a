//! What comes in: pushes, what is in them, and where results and messages go.

use std::sync::Arc;

use hgci_core::engine::{Amendment, Effect, Event, NewBuild, NoPlan, Reply, Trigger};
use hgci_core::job::{JobSpec, Plan};
use hgci_core::push::Lane;
use hgci_core::result::Entry;
use hgci_core::{Node, PushId};

use super::world::{Future, MINUTE, SECOND, World};
use crate::make;
use crate::random::Random;

/// What the repository has for a push: the same whenever it is read.
fn changesets(push: PushId) -> Vec<Node> {
    let mut random = Random::new(push.0 ^ 0x5eed);
    let mut nodes: Vec<Node> = (0..random.below(4)).map(|n| make::node(push.0 * 10 + n)).collect();
    if push.0 > 1 && random.once_in(3) {
        // A strip, and the same changeset pushed again.
        nodes.push(make::node((push.0 - 1) * 10));
    }
    nodes
}

/// The pipeline of a changeset: the same whenever it is read.
pub fn plan(node: Node) -> Result<Arc<Plan>, NoPlan> {
    let mut random = Random::new(u64::from_be_bytes(node.0[..8].try_into().unwrap()));
    if random.once_in(10) {
        let what = ".hgci.toml:3:7: unknown key rnu; did you mean run?";
        return Err(NoPlan::Malformed(what.into()));
    }
    let count = if random.once_in(12) { 0 } else { 1 + random.below(5) as u32 };
    let labels: [&[&str]; 8] =
        [&[], &[], &[], &["linux"], &["linux"], &["big", "linux"], &["arm"], &["vax"]];
    let jobs = (0..count).map(|index| JobSpec {
        needs: (0..index).filter(|_| random.once_in(3)).collect(),
        allow_failure: random.once_in(5),
        timeout_ms: random.once_in(4).then(|| MINUTE + random.below(30 * MINUTE)),
        ..make::labelled(&format!("job{index}"), labels[random.below(8) as usize])
    });
    Ok(Arc::new(Plan { jobs: jobs.collect() }))
}

/// The lane of a changeset.
pub fn lane(node: Node) -> Lane {
    [Lane::Trusted, Lane::Try][usize::from(node.0[7].is_multiple_of(3))]
}

impl World {
    pub fn push(&mut self) {
        if self.pushes_left == 0 {
            return;
        }
        let id = self.engine.as_ref().map(|engine| engine.next_push());
        let delay = match id {
            Some(id) => match self.turn(Event::Received(make::push(id))) {
                Some(Reply::Accepted | Reply::Repeated) => {
                    self.accepted.insert(id);
                    self.pushes_left -= 1;
                    5 * MINUTE
                }
                None => 5 * SECOND,
                other => panic!("a push was answered {other:?}"),
            },
            // It lies in the spool until the daemon is back.
            None => 5 * SECOND,
        };
        let delay = self.soon(delay);
        self.after(delay, Future::Push);
    }

    pub fn plan(&mut self, id: PushId) {
        if self.fails(5) {
            let why = "cannot open the repository widgets: stale file handle".into();
            self.tell(SECOND, Event::PlanFailed { push: id, why });
            return;
        }
        let known = |node: &Node| self.store.knows("widgets", *node, Trigger::Push);
        let builds = changesets(id)
            .into_iter()
            .filter(|node| !known(node))
            .map(|node| NewBuild {
                node,
                lane: lane(node),
                plan: plan(node),
                ..make::new_build(0, Err(""))
            })
            .collect();
        self.turn(Event::Planned { push: make::push(id), builds });
        if self.random.once_in(4) {
            let user = Some("alice".into());
            let amendment = Amendment { user, trusted: changesets(id), ..Amendment::default() };
            self.tell(SECOND, Event::Amended { push: id, amendment });
        }
    }

    /// The results log takes what it has not.
    pub fn append(&mut self, effect: Effect) {
        let Effect::Publish { entries, publication, .. } = effect else { return };
        for entry in entries {
            match entry {
                Entry::Job(job) => {
                    let key = make::job_key(job.build.0, job.index);
                    let before = self.log.jobs.entry(key).or_insert_with(|| job.clone());
                    assert_eq!(*before, job, "a job has one result");
                }
                Entry::Build(build) => {
                    let jobs = self.log.jobs.keys().filter(|key| key.build == build.build);
                    assert_eq!(jobs.count(), build.jobs as usize, "a build comes after its jobs");
                    let before =
                        self.log.builds.entry(build.build).or_insert_with(|| build.clone());
                    assert_eq!(*before, build, "a build has one result");
                }
                Entry::Origin(_) => panic!("the engine knows nothing of origins"),
            }
        }
        if !self.fails(10) {
            self.tell(20, Event::Published(publication));
        }
    }
}
