//! What the loop does when the store refuses a turn, with a real store.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use hgci_core::engine::{Config, Effect, Engine, Event, NewBuild, Pool, Reply, Rows, Trigger};
use hgci_core::job::{JobSpec, Plan};
use hgci_core::push::{Lane, Push, Via};
use hgci_core::{AttemptKey, BuildId, JobKey, JobState, Node, PushId};
use hgcid::Records;
use hgcid::clock::Clock;
use hgcid::scheduler::{Done, Effects, Loop, NotRecorded, Scheduler};
use hgcid::store::{MAX_VALUE, Options, Store, Tree};

const ATTEMPT: AttemptKey = AttemptKey { job: JobKey { build: BuildId(1), index: 0 }, n: 1 };

/// Hands effects, whether the store fails, and what was lost to the test.
struct Told(mpsc::Sender<Effect>, mpsc::Sender<Option<String>>, mpsc::Sender<String>);

impl Effects for Told {
    fn carry_out(&mut self, effect: Effect) {
        let _test_is_over = self.0.send(effect);
    }

    fn once_published(&mut self, done: Done) {
        done(Ok(()));
    }

    fn store_fails(&mut self, why: Option<&str>) {
        let _test_is_over = self.1.send(why.map(str::to_owned));
    }

    fn store_lost(&mut self, _rows: &mut Rows) {
        panic!("it is as it was");
    }

    fn say_lost(&mut self, what: String) {
        let _test_is_over = self.2.send(what);
    }
}

struct World {
    folder: tempfile::TempDir,
    scheduler: Scheduler,
    effects: mpsc::Receiver<Effect>,
    failures: mpsc::Receiver<Option<String>>,
    lost: mpsc::Receiver<String>,
    thread: JoinHandle<()>,
}

impl World {
    /// A loop over an empty store, with one pool of one slot.
    fn start() -> World {
        let folder = tempfile::tempdir().unwrap();
        let options = Options::new(env!("CARGO_BIN_EXE_hgcid"));
        let (store, _) = Store::open(&folder.path().join("state"), options).unwrap();
        let pool = Pool {
            name: "here".into(),
            slots: 1,
            labels: Vec::new(),
            lanes: vec![Lane::Trusted, Lane::Try],
        };
        let engine = Engine::new(Config { pools: vec![pool], ..Config::default() });
        let (scheduler, inbox) = Scheduler::new();
        let (to_effects, effects) = mpsc::channel();
        let (to_failures, failures) = mpsc::channel();
        let (to_lost, lost) = mpsc::channel();
        let told = Box::new(Told(to_effects, to_failures, to_lost));
        let thread = Loop::new(Arc::new(store), engine, Clock::start(), told).start(inbox).unwrap();
        World { folder, scheduler, effects, failures, lost, thread }
    }

    /// A push with a build of one job, whose runner has claimed it.
    async fn running(&self) {
        let step = |event| self.scheduler.event(event);
        assert_eq!(step(Event::Received(push())).await.unwrap(), Reply::Accepted);
        let planned = step(Event::Planned { push: push(), builds: vec![build()] }).await.unwrap();
        assert_eq!(planned, Reply::Planned(vec![BuildId(1)]));
        let claim = Event::Claimed { attempt: ATTEMPT, instance: "one".into() };
        assert!(matches!(step(claim).await.unwrap(), Reply::Claimed(_)));
    }

    /// Holds the loop until what is sent meanwhile waits for it, as one turn.
    async fn in_one_turn<T>(&self, send: impl FnOnce() -> T) -> T {
        let (go, hold) = mpsc::channel::<()>();
        let (held, holds) = mpsc::channel();
        let scheduler = self.scheduler.clone();
        let holding = tokio::spawn(async move {
            let hold = scheduler.act(move |_| {
                held.send(()).unwrap();
                let _go = hold.recv();
            });
            hold.await
        });
        tokio::task::spawn_blocking(move || holds.recv()).await.unwrap().unwrap();
        let sent = send();
        // What is polled for the first time now is sent now.
        tokio::task::yield_now().await;
        drop(go);
        holding.await.unwrap().unwrap();
        sent
    }

