//! The task of one repository: collects what is asked of it, looks once for all of it, and records
//! what it found in one batch with the mark.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hgci_core::engine::{Amendment, Event, Trigger};
use hgci_core::push::{Lane, Push, Via};
use hgci_core::result::Entry;
use hgci_core::{BuildId, Node, PushId};
use hgci_repo::{Fate, ObsState, Repository};
use hgci_results::{Place, Reader as Results};
use tokio::sync::{mpsc, oneshot};

use super::found::Known;
use super::keeper::Keeper;
use super::look::{Looked, Pushes, Seen, Unreadable, look};
use super::planned::{Planned, Recorded, plan, plan_again};
use super::spool::{self, Drained};
use super::taken::{self, Made};
use super::{Intake, Served, late, marks, obsolete};
use crate::clock::wall_ms;
use crate::publish::Publish;
use crate::scheduler::{NotRecorded, Records};
use crate::store::StoreError;
use crate::troubles::What;

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
    /// A hint that names no changesets, or such as were told of before: record it as a push if
    /// something is there for it.
    Hinted {
        /// The push, without a number.
        push: Box<Push>,
        /// Told the number, or that there is none.
        done: Told,
    },
    /// A hook has spoken for changesets of a push that was found before: their work may be trusted
    /// after all.
    Lift(PushId, Box<Push>),
    /// Builds were made that somebody has asked for.
    Made(Vec<Made>),
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

/// So many looks in a row fail before what the machine may be to blame for counts as lasting.
const UNREAD: u32 = 3;

/// The task.
pub struct Worker {
    served: Arc<Served>,
    intake: Intake,
    /// As stored; `None` when it must be read.
    seen: Option<Option<Seen>>,
    /// What the repository's files were like at the last look that left nothing.
    quiet: Option<Fingerprint>,
    /// What no hook has spoken for.
    left: Option<Left>,
    /// Builds that the store may have lost, until they are planned again.
    lost: Option<Vec<Made>>,
    /// What to say once they are.
    lost_what: Option<String>,
    keeper: Keeper,
    /// When to try again what could not be taken in.
    again: Option<Instant>,
    /// How often in a row it could not. A look that leaves the rest to its hooks does not end the
    /// row: it is the rest that may be what fails.
    failures: u32,
    /// How many of these times the repository could not be read.
    unread: u32,
    planned: VecDeque<(PushId, Planned)>,
    curious: Vec<(PushId, oneshot::Sender<Planned>)>,
    /// What was said last of a look that failed.
    said: Option<String>,
}

/// Something that no hook has spoken for.
struct Left {
    since: Instant,
    /// Its first and its last changeset then.
    ends: Option<(Node, Node)>,
}

/// Who is told which push a hint has become, if any.
type Told = oneshot::Sender<Result<Option<PushId>, String>>;

type Fingerprint = Vec<Option<(u64, u64, i64, i64)>>;

/// What was collected for one look.
#[derive(Default)]
struct Wanted {
    plans: Vec<Push>,
    hinted: Vec<(Push, Teller)>,
    looks: Vec<oneshot::Sender<Result<(), String>>>,
    lifts: Vec<(PushId, Push)>,
    made: Vec<Made>,
}

/// How it is told what a hint has become.
enum Teller {
    /// Its hook waits.
    Hook(Told),
    /// It is in this file of the spool, until it is recorded.
    Spool(PathBuf),
}

