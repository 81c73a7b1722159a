//! The numbers by which the daemon names things.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A push: sequential per daemon, from 1.
    PushId
}
number! {
    /// A build: sequential per daemon, from 1.
    BuildId
}

/// A job of a build, by its place in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobKey {
    /// The build it belongs to.
    pub build: BuildId,
    /// Its place in the plan's list of jobs, from 0.
    pub index: u32,
}

/// The n-th execution of a job. Written `BUILD.INDEX.N`, so in URLs and folder names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptKey {
    /// The job that is executed.
    pub job: JobKey,
    /// Which execution, from 1.
    pub n: u32,
}

/// Text that names no attempt.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not an attempt, BUILD.INDEX.N: {0:?}")]
pub struct NotAnAttempt(String);

impl fmt::Display for AttemptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.job.build, self.job.index, self.n)
    }
}

impl FromStr for AttemptKey {
    type Err = NotAnAttempt;

    fn from_str(text: &str) -> Result<Self, NotAnAttempt> {
        let refuse = || NotAnAttempt(text.chars().take(64).collect());
        // `parse` takes a leading `+`; a key has one spelling alone.
        if !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return Err(refuse());
        }
        let mut parts = text.split('.');
        let (build, index, n) = (parts.next(), parts.next(), parts.next());
        match (build.map(str::parse), index.map(str::parse), n.map(str::parse), parts.next()) {
            (Some(Ok(build)), Some(Ok(index)), Some(Ok(n)), None) => {
                Ok(AttemptKey { job: JobKey { build: BuildId(build), index }, n })
            }
            _ => Err(refuse()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_survives_being_written_and_read() {
        let key = AttemptKey { job: JobKey { build: BuildId(12), index: 0 }, n: 3 };
        assert_eq!(key.to_string(), "12.0.3");
        assert_eq!("12.0.3".parse(), Ok(key));
        for text in ["", "1.2", "1.2.3.4", "1..3", "+1.2.3", "1.2.-3", "../1.2.3"] {
            assert!(text.parse::<AttemptKey>().is_err(), "{text}");
        }
    }
}
