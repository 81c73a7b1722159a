//! Reading what is over: pages of pushes and builds, the newest first; and what of it is old.
//!
//! Readers look on threads of their own, and not through the loop, which hooks wait for. What is in
//! flight must be looked at before: a build goes from there to the history, and never back.

use hgci_core::engine::{BuildRow, JobRow, PushRow};
use hgci_core::result::Entry;
use hgci_core::{BuildId, Node, PushId};

use serde::de::DeserializeOwned;

use super::records::{
    ArchivedBuild, RecordError, Records, by_repo, forget, one, push_key, transaction_key,
};
use crate::store::{Batch, Scan, Store, Tree};

/// Some of a list, and whether there may be more behind it.
#[derive(Clone, Debug)]
pub struct Slice<T> {
    /// What was found, the newest first.
    pub rows: Vec<T>,
    /// The number at which looking has ended before the end was reached.
    pub stopped_at: Option<u64>,
}

impl<T> Slice<T> {
    /// The same of something else.
    pub fn map<U>(self, of: impl FnMut(T) -> U) -> Slice<U> {
        let Slice { rows, stopped_at } = self;
        Slice { rows: rows.into_iter().map(of).collect(), stopped_at }
    }
}

/// Which part of a list is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Only numbers below this one.
    pub below: u64,
    /// The most that is returned.
    pub limit: usize,
    /// The most that is looked at.
    pub looks: usize,
}

impl Records {
    /// A push that is over.
    pub fn push(store: &Store, id: PushId) -> Result<Option<PushRow>, RecordError> {
        one(store, Tree::PushHistory, &push_key(id))
    }

    /// Pushes that are over: those of one repository, or those that are wanted.
    pub fn pushes(
        store: &Store,
        repo: Option<&str>,
        part: Part,
        wanted: impl Fn(&PushRow) -> bool,
    ) -> Result<Slice<PushRow>, RecordError> {
        let read = |id| Records::push(store, PushId(id));
        match repo {
            Some(repo) => {
                let prefix = by_repo(repo, 0);
                let prefix = &prefix[..prefix.len() - 8];
                page(store, Tree::PushesByRepo, prefix, part, read, |_| true)
            }
            None => page(store, Tree::PushHistory, &[], part, read, wanted),
        }
    }

    /// Builds that are over: those of one repository, or those that are wanted.
    pub fn builds(
        store: &Store,
        repo: Option<&str>,
        part: Part,
        wanted: impl Fn(&ArchivedBuild) -> bool,
    ) -> Result<Slice<ArchivedBuild>, RecordError> {
        let read = |id| Records::build(store, BuildId(id));
        match repo {
            Some(repo) => {
                let prefix = by_repo(repo, 0);
                let prefix = &prefix[..prefix.len() - 8];
                page(store, Tree::BuildsByRepo, prefix, part, read, |_| true)
            }
            None => page(store, Tree::BuildHistory, &[], part, read, wanted),
        }
    }

    /// Builds of a changeset that are over and wanted.
    pub fn builds_of(
        store: &Store,
        node: &Node,
        part: Part,
        wanted: impl Fn(&ArchivedBuild) -> bool,
    ) -> Result<Slice<ArchivedBuild>, RecordError> {
        let read = |id| Records::build(store, BuildId(id));
        page(store, Tree::BuildsByNode, &node.0, part, read, wanted)
    }
}

/// A part of what a results log has to have.
#[derive(Debug, Default)]
pub struct Published {
    /// In the order in which they are in a log: of each build the jobs, and then its end.
    pub entries: Vec<Entry>,
    /// The number after which to go on; `None` where nothing follows.
    pub next: Option<u64>,
}

/// What of a build and its jobs is in the results log.
pub fn published(build: &BuildRow, jobs: &[JobRow]) -> Vec<Entry> {
    let ended = jobs.iter().filter(|job| job.published).filter_map(|job| job.result(build));
    let end = build.result(jobs.len()).filter(|_| build.published);
    ended.map(Entry::Job).chain(end.map(Entry::Build)).collect()
}

impl Records {
    /// What was published of builds of a repository that are over, of `most` with numbers above
    /// `after`.
    pub fn published(
        store: &Store,
        repo: &str,
        after: u64,
        most: usize,
    ) -> Result<Published, RecordError> {
        let key = by_repo(repo, after);
        let prefix = &key[..key.len() - 8];
        let scan = Scan { prefix, after: Some(&key), backwards: false };
        let rows = store.scan(Tree::BuildsByRepo, scan, most)?;
        let mut part = Published::default();
        let ids = rows.iter().filter_map(|row| row.key.last_chunk().copied());
        for id in ids.map(u64::from_be_bytes) {
            if let Some(over) = Records::build(store, BuildId(id))? {
                part.entries.extend(published(&over.build, &over.jobs));
            }
            part.next = Some(id);
        }
        part.next = part.next.filter(|_| rows.len() == most);
        Ok(part)
    }
}

