//! Messages in the store, each once.
//!
//! Keys in [`Tree::Outbox`]:
//! - `m`, when it is due, a number: a message that waits. u64s, big-endian, so that the first is
//!   the one that is due first.
//! - `d`, the hash of an address, the push: a report that waits for the end of a digest window.
//! - `s`, the hash of a message id or of recipient and push: it was taken. Kept for a week, since
//!   the engine asks again for what it does not know to be done.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use lettre::message::Mailbox;

use super::compose::{self, Links, Message};
use super::people::{key, recipients};
use super::report::PushReport;
use crate::config::Mail;
use crate::store::{Batch, Row, Scan, Store, StoreError, Tree};

/// How long it is remembered that something was taken, in milliseconds.
const REMEMBERED: i64 = 7 * 86_400_000;

/// The most reports of one digest.
const MAX_DIGEST: usize = 500;

/// The messages in a store.
#[derive(Clone, Copy)]
pub struct Outbox<'s> {
    store: &'s Store,
}

/// A message that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    key: Vec<u8>,
    /// When it is to be tried: milliseconds since 1970.
    pub due_ms: i64,
    stored: Stored,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    id: String,
    to: String,
    from: String,
    queued_ms: i64,
    tries: u32,
    raw: Vec<u8>,
}

/// A report that waits for others.
#[derive(Serialize, Deserialize)]
struct Collected {
    to: String,
    due_ms: i64,
    report: PushReport,
}

impl Waiting {
    /// The message.
    pub fn message(&self) -> Message {
        let Stored { id, to, from, raw, .. } = self.stored.clone();
        Message { id, to, from, raw }
    }

    /// When it was put into the outbox.
    pub fn queued_ms(&self) -> i64 {
        self.stored.queued_ms
    }

    /// How often it was tried.
    pub fn tries(&self) -> u32 {
        self.stored.tries
    }
}

impl<'s> Outbox<'s> {
    /// The outbox of a store.
    pub fn new(store: &'s Store) -> Outbox<'s> {
        Outbox { store }
    }

    /// Takes a push whose builds are final: everything that is to be sent about it is durable
    /// when this returns. A push that was taken before is not taken again.
    pub fn take(
        &self,
        mail: &Mail,
        links: &Links,
        report: &PushReport,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        for (n, (to, report)) in recipients(mail, report).into_iter().enumerate() {
            let seen = seen_key(&[&key(&to), &report.repo, &report.push.to_string()]);
            if self.store.get(Tree::Outbox, &seen)?.is_some() {
                continue;
            }
            batch.put(Tree::Outbox, seen, now_ms.to_be_bytes());
            if mail.digest.is_zero() {
                self.put(
                    &mut batch,
                    compose::compose(&report, &mail.from, &to, links, now_ms),
                    n,
                    now_ms,
                );
            } else {
                let window = i64::try_from(mail.digest.as_millis()).unwrap_or(i64::MAX);
                let collected =
                    Collected { due_ms: now_ms.saturating_add(window), to: to.to_string(), report };
                let mut key = digest_prefix(&key(&to));
                key.extend_from_slice(&collected.report.push.to_be_bytes());
                key.extend_from_slice(collected.report.repo.as_bytes());
                if let Ok(value) = serde_json::to_vec(&collected) {
                    batch.put(Tree::Outbox, key, value);
                }
            }
        }
        self.store.commit(&batch)
    }

    /// Turns the digests whose window is over into messages; says when the next one will be.
    pub fn close_windows(
        &self,
        mail: &Mail,
        links: &Links,
        now_ms: i64,
    ) -> Result<Option<i64>, StoreError> {
        let mut next: Option<i64> = None;
        let mut after: Option<Vec<u8>> = None;
        let mut n = 0;
        // One recipient at a time: all rows with the same hash.
        loop {
            let scan = Scan { prefix: b"d", after: after.as_deref(), backwards: false };
            let Some(first) = self.store.scan(Tree::Outbox, scan, 1)?.pop() else {
                return Ok(next);
            };
            let prefix = first.key[..first.key.len().min(DIGEST_PREFIX)].to_vec();
            let scan = Scan { prefix: &prefix, ..Scan::default() };
            let rows = self.store.scan(Tree::Outbox, scan, MAX_DIGEST)?;
            after = rows.last().map(|row| row.key.clone());
            let mut collected = Vec::new();
            let mut batch = Batch::new();
            for Row { key, value, .. } in rows {
                match serde_json::from_slice::<Collected>(&value) {
                    Ok(report) => collected.push(report),
                    Err(error) => tracing::error!(%error, "a report in the outbox cannot be read"),
                }
                batch.delete(Tree::Outbox, key);
            }
            // The first report opened the window. With mail switched to no digests it is over.
            let due = collected.iter().map(|one| one.due_ms).min().unwrap_or(now_ms);
            if due > now_ms && !mail.digest.is_zero() {
                next = Some(next.map_or(due, |next| next.min(due)));
                continue;
            }
            let to: Option<Mailbox> = collected.first().and_then(|one| one.to.parse().ok());
            collected.sort_by_key(|one| one.report.push);
            let reports: Vec<PushReport> = collected.into_iter().map(|one| one.report).collect();
            if let (Some(to), false) = (to, reports.is_empty()) {
                let message = compose::digest(&reports, &mail.from, &to, links, now_ms);
                self.put(&mut batch, message, n, now_ms);
                n += 1;
            }
            self.store.commit(&batch)?;
        }
    }

    /// The message that is due first, whether it is due yet or not.
    pub fn first(&self) -> Result<Option<Waiting>, StoreError> {
        loop {
            let scan = Scan { prefix: b"m", ..Scan::default() };
            let Some(row) = self.store.scan(Tree::Outbox, scan, 1)?.pop() else { return Ok(None) };
            let mut due = [0; 8];
            let stored = postcard::from_bytes::<Stored>(&row.value);
            if let (Some(bytes), Ok(stored)) = (row.key.get(1..9), stored) {
                due.copy_from_slice(bytes);
                return Ok(Some(Waiting { due_ms: i64::from_be_bytes(due), key: row.key, stored }));
            }
            tracing::error!(key = %row.key.escape_ascii(), "a message in the outbox cannot be read");
            let mut batch = Batch::new();
            batch.delete(Tree::Outbox, row.key);
            self.store.commit(&batch)?;
        }
    }

    /// The message was sent, or given up.
    pub fn remove(&self, waiting: &Waiting) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.delete(Tree::Outbox, waiting.key.clone());
        self.store.commit(&batch)
    }

