//! What a hook promises, against a daemon that behaves and against everything else.
#![allow(clippy::unwrap_used)]

mod binary;
mod deliver;
mod place;
mod repository;
mod spool;
