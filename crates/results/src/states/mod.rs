//! The state of every changeset at once, for what asks for many: `hg log`, revsets, web pages.
//!
//! What is known of a changeset follows from its records alone ([`Reader::newest`]), but reading
//! them takes a lookup and a read each. So a summary of the log is kept in a file of Mercurial's
//! cache folder, made when it is missing or far behind; what the log has beyond it is read from the
//! log. The file may be deleted at any time, and whoever cannot write it does without.

mod fold;
mod summary;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use hgci_core::{BuildState, JobState, Node};

use crate::error::Error;
use crate::header::Mark;
use crate::place::Place;
use crate::reader::Reader;
use crate::record::node_in;
use crate::scan::Scan;

use fold::Fold;
use summary::Summary;

/// A summary that is behind by more bytes of the log than this is made anew.
const FAR_BEHIND: u64 = 1 << 20;

/// What is known of a changeset, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub state: BuildState,
    /// Names and states of the jobs, in the order of the plan.
    pub jobs: Vec<(String, JobState)>,
}

/// The states of all changesets of which a log tells.
pub struct States {
    summary: Option<Summary>,
    /// What the log says beyond the summary.
    newer: HashMap<Node, Known>,
}

impl States {
    /// Reads the states from the log at `place`, `None` where there is none, by the summary in the
    /// file `cache` if that is of this log. A summary that is missing or far behind is written
    /// there, where that can be done.
    pub fn read(place: &Place, cache: &Path) -> Result<Option<States>, Error> {
        let Some(reader) = Reader::open(place)? else { return Ok(None) };
        let end = reader.end();
        let summary = Summary::read(cache, &reader);
        let behind = end.offset - summary.as_ref().map_or(0, |summary| summary.mark.offset);
        if behind <= FAR_BEHIND
            && let Some(summary) = summary
        {
            let newer = newer(&reader, summary.mark)?;
            return Ok(Some(States { summary: Some(summary), newer }));
        }
        let all = Fold::of(&reader)?.finish();
        if behind > FAR_BEHIND {
            let summary = Summary::make(end, all);
            summary.write(cache);
            return Ok(Some(States { summary: Some(summary), newer: HashMap::new() }));
        }
        Ok(Some(States { summary: None, newer: all.into_iter().collect() }))
    }

    /// The state of a changeset; `None` where the log does not tell of it.
    pub fn of(&self, node: &Node) -> Option<BuildState> {
        match self.newer.get(node) {
            Some(known) => Some(known.state),
            None => self.summary.as_ref()?.state(node),
        }
    }

    /// The changesets in `state`, or in any; each once, in no order.
    pub fn select(&self, state: Option<BuildState>) -> Vec<Node> {
        let wanted = |found| state.is_none_or(|state| state == found);
        let newer = self.newer.iter().filter(|(_, known)| wanted(known.state));
        let mut nodes: Vec<Node> = newer.map(|(node, _)| *node).collect();
        if let Some(summary) = &self.summary {
            let older = summary.nodes().filter(|(_, state)| wanted(*state)).map(|(node, _)| node);
            nodes.extend(older.filter(|node| !self.newer.contains_key(node)));
        }
        nodes
    }

    /// The changesets with a job of that name in `state`, or in any.
    pub fn select_job(&self, job: &str, state: Option<JobState>) -> Vec<Node> {
        let wanted = |found| state.is_none_or(|state| state == found);
        let has = |known: &Known| known.jobs.iter().any(|(name, s)| name == job && wanted(*s));
        let newer = self.newer.iter().filter(|(_, known)| has(known));
        let mut nodes: Vec<Node> = newer.map(|(node, _)| *node).collect();
        if let Some(summary) = &self.summary {
            let older = summary.with_job(job, wanted);
            nodes.extend(older.into_iter().filter(|node| !self.newer.contains_key(node)));
        }
        nodes
    }
}

/// What is known of the changesets that the log speaks of behind `mark`.
fn newer(reader: &Reader, mark: Mark) -> Result<HashMap<Node, Known>, Error> {
    let mut nodes = HashSet::new();
    let mut scan = Scan::new(&reader.file, &reader.path, mark.offset, reader.end().offset);
    while let Some(piece) = scan.next()? {
        nodes.extend(piece.frame.ok().and_then(|frame| node_in(frame.kind, frame.payload)));
    }
    let mut newer = HashMap::with_capacity(nodes.len());
    for node in nodes {
        if let Some(known) = fold::of_entries(&reader.newest(&node)?.entries) {
            newer.insert(node, known);
        }
    }
    Ok(newer)
}
