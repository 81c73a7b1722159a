//! The task of one repository: collects what is asked of it, looks once for all of it, and records
//! what it found in one batch with the mark.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hgci_core::engine::{Amendment, Event};
use hgci_core::push::{Lane, Push, Via};
use hgci_core::result::Entry;
use hgci_core::{Node, PushId};
use hgci_repo::Repository;
use hgci_results::{Place, Reader as Results};
use tokio::sync::{mpsc, oneshot};

use super::keeper::Keeper;
use super::look::{Looked, Pushes, Seen, look};
use super::planned::{Planned, Recorded, plan, plan_again};
use super::spool::{self, Drained};
use super::taken;
use super::{Intake, Served, amendment, marks, pusher};
use crate::clock::wall_ms;
use crate::scheduler::NotRecorded;
use crate::store::StoreError;

/// How many plans are remembered for hooks that want to tell of them.
const REMEMBERED: usize = 64;

/// What is asked of a worker.
pub enum Request {
    /// The configuration has changed.
    Serve(Arc<Served>),
    /// Look, and say what went wrong.
    Look(Option<oneshot::Sender<Result<(), String>>>),
    /// The store is not what it was: compare it with the repository's own copy.
    Compare,
    /// Read a push and plan its builds.
    Plan(Box<Push>),
    /// A hint without changesets: record it as a push if something moved.
    Hinted {
        /// The push, without a number.
        push: Box<Push>,
        /// Told the number, or that there is none.
        done: Told,
    },
    /// A hook has spoken for a push that was found before: its work may be trusted after all.
    Lift(PushId),
    /// Tell when the push is planned.
    WhenPlanned {
        /// The push.
        push: PushId,
        /// Told what was planned.
        done: oneshot::Sender<Planned>,
    },
}

/// The first pause after something could not be taken in; it doubles up to the time between looks.
const RETRY: Duration = Duration::from_secs(1);

/// The task.
pub struct Worker {
    served: Arc<Served>,
    intake: Intake,
    /// As stored; `None` when it must be read.
    seen: Option<Option<Seen>>,
    /// What the repository's files were like at the last look that left nothing.
    quiet: Option<Fingerprint>,
    /// Since when there is something that no hook has spoken for.
    left_since: Option<Instant>,
    /// Changesets of builds that the store may have lost, until they are planned again.
    lost: Option<Vec<Node>>,
    /// What to say once they are.
    lost_what: Option<String>,
    keeper: Keeper,
    /// After a failure: when to try again, and the pause that led there.
    again: Option<(Instant, Duration)>,
    planned: VecDeque<(PushId, Planned)>,
    curious: Vec<(PushId, oneshot::Sender<Planned>)>,
}

/// Who is told which push a hint has become, if any.
type Told = oneshot::Sender<Result<Option<PushId>, String>>;

type Fingerprint = Vec<Option<(u64, u64, i64, i64)>>;

/// What was collected for one look.
#[derive(Default)]
struct Wanted {
    plans: Vec<Push>,
    hinted: Vec<(Push, Told)>,
    looks: Vec<oneshot::Sender<Result<(), String>>>,
    lifts: Vec<PushId>,
}

