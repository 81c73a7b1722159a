//! What 100,000 pending jobs cost the engine: how long it takes to start with them, how long a
//! step takes, how much memory it needs. `cargo run --release -p hgci-core --example engine_bench`

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on panics")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use hgci_core::engine::{
    BuildRow, Change, Config, Effect, Engine, Event, JobRow, Meta, NewBuild, Now, PlanId, Pool,
    PushRow, Reply, Rows, Trigger,
};
use hgci_core::job::{JobSpec, Plan};
use hgci_core::push::{Lane, Push, Via};
use hgci_core::result::{Outcome, Verdict};
use hgci_core::{AttemptKey, BuildId, JobKey, Node, PushId};

const JOBS: u64 = 100_000;

/// The rows in flight, as a store has them.
#[derive(Default)]
struct Store {
    meta: Meta,
    plans: BTreeMap<PlanId, Arc<Plan>>,
    pushes: BTreeMap<PushId, PushRow>,
    builds: BTreeMap<BuildId, BuildRow>,
    jobs: BTreeMap<JobKey, JobRow>,
}

impl Store {
    fn write(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Meta(meta) => self.meta = meta,
                Change::Plan(id, plan) => drop(self.plans.insert(id, plan)),
                Change::DropPlan(id) => drop(self.plans.remove(&id)),
                Change::Push(row) => drop(self.pushes.insert(row.push.id, *row)),
                Change::Build(row) => drop(self.builds.insert(row.id, *row)),
                Change::DropJob(key) => drop(self.jobs.remove(&key)),
                Change::Job(row) => drop(self.jobs.insert(row.key, *row)),
                Change::ArchivePush(row) => drop(self.pushes.remove(&row.push.id)),
                Change::ArchiveBuild { build, jobs } => {
                    self.builds.remove(&build.id);
                    jobs.iter().for_each(|job| drop(self.jobs.remove(&job.key)));
                }
            }
        }
    }

    fn into_rows(self) -> Rows {
        Rows {
            meta: self.meta,
            plans: self.plans.into_iter().collect(),
            pushes: self.pushes.into_values().collect(),
            builds: self.builds.into_values().collect(),
            jobs: self.jobs.into_values().collect(),
        }
    }
}

fn plan(n: u64, jobs: u64) -> Arc<Plan> {
    let job = |index| JobSpec {
        name: format!("test:{n}.{index}"),
        run: vec!["./configure --quiet".into(), "make -j2 check".into()],
        env: BTreeMap::from([("LANG".into(), "C.UTF-8".into())]),
        needs: Vec::new(),
        labels: vec!["linux".into()],
        timeout_ms: None,
        reports: vec!["build/junit/*.xml".into()],
        allow_failure: false,
    };
    Arc::new(Plan { jobs: (0..jobs).map(job).collect() })
}

fn push(id: u64) -> Push {
    Push {
        id: PushId(id),
        repo: "widgets".into(),
        received: 0,
        via: Via::Hook,
        txid: Some("TXN:0123456789abcdef0123456789abcdef01234567".into()),
        source: "serve".into(),
        user: Some("alice".into()),
        url: Some("remote:https:127.0.0.1:alice".into()),
        first: Some(Node::NULL),
        last: Some(Node::NULL),
        changesets: 1,
        heads: vec![Node::NULL],
        phases: Vec::new(),
        bookmarks: Vec::new(),
        markers: 0,
        pushvars: BTreeMap::new(),
        no_build: None,
    }
}

/// Resident memory in MiB; 0 where the system does not say.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

fn config(slots: u32) -> Config {
    let pools = vec![Pool {
        name: "here".into(),
        slots,
        labels: vec!["linux".into(), "x86_64".into()],
        lanes: vec![Lane::Trusted, Lane::Try],
    }];
    Config { pools, ..Config::default() }
}

/// An engine with all jobs pending, `each` to a push of one build, and what it left in the store.
fn fill(now: Now, each: u64) -> Store {
    let mut engine = Engine::new(config(2));
    engine.step(now, Event::Drain(true));
    let plans: Vec<Arc<Plan>> = (0..8).map(|n| plan(n, each)).collect();
    let mut store = Store::default();
    for id in 1..=JOBS / each {
        let mut node = Node::NULL;
        node.0[..8].copy_from_slice(&id.to_be_bytes());
        let build = NewBuild {
            repo: "widgets".into(),
            node,
            trigger: Trigger::Push,
            branch: "default".into(),
            author: "Alice Example <alice@example.org>".into(),
            description: "widgets: turn the left one around (issue1234)".into(),
            lane: if id % 3 == 0 { Lane::Try } else { Lane::Trusted },
            plan: Ok(plans[(id % 8) as usize].clone()),
            by: None,
            kept: BTreeMap::new(),
        };
        engine.step(now, Event::Received(push(id)));
        engine.step(now, Event::Planned { push: push(id), builds: vec![build] });
        store.write(engine.take_changes());
        engine.take_effects();
    }
    store
}

