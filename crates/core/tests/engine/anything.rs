//! The engine takes anything, in any order, at any time, and never panics.

use std::sync::Arc;

use hgci_core::engine::{
    Amendment, Config, Effect, Engine, Event, Meta, NewBuild, NoPlan, Now, Publication, Trigger,
};
use hgci_core::job::{JobSpec, Plan};
use hgci_core::push::Lane;
use hgci_core::result::{JobResult, Outcome};
use hgci_core::{AttemptKey, BuildId, JobState, PushId};

use crate::make;
use crate::random::{Random, with_seeds};
use crate::store::Store;

fn key(random: &mut Random) -> AttemptKey {
    let n = if random.once_in(50) { u32::MAX } else { random.below(4) as u32 };
    make::attempt(random.below(6), random.below(4) as u32, n)
}

fn outcome(random: &mut Random) -> Outcome {
    match random.below(5) {
        0 => Outcome::Passed,
        1 => make::failed(),
        2 => Outcome::TimedOut,
        3 => Outcome::Cancelled,
        _ => Outcome::Errored { why: "ü".repeat(random.below(2000) as usize) },
    }
}

fn result(random: &mut Random) -> JobResult {
    JobResult {
        node: make::node(random.below(8)),
        push: PushId(1),
        build: BuildId(random.below(6)),
        index: random.below(6) as u32,
        name: "job".into(),
        state: *random.pick(&JobState::ALL),
        attempt: random.below(3) as u32,
        exit: None,
        signal: None,
        started_ms: i64::MAX,
        duration_ms: u64::MAX,
        pool: "here".into(),
        host: String::new(),
        tests: None,
        allow_failure: random.once_in(2),
        why: random.once_in(2).then(|| "ü".repeat(random.below(2000) as usize)),
        from: random.once_in(2).then(|| make::job_key(random.below(6), 1)),
    }
}

fn new_build(random: &mut Random) -> NewBuild {
    let job = |random: &mut Random| JobSpec {
        // Also what no planner would make: itself, what comes after, what is not there.
        needs: (0..random.below(3)).map(|_| random.below(4) as u32).collect(),
        timeout_ms: [None, Some(0), Some(u64::MAX)][random.below(3) as usize],
        allow_failure: random.once_in(2),
        ..make::labelled("job", [&["a"][..], &["b"], &[]][random.below(3) as usize])
    };
    let jobs = (0..random.below(4)).map(|_| job(random)).collect();
    let bad = random.once_in(4);
    let plan =
        if bad { Err(NoPlan::Malformed("x".repeat(10_000))) } else { Ok(Arc::new(Plan { jobs })) };
    let lane = if random.once_in(2) { Lane::Try } else { Lane::Trusted };
    let trigger = if random.once_in(3) { Trigger::Asked } else { Trigger::Push };
    let kept = (0..random.below(3)).map(|_| (random.below(5) as u32, result(random))).collect();
    let by = random.once_in(2).then(|| "ü".repeat(random.below(2000) as usize));
    NewBuild { lane, plan, trigger, kept, by, ..make::new_build(random.below(8), Err("")) }
}

fn config(random: &mut Random) -> Config {
    let mut number = || match random.below(3) {
        0 => 0,
        1 => random.below(1000),
        _ => u64::MAX,
    };
    let mut config = Config {
        pools: Vec::new(),
        retries: number() as u32,
        backoff_ms: number(),
        backoff_max_ms: number(),
        start_ms: number(),
        lease_ms: number(),
        lease_margin_ms: number(),
        timeout_ms: number(),
        timeout_margin_ms: number(),
        grace_ms: number(),
        reissue_ms: number(),
        reissue_max_ms: number(),
        ageing_ms: number(),
        late_hook_ms: number(),
    };
    for _pool in 0..random.below(4) {
        let slots = [0, 1, 2, u32::MAX][random.below(4) as usize];
        let name = *random.pick(&["here", "there"]);
        config.pools.push(make::pool(name, slots, &["a"]));
    }
    config
}

