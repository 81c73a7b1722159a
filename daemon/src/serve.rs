//! `hgcid serve`: starts the rooms in order, and stops them in the other.
//!
//! Start: configuration, the lock on the state folder, the store, the engine, runners that live
//! on, repositories, and last the socket. Stop (SIGTERM, SIGINT): no new calls, an end to the loop
//! after what was taken, and out; runners go on and are taken up by the next start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use hgci_core::engine::{self, AttemptState, Engine, Event, Meta, Restraint};
use hgci_core::{BuildId, PushId};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, OnceCell, Semaphore, mpsc, oneshot, watch};

use crate::app::{App, Current};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::effects::{Router, StoreFailure};
use crate::hosts::{LocalPool, Pools};
use crate::intake::{self, Intake};
use crate::joblog::JobLogs;
use crate::losses::Losses;
use crate::mail::{self, Links, Mailer, Pace};
use crate::publish;
use crate::scheduler::{Loop, Records, Scheduler};
use crate::store::{self, Opened, Store};
use crate::token::Tokens;
use crate::web::{Access, READERS};
use crate::{disk, listen, notify, rebuild, repositories, sweep, telling};

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
    let (publisher, mut publisher_ended) = publish::start(scheduler.clone())
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
    let intake =
        Intake::start(scheduler.clone(), store.clone(), losses.clone(), store_lost, settings)
            .map_err(|error| because("cannot watch files")(&error))?;
    let _first = intake_cell.set(intake.clone());

    let (reload, mut reloads) = mpsc::channel(1);
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
    });
    let thread = Loop::new(store, restored.engine, clock, Box::new(router))
        .start(inbox)
        .map_err(|error| because("cannot start a thread")(&error))?;
    let mailer = Mailer::new(app.store.clone(), app.mail.subscribe(), Pace::default());
    let mailing = tokio::spawn(mailer.clone().run());
    let telling = tokio::spawn(telling::tell(app.clone(), mailer, mail_orders));
    let mut complete = repositories::apply(&app).await;
    let room = tokio::spawn(disk::watch(app.clone(), blocked));
    let sweeping = tokio::spawn(sweep::watch(app.clone()));

    let listening = listen::start(app.clone(), &config, port).map_err(StartError)?;
    let web = config.web.as_ref().map(|web| tracing::field::display(web.listen));
    tracing::info!(socket = %config.socket.display(), web, "ready");
    notify::ready();

    let mut terminate = signal(SignalKind::terminate()).map_err(|e| because("signals")(&e))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| because("signals")(&e))?;
    let mut hangup = signal(SignalKind::hangup()).map_err(|e| because("signals")(&e))?;
    let mut dead = None;
    loop {
        let asked: Option<oneshot::Sender<Result<(), String>>> = tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = scheduler.ended() => { dead = Some("scheduler"); break }
            _ = &mut publisher_ended => { dead = Some("publisher"); break }
            _ = hangup.recv() => None,
            asked = reloads.recv() => asked,
            () = tokio::time::sleep(LOOK_AT_REPOSITORIES), if !complete => {
                complete = repositories::apply(&app).await;
                continue;
            }
        };
        notify::reloading();
        let outcome = reload_from(&app, &config_path).await;
        match &outcome {
            Ok(all) => {
                complete = *all;
                tracing::info!("the configuration was read again");
            }
            Err(mistakes) => tracing::error!("the configuration stays as it was: {mistakes}"),
        }
        notify::ready();
        if let Some(asked) = asked {
            let _left = asked.send(outcome.map(drop));
        }
    }
    notify::stopping();
    tracing::info!("stopping; what runs goes on");
    listening.stop().await;
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
fn rules(config: &Config) -> engine::Config {
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
fn mail_settings(config: &Config) -> mail::Settings {
    let url = config.web.as_ref().map(|web| web.url.clone()).unwrap_or_default();
    config.mail.clone().map(|settings| (settings, Links { url }))
}

/// Reads the configuration again. On a mistake everything stays as it was. Returns whether all
/// repositories are served.
async fn reload_from(app: &App, path: &Path) -> Result<bool, String> {
    let config = config::load(path).map_err(|error| error.to_string())?;
    let fixed = |config: &Config| {
        let socket = (config.socket.clone(), config.socket_mode, config.socket_group.clone());
        (config.state.clone(), socket, config.web.clone())
    };
    if fixed(&config) != fixed(&app.current().config) {
        return Err(
            "state, socket, socket-mode, socket-group and [web] cannot change while hgcid \
                    runs: restart it"
                .into(),
        );
    }
    let access = Access::of(&config)?;
    let configure = Event::Configure(rules(&config));
    app.scheduler.event(configure).await.map_err(|error| error.to_string())?;
    app.mail.send_replace(mail_settings(&config));
    app.logs.set_limit(config.limits.log);
    app.replace(Current { config, access });
    app.look_at_disk.notify_one();
    app.sweep_now.notify_one();
    Ok(repositories::apply(app).await)
}
