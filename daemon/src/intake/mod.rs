//! Intake: what came into the repositories, exactly once.
//!
//! Hooks are hints; the difference between a repository and what was seen of it is the truth. Each
//! repository has a worker, one task, which looks at it on every hint, when its spool gets a file,
//! at start and now and then. A hint with changesets is recorded as a push before it is answered,
//! and read afterwards; one without is answered after looking.
//!
//! - `look`: what is new, which push brought it, what is to be built (blocking, no writing)
//! - `split`: which changesets belong to which push (pure)
//! - `pusher`: who pushed, and the lane (pure)
//! - `asked`: people who ask for runs, retries and cancels
//! - `planned`: pushes that were read, and their builds, go to the engine
//! - `marks`: what was seen, in the store
//! - `found`: which pushes changesets were taken in with lately, for hooks that speak of them late
//! - `late`: what such a hook adds to a push that is there, and to which of its builds
//! - `obsolete`: builds of changesets that have become obsolete
//! - `taken`: a copy of what was seen, in the repository itself; `keeper` keeps it
//! - `spool`: hints that hooks left in the repository
//! - `watch`: hears of files in spools
//! - `worker`: the task of one repository

mod asked;
mod found;
mod keeper;
mod late;
mod look;
mod marks;
mod obsolete;
mod planned;
mod pusher;
mod split;
mod spool;
pub mod taken;
mod watch;
mod worker;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use hgci_api::hook::{Hint, Hinted};
use hgci_core::PushId;
use hgci_core::engine::Event;
use hgci_core::push::{Push, Via};
use hgci_repo::Repository;
use tokio::sync::{mpsc, oneshot};

use crate::config::Names;
use crate::losses::Losses;
use crate::publish::Publish;
use crate::scheduler::{NotRecorded, Scheduler, Turn};
use crate::store::Store;
use crate::troubles::Troubles;

pub use asked::{NotDone, What};
use found::{Found, Known};
pub use look::Policy;
use watch::Watch;
use worker::{Request, Worker};

/// What Mercurial calls the transaction in which a strip puts back what it has taken off.
const STRIP: &str = "strip";

/// A hint that is not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// The daemon does not serve the repository.
    #[error("{0} is not among the repositories of this daemon ([[repo]] path)")]
    NotServed(String),
    /// The hint is not one of this version, or names nothing.
    #[error("{0}")]
    Malformed(String),
    /// It could not be made durable.
    #[error(transparent)]
    NotRecorded(#[from] NotRecorded),
}

impl NotTaken {
    /// That a repository is not served, whatever it was called.
    pub fn not_served(name_or_path: &str) -> NotTaken {
        NotTaken::NotServed(name_or_path.chars().take(4096).collect())
    }
}

/// A repository as it is served.
#[derive(Clone, Debug)]
pub struct Served {
    /// The repository; results, spool and marks are those of its share source.
    pub repository: Repository,
    /// What is built of it.
    pub policy: Policy,
    /// Accounts that are believed about who pushed.
    pub frontends: Vec<String>,
    /// Whether it is readable on TCP without a token.
    pub public: bool,
}

/// Takes in what comes into the repositories. Cheap to clone.
#[derive(Clone)]
pub struct Intake {
    inner: Arc<Inner>,
}

struct Inner {
    scheduler: Scheduler,
    store: Arc<Store>,
    said: Said,
    /// The store has lost something since it was written, or before this daemon started.
    store_lost: AtomicBool,
    watch: Watch,
    found: Found,
    settings: Settings,
    workers: RwLock<BTreeMap<String, Handle>>,
    /// Which names the configuration speaks for; `None` until repositories are served.
    names: RwLock<Option<Names>>,
    /// What was to be planned before that.
    early: Mutex<Vec<Push>>,
}

/// Where it is said what went wrong.
#[derive(Clone)]
pub struct Said {
    /// What was lost.
    pub losses: Arc<Losses>,
    /// What does not work now.
    pub troubles: Arc<Troubles>,
    /// Asked to look at results logs, when their repositories are looked at.
    pub publisher: std::sync::mpsc::Sender<Publish>,
}

