//! Years of CI in seconds: pushes come, and the daemon, its hosts and runners die, hang, are cut
//! off and come back late, at any moment. After every turn the invariants of design.md are
//! checked, and at the end that everything came to one.
//!
//! `HGCI_SEED=n` runs one seed alone, `HGCI_SEEDS=n` that many.

mod asking;
mod hosts;
mod invariants;
mod pushes;
mod world;

use crate::random::with_seeds;

/// A run takes some milliseconds in a release build, and ten times that without optimisation.
const RUNS: u64 = if cfg!(debug_assertions) { 1_000 } else { 3_500 };

#[test]
fn whatever_dies_every_job_ends_once_and_every_push_is_answered() {
    with_seeds(RUNS, |seed| world::World::new(seed).run());
}
