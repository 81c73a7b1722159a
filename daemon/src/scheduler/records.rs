//! The engine's rows as records of the store: which tree, which key, JSON for values.

use hgci_core::engine::{BuildRow, Change, JobRow, Meta, PlanId, PushRow, Rows, Trigger};
use hgci_core::job::Plan;
use hgci_core::{BuildId, JobKey, Node, PushId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::store::{Batch, Numbers, Row, Scan, Store, StoreError, Tree};

/// Key of the engine's counters in [`Tree::Meta`].
const ENGINE: &[u8] = b"engine";

/// How many bytes the jobs have that share a record of the history, unless one alone has more.
const SHARED: usize = 64 << 10;

/// A build that is over, as the history has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedBuild {
    /// The build.
    pub build: BuildRow,
    /// Its jobs, in the order of the plan. They are in records of their own, for together they may
    /// be more than one record takes.
    #[serde(default)]
    pub jobs: Vec<JobRow>,
}

/// A record that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The store itself.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A value that is not what the tree holds.
    #[error("a record of {tree} is unreadable: {source}")]
    Json {
        /// The tree.
        tree: Tree,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
}

impl RecordError {
    /// Whether the store is well, and what it was to take is too large for it: the same again is
    /// refused again.
    pub fn is_too_large(&self) -> bool {
        matches!(self, RecordError::Store(StoreError::TooLarge { .. }) | RecordError::Json { .. })
    }
}

/// Reading and writing the engine's records.
pub struct Records;

impl Records {
    /// Adds changes to a batch.
    pub fn add(batch: &mut Batch, changes: Vec<Change>) -> Result<(), RecordError> {
        for change in changes {
            match change {
                Change::Meta(meta) => {
                    batch.numbers(Numbers {
                        push: meta.next_push.0.saturating_sub(1),
                        build: meta.next_build.0.saturating_sub(1),
                    });
                    put(batch, Tree::Meta, ENGINE, &meta)?;
                }
                Change::Plan(id, plan) => put(batch, Tree::Plans, &id.0, &*plan)?,
                Change::DropPlan(id) => batch.delete(Tree::Plans, id.0),
                Change::Push(row) => put(batch, Tree::Pushes, &push_key(row.push.id), &row)?,
                Change::Build(row) => put(batch, Tree::Builds, &build_key(row.id), &row)?,
                Change::DropJob(key) => batch.delete(Tree::Jobs, job_key(key)),
                Change::Job(row) => put(batch, Tree::Jobs, &job_key(row.key), &row)?,
                Change::ArchivePush(row) => {
                    let key = push_key(row.push.id);
                    batch.delete(Tree::Pushes, key);
                    batch.put(Tree::PushesByRepo, by_repo(&row.push.repo, row.push.id.0), []);
                    put(batch, Tree::PushHistory, &key, &row)?;
                }
                Change::ArchiveBuild { build, jobs } => archive(batch, *build, jobs)?,
            }
        }
        Ok(())
    }

    /// All that is in flight. What cannot be read is named and removed, so that it is lost once.
    pub fn load(store: &Store) -> Result<(Rows, Vec<String>), RecordError> {
        let mut lost = Lost::default();
        let meta = match store.get(Tree::Meta, ENGINE)? {
            Some(row) => lost.unless_read(Tree::Meta, &row).unwrap_or_default(),
            None => Meta::default(),
        };
        let plans = all::<Plan>(store, Tree::Plans, &mut lost)?
            .into_iter()
            .filter_map(|(key, plan)| Some((PlanId(key.try_into().ok()?), plan.into())))
            .collect();
        let rows = Rows {
            meta,
            plans,
            pushes: values(all::<PushRow>(store, Tree::Pushes, &mut lost)?),
            builds: values(all::<BuildRow>(store, Tree::Builds, &mut lost)?),
            jobs: values(all::<JobRow>(store, Tree::Jobs, &mut lost)?),
        };
        store.commit(&lost.batch)?;
        Ok((rows, lost.lines))
    }