/// What does not change while the daemon runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The socket, as it is written into repositories for hooks to find.
    pub socket: PathBuf,
    /// How long a hook may take to speak after its transaction.
    pub deadline: Duration,
    /// How often a repository is looked at without a hint.
    pub every: Duration,
}

/// A worker as others see it.
#[derive(Clone)]
struct Handle {
    served: Arc<Served>,
    requests: mpsc::UnboundedSender<Request>,
}

impl Intake {
    /// An intake of no repository yet. `store_lost`: the store is not what it was. Needs a tokio
    /// runtime.
    pub fn start(
        scheduler: Scheduler,
        store: Arc<Store>,
        said: Said,
        store_lost: bool,
        settings: Settings,
    ) -> std::io::Result<Intake> {
        let watch = Watch::new()?;
        let inner = Inner {
            scheduler,
            store,
            said,
            store_lost: AtomicBool::new(store_lost),
            watch: watch.clone(),
            found: Found::default(),
            settings,
            workers: RwLock::default(),
            names: RwLock::default(),
            early: Mutex::default(),
        };
        let intake = Intake { inner: Arc::new(inner) };
        let listener = intake.clone();
        tokio::spawn(async move {
            loop {
                match watch.next().await {
                    Ok(repos) => repos.iter().for_each(|repo| listener.touch(repo)),
                    Err(error) => {
                        tracing::error!(%error, "cannot watch the spools; they are read now and then");
                        return;
                    }
                }
            }
        });
        Ok(intake)
    }

    /// Serves these repositories and no others; `names` are those that the configuration speaks
    /// for, also those that cannot be served now. Returns when each new one was looked at or, where
    /// it does not answer, after `patience`; with what went wrong, by name.
    pub async fn serve(
        &self,
        repos: Vec<Served>,
        names: Names,
        patience: Duration,
    ) -> Vec<(String, String)> {
        let mut first_looks = Vec::new();
        {
            let mut workers = self.workers_mut();
            let names: Vec<String> =
                repos.iter().map(|served| served.policy.repo.clone()).collect();
            // A worker whose sender is gone ends after what it has.
            workers.retain(|name, _| names.contains(name));
            for (name, served) in names.into_iter().zip(repos) {
                let served = Arc::new(served);
                let known = workers
                    .get(&name)
                    .filter(|handle| handle.served.repository.path() == served.repository.path());
                let requests = match known {
                    Some(handle) => {
                        let _ended = handle.requests.send(Request::Serve(served.clone()));
                        handle.requests.clone()
                    }
                    None => {
                        let requests = Worker::start(served.clone(), self.clone());
                        let (done, looked) = oneshot::channel();
                        let _ended = requests.send(Request::Look(Some(done)));
                        first_looks.push((name.clone(), looked));
                        requests
                    }
                };
                workers.insert(name, Handle { served, requests });
            }
        }
        self.set_names(names);
        let until = tokio::time::Instant::now() + patience;
        let mut failures = Vec::new();
        for (name, looked) in first_looks {
            match tokio::time::timeout_at(until, looked).await {
                Ok(Ok(Err(why))) => failures.push((name, why)),
                Ok(_) => {}
                Err(_elapsed) => failures.push((name, "reading it takes long".to_owned())),
            }
        }
        failures
    }

    /// Takes a hint from a hook, whose process runs as `account`. The answer is durable.
    pub async fn hint(&self, hint: Hint, account: String) -> Result<Hinted, NotTaken> {
        let Handle { served, requests } = self.by_path(&hint.repo)?;
        check(&hint)?;
        let user = pusher::pusher(&hint.url, Some(&account), &served.frontends);
        let push = blank(&served.policy.repo, &hint, Via::Hook, user);
        if self.must_look_first(&push) {
            let (done, looked) = oneshot::channel();
            let _ended = requests.send(Request::Hinted { push: Box::new(push), done });
            // The look goes on when the hook does not wait for it.
            let push = looked
                .await
                .map_err(|_| NotRecorded("the repository is no longer served".into()))?;
            return Ok(hinted(push.map_err(NotRecorded)?));
        }
        let wait = Duration::from_millis(hint.wait_ms.min(60_000));
        let id = self.receive(push, &requests).await?;
        let mut answer = hinted(Some(id));
        if !wait.is_zero() {
            let (done, planned) = oneshot::channel();
            let _ended = requests.send(Request::WhenPlanned { push: id, done });
            if let Ok(Ok(planned)) = tokio::time::timeout(wait, planned).await {
                (answer.line, answer.more) = planned.lines(id);
            }
        }
        Ok(answer)
    }

