//! The daemon of hgci, as a library, so that its rooms can be tested from outside.
//!
//! What comes in goes `web` → `intake` → `scheduler`; what the engine decides goes `effects` →
//! `intake` (planning), `hosts` (attempts), `publish` (results logs), `mail`. `store` is the only
//! user of sled, `config` reads `hgcid.toml`, `serve` starts and stops it all.

mod accounts;
mod app;
pub mod args;
pub mod check;
pub mod clock;
mod complaints;
pub mod config;
pub mod control;
mod disk;
mod effects;
pub mod hosts;
mod identity;
mod intake;
mod joblog;
mod limits;
mod listen;
mod losses;
pub mod mail;
mod metrics;
mod notify;
pub mod pages;
mod process;
mod publish;
mod rebuild;
mod reload;
mod repositories;
mod restore;
pub mod scheduler;
mod secret;
pub mod serve;
mod source;
pub mod store;
mod sweep;
mod telling;
mod token;
mod troubles;
mod web;

pub use scheduler::{Part, Records};
pub use web::calls;
