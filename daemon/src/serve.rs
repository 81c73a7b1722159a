//! `hgcid serve`: starts the rooms in order, and stops them in the other.
//!
//! Start: configuration, the lock on the state folder, the store, the sockets (not yet open), the
//! engine, runners that live on, repositories, and last the sockets are opened. Stop (SIGTERM, SIGINT): no new calls, an end to the loop
//! after what was taken, and out; runners go on and are taken up by the next start.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use hgci_core::engine::{self, AttemptState, Engine, Event, Meta, Restraint};
use hgci_core::{BuildId, PushId};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, OnceCell, Semaphore, mpsc, oneshot, watch};

use crate::app::{App, Current};
use crate::clock::Clock;
use crate::complaints::Complaints;
use crate::config::{self, Config};
use crate::effects::{Router, StoreFailure};
use crate::hosts::{LocalPool, Pools};
use crate::intake::{self, Intake};
use crate::joblog::JobLogs;
use crate::losses::Losses;
use crate::mail::{self, Links, Mailer, Pace};
use crate::publish;
use crate::repositories::Repositories;
use crate::scheduler::{Loop, Records, Scheduler};
use crate::store::{self, Opened, Store};
use crate::token::Tokens;
use crate::web::{Access, READERS};
use crate::{disk, listen, notify, rebuild, reload, sweep, telling};

/// How often a repository is looked at that nobody speaks of.
const LOOK_AT_REPOSITORIES: Duration = Duration::from_secs(60);

/// How long hooks wait for an answer, as they do unless `[hgci] deadline` says otherwise.
const HOOK_DEADLINE: Duration = Duration::from_millis(300);

/// Why the daemon does not start. One sentence for people, with the mend.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);

fn because(what: &str) -> impl FnOnce(&dyn std::fmt::Display) -> StartError + '_ {
    move |why| StartError(format!("{what}: {why}"))
}

/// Runs until it is told to stop.
pub fn serve(config_path: &Path) -> Result<(), StartError> {
    let config = config::load(config_path).map_err(|error| StartError(error.to_string()))?;
    // Before there are threads: it sets the umask for a moment.
    hgci_repo::prepare();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        // Planning, logs and source trees; each waits for a disk.
        .max_blocking_threads(32)
        .thread_keep_alive(Duration::from_secs(5))
        .enable_all()
        .build()
        .map_err(|error| because("cannot start threads")(&error))?;
    let outcome = runtime.block_on(run(config_path.to_owned(), config));
    // What is still being read is nobody's any more.
    runtime.shutdown_timeout(Duration::from_secs(2));
    outcome
}