    /// Takes a hint from a spool. Returns a push that is to be looked for, where the worker, which
    /// looks at the repository right after, has to say whether there is one.
    async fn record(&self, hint: Hint, account: String) -> Result<Option<Push>, NotTaken> {
        let Handle { served, requests } = self.by_path(&hint.repo)?;
        check(&hint)?;
        let user = pusher::pusher(&hint.url, Some(&account), &served.frontends);
        let push = blank(&served.policy.repo, &hint, Via::Spool, user);
        if self.must_look_first(&push) {
            return Ok(Some(push));
        }
        self.receive(push, &requests).await?;
        Ok(None)
    }

    /// Whether only a look can tell if there is a difference: the hint names no changesets, or
    /// those that another hook has told of.
    fn must_look_first(&self, push: &Push) -> bool {
        let known = |last| self.inner.found.push_of(&push.repo, &last);
        push.last.is_none_or(|last| matches!(known(last), Some(Known::Told(_))))
    }

    /// Records a push, or finds it.
    async fn receive(
        &self,
        push: Push,
        requests: &mpsc::UnboundedSender<Request>,
    ) -> Result<PushId, NotRecorded> {
        let known = push.last.and_then(|last| self.inner.found.push_of(&push.repo, &last));
        let found = match known {
            Some(Known::Found(id)) => Some(id),
            _ => None,
        };
        let hint = push.clone();
        let id = self.inner.scheduler.act(move |turn| receive(turn, push, found)).await??;
        if found == Some(id) {
            let _ended = requests.send(Request::Lift(id, Box::new(hint)));
        }
        Ok(id)
    }

    /// Looks at a repository soon.
    pub fn touch(&self, repo: &str) {
        if let Some(handle) = self.workers().get(repo) {
            let _ended = handle.requests.send(Request::Look(None));
        }
    }

    /// Looks at every repository soon.
    pub fn touch_all(&self) {
        for handle in self.workers().values() {
            let _ended = handle.requests.send(Request::Look(None));
        }
    }

    /// From here on it is known which repositories there are.
    fn set_names(&self, names: Names) {
        *self.inner.names.write().unwrap_or_else(PoisonError::into_inner) = Some(names);
        for push in std::mem::take(&mut *self.early()) {
            self.plan(Box::new(push));
        }
    }

    fn early(&self) -> std::sync::MutexGuard<'_, Vec<Push>> {
        self.inner.early.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store is not what it was: every repository is compared with its own copy of what was
    /// taken in.
    pub fn store_lost(&self) {
        self.inner.store_lost.store(true, Ordering::Relaxed);
        for handle in self.workers().values() {
            let _ended = handle.requests.send(Request::Compare);
        }
    }

    /// The `.hg` folder of a served repository's source.
    pub fn folder(&self, repo: &str) -> Option<PathBuf> {
        Some(self.workers().get(repo)?.served.repository.source().join(".hg"))
    }

    /// Reads a push and plans its builds, as the engine asked for.
    pub fn plan(&self, push: Box<Push>) {
        let requests = self.workers().get(&push.repo).map(|handle| handle.requests.clone());
        let unserved = match requests {
            Some(requests) => match requests.send(Request::Plan(push)) {
                Ok(()) => return,
                Err(mpsc::error::SendError(Request::Plan(push))) => push,
                Err(_) => return,
            },
            None => push,
        };
        let names = self.inner.names.read().unwrap_or_else(PoisonError::into_inner);
        let Some(names) = &*names else {
            // The daemon is starting.
            return self.early().push(*unserved);
        };
        let (push, repo) = (unserved.id, &unserved.repo);
        self.inner.scheduler.tell(if names.has(repo) {
            let why = format!("the repository {repo:?} cannot be opened now");
            Event::PlanFailed { push, why }
        } else {
            let why = format!("the repository {repo:?} is no longer in the configuration");
            Event::Planned { push: Push { no_build: Some(why), ..*unserved }, builds: Vec::new() }
        });
    }

