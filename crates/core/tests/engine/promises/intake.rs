use std::collections::BTreeSet;

use hgci_core::engine::{Amendment, Effect, Event, NewBuild, NoPlan, Pool, Reply, Stage, Trigger};
use hgci_core::push::{Lane, Push, Via};
use hgci_core::result::{Entry, Outcome};
use hgci_core::{BuildId, BuildState, JobState, PushId};

use super::World;
use crate::make::{self, attempt, job};

#[test]
fn a_push_heard_of_twice_is_one_push() {
    let mut world = World::with_slots(1);
    let push = make::push(PushId(1));
    assert_eq!(world.step(Event::Received(push.clone())), Reply::Accepted);
    assert_eq!(world.step(Event::Received(push.clone())), Reply::Repeated);
    assert_eq!(world.effects, [Effect::Plan(Box::new(push))]);
    assert_eq!(world.engine.next_push(), PushId(2));
}

#[test]
fn the_last_number_of_all_is_not_taken_for_a_push() {
    let mut world = World::with_slots(1);
    for _time in 0..2 {
        assert_eq!(world.step(Event::Received(make::push(PushId(u64::MAX)))), Reply::Conflict);
    }
    assert_eq!(world.engine.next_push(), PushId(1));
}

#[test]
fn a_push_is_planned_again_until_it_can_be_read() {
    let mut world = World::with_slots(1);
    world.step(Event::Received(make::push(PushId(1))));
    for pause in [5_000, 10_000, 20_000] {
        world.effects.clear();
        let why = "cannot open .hg: stale file handle".to_owned();
        let reply = world.step(Event::PlanFailed { push: PushId(1), why });
        assert_eq!(reply, Reply::Accepted);
        let reason = world.store.pushes[&PushId(1)].push.no_build.clone();
        assert_eq!(reason.unwrap(), "not planned yet: cannot open .hg: stale file handle");
        world.pass(pause - 1);
        assert_eq!(world.effects, []);
        world.pass(1);
        assert!(matches!(&world.effects[..], [Effect::Plan(_)]));
    }
    let builds = vec![make::new_build(1, Ok(vec![job("a")]))];
    world.step(Event::Planned { push: make::push(PushId(1)), builds });
    assert_eq!(world.store.pushes[&PushId(1)].push.no_build, None);
}

#[test]
fn what_is_in_flight_of_a_repository_that_left_the_configuration_ends_and_says_why() {
    let mut world = World::with_slots(1);
    let build = world.build(vec![job("a"), job("b")]);
    let kept = Push { repo: "gadgets".into(), ..make::push(PushId(2)) };
    world.step(Event::Received(kept));
    world.step(Event::Received(make::push(PushId(3))));
    world.step(Event::PlanFailed { push: PushId(3), why: "no such repository".into() });
    let runs = attempt(1, 0, 1);
    world.claim(runs);
    let names = BTreeSet::from(["gadgets".to_owned(), "gizmos".to_owned()]);
    for _time in 0..2 {
        assert_eq!(world.step(Event::Repositories(names.clone())), Reply::Accepted);
    }
    let why = "the repository \"widgets\" is no longer in the configuration";
    let over = &world.store.history.pushes[&PushId(3)];
    assert_eq!((over.stage, over.push.no_build.as_deref()), (Stage::Done, Some(why)));
    assert_eq!(world.store.pushes[&PushId(2)].stage, Stage::Planning);
    // What has not started is cancelled; the runner is told.
    assert_eq!(world.states(build), [JobState::Running, JobState::Cancelled]);
    assert_eq!(world.why(1, 1), format!("cancelled by hgcid: {why}"));
    assert!(matches!(world.renew(runs), Reply::Lease { cancel: true, .. }));
    world.end(runs, Outcome::Cancelled);
    let entries = world.publish();
    let Some(Entry::Build(end)) = entries.last() else { panic!("{entries:?}") };
    assert_eq!(end.state, BuildState::Cancelled);
    // A plan that comes late makes nothing.
    let builds = vec![make::new_build(9, Ok(vec![job("a")]))];
    let reply = world.step(Event::Planned { push: make::push(PushId(3)), builds });
    assert_eq!(reply, Reply::Repeated);
}

#[test]
fn a_reader_that_says_nothing_is_asked_again() {
    let mut world = World::with_slots(1);
    world.step(Event::Received(make::push(PushId(1))));
    world.effects.clear();
    world.pass(world.config.reissue_ms);
    assert!(matches!(&world.effects[..], [Effect::Plan(_)]));
}

