//! `hgci-hook`: what an hg server runs from `[hooks]`, as `txnclose` or as `changegroup`.
//!
//! Its exit status is 0, always: a push is not to fail because of us.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::panic;
use std::path::Path;
use std::time::Duration;

use hgci_core::quantity::parse_duration;
use hgci_hooks::{DEADLINE, Repository, Target, deliver, hint};

const HELP: &str = "\
Tells hgcid of what came into a Mercurial repository.

  [hooks]
  txnclose.hgci = hgci-hook

Usage: hgci-hook [--socket PATH] [--deadline DURATION] [--wait DURATION]

  --socket PATH        the daemon's socket; also by HGCI_SOCKET. Without either: what the
                       repository's own hgrc names, or the daemon that adopted it
  --deadline DURATION  the most that this may cost a push (300ms)
  --wait DURATION      wait this much longer for the plan, to tell counts and mistakes (0ms)
  -h, --help           this text
  -V, --version        the version

It reads the variables HG_* that hg sets for hooks, in the repository's root. It acts only where
the repository's own hgrc names [hgci] socket, or a daemon has adopted the repository. When the
daemon does not answer, it writes into .hg/hgci/spool. Its exit status is 0, always.
";

fn main() {
    // A panic is a mistake of ours: one line, and the push goes on.
    panic::set_hook(Box::new(|_| {}));
    if panic::catch_unwind(run).is_err() {
        say("internal error in hgci-hook; the daemon will find the push by itself");
    }
}

fn run() {
    let Asked { target, text, mistakes } = arguments(env::args_os().skip(1));
    if let Some(text) = text {
        let _ = io::stdout().write_all(text.as_bytes());
        return;
    }
    for mistake in mistakes {
        // What is understood is done all the same: a push is not lost for a slip of the pen.
        say(&format!("hgci-hook: {mistake}; see hgci-hook --help"));
    }
    let Some(kind) = env::var_os("HG_HOOKTYPE") else {
        return say("hgci-hook is for [hooks] of Mercurial; see hgci-hook --help");
    };
    // Before the end of the transaction nobody else sees what came; `incoming` and the like come
    // once for each changeset.
    if kind != "txnclose" && kind != "changegroup" {
        let kind = kind.to_string_lossy();
        return say(&format!("hgci-hook is a txnclose or changegroup hook, not {kind}"));
    }
    let repo = match Repository::at(Path::new(".")) {
        Ok(repo) => repo,
        Err(error) => return say(&error.to_string()),
    };
    let variables = env::vars_os().filter_map(|(name, value)| {
        let name = name.to_str()?.strip_prefix("HG_")?.to_owned();
        Some((name, value.as_bytes().to_vec()))
    });
    let hint = hint::from_variables(&repo, variables);
    for line in deliver(&repo, &hint, &target).lines() {
        say(&line);
    }
}

/// One line for the pusher. On stderr: over ssh and http hg passes on both streams, but a local
/// push with its stdout in a pipe keeps that for data.
fn say(line: &str) {
    // Nobody may be there to read it.
    let _ = io::stderr().write_all(format!("ci: {line}\n").as_bytes());
}

/// What the arguments and the environment ask for.
struct Asked {
    target: Target,
    /// To be printed, and nothing else is to be done.
    text: Option<String>,
    mistakes: Vec<String>,
}

fn arguments(mut given: impl Iterator<Item = OsString>) -> Asked {
    let mut target = Target { socket: None, deadline: DEADLINE, wait: Duration::ZERO };
    target.socket = env::var("HGCI_SOCKET").ok().filter(|socket| !socket.is_empty());
    let mut asked = Asked { target, text: None, mistakes: Vec::new() };
    while let Some(argument) = given.next() {
        let argument = argument.to_string_lossy().into_owned();
        let (name, attached) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (argument.as_str(), None),
        };
        let mut value = || {
            let next = || given.next().map(|value| value.to_string_lossy().into_owned());
            attached.clone().or_else(next).ok_or_else(|| "a value is missing".to_owned())
        };
        let time = |text: String| parse_duration(&text).map_err(|e| e.to_string());
        let taken = match name {
            "--socket" => value().map(|socket| asked.target.socket = Some(socket)),
            "--deadline" => value().and_then(time).map(|time| asked.target.deadline = time),
            "--wait" => value().and_then(time).map(|time| asked.target.wait = time),
            "-h" | "--help" => {
                asked.text = Some(HELP.into());
                Ok(())
            }
            "-V" | "--version" => {
                asked.text = Some(concat!("hgci-hook ", env!("CARGO_PKG_VERSION"), "\n").into());
                Ok(())
            }
            _ => Err("unknown argument".into()),
        };
        if let Err(mistake) = taken {
            asked.mistakes.push(format!("{name}: {mistake}"));
        }
    }
    asked
}
