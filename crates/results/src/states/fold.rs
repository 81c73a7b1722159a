//! From the records of a log to what is known of each changeset: of the records of the daemon that
//! spoke last, those of its newest build; of each job there the newest attempt.

use std::collections::{BTreeMap, HashMap};

use hgci_core::result::{Entry, JobResult};
use hgci_core::{BuildState, JobState, Node};

use crate::error::Error;
use crate::reader::Reader;
use crate::record::decode;
use crate::scan::Scan;

use super::Known;

/// A log that was read so far.
#[derive(Default)]
pub(super) struct Fold {
    names: Names,
    /// The daemon that speaks.
    daemon: u32,
    daemons: HashMap<String, u32>,
    nodes: HashMap<Node, Vec<OfDaemon>>,
}

/// Each name once: there are few, and many jobs.
#[derive(Default)]
struct Names {
    numbers: HashMap<String, u32>,
    names: Vec<String>,
}

/// What one daemon said of a changeset. The one that spoke last is last.
struct OfDaemon {
    daemon: u32,
    build: Build,
}

/// The newest build.
struct Build {
    id: u64,
    end: Option<BuildState>,
    /// By place in the plan: attempt, name, state.
    jobs: BTreeMap<u32, (u32, u32, JobState)>,
}

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.names.len() as u32;
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        number
    }
}

impl Build {
    fn new(id: u64) -> Build {
        Build { id, end: None, jobs: BTreeMap::new() }
    }

    /// The same, or the one with this number if that is newer; `None` for what is out of date.
    fn at(&mut self, id: u64) -> Option<&mut Build> {
        if id > self.id {
            *self = Build::new(id);
        }
        (id == self.id).then_some(self)
    }

    fn job(&mut self, job: &JobResult, names: &mut Names) {
        let newest = (job.attempt, names.number(&job.name), job.state);
        let known = self.jobs.entry(job.index).or_insert(newest);
        if job.attempt >= known.0 {
            *known = newest;
        }
        // A job that ends after its build was tried again: the build will end again.
        self.end = None;
    }

    fn known(self, names: &Names) -> Known {
        let name = |number: u32| names.names.get(number as usize).cloned().unwrap_or_default();
        Known {
            state: self.end.unwrap_or(BuildState::Running),
            jobs: self.jobs.into_values().map(|(_, number, state)| (name(number), state)).collect(),
        }
    }
}

impl Fold {
    /// Reads a whole log.
    pub fn of(reader: &Reader) -> Result<Fold, Error> {
        let mut fold = Fold::default();
        let mut scan = Scan::from_start(&reader.file, &reader.path, reader.end().offset);
        while let Some(piece) = scan.next()? {
            let Ok(frame) = &piece.frame else { continue };
            // What is not understood says nothing about states.
            if let Ok(Some(entry)) = decode((frame.kind, frame.version), frame.payload) {
                fold.add(&entry);
            }
        }
        Ok(fold)
    }

    fn add(&mut self, entry: &Entry) {
        let (node, id) = match entry {
            Entry::Origin(origin) => {
                let next = self.daemons.len() as u32 + 1;
                self.daemon = *self.daemons.entry(origin.daemon.clone()).or_insert(next);
                return;
            }
            Entry::Job(job) => (job.node, job.build.0),
            Entry::Build(build) => (build.node, build.build.0),
        };
        let said = self.nodes.entry(node).or_default();
        match said.iter().position(|of| of.daemon == self.daemon) {
            Some(at) => {
                let last = said.len() - 1;
                said.swap(at, last);
            }
            None => said.push(OfDaemon { daemon: self.daemon, build: Build::new(id) }),
        }
        let build = said.last_mut().and_then(|of| of.build.at(id));
        match (build, entry) {
            (Some(build), Entry::Job(job)) => build.job(job, &mut self.names),
            (Some(build), Entry::Build(end)) => build.end = Some(end.state),
            _ => {}
        }
    }

    /// What is known of each changeset, by node.
    pub fn finish(self) -> BTreeMap<Node, Known> {
        let Fold { names, nodes, .. } = self;
        let newest = nodes.into_iter().filter_map(|(node, mut said)| Some((node, said.pop()?)));
        newest.map(|(node, of)| (node, of.build.known(&names))).collect()
    }
}

/// What the records of one changeset say, all of them of one daemon.
pub(super) fn of_entries(entries: &[Entry]) -> Option<Known> {
    let mut fold = Fold::default();
    entries.iter().for_each(|entry| fold.add(entry));
    fold.finish().into_values().next()
}
