//! From the outbox to the mail server, for as long as it takes.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, watch};

use super::compose::Links;
use super::connection::{Refusal, Server};
use super::outbox::{Outbox, Waiting};
use super::report::PushReport;
use crate::config::Mail;
use crate::store::{Store, StoreError};

/// At so many messages one after the other the server breaks off before it is taken to be its own
/// fault, and nothing more is sent for a while.
const MAX_BROKEN: u32 = 3;

/// How soon what failed is tried again.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// After the first failure; it doubles with each.
    pub first: Duration,
    /// The most that it becomes.
    pub most: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { first: Duration::from_secs(5), most: Duration::from_secs(300) }
    }
}

/// What mail needs to know; `None` while `[mail]` is off.
pub type Settings = Option<(Mail, Links)>;

/// Takes reports and sends messages.
#[derive(Clone)]
pub struct Mailer {
    store: Arc<Store>,
    settings: watch::Receiver<Settings>,
    wake: Arc<Notify>,
    pace: Pace,
}

/// What the mailer knows from one round to the next.
struct Course {
    settings: watch::Receiver<Settings>,
    /// When the outbox was swept.
    swept: Option<i64>,
    /// Rounds that were broken off since a message was sent.
    failures: u32,
    /// Messages at which the server broke off since one was sent.
    broken: u32,
}

impl Mailer {
    /// A mailer over a store. Nothing is sent before [`Mailer::run`].
    pub fn new(store: Arc<Store>, settings: watch::Receiver<Settings>, pace: Pace) -> Mailer {
        Mailer { store, settings, wake: Arc::new(Notify::new()), pace }
    }

    /// Takes a push whose builds are final: what is to be sent is durable when this returns, and
    /// a push that was taken before is not taken again. Waits for the disk.
    ///
    /// # Errors
    ///
    /// Fails when the store does. It is to be called again then.
    pub fn take(&self, report: &PushReport) -> Result<(), StoreError> {
        let settings = self.settings.borrow().clone();
        if let Some((mail, links)) = settings {
            Outbox::new(&self.store).take(&mail, &links, report, now_ms())?;
            self.wake.notify_one();
        }
        Ok(())
    }

    /// How many messages and reports wait.
    ///
    /// # Errors
    ///
    /// Fails when the store does.
    pub fn waiting(&self) -> Result<usize, StoreError> {
        Outbox::new(&self.store).len()
    }

