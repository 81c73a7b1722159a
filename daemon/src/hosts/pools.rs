//! All pools behind one door: launches and kills are carried out on a thread of their own, so that
//! the scheduler never waits for a process to start.

use std::sync::mpsc::{Receiver, Sender};

use hgci_core::AttemptKey;
use hgci_core::engine::Event;

use super::LocalPool;
use crate::scheduler::Scheduler;
use crate::token::Tokens;

enum Order {
    Launch(AttemptKey),
    Stop(AttemptKey),
    Kill(AttemptKey),
    Claimed(AttemptKey, String),
}

/// Where attempts run. Cheap to clone.
#[derive(Clone)]
pub struct Pools {
    orders: Sender<Order>,
}

impl Pools {
    /// Starts the thread. Every pool of this version is local.
    pub fn start(local: LocalPool, tokens: Tokens, scheduler: Scheduler) -> std::io::Result<Pools> {
        let (orders, inbox) = std::sync::mpsc::channel();
        std::thread::Builder::new()
            .name("pools".into())
            .spawn(move || carry_out(&inbox, &local, &tokens, &scheduler))?;
        Ok(Pools { orders })
    }

    /// Starts a runner for the attempt, unless it has one; or says `LaunchFailed`.
    pub fn launch(&self, attempt: AttemptKey, _pool: &str, _slot: u32) {
        let _stopping = self.orders.send(Order::Launch(attempt));
    }

    /// Has the runner of an attempt stop its job and say so, if it can be told.
    pub fn stop(&self, attempt: AttemptKey, _pool: &str) {
        let _stopping = self.orders.send(Order::Stop(attempt));
    }

    /// Ends what is left of an attempt; `HostGone` comes when nothing is.
    pub fn kill(&self, attempt: AttemptKey, _pool: &str) {
        let _stopping = self.orders.send(Order::Kill(attempt));
    }

    /// A runner has taken the attempt: what is left of it can be found by the runner's name.
    pub fn claimed(&self, attempt: AttemptKey, instance: &str) {
        let _stopping = self.orders.send(Order::Claimed(attempt, instance.to_owned()));
    }
}

fn carry_out(inbox: &Receiver<Order>, local: &LocalPool, tokens: &Tokens, scheduler: &Scheduler) {
    while let Ok(order) = inbox.recv() {
        match order {
            Order::Launch(attempt) => {
                if let Err(error) = local.launch(attempt, &tokens.of(attempt)) {
                    tracing::error!(%attempt, %error, "no runner was started");
                    let why = error.to_string();
                    scheduler.tell(Event::LaunchFailed { attempt, why });
                }
            }
            Order::Stop(attempt) => local.stop(attempt),
            Order::Kill(attempt) => local.kill(attempt),
            Order::Claimed(attempt, instance) => local.claimed(attempt, instance),
        }
    }
}