    /// The build of a changeset that is over, where it had one.
    pub fn known(
        store: &Store,
        repo: &str,
        node: &Node,
        trigger: Trigger,
    ) -> Result<Option<BuildId>, RecordError> {
        let row = sound(store.get(Tree::Known, &known_key(repo, node, trigger)))?;
        Ok(row.and_then(|row| Some(BuildId(u64::from_be_bytes(row.value.try_into().ok()?)))))
    }

    /// A build that is over.
    pub fn build(store: &Store, id: BuildId) -> Result<Option<ArchivedBuild>, RecordError> {
        let archived = one::<ArchivedBuild>(store, Tree::BuildHistory, &build_key(id))?;
        let Some(mut archived) = archived else { return Ok(None) };
        let key = build_key(id);
        let (mut error, scan) = (None, Scan { prefix: &key, ..Scan::default() });
        store.visit(Tree::JobHistory, scan, |row| {
            let jobs = serde_json::from_slice::<Vec<JobRow>>(&row.value);
            jobs.map(|jobs| archived.jobs.extend(jobs)).map_err(|why| error = Some(why)).is_ok()
        })?;
        match error {
            Some(source) => Err(RecordError::Json { tree: Tree::JobHistory, source }),
            None => Ok(Some(archived)),
        }
    }

    /// The push of a transaction, where there is one.
    pub fn push_of(store: &Store, repo: &str, txid: &str) -> Result<Option<PushId>, RecordError> {
        let row = sound(store.get(Tree::Transactions, &transaction_key(repo, txid)))?;
        Ok(row.and_then(|row| Some(PushId(u64::from_be_bytes(row.value.try_into().ok()?)))))
    }

    /// Remembers which push a transaction is.
    pub fn remember(batch: &mut Batch, repo: &str, txid: &str, push: PushId) {
        batch.put(Tree::Transactions, transaction_key(repo, txid), push.0.to_be_bytes());
    }
}

fn archive(batch: &mut Batch, build: BuildRow, jobs: Vec<JobRow>) -> Result<(), RecordError> {
    let key = build_key(build.id);
    batch.delete(Tree::Builds, key);
    for job in &jobs {
        batch.delete(Tree::Jobs, job_key(job.key));
    }
    // Whoever asks for another build gets one.
    if build.trigger != Trigger::Asked {
        let known = known_key(&build.repo, &build.node, build.trigger);
        batch.put(Tree::Known, known, build.id.0.to_be_bytes());
    }
    batch.put(Tree::BuildsByRepo, by_repo(&build.repo, build.id.0), []);
    let by_node = [&build.node.0[..], &build.id.0.to_be_bytes()].concat();
    batch.put(Tree::BuildsByNode, by_node, []);
    let (mut list, mut first) = (Vec::new(), 0);
    for job in &jobs {
        let json = json(Tree::JobHistory, job)?;
        if !list.is_empty() && list.len() + json.len() > SHARED {
            put_list(batch, key, first, std::mem::take(&mut list));
        }
        match list.is_empty() {
            true => (first, list) = (job.key.index, vec![b'[']),
            false => list.push(b','),
        }
        list.extend(json);
    }
    if !list.is_empty() {
        put_list(batch, key, first, list);
    }
    put(batch, Tree::BuildHistory, &key, &ArchivedBuild { build, jobs: Vec::new() })
}

/// Ends a list of jobs and adds it to a batch, under the place of its first.
fn put_list(batch: &mut Batch, build: [u8; 8], first: u32, mut list: Vec<u8>) {
    list.push(b']');
    batch.put(Tree::JobHistory, [&build[..], &first.to_be_bytes()].concat(), list);
}

