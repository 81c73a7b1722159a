//! Records: how an [`Entry`] is stored, and by which id it is known.
//!
//! What is stored has types of its own: the domain's may change, a log is for ever. Each kind of
//! record has a version; a new version gets a new number and a type beside the old one, and the old
//! one stays readable. Kinds and versions that this program does not know are passed over.

use std::fmt;

use hgci_core::result::{BuildResult, Entry, JobResult, Origin, Tests};
use hgci_core::{BuildId, BuildState, JobKey, JobState, Node, PushId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::frame::{Chain, first_16};

/// The most bytes that are kept of a name: of a job, a pool, a host, a repository, a URL.
pub const MAX_NAME: usize = 512;

/// The most bytes that are kept of a text for people.
pub const MAX_TEXT: usize = 4096;

const ORIGIN: u8 = 1;
const JOB: u8 = 2;
const BUILD: u8 = 3;
const V1: u8 = 1;
const V2: u8 = 2;

/// By what a record is known everywhere: the same result has the same id in every log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(pub [u8; 16]);

impl RecordId {
    /// The id of `entry` as the daemon named `daemon` writes it: from changeset, build, job and
    /// attempt. A build that ends again, after a job of it was retried, is another record.
    pub fn of(daemon: &str, entry: &Entry) -> RecordId {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        part(daemon.as_bytes());
        match entry {
            Entry::Origin(origin) => {
                part(&[ORIGIN]);
                part(origin.daemon.as_bytes());
                part(origin.repo.as_bytes());
                part(origin.url.as_bytes());
            }
            Entry::Job(job) => {
                part(&[JOB]);
                part(&job.node.0);
                part(&job.build.0.to_le_bytes());
                part(&job.index.to_le_bytes());
                part(&job.attempt.to_le_bytes());
            }
            Entry::Build(build) => {
                part(&[BUILD]);
                part(&build.node.0);
                part(&build.build.0.to_le_bytes());
                part(&build.ended_ms.to_le_bytes());
            }
        }
        RecordId(first_16(hash))
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A record as it was read from a log.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its id.
    pub id: RecordId,
    /// Where its frame starts.
    pub offset: u64,
    /// Where its frame ends.
    pub end: u64,
    /// The chain hash after it.
    pub chain: Chain,
    /// What it says; `None` where a newer hgci wrote something that this one does not know.
    pub entry: Option<Entry>,
}

/// The changeset by which an entry is looked up; records about the log itself have the null node.
pub(crate) fn node_of(entry: &Entry) -> Node {
    match entry {
        Entry::Origin(_) => Node::NULL,
        Entry::Job(job) => job.node,
        Entry::Build(build) => build.node,
    }
}

/// Whether a record of this kind says from which daemon those after it come.
pub(crate) fn is_origin(kind: (u8, u8)) -> bool {
    kind.0 == ORIGIN
}

/// The changeset of a stored record. Every payload starts with the node but that of an origin, so
/// that kinds of the future can be found by node too.
pub(crate) fn node_in(kind: u8, payload: &[u8]) -> Option<Node> {
    match kind {
        ORIGIN => Some(Node::NULL),
        _ => payload.first_chunk().map(|node| Node(*node)),
    }
}

#[derive(Serialize, Deserialize)]
struct OriginV1<'a> {
    daemon: &'a str,
    repo: &'a str,
    url: &'a str,
}

#[derive(Serialize, Deserialize)]
struct JobV1<'a> {
    node: [u8; 20],
    push: u64,
    build: u64,
    index: u32,
    name: &'a str,
    state: u8,
    attempt: u32,
    exit: Option<i32>,
    signal: Option<i32>,
    started_ms: i64,
    duration_ms: u64,
    pool: &'a str,
    host: HostV1<'a>,
    tests: Option<(u32, u32, u32)>,
    allow_failure: bool,
    why: Option<&'a str>,
}

#[derive(Serialize, Deserialize)]
enum HostV1<'a> {
    /// `POOL/` and this.
    InPool(&'a str),
    Named(&'a str),
}

#[derive(Serialize, Deserialize)]
struct BuildV1<'a> {
    node: [u8; 20],
    push: u64,
    build: u64,
    state: u8,
    ended_ms: i64,
    jobs: u32,
    message: Option<&'a str>,
}

