//! Jobs that could start now, in the order in which they will.
//!
//! Jobs that the same pools can take stand in one queue, so there are as many queues as there are
//! sets of pools that some job fits, however many jobs and labels there are. A pool takes the
//! first of all queues that it is in. Places are times, so a queue is first in, first out, and a
//! job that goes before others is put in as if it had come earlier by a fixed time: whoever
//! waited longer than that is not overtaken.

use std::collections::{BTreeMap, BTreeSet};

use crate::JobKey;

/// A place in line: since when it counts, in milliseconds, and the job.
pub(super) type Place = (i64, JobKey);

/// Where a job stands in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    queue: u32,
    since: i64,
}

/// All queues.
#[derive(Debug, Default)]
pub(super) struct Ready {
    queues: Vec<BTreeSet<Place>>,
    by_pools: BTreeMap<Vec<usize>, u32>,
    of_pool: BTreeMap<usize, Vec<u32>>,
}

impl Ready {
    /// Puts a job into the queue for these pools.
    pub(super) fn insert(&mut self, pools: Vec<usize>, since: i64, job: JobKey) -> Standing {
        let queue = match self.by_pools.get(&pools) {
            Some(queue) => *queue,
            None => {
                // Not more than there are sets of pools that jobs asked for.
                let queue = self.queues.len() as u32;
                self.queues.push(BTreeSet::new());
                for pool in &pools {
                    self.of_pool.entry(*pool).or_default().push(queue);
                }
                self.by_pools.insert(pools, queue);
                queue
            }
        };
        self.queues[queue as usize].insert((since, job));
        Standing { queue, since }
    }

    /// Takes a job out of line.
    pub(super) fn remove(&mut self, standing: Standing, job: JobKey) {
        if let Some(queue) = self.queues.get_mut(standing.queue as usize) {
            queue.remove(&(standing.since, job));
        }
    }

    /// The job that the pool takes next; it leaves the line.
    pub(super) fn pop(&mut self, pool: usize) -> Option<JobKey> {
        let queues = self.of_pool.get(&pool)?;
        let first = |queue: &u32| Some((*self.queues[*queue as usize].first()?, *queue));
        let (place, queue) = queues.iter().filter_map(first).min()?;
        self.queues[queue as usize].remove(&place);
        Some(place.1)
    }

    /// Empties the line, since places of pools have changed their meaning, and returns the jobs.
    pub(super) fn clear(&mut self) -> Vec<JobKey> {
        let queues = std::mem::take(self).queues;
        queues.into_iter().flatten().map(|(_, job)| job).collect()
    }
}