impl Worker {
    /// Starts the task. It ends when the sender is dropped.
    pub fn start(served: Arc<Served>, intake: Intake) -> mpsc::UnboundedSender<Request> {
        let (requests, inbox) = mpsc::unbounded_channel();
        let worker = Worker {
            served,
            intake,
            seen: None,
            quiet: None,
            left_since: None,
            lost: None,
            lost_what: None,
            keeper: Keeper::default(),
            again: None,
            planned: VecDeque::new(),
            curious: Vec::new(),
        };
        tokio::spawn(worker.run(inbox));
        requests
    }

    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Request>) {
        loop {
            let mut wanted = Wanted::default();
            let pause = self.pause();
            let mut is_idle = false;
            match tokio::time::timeout(pause, inbox.recv()).await {
                Ok(None) => {
                    spool::leave(&self.served);
                    return;
                }
                Ok(Some(first)) => {
                    self.collect(first, &mut wanted);
                    while let Ok(more) = inbox.try_recv() {
                        self.collect(more, &mut wanted);
                    }
                }
                Err(_elapsed) => is_idle = self.again.is_none() && self.left_since.is_none(),
            }
            let drained = spool::drain(&self.intake, &self.served).await;
            // What it held comes back at once, to be planned.
            while let Ok(more) = inbox.try_recv() {
                self.collect(more, &mut wanted);
            }
            for push in std::mem::take(&mut wanted.lifts) {
                self.lift(push).await;
            }
            match drained {
                Drained::All => self.look(wanted, true).await,
                Drained::More => {
                    self.look(wanted, false).await;
                    self.again.get_or_insert_with(|| (Instant::now(), RETRY));
                }
                // A look now would give what the spool tells of to nobody.
                Drained::Waits(why) => self.put_off(wanted, &why),
            }
            if let Some(Some(seen)) = &self.seen
                && self.keeper.is_due(is_idle)
            {
                let (repo, hg) = (&self.served.policy.repo, self.hg());
                let scheduler = &self.intake.inner.scheduler;
                self.keeper.write(scheduler, repo, hg, seen.clone()).await;
            }
        }
    }

    /// The `.hg` folder with results, spool and copy.
    fn hg(&self) -> PathBuf {
        self.served.repository.source().join(".hg")
    }

    fn pause(&self) -> Duration {
        match (self.again, self.left_since) {
            (Some((at, _)), _) => at.saturating_duration_since(Instant::now()),
            (None, Some(since)) => self.patience().saturating_sub(since.elapsed()),
            (None, None) => self.intake.inner.settings.every,
        }
    }

    /// What can be done when nothing can: those who wait are told, and it is tried again soon.
    fn put_off(&mut self, wanted: Wanted, why: &str) {
        self.failed();
        let Wanted { plans, hinted, looks, .. } = wanted;
        self.plans_failed(&plans, why);
        let failed = || Err(why.to_owned());
        hinted.into_iter().for_each(|(_, done)| drop(done.send(failed().map(|()| None))));
        looks.into_iter().for_each(|done| drop(done.send(failed())));
    }

    /// Something could not be taken in.
    fn failed(&mut self) {
        self.quiet = None;
        // Hooks may have been sent away meanwhile: they get their time to leave word.
        self.left_since = None;
        let pause = self.again.map_or(RETRY, |(_, pause)| pause * 2);
        let pause = pause.min(self.intake.inner.settings.every);
        self.again = Some((Instant::now() + pause, pause));
    }

    fn plans_failed(&self, plans: &[Push], why: &str) {
        for push in plans {
            let event = Event::PlanFailed { push: push.id, why: why.to_owned() };
            self.intake.inner.scheduler.tell(event);
        }
    }

    /// How long a hook may take to speak for what is there.
    fn patience(&self) -> Duration {
        2 * self.intake.inner.settings.deadline
    }

    fn collect(&mut self, request: Request, wanted: &mut Wanted) {
        match request {
            Request::Serve(served) => {
                self.served = served;
                self.quiet = None;
            }
            Request::Look(done) => wanted.looks.extend(done),
            Request::Compare => (self.seen, self.quiet, self.lost) = (None, None, None),
            Request::Plan(push) => wanted.plans.push(*push),
            Request::Hinted { push, done } => wanted.hinted.push((*push, done)),
            Request::Lift(push) => wanted.lifts.push(push),
            Request::WhenPlanned { push, done } => {
                match self.planned.iter().find(|(id, _)| *id == push) {
                    Some((_, planned)) => drop(done.send(planned.clone())),
                    None => self.curious.push((push, done)),
                }
                self.curious.retain(|(_, done)| !done.is_closed());
            }
        }
    }

    /// One look for all that is wanted. `spool_is_empty`: what no push has is nobody's.
    async fn look(&mut self, wanted: Wanted, spool_is_empty: bool) {
        let Wanted { mut plans, mut hinted, looks, .. } = wanted;
        plans.sort_by_key(|push| push.id);
        plans.dedup_by_key(|push| push.id);
        let now = fingerprint(&self.served.repository);
        let nothing_new = self.quiet.as_ref() == Some(&now);
        if nothing_new && plans.is_empty() {
            self.again = None;
            hinted.into_iter().for_each(|(_, done)| drop(done.send(Ok(None))));
            looks.into_iter().for_each(|done| drop(done.send(Ok(()))));
            return;
        }
        let moved = (!hinted.is_empty()).then(|| hinted.remove(0));
        let impatient = spool_is_empty
            && self.left_since.is_some_and(|since| since.elapsed() >= self.patience());
        let outcome =
            self.look_and_record(&plans, moved.as_ref().map(|(push, _)| push), impatient).await;
        match &outcome {
            Ok(Taken { left: false, .. }) => {
                (self.quiet, self.left_since, self.again) = (Some(now), None, None);
            }
            Ok(_) => {
                (self.quiet, self.again) = (None, None);
                self.left_since.get_or_insert_with(Instant::now);
            }
            Err(why) => {
                self.failed();
                tracing::error!(repo = self.served.policy.repo, %why, "cannot take in what is new");
                self.plans_failed(&plans, why);
            }
        }
        let moved_as = outcome.as_ref().map(|taken| taken.moved).map_err(Clone::clone);
        if let Some((_, done)) = moved {
            let _hook_left = done.send(moved_as.clone());
        }
        // What moved was told to the first of them; the others have nothing of their own.
        let others = moved_as.map(|_| None);
        hinted.into_iter().for_each(|(_, done)| drop(done.send(others.clone())));
        let outcome = outcome.map(drop);
        looks.into_iter().for_each(|done| drop(done.send(outcome.clone())));
    }

    async fn look_and_record(
        &mut self,
        plans: &[Push],
        moved: Option<&Push>,
        impatient: bool,
    ) -> Result<Taken, String> {
        let inner = self.intake.inner.clone();
        if self.seen.is_none() {
            self.seen = Some(self.load().await?);
        }
        let lost = self.lost.clone();
        let (served, store) = (self.served.clone(), inner.store.clone());
        let (seen, plans, moved) = (self.seen.clone().flatten(), plans.to_vec(), moved.cloned());
        let looked = tokio::task::spawn_blocking(move || {
            let rest = reconciled(&served.policy.repo);
            let results = Results::open(&Place::new(served.repository.source().join(".hg")));
            let results = results.ok().flatten();
            let built = |node: &Node| results.as_ref().is_some_and(|log| is_built(log, node));
            served.repository.read(|reader| {
                let pushes = Pushes {
                    waiting: &plans,
                    moved: moved.as_ref(),
                    rest: impatient.then_some(&rest),
                    again: lost.as_ref().map(|nodes| (&rest, nodes.as_slice())),
                };
                let page = |number| marks::page(&store, &served.policy.repo, number);
                look(reader, &served.policy, seen.as_ref(), pushes, &built, wall_ms(), page)
            })
        });
        let looked = looked.await.map_err(|error| error.to_string())?;
        let looked = looked.map_err(|error| error.to_string())?;
        self.record(looked).await.map_err(|error| {
            // Whether it is durable is not known: read it again.
            self.seen = None;
            error.to_string()
        })
    }

    /// What was seen, as it is stored; where the store has lost it, as the repository's own copy
    /// has it.
    async fn load(&mut self) -> Result<Option<Seen>, String> {
        let (inner, repo) = (self.intake.inner.clone(), self.served.policy.repo.clone());
        let stored = match marks::load(&inner.store, &repo) {
            Err(StoreError::Damaged { .. }) => None,
            loaded => loaded.map_err(|error| error.to_string())?,
        };
        if stored.is_some() && !inner.store_lost.load(Ordering::Relaxed) {
            return Ok(stored);
        }
        let hg = self.hg();
        let taken = tokio::task::spawn_blocking(move || taken::read(&hg)).await;
        let taken = taken.map_err(|error| error.to_string())?.unwrap_or_else(|error| {
            inner.losses.say(format!("{repo}: .hg/hgci/taken cannot be read: {error}"));
            None
        });
        let Some(taken) = taken else {
            if stored.is_none() && Place::new(self.hg()).log().exists() {
                inner.losses.say(format!(
                    "{repo}: what had been taken in is known nowhere; all that is there is taken as \
                     seen, and gets no build"
                ));
            }
            return Ok(stored);
        };
        if taken.damaged > 0 {
            let count = taken.damaged;
            tracing::error!(repo, count, "lines of .hg/hgci/taken are damaged and left out");
        }
        self.lost = Some(taken.builds.iter().map(|made| made.node).collect());
        if stored.is_some() {
            return Ok(stored);
        }
        self.lost_what = Some(match taken.seen {
            Some(_) => {
                format!("{repo}: taken up from its own copy; what came since is taken in again")
            }
            None => format!(
                "{repo}: its own copy of what had been taken in is damaged; all that is there is \
                 taken as seen"
            ),
        });
        Ok(taken.seen)
    }

    /// Records what a look came to, with the mark, in one batch.
    async fn record(&mut self, looked: Looked) -> Result<Taken, NotRecorded> {
        let repo = self.served.policy.repo.clone();
        let inner = self.intake.inner.clone();
        let Looked { planned, pages, seen, left, found, again } = looked;
        if planned.is_empty()
            && again.is_none()
            && self.lost_what.is_none()
            && self.seen.as_ref() == Some(&Some(seen.clone()))
        {
            self.lost = None;
            return Ok(Taken { left, moved: None });
        }
        let (name, next) = (repo.clone(), seen.clone());
        let recorded = inner.scheduler.act(move |turn| -> Result<_, NotRecorded> {
            let marks = marks::save(turn.store(), &name, &next, pages)
                .map_err(|error| NotRecorded(error.to_string()))?;
            turn.batch.append(marks);
            let planned = planned.into_iter().map(|(push, builds)| plan(turn, push, builds));
            let planned: Vec<Recorded> = planned.collect::<Result<_, _>>()?;
            let again = match again {
                Some((push, builds)) => plan_again(turn, push, builds)?,
                None => None,
            };
            Ok((planned, again))
        });
        let (mut recorded, again) = recorded.await??;
        self.seen = Some(Some(seen));
        self.say_lost(again.as_ref());
        recorded.extend(again);
        let (mut made, mut moved) = (Vec::new(), None);
        for Recorded { push, via, planned, made: builds } in recorded {
            made.extend(builds);
            if via == Via::Reconcile {
                inner.found.add(&repo, &found, push);
            } else if planned.builds == 0 {
                moved = Some(push);
            }
            self.tell(push, planned);
        }
        self.keeper.add(&repo, self.hg(), made).await;
        Ok(Taken { left, moved })
    }

    /// Says what became of builds that the store had lost.
    fn say_lost(&mut self, again: Option<&Recorded>) {
        let what = self.lost_what.take();
        if self.lost.take().is_none() && what.is_none() {
            return;
        }
        let losses = &self.intake.inner.losses;
        if let Some(what) = what {
            losses.say(what);
        }
        if let Some(Recorded { push, planned: Planned { builds, .. }, .. }) = again {
            let repo = &self.served.policy.repo;
            losses.say(format!(
                "{repo}: builds that had not ended were lost: {builds} are made anew, as push {push}"
            ));
        }
    }

    fn tell(&mut self, push: PushId, planned: Planned) {
        let curious = std::mem::take(&mut self.curious);
        for (id, done) in curious {
            if id == push {
                let _hook_left = done.send(planned.clone());
            } else {
                self.curious.push((id, done));
            }
        }
        self.planned.push_back((push, planned));
        if self.planned.len() > REMEMBERED {
            self.planned.pop_front();
        }
    }

    /// Puts the work of a push into the trusted lane where it belongs there, now that its pusher
    /// is known.
    async fn lift(&self, id: PushId) {
        let scheduler = &self.intake.inner.scheduler;
        let push =
            scheduler.ask(move |engine, _| engine.push(id).map(|row| row.push.clone())).await;
        let Ok(Some(push)) = push else { return };
        let (repository, heads) = (self.served.repository.clone(), push.heads.clone());
        let (user, trusted) = (push.user.clone(), self.served.policy.trusted.clone());
        let lifted = tokio::task::spawn_blocking(move || {
            repository.read(|reader| {
                let mut lifted = Vec::new();
                for node in &heads {
                    let phase = reader.phase(node)?;
                    if pusher::lane(phase, user.as_deref(), trusted.as_deref()) == Lane::Trusted {
                        lifted.push(*node);
                    }
                }
                Ok(lifted)
            })
        });
        // What cannot be read now stays in the try lane, which is the safe one.
        let Ok(Ok(trusted)) = lifted.await else { return };
        if !trusted.is_empty() {
            let amendment = Amendment { trusted, ..amendment(&push) };
            scheduler.tell(Event::Amended { push: id, amendment });
        }
    }
}

