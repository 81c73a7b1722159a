//! Man pages and completions of hgcid, made from its own definition, so that they cannot be wrong.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Args;

/// Writes a page of section 8 for the command and one for each of its commands into `dir`.
///
/// # Errors
///
/// Fails when the folder cannot be made or a page cannot be written.
pub fn man(mut command: clap::Command, dir: &Path) -> io::Result<ExitCode> {
    let at = |error: io::Error| {
        let message = format!("cannot write man pages to {}: {error}", dir.display());
        io::Error::new(error.kind(), message)
    };
    std::fs::create_dir_all(dir).map_err(at)?;
    command.build();
    page(&command, dir).map_err(at)?;
    Ok(ExitCode::SUCCESS)
}

fn page(command: &clap::Command, dir: &Path) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        page(inner, dir)?;
    }
    let mut text = Vec::new();
    // Section 8: commands for administrators.
    clap_mangen::Man::new(command.clone()).title(&name).section("8").render(&mut text)?;
    std::fs::write(dir.join(format!("{name}.8")), text)
}

/// Prints the completions of a shell.
///
/// # Errors
///
/// Fails when standard output cannot be written.
pub fn completions(shell: Shell) -> io::Result<ExitCode> {
    // clap_complete panics where it cannot write, as into a closed pipe; memory it can write.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "hgcid", &mut text);
    io::stdout().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}
