//! For `show.py`: the states of all changesets that the logs of a repository tell of.

use std::ffi::OsStr;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::iter;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hgci_core::{BuildState, JobState, Node};
use hgci_hooks::Repository;
use hgci_results::{Place, States};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::logs;

/// The states, as they were when this was made.
#[pyclass(name = "States", module = "hgext3rd.hgci._native")]
pub struct PyStates {
    /// Of each log, the one first that is believed first.
    logs: Vec<States>,
    #[pyo3(get)]
    notes: Vec<String>,
}

#[pymethods]
impl PyStates {
    /// Reads the logs of the repository at `root`: its own, what it received from `default`, what
    /// it received from elsewhere. Summaries lie in the folder `cache`.
    #[new]
    fn new(py: Python<'_>, root: &[u8], default: Option<&[u8]>, cache: &[u8]) -> PyStates {
        let path = |bytes| Path::new(OsStr::from_bytes(bytes));
        let default = default.map(|url| String::from_utf8_lossy(url).into_owned());
        py.detach(|| {
            let mut states = PyStates { logs: Vec::new(), notes: Vec::new() };
            let repo = match Repository::at(path(root)) {
                Ok(repo) => repo,
                Err(error) => {
                    states.notes.push(error.to_string());
                    return states;
                }
            };
            for place in logs::of(&repo, default.as_deref()) {
                match States::read(&place, &path(cache).join(logs::cache_name(&place))) {
                    Ok(found) => states.logs.extend(found),
                    Err(error) => states.notes.push(error.to_string()),
                }
            }
            states
        })
    }

    /// The state of a changeset (20 bytes), or None.
    fn of(&self, node: &[u8]) -> PyResult<Option<&'static str>> {
        let node = node.try_into().map(Node);
        let node = node.map_err(|_| PyValueError::new_err("a node has 20 bytes"))?;
        Ok(self.logs.iter().find_map(|log| log.of(&node)).map(BuildState::name))
    }

    /// The changesets in `state` (any where that is None), or those with a job of the name `job` in
    /// it. Raises ValueError with the states that there are, for one that there is not.
    #[pyo3(signature = (state, job))]
    fn select<'py>(
        &self,
        py: Python<'py>,
        state: Option<&str>,
        job: Option<&str>,
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let mut found = Vec::new();
        for (n, log) in self.logs.iter().enumerate() {
            let nodes = match job {
                None => log.select(parse(state, BuildState::ALL, BuildState::name)?),
                Some(job) => log.select_job(job, parse(state, JobState::ALL, JobState::name)?),
            };
            let before = &self.logs[..n];
            let first = |node: &Node| before.iter().all(|log| log.of(node).is_none());
            found.extend(nodes.into_iter().filter(first));
        }
        if self.logs.is_empty() {
            parse(state, JobState::ALL, JobState::name)?;
        }
        Ok(found.iter().map(|node| PyBytes::new(py, &node.0)).collect())
    }
}

/// A number that is another one when anything was added to the logs of the repository at `root`; 0
/// where there is no log.
#[pyfunction]
pub fn stamp(root: &[u8]) -> u64 {
    let Ok(repo) = Repository::at(Path::new(OsStr::from_bytes(root))) else { return 0 };
    let mut hash = DefaultHasher::new();
    let mut found = false;
    for place in iter::once(Place::new(repo.hg())).chain(Place::all_received(repo.hg())) {
        let path = place.log();
        if let Ok(file) = fs::metadata(&path) {
            found = true;
            path.hash(&mut hash);
            (file.ino(), file.len(), file.mtime(), file.mtime_nsec()).hash(&mut hash);
        }
    }
    if found { hash.finish() } else { 0 }
}

fn parse<S: Copy, const N: usize>(
    name: Option<&str>,
    all: [S; N],
    named: impl Fn(S) -> &'static str,
) -> PyResult<Option<S>> {
    let Some(name) = name else { return Ok(None) };
    match all.iter().find(|state| named(**state) == name) {
        Some(state) => Ok(Some(*state)),
        None => {
            let names: Vec<&str> = all.iter().map(|state| named(*state)).collect();
            Err(PyValueError::new_err(names.join(", ")))
        }
    }
}
