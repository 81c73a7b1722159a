//! Hints that hooks left in the repository while the daemon could not answer.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hgci_core::push::Push;
use hgci_hooks::adoption::{self, Adoption};
use hgci_hooks::spool;

use super::{Intake, NotTaken, Served};
use crate::accounts;
use crate::clock::wall_ms;

/// The most files that are read in one go; the rest comes with the next look.
const MOST: usize = 1000;

/// How long a file that a hook began to write may stay unfinished.
const UNFINISHED: Duration = Duration::from_secs(3600);

/// What became of a spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every hint that can be read is taken in.
    All,
    /// There are more than are read in one go.
    More,
    /// What is in it could not be recorded, and why. Its changesets are spoken for: they must not
    /// be taken for what no hook has told of.
    Waits(String),
}

/// Takes in what is in the spool, oldest first, and removes what is durable. Where only a look can
/// tell whether there is a push, that is added to `open` with its file, to be removed afterwards.
pub async fn drain(intake: &Intake, served: &Served, open: &mut Vec<(Push, PathBuf)>) -> Drained {
    let repo = &served.policy.repo;
    let hg = served.repository.source().join(".hg");
    prepare(intake, served, &hg);
    let files = match spool::list(&hg, MOST) {
        Ok(files) => files,
        Err(error) => {
            tracing::error!(repo, %error, "cannot read the spool");
            return Drained::All;
        }
    };
    let many = files.len() >= MOST;
    let mut moved = false;
    for path in files {
        let spooled = match spool::read(&path) {
            Ok(spooled) => spooled,
            Err(error) => {
                tracing::error!(repo, %error, "a file of the spool is unreadable and set aside; \
                     what it told of is found by looking at the repository");
                moved |= set_aside(&path);
                continue;
            }
        };
        let account = accounts::look_up(spooled.owner).await;
        // Whatever it says, it lies in this repository's spool.
        let mut hint = spooled.hint;
        hint.repo = served.repository.source().to_string_lossy().into_owned();
        // Nor is it older than its file, or to come.
        let now = wall_ms();
        hint.time_ms = hint.time_ms.clamp(spooled.written_ms.min(now), now);
        if hint.txid.is_empty() {
            // Whatever is read twice must be known by something.
            hint.txid = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        }
        match intake.record(hint, account).await {
            Ok(None) => moved |= remove(repo, &path),
            Ok(Some(push)) => {
                open.push((push, path));
                moved = true;
            }
            Err(error @ (NotTaken::Malformed(_) | NotTaken::NotServed(_))) => {
                tracing::error!(repo, path = %path.display(), %error, "a hint is set aside");
                moved |= set_aside(&path);
            }
            Err(NotTaken::NotRecorded(error)) => {
                tracing::warn!(repo, %error, "the spool waits");
                return Drained::Waits(error.to_string());
            }
        }
    }
    let _next_time = spool::sweep(&hg, SystemTime::now() - UNFINISHED);
    if many && moved { Drained::More } else { Drained::All }
}

/// Makes the spool and the adoption mark, and watches the spool. What fails is said once a look.
fn prepare(intake: &Intake, served: &Served, hg: &Path) {
    let inner = &intake.inner;
    let repo = &served.policy.repo;
    let adoption = Adoption {
        socket: inner.settings.socket.to_string_lossy().into_owned(),
        repo: repo.clone(),
    };
    let prepared = spool::prepare(hg).map_err(|error| error.to_string()).and_then(|()| {
        adoption::write(hg, &adoption)
            .map_err(|error| format!("cannot write the adoption mark: {error}"))?;
        let watched = inner.watch.add(repo, &spool::folder(hg));
        watched.map_err(|error| format!("cannot watch the spool: {error}"))
    });
    if let Err(why) = prepared {
        tracing::warn!(repo, %why, "hooks cannot leave word while the daemon is down");
    }
}

/// Takes the adoption mark away: the repository is no longer served. What hooks have left stays.
pub fn leave(served: &Served) {
    let hg = served.repository.source().join(".hg");
    let repo = &served.policy.repo;
    // Another name of the same repository may have come in the place of this one.
    if adoption::read(&hg).is_some_and(|adoption| adoption.repo == *repo)
        && let Err(error) = adoption::remove(&hg)
    {
        tracing::warn!(repo, %error, "cannot take the adoption mark away");
    }
}

/// Removes a file whose hint is recorded. Whether it is gone.
pub fn remove(repo: &str, path: &Path) -> bool {
    let removed = spool::remove(path);
    if let Err(error) = &removed {
        // It comes again with each look, and is one push all the same.
        tracing::error!(repo, path = %path.display(), %error, "cannot remove from the spool");
    }
    removed.is_ok()
}

/// Out of the way, but there for whoever wants to know. Whether it is.
fn set_aside(path: &Path) -> bool {
    spool::set_aside(path).is_ok()
}
