//! For `exchange.py`: results on their way over hg's wire, both ends.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use hgci_core::Node;
use hgci_hooks::Repository;
use hgci_results::exchange::{self, Staged};
use hgci_results::{Error, Place};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::logs;

/// What a pull is sent. Iterating gives bytes; `visible` is called with lists of nodes and returns
/// a list of whether each may be seen.
#[pyclass(module = "hgext3rd.hgci._native")]
pub struct Sending {
    // A web server may make it in one thread and read it in another.
    sending: Mutex<exchange::Sending>,
    visible: Py<PyAny>,
}

#[pymethods]
impl Sending {
    /// The logs of the repository at `root`, its own and what it received, for who had `cookie` and
    /// now gets the changesets `coming`, nodes one after the other. `default` is whose results are
    /// believed here before those from elsewhere.
    #[new]
    fn new(
        root: &[u8],
        cookie: &[u8],
        view: u64,
        coming: &[u8],
        limit: u64,
        default: Option<&[u8]>,
        visible: Py<PyAny>,
    ) -> PyResult<Sending> {
        let repo = repository(root)?;
        let mut places = logs::of(&repo, default.map(text).as_deref());
        // Of a changeset, what comes last counts for the puller: what counts here.
        places.reverse();
        let (coming, _) = coming.as_chunks::<20>();
        let coming: Vec<Node> = coming.iter().copied().map(Node).collect();
        let sending = exchange::Sending::new(&places, cookie, view, &coming, limit);
        let sending = Mutex::new(sending);
        Ok(Sending { sending, visible })
    }

    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let mut sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let visible = |nodes: &[Node]| -> Result<Vec<bool>, Failed> {
            let nodes = PyList::new(py, nodes.iter().map(|node| PyBytes::new(py, &node.0)))?;
            Ok(self.visible.call1(py, (nodes,))?.extract(py)?)
        };
        let piece = sending.next(visible).map_err(PyErr::from)?;
        Ok(piece.map(|piece| PyBytes::new(py, &piece)))
    }

    /// Whether all has been said, and the puller knew it.
    #[getter]
    fn nothing_new(&self) -> bool {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner).was_nothing_new()
    }
}

enum Failed {
    Log(Error),
    Python(PyErr),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed::Log(error)
    }
}

impl From<PyErr> for Failed {
    fn from(error: PyErr) -> Failed {
        Failed::Python(error)
    }
}

impl From<Failed> for PyErr {
    fn from(failed: Failed) -> PyErr {
        match failed {
            Failed::Log(error) => PyOSError::new_err(error.to_string()),
            Failed::Python(error) => error,
        }
    }
}

/// What the repository at `root` is to tell `source` at the next pull; None where it has nothing
/// from there.
#[pyfunction]
pub fn cookie_for<'py>(
    py: Python<'py>,
    root: &[u8],
    source: &[u8],
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let place = Place::received(dot_hg(root)?, &text(source));
    let known = exchange::received_from(&place);
    Ok(known.map(|(_, cookie)| PyBytes::new(py, cookie.as_bytes())))
}

/// Looks at what was received, in the file at `path`: how many records, the cookie, whether there
/// is more to come. Raises ValueError where it is no whole answer.
#[pyfunction]
pub fn staged<'py>(py: Python<'py>, path: &[u8]) -> PyResult<(u64, Bound<'py, PyBytes>, bool)> {
    let staged = py.detach(|| read(path))?;
    Ok((staged.records, PyBytes::new(py, staged.cookie.as_bytes()), staged.more))
}

/// Takes in what was received from `source` and lies in the file at `path`. Returns how many
/// records are new, and how many were there.
#[pyfunction]
pub fn take_in(py: Python<'_>, root: &[u8], source: &[u8], path: &[u8]) -> PyResult<(u64, u64)> {
    py.detach(|| {
        let place = Place::received(dot_hg(root)?, &text(source));
        let staged = read(path)?;
        let taken = exchange::take_in(&place, &text(source), File::open(file(path))?, &staged);
        let taken = taken.map_err(|error| PyOSError::new_err(error.to_string()))?;
        Ok((taken.written, taken.dropped))
    })
}

fn read(path: &[u8]) -> PyResult<Staged> {
    let staged = File::open(file(path)).and_then(Staged::read);
    staged.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => PyValueError::new_err("the answer was cut"),
        io::ErrorKind::InvalidData => PyValueError::new_err(error.to_string()),
        _ => error.into(),
    })
}

fn file(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

fn text(source: &[u8]) -> String {
    String::from_utf8_lossy(source).into_owned()
}

/// `.hg` of the repository at `root`, of its source where it is a share.
fn dot_hg(root: &[u8]) -> PyResult<PathBuf> {
    Ok(repository(root)?.hg().to_owned())
}

fn repository(root: &[u8]) -> PyResult<Repository> {
    Repository::at(file(root)).map_err(|error| PyOSError::new_err(error.to_string()))
}