/// What a look took in.
#[derive(Clone, Copy, Debug)]
struct Taken {
    /// Something is there that no hook has spoken for.
    left: bool,
    /// The push of what moved.
    moved: Option<PushId>,
}

/// The record of a push that no hook has told of.
fn reconciled(repo: &str) -> Push {
    let hint = hgci_api::hook::Hint::default();
    super::blank(repo, &hint, Via::Reconcile, None)
}

/// Whether the results log has the end of a build of the changeset. A damaged log hides some: then
/// the store's history still knows.
fn is_built(log: &Results, node: &Node) -> bool {
    let found = log.find(node);
    found.is_ok_and(|found| {
        found.records.iter().any(|record| matches!(record.entry, Some(Entry::Build(_))))
    })
}

/// What changes about a repository's files when something comes in.
fn fingerprint(repository: &Repository) -> Fingerprint {
    use std::os::unix::fs::MetadataExt as _;
    let (store, hg) = (repository.store(), repository.source().join(".hg"));
    let files = [
        store.join("00changelog.i"),
        store.join("phaseroots"),
        store.join("obsstore"),
        store.join("bookmarks"),
        hg.join("bookmarks"),
        hg.join("hgci/spool"),
    ];
    let of = |path: &std::path::PathBuf| {
        let meta = std::fs::metadata(path).ok()?;
        Some((
            meta.ino(),
            meta.len(),
            meta.mtime_nsec() + meta.mtime() * 1_000_000_000,
            meta.ctime_nsec(),
        ))
    };
    files.iter().map(of).collect()
}