    async fn state(&self) -> (JobState, u32) {
        let asked = self
            .scheduler
            .ask(|engine, _| (engine.job_row(ATTEMPT.job).unwrap().state, engine.pools()[0].held));
        asked.await.unwrap()
    }

    /// While its folder is away, the store takes nothing.
    fn move_store(&self, from: &str, to: &str) {
        std::fs::rename(self.folder.path().join(from), self.folder.path().join(to)).unwrap();
    }

    fn stop(self) {
        self.scheduler.stop();
        self.thread.join().unwrap();
    }
}

fn push() -> Push {
    let text = r#"{"id": 1, "repo": "widgets", "received": 0, "via": "hook"}"#;
    let push: Push = serde_json::from_str(text).unwrap();
    assert_eq!((push.id, push.via), (PushId(1), Via::Hook));
    push
}

fn build() -> NewBuild {
    let job: JobSpec = serde_json::from_str(r#"{"name": "a", "run": ["true"]}"#).unwrap();
    NewBuild {
        repo: "widgets".into(),
        node: Node([7; 20]),
        trigger: Trigger::Push,
        branch: "default".into(),
        author: "alice".into(),
        description: "a change".into(),
        lane: Lane::Trusted,
        plan: Ok(Arc::new(Plan { jobs: vec![job] })),
        by: None,
        kept: Default::default(),
    }
}

/// Makes its turn one that the store refuses: its batch is larger than a record can be.
async fn refused(scheduler: Scheduler) -> Result<(), NotRecorded> {
    scheduler.act(|turn| turn.batch.put(Tree::Meta, *b"too large", vec![0; MAX_VALUE + 1])).await
}

#[tokio::test]
async fn what_nobody_repeats_is_told_again_after_a_turn_was_refused() {
    let world = World::start();
    world.running().await;
    assert_eq!(world.state().await, (JobState::Running, 1));
    let refusal = world
        .in_one_turn(|| {
            let why = "the runner ended without a verdict".to_owned();
            world.scheduler.tell(Event::HostGone { attempt: ATTEMPT, why });
            tokio::spawn(refused(world.scheduler.clone()))
        })
        .await;
    let error = refusal.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("too large"), "{error}");
    // The engine was made anew from the store, where the attempt still runs, and told again.
    assert_eq!(world.state().await, (JobState::Queued, 0), "no slot stays taken for ever");
    assert_eq!(world.failures.try_iter().count(), 0, "the store is well");
    assert_eq!(world.lost.try_iter().count(), 0);
    world.stop();
}

#[tokio::test]
async fn what_a_refused_turn_wanted_done_is_not_done() {
    let world = World::start();
    let refusal = world
        .in_one_turn(|| {
            let scheduler = world.scheduler.clone();
            let received =
                tokio::spawn(async move { scheduler.event(Event::Received(push())).await });
            (received, tokio::spawn(refused(world.scheduler.clone())))
        })
        .await;
    assert!(refusal.1.await.unwrap().is_err());
    assert!(refusal.0.await.unwrap().is_err(), "its turn is not durable");
    assert_eq!(world.effects.try_iter().count(), 0);
    // The same again is taken, under a number that nobody was told.
    let again = world.scheduler.act(|turn| {
        let id = turn.engine().next_push();
        (id, turn.step(Event::Received(Push { id, ..push() })))
    });
    assert_eq!(again.await.unwrap(), (PushId(2), Reply::Accepted));
    assert!(matches!(world.effects.try_iter().collect::<Vec<_>>()[..], [Effect::Plan(_)]));
    world.stop();
}

