//! For `log.py` and `wire.py`: the log of a job, in parts, and how it is shown in a terminal.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use hgci_api::client::{self, Patience};
use hgci_api::read::{LOG, LOG_ATTEMPT, LOG_DONE, LOG_NEXT, MAX_LOG_READ};
use hgci_api::wire::LogPart;
use hgci_hooks::Repository;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::status::client_of;
use hgci_api::terminal::{Colours, Plain};

/// How long a part of a log may take beyond what it was asked to wait.
const PATIENCE: Duration = Duration::from_secs(30);

/// Seconds after which to ask again a daemon that does not say when.
const SOON: u32 = 1;

/// A part of the log as the wire has it, from the daemon that serves the repository at `root`;
/// None where none is known. `wait` is in milliseconds. With `tail` it is the last so many bytes,
/// whatever the offset.
#[pyfunction]
#[pyo3(signature = (root, socket, node, job, attempt, offset, wait, tail = None))]
#[allow(clippy::too_many_arguments)]
pub fn read_log<'py>(
    py: Python<'py>,
    root: &[u8],
    socket: Option<&[u8]>,
    node: &str,
    job: &str,
    attempt: Option<u32>,
    offset: u64,
    wait: u64,
    tail: Option<u64>,
) -> Option<Bound<'py, PyBytes>> {
    let socket = socket.map(|socket| String::from_utf8_lossy(socket).into_owned());
    let answer = py.detach(|| {
        let repo = Repository::at(Path::new(OsStr::from_bytes(root))).ok()?;
        let client = client_of(&repo, socket)?;
        let part = client.map_err(broken).and_then(|client| {
            let mut path = format!("{LOG}?repo={}&node={node}", hgci_api::query(repo.root()));
            path.push_str(&format!("&job={}&wait={wait}", hgci_api::query(job)));
            path.push_str(&tail.map_or(format!("&offset={offset}"), |n| format!("&tail={n}")));
            if let Some(attempt) = attempt {
                path.push_str(&format!("&attempt={attempt}"));
            }
            fetch(&client, &path, offset, wait)
        });
        let (head, bytes) = part.unwrap_or_else(|refusal| (refusal, Vec::new()));
        let mut answer = serde_json::to_vec(&head).unwrap_or_default();
        answer.push(b'\n');
        answer.extend(bytes);
        Some(answer)
    });
    answer.map(|answer| PyBytes::new(py, &answer))
}

fn fetch(
    client: &client::Client,
    path: &str,
    offset: u64,
    wait: u64,
) -> Result<(LogPart, Vec<u8>), LogPart> {
    let patience = PATIENCE.saturating_add(Duration::from_millis(wait));
    let answer = client.download(path, Patience::Total(patience)).map_err(not_now)?;
    let number = |name: &str| answer.header(name).and_then(|text| text.parse::<u64>().ok());
    let attempt = number(LOG_ATTEMPT).and_then(|n| u32::try_from(n).ok()).unwrap_or_default();
    let (next, done) = (number(LOG_NEXT), number(LOG_DONE) == Some(1));
    let mut bytes = Vec::new();
    let mut body = answer.into_reader().take(MAX_LOG_READ as u64);
    // The daemon went away in the middle of an answer.
    body.read_to_end(&mut bytes).map_err(|error| away(format!("{}: {error}", client.place())))?;
    let next = next.unwrap_or(offset + bytes.len() as u64);
    Ok((LogPart { attempt, next, done, ..LogPart::default() }, bytes))
}

/// Why there is no part of the log, and whether there may be one later.
fn not_now(error: client::Error) -> LogPart {
    match error {
        client::Error::Refused { error, status: 429 | 503, retry_after, .. } => {
            LogPart { retry: Some(retry_after.unwrap_or(SOON)), ..refusal(error) }
        }
        // There is no such job or log, or no more.
        client::Error::Refused { error, status: 404 | 410, .. } => refusal(error),
        client::Error::Refused { error, .. } => broken(error),
        client::Error::Unreachable { .. } | client::Error::TimedOut { .. } => {
            away(error.to_string())
        }
        other => broken(other.to_string()),
    }
}

fn away(why: String) -> LogPart {
    LogPart { retry: Some(SOON), away: true, ..refusal(why) }
}

/// Something is wrong at the daemon's side that waiting does not mend.
fn broken(why: String) -> LogPart {
    LogPart { away: true, ..refusal(why) }
}

fn refusal(why: String) -> LogPart {
    LogPart { error: Some(why), ..LogPart::default() }
}

/// A part of a log, as the wire has it.
#[pyclass(name = "LogPart", module = "hgext3rd.hgci._native")]
pub struct PyLogPart {
    head: LogPart,
    /// The bytes of the log.
    #[pyo3(get)]
    content: Py<PyBytes>,
}

#[pymethods]
impl PyLogPart {
    /// Reads an answer of the wire. Raises ValueError where it is none.
    #[staticmethod]
    fn decode(py: Python<'_>, answer: &[u8]) -> PyResult<PyLogPart> {
        let end = answer.iter().take(64 << 10).position(|&byte| byte == b'\n').unwrap_or_default();
        let head: LogPart = serde_json::from_slice(&answer[..end])
            .map_err(|error| PyValueError::new_err(format!("not an answer of hgci: {error}")))?;
        // That there is no such line was an error above, so there is a byte at `end`.
        let content = PyBytes::new(py, &answer[end + 1..]).unbind();
        Ok(PyLogPart { head, content })
    }

    /// Which attempt it is.
    #[getter]
    fn attempt(&self) -> u32 {
        self.head.attempt
    }

    /// Where the next part starts.
    #[getter]
    fn next(&self) -> u64 {
        self.head.next
    }

    /// Whether nothing will come after it.
    #[getter]
    fn done(&self) -> bool {
        self.head.done
    }

    /// Why there is no log, or not now; None where there is one.
    #[getter]
    fn error(&self) -> Option<&str> {
        self.head.error.as_deref()
    }

    /// The seconds after which the same may be asked again, or None where that does not help.
    #[getter]
    fn retry(&self) -> Option<u32> {
        self.head.retry
    }

    /// Whether it is that the daemon was not reached, or could not answer.
    #[getter]
    fn away(&self) -> bool {
        self.head.away
    }
}

/// What of a log reaches a terminal: text and colours, nothing that moves the cursor, sets the
/// title or asks the terminal anything.
#[pyclass(module = "hgext3rd.hgci._native")]
#[derive(Default)]
pub struct Terminal(Colours);

#[pymethods]
impl Terminal {
    #[new]
    fn new() -> Terminal {
        Terminal::default()
    }

    /// The next part of a log, as it may be shown. What is cut in the middle waits for the rest.
    fn show<'py>(&mut self, py: Python<'py>, part: &[u8]) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.show(part))
    }

    /// What is left at the end; also switches colours off that the log left on.
    fn end<'py>(&mut self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.end())
    }
}

/// What of a log reaches a page or a file of text: UTF-8 without colours and controls.
#[pyclass(name = "Plain", module = "hgext3rd.hgci._native")]
#[derive(Default)]
pub struct PyPlain(Plain);

#[pymethods]
impl PyPlain {
    #[new]
    fn new() -> PyPlain {
        PyPlain::default()
    }

    /// The next part of a log. What is cut in the middle waits for the rest.
    fn show<'py>(&mut self, py: Python<'py>, part: &[u8]) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.show(part))
    }

    /// What is left at the end.
    fn end<'py>(&mut self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.end())
    }
}
