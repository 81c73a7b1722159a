//! The domain of hgci, pure: what a push, a pipeline, a build, a job and a result are, and the
//! engine that decides what happens next.
//!
//! Nothing here reads a file, a clock or a socket. Time comes in as an argument, randomness as a
//! seed, so that a simulation can run years of CI in seconds.

pub mod document;
pub mod engine;
pub mod id;
pub mod job;
pub mod node;
pub mod pipeline;
pub mod plan;
pub mod push;
pub mod quantity;
pub mod rerun;
pub mod result;
pub mod state;

pub use id::{AttemptKey, BuildId, JobKey, PushId};
pub use node::Node;
pub use state::{BuildState, JobState};
