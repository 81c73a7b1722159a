//! Plans of builds in flight, each once, however many builds share it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::job::Plan;

use super::PlanId;

/// How many plans without a user are kept in the store, for the next build to find.
const IDLE: usize = 16;

/// A plan and what follows from it.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) id: PlanId,
    pub(super) plan: Arc<Plan>,
    /// For each job, how many others it needs.
    pub(super) needs: Vec<u32>,
    /// For each job, the jobs that need it.
    pub(super) dependents: Vec<Vec<u32>>,
}

impl Shape {
    fn of(id: PlanId, plan: Arc<Plan>) -> Result<Shape, String> {
        let mut needs = vec![0; plan.jobs.len()];
        let mut dependents = vec![Vec::new(); plan.jobs.len()];
        if u32::try_from(plan.jobs.len()).is_err() {
            return Err(format!("a plan of {} jobs", plan.jobs.len()));
        }
        for (index, job) in (0_u32..).zip(&plan.jobs) {
            let mut needed = job.needs.clone();
            needed.sort_unstable();
            needed.dedup();
            if needed.last().is_some_and(|last| *last >= index) {
                return Err(format!("job {} needs one that does not come before it", job.name));
            }
            needs[index as usize] = needed.len() as u32;
            for need in needed {
                dependents[need as usize].push(index);
            }
        }
        Ok(Shape { id, plan, needs, dependents })
    }
}

/// The plans that the store has in flight.
#[derive(Debug, Default)]
pub(super) struct Plans {
    known: BTreeMap<PlanId, Used>,
    idle: VecDeque<PlanId>,
    /// The plan that was named last: the builds of a push mostly share one.
    last: Option<(Arc<Plan>, PlanId)>,
}

#[derive(Debug)]
struct Used {
    shape: Arc<Shape>,
    builds: usize,
}

impl Plans {
    /// Takes up a plan of the store.
    pub(super) fn restore(&mut self, id: PlanId, plan: Arc<Plan>) -> Result<(), String> {
        let shape = Shape::of(id, plan).map(Arc::new)?;
        self.known.insert(id, Used { shape, builds: 0 });
        Ok(())
    }

    /// Whether the plan is one that the store has in flight.
    pub(super) fn has(&self, id: PlanId) -> bool {
        self.known.contains_key(&id)
    }

    /// The plan with this name, for one more build.
    pub(super) fn share(&mut self, id: PlanId) -> Option<Arc<Shape>> {
        let used = self.known.get_mut(&id)?;
        used.builds += 1;
        Some(used.shape.clone())
    }

    /// A plan for one more build, and whether it is new to the store. Fails with the reason why it
    /// is no plan.
    pub(super) fn add(&mut self, plan: &Arc<Plan>) -> Result<(Arc<Shape>, bool), String> {
        let id = match &self.last {
            Some((last, id)) if Arc::ptr_eq(last, plan) => *id,
            _ => PlanId::of(plan),
        };
        if let Some(shape) = self.share(id) {
            self.last = Some((plan.clone(), id));
            return Ok((shape, false));
        }
        let shape = Arc::new(Shape::of(id, plan.clone())?);
        self.known.insert(id, Used { shape: shape.clone(), builds: 1 });
        self.last = Some((plan.clone(), id));
        Ok((shape, true))
    }

    /// One build less uses the plan. Returns plans that the store may drop.
    pub(super) fn release(&mut self, id: PlanId) -> Vec<PlanId> {
        if let Some(used) = self.known.get_mut(&id) {
            used.builds = used.builds.saturating_sub(1);
            if used.builds == 0 {
                self.idle.push_back(id);
            }
        }
        self.shed()
    }

    /// Counts plans that nobody uses as idle, after all builds were restored. Returns plans that
    /// the store may drop.
    pub(super) fn settle(&mut self) -> Vec<PlanId> {
        let unused = self.known.iter().filter(|(_, used)| used.builds == 0);
        self.idle = unused.map(|(id, _)| *id).collect();
        self.shed()
    }

    /// Forgets the plans that have been idle longest, above the limit.
    fn shed(&mut self) -> Vec<PlanId> {
        let mut dropped = Vec::new();
        while self.idle.len() > IDLE {
            let Some(id) = self.idle.pop_front() else { break };
            // A plan that was taken up again since, or stands in line twice, stays.
            let idle = self.known.get(&id).is_some_and(|used| used.builds == 0);
            if idle && !self.idle.contains(&id) {
                self.known.remove(&id);
                if self.last.as_ref().is_some_and(|(_, last)| *last == id) {
                    self.last = None;
                }
                dropped.push(id);
            }
        }
        dropped
    }

    /// How many plans are in memory.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}
