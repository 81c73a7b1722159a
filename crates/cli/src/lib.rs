//! The command `hgci`: what a person runs away from the server.
//!
//! Rooms: `args` is the command line, which man pages and completions are made from too; `check`
//! says what is wrong with a pipeline; `source` finds it; `show` writes for people; `pages` makes
//! man pages and completions, of other commands of hgci as well.

mod args;
mod check;
pub mod pages;
mod show;
mod source;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::CommandFactory;

pub use args::{Args, Check, Color, Command};

/// Nothing is wrong.
const FINE: u8 = 0;
/// There are mistakes, or what was asked for could not be done.
const WRONG: u8 = 2;

/// Runs the command and gives its exit status.
pub fn run(args: &Args) -> ExitCode {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let done = match &args.command {
        Command::Check(args) => check::check(args, &mut out),
        Command::Man { dir } => pages::man(Args::command(), dir).map(|()| FINE),
        Command::Completions { shell } => {
            pages::completions(Args::command(), *shell, &mut out).map(|()| FINE)
        }
    };
    match done.and_then(|status| out.flush().map(|()| status)) {
        Ok(status) => ExitCode::from(status),
        // Who reads the output has seen enough of it.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(WRONG),
        Err(error) => {
            // Nobody is left to tell if this fails too.
            let _ = writeln!(io::stderr(), "hgci: {error}");
            ExitCode::from(WRONG)
        }
    }
}
