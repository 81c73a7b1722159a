use hgci_core::engine::{Config, Event, Pool};
use hgci_core::push::Lane;
use hgci_core::result::Outcome;
use hgci_core::{JobState, PushId};

use super::World;
use crate::make::{self, attempt, job, labelled, pool};

#[test]
fn no_more_run_than_there_are_slots() {
    let mut world = World::with_slots(2);
    world.build(vec![job("a"), job("b"), job("c")]);
    let slots: Vec<u32> = world.launched().into_iter().map(|(_, _, slot)| slot).collect();
    assert_eq!(slots, [0, 1]);
    world.run(attempt(1, 1, 1), Outcome::Passed);
    assert_eq!(world.launched(), [(attempt(1, 2, 1), "here".into(), 1)]);
}

#[test]
fn jobs_start_in_the_order_in_which_they_came() {
    let mut world = World::with_slots(0);
    for _push in 0..3 {
        world.build(vec![make::may_fail("a")]);
        world.pass(1);
    }
    // Skipped for want of a slot, every one.
    assert_eq!(world.launched_attempts(), []);
    let mut world = World::with_slots(1);
    for _push in 0..3 {
        world.build(vec![job("a"), job("b")]);
        world.pass(1);
    }
    let mut order = Vec::new();
    while let [next] = world.launched_attempts()[..] {
        order.push((next.job.build.0, next.job.index));
        world.run(next, Outcome::Passed);
    }
    assert_eq!(order, [(1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)]);
}

#[test]
fn a_pool_takes_what_has_its_labels_and_lane() {
    let tries = Pool { lanes: vec![Lane::Try], ..pool("tries", 9, &["linux"]) };
    let mut world = World::with_pools(vec![tries, pool("arm", 9, &["arm", "linux"])]);
    world.build(vec![job("any"), labelled("linux", &["linux"]), labelled("arm", &["arm"])]);
    assert!(world.launched().iter().all(|(_, pool, _)| pool == "arm"));
}

#[test]
fn a_job_that_no_pool_can_take_is_skipped_with_the_reason() {
    let tries = Pool { lanes: vec![Lane::Try], ..pool("tries", 1, &["linux"]) };
    let mut world = World::with_pools(vec![tries]);
    world.build(vec![
        labelled("vax", &["vax"]),
        labelled("both", &["vax", "vms"]),
        labelled("secret", &["linux"]),
        job("plain"),
    ]);
    assert!((0..4).all(|index| world.state(1, index) == JobState::Skipped));
    assert_eq!(world.why(1, 0), "no pool has the label vax");
    assert_eq!(world.why(1, 1), "no pool has the labels vax, vms");
    assert_eq!(world.why(1, 2), "no pool with the label linux takes trusted jobs");
    assert_eq!(world.why(1, 3), "no pool takes trusted jobs");
}

#[test]
fn queued_jobs_are_looked_at_anew_when_the_pools_change() {
    let mut world = World::with_pools(vec![pool("here", 1, &["linux"]), pool("arm", 1, &["arm"])]);
    world.build(vec![job("first"), labelled("a", &["arm"]), labelled("b", &["arm"])]);
    world.launched();
    let config = |pools| Event::Configure(Config { pools, ..Config::default() });
    world.step(config(vec![pool("here", 1, &["linux"])]));
    assert_eq!(world.state(1, 1), JobState::Running, "what runs goes on");
    assert_eq!(world.state(1, 2), JobState::Skipped);
    assert_eq!(world.why(1, 2), "no pool has the label arm");
    world.build(vec![job("next")]);
    world.step(config(vec![pool("here", 2, &["linux"])]));
    assert_eq!(world.launched_attempts(), [attempt(2, 0, 1)], "the new slot is used");
}

#[test]
fn a_pool_that_is_made_smaller_gives_no_slot_before_it_has_one() {
    let mut world = World::with_slots(3);
    world.build(vec![job("a"), job("b"), job("c"), job("d")]);
    world.launched();
    let config = Config { pools: vec![pool("here", 1, &[])], ..Config::default() };
    world.step(Event::Configure(config));
    world.run(attempt(1, 0, 1), Outcome::Passed);
    world.run(attempt(1, 1, 1), Outcome::Passed);
    assert_eq!(world.launched_attempts(), []);
    world.run(attempt(1, 2, 1), Outcome::Passed);
    assert_eq!(world.launched(), [(attempt(1, 3, 1), "here".into(), 0)]);
}

#[test]
fn trusted_jobs_go_first_and_try_jobs_never_starve() {
    let mut world = World::with_slots(1);
    let plan = |n, lane| {
        let mut build = make::new_build(n, Ok(vec![job("a")]));
        build.lane = lane;
        build
    };
    let push = |world: &mut World, lane| {
        let id = world.engine.next_push();
        world.step(Event::Received(make::push(id)));
        let builds = vec![plan(id.0, lane)];
        world.step(Event::Planned { push: make::push(PushId(id.0)), builds });
    };
    push(&mut world, Lane::Trusted);
    push(&mut world, Lane::Try);
    // From now on a trusted push a minute, and each takes a minute.
    let mut running = world.launched_attempts()[0];
    let mut overtaken = 0;
    loop {
        world.pass(60_000);
        push(&mut world, Lane::Trusted);
        world.run(running, Outcome::Passed);
        running = world.launched_attempts()[0];
        if running.job.build.0 == 2 {
            break;
        }
        overtaken += 1;
        assert!(overtaken < 100, "the try job starves");
    }
    let most = world.config.ageing_ms / 60_000;
    assert!((1..=most).contains(&overtaken), "{overtaken}");
}

#[test]
fn draining_finishes_what_runs_and_starts_nothing() {
    let mut world = World::with_slots(1);
    world.build(vec![job("a"), job("b")]);
    world.launched();
    world.step(Event::Drain(true));
    world.run(attempt(1, 0, 1), Outcome::Passed);
    assert_eq!(world.launched_attempts(), []);
    let waits = world.engine.waits_for(make::job_key(1, 1)).unwrap();
    assert!(waits.contains("draining"), "{waits}");
    world.step(Event::Drain(false));
    assert_eq!(world.launched_attempts(), [attempt(1, 1, 1)]);
}

#[test]
fn nothing_starts_while_something_is_in_the_way() {
    let mut world = World::with_slots(1);
    world.step(Event::Blocked(Some("1GiB free on /var/lib/hgci, the limit is 2GiB".into())));
    world.build(vec![job("a")]);
    assert_eq!(world.launched_attempts(), []);
    let waits = world.engine.waits_for(make::job_key(1, 0)).unwrap();
    assert_eq!(waits, "1GiB free on /var/lib/hgci, the limit is 2GiB");
    world.step(Event::Blocked(None));
    assert_eq!(world.launched_attempts(), [attempt(1, 0, 1)]);
}
