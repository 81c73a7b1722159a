//! From the configuration to the repositories that are served.
//!
//! One task does it, when it is asked and, while some cannot be served, again now and then. A
//! repository on a disk that does not answer is waited for a little, and then by its own thread
//! alone: neither the start, nor a reload, nor other repositories wait for it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hgci_core::engine::Event;
use hgci_core::result::Origin;
use hgci_repo::Repository;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::app::App;
use crate::config::{self, Names};
use crate::intake::{self, Policy};
use crate::publish::Publish;

/// How often what cannot be served is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// How long all the repositories are waited for that do not answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The task that serves repositories. It ends when this is dropped.
pub struct Repositories(mpsc::UnboundedSender<oneshot::Sender<()>>);

impl Repositories {
    /// Starts the task. Nothing is served before the first [`Self::apply`].
    pub fn start(app: Arc<App>) -> Repositories {
        let (asks, asked) = mpsc::unbounded_channel();
        tokio::spawn(keep(app, asked));
        Repositories(asks)
    }

    /// Serves what the configuration names now. Returns when all have been looked at, but those
    /// that do not answer.
    pub async fn apply(&self) {
        let (done, applied) = oneshot::channel();
        let _ended = self.0.send(done);
        let _ended = applied.await;
    }
}

async fn keep(app: Arc<App>, mut asked: mpsc::UnboundedReceiver<oneshot::Sender<()>>) {
    let mut opening = Opening::default();
    let mut complete = true;
    loop {
        let pause = if complete { Duration::MAX } else { AGAIN };
        let mut waiting = Vec::new();
        match tokio::time::timeout(pause, asked.recv()).await {
            Ok(None) => return,
            Ok(Some(done)) => waiting.push(done),
            Err(_elapsed) => {}
        }
        while let Ok(done) = asked.try_recv() {
            waiting.push(done);
        }
        complete = apply(&app, &mut opening).await;
        for done in waiting {
            let _left = done.send(());
        }
    }
}

/// Serves the repositories of the configuration, ends what is in flight of others, and tells what
/// cannot be served. Returns whether that is nothing: else it is to be tried again.
async fn apply(app: &App, opening: &mut Opening<Repository>) -> bool {
    let current = app.current();
    let configured = current.clone();
    let listed = tokio::task::spawn_blocking(move || {
        let (served, findings) = config::serve(&configured.config);
        let names = Names::of(&configured.config, &served);
        (served, findings, names)
    });
    let Ok((served, findings, names)) = listed.await else { return false };
    for unserved in findings {
        tracing::error!(path = %unserved.path.display(), why = unserved.why, "not served");
    }
    let mut complete = !names.is_incomplete();
    let url = current.url().unwrap_or_default().to_owned();
    let mut logs = BTreeMap::new();
    let mut repos = Vec::new();
    let paths = served.iter().map(|served| served.path.clone());
    let mut opened = opening.open(paths, PATIENCE, Repository::open).await;
    for config::Served { name, path, repo, .. } in served {
        let repository = match opened.remove(&path) {
            Some(Ok(repository)) => repository,
            failed => {
                let error = failed.and_then(Result::err).unwrap_or_default();
                tracing::error!(repo = name, error, "this repository is not served");
                complete = false;
                continue;
            }
        };
        let origin = Origin { daemon: app.daemon.clone(), repo: name.clone(), url: url.clone() };
        logs.insert(name.clone(), (repository.source().join(".hg"), origin));
        let policy = Policy { repo: name, build: repo.build, trusted: repo.trusted };
        repos.push(intake::Served {
            repository,
            policy,
            frontends: repo.frontends,
            public: repo.public,
        });
    }
    let _stopping = app.publisher.send(Publish::Serve { logs, names: names.clone() });
    complete &= end_of_others(app, names.clone()).await;
    for (repo, why) in app.intake.serve(repos, names, PATIENCE).await {
        tracing::error!(repo, %why, "this repository cannot be looked at; tried again now and then");
    }
    complete
}