    /// Sends what is due, for ever. It may be dropped at any moment: a message that is being sent
    /// then may be sent again, with the same id.
    pub async fn run(self) {
        let settings = self.settings.clone();
        let mut course = Course { settings, swept: None, failures: 0, broken: 0 };
        loop {
            let current = course.settings.borrow_and_update().clone();
            let wait = match current {
                // What waits stays until there is mail again.
                None => Duration::from_secs(86_400),
                Some((mail, links)) => match self.round(&mail, &links, &mut course).await {
                    Ok(wait) => wait,
                    Err(why) => {
                        let wait = backoff(self.pace, course.failures);
                        (course.failures, course.broken) = (course.failures + 1, 0);
                        let seconds = wait.as_secs_f64();
                        tracing::warn!("mail waits, and is tried again in {seconds:.1} s: {why}");
                        // New mail does not make the server come back.
                        tokio::select! {
                            () = tokio::time::sleep(wait) => {}
                            changed = course.settings.changed() => {
                                if changed.is_err() { return }
                            }
                        }
                        continue;
                    }
                },
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.wake.notified() => {}
                changed = course.settings.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Sends all that is due, or what can be before the settings change. Returns how long there is
    /// nothing to do, or why none can be sent.
    async fn round(
        &self,
        mail: &Mail,
        links: &Links,
        course: &mut Course,
    ) -> Result<Duration, String> {
        const DAY: i64 = 86_400_000;
        let now = now_ms();
        if course.swept.is_none_or(|swept| now - swept > DAY) {
            self.with_outbox(move |outbox| outbox.sweep(now)).await?;
            course.swept = Some(now);
        }
        let (windows, here) = (mail.clone(), links.clone());
        let window =
            self.with_outbox(move |outbox| outbox.close_windows(&windows, &here, now)).await?;
        let mut server = None;
        loop {
            if course.settings.has_changed().unwrap_or(false) {
                return Ok(Duration::ZERO);
            }
            let first = self.with_outbox(|outbox| outbox.first()).await?;
            let next = match first {
                Some(waiting) if waiting.due_ms <= now_ms() => {
                    if server.is_none() {
                        server = Some(Server::of(mail).await?);
                    }
                    if let Some(server) = &server {
                        self.send(mail, server, waiting, course).await?;
                    }
                    continue;
                }
                Some(waiting) => Some(waiting.due_ms),
                None => None,
            };
            let due = [next, window].into_iter().flatten().min().unwrap_or(now_ms() + DAY);
            let wait = u64::try_from(due - now_ms()).unwrap_or(0).clamp(10, DAY as u64);
            return Ok(Duration::from_millis(wait));
        }
    }

    /// Sends one message, and writes down what came of it.
    async fn send(
        &self,
        mail: &Mail,
        server: &Server,
        waiting: Waiting,
        course: &mut Course,
    ) -> Result<(), String> {
        let message = waiting.message();
        let (id, to) = (message.id.clone(), message.to.clone());
        let old = Duration::from_millis(u64::try_from(now_ms() - waiting.queued_ms()).unwrap_or(0));
        // Other settings may name another server: the answers of this one are waited for only
        // where it may have the message already.
        let begun = tokio::select! {
            begun = server.begin(&message) => begun,
            Ok(()) = course.settings.changed() => {
                course.settings.mark_changed();
                return Ok(());
            }
        };
        let (sent, connection) = match begun {
            Ok(mut connection) => (connection.finish(&message).await, Some(connection)),
            Err(refusal) => (Err(refusal), None),
        };
        let result = match sent {
            Ok(()) => {
                tracing::info!(%id, %to, "mail was sent");
                (course.failures, course.broken) = (0, 0);
                self.with_outbox(move |outbox| outbox.remove(&waiting)).await
            }
            Err(Refusal::Forever(why)) => {
                tracing::error!(%id, %to, "mail is refused and dropped: {why}");
                self.with_outbox(move |outbox| outbox.remove(&waiting)).await
            }
            Err(Refusal::Message(why) | Refusal::Broken(why) | Refusal::Server(why))
                if old > mail.give_up =>
            {
                tracing::error!(%id, %to, "mail is given up after {} s: {why}", old.as_secs());
                self.with_outbox(move |outbox| outbox.remove(&waiting)).await
            }
            Err(Refusal::Message(why)) => self.put_off(waiting, &why).await,
            Err(Refusal::Broken(why)) => {
                course.broken += 1;
                self.put_off(waiting, &why).await?;
                if course.broken < MAX_BROKEN { Ok(()) } else { Err(why) }
            }
            Err(Refusal::Server(why)) => Err(why),
        };
        // What came of it is written down by now: the server may take its time.
        if let Some(connection) = connection {
            connection.close().await;
        }
        result
    }

    /// Lets others go before it.
    async fn put_off(&self, waiting: Waiting, why: &str) -> Result<(), String> {
        let message = waiting.message();
        let wait = backoff(self.pace, waiting.tries());
        let (id, to, seconds) = (message.id, message.to, wait.as_secs_f64());
        tracing::warn!(%id, %to, "mail is put off by {seconds:.1} s: {why}");
        let due = now_ms() + i64::try_from(wait.as_millis()).unwrap_or(i64::MAX / 2);
        self.with_outbox(move |outbox| outbox.postpone(&waiting, due)).await
    }

    /// Calls the outbox where waiting for the disk harms nobody.
    async fn with_outbox<T: Send + 'static>(
        &self,
        call: impl FnOnce(Outbox<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, String> {
        let store = self.store.clone();
        match tokio::task::spawn_blocking(move || call(Outbox::new(&store))).await {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn backoff(pace: Pace, failures: u32) -> Duration {
    pace.first.saturating_mul(1 << failures.min(20)).min(pace.most)
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
