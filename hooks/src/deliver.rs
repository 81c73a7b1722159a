//! Hands a hint to the daemon, or to the spool.

use std::time::Duration;

use hgci_api::Client;
use hgci_api::client::{Error, Patience};
use hgci_api::hook::{HINTS, Hint, Hinted, MAX_HINT};

use crate::{Repository, spool};

/// The most that a hook may cost a push, unless `[hgci] deadline` says otherwise.
pub const DEADLINE: Duration = Duration::from_millis(300);

/// The most bytes of a line that the pusher sees, and the most lines.
const MAX_LINE: usize = 500;
const MAX_LINES: usize = 20;

/// Whom to tell, and for how long to try.
#[derive(Clone, Debug)]
pub struct Target {
    /// The daemon's socket as the hook is configured; `None`: the one that adopted the repository.
    pub socket: Option<String>,
    /// All of it, from connecting to the end of the answer.
    pub deadline: Duration,
    /// On top of the deadline, for the plan (`[hgci] wait`).
    pub wait: Duration,
}

impl Default for Target {
    fn default() -> Target {
        Target { socket: None, deadline: DEADLINE, wait: Duration::ZERO }
    }
}

/// Where a hint went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// The daemon has it, durably.
    Daemon(Hinted),
    /// The spool has it, durably. Why the daemon has not.
    Spooled(String),
    /// The same, but it is the setting that is wrong: no daemon can be reached by it.
    Misdirected(String),
    /// A daemon answered that it does not serve this repository, and none ever did.
    NotServed(String),
    /// Nobody has it. Why not.
    Lost(String),
    /// This repository is none of our business.
    Ignored,
}

impl Delivered {
    /// What the pusher is told: lines without `ci: ` in front, harmless in any terminal.
    pub fn lines(&self) -> Vec<String> {
        let lines = match self {
            Delivered::Daemon(hinted) => {
                std::iter::once(&hinted.line).chain(&hinted.more).map(|l| clean(l)).collect()
            }
            Delivered::Spooled(_) => {
                vec!["daemon not reachable, push recorded; it will be built later".into()]
            }
            Delivered::Misdirected(why) => vec![clean(&format!("push recorded, but {why}"))],
            Delivered::NotServed(why) => vec![clean(&format!("not recorded: {why}"))],
            Delivered::Lost(why) => vec![clean(&format!(
                "push not recorded: {why}; the daemon will find it, but not who pushed"
            ))],
            Delivered::Ignored => Vec::new(),
        };
        lines.into_iter().filter(|line: &String| !line.is_empty()).take(MAX_LINES).collect()
    }

    /// Why the daemon does not have it, for the log of an administrator.
    pub fn why(&self) -> Option<&str> {
        match self {
            Delivered::Daemon(_) | Delivered::Ignored => None,
            Delivered::Spooled(why)
            | Delivered::Misdirected(why)
            | Delivered::NotServed(why)
            | Delivered::Lost(why) => Some(why),
        }
    }

    /// Whether the lines are a warning.
    pub fn is_trouble(&self) -> bool {
        !matches!(self, Delivered::Daemon(_) | Delivered::Ignored)
    }
}

/// Tells the daemon, and writes into the spool if that fails in any way. The daemon may have taken
/// the hint all the same, and answered too late: both have one transaction id, and are one push.
///
/// Nothing happens where the repository's own hgrc names no socket and no daemon adopted it.
pub fn deliver(repo: &Repository, hint: &Hint, target: &Target) -> Delivered {
    let (own, adoption) = (repo.own_socket(), repo.adoption());
    if own.is_none() && adoption.is_none() {
        return Delivered::Ignored;
    }
    let adopted = adoption.is_some();
    let socket = target.socket.clone().or(own).or_else(|| adoption.map(|mark| mark.socket));
    let hint = Hint { wait_ms: target.wait.as_millis() as u64, ..hint.clone() };
    // Either is there, or nothing would happen here.
    let Some(socket) = socket else { return Delivered::Ignored };
    let (why, delivered): (_, fn(_) -> _) = match tell(&socket, &hint, target) {
        Ok(hinted) => return Delivered::Daemon(hinted),
        Err(Failure::NotServed(why)) if !adopted => return Delivered::NotServed(why),
        Err(Failure::NotServed(why) | Failure::Other(why)) => (why, Delivered::Spooled),
        Err(Failure::BadAddress(why)) => (why, Delivered::Misdirected),
    };
    match spool::write(repo.hg(), &hint) {
        Ok(_) => delivered(why),
        Err(error) => Delivered::Lost(format!("{why}; {error}")),
    }
}

enum Failure {
    BadAddress(String),
    NotServed(String),
    Other(String),
}

fn tell(socket: &str, hint: &Hint, target: &Target) -> Result<Hinted, Failure> {
    let client = Client::connect(socket).map_err(|e| Failure::BadAddress(e.to_string()))?;
    let patience = Patience::Total(target.deadline.saturating_add(target.wait));
    let answer = client.with_answer_limit(MAX_HINT as u64).post(HINTS, hint, patience);
    answer.map_err(|error| match error {
        Error::Refused { status: 404, .. } => Failure::NotServed(error.to_string()),
        _ => Failure::Other(error.to_string()),
    })
}

/// One line, without control characters: it goes to the terminal of whoever pushes.
fn clean(line: &str) -> String {
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_LINE).collect()
}