/// What is being opened, each on a thread of its own.
struct Opening<T>(HashMap<PathBuf, JoinHandle<Result<T, String>>>);

impl<T> Default for Opening<T> {
    fn default() -> Self {
        Opening(HashMap::new())
    }
}

impl<T: Send + 'static> Opening<T> {
    /// What became of each. Those that do not answer in time are still waited for the next time,
    /// not opened once more: nothing can end a thread that a disk holds.
    async fn open<E: std::fmt::Display>(
        &mut self,
        paths: impl Iterator<Item = PathBuf>,
        patience: Duration,
        how: impl Fn(&Path) -> Result<T, E> + Copy + Send + 'static,
    ) -> HashMap<PathBuf, Result<T, String>> {
        let paths: Vec<PathBuf> = paths.collect();
        for path in &paths {
            self.0.entry(path.clone()).or_insert_with(|| {
                let path = path.clone();
                tokio::task::spawn_blocking(move || how(&path).map_err(|error| error.to_string()))
            });
        }
        let until = Instant::now() + patience;
        let mut opened = HashMap::new();
        for path in paths {
            let Some(thread) = self.0.get_mut(&path) else { continue };
            let outcome = match tokio::time::timeout_at(until, thread).await {
                Ok(outcome) => {
                    self.0.remove(&path);
                    outcome.unwrap_or_else(|error| Err(error.to_string()))
                }
                Err(_elapsed) => Err("its disk does not answer; tried again now and then".into()),
            };
            opened.insert(path, outcome);
        }
        opened
    }
}

/// Ends what is in flight of repositories that the configuration does not speak for. Returns
/// whether that is durable.
async fn end_of_others(app: &App, names: Names) -> bool {
    let ended = app.scheduler.act(move |turn| {
        let pushes = turn.engine().pushes().map(|row| &row.push.repo);
        let repos: BTreeSet<String> =
            pushes.chain(turn.engine().builds().map(|row| &row.repo)).cloned().collect();
        let (kept, others): (BTreeSet<String>, BTreeSet<String>) =
            repos.into_iter().partition(|repo| names.has(repo));
        if !others.is_empty() {
            turn.step(Event::Repositories(kept));
        }
        others
    });
    match ended.await {
        Ok(others) => {
            for repo in others {
                tracing::warn!(
                    repo,
                    "this repository is no longer in the configuration: what was in flight of it \
                     is cancelled"
                );
            }
            true
        }
        Err(error) => {
            tracing::error!(%error, "cannot end what is in flight of other repositories");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Whoever opens what is dead waits until the other end is dropped.
    static DEAD: Mutex<Option<Receiver<()>>> = Mutex::new(None);
    static ASKED: AtomicUsize = AtomicUsize::new(0);

    fn open(path: &Path) -> Result<PathBuf, String> {
        if path.ends_with("dead") {
            ASKED.fetch_add(1, Ordering::SeqCst);
            let _dropped = DEAD.lock().unwrap().take().unwrap().recv();
        }
        Ok(path.to_owned())
    }

    #[tokio::test]
    async fn a_dead_disk_holds_up_no_other_and_is_asked_once() {
        let mut opening = Opening::default();
        let soon = Duration::from_millis(20);
        let paths = || ["dead", "well"].map(PathBuf::from).into_iter();
        let (dead, end) = channel();
        *DEAD.lock().unwrap() = Some(end);
        for _ in 0..3 {
            let opened = opening.open(paths(), soon, open).await;
            assert!(opened[Path::new("dead")].is_err());
        }
        let opened = opening.open([PathBuf::from("well")].into_iter(), PATIENCE, open).await;
        assert!(opened[Path::new("well")].is_ok());
        drop::<Sender<()>>(dead);
        let opened = opening.open(paths(), PATIENCE, open).await;
        assert!(opened[Path::new("dead")].is_ok(), "it is there when its disk is back");
        assert_eq!(ASKED.load(Ordering::SeqCst), 1);
    }
}