    /// A served repository, by its name or by the path of its root.
    pub fn served(&self, name_or_path: &str) -> Result<Arc<Served>, NotTaken> {
        if let Some(handle) = self.workers().get(name_or_path) {
            return Ok(handle.served.clone());
        }
        Ok(self.by_path(name_or_path)?.served)
    }

    /// Every served repository, in the order of names.
    pub fn all(&self) -> Vec<Arc<Served>> {
        self.workers().values().map(|handle| handle.served.clone()).collect()
    }

    fn by_path(&self, path: &str) -> Result<Handle, NotTaken> {
        let is_it = |handle: &&Handle| {
            let repository = &handle.served.repository;
            [repository.source(), repository.path()].contains(&std::path::Path::new(path))
        };
        let found = self.workers().values().find(is_it).cloned();
        found.ok_or_else(|| NotTaken::not_served(path))
    }

    fn workers(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Handle>> {
        self.inner.workers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn workers_mut(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Handle>> {
        self.inner.workers.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records a push once: by its transaction, also when it was found before its hook spoke.
fn receive(turn: &mut Turn, mut push: Push, found: Option<PushId>) -> Result<PushId, NotRecorded> {
    let txid = push.txid.clone().unwrap_or_default();
    if !txid.is_empty() {
        let known = turn.push_of(&push.repo, &txid);
        if let Some(known) = known.map_err(|error| NotRecorded(error.to_string()))? {
            return Ok(known);
        }
    }
    let repo = push.repo.clone();
    let id = match found {
        Some(id) => {
            late::amend(turn, id, &push)?;
            id
        }
        None => {
            push.id = turn.engine().next_push();
            let id = push.id;
            turn.step(Event::Received(push));
            id
        }
    };
    if !txid.is_empty() {
        turn.remember(&repo, &txid, id);
    }
    Ok(id)
}

/// A push as far as its hint tells.
fn blank(repo: &str, hint: &Hint, via: Via, user: Option<String>) -> Push {
    let pushvars = hint.pushvars.iter().take(Push::MAX_LISTED);
    // What a strip puts back others have pushed: whoever strips does not answer for it.
    let (first, last) = match hint.source == STRIP {
        true => (None, None),
        false => (hint.first.or(hint.last), hint.last.or(hint.first)),
    };
    Push {
        id: PushId(0),
        repo: repo.to_owned(),
        received: if via == Via::Spool { hint.time_ms } else { crate::clock::wall_ms() },
        via,
        txid: Some(hint.txid.clone()).filter(|txid| !txid.is_empty()),
        source: hint.source.clone(),
        user,
        url: Some(hint.url.clone()).filter(|url| !url.is_empty()),
        first,
        last,
        changesets: hint.changesets.unwrap_or(0),
        heads: Vec::new(),
        phases: Vec::new(),
        bookmarks: Vec::new(),
        markers: 0,
        pushvars: pushvars.map(|(name, value)| (name.clone(), value.clone())).collect(),
        no_build: None,
    }
}

fn check(hint: &Hint) -> Result<(), NotTaken> {
    let too_long = [&hint.txid, &hint.txnname, &hint.source, &hint.url]
        .into_iter()
        .any(|text| text.len() > 4096);
    if hint.v != hgci_api::PROTOCOL {
        return Err(NotTaken::Malformed(format!(
            "the hook speaks protocol {}, this daemon {}; install both from one release",
            hint.v,
            hgci_api::PROTOCOL
        )));
    }
    if too_long || hint.txid.len() > 200 {
        return Err(NotTaken::Malformed("a field of the hint is too long".into()));
    }
    Ok(())
}

fn hinted(push: Option<PushId>) -> Hinted {
    match push {
        Some(id) => {
            Hinted { push: Some(id.0), line: format!("push {id} recorded"), more: Vec::new() }
        }
        None => Hinted::default(),
    }
}
