//! The daemon in a world of messages that come late, twice, or not at all.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use hgci_core::engine::{Config, Effect, Engine, Event, Now, Reply};
use hgci_core::push::Lane;
use hgci_core::result::{BuildResult, JobResult};
use hgci_core::{AttemptKey, BuildId, JobKey, JobState, PushId};

use super::hosts::{Hosts, RunnerId};
use crate::make;
use crate::random::Random;
use crate::store::Store;

pub const SECOND: u64 = 1000;
pub const MINUTE: u64 = 60 * SECOND;

/// Something that is going to happen.
#[derive(Clone, Debug)]
pub enum Future {
    /// An event reaches the daemon, if it is up. From `life` on it was under way inside the
    /// daemon, and is lost with it.
    Event { event: Box<Event>, life: u64 },
    /// A push comes in.
    Push,
    /// A reader has read a push.
    Plan { push: PushId, life: u64 },
    /// A pool carries out a launch.
    Launch { attempt: AttemptKey, pool: String, slot: u32 },
    /// A pool has a runner stop.
    Stop { attempt: AttemptKey },
    /// A pool carries out a kill.
    Kill { attempt: AttemptKey },
    /// The results log takes entries.
    Publish { effect: Box<Effect>, life: u64 },
    /// The outbox takes a message.
    Mail { push: PushId, life: u64 },
    /// A runner wakes up.
    Runner(RunnerId),
    /// Somebody does something to the daemon.
    Meddle,
    /// The daemon starts again.
    Start,
    /// The daemon looks at the clock.
    Tick { life: u64 },
}

/// What is in the results logs.
#[derive(Default)]
pub struct Log {
    pub jobs: BTreeMap<JobKey, JobResult>,
    pub builds: BTreeMap<BuildId, BuildResult>,
}

