//! The HTTP API of hgcid: its paths, what goes in and what comes out, and a small blocking client.
//!
//! One API for hook, extension, runner, command line and browser, on the daemon's Unix socket and,
//! where `[web]` is set, on TCP. Everything is JSON but for source trees (tar) and logs (bytes).

pub mod ask;
pub mod client;
pub mod fold;
pub mod hook;
pub mod list;
pub mod read;
pub mod run;
pub mod terminal;
mod unix;
pub mod wire;

pub use client::Client;

use serde::{Deserialize, Serialize};

/// The version of the protocol between daemon and runner, hook and extension. A daemon serves
/// this one and the one before.
pub const PROTOCOL: u32 = 1;

/// The body of every answer that is not 2xx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What is wrong, and what to do.
    pub error: String,
}

/// A value for a query string: all but unreserved characters percent-encoded.
pub fn query(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(byte as char);
        } else {
            text += &format!("%{byte:02X}");
        }
    }
    text
}
