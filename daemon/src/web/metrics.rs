//! `GET /metrics`: how the daemon is, in numbers.
//!
//! They are of all repositories together and have no name in them but, for who may read on the
//! socket, those of pools: so everybody may read them over TCP.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use hgci_core::JobState;
use hgci_core::engine::{AttemptEnd, AttemptState, Engine, PoolUse, Restraint, Stage, Tally};
use hgci_core::push::Via;

use super::reading::blocking;
use super::{Failure, Sight};
use crate::app::App;
use crate::metrics::{Door, Kind, Text, Why};
use crate::{disk, process};

/// The most files of one spool that are counted.
const MOST_SPOOLED: usize = 10_000;

/// What the engine knows, taken in one look.
struct InFlight {
    jobs: Vec<(JobState, usize)>,
    builds: usize,
    planning: usize,
    pools: Vec<PoolUse>,
    leases: Vec<(&'static str, usize)>,
    restraint: Restraint,
    tally: Tally,
}

pub async fn metrics(State(app): State<Arc<App>>, sight: Sight) -> Result<Response, Failure> {
    let mut text = Text::default();
    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    text.metric(Kind::Gauge, "hgci_build_info", "The version of hgcid.", [(version, 1.0)]);
    let well = f64::from(u8::from(app.store_failure().is_none()));
    text.number(Kind::Gauge, "hgci_store_up", "Whether the store takes what comes.", well);
    // While the store fails, the engine answers nobody; the rest can be told.
    if let Ok(known) = app.scheduler.ask(|engine, _| in_flight(engine)).await {
        of_engine(&mut text, &known, sight == Sight::All);
    }
    of_process(&app, &mut text);
    let spools = app.clone();
    let spooled = blocking(&app, move || Ok(spool_files(&spools))).await?;
    let help = "Files that hooks left and the daemon has not taken in.";
    text.number(Kind::Gauge, "hgci_spool_files", help, spooled as f64);
    Ok(([(CONTENT_TYPE, Text::CONTENT_TYPE)], text.finish()).into_response())
}

fn in_flight(engine: &Engine) -> InFlight {
    let counts = engine.counts();
    let held = engine.held();
    let states = [
        ("launching", AttemptState::Launching),
        ("running", AttemptState::Running),
        ("over", AttemptState::Over),
    ];
    InFlight {
        jobs: JobState::ALL.into_iter().map(|state| (state, counts.jobs(state))).collect(),
        builds: counts.builds,
        planning: engine.pushes().filter(|row| row.stage == Stage::Planning).count(),
        pools: engine.pools(),
        leases: states
            .into_iter()
            .map(|(name, state)| (name, held.iter().filter(|held| held.state == state).count()))
            .collect(),
        restraint: engine.restraint(),
        tally: engine.tally(),
    }
}

fn of_engine(text: &mut Text, known: &InFlight, names: bool) {
    use Kind::{Counter, Gauge};
    let InFlight { jobs, builds, planning, pools, leases, restraint, tally } = known;
    let jobs = jobs.iter().map(|(state, n)| (vec![("state", state.name().to_owned())], *n as f64));
    text.metric(Gauge, "hgci_jobs", "Jobs of builds in flight, by state.", jobs);
    text.number(Gauge, "hgci_builds", "Builds in flight.", *builds as f64);
    let help = "Pushes that wait for their plan.";
    text.number(Gauge, "hgci_pushes_to_plan", help, *planning as f64);
    let free = |pool: &PoolUse| pool.slots.saturating_sub(pool.held);
    let (used, left) =
        pools.iter().fold((0, 0), |(used, left), pool| (used + pool.held, left + free(pool)));
    let both = [("used", used), ("free", left)];
    let both = both.map(|(state, n)| (vec![("state", state.to_owned())], f64::from(n)));
    text.metric(Gauge, "hgci_slots", "Slots of all pools, by whether they are in use.", both);
    if names {
        let each = pools.iter().flat_map(|pool| {
            [("used", pool.held), ("free", free(pool))].map(|(state, n)| {
                (vec![("pool", pool.name.clone()), ("state", state.to_owned())], f64::from(n))
            })
        });
        text.metric(Gauge, "hgci_pool_slots", "The same of each pool.", each);
    }
    let leases = leases.iter().map(|(name, n)| (vec![("state", (*name).to_owned())], *n as f64));
    text.metric(Gauge, "hgci_leases", "Attempts that hold a slot, by state.", leases);
    let help = "Whether nothing new is started, by request.";
    text.number(Gauge, "hgci_draining", help, f64::from(u8::from(restraint.draining)));
    let help = "Whether nothing may start for want of room.";
    let blocked = f64::from(u8::from(restraint.blocked.is_some()));
    text.number(Gauge, "hgci_blocked", help, blocked);
    let vias = [
        (Via::Hook, "hook"),
        (Via::Spool, "spool"),
        (Via::Reconcile, "reconcile"),
        (Via::Asked, "asked"),
    ];
    let pushes = vias.map(|(via, name)| (vec![("via", name.to_owned())], tally.pushes(via) as f64));
    let help = "Pushes that were taken in, by how the daemon heard of them.";
    text.metric(Counter, "hgci_intake_pushes_total", help, pushes);
    let ends = AttemptEnd::ALL
        .map(|end| (vec![("end", end.name().to_owned())], tally.attempts(end) as f64));
    let help = "Attempts that ended, by how; lost: given up without a verdict.";
    text.metric(Counter, "hgci_attempts_total", help, ends);
    let finals = JobState::ALL.into_iter().filter(|state| state.is_final());
    let finals =
        finals.map(|state| (vec![("state", state.name().to_owned())], tally.jobs(state) as f64));
    text.metric(Counter, "hgci_jobs_total", "Jobs that became final, by state.", finals);
}

fn of_process(app: &App, text: &mut Text) {
    use Kind::{Counter, Gauge};
    let outbox = app.outbox.load(Ordering::Relaxed) as f64;
    text.number(Gauge, "hgci_outbox_messages", "Messages that are not sent.", outbox);
    let repos = app.intake.all().len() as f64;
    text.number(Gauge, "hgci_repositories", "Repositories that are served.", repos);

    let figures = app.store.figures();
    let help = "How long a batch took to be durable.";
    text.histogram("hgci_store_batch_seconds", help, &figures.batches);
    let help = "Records that were written.";
    text.number(Counter, "hgci_store_records_total", help, figures.records.get() as f64);
    let help = "Batches that the store refused.";
    text.number(Counter, "hgci_store_failures_total", help, figures.failures.get() as f64);

    let metrics = &app.metrics;
    let help = "How long a hook's hint took to be answered, durably.";
    text.histogram("hgci_hint_seconds", help, &metrics.hints);
    let refused = metrics.hints_refused.get() as f64;
    text.number(Counter, "hgci_hints_refused_total", "Hints that were not taken.", refused);
    let of_door = |door: Door| vec![("door", door.name().to_owned())];
    let answers = Door::ALL.into_iter().flat_map(|door| {
        metrics.calls(door).answers().map(move |(code, n)| {
            let labels = vec![("door", door.name().to_owned()), ("code", code)];
            (labels, n as f64)
        })
    });
    text.metric(Counter, "hgci_http_requests_total", "Calls, by status of the answer.", answers);
    let refused = Door::ALL.into_iter().flat_map(|door| {
        Why::ALL.map(|(why, name)| {
            let labels = vec![("door", door.name().to_owned()), ("why", name.to_owned())];
            (labels, metrics.calls(door).refusals(why) as f64)
        })
    });
    let help = "Calls and connections that were refused unseen; idle: closed for a new one.";
    text.metric(Counter, "hgci_http_refused_total", help, refused);
    let open = Door::ALL.map(|door| {
        let calls = metrics.calls(door);
        // Closed first, so that the difference is never below zero.
        let closed = calls.closed.get();
        (of_door(door), calls.connections.get().saturating_sub(closed) as f64)
    });
    text.metric(Gauge, "hgci_http_connections", "Connections that are open.", open);

    let written = app.logs.written().get() as f64;
    text.number(Counter, "hgci_log_bytes_total", "Bytes of logs that runners sent.", written);
    let swept = app.metrics.swept_bytes.get() as f64;
    let help = "Bytes of logs that were removed, past their time.";
    text.number(Counter, "hgci_swept_bytes_total", help, swept);
    if let Some(last) = &*app.swept.borrow() {
        let help = "Bytes of logs that the last sweep found and kept.";
        text.number(Gauge, "hgci_log_kept_bytes", help, last.kept as f64);
        let help = "When the last sweep was, in seconds since 1970.";
        text.number(Gauge, "hgci_last_sweep_timestamp_seconds", help, last.at);
    }
    if let Ok(free) = disk::free(&app.current().config.state) {
        let help = "Free bytes below the state folder.";
        text.number(Gauge, "hgci_state_free_bytes", help, free as f64);
    }
    if let Some(used) = process::used() {
        let help = "Resident memory size in bytes.";
        text.number(Gauge, "process_resident_memory_bytes", help, used.memory as f64);
        let help = "Total user and system CPU time spent in seconds.";
        text.number(Counter, "process_cpu_seconds_total", help, used.cpu);
        let help = "Start time of the process since unix epoch in seconds.";
        text.number(Gauge, "process_start_time_seconds", help, app.started_ms as f64 / 1000.0);
        let help = "Number of open file descriptors.";
        text.number(Gauge, "process_open_fds", help, used.files as f64);
    }
}

/// How many files are in the spools of the repositories, as far as they are counted. Blocking.
fn spool_files(app: &App) -> usize {
    let count = |served: &Arc<crate::intake::Served>| {
        let hg = served.repository.source().join(".hg");
        let spool = hgci_hooks::spool::Spool::open(&hg).ok().flatten();
        spool.and_then(|spool| spool.list(MOST_SPOOLED).ok()).map_or(0, |files| files.len())
    };
    app.intake.all().iter().map(count).sum()
}
