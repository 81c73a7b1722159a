//! Hints that hooks left in the repository while the daemon could not answer.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hgci_core::push::Push;
use hgci_hooks::adoption::{self, Adoption};
use hgci_hooks::spool::{self, Spool};

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

/// A file of a spool that is open.
pub struct File {
    spool: Arc<Spool>,
    name: OsString,
}

impl File {
    /// Removes it, its hint is recorded. Whether it is gone.
    pub fn remove(&self, repo: &str) -> bool {
        let removed = self.spool.remove(&self.name);
        if let Err(error) = &removed {
            // It comes again with each look, and is one push all the same.
            tracing::error!(repo, %error, "cannot remove from the spool");
        }
        removed.is_ok()
    }

    /// Out of the way, but there for whoever wants to know. Whether it is.
    fn set_aside(&self) -> bool {
        self.spool.set_aside(&self.name).is_ok()
    }
}

/// Takes in what is in the spool, oldest first, and removes what is durable. Where only a look can
/// tell whether there is a push, that is added to `open` with its file, to be removed afterwards.
///
/// `said` is why the spool could not be used the last time, so that it is said once.
pub async fn drain(
    intake: &Intake,
    served: &Served,
    open: &mut Vec<(Push, File)>,
    said: &mut Option<String>,
) -> Drained {
    let repo = &served.policy.repo;
    let hg = served.repository.source().join(".hg");
    let spool = match prepare(intake, served, &hg) {
        Ok(spool) => {
            *said = None;
            Some(spool)
        }
        Err(why) => {
            if said.as_ref() != Some(&why) {
                tracing::warn!(repo, %why, "hooks cannot leave word while the daemon is down");
            }
            *said = Some(why);
            None
        }
    };
    // What cannot be prepared may be there to be read.
    let found = spool.map_or_else(|| Spool::open(&hg), |spool| Ok(Some(spool)));
    let listed = found.and_then(|spool| match spool {
        Some(spool) => Ok(Some((spool.list(MOST)?, Arc::new(spool)))),
        None => Ok(None),
    });
    let (files, spool) = match listed {
        Ok(Some(listed)) => listed,
        Ok(None) => return Drained::All,
        Err(error) => {
            if !error.is_no_folder() {
                tracing::error!(repo, %error, "cannot read the spool");
            }
            return Drained::All;
        }
    };
    let many = files.len() >= MOST;
    let mut moved = false;
    for name in files {
        let file = File { spool: spool.clone(), name };
        let spooled = match spool.read(&file.name) {
            Ok(spooled) => spooled,
            Err(error) => {
                tracing::error!(repo, %error, "a file of the spool is unreadable and set aside; \
                     what it told of is found by looking at the repository");
                moved |= file.set_aside();
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
            hint.txid = Path::new(&file.name)
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
        }
        match intake.record(hint, account).await {
            Ok(None) => moved |= file.remove(repo),
            Ok(Some(push)) => {
                open.push((push, file));
                moved = true;
            }
            Err(error @ (NotTaken::Malformed(_) | NotTaken::NotServed(_))) => {
                let path = spool.path_of(&file.name);
                tracing::error!(repo, path = %path.display(), %error, "a hint is set aside");
                moved |= file.set_aside();
            }
            Err(NotTaken::NotRecorded(error)) => {
                tracing::warn!(repo, %error, "the spool waits");
                return Drained::Waits(error.to_string());
            }
        }
    }
    let _next_time = spool.sweep(wall_ms().saturating_sub(UNFINISHED.as_millis() as i64));
    if many && moved { Drained::More } else { Drained::All }
}

/// Makes the spool and the adoption mark, and watches the spool.
fn prepare(intake: &Intake, served: &Served, hg: &Path) -> Result<Spool, String> {
    let inner = &intake.inner;
    let repo = &served.policy.repo;
    let adoption = Adoption {
        socket: inner.settings.socket.to_string_lossy().into_owned(),
        repo: repo.clone(),
    };
    let spool = spool::prepare(hg).map_err(|error| error.to_string())?;
    adoption::write(hg, &adoption)
        .map_err(|error| format!("cannot write the adoption mark: {error}"))?;
    // The folder that was opened, not what may be in its place now.
    let watched = inner.watch.add(repo, &spool.folder().own_path());
    watched.map_err(|error| format!("cannot watch the spool: {error}"))?;
    Ok(spool)
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
