//! The engine seen from outside: its promises one at a time, and all of them together in a
//! simulation where everything dies at any moment.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod anything;
mod make;
mod promises;
mod random;
mod simulation;
mod store;
