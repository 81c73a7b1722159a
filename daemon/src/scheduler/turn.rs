//! One turn of the loop, and what happens when the store fails under it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hgci_core::PushId;
use hgci_core::engine::{Effect, Engine, Event, Now, Reply, Rows};
use tokio::sync::oneshot;

use super::records::{RecordError, Records};
use super::{Inbox, Message, NotRecorded, Renewal};
use crate::clock::Clock;
use crate::store::{Batch, Store, Tree};

/// The most actions of one turn: bounds the size of a batch and how long the first waits.
const MOST_ACTIONS: usize = 512;

/// The longest pause between two looks at the clock.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long after a failure the store is tried again.
const RETRY_STORE: Duration = Duration::from_secs(1);

/// The longest such pause, where turn after turn is refused.
const RETRY_MOST: Duration = Duration::from_secs(30);

/// After so long without a refused turn the next one is the first again. A turn that is taken in
/// between proves nothing: it may have been without the work that is refused.
const CALM: Duration = Duration::from_secs(120);

/// Called with what became of a turn.
pub type Done = Box<dyn FnOnce(Result<(), NotRecorded>) + Send>;

/// Carries effects out. Called on the loop's thread, so it hands them on and returns.
pub trait Effects: Send {
    /// Carries one out. It was made durable before; it may be asked for again.
    fn carry_out(&mut self, effect: Effect);

    /// Calls `done` when all results that were published before are in their logs, but for those
    /// whose log cannot be written now.
    fn once_published(&mut self, done: Done);

    /// The store fails, or works again (`None`).
    fn store_fails(&mut self, why: Option<&str>);

    /// The store was opened again and is not what it was. Gives `rows`, which are all that it has
    /// in flight, what is known better elsewhere.
    fn store_lost(&mut self, rows: &mut Rows);

    /// Something was lost.
    fn say_lost(&mut self, what: String);
}

/// What an action can see and do. Everything that it does becomes durable with its turn.
pub struct Turn<'a> {
    engine: &'a mut Engine,
    store: &'a Store,
    now: Now,
    once: Vec<(When, Done)>,
    /// Pushes of transactions that are in no batch yet, by repository and transaction.
    transactions: BTreeMap<(String, String), PushId>,
    /// Further records of the same batch.
    pub batch: Batch,
}

enum When {
    Durable,
    /// In the results log, too, unless that cannot be written.
    Published,
}

impl Turn<'_> {
    /// Feeds the engine.
    pub fn step(&mut self, event: Event) -> Reply {
        self.engine.step(self.now, event)
    }

    /// The engine, with what this turn did to it.
    pub fn engine(&self) -> &Engine {
        self.engine
    }

    /// The store, without what this turn does to it.
    pub fn store(&self) -> &Store {
        self.store
    }

    /// The push of a transaction, where there is one.
    pub fn push_of(&self, repo: &str, txid: &str) -> Result<Option<PushId>, RecordError> {
        match self.transactions.get(&(repo.to_owned(), txid.to_owned())) {
            Some(push) => Ok(Some(*push)),
            None => Records::push_of(self.store, repo, txid),
        }
    }

    /// Remembers which push a transaction is.
    pub fn remember(&mut self, repo: &str, txid: &str, push: PushId) {
        Records::remember(&mut self.batch, repo, txid, push);
        self.transactions.insert((repo.to_owned(), txid.to_owned()), push);
    }

    /// Calls `done` when the turn is durable, or when it was refused.
    pub fn once_durable(&mut self, done: impl FnOnce(Result<(), NotRecorded>) + Send + 'static) {
        self.once.push((When::Durable, Box::new(done)));
    }

    /// Calls `done` when the turn is durable and what was published is in the results logs, but for
    /// what waits for one that cannot be written.
    pub fn once_published(&mut self, done: impl FnOnce(Result<(), NotRecorded>) + Send + 'static) {
        self.once.push((When::Published, Box::new(done)));
    }
}

/// The loop's state.
pub struct Loop {
    store: Arc<Store>,
    engine: Engine,
    clock: Clock,
    effects: Box<dyn Effects>,
    /// How many turns were refused, each within [`CALM`] of the one before, and when the last was.
    refused: u32,
    refused_at: Option<Instant>,
    /// What was told in a turn that was too large for the store: each gets a turn of its own.
    apart: VecDeque<Event>,
    /// What the store has lost, and nobody was told yet.
    lost: Vec<String>,
}

impl Loop {
    /// A loop over a store and the engine that was restored from it.
    pub fn new(store: Arc<Store>, engine: Engine, clock: Clock, effects: Box<dyn Effects>) -> Loop {
        Loop {
            store,
            engine,
            clock,
            effects,
            refused: 0,
            refused_at: None,
            apart: VecDeque::new(),
            lost: Vec::new(),
        }
    }

    /// Starts it on a thread of its own.
    pub fn start(self, inbox: Inbox) -> std::io::Result<JoinHandle<()>> {
        let thread = std::thread::Builder::new().name("scheduler".into());
        thread.spawn(move || self.run(&inbox))
    }

