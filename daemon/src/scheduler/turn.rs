//! One turn of the loop, and what happens when the store fails under it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hgci_core::PushId;
use hgci_core::engine::{Effect, Engine, Event, Now, Reply, Rows};

use super::records::{RecordError, Records};
use super::{Inbox, Message, NotRecorded};
use crate::clock::Clock;
use crate::store::{Batch, Store, Tree};

/// The most actions of one turn: bounds the size of a batch and how long the first waits.
const MOST_ACTIONS: usize = 512;

/// The longest pause between two looks at the clock.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long after a failure the store is tried again.
const RETRY_STORE: Duration = Duration::from_secs(1);

/// Called with what became of a turn.
pub type Done = Box<dyn FnOnce(Result<(), NotRecorded>) + Send>;

/// Carries effects out. Called on the loop's thread, so it hands them on and returns.
pub trait Effects: Send {
    /// Carries one out. It was made durable before; it may be asked for again.
    fn carry_out(&mut self, effect: Effect);

    /// Calls `done` when all results of a repository that were published before are in its log,
    /// or with the reason why they are not.
    fn once_published(&mut self, repo: String, done: Done);

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
    /// In the results log of this repository, too.
    Published(String),
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

    /// Calls `done` when the turn is durable and what was published of a repository is in its
    /// results log.
    pub fn once_published(
        &mut self,
        repo: String,
        done: impl FnOnce(Result<(), NotRecorded>) + Send + 'static,
    ) {
        self.once.push((When::Published(repo), Box::new(done)));
    }
}

/// The loop's state.
pub struct Loop {
    store: Arc<Store>,
    engine: Engine,
    clock: Clock,
    effects: Box<dyn Effects>,
    /// How many turns the store has refused since it last took one.
    refused: u32,
    /// What the store has lost, and nobody was told yet.
    lost: Vec<String>,
}

impl Loop {
    /// A loop over a store and the engine that was restored from it.
    pub fn new(store: Arc<Store>, engine: Engine, clock: Clock, effects: Box<dyn Effects>) -> Loop {
        Loop { store, engine, clock, effects, refused: 0, lost: Vec::new() }
    }

    /// Starts it on a thread of its own.
    pub fn start(self, inbox: Inbox) -> std::io::Result<JoinHandle<()>> {
        let thread = std::thread::Builder::new().name("scheduler".into());
        thread.spawn(move || self.run(&inbox.0))
    }

    /// Runs until it is told to stop.
    fn run(mut self, inbox: &Receiver<Message>) {
        // Restoring has changes and effects of its own.
        let mut next = Some(Vec::new());
        while let Some(messages) = next {
            match self.turn(messages) {
                Ended::Well { go_on } => {
                    self.refused = 0;
                    next = if go_on { self.wait(inbox) } else { None };
                }
                Ended::Refused { why, told, go_on } => {
                    self.refused = self.refused.saturating_add(1);
                    // The engine is ahead of the store now: what it believes may not be durable.
                    next = if go_on { self.recover(&why, told, inbox) } else { None };
                }
            }
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
        let mut go_on = true;
        for message in messages {
            match message {
                Message::Act(act) => act(&mut turn),
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
        let written = match Records::add(&mut batch, self.engine.take_changes()) {
            Ok(()) => self.store.commit(&batch).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = written {
            let refusal = NotRecorded(why.clone());
            once.into_iter().for_each(|(_, done)| done(Err(refusal.clone())));
            return Ended::Refused { why, told, go_on };
        }
        let effects = self.engine.take_effects();
        effects.into_iter().for_each(|effect| self.effects.carry_out(effect));
        for (when, done) in once {
            match when {
                When::Durable => done(Ok(())),
                When::Published(repo) => self.effects.once_published(repo, done),
            }
        }
        questions.into_iter().for_each(|question| question(&self.engine, &self.store));
        Ended::Well { go_on }
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
            let until = Instant::now() + RETRY_STORE;
            while let Some(pause) = until.checked_duration_since(Instant::now()) {
                match inbox.recv_timeout(pause) {
                    Ok(event @ Message::Tell(_)) => told.push(event),
                    // Dropping it tells whoever waits for it.
                    Ok(Message::Act(_) | Message::Ask(_)) | Err(RecvTimeoutError::Timeout) => {}
                    Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return None,
                }
            }
        }
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
    /// It is durable.
    Well { go_on: bool },
    /// The store did not take it. What was told in it is to be told again.
    Refused { why: String, told: Vec<Event>, go_on: bool },
}
