//! `hgcid status`, `drain` and `reload`: calls to the daemon that runs.

use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;

use hgci_api::client::{Client, Error, Patience};
use hgci_core::quantity::{format_duration, format_size};

use crate::args::{Drain, Reached, Status};
use crate::clock;
use crate::config;
use crate::web::{DRAIN, DaemonStatus, DrainOrder, RELOAD, RetryStatus, STATUS, UnwrittenStatus};

/// How long an administrator waits.
const PATIENCE: Patience = Patience::Total(Duration::from_secs(30));

/// Why a command came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The configuration, which names the socket.
    #[error(transparent)]
    Config(#[from] config::LoadError),
    /// The call.
    #[error("{}{}", .0, mend(.0))]
    Call(#[from] Error),
    /// The output.
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

fn mend(error: &Error) -> &'static str {
    match error {
        Error::Unreachable { .. } => "; is hgcid running, and does the socket let this account in?",
        _ => "",
    }
}

/// `hgcid status`.
pub fn status(args: &Status, out: &mut impl Write) -> Result<(), ControlError> {
    let status: DaemonStatus = client(&args.reached)?.get(STATUS, PATIENCE)?;
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &status).map_err(io::Error::from)?;
        writeln!(out)?;
        return Ok(());
    }
    Ok(print(&status, out)?)
}

fn print(status: &DaemonStatus, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "hgcid {}, process {}", status.version, status.pid)?;
    if let Some(why) = &status.store_failure {
        writeln!(out, "the store fails, and nothing is taken: {why}")?;
    }
    for loss in &status.losses {
        writeln!(out, "{} ago: {}", ago(loss.at), loss.what)?;
    }
    if status.draining {
        writeln!(out, "draining: finishes what runs, starts nothing")?;
    }
    if let Some(why) = &status.blocked {
        writeln!(out, "nothing starts: {why}")?;
    }
    let jobs: Vec<String> =
        status.jobs.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let jobs = if jobs.is_empty() { "none".to_owned() } else { jobs.join(", ") };
    writeln!(out, "pushes to plan: {}", status.pushes)?;
    writeln!(out, "builds in flight: {}; jobs: {jobs}", status.builds)?;
    for pool in &status.pools {
        writeln!(out, "pool {}: {} of {} slots in use", pool.name, pool.used, pool.slots)?;
    }
    for lease in &status.leases {
        let seconds = lease.seconds.map_or_else(String::new, |s| format!(", {s:.0} s left"));
        writeln!(out, "attempt {} on {}: {}{seconds}", lease.attempt, lease.host, lease.state)?;
    }
    for retry in &status.retries {
        let RetryStatus { build, job, repo, seconds, why } = retry;
        writeln!(out, "job {job} of build {build}, {repo}: tried again in {seconds:.0} s: {why}")?;
    }
    for UnwrittenStatus { repo, results, why } in &status.unwritten {
        writeln!(out, "results of {repo} that cannot be written: {results}: {why}")?;
    }
    writeln!(out, "messages to send: {}", status.outbox)?;
    let Some(sweep) = &status.sweep else { return Ok(()) };
    writeln!(
        out,
        "logs: {} kept; the last sweep, {} ago, removed {} ({}), {} builds and {} pushes",
        format_size(sweep.kept),
        ago(sweep.at),
        sweep.logs,
        format_size(sweep.bytes),
        sweep.builds,
        sweep.pushes
    )?;
    match &sweep.failure {
        Some(why) => writeln!(out, "  not all of it: {why}"),
        None => Ok(()),
    }
}

/// How long ago that was, in seconds since 1970.
fn ago(at: f64) -> String {
    let ms = (clock::wall_ms() as f64 - at * 1000.0).max(0.0) as u64;
    format_duration(Duration::from_secs(ms / 1000))
}

/// `hgcid drain`.
pub fn drain(args: &Drain, out: &mut impl Write) -> Result<(), ControlError> {
    let order = DrainOrder { on: !args.undo };
    let _done: serde_json::Value = client(&args.reached)?.post(DRAIN, &order, PATIENCE)?;
    let said = if args.undo { "jobs start again" } else { "draining: nothing more starts" };
    say(out, said)
}

/// `hgcid reload`.
pub fn reload(args: &Reached, out: &mut impl Write) -> Result<(), ControlError> {
    let _done: serde_json::Value = client(args)?.post(RELOAD, &serde_json::json!({}), PATIENCE)?;
    say(out, "the configuration was read again")
}

/// A word for people; scripts have the exit status.
fn say(out: &mut impl Write, said: &str) -> Result<(), ControlError> {
    if io::stdout().is_terminal() {
        writeln!(out, "{said}")?;
    }
    Ok(())
}

fn client(reached: &Reached) -> Result<Client, ControlError> {
    Ok(Client::unix(match &reached.socket {
        Some(socket) => socket.clone(),
        None => config::load(&reached.config)?.socket,
    }))
}