/// A job that this build did not run.
#[derive(Serialize, Deserialize)]
struct JobV2<'a> {
    #[serde(borrow)]
    first: JobV1<'a>,
    /// The build that ran it, and the job's place there.
    from: (u64, u32),
}

/// A build that somebody asked for.
#[derive(Serialize, Deserialize)]
struct BuildV2<'a> {
    #[serde(borrow)]
    first: BuildV1<'a>,
    by: &'a str,
}

/// The numbers of the states in the log. They never change and are never used again.
const JOB_STATES: [(u8, JobState); 10] = [
    (1, JobState::Waiting),
    (2, JobState::Queued),
    (3, JobState::Running),
    (4, JobState::Passed),
    (5, JobState::Failed),
    (6, JobState::Errored),
    (7, JobState::TimedOut),
    (8, JobState::Cancelled),
    (9, JobState::Superseded),
    (10, JobState::Skipped),
];
const BUILD_STATES: [(u8, BuildState); 8] = [
    (3, BuildState::Running),
    (4, BuildState::Passed),
    (5, BuildState::Failed),
    (6, BuildState::Errored),
    (7, BuildState::TimedOut),
    (8, BuildState::Cancelled),
    (9, BuildState::Superseded),
    (10, BuildState::Skipped),
];

fn number<S: PartialEq>(states: &[(u8, S)], state: &S) -> u8 {
    // 0 is no state: a state that is missing in the table would be passed over by readers.
    states.iter().find(|(_, s)| s == state).map_or(0, |(number, _)| *number)
}

fn state<S: Copy>(states: &[(u8, S)], number: u8) -> Option<S> {
    states.iter().find(|(n, _)| *n == number).map(|(_, state)| *state)
}

/// The number of a job's state in the log and in what is made of it.
pub(crate) fn number_of_job_state(state: JobState) -> u8 {
    number(&JOB_STATES, &state)
}

/// The number of a build's state.
pub(crate) fn number_of_build_state(state: BuildState) -> u8 {
    number(&BUILD_STATES, &state)
}

/// The state of a job with this number; `None` for one of a newer hgci.
pub(crate) fn job_state(number: u8) -> Option<JobState> {
    state(&JOB_STATES, number)
}

/// The state of a build with this number.
pub(crate) fn build_state(number: u8) -> Option<BuildState> {
    state(&BUILD_STATES, number)
}

/// Kind, version and payload of an entry.
pub(crate) fn encode(entry: &Entry) -> Result<((u8, u8), Vec<u8>), postcard::Error> {
    match entry {
        Entry::Origin(origin) => {
            let (daemon, repo, url) = (
                cut(&origin.daemon, MAX_NAME),
                cut(&origin.repo, MAX_NAME),
                cut(&origin.url, MAX_NAME),
            );
            Ok(((ORIGIN, V1), postcard::to_stdvec(&OriginV1 { daemon, repo, url })?))
        }
        Entry::Job(job) => {
            let (pool, host) = (cut(&job.pool, MAX_NAME), cut(&job.host, MAX_NAME));
            let in_pool = host.strip_prefix(pool).and_then(|rest| rest.strip_prefix('/'));
            let stored = JobV1 {
                node: job.node.0,
                push: job.push.0,
                build: job.build.0,
                index: job.index,
                name: cut(&job.name, MAX_NAME),
                state: number(&JOB_STATES, &job.state),
                attempt: job.attempt,
                exit: job.exit,
                signal: job.signal,
                started_ms: job.started_ms,
                duration_ms: job.duration_ms,
                pool,
                host: in_pool.map_or(HostV1::Named(host), HostV1::InPool),
                tests: job.tests.map(|tests| (tests.passed, tests.failed, tests.skipped)),
                allow_failure: job.allow_failure,
                why: job.why.as_deref().map(|why| cut(why, MAX_TEXT)),
            };
            // Where the first version can say it all, programs that know no other can read it.
            match job.from {
                None => Ok(((JOB, V1), postcard::to_stdvec(&stored)?)),
                Some(JobKey { build, index }) => {
                    let stored = JobV2 { first: stored, from: (build.0, index) };
                    Ok(((JOB, V2), postcard::to_stdvec(&stored)?))
                }
            }
        }
        Entry::Build(build) => {
            let stored = BuildV1 {
                node: build.node.0,
                push: build.push.0,
                build: build.build.0,
                state: number(&BUILD_STATES, &build.state),
                ended_ms: build.ended_ms,
                jobs: build.jobs,
                message: build.message.as_deref().map(|message| cut(message, MAX_TEXT)),
            };
            match &build.by {
                None => Ok(((BUILD, V1), postcard::to_stdvec(&stored)?)),
                Some(by) => {
                    let stored = BuildV2 { first: stored, by: cut(by, MAX_NAME) };
                    Ok(((BUILD, V2), postcard::to_stdvec(&stored)?))
                }
            }
        }
    }
}