impl Teller {
    fn tell(self, repo: &str, push: Result<Option<PushId>, String>) {
        match self {
            Teller::Hook(done) => drop(done.send(push)),
            Teller::Spool(path) if push.is_ok() => drop(spool::remove(repo, &path)),
            Teller::Spool(_) => {}
        }
    }
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
            left: None,
            lost: None,
            lost_what: None,
            keeper: Keeper::default(),
            again: None,
            failures: 0,
            unread: 0,
            planned: VecDeque::new(),
            curious: Vec::new(),
            said: None,
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
                    let troubles = &self.intake.inner.said.troubles;
                    troubles.clear(&self.served.policy.repo, What::Intake);
                    return;
                }
                Ok(Some(first)) => {
                    self.collect(first, &mut wanted);
                    while let Ok(more) = inbox.try_recv() {
                        self.collect(more, &mut wanted);
                    }
                }
                Err(_elapsed) => is_idle = self.again.is_none() && self.left.is_none(),
            }
            let mut spooled = Vec::new();
            let drained = spool::drain(&self.intake, &self.served, &mut spooled).await;
            wanted.hinted.extend(spooled.into_iter().map(|(p, path)| (p, Teller::Spool(path))));
            // What it held comes back at once, to be planned.
            while let Ok(more) = inbox.try_recv() {
                self.collect(more, &mut wanted);
            }
            for (push, hint) in std::mem::take(&mut wanted.lifts) {
                self.lift(push, hint).await;
            }
            if !wanted.made.is_empty() {
                let made = std::mem::take(&mut wanted.made);
                self.keeper.add(&self.served.policy.repo, self.hg(), made).await;
            }
            match drained {
                Drained::All => self.look(wanted, true).await,
                Drained::More => {
                    self.look(wanted, false).await;
                    self.again.get_or_insert_with(Instant::now);
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
        match (self.again, &self.left) {
            (Some(at), _) => at.saturating_duration_since(Instant::now()),
            (None, Some(left)) => self.patience().saturating_sub(left.since.elapsed()),
            (None, None) => self.intake.inner.settings.every,
        }
    }

    /// What can be done when nothing can: those who wait are told, and it is tried again soon.
    fn put_off(&mut self, wanted: Wanted, why: &str) {
        self.failed(why);
        let Wanted { plans, hinted, looks, .. } = wanted;
        self.plans_failed(&plans, why);
        let failed = || Err(why.to_owned());
        let repo = &self.served.policy.repo;
        hinted.into_iter().for_each(|(_, teller)| teller.tell(repo, failed().map(|()| None)));
        looks.into_iter().for_each(|done| drop(done.send(failed())));
    }

    /// Something could not be taken in.
    fn failed(&mut self, why: &str) {
        let troubles = &self.intake.inner.said.troubles;
        troubles.set(&self.served.policy.repo, What::Intake, why.to_owned());
        self.quiet = None;
        // Hooks may have been sent away meanwhile: they get their time to leave word.
        self.left = None;
        let pause = RETRY.saturating_mul(2_u32.saturating_pow(self.failures));
        let pause = pause.min(self.intake.inner.settings.every);
        self.again = Some(Instant::now() + pause);
        self.failures = self.failures.saturating_add(1);
    }

    /// All was taken in.
    fn went_well(&mut self) {
        self.intake.inner.said.troubles.clear(&self.served.policy.repo, What::Intake);
        (self.again, self.failures, self.unread) = (None, 0, 0);
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
            Request::Hinted { push, done } => wanted.hinted.push((*push, Teller::Hook(done))),
            Request::Made(made) => wanted.made.extend(made),
            Request::Lift(push, hint) => wanted.lifts.push((push, *hint)),
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
        let Wanted { mut plans, hinted, looks, .. } = wanted;
        let repo = self.served.policy.repo.clone();
        let hinted = self.not_yet_known(&repo, hinted).await;
        plans.sort_by_key(|push| push.id);
        plans.dedup_by_key(|push| push.id);
        let now = fingerprint(&self.served.repository);
        let nothing_new = self.quiet.as_ref() == Some(&now);
        if nothing_new && plans.is_empty() {
            self.went_well();
            let look = Publish::Look { repo: repo.clone() };
            let _stopping = self.intake.inner.said.publisher.send(look);
            hinted.into_iter().for_each(|(_, teller)| teller.tell(&repo, Ok(None)));
            looks.into_iter().for_each(|done| drop(done.send(Ok(()))));
            return;
        }
        let patience = self.patience();
        let overdue = |left: &&Left| spool_is_empty && left.since.elapsed() >= patience;
        let rest = self.left.as_ref().filter(overdue).map(|left| left.ends.map(|(_, last)| last));
        let (hints, tellers): (Vec<Push>, Vec<Teller>) = hinted.into_iter().unzip();
        let outcome = self.look_and_record(&plans, hints, rest).await;
        match &outcome {
            Ok(Taken { left: false, .. }) => {
                (self.quiet, self.left) = (Some(now), None);
                self.went_well();
            }
            Ok(Taken { ends, .. }) => {
                (self.quiet, self.again) = (None, None);
                // The time runs for what is there: another first one has a hook of its own.
                let first = |ends: Option<(Node, Node)>| ends.map(|(first, _)| first);
                self.left = self
                    .left
                    .take()
                    .filter(|left| rest.is_none() && first(left.ends) == first(*ends));
                self.left.get_or_insert(Left { since: Instant::now(), ends: *ends });
            }
            Err(why) => {
                self.failed(why);
                if self.said.as_ref() != Some(why) {
                    tracing::error!(repo, %why, "cannot take in what is new");
                }
                self.plans_failed(&plans, why);
            }
        }
        self.said = outcome.as_ref().err().cloned();
        let ids = outcome.as_ref().map_or(&[][..], |taken| &taken.hinted);
        let failed = outcome.as_ref().err().cloned();
        for (at, teller) in tellers.into_iter().enumerate() {
            let id = ids.get(at).copied().flatten();
            teller.tell(&repo, failed.clone().map_or(Ok(id), Err));
        }
        let outcome = outcome.map(drop);
        looks.into_iter().for_each(|done| drop(done.send(outcome.clone())));
    }

    /// Those hints whose transaction is no push yet. The others are told theirs.
    async fn not_yet_known(&self, repo: &str, hinted: Vec<(Push, Teller)>) -> Vec<(Push, Teller)> {
        let mut left = Vec::new();
        for (push, teller) in hinted {
            let (name, txid) = (repo.to_owned(), push.txid.clone().unwrap_or_default());
            let scheduler = &self.intake.inner.scheduler;
            let known = scheduler.ask(move |_, store| Records::push_of(store, &name, &txid)).await;
            match known {
                Ok(Ok(Some(id))) => teller.tell(repo, Ok(Some(id))),
                _ => left.push((push, teller)),
            }
        }
        left
    }

    /// `rest`: up to where what no hook has spoken for is taken in, if it is.
    async fn look_and_record(
        &mut self,
        plans: &[Push],
        hints: Vec<Push>,
        rest: Option<Option<Node>>,
    ) -> Result<Taken, String> {
        let inner = self.intake.inner.clone();
        if self.seen.is_none() {
            self.seen = Some(self.load().await?);
        }
        let mut lost = self.lost.clone();
        let (served, store) = (self.served.clone(), inner.store.clone());
        let (seen, plans) = (self.seen.clone().flatten(), plans.to_vec());
        let is_lasting = self.unread >= UNREAD;
        let looked = tokio::task::spawn_blocking(move || {
            if is_interrupted(&served.repository) {
                return Err(INTERRUPTED.to_owned());
            }
            let nobody = reconciled(&served.policy.repo);
            let results = Results::open(&Place::new(served.repository.source().join(".hg")));
            let results = results.ok().flatten();
            let built = |node: &Node| results.as_ref().is_some_and(|log| is_built(log, node));
            // What was asked for is lost where its own end is not there.
            if let (Some(log), Some(lost)) = (&results, &mut lost) {
                let is_open = |made: &Made| !has_end(log, made.node, made.build);
                lost.retain(|made| made.trigger == Trigger::Push || is_open(made));
            }
            let page = |number| marks::page(&store, &served.policy.repo, number);
            let looked = |unreadable| {
                let pushes = Pushes {
                    waiting: &plans,
                    hinted: &hints,
                    rest: rest.map(|last| (&nobody, last)),
                    again: lost.as_ref().map(|lost| (&nobody, lost.as_slice())),
                    unreadable,
                };
                served.repository.read(|reader| {
                    look(reader, &served.policy, seen.as_ref(), pushes, &built, wall_ms(), page)
                })
            };
            let looked = match looked(Unreadable::Fails) {
                // What may settle was read again and again.
                Err(error) if is_lasting || error.may_settle() => looked(Unreadable::Ends),
                looked => looked,
            };
            looked.map_err(|error| error.to_string())
        });
        let looked = looked.await.map_err(|error| error.to_string())?.inspect_err(|why| {
            // A transaction that is not over can be read, later.
            self.unread = self.unread.saturating_add(u32::from(why != INTERRUPTED));
        })?;
        let fates = match looked.marked.clone() {
            Some(since) => self.fates(since).await?,
            None => BTreeMap::new(),
        };
        self.record(looked, fates).await.map_err(|error| {
            // Whether it is durable is not known: read it again.
            self.seen = None;
            error.to_string()
        })
    }

    /// What has become of changesets with builds in flight that newer markers are about.
    async fn fates(&self, since: ObsState) -> Result<BTreeMap<Node, Fate>, String> {
        let repo = self.served.policy.repo.clone();
        let scheduler = &self.intake.inner.scheduler;
        let built = scheduler.ask(move |engine, _| obsolete::in_flight(engine, &repo)).await;
        let built = built.map_err(|error| error.to_string())?;
        if built.is_empty() {
            return Ok(BTreeMap::new());
        }
        let repository = self.served.repository.clone();
        let read = move || repository.read(|reader| reader.fates(&since, &built));
        let fates = tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())?;
        fates.map_err(|error| error.to_string())
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
            inner.said.losses.say(format!("{repo}: .hg/hgci/taken cannot be read: {error}"));
            None
        });
        let Some(taken) = taken else {
            if stored.is_none() && Place::new(self.hg()).log().exists() {
                inner.said.losses.say(format!(
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
        self.lost = Some(taken.builds);
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

    /// Records what a look came to, with the mark, in one batch. `fates`: of changesets that have
    /// become obsolete.
    async fn record(
        &mut self,
        looked: Looked,
        fates: BTreeMap<Node, Fate>,
    ) -> Result<Taken, NotRecorded> {
        let repo = self.served.policy.repo.clone();
        let inner = self.intake.inner.clone();
        let Looked { mut planned, hinted, rest, pages, seen, left, ends, found, again, .. } =
            looked;
        if planned.is_empty()
            && hinted.iter().all(Option::is_none)
            && rest.is_none()
            && again.is_none()
            && self.lost_what.is_none()
            && self.seen.as_ref() == Some(&Some(seen.clone()))
        {
            self.lost = None;
            return Ok(Taken { left, ends, hinted: Vec::new() });
        }
        // Between a hook's word and this look its changesets may have been taken for nobody's.
        let mut late = Vec::new();
        for (push, _) in planned.iter_mut().filter(|(push, _)| push.changesets == 0) {
            let known = push.last.and_then(|last| inner.found.push_of(&repo, &last));
            if let Some(Known::Found(id)) = known {
                push.no_build = Some(format!("its changesets were found before: push {id}"));
                late.push((id, push.clone()));
            }
        }
        let lifts = late.clone();
        let (name, next) = (repo.clone(), seen.clone());
        let recorded = inner.scheduler.act(move |turn| -> Result<_, NotRecorded> {
            let marks = marks::save(turn.store(), &name, &next, pages)
                .map_err(|error| NotRecorded(error.to_string()))?;
            turn.batch.append(marks);
            for (id, hint) in &late {
                late::amend(turn, *id, hint)?;
            }
            let superseded = obsolete::supersede(turn, &name, &fates);
            let mut plan = |(push, builds): (Push, _)| {
                let has_markers = push.markers > 0;
                plan(turn, push, builds).map(|mut recorded| {
                    recorded.planned.superseded = if has_markers { superseded } else { 0 };
                    recorded
                })
            };
            let planned: Vec<Recorded> =
                planned.into_iter().map(&mut plan).collect::<Result<_, _>>()?;
            let hinted = hinted.into_iter().map(|some| some.map(&mut plan).transpose());
            let hinted: Vec<Option<Recorded>> = hinted.collect::<Result<_, _>>()?;
            let rest = rest.map(&mut plan).transpose()?;
            let again = match again {
                Some((push, builds)) => plan_again(turn, push, builds)?,
                None => None,
            };
            Ok((planned, hinted, rest, again))
        });
        let (planned, hinted, rest, again) = recorded.await??;
        self.seen = Some(Some(seen));
        self.say_lost(again.as_ref());
        let ids = hinted.iter().map(|some| some.as_ref().map(|recorded| recorded.push)).collect();
        if let Some(rest) = &rest {
            inner.found.add(&repo, &found, Known::Found(rest.push));
        }
        let told = planned.into_iter().chain(hinted.into_iter().flatten());
        let told = told.inspect(|recorded| {
            inner.found.add(&repo, recorded.last.as_slice(), Known::Told(recorded.push));
        });
        let mut made = Vec::new();
        for Recorded { push, planned, made: builds, .. } in told.chain(rest).chain(again) {
            made.extend(builds);
            self.tell(push, planned);
        }
        self.keeper.add(&repo, self.hg(), made).await;
        for (push, hint) in lifts {
            self.lift(push, hint).await;
        }
        Ok(Taken { left, ends, hinted: ids })
    }

    /// Says what became of builds that the store had lost.
    fn say_lost(&mut self, again: Option<&Recorded>) {
        let what = self.lost_what.take();
        if self.lost.take().is_none() && what.is_none() {
            return;
        }
        let losses = &self.intake.inner.said.losses;
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

    /// Puts the work of a push that a late hook has spoken for into the trusted lane, where it
    /// belongs there.
    async fn lift(&self, id: PushId, hint: Push) {
        let scheduler = &self.intake.inner.scheduler;
        let built = scheduler.ask(move |engine, _| {
            let builds = engine.builds().filter(|row| row.push == id && row.lane == Lane::Try);
            builds.map(|row| row.node).collect::<BTreeSet<Node>>()
        });
        let Ok(built) = built.await else { return };
        let (repository, trusted) =
            (self.served.repository.clone(), self.served.policy.trusted.clone());
        let lifted = tokio::task::spawn_blocking(move || {
            repository.read(|reader| late::lifted(reader, &built, &hint, trusted.as_deref()))
        });
        // What cannot be read now stays in the try lane, which is the safe one.
        let Ok(Ok(lifted)) = lifted.await else { return };
        for trusted in lifted.chunks(Push::MAX_LISTED) {
            let amendment = Amendment { trusted: trusted.to_vec(), ..Amendment::default() };
            scheduler.tell(Event::Amended { push: id, amendment });
        }
    }
}

/// What a look took in.
#[derive(Clone, Debug)]
struct Taken {
    /// Something is there that no hook has spoken for.
    left: bool,
    /// Its first and its last changeset.
    ends: Option<(Node, Node)>,
    /// What became of the hints, in their order.
    hinted: Vec<Option<PushId>>,
}

/// Why nothing is taken in of a repository with half a transaction.
const INTERRUPTED: &str = "a transaction was interrupted and may still be undone: run `hg recover` \
     in the repository, as hg itself asks for";

/// Whether the repository has the journal of a transaction that nobody is going to close.
fn is_interrupted(repository: &Repository) -> bool {
    let journal = repository.store().join("journal");
    // Twice: one may end, and the next begin, between both looks.
    (0..2).all(|_| journal.exists() && !repository.is_locked())
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

/// Whether the results log has the end of this build or of a later one of the changeset.
fn has_end(log: &Results, node: Node, build: BuildId) -> bool {
    let is_it = |entry: &Entry| matches!(entry, Entry::Build(end) if end.build >= build);
    log.newest(&node).is_ok_and(|newest| newest.entries.iter().any(is_it))
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