/// Walks a tree whose keys end in a number, from the largest down.
fn page<T>(
    store: &Store,
    tree: Tree,
    prefix: &[u8],
    part: Part,
    read: impl Fn(u64) -> Result<Option<T>, RecordError>,
    wanted: impl Fn(&T) -> bool,
) -> Result<Slice<T>, RecordError> {
    // One more than can be returned tells whether there are more.
    let chunk = part.limit + 1;
    let (mut rows, mut looked, mut below) = (Vec::new(), 0, part.below);
    loop {
        let after = [prefix, &below.to_be_bytes()].concat();
        let scan = Scan { prefix, after: Some(&after), backwards: true };
        let found = store.scan(tree, scan, chunk)?;
        for row in &found {
            let Some(id) = row.key.last_chunk().copied().map(u64::from_be_bytes) else { continue };
            if rows.len() == part.limit || looked == part.looks {
                return Ok(Slice { rows, stopped_at: Some(below) });
            }
            // A record that is gone meanwhile is none.
            rows.extend(read(id)?.filter(&wanted));
            (looked, below) = (looked + 1, id);
        }
        if found.len() < chunk {
            return Ok(Slice { rows, stopped_at: None });
        }
    }
}

/// What of a part of the history is old.
#[derive(Debug)]
pub struct Old {
    /// Takes it out.
    pub batch: Batch,
    /// How many pushes or builds that are.
    pub found: u64,
    /// The number after which to go on; `None` where all that follows is young.
    pub next: Option<u64>,
}

impl Records {
    /// Builds above the number `after` that ended before a time, among the next `most`.
    ///
    /// That a changeset was built stays known, so that nothing builds it again.
    pub fn old_builds(
        store: &Store,
        before_ms: i64,
        after: u64,
        most: usize,
    ) -> Result<Old, RecordError> {
        let mut error = None;
        let old = old(store, Tree::BuildHistory, after, most, |over: ArchivedBuild, batch| {
            let build = over.build;
            if build.created_ms >= before_ms {
                return Age::Young;
            }
            // It may have run for long.
            if build.ended_ms.unwrap_or(build.created_ms) >= before_ms {
                return Age::NotYet;
            }
            error = forget(store, batch, &build).err().or(error.take());
            Age::Old
        });
        match error {
            Some(error) => Err(error),
            None => old,
        }
    }

    /// Pushes above the number `after` that were received before a time, among the next `most`.
    pub fn old_pushes(
        store: &Store,
        before_ms: i64,
        after: u64,
        most: usize,
    ) -> Result<Old, RecordError> {
        old(store, Tree::PushHistory, after, most, |row: PushRow, batch| {
            let push = row.push;
            if push.received >= before_ms {
                return Age::Young;
            }
            batch.delete(Tree::PushHistory, push_key(push.id));
            batch.delete(Tree::PushesByRepo, by_repo(&push.repo, push.id.0));
            if let Some(txid) = &push.txid {
                batch.delete(Tree::Transactions, transaction_key(&push.repo, txid));
            }
            Age::Old
        })
    }
}

/// What becomes of a row of the history.
enum Age {
    /// It goes.
    Old,
    /// It stays for now.
    NotYet,
    /// It stays, and so does what has come after it.
    Young,
}

fn old<T: DeserializeOwned>(
    store: &Store,
    tree: Tree,
    after: u64,
    most: usize,
    mut judge: impl FnMut(T, &mut Batch) -> Age,
) -> Result<Old, RecordError> {
    let key = after.to_be_bytes();
    let scan = Scan { prefix: &[], after: Some(&key), backwards: false };
    let rows = store.scan(tree, scan, most)?;
    let mut old = Old { batch: Batch::new(), found: 0, next: None };
    for row in &rows {
        let Ok(value) = serde_json::from_slice(&row.value) else {
            // Nobody can read it, so nobody will miss it.
            old.batch.delete(tree, row.key.clone());
            continue;
        };
        match judge(value, &mut old.batch) {
            Age::Old => old.found += 1,
            Age::NotYet => {}
            Age::Young => return Ok(old),
        }
    }
    let last = rows.last().filter(|_| rows.len() == most);
    old.next = last.and_then(|row| row.key.last_chunk().copied()).map(u64::from_be_bytes);
    Ok(old)
}