/// Times each step of 5,000 jobs from claim to history, and returns them in microseconds.
fn work(engine: &mut Engine, now: &mut Now) -> [Vec<f64>; 2] {
    let mut effects: Vec<Effect> = engine.take_effects();
    let (mut claims, mut others) = (Vec::new(), Vec::new());
    let mut step = |engine: &mut Engine, now: Now, event: Event| {
        let is_claim = matches!(event, Event::Claimed { .. });
        let start = Instant::now();
        let reply = engine.step(now, event);
        let changes = engine.take_changes();
        let took = start.elapsed().as_secs_f64() * 1e6;
        drop(changes);
        if is_claim {
            claims.push(took)
        } else {
            others.push(took)
        };
        reply
    };
    let mut done = 0;
    while done < 5_000 {
        let todo = std::mem::take(&mut effects);
        for effect in todo {
            now.mono += 1;
            now.wall += 1;
            match effect {
                Effect::Launch { attempt, .. } => {
                    let instance = "0123456789abcdef0123456789abcdef".to_owned();
                    let claim = Event::Claimed { attempt, instance: instance.clone() };
                    assert!(matches!(step(engine, *now, claim), Reply::Claimed(_)));
                    let verdict = Verdict {
                        outcome: Outcome::Passed,
                        started_ms: now.wall,
                        duration_ms: 5,
                        tests: None,
                        notes: Vec::new(),
                    };
                    step(engine, *now, Event::Ended { attempt, instance, verdict });
                    step(engine, *now, gone(attempt));
                    done += 1;
                }
                Effect::Publish { publication, .. } => {
                    step(engine, *now, Event::Published(publication));
                }
                Effect::Mail(push) => drop(step(engine, *now, Event::Mailed(push))),
                Effect::Kill { attempt, .. } => drop(step(engine, *now, gone(attempt))),
                Effect::Plan(_) | Effect::Stop { .. } => {}
            }
            effects.extend(engine.take_effects());
        }
    }
    [claims, others]
}

fn gone(attempt: AttemptKey) -> Event {
    Event::HostGone { attempt, why: "exit status 0".into() }
}

fn at(sorted: &[f64], part: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * part) as usize]
}

/// What a daemon does at its start, in a process of its own, and then a while of work.
fn start(file: &str) {
    let mut now = Now { mono: 1000, wall: 1_700_000_000_000 };
    let before = resident();
    let begin = Instant::now();
    let json = std::fs::read(file).unwrap();
    let (meta, plans, pushes, builds, jobs) = serde_json::from_slice(&json).unwrap();
    let rows = Rows { meta, plans, pushes, builds, jobs };
    let read = begin.elapsed();
    let mut engine = Engine::restore(config(2), rows, Meta::default(), now).engine;
    let all = begin.elapsed();
    drop(json);
    println!("  start       {all:.0?}, {read:.0?} of it to read the rows from JSON");
    println!("  memory      {:.0} MiB", resident() - before);
    let [claims, others] = work(&mut engine, &mut now);
    for (name, mut times) in [("claim", claims), ("other steps", others)] {
        times.sort_by(f64::total_cmp);
        let (half, p99, most) = (at(&times, 0.5), at(&times, 0.99), at(&times, 1.0));
        println!("  {name:<11} {half:.1} µs median, {p99:.1} µs p99, {most:.1} µs at most");
    }
}

fn main() {
    if let Some(file) = std::env::args().nth(1) {
        return start(&file);
    }
    let file = std::env::temp_dir().join(format!("engine_bench.{}", std::process::id()));
    for each in [1, 100] {
        let rows = fill(Now { mono: 1000, wall: 1_700_000_000_000 }, each).into_rows();
        let rows = (rows.meta, rows.plans, rows.pushes, rows.builds, rows.jobs);
        std::fs::write(&file, serde_json::to_vec(&rows).unwrap()).unwrap();
        println!("{JOBS} jobs pending, {each} to a push:");
        let this = std::env::current_exe().unwrap();
        assert!(std::process::Command::new(this).arg(&file).status().unwrap().success());
    }
    std::fs::remove_file(&file).unwrap();
}