#[test]
fn a_push_without_a_build_says_why_and_is_over() {
    let mut world = World::with_slots(1);
    world.push(vec![]);
    assert_eq!(
        world.store.history.pushes[&PushId(1)].push.no_build.as_deref(),
        Some("nothing to build")
    );
    let mut push = make::push(PushId(2));
    world.step(Event::Received(push.clone()));
    push.no_build = Some("only phases moved".into());
    world.step(Event::Planned { push, builds: vec![] });
    let row = &world.store.history.pushes[&PushId(2)];
    assert_eq!(row.push.no_build.as_deref(), Some("only phases moved"));
    assert_eq!((row.stage, row.builds), (Stage::Done, 0));
    assert_eq!(world.engine.next_wake(), None);
}

#[test]
fn a_changeset_is_built_once_for_each_trigger() {
    let mut world = World::with_slots(1);
    let builds = || vec![make::new_build(7, Ok(vec![job("a")]))];
    for id in [PushId(1), PushId(2)] {
        world.step(Event::Received(make::push(id)));
    }
    let reply = world.step(Event::Planned { push: make::push(PushId(1)), builds: builds() });
    assert_eq!(reply, Reply::Planned(vec![BuildId(1)]));
    let reply = world.step(Event::Planned { push: make::push(PushId(2)), builds: builds() });
    assert_eq!(reply, Reply::Planned(vec![]));
    let second = &world.store.history.pushes[&PushId(2)];
    let why = second.push.no_build.as_deref();
    assert_eq!(why, Some("every changeset to build has a build already"));
}

#[test]
fn a_build_is_known_until_the_history_has_it() {
    let mut world = World::with_slots(1);
    world.push(vec![Err("malformed")]);
    let node = make::node(1000);
    world.engine.take_effects();
    let effects = std::mem::take(&mut world.effects);
    for effect in effects {
        if let Effect::Publish { publication, .. } = effect {
            // Not yet written: the caller cannot find it in the history.
            world.engine.step(world.now, Event::Published(publication));
        }
    }
    assert_eq!(world.engine.counts().builds, 0);
    assert!(world.engine.knows_build("widgets", node, Trigger::Push));
    world.turn();
    assert!(!world.engine.knows_build("widgets", node, Trigger::Push));
    assert!(world.store.knows("widgets", node, Trigger::Push));
}

#[test]
fn a_malformed_pipeline_is_a_failed_build_that_is_published_and_mailed() {
    let mut world = World::with_slots(1);
    let build = world.push(vec![Err(".hgci.toml:3:7: unknown key rnu")])[0];
    let row = world.engine.build(build).unwrap();
    assert_eq!(row.state, BuildState::Failed);
    assert_eq!(row.message.as_deref(), Some(".hgci.toml:3:7: unknown key rnu"));
    assert_eq!(world.publish().len(), 1);
    assert!(world.effects.contains(&Effect::Mail(PushId(1))));
    assert_eq!(world.store.history.builds[&build].state, BuildState::Failed);
}

#[test]
fn a_changeset_that_the_machine_cannot_read_is_an_errored_build_that_is_published_and_mailed() {
    let mut world = World::with_slots(1);
    let plan = Err(NoPlan::Unreadable("it cannot be read: permission denied".into()));
    let builds = vec![NewBuild { plan, ..make::new_build(1, Err("")) }];
    world.step(Event::Received(make::push(PushId(1))));
    let Reply::Planned(made) = world.step(Event::Planned { push: make::push(PushId(1)), builds })
    else {
        panic!("it is not planned")
    };
    world.turn();
    let row = world.engine.build(made[0]).unwrap();
    assert_eq!(row.state, BuildState::Errored);
    assert_eq!(row.message.as_deref(), Some("it cannot be read: permission denied"));
    assert_eq!(world.publish().len(), 1);
    assert!(world.effects.contains(&Effect::Mail(PushId(1))));
}

#[test]
fn a_plan_without_jobs_is_a_skipped_build() {
    let mut world = World::with_slots(1);
    let build = world.build(vec![]);
    assert_eq!(world.engine.build(build).unwrap().state, BuildState::Skipped);
    assert_eq!(world.publish().len(), 1);
}

#[test]
fn a_plan_in_which_jobs_need_what_is_not_before_them_is_malformed() {
    for needs in [0, 1, 7] {
        let mut world = World::with_slots(1);
        let build = world.build(vec![make::needing("a", &[needs]), job("b")]);
        let row = world.engine.build(build).unwrap();
        assert_eq!(row.state, BuildState::Failed);
        assert_eq!(row.message.as_deref(), Some("job a needs one that does not come before it"));
    }
}

