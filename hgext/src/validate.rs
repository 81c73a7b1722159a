//! For `validate.py`: reads a pipeline file and says what is wrong with it.

use hgci_core::document::{self, Mistake};
use hgci_core::pipeline;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// The most lines that a pusher is shown of one file.
const MAX_SHOWN: usize = 10;

/// The mistakes in a pipeline file, as `.hgci.toml:3:7: what is wrong (the mend)`, the first ones;
/// an empty list where nothing is wrong.
#[pyfunction]
pub fn mistakes<'py>(py: Python<'py>, content: &[u8]) -> Vec<Bound<'py, PyBytes>> {
    let found = py.detach(|| pipeline::parse(pipeline::FILE, content).err().unwrap_or_default());
    lines(py, &found)
}

/// The same of a symlink that stands where the pipeline file should.
#[pyfunction]
pub fn symlink(py: Python<'_>) -> Vec<Bound<'_, PyBytes>> {
    lines(py, &[document::symlink(pipeline::FILE)])
}

fn lines<'py>(py: Python<'py>, found: &[Mistake]) -> Vec<Bound<'py, PyBytes>> {
    let line = |mistake: &Mistake| -> String {
        // It quotes what a pusher wrote, and goes to his terminal.
        let text = mistake.to_string();
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
    };
    found.iter().take(MAX_SHOWN).map(|m| PyBytes::new(py, line(m).as_bytes())).collect()
}
