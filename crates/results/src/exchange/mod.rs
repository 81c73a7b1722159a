//! Results on their way from one repository to another: what a pull sends and takes in.
//!
//! [`Sending`] reads the logs of the repository that is pulled from, its own and what it received
//! itself, and gives a stream of records. [`take_in`] appends them to a log that the puller keeps
//! for this source alone. What the puller has is told by a [`Cookie`], which the sender made when it
//! was last pulled from: log ids, offsets and chain hashes, so that the cost of a pull is that of
//! what is new. A log that was compacted or made anew does not fit its cookie any more, and is sent
//! from its start; the puller drops what it has by record id.
//!
//! Records of changesets that the puller may not see are not sent; where they lie is remembered in
//! the cookie, and they are looked at again when what can be seen has changed.
//!
//! The stream is described in `docs/results-log.md`.

mod cookie;
mod receive;
mod send;
mod stream;

pub use cookie::Cookie;
pub use receive::{Staged, Taken, received_from, take_in};
pub use send::Sending;
