//! `hgcid`: the daemon of hgci.

use std::fmt::Display;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use hgcid::args::{Args, Command};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let out = &mut io::stdout().lock();
    match Args::parse().command {
        Command::Serve(args) => {
            start_log();
            done(hgcid::serve::serve(&args.config))
        }
        Command::Status(args) => done(hgcid::control::status(&args, out)),
        Command::Drain(args) => done(hgcid::control::drain(&args, out)),
        Command::Reload(args) => done(hgcid::control::reload(&args, out)),
        Command::Check(args) => given(hgcid::check::run(&args, out)),
        Command::StoreProbe { dir } => hgcid::store::probe::run(&dir),
        Command::Man { dir } => given(hgcid::pages::man(Args::command(), &dir)),
        Command::Completions { shell } => given(hgcid::pages::completions(shell)),
    }
}

fn done<E: Display>(outcome: Result<(), E>) -> ExitCode {
    given(outcome.map(|()| ExitCode::SUCCESS))
}

fn given<E: Display>(outcome: Result<ExitCode, E>) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        eprintln!("hgcid: {error}");
        ExitCode::FAILURE
    })
}

/// Structured lines on stderr: for people on a terminal, else JSON, one object a line. `HGCID_LOG`
/// chooses what is said, as in `info,hgcid::intake=debug`.
fn start_log() {
    let filter = EnvFilter::try_from_env("HGCID_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if io::stderr().is_terminal() {
        log.init();
    } else {
        log.json().flatten_event(true).init();
    }
}
