//! For `status.py` and `wire.py`: what is known of changesets, from the results log of a repository
//! on disk and from its daemon.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use hgci_api::client::{self, Client, Patience};
use hgci_api::read::{self, JobStatus, NodeStatus};
use hgci_api::wire::{Daemon, MAX_STATUSES, Statuses};
use hgci_core::Node;
use hgci_hooks::Repository;
use hgci_results::{Place, Reader};

use crate::logs;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// How long a daemon on this machine may take to say what is queued and running.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most changesets in one call of the daemon: small enough for the line of a request.
const MAX_WATCHED: usize = 100;

/// The most notes about damage that are shown.
const MAX_NOTES: usize = 10;

/// States of changesets, and how they came to be known.
#[pyclass(name = "Statuses", module = "hgext3rd.hgci._native")]
pub struct PyStatuses(Statuses);

#[pymethods]
impl PyStatuses {
    /// Reads the results log of the repository at `root` for `nodes` (20 bytes each), and asks the
    /// daemon if `ask` and one serves it. `socket` is what is configured, if anything. `default` is
    /// the source whose results count before those that were received from elsewhere. A daemon that
    /// knows nothing but what had the tag `seen` answers after `wait` milliseconds; both are for at
    /// most [`MAX_WATCHED`] nodes.
    #[staticmethod]
    #[pyo3(signature = (root, socket, nodes, ask, default, seen = "", wait = 0))]
    #[allow(clippy::too_many_arguments)]
    fn read(
        py: Python<'_>,
        root: &[u8],
        socket: Option<&[u8]>,
        nodes: Vec<Vec<u8>>,
        ask: bool,
        default: Option<&[u8]>,
        seen: &str,
        wait: u64,
    ) -> PyResult<PyStatuses> {
        let default = default.map(|url| String::from_utf8_lossy(url).into_owned());
        let nodes = parse(&nodes)?;
        let socket = socket.map(|socket| String::from_utf8_lossy(socket).into_owned());
        Ok(PyStatuses(py.detach(|| {
            let repo = match Repository::at(Path::new(OsStr::from_bytes(root))) {
                Ok(repo) => repo,
                Err(error) => return noted(error.to_string()),
            };
            let mut statuses = from_logs(&repo, default.as_deref(), &nodes);
            if ask {
                statuses.merge(from_daemon(&repo, socket, &nodes, seen, wait));
            }
            statuses.done = nodes.len();
            statuses
        })))
    }

    /// Reads what [`PyStatuses::encode`] wrote, on another machine.
    #[staticmethod]
    fn decode(answer: &[u8]) -> PyResult<PyStatuses> {
        let statuses = serde_json::from_slice(answer);
        statuses.map(PyStatuses).map_err(|e| PyValueError::new_err(e.to_string()))
    }

    /// As JSON. Large answers are cut: `done` says how many of `nodes` they are about.
    fn encode(&self, nodes: Vec<Vec<u8>>) -> PyResult<Vec<u8>> {
        let nodes = parse(&nodes)?;
        let mut cut = Statuses { builds: Vec::new(), ..self.0.clone() };
        let mut len = 0;
        for (n, node) in nodes.iter().enumerate() {
            cut.done = n + 1;
            if let Some(build) = self.0.builds.iter().find(|build| build.node == *node) {
                len += serde_json::to_vec(build).map_or(0, |json| json.len());
                cut.builds.push(build.clone());
            }
            if len > MAX_STATUSES {
                break;
            }
        }
        serde_json::to_vec(&cut).map_err(|e| PyValueError::new_err(e.to_string()))
    }

    /// Adds what another one says.
    fn merge(&mut self, other: &PyStatuses) {
        self.0.merge(other.0.clone());
    }

    /// Of what the daemon said: the same as long as nothing but time has changed.
    #[getter]
    fn tag(&self) -> &str {
        &self.0.tag
    }

    /// Whether all of `nodes` have a build that has ended, or none and none is to come.
    fn over_for(&self, nodes: Vec<Vec<u8>>) -> PyResult<bool> {
        let over = |node| match self.0.builds.iter().find(|build| build.node == node) {
            Some(build) => build.state.is_final(),
            None => !self.0.planning,
        };
        Ok(parse(&nodes)?.into_iter().all(over))
    }

    /// How many of the changesets that were asked for this is about.
    #[getter]
    fn done(&self) -> usize {
        self.0.done
    }

    /// True: the daemon answered. False: it did not. None: none was asked.
    #[getter]
    fn live(&self) -> Option<bool> {
        match self.0.daemon {
            Daemon::None => None,
            Daemon::Answered => Some(true),
            Daemon::Silent(_) => Some(false),
        }
    }

    /// Why the daemon did not answer.
    #[getter]
    fn why(&self) -> Option<&str> {
        match &self.0.daemon {
            Daemon::Silent(why) => Some(why),
            _ => None,
        }
    }

    /// What is wrong with the log, for people.
    #[getter]
    fn notes(&self) -> &[String] {
        &self.0.notes
    }

    /// Whether all of `nodes` have a build that has ended.
    fn final_for(&self, nodes: Vec<Vec<u8>>) -> PyResult<bool> {
        let ended = |node| self.0.builds.iter().any(|b| b.node == node && b.state.is_final());
        Ok(parse(&nodes)?.into_iter().all(ended))
    }

    /// The build of a changeset as a dictionary, in the form of `hg ci-status -T json`, or None.
    fn build<'py>(&self, py: Python<'py>, node: &[u8]) -> PyResult<Option<Bound<'py, PyDict>>> {
        let build = self.0.builds.iter().find(|build| build.node.0 == node);
        build.map(|build| build_dict(py, build)).transpose()
    }
}