#[test]
fn a_late_hook_adds_who_pushed() {
    let mut world = World::with_slots(1);
    world.build(vec![job("a")]);
    let amendment = Amendment { user: Some("alice".into()), ..Amendment::default() };
    world.step(Event::Amended { push: PushId(1), amendment });
    assert_eq!(world.store.pushes[&PushId(1)].push.user.as_deref(), Some("alice"));
}

#[test]
fn what_a_hook_said_while_the_push_was_being_read_stays() {
    let mut world = World::with_slots(1);
    world.step(Event::Received(make::push(PushId(1))));
    let amendment = Amendment {
        user: Some("alice".into()),
        trusted: vec![make::node(1)],
        ..Amendment::default()
    };
    world.step(Event::Amended { push: PushId(1), amendment });
    world.restart();
    let mut build = make::new_build(1, Ok(vec![job("a")]));
    build.lane = Lane::Try;
    world.step(Event::Planned { push: make::push(PushId(1)), builds: vec![build] });
    assert_eq!(world.store.pushes[&PushId(1)].push.user.as_deref(), Some("alice"));
    assert_eq!(world.store.builds[&BuildId(1)].lane, Lane::Trusted);
}

#[test]
fn what_has_not_started_leaves_the_try_lane_and_nothing_ever_enters_it() {
    let mut world = World::with_slots(1);
    world.step(Event::Received(make::push(PushId(1))));
    let mut build = make::new_build(1, Ok(vec![job("a"), job("b")]));
    build.lane = Lane::Try;
    world.step(Event::Planned { push: make::push(PushId(1)), builds: vec![build] });
    let first = make::attempt(1, 0, 1);
    assert_eq!(world.launched_attempts(), [first]);
    assert_eq!(world.claim(first).lane, Lane::Try);
    let amendment = Amendment { trusted: vec![make::node(1)], ..Amendment::default() };
    world.step(Event::Amended { push: PushId(1), amendment });
    assert_eq!(world.claim(first).lane, Lane::Try, "what has started stays where it is");
    world.end(first, Outcome::Passed);
    world.gone(first);
    let second = make::attempt(1, 1, 1);
    assert_eq!(world.launched_attempts(), [second]);
    assert_eq!(world.claim(second).lane, Lane::Trusted);
    world.step(Event::Amended { push: PushId(1), amendment: Amendment::default() });
    assert_eq!(world.engine.build(BuildId(1)).unwrap().lane, Lane::Trusted);
}

/// A world whose only pool takes trusted work alone, with a push in the try lane.
fn with_a_try_build(push: Push) -> World {
    let mut world =
        World::with_pools(vec![Pool { lanes: vec![Lane::Trusted], ..make::pool("here", 1, &[]) }]);
    world.step(Event::Received(push.clone()));
    let mut build = make::new_build(1, Ok(vec![job("a"), make::labelled("b", &["vax"])]));
    build.lane = Lane::Try;
    world.step(Event::Planned { push, builds: vec![build] });
    world
}

#[test]
fn what_only_the_trusted_may_run_waits_for_a_late_hook() {
    let mut world = with_a_try_build(make::push(PushId(1)));
    assert_eq!(world.states(BuildId(1)), [JobState::Queued, JobState::Skipped]);
    world.pass(20_000);
    world.restart();
    assert_eq!(world.state(1, 0), JobState::Queued);
    let amendment = Amendment { trusted: vec![make::node(1)], ..Amendment::default() };
    world.step(Event::Amended { push: PushId(1), amendment });
    assert_eq!(world.launched_attempts(), [make::attempt(1, 0, 1)]);
}

#[test]
fn what_only_the_trusted_may_run_is_skipped_when_no_hook_speaks() {
    let mut world = with_a_try_build(make::push(PushId(1)));
    world.pass(29_999);
    assert_eq!(world.state(1, 0), JobState::Queued);
    world.pass(1);
    assert_eq!(world.state(1, 0), JobState::Skipped);
    assert_eq!(world.why(1, 0), "no pool takes try jobs");
    let heard = with_a_try_build(Push { via: Via::Hook, ..make::push(PushId(1)) });
    assert_eq!(heard.state(1, 0), JobState::Skipped, "its hook has spoken");
}

#[test]
fn a_late_hook_adds_all_that_it_knows() {
    let mut world = World::with_slots(1);
    world.build(vec![job("a")]);
    let amendment = Amendment {
        via: Some(Via::Hook),
        pushvars: [("REVIEW".to_owned(), "7".to_owned())].into(),
        ..Amendment::default()
    };
    world.step(Event::Amended { push: PushId(1), amendment });
    let push = &world.store.pushes[&PushId(1)].push;
    assert_eq!((push.via, push.pushvars["REVIEW"].as_str()), (Via::Hook, "7"));
}
