//! For `ask.py` and `wire.py`: runs, retries and cancels.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use hgci_api::ask::{self, Ask, Asked};
use hgci_api::wire::Answered;
use hgci_api::{PROTOCOL, client};
use hgci_hooks::Repository;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::status::client_of;

/// How long the daemon may take: it reads the changeset first.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks the daemon that serves the repository at `root` for `what` (`run`, `retry`, `cancel`), as
/// whoever `url` says where the daemon believes that. The answer is as the wire has it; None where
/// no daemon is known.
#[pyfunction]
#[pyo3(signature = (root, socket, what, node, jobs, id, url))]
#[allow(clippy::too_many_arguments)]
pub fn request<'py>(
    py: Python<'py>,
    root: &[u8],
    socket: Option<&[u8]>,
    what: &str,
    node: &str,
    jobs: Vec<String>,
    id: &str,
    url: &[u8],
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let path = match what {
        "run" => ask::RUN,
        "retry" => ask::RETRY,
        "cancel" => ask::CANCEL,
        _ => return Err(PyValueError::new_err("no such request")),
    };
    let node = node.parse().map_err(|_| PyValueError::new_err("not a node"))?;
    let socket = socket.map(|socket| String::from_utf8_lossy(socket).into_owned());
    let url = String::from_utf8_lossy(url).into_owned();
    let answer = py.detach(|| {
        let repo = Repository::at(Path::new(OsStr::from_bytes(root))).ok()?;
        let client = client_of(&repo, socket)?;
        let repo = repo.root().to_owned();
        let ask = Ask { v: PROTOCOL, id: id.to_owned(), repo, node, jobs, url };
        let answered = match client {
            Ok(client) => {
                let patience = client::Patience::Total(PATIENCE);
                client.post::<_, Asked>(path, &ask, patience).map_or_else(not_done, Answered::done)
            }
            Err(why) => Answered::refused(why),
        };
        serde_json::to_vec(&answered).ok()
    });
    Ok(answer.map(|answer| PyBytes::new(py, &answer)))
}

/// Why it was not done, and whether the same may be asked for again.
fn not_done(error: client::Error) -> Answered {
    match error {
        client::Error::Refused { error, status, .. } => {
            Answered { again: matches!(status, 429 | 503), ..Answered::refused(error) }
        }
        // It may have been done all the same: who asks again with the same id finds out.
        other => Answered { again: true, ..Answered::refused(other.to_string()) },
    }
}

/// What became of a request, as the wire has it.
#[pyclass(name = "Answered", module = "hgext3rd.hgci._native")]
pub struct PyAnswered(Answered);

#[pymethods]
impl PyAnswered {
    /// Reads an answer of the wire. Raises ValueError where it is none.
    #[staticmethod]
    fn decode(answer: &[u8]) -> PyResult<PyAnswered> {
        let answered = serde_json::from_slice(answer)
            .map_err(|error| PyValueError::new_err(format!("not an answer of hgci: {error}")))?;
        Ok(PyAnswered(answered))
    }

    /// Why nothing was done; None where something was.
    #[getter]
    fn error(&self) -> Option<&str> {
        self.0.error.as_deref()
    }

    /// Whether the same may be asked for again later.
    #[getter]
    fn later(&self) -> bool {
        self.0.again
    }

    /// The build.
    #[getter]
    fn build(&self) -> u64 {
        self.0.asked.build
    }

    /// The jobs that run, or are cancelled.
    #[getter]
    fn jobs(&self) -> Vec<String> {
        self.0.asked.jobs.clone()
    }

    /// How many jobs keep the result that they had.
    #[getter]
    fn kept(&self) -> usize {
        self.0.asked.kept
    }

    /// Who asked, as the daemon knows it.
    #[getter]
    fn by(&self) -> Option<&str> {
        self.0.asked.by.as_deref()
    }

    /// Where people can see the build; empty where nowhere.
    #[getter]
    fn url(&self) -> &str {
        &self.0.asked.url
    }
}
