//! Reading repositories that the real hg made.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod archive;
mod fallback;
mod hg;
mod histories;
mod marks;
mod odd;
mod racing;
mod reading;
mod tags;