async fn run(config_path: PathBuf, config: Config) -> Result<(), StartError> {
    // First of all: what asks to read the configuration again is not to end what starts.
    let mut signals = Signals::listen().map_err(|error| because("signals")(&error))?;
    let program = std::env::current_exe().map_err(|error| because("cannot find hgcid")(&error))?;
    let (opened, report) = {
        let (state, options) = (config.state.clone(), store::Options::new(&program));
        let open = tokio::task::spawn_blocking(move || Store::open(&state, options));
        open.await.map_err(|error| because("cannot open the store")(&error))?
    }
    .map_err(|error| StartError(error.to_string()))?;
    let store = Arc::new(opened);
    // Before anything is taken up: a daemon that cannot serve is not to start work.
    let port = match &config.web {
        Some(web) => Some(listen::tcp::bind(web.listen).await.map_err(StartError)?),
        None => None,
    };
    let socket = listen::unix::bind(&config).map_err(StartError)?;
    let tokens = Tokens::open(&config.state).map_err(|error| StartError(error.to_string()))?;
    let logs = Arc::new(JobLogs::new(&config.state, config.limits.log));
    let daemon =
        crate::identity::open(&config.state).map_err(|error| StartError(error.to_string()))?;

    let clock = Clock::start();
    let (scheduler, inbox) = Scheduler::new();
    let losses = Arc::new(Losses::load(&store, scheduler.clone()));
    let (mut rows, unreadable) =
        Records::load(&store).map_err(|error| because("cannot read the store")(&error))?;
    let store_lost = report.lost_something() || !unreadable.is_empty();
    if store_lost {
        report.lines().into_iter().chain(unreadable).for_each(|what| losses.say(what));
    } else {
        report.lines().iter().for_each(|line| tracing::warn!("{line}"));
    }
    let mut numbers = report.numbers;
    if store_lost || report.how == Opened::New {
        let (config, name, newest_log) = (config.clone(), daemon.clone(), logs.newest());
        let rebuilt = tokio::task::spawn_blocking(move || {
            let folders = rebuild::folders(&config);
            let ends = rebuild::refill(&mut rows, &name, |repo| folders.get(repo).cloned());
            (rebuild::numbers(&folders, newest_log), rows, ends)
        });
        let (known, refilled, ends) =
            rebuilt.await.map_err(|error| because("cannot read results logs")(&error))?;
        (numbers, rows) = (numbers.max(known), refilled);
        if ends > 0 {
            tracing::warn!(ends, "jobs and builds have their ends from the results logs");
        }
    }
    let least = Meta {
        next_push: PushId(numbers.push.saturating_add(1)),
        next_build: BuildId(numbers.build.saturating_add(1)),
    };
    let blocked = disk::blocked(&config.state, config.limits.free);
    let restraint = Restraint { draining: false, blocked: blocked.clone() };
    let restored = Engine::restore_under(restraint, rules(&config), rows, least, clock.now());
    restored.lost.iter().for_each(|what| losses.say(format!("lost: {what}")));
    let failure = StoreFailure::default();
    let (publisher, publisher_ended) =
        publish::start(scheduler.clone(), store.clone(), losses.clone())
            .map_err(|error| because("cannot start a thread")(&error))?;
    let local = local_pool(&config, &program, &scheduler)?;
    adopt(&restored.engine, &local, &scheduler);
    let pools = Pools::start(local, tokens.clone(), scheduler.clone())
        .map_err(|error| because("cannot start a thread")(&error))?;
    let intake_cell: Arc<OnceCell<Intake>> = Arc::default();
    let (mailer, mail_orders) = mpsc::unbounded_channel();
    let router = Router {
        scheduler: scheduler.clone(),
        intake: intake_cell.clone(),
        pools: pools.clone(),
        publisher: publisher.clone(),
        mailer,
        failure: failure.clone(),
        losses: losses.clone(),
        daemon: daemon.clone(),
    };
    let settings = intake::Settings {
        socket: config.socket.clone(),
        deadline: HOOK_DEADLINE,
        every: LOOK_AT_REPOSITORIES,
    };
    let intake = Intake::start(
        scheduler.clone(),
        store.clone(),
        losses.clone(),
        publisher.clone(),
        store_lost,
        settings,
    )
    .map_err(|error| because("cannot watch files")(&error))?;
    let _first = intake_cell.set(intake.clone());

    let (reload, reloads) = mpsc::channel(1);
    let access = Access::of(&config).map_err(StartError)?;
    let app = Arc::new(App {
        scheduler: scheduler.clone(),
        intake: intake.clone(),
        store: store.clone(),
        logs,
        pools,
        tokens,
        failure,
        losses,
        daemon,
        outbox: AtomicUsize::new(0),
        mail: watch::Sender::new(mail_settings(&config)),
        publisher,
        current: RwLock::new(Arc::new(Current { config: config.clone(), access })),
        reload,
        started_ms: crate::clock::wall_ms(),
        metrics: Arc::default(),
        readers: Semaphore::new(READERS),
        swept: watch::Sender::new(sweep::last(&store)),
        sweep_now: Notify::new(),
        look_at_disk: Notify::new(),
        damage: Complaints::default(),
        stopping: watch::Sender::new(false),
    });
    let thread = Loop::new(store, restored.engine, clock, Box::new(router))
        .start(inbox)
        .map_err(|error| because("cannot start a thread")(&error))?;
    let mailer = Mailer::new(app.store.clone(), app.mail.subscribe(), Pace::default());
    let mailing = tokio::spawn(mailer.clone().run());
    let telling = tokio::spawn(telling::tell(app.clone(), mailer, mail_orders));
    let room = tokio::spawn(disk::watch(app.clone(), blocked));
    let sweeping = tokio::spawn(sweep::watch(app.clone()));
    let repositories = Repositories::start(app.clone());

    let mut end = pin!(end(signals.terminate, signals.interrupt, &scheduler, publisher_ended));
    let ended_early = tokio::select! {
        dead = &mut end => Some(dead),
        () = repositories.apply() => None,
    };
    let (dead, listening) = if let Some(dead) = ended_early {
        (dead, None)
    } else {
        let listening = listen::start(app.clone(), &config, socket, port).map_err(StartError)?;
        let web = config.web.as_ref().map(|web| tracing::field::display(web.listen));
        tracing::info!(socket = %config.socket.display(), web, "ready");
        notify::ready();
        let hangup = &mut signals.hangup;
        let dead = tokio::select! {
            dead = &mut end => dead,
            never = reload::whenever_asked(&app, &config_path, &repositories, hangup, reloads) =>
                match never {},
        };
        (dead, Some(listening))
    };
    notify::stopping();
    tracing::info!("stopping; what runs goes on");
    app.stopping.send_replace(true);
    if let Some(listening) = listening {
        listening.stop().await;
    }
    [room, sweeping, mailing, telling].iter().for_each(tokio::task::JoinHandle::abort);
    scheduler.stop();
    let joined = tokio::task::spawn_blocking(move || thread.join()).await;
    if !matches!(joined, Ok(Ok(()))) {
        tracing::error!("the loop ended badly; the store has all that was acknowledged");
    }
    match dead {
        // Nothing can be done without it; what starts us anew starts a whole daemon.
        Some(thread) => Err(StartError(format!("the thread {thread} has ended; see the log"))),
        None => Ok(()),
    }
}