fn event(random: &mut Random) -> Event {
    let instance = random.pick(&["one", "two", &"x".repeat(65)]).to_string();
    let push = PushId(if random.once_in(100) { u64::MAX } else { random.below(6) });
    let build = BuildId(random.below(6));
    let why = "a reason ".repeat(random.below(200) as usize);
    match random.below(20) {
        0 => Event::Configure(config(random)),
        1 | 2 => Event::Received(make::push(push)),
        3..=5 => {
            let builds = (0..random.below(4)).map(|_| new_build(random)).collect();
            Event::Planned { push: make::push(push), builds }
        }
        6 => Event::PlanFailed { push, why },
        7 => {
            let trusted = (0..8).map(make::node).collect();
            Event::Amended { push, amendment: Amendment { trusted, ..Amendment::default() } }
        }
        8 | 9 => Event::Claimed { attempt: key(random), instance },
        10 => Event::Renewed { attempt: key(random), instance },
        11 | 12 => {
            let verdict = make::verdict(outcome(random));
            Event::Ended { attempt: key(random), instance, verdict }
        }
        13 => Event::LaunchFailed { attempt: key(random), why },
        14 => Event::HostGone { attempt: key(random), why },
        15 => {
            let jobs = (0..random.below(5)).map(|_| random.below(5) as u32).collect();
            Event::Published(Publication { build, jobs, whole: random.once_in(2) })
        }
        16 => Event::Mailed(push),
        17 => {
            let job = random.once_in(2).then(|| random.below(5) as u32);
            match random.once_in(3) {
                true => Event::Supersede { build, why },
                false => Event::Cancel { build, job, by: why },
            }
        }
        18 => match random.below(3) {
            0 => Event::Drain(random.once_in(2)),
            1 => Event::Blocked(None),
            _ => Event::Blocked(Some(why)),
        },
        _ => Event::Tick,
    }
}

/// A store that has lost some of its records.
fn damaged(store: &Store, random: &mut Random) -> Store {
    let mut store = store.clone();
    store.plans.retain(|_, _| !random.once_in(4));
    store.pushes.retain(|_, _| !random.once_in(4));
    store.builds.retain(|_, _| !random.once_in(4));
    store.jobs.retain(|_, _| !random.once_in(4));
    store
}

#[test]
fn no_sequence_of_events_makes_the_engine_panic() {
    let runs = if cfg!(debug_assertions) { 1_000 } else { 5_000 };
    with_seeds(runs, |seed| {
        let mut random = Random::new(seed);
        let mut store = Store::default();
        let mut engine = Engine::new(config(&mut random));
        for _step in 0..200 {
            let now = Now {
                mono: if random.once_in(200) { u64::MAX } else { random.below(100_000) },
                wall: if random.once_in(50) { i64::MIN } else { random.next() as i64 >> 20 },
            };
            engine.step(now, event(&mut random));
            if random.once_in(4) {
                store.write(engine.take_changes());
                engine.take_effects();
            }
            if random.once_in(60) {
                store.write(engine.take_changes());
                let config = config(&mut random);
                if random.once_in(2) {
                    store = damaged(&store, &mut random);
                }
                engine = Engine::restore(config, store.rows(), Meta::default(), now).engine;
            }
        }
        assert_eq!(engine.counts().builds, engine.builds().count());
    });
}

#[test]
fn a_damaged_store_gives_an_engine_in_which_everything_still_ends() {
    let runs = if cfg!(debug_assertions) { 500 } else { 3_000 };
    with_seeds(runs, |seed| {
        let mut random = Random::new(seed);
        let mut store = Store::default();
        let pools = vec![make::pool("here", 2, &["a", "b"])];
        let config = Config { pools, ..Config::default() };
        let mut now = Now { mono: 0, wall: 0 };
        let mut engine = Engine::new(config.clone());
        for _step in 0..100 {
            now = Now { mono: now.mono + random.below(10_000), ..now };
            let event = match event(&mut random) {
                Event::Configure(_) => Event::Tick,
                other => other,
            };
            engine.step(now, event);
        }
        store.write(engine.take_changes());
        let rows = damaged(&store, &mut random).rows();
        let mut engine = Engine::restore(config, rows, Meta::default(), now).engine;
        // No runner ever comes up; pools, readers, log and outbox do their work.
        for _step in 0..3_000 {
            for effect in engine.take_effects() {
                let event = match effect {
                    Effect::Plan(push) => Event::Planned { push: *push, builds: Vec::new() },
                    Effect::Publish { publication, .. } => Event::Published(publication),
                    Effect::Mail(push) => Event::Mailed(push),
                    Effect::Kill { attempt, .. } => Event::HostGone { attempt, why: String::new() },
                    Effect::Launch { .. } | Effect::Stop { .. } => continue,
                };
                engine.step(now, event);
            }
            match engine.next_wake() {
                Some(at) => now.mono = now.mono.max(at),
                None => break,
            }
            engine.step(now, Event::Tick);
        }
        assert_eq!(engine.counts().builds, 0);
        assert_eq!(engine.pushes().count(), 0);
    });
}