pub struct World {
    pub random: Random,
    pub time: u64,
    /// The daemon's monotonic clock starts anew when its machine does.
    pub mono_zero: u64,
    /// How far the wall clock is from the time that it should show.
    wall_off: i64,
    /// The latest wall clock that the engine has seen, or knows of from its rows.
    queue_clock: i64,
    /// What that was when a job came into the queue for the first time.
    pub queued: BTreeMap<JobKey, i64>,
    pub engine: Option<Engine>,
    /// Which life of the daemon this is.
    pub life: u64,
    pub store: Store,
    pub config: Config,
    pub hosts: Hosts,
    pub log: Log,
    pub outbox: BTreeSet<PushId>,
    /// Pushes whose acceptance was acknowledged.
    pub accepted: BTreeSet<PushId>,
    /// What is durable of the ends of jobs: they never change.
    pub ends: BTreeMap<JobKey, JobState>,
    future: BinaryHeap<Reverse<(u64, u64, usize)>>,
    scheduled: Vec<Option<Future>>,
    sequence: u64,
    next_tick: Option<u64>,
    pub pushes_left: u32,
    /// While true, anything may go wrong.
    pub storm: bool,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let config = Config {
            pools: pools(&mut random),
            retries: random.below(3) as u32,
            backoff_ms: 5 * SECOND,
            backoff_max_ms: MINUTE,
            start_ms: 2 * MINUTE,
            lease_ms: 10 * MINUTE,
            lease_margin_ms: 30 * SECOND,
            timeout_ms: 60 * MINUTE,
            timeout_margin_ms: 15 * MINUTE,
            grace_ms: MINUTE,
            reissue_ms: MINUTE,
            reissue_max_ms: 60 * MINUTE,
            ageing_ms: 10 * MINUTE,
            late_hook_ms: MINUTE,
        };
        let pushes_left = 3 + random.below(8) as u32;
        let mut world = World {
            random,
            time: 1_700_000_000_000,
            mono_zero: 1_700_000_000_000,
            wall_off: 0,
            queue_clock: 0,
            queued: BTreeMap::new(),
            engine: None,
            life: 0,
            store: Store::default(),
            config,
            hosts: Hosts::default(),
            log: Log::default(),
            outbox: BTreeSet::new(),
            accepted: BTreeSet::new(),
            ends: BTreeMap::new(),
            future: BinaryHeap::new(),
            scheduled: Vec::new(),
            sequence: 0,
            next_tick: None,
            pushes_left,
            storm: true,
        };
        world.after(0, Future::Start);
        world.after(SECOND, Future::Push);
        world.after(MINUTE, Future::Meddle);
        world
    }

    pub fn now(&self) -> Now {
        Now { mono: self.time - self.mono_zero, wall: self.time as i64 + self.wall_off }
    }

    /// Somebody sets the wall clock, by up to two hours in either direction.
    fn jump(&mut self) {
        let jump = self.random.below(240 * MINUTE + 1) as i64;
        self.wall_off += jump - 120 * MINUTE as i64;
    }

    /// Notes which jobs stand in the queue since now.
    fn note_queued(&mut self) {
        let Some(engine) = &self.engine else { return };
        for build in engine.builds() {
            for job in engine.jobs(build.id) {
                if job.state != JobState::Waiting {
                    self.queued.entry(job.key).or_insert(self.queue_clock);
                }
            }
        }
    }

    pub fn after(&mut self, ms: u64, what: Future) {
        self.sequence += 1;
        self.future.push(Reverse((self.time + ms, self.sequence, self.scheduled.len())));
        self.scheduled.push(Some(what));
    }

    /// Something between `from` and ten times that, mostly near it.
    pub fn soon(&mut self, from: u64) -> u64 {
        let most = if self.random.once_in(8) { 10 } else { 2 };
        from + self.random.below(from * most + 1)
    }

    /// Whether something that goes wrong once in so many times goes wrong now.
    pub fn fails(&mut self, times: u64) -> bool {
        self.storm && self.random.once_in(times)
    }

    /// Lives through the storm, and the calm after it, to the end.
    pub fn run(mut self) {
        let storm_ends = self.time + 30 * MINUTE + self.random.below(300 * MINUTE);
        let most = 20_000;
        for _turn in 0..most {
            let Some(Reverse((at, _, index))) = self.future.pop() else { break };
            assert!(at >= self.time);
            self.time = at;
            if self.storm && self.time > storm_ends && self.pushes_left == 0 {
                self.calm();
            }
            let what = self.scheduled[index].take().unwrap();
            self.happen(what);
            self.hosts_are_not_shared();
        }
        assert!(self.future.is_empty(), "it does not come to an end: {}", self.summary());
        self.everything_has_ended();
    }

    /// From here on nothing goes wrong that has not gone wrong yet.
    fn calm(&mut self) {
        self.storm = false;
        self.hosts.heal();
        if self.engine.is_some() {
            let config = self.config.clone();
            let events = [Event::Drain(false), Event::Blocked(None), Event::Configure(config)];
            events.into_iter().for_each(|event| drop(self.turn(event)));
        }
    }

    fn happen(&mut self, what: Future) {
        match what {
            Future::Start => self.start(),
            Future::Push => self.push(),
            Future::Plan { push, life } if life == self.life => self.plan(push),
            Future::Event { event, life } if life == self.life || life == 0 => {
                self.turn(*event);
            }
            Future::Publish { effect, life } if life == self.life => self.append(*effect),
            Future::Mail { push, life } if life == self.life => {
                self.outbox.insert(push);
                if !self.fails(8) {
                    self.tell(SECOND, Event::Mailed(push));
                }
            }
            Future::Tick { life } if life == self.life => {
                self.next_tick = None;
                self.turn(Event::Tick);
            }
            Future::Launch { attempt, pool, slot } => self.launch(attempt, &pool, slot),
            Future::Stop { attempt } => self.stop(attempt),
            Future::Kill { attempt } => self.kill(attempt),
            Future::Runner(id) => self.runner(id),
            Future::Meddle => self.meddle(),
            Future::Event { .. }
            | Future::Plan { .. }
            | Future::Publish { .. }
            | Future::Mail { .. }
            | Future::Tick { .. } => {}
        }
    }

    /// One turn of the daemon's loop. `None` when nobody answers: the daemon is down, or dies.
    pub fn turn(&mut self, event: Event) -> Option<Reply> {
        self.turn_of(vec![event])
    }

    /// The same for several events: the reply to the last.
    pub fn turn_of(&mut self, events: Vec<Event>) -> Option<Reply> {
        let now = self.now();
        let mut engine = self.engine.take()?;
        self.queue_clock = self.queue_clock.max(now.wall);
        let mut last = None;
        for event in events {
            let again = self.fails(16).then(|| event.clone());
            let mut reply = engine.step(now, event);
            if let Some(event) = again {
                // Told twice: the second answer is the one that arrives.
                let second = engine.step(now, event);
                if !matches!(reply, Reply::Planned(_)) {
                    reply = second;
                }
            }
            last = Some(reply);
        }
        let changes = engine.take_changes();
        if self.fails(150) {
            self.die();
            return None;
        }
        self.store.write(changes);
        self.engine = Some(engine);
        self.note_queued();
        self.check_invariants();
        if self.fails(150) {
            self.die();
            return None;
        }
        self.carry_out();
        self.wake();
        last
    }

    fn carry_out(&mut self) {
        let Some(engine) = &mut self.engine else { return };
        let effects = engine.take_effects();
        self.check_launches(&effects);
        for effect in effects {
            if self.fails(400) {
                self.die();
                return;
            }
            // Lost on the way.
            if self.fails(30) {
                continue;
            }
            let life = self.life;
            let times = if self.fails(20) { 2 } else { 1 };
            for _time in 0..times {
                let delay = self.soon(20);
                let future = match effect.clone() {
                    Effect::Plan(push) => Future::Plan { push: push.id, life },
                    Effect::Launch { attempt, pool, slot } => {
                        Future::Launch { attempt, pool: pool.to_string(), slot }
                    }
                    Effect::Stop { attempt, .. } => Future::Stop { attempt },
                    Effect::Kill { attempt, .. } => Future::Kill { attempt },
                    Effect::Publish { .. } => {
                        Future::Publish { effect: Box::new(effect.clone()), life }
                    }
                    Effect::Mail(push) => Future::Mail { push, life },
                };
                self.after(delay, future);
            }
        }
    }

    /// Sees to it that the daemon looks at the clock when the engine wants to.
    fn wake(&mut self) {
        let Some(engine) = &self.engine else { return };
        let Some(at) = engine.next_wake().map(|mono| mono + self.mono_zero) else { return };
        let at = at.max(self.time);
        if self.next_tick.is_none_or(|next| next > at) {
            self.next_tick = Some(at);
            self.after(at - self.time, Future::Tick { life: self.life });
        }
    }

    /// An event from outside, or from a thread of the daemon itself.
    pub fn tell(&mut self, delay: u64, event: Event) {
        let delay = self.soon(delay);
        self.after(delay, Future::Event { event: Box::new(event), life: self.life });
    }

    /// The daemon is killed. Now and then its machine is, and all on it.
    pub fn die(&mut self) {
        self.engine = None;
        self.next_tick = None;
        self.life += 1;
        let delay = self.soon(10 * SECOND);
        self.after(delay, Future::Start);
        if self.random.once_in(8) {
            self.mono_zero = self.time;
            self.hosts.all_die();
        }
    }

    fn start(&mut self) {
        if self.engine.is_some() {
            return;
        }
        self.life += 1;
        let engine = self.store.engine(self.config.clone(), self.now());
        self.engine = Some(engine);
        let created = self.store.builds.values().map(|row| row.created_ms);
        let queued = self.store.jobs.values().map(|row| row.queued_ms);
        self.queue_clock = created.chain(queued).fold(self.now().wall, i64::max);
        let changes = self.engine.as_mut().unwrap().take_changes();
        self.store.write(changes);
        self.note_queued();
        self.check_invariants();
        self.adopt();
        self.carry_out();
        self.wake();
    }

    fn meddle(&mut self) {
        if !self.storm {
            return;
        }
        let delay = self.soon(3 * MINUTE);
        self.after(delay, Future::Meddle);
        let builds: Vec<BuildId> = self.store.builds.keys().copied().collect();
        match self.random.below(12) {
            0 => {
                self.config.pools = pools(&mut self.random);
                self.turn(Event::Configure(self.config.clone()));
            }
            1 => drop(self.turn(Event::Drain(true))),
            2 | 3 => {
                self.turn(Event::Drain(false));
                self.turn(Event::Blocked(None));
            }
            4 => drop(self.turn(Event::Blocked(Some("the disk is full".into())))),
            5 if !builds.is_empty() => {
                let build = *self.random.pick(&builds);
                let job = self.random.once_in(2).then(|| self.random.below(4) as u32);
                let event = match self.random.once_in(3) {
                    true => Event::Supersede { build, why: "obsolete".into() },
                    false => Event::Cancel { build, job, by: "alice".into() },
                };
                self.turn(event);
            }
            6 => self.die(),
            9 | 10 => self.somebody_asks(),
            8 => self.jump(),
            7 if self.random.once_in(3) => {
                // Out of the configuration, and most times back in it.
                self.turn(Event::Repositories(BTreeSet::new()));
                self.turn(Event::Repositories(BTreeSet::from(["widgets".to_owned()])));
            }
            _ => self.trouble(),
        }
    }

    pub fn summary(&self) -> String {
        let engine = self.engine.as_ref();
        let held = engine.map(|engine| engine.held());
        let builds: Vec<_> = self.store.builds.values().map(|row| (row.id, row.state)).collect();
        let jobs: Vec<_> = self.store.jobs.values().map(|row| (row.key, row.state)).collect();
        format!("held {held:?}\nbuilds {builds:?}\njobs {jobs:?}\npushes {:?}", self.store.pushes)
    }
}

/// Some pools; two of them always, so that most jobs find one.
fn pools(random: &mut Random) -> Vec<hgci_core::engine::Pool> {
    let mut pools = vec![
        make::pool("here", 1 + random.below(3) as u32, &["linux"]),
        make::pool("there", 1 + random.below(2) as u32, &["linux", "big"]),
    ];
    if random.once_in(2) {
        pools.push(make::pool("far", random.below(3) as u32, &["linux", "arm"]));
    }
    if random.once_in(2) {
        pools[0].lanes = vec![Lane::Trusted];
    }
    if random.once_in(8) {
        pools.remove(1);
    }
    pools
}