/// What the daemon listens to from its start.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// Returns when the daemon is to end, with the thread that has ended where that is why.
async fn end(
    mut terminate: Signal,
    mut interrupt: Signal,
    scheduler: &Scheduler,
    publisher_ended: oneshot::Receiver<Infallible>,
) -> Option<&'static str> {
    tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        () = scheduler.ended() => Some("scheduler"),
        _ = publisher_ended => Some("publisher"),
    }
}

/// The local pools, over `work/` in the state folder and the runner beside this program.
fn local_pool(
    config: &Config,
    program: &Path,
    scheduler: &Scheduler,
) -> Result<LocalPool, StartError> {
    let runner = program.with_file_name("hgci-runner");
    if !runner.is_file() {
        return Err(StartError(format!(
            "{} is missing: hgcid and hgci-runner are installed side by side",
            runner.display()
        )));
    }
    let kept = ["PATH", "HGCI_BWRAP"];
    let environment =
        kept.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
    let teller = scheduler.clone();
    LocalPool::new(
        config.state.join("work"),
        runner,
        config.socket.clone(),
        environment.collect(),
        tokio::runtime::Handle::current(),
        Arc::new(move |attempt, why| teller.tell(Event::HostGone { attempt, why })),
    )
    .map_err(|error| StartError(error.to_string()))
}

/// Takes up the runners that live on, and tells of those that do not.
fn adopt(engine: &Engine, local: &LocalPool, scheduler: &Scheduler) {
    let held = engine.held();
    let alive: BTreeMap<_, _> = held
        .iter()
        .filter(|held| held.state != AttemptState::Over)
        .map(|held| (held.attempt, held.instance.clone()))
        .collect();
    for attempt in local.adopt(&alive) {
        // One that was not claimed is launched again by the engine.
        if alive.get(&attempt).is_some_and(Option::is_some) {
            let why = "its runner died while the daemon was away".to_owned();
            scheduler.tell(Event::HostGone { attempt, why });
        }
    }
}

/// The engine's rules, from the configuration.
pub fn rules(config: &Config) -> engine::Config {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    engine::Config {
        pools: config.pools.iter().map(config::Pool::rule).collect(),
        retries: config.limits.retries,
        lease_ms: ms(config.limits.lease),
        timeout_ms: ms(config.limits.timeout),
        ..engine::Config::default()
    }
}

/// What the mailer goes by.
pub fn mail_settings(config: &Config) -> mail::Settings {
    let url = config.web.as_ref().map(|web| web.url.clone()).unwrap_or_default();
    config.mail.clone().map(|settings| (settings, Links { url }))
}
