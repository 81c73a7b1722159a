//! The file in which the states of a log are kept.
//!
//! Numbers are little endian.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `hgci sts` |
//! | 4 | version: 1 |
//! | 4 | CRC-32C of all that follows |
//! | 16, 8, 16 | the log's id; up to where it is summed up; the chain hash there |
//! | 4, 4 | number of changesets, number of jobs |
//! | 28 each | changesets, ascending: node (20), number of the first job (4), state (4) |
//! | 4 each | jobs, by changeset: state (lowest 8 bits) and number of the name |
//! | rest | names of jobs, each preceded by its length in 4 bytes |

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write;
use std::path::Path;

use hgci_core::{BuildState, JobState, Node};

use crate::frame::Chain;
use crate::header::{LogId, Mark, array};
use crate::reader::Reader;
use crate::record::{build_state, job_state, number_of_build_state, number_of_job_state};

use super::Known;

const MAGIC: &[u8; 8] = b"hgci sts";
const VERSION: u32 = 1;
const CHECKED_FROM: usize = 16;
const HEADER: usize = 64;
const NODE: usize = 28;
const JOB: usize = 4;

/// The most bytes that are read of such a file.
const MAX_SIZE: u64 = 1 << 30;

/// States as they are in the file.
pub(super) struct Summary {
    /// Up to where the log is summed up.
    pub mark: Mark,
    bytes: Vec<u8>,
    nodes: usize,
    names: Vec<String>,
    /// Where the jobs begin in `bytes`.
    jobs_at: usize,
    jobs: usize,
}

impl Summary {
    /// Reads the file; `None` where there is none, or not one of what `reader` reads.
    pub fn read(path: &Path, reader: &Reader) -> Option<Summary> {
        if fs::metadata(path).ok().is_none_or(|file| !file.is_file() || file.len() > MAX_SIZE) {
            return None;
        }
        let summary = Summary::parse(fs::read(path).ok()?)?;
        reader.since(&summary.mark).is_ok().then_some(summary)
    }

    fn parse(bytes: Vec<u8>) -> Option<Summary> {
        let whole = bytes.len() >= HEADER && bytes.starts_with(MAGIC);
        if !whole || number(&bytes, 8) != VERSION {
            return None;
        }
        if number(&bytes, 12) != crc32c::crc32c(&bytes[CHECKED_FROM..]) {
            return None;
        }
        let log = LogId(array(&bytes[16..32]));
        let offset = u64::from_le_bytes(array(&bytes[32..40]));
        let mark = Mark { log, offset, chain: Chain(array(&bytes[40..56])) };
        let (nodes, jobs) = (number(&bytes, 56) as usize, number(&bytes, 60) as usize);
        let jobs_at = HEADER + nodes.checked_mul(NODE)?;
        let mut rest = bytes.get(jobs_at.checked_add(jobs.checked_mul(JOB)?)?..)?;
        let mut names = Vec::new();
        while let Some((len, after)) = rest.split_at_checked(4) {
            let (name, after) = after.split_at_checked(number(len, 0) as usize)?;
            names.push(String::from_utf8(name.to_vec()).ok()?);
            rest = after;
        }
        Some(Summary { mark, nodes, names, jobs_at, jobs, bytes })
    }

    /// Sums up what is known up to `mark`.
    pub fn make(mark: Mark, known: BTreeMap<Node, Known>) -> Summary {
        let mut names: Vec<String> = Vec::new();
        let mut numbers: HashMap<String, u32> = HashMap::new();
        let (mut nodes, mut jobs) = (Vec::with_capacity(known.len() * NODE), Vec::new());
        for (node, known) in &known {
            nodes.extend(node.0);
            nodes.extend(((jobs.len() / JOB) as u32).to_le_bytes());
            nodes.extend(u32::from(number_of_build_state(known.state)).to_le_bytes());
            for (name, state) in &known.jobs {
                let number = *numbers.entry(name.clone()).or_insert_with(|| {
                    names.push(name.clone());
                    names.len() as u32 - 1
                });
                let state = u32::from(number_of_job_state(*state));
                jobs.extend((number << 8 | state).to_le_bytes());
            }
        }
        let mut bytes = Vec::with_capacity(HEADER + nodes.len() + jobs.len());
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(mark.log.0);
        bytes.extend(mark.offset.to_le_bytes());
        bytes.extend(mark.chain.0);
        bytes.extend((known.len() as u32).to_le_bytes());
        bytes.extend(((jobs.len() / JOB) as u32).to_le_bytes());
        bytes.append(&mut nodes);
        let (jobs_at, count) = (bytes.len(), jobs.len() / JOB);
        bytes.append(&mut jobs);
        for name in &names {
            bytes.extend((name.len() as u32).to_le_bytes());
            bytes.extend(name.as_bytes());
        }
        let crc = crc32c::crc32c(&bytes[CHECKED_FROM..]).to_le_bytes();
        bytes[12..16].copy_from_slice(&crc);
        Summary { mark, nodes: known.len(), names, jobs_at, jobs: count, bytes }
    }

    /// Writes the file, as well as that goes: whoever finds none makes one.
    pub fn write(&self, path: &Path) {
        let Some(folder) = path.parent() else { return };
        let new = path.with_extension(format!("{}.new", std::process::id()));
        let written = fs::create_dir_all(folder)
            .and_then(|()| fs::File::create_new(&new))
            .and_then(|mut file| file.write_all(&self.bytes))
            .and_then(|()| fs::rename(&new, path));
        if written.is_err() {
            // Of another process with this number, or with half of it on a full disk.
            let _ = fs::remove_file(&new);
        }
    }

    fn node(&self, n: usize) -> Node {
        let at = HEADER + n * NODE;
        Node(array(&self.bytes[at..at + 20]))
    }

    fn state_at(&self, n: usize) -> Option<BuildState> {
        build_state(number(&self.bytes, HEADER + n * NODE + 24) as u8)
    }

    /// The state of a changeset.
    pub fn state(&self, node: &Node) -> Option<BuildState> {
        let (mut low, mut high) = (0, self.nodes);
        while low < high {
            let middle = (low + high) / 2;
            if self.node(middle) < *node { low = middle + 1 } else { high = middle }
        }
        (low < self.nodes && self.node(low) == *node).then(|| self.state_at(low)).flatten()
    }

    /// All changesets with their states.
    pub fn nodes(&self) -> impl Iterator<Item = (Node, BuildState)> + '_ {
        (0..self.nodes).filter_map(|n| Some((self.node(n), self.state_at(n)?)))
    }

    /// The changesets that have a job of this name in a state that is wanted.
    pub fn with_job(&self, job: &str, wanted: impl Fn(JobState) -> bool) -> Vec<Node> {
        let Some(name) = self.names.iter().position(|name| name == job) else { return Vec::new() };
        let first = |n: usize| match n < self.nodes {
            true => (number(&self.bytes, HEADER + n * NODE + 20) as usize).min(self.jobs),
            false => self.jobs,
        };
        let has = |n: &usize| {
            (first(*n)..first(n + 1)).any(|at| {
                let job = number(&self.bytes, self.jobs_at + at * JOB);
                (job >> 8) as usize == name && job_state(job as u8).is_some_and(&wanted)
            })
        };
        (0..self.nodes).filter(has).map(|n| self.node(n)).collect()
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(&bytes[at..at + 4]))
}
