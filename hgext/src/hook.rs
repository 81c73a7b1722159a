//! For `hook.py`: hands a hint to the daemon, as `hgci-hook` does.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use hgci_hooks::{Repository, Target, hint};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// What `collect` in `hook.py` found under the lock: first node, last node (hexadecimal, or None),
/// how many changesets, whether anything else moved.
type Collected = (Option<Vec<u8>>, Option<Vec<u8>>, u64, bool);

/// Hands a transaction to the daemon or to the spool, and returns whether that is worth a warning,
/// why the daemon does not have it (empty where it has), and the lines for the pusher. It never raises for what is wrong outside; time is in milliseconds.
///
/// The interpreter is released meanwhile: other threads of a web server go on.
#[pyfunction]
#[pyo3(signature = (root, variables, collected, socket, deadline_ms, wait_ms))]
pub fn deliver<'py>(
    py: Python<'py>,
    root: &[u8],
    variables: Vec<(String, Vec<u8>)>,
    collected: Collected,
    socket: Option<&[u8]>,
    deadline_ms: u64,
    wait_ms: u64,
) -> (bool, Bound<'py, PyBytes>, Vec<Bound<'py, PyBytes>>) {
    let target = Target {
        socket: socket.map(|socket| String::from_utf8_lossy(socket).into_owned()),
        deadline: Duration::from_millis(deadline_ms),
        wait: Duration::from_millis(wait_ms),
    };
    let (trouble, why, lines) = py.detach(|| {
        let repo = match Repository::at(Path::new(OsStr::from_bytes(root))) {
            Ok(repo) => repo,
            Err(error) => return (true, error.to_string(), vec![error.to_string()]),
        };
        let mut hint = hint::from_variables(&repo, variables.into_iter());
        let (first, last, changesets, moved) = collected;
        let node = |hex: Option<Vec<u8>>| String::from_utf8(hex?).ok()?.parse().ok();
        hint.first = node(first);
        hint.last = node(last);
        hint.changesets = Some(changesets);
        hint.moved = moved;
        let delivered = hgci_hooks::deliver(&repo, &hint, &target);
        (delivered.is_trouble(), delivered.why().unwrap_or_default().into(), delivered.lines())
    });
    let why = PyBytes::new(py, why.as_bytes());
    (trouble, why, lines.iter().map(|line| PyBytes::new(py, line.as_bytes())).collect())
}

/// Milliseconds of a duration as `[hgci]` has it (`300ms`, `2s`).
#[pyfunction]
pub fn milliseconds(text: &[u8]) -> PyResult<u64> {
    let duration = hgci_core::quantity::parse_duration(&String::from_utf8_lossy(text));
    let duration = duration.map_err(|e| pyo3::exceptions::PyValueError::new_err(e.to_string()))?;
    Ok(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// Whether hooks act in the repository at `root` at all: its own hgrc names the socket, or a daemon
/// adopted it.
#[pyfunction]
pub fn applies(root: &[u8]) -> bool {
    let repo = Repository::at(Path::new(OsStr::from_bytes(root)));
    repo.is_ok_and(|repo| repo.applies())
}