    /// Runs until it is told to stop.
    fn run(mut self, inbox: &Inbox) {
        let Inbox { messages: inbox, changed, .. } = inbox;
        // Restoring has changes and effects of its own.
        let (mut next, mut is_apart) = (Some(Vec::new()), false);
        while let Some(messages) = next {
            let was_apart = std::mem::take(&mut is_apart);
            let Refused { why, told, go_on } = match self.turn(messages) {
                Ended::Well { go_on: false, .. } => break,
                Ended::Well { has_changed, .. } => {
                    if has_changed {
                        changed.send_replace(());
                    }
                    let apart = self.apart.pop_front();
                    is_apart = apart.is_some();
                    next = match apart {
                        Some(event) => Some(vec![Message::Tell(Box::new(event))]),
                        None => self.wait(inbox),
                    };
                    continue;
                }
                Ended::Refused(refused) => refused,
            };
            // The engine is ahead of the store now: what it believes may not be durable.
            let calm = self.refused_at.is_none_or(|at| at.elapsed() > CALM);
            self.refused = if calm { 1 } else { self.refused.saturating_add(1) };
            next = match go_on {
                true if why.is_too_large() => self.set_apart(&why, told, was_apart, inbox),
                true => self.recover(&why.to_string(), told, inbox),
                false => None,
            };
            self.refused_at = Some(Instant::now());
        }
    }

    /// A turn was more than the store takes, which is no fault of the store: who asked was told.
    /// What nobody repeats gets a turn of its own, and what is too large by itself is given up.
    fn set_apart(
        &mut self,
        why: &RecordError,
        told: Vec<Event>,
        was_apart: bool,
        inbox: &Receiver<Message>,
    ) -> Option<Vec<Message>> {
        tracing::error!(%why, "a turn was too large for the store, and is forgotten");
        if was_apart {
            for event in told {
                let event: String = format!("{event:?}").chars().take(200).collect();
                self.effects.say_lost(format!("what the store cannot take: {why}: {event}"));
            }
        } else {
            self.apart.extend(told);
        }
        // Whoever asks for the same again at once is not to keep the daemon busy with it.
        let mut later = Vec::new();
        if self.refused > 1 && !self.pause(&mut later, inbox) {
            return None;
        }
        match self.reload() {
            Ok(()) => Some(later),
            Err(error) => self.recover(&error.to_string(), events_of(later), inbox),
        }
    }

