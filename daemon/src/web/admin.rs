//! What administrators ask and tell.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use hgci_core::JobState;
use hgci_core::engine::{Engine, Event, Stage};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::body::Json;
use super::{Failure, Peer, Role};
use crate::app::App;
use crate::sweep::SweepStatus;

/// `GET`: how the daemon is.
pub const STATUS: &str = "/api/v1/daemon";
/// `POST {"on": true}`: finish what runs, start nothing.
pub const DRAIN: &str = "/api/v1/daemon/drain";
/// The most bytes of what administrators tell.
pub const MAX_BODY: usize = 4096;
/// The most jobs that [`DaemonStatus`] lists of those that are tried again.
pub const MOST_RETRIES: usize = 100;
/// `POST`: read the configuration again.
pub const RELOAD: &str = "/api/v1/daemon/reload";

/// The answer of [`STATUS`], and of `hgcid status --json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// The version of the daemon.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Why the store fails, while it does.
    pub store_failure: Option<String>,
    /// Nothing new is started, by request.
    pub draining: bool,
    /// Why nothing may start.
    pub blocked: Option<String>,
    /// Pushes that are not planned.
    pub pushes: usize,
    /// Builds that are not over.
    pub builds: usize,
    /// Jobs of those builds, by state.
    pub jobs: std::collections::BTreeMap<String, usize>,
    /// The pools.
    pub pools: Vec<PoolStatus>,
    /// Attempts that hold a slot.
    pub leases: Vec<LeaseStatus>,
    /// Messages that are not sent.
    pub outbox: usize,
    /// Results that wait for a log that cannot be written, by repository.
    #[serde(default)]
    pub unwritten: Vec<UnwrittenStatus>,
    /// Jobs that wait for their next attempt, since the machine failed the last: the next first, at
    /// most [`MOST_RETRIES`].
    #[serde(default)]
    pub retries: Vec<RetryStatus>,
    /// The last removal of what is past `[limits] keep`.
    #[serde(default)]
    pub sweep: Option<SweepStatus>,
    /// What was lost in the last 30 days, the oldest first.
    #[serde(default)]
    pub losses: Vec<LossStatus>,
}

/// Something that was lost, of [`DaemonStatus`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossStatus {
    /// When that was found: seconds since 1970.
    pub at: f64,
    /// What it is, and what became of it.
    pub what: String,
}

/// Results that wait for their log, of [`DaemonStatus`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnwrittenStatus {
    /// The repository's name.
    pub repo: String,
    /// How many ends of jobs and builds wait.
    pub results: usize,
    /// Why the log cannot be written.
    pub why: String,
}

/// A job that is tried again soon, of [`DaemonStatus`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryStatus {
    /// Its build.
    pub build: u64,
    /// Its name.
    pub job: String,
    /// The repository's name.
    pub repo: String,
    /// Seconds until it comes into line again.
    pub seconds: f64,
    /// Why the last attempt came to nothing.
    pub why: String,
}

/// A pool of [`DaemonStatus`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// Its name.
    pub name: String,
    /// Its slots.
    pub slots: u32,
    /// Slots that are in use.
    pub used: u32,
}

/// An attempt of [`DaemonStatus`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// The attempt: build, place in the plan, number.
    pub attempt: String,
    /// Where it runs.
    pub host: String,
    /// `launching`, `running` or `over`.
    pub state: String,
    /// Seconds until something happens to it when nobody is heard of.
    pub seconds: Option<f64>,
}

