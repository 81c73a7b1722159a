//! The one loop that feeds the engine: events in, one durable batch, effects out.
//!
//! It is a thread of its own, and the store is its alone. Each turn takes all actions that wait,
//! steps the engine through them, writes what changed as one batch, and only when that is durable
//! lets effects and replies go. So there is one order of events, no lock, and nobody hears of what
//! could be forgotten.

mod history;
mod records;
mod turn;

use std::sync::mpsc;

use hgci_core::engine::{Engine, Event, Reply};
use hgci_core::{AttemptKey, BuildId};
use tokio::sync::{oneshot, watch};

use crate::store::Store;

pub use history::{Old, Part, Published, Slice, published};
pub use records::{ArchivedBuild, RecordError, Records};
pub use turn::{Done, Effects, Loop, Turn};

/// The store would not take it, or the daemon is stopping. The same may be sent again: a batch
/// that was refused may be durable all the same, and the engine takes nothing twice.
#[derive(Clone, Debug, thiserror::Error)]
#[error("not recorded, try again: {0}")]
pub struct NotRecorded(pub String);

type Act = Box<dyn FnOnce(&mut Turn) + Send>;
type Question = Box<dyn FnOnce(&Engine, &Store) + Send>;

/// What the loop takes.
enum Message {
    /// Something to do within a turn. Who asked waits for an answer, and asks again without.
    Act(Act),
    /// A runner's renewal, which is answered even while the store fails.
    Renew(Box<Renewal>),
    /// An event that nobody waits for. It must not be lost while the store fails: nobody would
    /// tell it again.
    Tell(Box<Event>),
    /// A question, answered from what is durable.
    Ask(Question),
    /// The end, after what was sent before.
    Stop,
}

/// A runner says that it lives.
struct Renewal {
    attempt: AttemptKey,
    instance: String,
    answer: oneshot::Sender<Result<Reply, NotRecorded>>,
}

/// Where events go and questions are asked. Cheap to clone.
#[derive(Clone)]
pub struct Scheduler {
    messages: mpsc::Sender<Message>,
    alive: watch::Receiver<()>,
    changes: watch::Receiver<()>,
}

/// Where the loop takes from. It is dropped when the loop's thread ends, however that comes.
pub struct Inbox {
    messages: mpsc::Receiver<Message>,
    _alive: watch::Sender<()>,
    changed: watch::Sender<()>,
}

impl Scheduler {
    /// A scheduler whose loop takes from the inbox, once [`Loop::start`]ed.
    pub fn new() -> (Scheduler, Inbox) {
        let (to_loop, messages) = mpsc::channel();
        let (ends, alive) = watch::channel(());
        let (changed, changes) = watch::channel(());
        let inbox = Inbox { messages, _alive: ends, changed };
        (Scheduler { messages: to_loop, alive, changes }, inbox)
    }

    /// Returns when the loop has ended.
    pub async fn ended(&self) {
        let mut alive = self.alive.clone();
        while alive.changed().await.is_ok() {}
    }

    /// Changes whenever something that was durable has changed.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.clone()
    }

    /// Tells the engine, and returns its reply once that is durable.
    pub async fn event(&self, event: Event) -> Result<Reply, NotRecorded> {
        self.act(move |turn| turn.step(event)).await
    }

    /// Renews the lease of an attempt. While the store fails this is answered from what the engine
    /// believes, since nothing of it is stored: jobs that run are not to end for want of a disk.
    pub async fn renew(&self, attempt: AttemptKey, instance: String) -> Result<Reply, NotRecorded> {
        let (answer, given) = oneshot::channel();
        self.send(Message::Renew(Box::new(Renewal { attempt, instance, answer })));
        given.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Does something within a turn, and returns what it gave once its turn is durable.
    pub async fn act<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Turn) -> T + Send + 'static,
    ) -> Result<T, NotRecorded> {
        let (answer, given) = oneshot::channel();
        self.send(Message::Act(Box::new(move |turn| {
            let value = act(turn);
            turn.once_durable(move |outcome| drop(answer.send(outcome.map(|()| value))));
        })));
        given.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Like [`Scheduler::event`] for an event about a build, and what was published up to it is
    /// durable in the results log of that build's repository.
    pub async fn event_published(
        &self,
        build: BuildId,
        event: Event,
    ) -> Result<Reply, NotRecorded> {
        let (answer, given) = oneshot::channel();
        self.send(Message::Act(Box::new(move |turn| {
            let repo = turn.engine().build(build).map(|row| row.repo.clone());
            let reply = turn.step(event);
            let done = move |outcome: Result<(), _>| drop(answer.send(outcome.map(|()| reply)));
            match repo {
                Some(repo) => turn.once_published(repo, done),
                // It is over: its end was published before it left.
                None => turn.once_durable(done),
            }
        })));
        given.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Tells the engine; nobody waits for the reply. What is told while the store fails is told
    /// when it works again.
    pub fn tell(&self, event: Event) {
        self.send(Message::Tell(Box::new(event)));
    }

    /// Does something within a turn that nobody waits for, and that may be forgotten when the store
    /// refuses it.
    pub fn also(&self, act: impl FnOnce(&mut Turn) + Send + 'static) {
        self.send(Message::Act(Box::new(act)));
    }

    /// Looks at what is durable.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Engine, &Store) -> T + Send + 'static,
    ) -> Result<T, NotRecorded> {
        let (answer, given) = oneshot::channel();
        self.send(Message::Ask(Box::new(move |engine, store| {
            drop(answer.send(question(engine, store)));
        })));
        given.await.map_err(|_| stopping())
    }

    /// Ends the loop after what was sent before.
    pub fn stop(&self) {
        self.send(Message::Stop);
    }

    fn send(&self, message: Message) {
        // After the loop has ended, senders find their answer's channel closed.
        let _stopped = self.messages.send(message);
    }
}

fn stopping() -> NotRecorded {
    NotRecorded("the store fails, or the daemon is stopping".into())
}
