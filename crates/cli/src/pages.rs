//! Man pages and completions, made from a command's own definition, so that they cannot be wrong.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use clap_complete::Shell;

/// Writes a page of section 1 for the command and one for each of its commands into `dir`.
pub fn man(command: clap::Command, dir: &Path) -> io::Result<()> {
    let at = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("cannot write man pages to {}: {error}", dir.display()),
        )
    };
    fs::create_dir_all(dir).map_err(at)?;
    clap_mangen::generate_to(command, dir).map_err(at)
}

/// Writes the completions of a shell.
pub fn completions(
    mut command: clap::Command,
    shell: Shell,
    out: &mut impl Write,
) -> io::Result<()> {
    let name = command.get_name().to_owned();
    // clap_complete panics where it cannot write, as into a closed pipe; memory it can write.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut text);
    out.write_all(&text)
}
