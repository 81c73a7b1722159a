//! From the outbox to the mail server, for as long as it takes.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lettre::address::Envelope;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use tokio::sync::{Notify, watch};

use super::compose::{Links, Message};
use super::outbox::{Outbox, Waiting};
use super::report::PushReport;
use crate::config::{Mail, Security};
use crate::store::{Store, StoreError};

type Transport = AsyncSmtpTransport<Tokio1Executor>;

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

/// Why a message was not sent.
enum Refusal {
    /// This message will never be taken.
    Forever(String),
    /// This message may be taken later; others may be taken now.
    Message(String),
    /// The server cannot be reached, or does not want us: no message will be taken now.
    Server(String),
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
        let mut settings = self.settings.clone();
        let mut failures = 0;
        let mut swept: Option<i64> = None;
        loop {
            let current = settings.borrow_and_update().clone();
            let wait = match current {
                // What waits stays until there is mail again.
                None => Duration::from_secs(86_400),
                Some((mail, links)) => match self.round(&mail, &links, &mut swept).await {
                    Ok(wait) => {
                        failures = 0;
                        wait
                    }
                    Err(why) => {
                        let wait = backoff(self.pace, failures);
                        failures += 1;
                        let seconds = wait.as_secs_f64();
                        tracing::warn!("mail waits, and is tried again in {seconds:.1} s: {why}");
                        // New mail does not make the server come back.
                        tokio::select! {
                            () = tokio::time::sleep(wait) => {}
                            changed = settings.changed() => if changed.is_err() { return },
                        }
                        continue;
                    }
                },
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.wake.notified() => {}
                changed = settings.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Sends all that is due. Returns how long there is nothing to do, or why none can be sent.
    async fn round(
        &self,
        mail: &Mail,
        links: &Links,
        swept: &mut Option<i64>,
    ) -> Result<Duration, String> {
        const DAY: i64 = 86_400_000;
        let now = now_ms();
        if swept.is_none_or(|swept| now - swept > DAY) {
            self.with_outbox(move |outbox| outbox.sweep(now)).await?;
            *swept = Some(now);
        }
        let (windows, here) = (mail.clone(), links.clone());
        let window =
            self.with_outbox(move |outbox| outbox.close_windows(&windows, &here, now)).await?;
        let mut transport = None;
        loop {
            let first = self.with_outbox(|outbox| outbox.first()).await?;
            let next = match first {
                Some(waiting) if waiting.due_ms <= now_ms() => {
                    if transport.is_none() {
                        transport = Some(connect(mail).await?);
                    }
                    if let Some(transport) = &transport {
                        self.send(mail, transport, waiting).await?;
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
        transport: &Transport,
        waiting: Waiting,
    ) -> Result<(), String> {
        let message = waiting.message();
        let (id, to) = (message.id.clone(), message.to.clone());
        let old = Duration::from_millis(u64::try_from(now_ms() - waiting.queued_ms()).unwrap_or(0));
        match transmit(transport, message).await {
            Ok(()) => {
                tracing::info!(%id, %to, "mail was sent");
                self.with_outbox(move |outbox| outbox.remove(&waiting)).await
            }
            Err(Refusal::Forever(why)) => {
                tracing::error!(%id, %to, "mail is refused and dropped: {why}");
                self.with_outbox(move |outbox| outbox.remove(&waiting)).await
            }
            Err(Refusal::Message(why) | Refusal::Server(why)) if old > mail.give_up => {
                tracing::error!(%id, %to, "mail is given up after {} s: {why}", old.as_secs());
                self.with_outbox(move |outbox| outbox.remove(&waiting)).await
            }
            Err(Refusal::Message(why)) => {
                let wait = backoff(self.pace, waiting.tries());
                tracing::warn!(%id, %to, "mail is put off by {} s: {why}", wait.as_secs());
                let due = now_ms() + i64::try_from(wait.as_millis()).unwrap_or(i64::MAX / 2);
                self.with_outbox(move |outbox| outbox.postpone(&waiting, due)).await
            }
            Err(Refusal::Server(why)) => Err(why),
        }
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

async fn transmit(transport: &Transport, message: Message) -> Result<(), Refusal> {
    let address = |text: &str| {
        text.parse::<Address>().map_err(|error| Refusal::Forever(format!("{text}: {error}")))
    };
    let envelope = Envelope::new(Some(address(&message.from)?), vec![address(&message.to)?])
        .map_err(|error| Refusal::Forever(error.to_string()))?;
    let error = match transport.send_raw(&envelope, &message.raw).await {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    let why = said(&error);
    Err(match error.status().map(|code| code.to_string()).as_deref() {
        // These are about a login or a session, which an administrator can mend: see RFC 4954.
        Some("421" | "454" | "502" | "503" | "530" | "534" | "535" | "538") => Refusal::Server(why),
        Some(_) if error.is_permanent() => Refusal::Forever(why),
        Some(_) => Refusal::Message(why),
        None => Refusal::Server(why),
    })
}

/// An error with what caused it.
fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}

async fn connect(mail: &Mail) -> Result<Transport, String> {
    let smtp = &mail.smtp;
    let mut builder = Transport::builder_dangerous(&smtp.host).port(smtp.port);
    if smtp.security != Security::None {
        let mut parameters = TlsParameters::builder(smtp.host.clone());
        if let Some(file) = &mail.ca_file {
            let pem = read(file).await?;
            let certificate = Certificate::from_pem(&pem)
                .map_err(|error| format!("{}: {}", file.display(), said(&error)))?;
            parameters = parameters.add_root_certificate(certificate);
        }
        let parameters = parameters.build().map_err(|error| said(&error))?;
        builder = builder.tls(match smtp.security {
            Security::Tls => Tls::Wrapper(parameters),
            _ => Tls::Required(parameters),
        });
    }
    if let Some(user) = &smtp.user {
        let password = match (&smtp.password, &smtp.password_file) {
            (Some(password), _) => password.0.clone(),
            (None, Some(file)) => {
                let text = String::from_utf8_lossy(&read(file).await?).into_owned();
                text.lines().next().unwrap_or_default().to_owned()
            }
            (None, None) => String::new(),
        };
        builder = builder.credentials(Credentials::new(user.clone(), password));
    }
    Ok(builder.timeout(Some(mail.timeout)).build())
}

async fn read(file: &std::path::Path) -> Result<Vec<u8>, String> {
    tokio::fs::read(file).await.map_err(|error| format!("read {}: {error}", file.display()))
}

fn backoff(pace: Pace, failures: u32) -> Duration {
    pace.first.saturating_mul(1 << failures.min(20)).min(pace.most)
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
