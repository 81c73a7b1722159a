//! Messages in the store, each once.
//!
//! Keys in [`Tree::Outbox`]:
//! - `m`, when it is due, a number: a message that waits. u64s, big-endian, so that the first is
//!   the one that is due first.
//! - `d`, the hash of an address, the push: what is to be said of it at the end of a digest window.
//! - `s`, the hash of a message id or of recipient and push: it was taken. Kept for a week, since
//!   the engine asks again for what it does not know to be done.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use lettre::message::Mailbox;

use super::account::Account;
use super::compose::{self, Links, Message};
use super::people::{key, recipients};
use super::report::PushReport;
use crate::config::Mail;
use crate::store::{Batch, MAX_VALUE, Row, Scan, Store, StoreError, Tree};

/// How long it is remembered that something was taken, in milliseconds.
const REMEMBERED: i64 = 7 * 86_400_000;

/// The most pushes of one digest.
const MAX_DIGEST: usize = 500;

/// From so many bytes on a batch is committed, though it does not hold all recipients yet.
const MAX_BATCH: usize = 4 << 20;

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

/// What waits for others to be told with it.
#[derive(Serialize, Deserialize)]
struct Collected {
    to: String,
    due_ms: i64,
    account: Account,
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
                let message = compose::compose(&report, &mail.from, &to, links, now_ms);
                put_message(&mut batch, message, n, now_ms);
            } else {
                let window = i64::try_from(mail.digest.as_millis()).unwrap_or(i64::MAX);
                let mut row = digest_prefix(&key(&to));
                row.extend_from_slice(&report.push.to_be_bytes());
                row.extend_from_slice(report.repo.as_bytes());
                let collected = Collected {
                    due_ms: now_ms.saturating_add(window),
                    to: to.to_string(),
                    account: Account::of(&report),
                };
                put(&mut batch, row, serde_json::to_vec(&collected).map_err(|e| e.to_string()));
            }
            // Each recipient has a row that says so when they are done, so that all need not be
            // durable at once.
            let bytes = batch.changes().filter_map(|(_, _, value)| value.map(<[u8]>::len));
            if bytes.sum::<usize>() > MAX_BATCH {
                self.store.commit(&std::mem::take(&mut batch))?;
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
                    Ok(one) => collected.push(one),
                    Err(error) => tracing::error!(%error, "a part of a digest cannot be read"),
                }
                batch.delete(Tree::Outbox, key);
            }
            // The first report opened the window. With mail switched to no digests it is over.
            let due = collected.iter().map(|one| one.due_ms).min().unwrap_or(now_ms);
            if due > now_ms && !mail.digest.is_zero() {
                next = Some(next.map_or(due, |next| next.min(due)));
                // Behind all of this recipient: there may be more rows than were read.
                after = Some([prefix.as_slice(), &[0xff; 9]].concat());
                continue;
            }
            let to: Option<Mailbox> = collected.first().and_then(|one| one.to.parse().ok());
            collected.sort_by_key(|one| one.account.push);
            let accounts: Vec<Account> = collected.into_iter().map(|one| one.account).collect();
            if let (Some(to), false) = (to, accounts.is_empty()) {
                let message = compose::digest(accounts, &mail.from, &to, links, now_ms);
                put_message(&mut batch, message, n, now_ms);
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
        put_stored(&mut batch, due_ms, apart, &stored);
        self.store.commit(&batch)
    }

    /// How many messages wait, and how many parts of digests for the end of a window.
    pub fn len(&self) -> Result<usize, StoreError> {
        Ok(self.store.count(Tree::Outbox, b"m")? + self.store.count(Tree::Outbox, b"d")?)
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
}

fn put_message(
    batch: &mut Batch,
    message: Result<Message, lettre::error::Error>,
    n: usize,
    now_ms: i64,
) {
    match message {
        Ok(Message { id, to, from, raw }) => {
            let apart = [&(n as u32).to_be_bytes()[..], &hash(&[&id])].concat();
            let stored = Stored { id, to, from, queued_ms: now_ms, tries: 0, raw };
            put_stored(batch, now_ms, &apart, &stored);
        }
        Err(error) => tracing::error!(%error, "a message cannot be composed"),
    }
}

fn put_stored(batch: &mut Batch, due_ms: i64, apart: &[u8], stored: &Stored) {
    let key = [b"m".as_slice(), &due_ms.max(0).to_be_bytes(), apart].concat();
    put(batch, key, postcard::to_stdvec(stored).map_err(|error| error.to_string()));
}

/// What the store would not take must not keep the rest of the batch from it.
fn put(batch: &mut Batch, key: Vec<u8>, value: Result<Vec<u8>, String>) {
    match value {
        Ok(value) if value.len() <= MAX_VALUE => batch.put(Tree::Outbox, key, value),
        Ok(value) => tracing::error!(bytes = value.len(), "mail is dropped: it is too large"),
        Err(error) => tracing::error!(%error, "mail is dropped: it cannot be kept"),
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
