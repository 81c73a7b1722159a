//! Phases: where the drafts and the secrets begin.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use hgci_core::Node;
use hgci_core::push::Phase;

use crate::error::{Error, Result};
use crate::graph::{Graph, Rev};
use crate::open;

/// A file of phase roots has at most this many bytes; one root is 43.
const MAX_ROOTS: u64 = 64 << 20;

/// The changesets from which on a phase holds, with Mercurial's number of that phase: 1 draft,
/// 2 secret, 32 archived, 96 internal. Descendants have at least it.
pub type PhaseRoots = BTreeMap<Node, u8>;

/// From here on a phase is never exchanged, nor shown.
const ARCHIVED: u8 = 32;

/// Reads the file of phase roots. Where it is missing, everything is public.
pub(crate) fn read(repo: &Path, store: &Path) -> Result<PhaseRoots> {
    let file = store.join("phaseroots");
    let Some(text) = open::small(repo, &file, MAX_ROOTS)? else { return Ok(PhaseRoots::new()) };
    let mut roots = PhaseRoots::new();
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let parsed = std::str::from_utf8(line).ok().and_then(|line| {
            let (number, node) = line.split_once(' ')?;
            Some((number.parse::<u8>().ok()?, node.parse::<Node>().ok()?))
        });
        let Some((phase, node)) = parsed else {
            let why = format!("not a phase root: {:?}", String::from_utf8_lossy(line));
            return Err(Error::Corrupt { path: file, why });
        };
        let highest = roots.entry(node).or_insert(phase);
        *highest = phase.max(*highest);
    }
    Ok(roots)
}

/// The phase of every changeset.
pub(crate) struct Phases {
    /// Everything below is public.
    from: u32,
    phases: Vec<u8>,
}

impl Phases {
    /// Spreads the roots over the graph, in one pass from the oldest root on. Unknown roots count
    /// for nothing.
    pub(crate) fn new(graph: &Graph, roots: &PhaseRoots) -> Result<Self> {
        let revs = graph.revs(&roots.keys().copied().collect());
        let roots: HashMap<Rev, u8> =
            roots.iter().filter_map(|(node, phase)| Some((*revs.get(node)?, *phase))).collect();
        let Some(from) = roots.keys().min().map(|rev| rev.0) else {
            return Ok(Phases { from: graph.len(), phases: Vec::new() });
        };
        let mut phases = Phases { from, phases: Vec::with_capacity((graph.len() - from) as usize) };
        for rev in from..graph.len() {
            let mut phase = roots.get(&Rev(rev)).copied().unwrap_or(0);
            for parent in graph.parents(Rev(rev))?.into_iter().flatten() {
                phase = phase.max(phases.number(parent));
            }
            phases.phases.push(phase);
        }
        Ok(phases)
    }

    /// The oldest changeset that is not public; the number of changesets where all are.
    pub(crate) fn first(&self) -> u32 {
        self.from
    }

    pub(crate) fn get(&self, rev: Rev) -> Phase {
        match self.number(rev) {
            0 => Phase::Public,
            1 => Phase::Draft,
            _ => Phase::Secret,
        }
    }

    pub(crate) fn is_mutable(&self, rev: Rev) -> bool {
        self.number(rev) > 0
    }

    pub(crate) fn is_internal(&self, rev: Rev) -> bool {
        self.number(rev) >= ARCHIVED
    }

    fn number(&self, rev: Rev) -> u8 {
        let at = rev.0.checked_sub(self.from);
        at.and_then(|at| self.phases.get(at as usize)).copied().unwrap_or(0)
    }
}
