//! hgci away from the server: check a pipeline.

use std::process::ExitCode;

use clap::Parser;
use hgci_cli::Args;

fn main() -> ExitCode {
    hgci_cli::run(&Args::parse())
}