fn build_dict<'py>(py: Python<'py>, build: &NodeStatus) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("node", build.node.to_string())?;
    dict.set_item("state", build.state.name())?;
    dict.set_item("build", build.build)?;
    dict.set_item("push", build.push)?;
    dict.set_item("source", &build.source)?;
    dict.set_item("message", build.message.as_ref())?;
    dict.set_item("url", &build.url)?;
    let jobs: Vec<_> = build.jobs.iter().map(|job| job_dict(py, job)).collect::<PyResult<_>>()?;
    dict.set_item("jobs", jobs)?;
    dict.set_item("exit_status", build.state.exit_status())?;
    Ok(dict)
}

fn job_dict<'py>(py: Python<'py>, job: &JobStatus) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("name", &job.name)?;
    dict.set_item("state", job.state.name())?;
    dict.set_item("attempt", job.attempt)?;
    dict.set_item("exit", job.exit)?;
    dict.set_item("signal", job.signal)?;
    dict.set_item("duration", job.duration)?;
    dict.set_item("started", job.started)?;
    dict.set_item("pool", job.pool.as_ref())?;
    dict.set_item("host", job.host.as_ref())?;
    dict.set_item("tests", job.tests.map(|tests| (tests.passed, tests.failed, tests.skipped)))?;
    dict.set_item("allow-failure", job.allow_failure)?;
    dict.set_item("why", job.why.as_ref())?;
    dict.set_item("url", job.url.as_ref())?;
    Ok(dict)
}

/// What the logs have; of a changeset, what the first log has that tells of it.
fn from_logs(repo: &Repository, default: Option<&str>, nodes: &[Node]) -> Statuses {
    let mut statuses = Statuses::default();
    let mut left = nodes.to_vec();
    for place in logs::of(repo, default) {
        let found = from_log(&place, &left);
        left.retain(|node| found.builds.iter().all(|build| build.node != *node));
        statuses.merge(found);
    }
    statuses
}

fn from_log(place: &Place, nodes: &[Node]) -> Statuses {
    let reader = match Reader::open(place) {
        Ok(Some(reader)) => reader,
        Ok(None) => return Statuses::default(),
        Err(error) => return noted(error.to_string()),
    };
    let mut statuses = Statuses::default();
    let mut damage = BTreeMap::new();
    for node in nodes {
        match reader.newest(node) {
            Ok(newest) => {
                let url = &newest.origin.url;
                statuses.builds.extend(NodeStatus::from_log(&newest.entries, url));
                // Each lookup says the same again of what it came by.
                damage.extend(newest.damage.into_iter().map(|place| (place.offset, place)));
            }
            Err(error) => {
                statuses.notes.push(error.to_string());
                break;
            }
        }
    }
    let log = place.log();
    let notes = damage.values().map(|place| format!("{}: {place}", log.display()));
    statuses.notes.extend(notes.take(MAX_NOTES));
    statuses
}

fn noted(note: String) -> Statuses {
    Statuses { notes: vec![note], ..Statuses::default() }
}

fn from_daemon(
    repo: &Repository,
    socket: Option<String>,
    nodes: &[Node],
    seen: &str,
    wait: u64,
) -> Statuses {
    let mut statuses = Statuses::default();
    let Some(client) = client_of(repo, socket) else { return statuses };
    let client = match client {
        Ok(client) => client,
        Err(why) => return Statuses { daemon: Daemon::Silent(why), ..statuses },
    };
    statuses.daemon = Daemon::Answered;
    for nodes in nodes.chunks(MAX_WATCHED) {
        let mut path = format!("{}?repo={}", read::STATUS, hgci_api::query(repo.root()));
        for node in nodes {
            path.push_str(&format!("&node={node}"));
        }
        if wait > 0 {
            path.push_str(&format!("&wait={wait}&seen={}", hgci_api::query(seen)));
        }
        match look(&client, &path, PATIENCE.saturating_add(Duration::from_millis(wait))) {
            Ok((builds, tag, planning)) => {
                statuses.builds.extend(builds);
                (statuses.tag, statuses.planning) = (tag, planning);
            }
            Err(client::Error::Refused { status: 404, .. }) => {
                statuses.daemon = Daemon::None;
                break;
            }
            Err(error) => {
                statuses.daemon = Daemon::Silent(error.to_string());
                break;
            }
        }
    }
    statuses
}

/// One answer of the daemon, with its tag, and whether pushes wait for their plan.
fn look(
    client: &Client,
    path: &str,
    patience: Duration,
) -> Result<(Vec<NodeStatus>, String, bool), client::Error> {
    let answer = client.download(path, Patience::Total(patience))?;
    let header = |name| answer.header(name).unwrap_or_default().to_owned();
    let (tag, planning) = (header(read::STATUS_TAG), header(read::STATUS_PLANNING) == "1");
    Ok((client.read_json(answer)?, tag, planning))
}

/// The daemon that serves a repository: one counts only where the repository's own hgrc names it
/// or it has left its mark, so that a setting for a whole machine sends no clone's owner to it.
pub(crate) fn client_of(
    repo: &Repository,
    socket: Option<String>,
) -> Option<Result<Client, String>> {
    let (own, adoption) = (repo.own_socket(), repo.adoption());
    if own.is_none() && adoption.is_none() {
        return None;
    }
    let socket = socket.or(own).or_else(|| adoption.map(|mark| mark.socket))?;
    Some(Client::connect(&socket).map_err(|error| error.to_string()))
}

fn parse(nodes: &[Vec<u8>]) -> PyResult<Vec<Node>> {
    let node = |bytes: &Vec<u8>| {
        let bytes = bytes.as_slice().try_into();
        bytes.map(Node).map_err(|_| PyValueError::new_err("a node has 20 bytes"))
    };
    nodes.iter().map(node).collect()
}