/// The entry of a payload. `Ok(None)` for a kind, version or state that is not known here.
pub(crate) fn decode(kind: (u8, u8), payload: &[u8]) -> Result<Option<Entry>, &'static str> {
    match kind {
        (ORIGIN, V1) => {
            let OriginV1 { daemon, repo, url } = whole(payload)?;
            let (daemon, repo, url) = (daemon.to_owned(), repo.to_owned(), url.to_owned());
            Ok(Some(Entry::Origin(Origin { daemon, repo, url })))
        }
        (JOB, V1) => Ok(job_of(whole(payload)?, None)),
        (JOB, V2) => {
            let JobV2 { first, from: (build, index) } = whole(payload)?;
            Ok(job_of(first, Some(JobKey { build: BuildId(build), index })))
        }
        (BUILD, V1) => Ok(build_of(whole(payload)?, None)),
        (BUILD, V2) => {
            let BuildV2 { first, by } = whole(payload)?;
            Ok(build_of(first, Some(by.to_owned())))
        }
        _ => Ok(None),
    }
}

fn job_of(job: JobV1<'_>, from: Option<JobKey>) -> Option<Entry> {
    let host = match job.host {
        HostV1::InPool(rest) => format!("{}/{rest}", job.pool),
        HostV1::Named(name) => name.to_owned(),
    };
    Some(Entry::Job(JobResult {
        node: Node(job.node),
        push: PushId(job.push),
        build: BuildId(job.build),
        index: job.index,
        name: job.name.to_owned(),
        state: state(&JOB_STATES, job.state)?,
        attempt: job.attempt,
        exit: job.exit,
        signal: job.signal,
        started_ms: job.started_ms,
        duration_ms: job.duration_ms,
        pool: job.pool.to_owned(),
        host,
        tests: job.tests.map(|(passed, failed, skipped)| Tests { passed, failed, skipped }),
        allow_failure: job.allow_failure,
        why: job.why.map(str::to_owned),
        from,
    }))
}

fn build_of(build: BuildV1<'_>, by: Option<String>) -> Option<Entry> {
    Some(Entry::Build(BuildResult {
        node: Node(build.node),
        push: PushId(build.push),
        build: BuildId(build.build),
        state: state(&BUILD_STATES, build.state)?,
        ended_ms: build.ended_ms,
        jobs: build.jobs,
        message: build.message.map(str::to_owned),
        by,
    }))
}

fn whole<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, &'static str> {
    match postcard::take_from_bytes(payload) {
        Ok((value, [])) => Ok(value),
        _ => Err("the payload is not what its kind and version say"),
    }
}

/// The start of `text` that has at most `max` bytes.
fn cut(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_a_number_of_its_own() {
        for s in JobState::ALL {
            assert_eq!(state(&JOB_STATES, number(&JOB_STATES, &s)), Some(s));
        }
        for s in BuildState::ALL {
            assert_eq!(state(&BUILD_STATES, number(&BUILD_STATES, &s)), Some(s));
        }
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
        assert_eq!(cut("", 0), "");
    }
}
