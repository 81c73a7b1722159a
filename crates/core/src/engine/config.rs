//! What the engine goes by: the pools, and how long it waits for what.

use serde::{Deserialize, Serialize};

use crate::job::JobSpec;
use crate::push::Lane;

use super::slots::Slots;

/// The time, as the caller read it for this step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never goes back while the process lives. Leases, back-offs
    /// and timeouts run on it.
    pub mono: u64,
    /// Milliseconds since 1970, UTC. It may jump; it is for people, and for the order of the
    /// queue over a restart.
    pub wall: i64,
}

/// Hosts of one kind under one configuration, as far as the engine cares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its name, unique in the configuration.
    pub name: String,
    /// How many attempts it takes at the same time, at most [`Pool::MAX_SLOTS`]. 0: none for now,
    /// as if it were not there.
    pub slots: u32,
    /// What its hosts have. It takes jobs whose labels are all among these.
    pub labels: Vec<String>,
    /// Whose jobs it takes.
    pub lanes: Vec<Lane>,
}

impl Pool {
    /// The most slots of a pool; what is said above is ignored.
    pub const MAX_SLOTS: u32 = 1 << 16;
}

/// The rules of the engine. All times are milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The pools, the preferred first.
    pub pools: Vec<Pool>,
    /// How often a job whose attempt was errored is tried again.
    pub retries: u32,
    /// The pause before the first retry; it doubles with each further one.
    pub backoff_ms: u64,
    /// The longest pause between retries, also of planning.
    pub backoff_max_ms: u64,
    /// From the launch to the claim, at most. Then the host is given up.
    pub start_ms: u64,
    /// A lease, as the runner is told.
    pub lease_ms: u64,
    /// How much longer the engine believes in a lease than the runner, who stops at its end.
    pub lease_margin_ms: u64,
    /// The most that a job may run, and what it gets when it does not say.
    pub timeout_ms: u64,
    /// How long after a job's timeout its verdict may come: for fetching the source before and
    /// handing in reports after. Then the attempt is errored, for its runner does not keep time.
    pub timeout_margin_ms: u64,
    /// How long a runner has to end by itself, after its verdict and when it is told to cancel,
    /// before its host is asked to kill it.
    pub grace_ms: u64,
    /// Ask again for an effect that nobody reported done after this; doubles up to
    /// `reissue_max_ms`.
    pub reissue_ms: u64,
    /// The longest pause between asking for the same effect.
    pub reissue_max_ms: u64,
    /// By how much a trusted job goes before a try job: it overtakes what was queued up to this
    /// long before it, and never anything older. So no job waits for ever.
    pub ageing_ms: u64,
    /// How long a job that only trusted people may run waits for a hook to name its pusher, where
    /// none has spoken yet. Then it is skipped, which is for good.
    pub late_hook_ms: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            pools: Vec::new(),
            retries: 2,
            backoff_ms: 5_000,
            backoff_max_ms: 300_000,
            start_ms: 300_000,
            lease_ms: 600_000,
            lease_margin_ms: 30_000,
            timeout_ms: 3_600_000,
            timeout_margin_ms: 900_000,
            grace_ms: 60_000,
            reissue_ms: 60_000,
            reissue_max_ms: 3_600_000,
            ageing_ms: 600_000,
            late_hook_ms: 30_000,
        }
    }
}

impl Config {
    /// What the runner is to enforce for this job: what the job says, within the limit.
    pub fn timeout_of(&self, job: &JobSpec) -> u64 {
        job.timeout_ms.unwrap_or(self.timeout_ms).min(self.timeout_ms)
    }

    /// Why no pool will ever take the job in this lane; `None` where one can.
    pub fn why_no_pool(&self, job: &JobSpec, lane: Lane) -> Option<String> {
        let mut slots = Slots::default();
        slots.configure(&self.pools);
        slots.that_take(job, lane).is_empty().then(|| slots.why_none(job, lane))
    }

    /// The pause before try `n + 1` of anything, after `n` tries (from 1) have come to nothing.
    pub(super) fn backoff(&self, n: u32) -> u64 {
        doubled(self.backoff_ms, n, self.backoff_max_ms)
    }

    /// The pause before an effect is asked for again, after it was asked for `n` times (from 1).
    pub(super) fn reissue(&self, n: u32) -> u64 {
        doubled(self.reissue_ms, n, self.reissue_max_ms)
    }

    /// How long the engine believes in a lease.
    pub(super) fn believed_ms(&self) -> u64 {
        self.lease_ms.saturating_add(self.lease_margin_ms)
    }
}

/// `first`, doubled for each time after the first, but not above `most`.
fn doubled(first: u64, times: u32, most: u64) -> u64 {
    let factor = 1_u64.checked_shl(times.saturating_sub(1).min(40)).unwrap_or(u64::MAX);
    // Never 0, or a timer would fire again in the same breath.
    first.saturating_mul(factor).min(most).max(1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn pauses_double_up_to_their_limit() {
        let pauses: Vec<u64> = [1, 2, 3, 4, 1000].map(|n| doubled(5, n, 30)).into();
        assert_eq!(pauses, [5, 10, 20, 30, 30]);
        assert_eq!(doubled(0, 1, 0), 1);
        assert_eq!(doubled(u64::MAX, 9, u64::MAX), u64::MAX);
    }

    #[test]
    fn a_job_runs_as_long_as_it_says_within_the_limit() {
        let config = Config { timeout_ms: 1000, ..Config::default() };
        let timeout = |timeout_ms| {
            config.timeout_of(&JobSpec {
                name: "a".into(),
                run: vec!["true".into()],
                env: BTreeMap::new(),
                needs: Vec::new(),
                labels: Vec::new(),
                timeout_ms,
                reports: Vec::new(),
                allow_failure: false,
            })
        };
        assert_eq!(timeout(None), 1000);
        assert_eq!(timeout(Some(10)), 10);
        assert_eq!(timeout(Some(10_000)), 1000);
    }
}
