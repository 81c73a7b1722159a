//! What is past `[limits] keep` goes: logs, and the history that lists show. Results stay, in the
//! logs of their repositories.
//!
//! It goes in small steps with pauses between them, so that neither hooks nor runners wait for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use hgci_core::BuildId;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::joblog::{JobLogs, Swept};
use crate::scheduler::{NotRecorded, Old, RecordError, Records};
use crate::store::{Store, Tree};

/// How often.
const EVERY: Duration = Duration::from_secs(3600);

/// The pause between two steps.
const PAUSE: Duration = Duration::from_millis(20);

/// The most builds or pushes that are taken out of the history in one step.
const STEP: usize = 100;

/// Key of the last sweep in [`Tree::Meta`].
const KEY: &[u8] = b"sweep";

/// What a sweep came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SweepStatus {
    /// When it ended: seconds since 1970.
    pub at: f64,
    /// How long it took.
    pub seconds: f64,
    /// Logs that were removed.
    pub logs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of logs that are kept.
    pub kept: u64,
    /// Builds that left the history.
    pub builds: u64,
    /// Pushes that did.
    pub pushes: u64,
    /// What could not be done; it is tried again.
    pub failure: Option<String>,
}

/// Why a sweep stopped. What it did before is done.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The store would not have it.
    #[error(transparent)]
    NotRecorded(#[from] NotRecorded),
    /// The history cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The folder of logs cannot be read.
    #[error("{0}")]
    Logs(String),
}

/// The last sweep before this daemon, where there was one.
pub fn last(store: &Store) -> Option<SweepStatus> {
    let row = store.get(Tree::Meta, KEY).ok().flatten()?;
    serde_json::from_slice(&row.value).ok()
}

/// Sweeps at start, every hour, and when the configuration has changed, for ever.
pub async fn watch(app: Arc<App>) {
    loop {
        match sweep(&app, crate::clock::wall_ms()).await {
            Ok(status) => {
                if let Some(why) = &status.failure {
                    tracing::error!(%why, "not all that is past its time could be removed");
                }
                if status.logs + status.builds + status.pushes > 0 {
                    let SweepStatus { logs, bytes, builds, pushes, .. } = status;
                    tracing::info!(logs, bytes, builds, pushes, "removed what is past its time");
                }
            }
            Err(error) => tracing::error!(%error, "cannot remove what is past its time"),
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = app.sweep_now.notified() => {}
        }
    }
}

/// Removes what is past its time at `now_ms`.
async fn sweep(app: &App, now_ms: i64) -> Result<SweepStatus, SweepError> {
    let started = Instant::now();
    let keep = app.current().config.limits.keep;
    let before_ms = now_ms.saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX));
    let swept = sweep_logs(app, before_ms).await?;
    let builds = sweep_history(app, before_ms, Records::old_builds).await?;
    let pushes = sweep_history(app, before_ms, Records::old_pushes).await?;
    let status = SweepStatus {
        at: now_ms as f64 / 1000.0,
        seconds: started.elapsed().as_secs_f64(),
        logs: swept.logs,
        bytes: swept.freed,
        kept: swept.kept,
        builds,
        pushes,
        failure: swept.failure,
    };
    app.metrics.swept_bytes.add(status.bytes);
    app.swept.send_replace(Some(status.clone()));
    let json = serde_json::to_vec(&status).unwrap_or_default();
    app.scheduler.act(move |turn| turn.batch.put(Tree::Meta, KEY, json)).await?;
    Ok(status)
}

async fn sweep_logs(app: &App, before_ms: i64) -> Result<Swept, SweepError> {
    let Ok(before) = u64::try_from(before_ms) else { return Ok(Swept::default()) };
    let before = UNIX_EPOCH + Duration::from_millis(before);
    let logs = app.logs.clone();
    let groups = apart(move || logs.groups().map_err(|error| error.to_string())).await?;
    let mut swept = Swept::default();
    for group in groups.map_err(SweepError::Logs)? {
        let builds = JobLogs::builds_of(group);
        let spared = app.scheduler.ask(move |engine, _| {
            let in_flight = engine.builds_below(BuildId(builds.end)).map(|row| row.id);
            in_flight.take_while(|id| id.0 >= builds.start).collect::<BTreeSet<_>>()
        });
        let (spared, logs) = (spared.await?, app.logs.clone());
        swept.add(apart(move || logs.sweep(group, before, &spared)).await?);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(swept)
}

/// Takes out of the history what `old` finds, and returns how much that was.
async fn sweep_history(
    app: &App,
    before_ms: i64,
    old: fn(&Store, i64, u64, usize) -> Result<Old, RecordError>,
) -> Result<u64, SweepError> {
    let (mut count, mut after) = (0, 0);
    loop {
        let store = app.store.clone();
        let Old { batch, found, next } =
            apart(move || old(&store, before_ms, after, STEP)).await??;
        if !batch.is_empty() {
            app.scheduler.act(move |turn| turn.batch.append(batch)).await?;
            count += found;
        }
        match next {
            Some(next) => after = next,
            None => return Ok(count),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Does something on a thread that may wait for a disk.
async fn apart<T: Send + 'static>(
    what: impl FnOnce() -> T + Send + 'static,
) -> Result<T, SweepError> {
    let done = tokio::task::spawn_blocking(what).await;
    done.map_err(|error| SweepError::Logs(error.to_string()))
}
