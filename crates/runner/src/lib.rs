//! Runs one attempt of a job on any host: `hgci-runner`.
//!
//! ```text
//! hgcid ◀─ claim, source, log, renew, verdict ─ link ◀─ attempt ─▶ unpack ─▶ tree/
//!                                                 ▲         │
//!                                                 │         ▼
//!                                                log ◀─ supervise ◀─ pipe, socket ─ warden ─▶ sh -e -c STEP
//! ```
//!
//! The runner starts one child, the *warden*, in the sandbox if there is one. The warden runs the
//! steps and has all their processes below it. Either of the two dying ends the job.

pub mod account;
pub mod attempt;
mod courier;
mod descriptors;
pub mod glob;
pub mod ground;
pub mod junit;
mod link;
mod log;
pub mod procs;
pub mod reap;
pub mod remove;
pub mod reports;
mod sandbox;
mod signals;
mod supervise;
pub mod tar;
pub mod unpack;
pub mod warden;

pub use descriptors::keep_to_ourselves;
pub use link::Lost;
pub use signals::Signals;