#[tokio::test]
async fn while_the_store_fails_renewals_are_answered_and_nothing_else_is() {
    let world = World::start();
    world.running().await;
    world.move_store("state", "away");
    let received = || world.scheduler.event(Event::Received(Push { id: PushId(9), ..push() }));
    assert!(received().await.is_err());
    let renew = |instance: &str| world.scheduler.renew(ATTEMPT, instance.to_owned());
    for _ in 0..3 {
        assert!(matches!(renew("one").await.unwrap(), Reply::Lease { cancel: false, .. }));
        assert!(renew("another").await.is_err(), "whether it may go on is not known");
        assert!(received().await.is_err());
    }
    world.move_store("away", "state");
    // The engine is made anew, and asks again.
    while received().await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(world.state().await, (JobState::Running, 1));
    assert!(matches!(renew("one").await.unwrap(), Reply::Lease { .. }));
    assert_eq!(renew("another").await.unwrap(), Reply::Conflict);
    let failures: Vec<Option<String>> = world.failures.try_iter().collect();
    assert!(failures.len() >= 2 && failures.last().unwrap().is_none(), "{failures:?}");
    world.stop();
}

#[tokio::test]
async fn the_end_of_the_loop_is_seen_whatever_ends_it() {
    let world = World::start();
    world.scheduler.also(|_| panic!("a test ends the loop"));
    world.scheduler.ended().await;
    assert!(world.scheduler.event(Event::Tick).await.is_err());
    assert!(world.thread.join().is_err());
}

#[tokio::test]
async fn what_is_too_large_again_and_again_is_tried_less_and_less_often() {
    let world = World::start();
    let started = std::time::Instant::now();
    let mut turns = 0;
    while started.elapsed() < std::time::Duration::from_secs(4) {
        // In a pause nothing is taken, and the answer is another.
        let error = refused(world.scheduler.clone()).await.unwrap_err();
        turns += u32::from(error.to_string().contains("too large"));
        // Work that is taken in between does not begin the count anew.
        let _refused_in_a_pause = world.scheduler.event(Event::Tick).await;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!((1..10).contains(&turns), "{turns} turns");
    assert_eq!(world.failures.try_iter().count(), 0, "the store is well");
    world.stop();
}

#[tokio::test]
async fn a_build_of_the_most_jobs_goes_all_the_way_to_the_history() {
    let world = World::start();
    let step = |event| world.scheduler.event(event);
    let env = format!(r#"{{"A": "{}"}}"#, "x".repeat(2100));
    let job = |n: u32| {
        let text = format!(r#"{{"name": "job{n}", "run": ["true"], "env": {env}}}"#);
        serde_json::from_str::<JobSpec>(&text).unwrap()
    };
    let plan = Plan { jobs: (0..1000).map(job).collect() };
    assert!(serde_json::to_vec(&plan).unwrap().len() > MAX_VALUE / 2);
    step(Event::Received(push())).await.unwrap();
    let builds = vec![NewBuild { plan: Ok(Arc::new(plan)), ..build() }];
    step(Event::Planned { push: push(), builds }).await.unwrap();
    let cancel = Event::Cancel { build: BuildId(1), job: None, by: "alice".into() };
    assert_eq!(step(cancel).await.unwrap(), Reply::Accepted);
    let mut is_over = false;
    while !is_over {
        for effect in world.effects.try_iter().collect::<Vec<_>>() {
            let event = match effect {
                Effect::Publish { publication, .. } => Event::Published(publication),
                Effect::Kill { attempt, .. } => {
                    Event::HostGone { attempt, why: "it was killed".into() }
                }
                Effect::Mail(push) => Event::Mailed(push),
                Effect::Plan(_) | Effect::Launch { .. } | Effect::Stop { .. } => continue,
            };
            step(event).await.unwrap();
        }
        let asked = world.scheduler.ask(|engine, _| engine.build(BuildId(1)).is_none());
        is_over = asked.await.unwrap();
    }
    let archived = world.scheduler.ask(|_, store| Records::build(store, BuildId(1)).unwrap());
    let archived = archived.await.unwrap().unwrap();
    assert_eq!(archived.jobs.len(), 1000);
    assert!(archived.jobs.iter().all(|job| job.state == JobState::Cancelled));
    assert_eq!(world.failures.try_iter().count() + world.lost.try_iter().count(), 0);
    world.stop();
}
