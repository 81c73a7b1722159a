//! `hgext3rd.hgci._native`: what the extension does in Rust. One file for each Python module that
//! uses it; they convert arguments and results and call the crates that do the work.

mod ask;
mod exchange;
mod hook;
mod log;
mod logs;
mod states;
mod status;
mod validate;

use pyo3::prelude::*;

/// The native part of the extension.
#[pymodule]
mod _native {
    #[pymodule_export]
    use super::ask::{PyAnswered, request};
    #[pymodule_export]
    use super::exchange::{Sending, cookie_for, staged, take_in};
    #[pymodule_export]
    use super::hook::{applies, deliver, milliseconds};
    #[pymodule_export]
    use super::log::{PyLogPart, PyPlain, Terminal, read_log};
    #[pymodule_export]
    use super::states::{PyStates, stamp};
    #[pymodule_export]
    use super::status::PyStatuses;
    #[pymodule_export]
    use super::validate::{mistakes, symlink};

    /// The most bytes that a pipeline file may have; larger ones need not be read.
    #[pymodule_export]
    const MAX_PIPELINE: usize = hgci_core::pipeline::MAX_SIZE;
}