    /// The message could not be sent: it is tried again later.
    pub fn postpone(&self, waiting: &Waiting, due_ms: i64) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.delete(Tree::Outbox, waiting.key.clone());
        let stored =
            Stored { tries: waiting.stored.tries.saturating_add(1), ..waiting.stored.clone() };
        // The end of the key keeps it apart from others that are due then.
        let apart = waiting.key.get(9..).unwrap_or_default();
        put(&mut batch, due_ms, apart, &stored);
        self.store.commit(&batch)
    }

    /// How many messages wait, and how many reports for the end of a window.
    pub fn len(&self) -> Result<usize, StoreError> {
        let mut n = 0;
        for prefix in [b"m", b"d"] {
            self.store.visit(Tree::Outbox, Scan { prefix, ..Scan::default() }, |_| {
                n += 1;
                true
            })?;
        }
        Ok(n)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(self.len()? == 0)
    }

    /// Forgets what was taken long ago.
    pub fn sweep(&self, now_ms: i64) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        self.store.visit(Tree::Outbox, Scan { prefix: b"s", ..Scan::default() }, |row| {
            let taken = row.value.try_into().map_or(0, i64::from_be_bytes);
            if taken < now_ms.saturating_sub(REMEMBERED) {
                batch.delete(Tree::Outbox, row.key);
            }
            batch.len() < 10_000
        })?;
        self.store.commit(&batch)
    }

    fn put(
        &self,
        batch: &mut Batch,
        message: Result<Message, lettre::error::Error>,
        n: usize,
        now_ms: i64,
    ) {
        match message {
            Ok(Message { id, to, from, raw }) => {
                let apart = [&(n as u32).to_be_bytes()[..], &hash(&[&id])].concat();
                let stored = Stored { id, to, from, queued_ms: now_ms, tries: 0, raw };
                put(batch, now_ms, &apart, &stored);
            }
            Err(error) => tracing::error!(%error, "a message cannot be composed"),
        }
    }
}

fn put(batch: &mut Batch, due_ms: i64, apart: &[u8], stored: &Stored) {
    let key = [b"m".as_slice(), &due_ms.max(0).to_be_bytes(), apart].concat();
    match postcard::to_stdvec(stored) {
        Ok(value) => batch.put(Tree::Outbox, key, value),
        Err(error) => tracing::error!(%error, "a message cannot be kept"),
    }
}

const DIGEST_PREFIX: usize = 13;

fn digest_prefix(recipient: &str) -> Vec<u8> {
    [b"d".as_slice(), &hash(&[recipient])].concat()
}

fn seen_key(parts: &[&str]) -> Vec<u8> {
    [b"s".as_slice(), &hash(parts)].concat()
}

fn hash(parts: &[&str]) -> [u8; DIGEST_PREFIX - 1] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut short = [0; DIGEST_PREFIX - 1];
    short.copy_from_slice(&hash.finalize()[..DIGEST_PREFIX - 1]);
    short
}
