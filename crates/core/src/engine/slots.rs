//! The slots of the pools, and who holds which.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::AttemptKey;
use crate::job::JobSpec;
use crate::push::Lane;

use super::Pool;

/// The pools as they are configured, and who holds which slot. A pool that left the
/// configuration keeps its holders until they are gone.
#[derive(Debug, Default)]
pub(super) struct Slots {
    pools: Vec<Places>,
    held: BTreeMap<(Arc<str>, u32), AttemptKey>,
}

/// A configured pool.
#[derive(Debug)]
pub(super) struct Places {
    /// The configuration, its slots within their limit.
    pub(super) pool: Pool,
    name: Arc<str>,
    /// How many attempts hold a slot, also one above the configured number.
    holders: u32,
    /// Slots below `fresh` that nobody holds.
    free: BTreeSet<u32>,
    /// From here on no slot was held since the last configuration.
    fresh: u32,
}

impl Places {
    fn has_room(&self) -> bool {
        // After the number of slots was lowered, holders above it count, too.
        self.holders < self.pool.slots && (!self.free.is_empty() || self.fresh < self.pool.slots)
    }
}

impl Slots {
    /// Takes over a new configuration. Places in the list of pools change their meaning.
    pub(super) fn configure(&mut self, pools: &[Pool]) {
        let mut names = BTreeSet::new();
        self.pools = pools
            .iter()
            // Two pools of one name would hand out the same slots.
            .filter(|pool| names.insert(pool.name.clone()))
            .map(|pool| {
                let mut pool = pool.clone();
                pool.slots = pool.slots.min(Pool::MAX_SLOTS);
                Places {
                    name: pool.name.as_str().into(),
                    pool,
                    holders: 0,
                    free: BTreeSet::new(),
                    fresh: 0,
                }
            })
            .collect();
        let mut held: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
        for (pool, slot) in self.held.keys() {
            held.entry(pool).or_default().insert(*slot);
        }
        for places in &mut self.pools {
            let Some(taken) = held.get(places.pool.name.as_str()) else { continue };
            places.holders = u32::try_from(taken.len()).unwrap_or(u32::MAX);
            let above = taken.last().map_or(0, |slot| slot.saturating_add(1));
            places.fresh = above.min(places.pool.slots);
            places.free = (0..places.fresh).filter(|slot| !taken.contains(slot)).collect();
        }
    }

    /// The configured pools, by place.
    pub(super) fn pools(&self) -> &[Places] {
        &self.pools
    }

    /// How many attempts hold a slot of the pool at this place.
    pub(super) fn holders(&self, pool: usize) -> u32 {
        self.pools.get(pool).map_or(0, |places| places.holders)
    }

    /// Every slot that is held, also of pools that are no longer configured.
    pub(super) fn held(&self) -> impl Iterator<Item = (&Arc<str>, u32, AttemptKey)> {
        self.held.iter().map(|((pool, slot), attempt)| (pool, *slot, *attempt))
    }

    /// Which pools can take the job, by place.
    pub(super) fn that_take(&self, job: &JobSpec, lane: Lane) -> Vec<usize> {
        let takes = |places: &Places| {
            places.pool.slots > 0 && places.pool.lanes.contains(&lane) && has(&places.pool, job)
        };
        (0..self.pools.len()).filter(|pool| takes(&self.pools[*pool])).collect()
    }

    /// Whether nothing but the lane keeps the job from every pool.
    pub(super) fn why_lane(&self, job: &JobSpec, lane: Lane) -> bool {
        lane == Lane::Try && !self.that_take(job, Lane::Trusted).is_empty()
    }

    /// Why no pool can take the job.
    pub(super) fn why_none(&self, job: &JobSpec, lane: Lane) -> String {
        let labels = job.labels.join(", ");
        let matching = self.pools.iter().any(|places| has(&places.pool, job));
        let lane = match lane {
            Lane::Trusted => "trusted",
            Lane::Try => "try",
        };
        match (matching, job.labels.len()) {
            (_, 0) => format!("no pool takes {lane} jobs"),
            (false, 1) => format!("no pool has the label {labels}"),
            (false, _) => format!("no pool has the labels {labels}"),
            (true, 1) => format!("no pool with the label {labels} takes {lane} jobs"),
            (true, _) => format!("no pool with the labels {labels} takes {lane} jobs"),
        }
    }

    /// Whether the pool at this place has a slot to give.
    pub(super) fn has_room(&self, pool: usize) -> bool {
        self.pools.get(pool).is_some_and(Places::has_room)
    }

    /// Gives a slot of the pool at this place: the lowest, but another than `not` where there is
    /// one.
    pub(super) fn take(
        &mut self,
        pool: usize,
        attempt: AttemptKey,
        not: Option<&(Arc<str>, u32)>,
    ) -> Option<(Arc<str>, u32)> {
        let places = self.pools.get_mut(pool).filter(|places| places.has_room())?;
        let avoid = not.filter(|(name, _)| *name == places.name).map(|(_, slot)| *slot);
        let free = places.free.iter().copied().find(|slot| Some(*slot) != avoid);
        let mut fresh = (places.fresh < places.pool.slots).then_some(places.fresh);
        if fresh.is_some() && fresh == avoid && places.fresh + 1 < places.pool.slots {
            // Step over the one to avoid; it stays free for others.
            places.free.insert(places.fresh);
            places.fresh += 1;
            fresh = Some(places.fresh);
        }
        let slot = free.or(fresh).or_else(|| places.free.first().copied())?;
        if !places.free.remove(&slot) {
            places.fresh = slot + 1;
        }
        places.holders += 1;
        let held = (places.name.clone(), slot);
        self.held.insert(held.clone(), attempt);
        Some(held)
    }

    /// Notes that an attempt holds a slot, as the store says. Before [`Slots::configure`].
    pub(super) fn restore(&mut self, pool: Arc<str>, slot: u32, attempt: AttemptKey) {
        self.held.insert((pool, slot), attempt);
    }

    /// Gives a slot back, if it is this attempt that holds it.
    pub(super) fn give_back(&mut self, pool: &Arc<str>, slot: u32, attempt: AttemptKey) {
        let held = (pool.clone(), slot);
        if self.held.get(&held) != Some(&attempt) {
            return;
        }
        self.held.remove(&held);
        if let Some(places) = self.pools.iter_mut().find(|places| places.name == *pool) {
            places.holders = places.holders.saturating_sub(1);
            if slot < places.fresh {
                places.free.insert(slot);
            }
        }
    }
}

/// Whether the pool has all labels of the job.
fn has(pool: &Pool, job: &JobSpec) -> bool {
    job.labels.iter().all(|label| pool.labels.contains(label))
}