pub async fn status(
    State(app): State<Arc<App>>,
    peer: Peer,
) -> Result<Json<DaemonStatus>, Failure> {
    allow(&app, &peer, Role::Reader)?;
    let mut status = match app.store_failure() {
        Some(why) => DaemonStatus { store_failure: Some(why), ..DaemonStatus::default() },
        None => app.scheduler.ask(|engine, _| of(engine)).await?,
    };
    status.version = env!("CARGO_PKG_VERSION").into();
    status.pid = std::process::id();
    status.outbox = app.outbox.load(Ordering::Relaxed);
    status.sweep = app.swept.borrow().clone();
    let unwritten = app.unwritten.lock().clone().into_iter();
    status.unwritten = unwritten
        .map(|(repo, waiting)| UnwrittenStatus { repo, results: waiting.results, why: waiting.why })
        .collect();
    let losses = app.losses.shown().into_iter();
    status.losses =
        losses.map(|loss| LossStatus { at: loss.at_ms as f64 / 1000.0, what: loss.what }).collect();
    Ok(Json(status))
}

fn of(engine: &Engine) -> DaemonStatus {
    let counts = engine.counts();
    let states =
        JobState::ALL.into_iter().map(|state| (state.name().to_owned(), counts.jobs(state)));
    let now = engine.now().mono;
    DaemonStatus {
        draining: engine.is_draining(),
        blocked: engine.blocked().map(str::to_owned),
        pushes: engine.pushes().filter(|row| row.stage == Stage::Planning).count(),
        builds: counts.builds,
        jobs: states.filter(|(_, count)| *count > 0).collect(),
        pools: engine
            .pools()
            .into_iter()
            .map(|pool| PoolStatus { name: pool.name, slots: pool.slots, used: pool.held })
            .collect(),
        leases: engine
            .held()
            .into_iter()
            .map(|held| LeaseStatus {
                attempt: held.attempt.to_string(),
                host: format!("{}/{}", held.pool, held.slot),
                state: format!("{:?}", held.state).to_lowercase(),
                seconds: held.due.map(|due| due.saturating_sub(now) as f64 / 1000.0),
            })
            .collect(),
        retries: engine
            .retries()
            .take(MOST_RETRIES)
            .map(|retry| RetryStatus {
                build: retry.job.build.0,
                job: retry.name,
                repo: retry.repo,
                seconds: retry.due.saturating_sub(now) as f64 / 1000.0,
                why: retry.why,
            })
            .collect(),
        ..DaemonStatus::default()
    }
}

/// The body of [`DRAIN`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Drain {
    /// Whether to drain, or to go on.
    pub on: bool,
}

pub async fn drain(
    State(app): State<Arc<App>>,
    peer: Peer,
    Json(Drain { on }): Json<Drain>,
) -> Result<Json<serde_json::Value>, Failure> {
    allow(&app, &peer, Role::Admin)?;
    app.scheduler.event(Event::Drain(on)).await?;
    tracing::info!(on, "draining");
    Ok(Json(serde_json::json!({})))
}

pub async fn reload(
    State(app): State<Arc<App>>,
    peer: Peer,
) -> Result<Json<serde_json::Value>, Failure> {
    allow(&app, &peer, Role::Admin)?;
    let (done, outcome) = oneshot::channel();
    app.reload.send(done).await.map_err(|_| Failure::later("the daemon is stopping"))?;
    match outcome.await {
        Ok(Ok(())) => Ok(Json(serde_json::json!({}))),
        Ok(Err(mistakes)) => Err(Failure::bad(mistakes)),
        Err(_) => Err(Failure::later("the daemon is stopping")),
    }
}

/// For supervisors: alive, and its store takes what comes. The network is not told why not.
pub async fn health(State(app): State<Arc<App>>, peer: Peer) -> Result<&'static str, Failure> {
    match (app.store_failure(), peer) {
        (None, _) => Ok("ok\n"),
        (Some(_), Peer::Remote(_)) => Err(Failure::later("the store fails")),
        (Some(why), _) => Err(Failure::later(why)),
    }
}

fn allow(app: &App, peer: &Peer, role: Role) -> Result<(), Failure> {
    match app.current().access.allows(peer, role) {
        true => Ok(()),
        false if matches!(peer, Peer::Remote(_)) => {
            Err(Failure::forbidden("this is answered on the Unix socket alone"))
        }
        false => Err(Failure::forbidden("this account may not do that ([roles])")),
    }
}
