//! Made-up results and a place to keep them, for all tests of the log.
#![allow(dead_code, clippy::unwrap_used)]

use hgci_core::result::{BuildResult, Entry, JobResult, Origin, Tests};
use hgci_core::{BuildId, BuildState, JobState, Node, PushId};
use hgci_results::{Place, Reader, Record, Writer};

/// A repository's `.hg` with a store, in a folder that goes away.
pub struct Repository {
    pub folder: tempfile::TempDir,
    pub place: Place,
}

impl Repository {
    pub fn new() -> Repository {
        Repository::on(tempfile::tempdir().unwrap())
    }

    pub fn on(folder: tempfile::TempDir) -> Repository {
        std::fs::create_dir_all(folder.path().join("store")).unwrap();
        let place = Place::new(folder.path());
        Repository { folder, place }
    }
}

pub fn origin() -> Origin {
    Origin {
        daemon: "0123456789abcdef0123456789abcdef".into(),
        repo: "widgets".into(),
        url: "https://ci.example.org/".into(),
    }
}

/// A node that looks like SHA-1: another one for each number, evenly spread.
pub fn node(n: u64) -> Node {
    let mut node = [0; 20];
    let mut x = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    for chunk in node.chunks_mut(8) {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
        let len = chunk.len();
        chunk.copy_from_slice(&x.to_le_bytes()[..len]);
        x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    }
    Node(node)
}

/// The `index`-th job of the build of node `n`, like those of a small project.
pub fn job(n: u64, index: u32) -> Entry {
    const NAMES: [&str; 5] = ["build", "lint", "test:3.9", "test:3.13", "docs"];
    let failed = (n * 7 + u64::from(index)).is_multiple_of(11);
    Entry::Job(JobResult {
        node: node(n),
        push: PushId(n / 3 + 1),
        build: BuildId(n + 1),
        index,
        name: NAMES[index as usize % NAMES.len()].into(),
        state: if failed { JobState::Failed } else { JobState::Passed },
        attempt: 1,
        exit: Some(if failed { 2 } else { 0 }),
        signal: None,
        started_ms: 1_763_650_000_500 + n as i64 * 1000,
        duration_ms: 3210 + n % 1000,
        pool: "here".into(),
        host: format!("here/{}", n % 8),
        tests: (index > 1).then_some(Tests {
            passed: 4000,
            failed: u32::from(failed),
            skipped: 12,
        }),
        allow_failure: false,
        why: None,
        from: None,
    })
}

pub fn build(n: u64, jobs: u32) -> Entry {
    Entry::Build(BuildResult {
        node: node(n),
        push: PushId(n / 3 + 1),
        build: BuildId(n + 1),
        state: BuildState::Passed,
        ended_ms: 1_763_650_009_500 + n as i64 * 1000,
        jobs,
        message: None,
        by: None,
    })
}

/// Entry `i` of an endless stream: four jobs and the build, for one node after the other.
pub fn stream(i: u64) -> Entry {
    match (i / 5, (i % 5) as u32) {
        (n, 4) => build(n, 4),
        (n, index) => job(n, index),
    }
}

pub fn open(repository: &Repository) -> Writer {
    Writer::open(&repository.place, &origin()).unwrap()
}

pub fn reader(repository: &Repository) -> Reader {
    Reader::open(&repository.place).unwrap().unwrap()
}

pub fn entries(records: &[Record]) -> Vec<Entry> {
    records.iter().filter_map(|record| record.entry.clone()).collect()
}

/// Every entry of a log without damage.
pub fn all(reader: &Reader) -> Vec<Entry> {
    reader.records().map(|record| record.unwrap().unwrap().entry.unwrap()).collect()
}
