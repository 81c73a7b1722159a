//! hgci-runner against the daemon's protocol, with real processes, sandboxes and disks.
#![allow(clippy::unwrap_used)]

mod basics;
mod daemon;
mod death;
mod escape;
mod hostile;
mod lease;
mod output;
mod report;
mod scene;
mod tarball;