    /// What has come in, or nothing when it is time for the engine to look at the clock.
    fn wait(&self, inbox: &Receiver<Message>) -> Option<Vec<Message>> {
        let now = self.clock.now();
        let pause = match self.engine.next_wake() {
            Some(at) => Duration::from_millis(at.saturating_sub(now.mono)).min(LONGEST_PAUSE),
            None => LONGEST_PAUSE,
        };
        match inbox.recv_timeout(pause) {
            Ok(first) => {
                let rest = inbox.try_iter().take(MOST_ACTIONS - 1);
                Some(std::iter::once(first).chain(rest).collect())
            }
            Err(RecvTimeoutError::Timeout) => Some(Vec::new()),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// One turn.
    fn turn(&mut self, messages: Vec<Message>) -> Ended {
        let mut turn = Turn {
            now: self.clock.now(),
            engine: &mut self.engine,
            store: &self.store,
            once: Vec::new(),
            transactions: BTreeMap::new(),
            batch: Batch::new(),
        };
        let mut told = Vec::new();
        let mut questions = Vec::new();
        let mut renewed = Vec::new();
        let mut go_on = true;
        for message in messages {
            match message {
                Message::Act(act) => act(&mut turn),
                Message::Renew(renewal) => {
                    let Renewal { attempt, instance, answer } = *renewal;
                    renewed.push((turn.step(Event::Renewed { attempt, instance }), answer));
                }
                Message::Tell(event) => {
                    told.push((*event).clone());
                    turn.step(*event);
                }
                Message::Ask(question) => questions.push(question),
                Message::Stop => go_on = false,
            }
        }
        // Last, so that a renewal that came in time counts even when the loop was slow.
        if turn.engine.next_wake().is_some_and(|at| at <= turn.now.mono) {
            turn.step(Event::Tick);
        }
        let Turn { once, mut batch, .. } = turn;
        let changes = self.engine.take_changes();
        let has_changed = !changes.is_empty();
        let written = match Records::add(&mut batch, changes) {
            Ok(()) => self.store.commit(&batch).map_err(RecordError::from),
            Err(error) => Err(error),
        };
        if let Err(why) = written {
            let refusal = NotRecorded(why.to_string());
            once.into_iter().for_each(|(_, done)| done(Err(refusal.clone())));
            renewed.into_iter().for_each(|(reply, to)| answer_undurable(reply, to));
            return Ended::Refused(Refused { why, told, go_on });
        }
        renewed.into_iter().for_each(|(reply, to)| drop(to.send(Ok(reply))));
        let effects = self.engine.take_effects();
        effects.into_iter().for_each(|effect| self.effects.carry_out(effect));
        for (when, done) in once {
            match when {
                When::Durable => done(Ok(())),
                When::Published => self.effects.once_published(done),
            }
        }
        questions.into_iter().for_each(|question| question(&self.engine, &self.store));
        Ended::Well { go_on, has_changed }
    }

    /// Makes the engine anew from what is durable. Tried until it works, or until the loop is told
    /// to stop: there is nothing that the daemon could do without its store. Callers are sent away
    /// meanwhile; hooks have their spool, and runners try again. Returns what the next turn begins
    /// with: what was told and is not durable.
    fn recover(
        &mut self,
        why: &str,
        told: Vec<Event>,
        inbox: &Receiver<Message>,
    ) -> Option<Vec<Message>> {
        tracing::error!(%why, "the store refused a batch; nothing is taken until it works again");
        self.effects.store_fails(Some(why));
        let since = Instant::now();
        let mut told: Vec<Message> =
            told.into_iter().map(|event| Message::Tell(Box::new(event))).collect();
        // A store that opens and then refuses what is to be written first is no better at once.
        let mut wait = self.refused > 1;
        loop {
            if !std::mem::take(&mut wait) {
                match self.reload() {
                    Ok(()) => {
                        self.effects.store_fails(None);
                        tracing::info!(after = ?since.elapsed(), "the store works again");
                        return Some(told);
                    }
                    Err(error) => self.effects.store_fails(Some(&error.to_string())),
                }
            }
            if !self.pause(&mut told, inbox) {
                return None;
            }
        }
    }

    /// Waits before the store is tried again: the longer, the more turns it has refused. Renewals
    /// are answered meanwhile, and `told` gets what must not be lost. `false`: it is time to stop.
    fn pause(&mut self, told: &mut Vec<Message>, inbox: &Receiver<Message>) -> bool {
        let factor = 1 << self.refused.saturating_sub(2).min(10);
        let until = Instant::now() + (RETRY_STORE * factor).min(RETRY_MOST);
        while let Some(pause) = until.checked_duration_since(Instant::now()) {
            match inbox.recv_timeout(pause) {
                Ok(event @ Message::Tell(_)) => told.push(event),
                Ok(Message::Renew(renewal)) => {
                    let Renewal { attempt, instance, answer } = *renewal;
                    let renewed = Event::Renewed { attempt, instance };
                    answer_undurable(self.engine.step(self.clock.now(), renewed), answer);
                }
                // Dropping it tells whoever waits for it.
                Ok(Message::Act(_) | Message::Ask(_)) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        true
    }

    fn reload(&mut self) -> Result<(), RecordError> {
        if self.store.is_closed() {
            let report = self.store.reopen()?;
            if report.lost_something() {
                self.lost.extend(report.lines());
            } else {
                report.lines().iter().for_each(|line| tracing::error!("{line}"));
            }
        }
        let mut probe = Batch::new();
        probe.put(Tree::Meta, *b"probe", []);
        self.store.commit(&probe)?;
        let (mut rows, unreadable) = Records::load(&self.store)?;
        self.lost.extend(unreadable);
        if !self.lost.is_empty() {
            self.lost.drain(..).for_each(|what| self.effects.say_lost(what));
            self.effects.store_lost(&mut rows);
        }
        let config = self.engine.config().clone();
        // No number goes back, though what used it may not be durable.
        let least = self.engine.meta();
        let (restraint, now) = (self.engine.restraint(), self.clock.now());
        let restored = Engine::restore_under(restraint, config, rows, least, now);
        restored.lost.into_iter().for_each(|what| self.effects.say_lost(format!("lost: {what}")));
        let tally = self.engine.tally();
        self.engine = restored.engine;
        self.engine.count_on(tally);
        Ok(())
    }
}

/// How a turn ended.
enum Ended {
    /// It is durable, and something in it was new.
    Well { go_on: bool, has_changed: bool },
    /// The store did not take it.
    Refused(Refused),
}

/// A turn that the store did not take, and what was told in it, which is to be told again.
struct Refused {
    why: RecordError,
    told: Vec<Event>,
    go_on: bool,
}

/// Answers a renewal from an engine that is ahead of the store. A lease says nothing that could be
/// forgotten: after a restart every one gets a full term. All else may not be durable.
fn answer_undurable(reply: Reply, answer: oneshot::Sender<Result<Reply, NotRecorded>>) {
    let lives = matches!(reply, Reply::Lease { cancel: false, .. });
    drop(answer.send(if lives { Ok(reply) } else { Err(NotRecorded("the store fails".into())) }));
}

fn events_of(messages: Vec<Message>) -> Vec<Event> {
    let events = messages.into_iter().filter_map(|message| match message {
        Message::Tell(event) => Some(*event),
        _ => None,
    });
    events.collect()
}
