//! Pools of hosts: how a runner is started on one, watched, and taken down.
//!
//! A pool tells the scheduler what it sees as events and never decides anything. Its contract:
//! - `launch` may be asked twice for one attempt and starts one runner; when that has ended, its
//!   `HostGone` is said again;
//! - the end of a runner without an accepted verdict is `HostGone`, whatever ended it;
//! - `stop` has the runner end its job and report that; where it cannot be told, nothing happens:
//!   it hears of it when it renews its lease;
//! - `kill` takes down the runner and everything that it started; killing what is gone is no error;
//! - after a restart `adopt` takes up the runners that live on, and takes down whatever else is
//!   found of this daemon's.

mod local;
mod pools;
mod record;

pub use local::LocalPool;
pub use pools::Pools;