/// Takes a build out of the history, with its jobs.
pub(super) fn forget(
    store: &Store,
    batch: &mut Batch,
    build: &BuildRow,
) -> Result<(), RecordError> {
    let key = build_key(build.id);
    batch.delete(Tree::BuildHistory, key);
    batch.delete(Tree::BuildsByRepo, by_repo(&build.repo, build.id.0));
    batch.delete(Tree::BuildsByNode, [&build.node.0[..], &key].concat());
    store.visit(Tree::JobHistory, Scan { prefix: &key, ..Scan::default() }, |row| {
        batch.delete(Tree::JobHistory, row.key);
        true
    })?;
    Ok(())
}

fn put<T: Serialize>(
    batch: &mut Batch,
    tree: Tree,
    key: &[u8],
    value: &T,
) -> Result<(), RecordError> {
    batch.put(tree, key, json(tree, value)?);
    Ok(())
}

fn json<T: Serialize>(tree: Tree, value: &T) -> Result<Vec<u8>, RecordError> {
    serde_json::to_vec(value).map_err(|source| RecordError::Json { tree, source })
}

/// A record of the history that is damaged is as one that is not there: nobody can mend it, and
/// what asks for it goes on without.
fn sound(row: Result<Option<Row>, StoreError>) -> Result<Option<Row>, StoreError> {
    match row {
        Err(error @ StoreError::Damaged { .. }) => {
            tracing::warn!(%error, "taken to be gone");
            Ok(None)
        }
        row => row,
    }
}

pub(super) fn one<T: DeserializeOwned>(
    store: &Store,
    tree: Tree,
    key: &[u8],
) -> Result<Option<T>, RecordError> {
    let row = sound(store.get(tree, key))?;
    row.map(|row| serde_json::from_slice(&row.value))
        .transpose()
        .map_err(|source| RecordError::Json { tree, source })
}

type Keyed<T> = Vec<(Vec<u8>, T)>;

fn all<T: DeserializeOwned>(
    store: &Store,
    tree: Tree,
    lost: &mut Lost,
) -> Result<Keyed<T>, RecordError> {
    let mut rows = Vec::new();
    store.visit(tree, Scan::default(), |row| {
        if let Some(value) = lost.unless_read(tree, &row) {
            rows.push((row.key, value));
        }
        true
    })?;
    Ok(rows)
}

/// What cannot be read: its names, and a batch that removes it.
#[derive(Default)]
struct Lost {
    lines: Vec<String>,
    batch: Batch,
}

impl Lost {
    fn unless_read<T: DeserializeOwned>(&mut self, tree: Tree, row: &Row) -> Option<T> {
        serde_json::from_slice(&row.value)
            .map_err(|source| {
                self.lines.push(RecordError::Json { tree, source }.to_string());
                self.batch.delete(tree, row.key.clone());
            })
            .ok()
    }
}

fn values<T>(rows: Keyed<T>) -> Vec<T> {
    rows.into_iter().map(|(_, value)| value).collect()
}

pub(super) fn push_key(id: PushId) -> [u8; 8] {
    id.0.to_be_bytes()
}

fn build_key(id: BuildId) -> [u8; 8] {
    id.0.to_be_bytes()
}

fn job_key(key: JobKey) -> Vec<u8> {
    [&key.build.0.to_be_bytes()[..], &key.index.to_be_bytes()].concat()
}

/// A repository's name has no NUL, so no name is the start of another's keys.
pub(super) fn by_repo(repo: &str, id: u64) -> Vec<u8> {
    [repo.as_bytes(), b"\0", &id.to_be_bytes()].concat()
}

fn known_key(repo: &str, node: &Node, trigger: Trigger) -> Vec<u8> {
    let trigger = match trigger {
        Trigger::Push => b'p',
        Trigger::Asked => b'a',
    };
    [repo.as_bytes(), b"\0", &node.0, &[trigger]].concat()
}

pub(super) fn transaction_key(repo: &str, txid: &str) -> Vec<u8> {
    [repo.as_bytes(), b"\0", txid.as_bytes()].concat()
}
