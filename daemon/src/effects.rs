//! Where the engine's effects go: planning to intake, attempts to their pool, results to the
//! publisher, mail to the mailer. Nothing here waits.

use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError, RwLock};

use hgci_core::PushId;
use hgci_core::engine::{Effect, Event, Rows};
use tokio::sync::{OnceCell, mpsc};

use crate::hosts::Pools;
use crate::intake::Intake;
use crate::losses::Losses;
use crate::publish::Publish;
use crate::rebuild;
use crate::scheduler::{Done, Effects, Scheduler};

/// Why the store fails, while it does.
pub type StoreFailure = Arc<RwLock<Option<String>>>;

/// Hands effects on.
pub struct Router {
    /// Who wants to hear when something was done.
    pub scheduler: Scheduler,
    /// Reads pushes. It is there before the first effect can be one of its own.
    pub intake: Arc<OnceCell<Intake>>,
    /// Runs attempts.
    pub pools: Pools,
    /// Writes results logs.
    pub publisher: Sender<Publish>,
    /// Composes messages.
    pub mailer: mpsc::UnboundedSender<PushId>,
    /// Set while the store fails.
    pub failure: StoreFailure,
    /// Where it is said what was lost.
    pub losses: Arc<Losses>,
    /// This daemon's name in results logs.
    pub daemon: String,
}

impl Effects for Router {
    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Plan(push) => match self.intake.get() {
                Some(intake) => intake.plan(push),
                None => {
                    let why = "the daemon is starting".into();
                    self.scheduler.tell(Event::PlanFailed { push: push.id, why });
                }
            },
            Effect::Launch { attempt, pool, slot } => self.pools.launch(attempt, &pool, slot),
            Effect::Stop { attempt, pool, .. } => self.pools.stop(attempt, &pool),
            Effect::Kill { attempt, pool, .. } => self.pools.kill(attempt, &pool),
            Effect::Publish { repo, entries, publication } => {
                // A publisher that is gone means that the daemon is going: the rows stay.
                let _stopping =
                    self.publisher.send(Publish::Entries { repo, entries, publication });
            }
            Effect::Mail(push) => drop(self.mailer.send(push)),
        }
    }

    fn once_published(&mut self, done: Done) {
        let _stopping = self.publisher.send(Publish::Barrier(done));
    }

    fn store_fails(&mut self, why: Option<&str>) {
        *self.failure.write().unwrap_or_else(PoisonError::into_inner) = why.map(str::to_owned);
        if let (None, Some(intake)) = (why, self.intake.get()) {
            // Hooks were sent away meanwhile.
            intake.touch_all();
        }
    }

    fn say_lost(&mut self, what: String) {
        self.losses.say(what);
    }

    fn store_lost(&mut self, rows: &mut Rows) {
        let Some(intake) = self.intake.get() else { return };
        let ends = rebuild::refill(rows, &self.daemon, |repo| intake.folder(repo));
        tracing::warn!(ends, "what the store has in flight was compared with the results logs");
        intake.store_lost();
    }
}
