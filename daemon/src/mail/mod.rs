//! Telling people: what is said, to whom, and how it gets there.
//!
//! - `before`: how jobs ended at the nearest ancestors that were built
//! - `report`: what is known of a push whose builds are final, and what changed by it
//! - `lines`: the lines of a log that tell why a job failed
//! - `people`: who gets mail, out of what hg has for authors and pushers
//! - `account`: what is said of a push, cut to what people read and a store takes
//! - `compose`, `html`: a message, without a clock, a disk or a network
//! - `outbox`: messages in the store, each once
//! - `deliver`: from the outbox to the mail server, for as long as it takes
//! - `connection`: one message to the mail server, each step under a deadline

mod account;
mod before;
mod compose;
mod connection;
mod deliver;
mod html;
mod lines;
mod outbox;
mod people;
mod report;

pub use account::Account;
pub use before::before;
pub use compose::{Links, Message, compose, digest};
pub use deliver::{Mailer, Pace, Settings};
pub use lines::failing_lines;
pub use outbox::{Outbox, Waiting};
pub use people::{author, recipients};
pub use report::{BuildReport, Change, JobReport, PushReport};
