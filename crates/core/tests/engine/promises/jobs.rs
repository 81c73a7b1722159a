use hgci_core::engine::{Event, Reply};
use hgci_core::result::Outcome;
use hgci_core::{BuildId, BuildState, JobState};

use super::World;
use crate::make::{self, attempt, job, needing};

#[test]
fn a_job_waits_until_all_that_it_needs_has_passed() {
    let mut world = World::with_slots(4);
    let build = world.build(vec![job("a"), job("b"), needing("c", &[0, 1, 0])]);
    use JobState::{Passed, Running, Waiting};
    assert_eq!(world.states(build), [Running, Running, Waiting]);
    world.run(attempt(1, 0, 1), Outcome::Passed);
    assert_eq!(world.states(build), [Passed, Running, Waiting]);
    assert_eq!(world.engine.waits_for(make::job_key(1, 2)).unwrap(), "waits for b");
    world.run(attempt(1, 1, 1), Outcome::Passed);
    assert_eq!(world.states(build), [Passed, Passed, Running]);
}

#[test]
fn a_job_is_skipped_with_a_reason_when_what_it_needs_does_not_pass() {
    let mut world = World::with_slots(4);
    let build = world.build(vec![job("a"), needing("b", &[0]), needing("c", &[1])]);
    world.run(attempt(1, 0, 1), make::failed());
    use JobState::{Failed, Skipped};
    assert_eq!(world.states(build), [Failed, Skipped, Skipped]);
    assert_eq!(world.why(1, 1), "needs a, which failed");
    assert_eq!(world.why(1, 2), "needs b, which was skipped");
    assert_eq!(world.engine.build(build).unwrap().state, BuildState::Failed);
}

#[test]
fn a_job_that_may_fail_holds_nobody_up() {
    let mut world = World::with_slots(4);
    let build = world.build(vec![make::may_fail("a"), needing("b", &[0])]);
    world.run(attempt(1, 0, 1), make::failed());
    assert_eq!(world.state(1, 1), JobState::Running);
    world.run(attempt(1, 1, 1), Outcome::Passed);
    assert_eq!(world.engine.build(build).unwrap().state, BuildState::Passed);
}

#[test]
fn a_chain_of_any_length_is_skipped_at_once() {
    let mut world = World::with_slots(1);
    let rest = (1..20_000).map(|index| needing("next", &[index - 1]));
    let build = world.build(std::iter::once(job("first")).chain(rest).collect());
    world.run(attempt(1, 0, 1), make::failed());
    assert!(world.states(build)[1..].iter().all(|state| *state == JobState::Skipped));
}

#[test]
fn cancelling_a_build_ends_what_has_not_started() {
    let mut world = World::with_slots(1);
    let build = world.build(vec![job("a"), job("b"), needing("c", &[1])]);
    world.claim(attempt(1, 0, 1));
    let cancel = |job| Event::Cancel { build, job, by: "alice".into() };
    assert_eq!(world.step(cancel(None)), Reply::Accepted);
    use JobState::{Cancelled, Running};
    assert_eq!(world.states(build), [Running, Cancelled, Cancelled]);
    assert_eq!(world.why(1, 2), "cancelled by alice");
    assert_eq!(world.step(cancel(None)), Reply::Repeated);
    assert_eq!(world.step(cancel(Some(1))), Reply::Conflict, "it is over");
    assert_eq!(world.step(cancel(Some(9))), Reply::Unknown);
    let nowhere = Event::Cancel { build: BuildId(9), job: None, by: "alice".into() };
    assert_eq!(world.step(nowhere), Reply::Unknown);
}

#[test]
fn cancelling_one_job_skips_those_that_need_it_and_leaves_the_others() {
    let mut world = World::with_slots(1);
    let build = world.build(vec![job("a"), job("b"), needing("c", &[1])]);
    world.step(Event::Cancel { build, job: Some(1), by: "alice".into() });
    use JobState::{Cancelled, Running, Skipped};
    assert_eq!(world.states(build), [Running, Cancelled, Skipped]);
    assert_eq!(world.why(1, 2), "needs b, which was cancelled");
}

#[test]
fn a_runner_learns_of_a_cancel_with_its_lease_and_reports_the_end() {
    let mut world = World::with_slots(1);
    let build = world.build(vec![job("a")]);
    let key = attempt(1, 0, 1);
    world.claim(key);
    world.step(Event::Cancel { build, job: None, by: "alice".into() });
    assert_eq!(world.renew(key), Reply::Lease { ms: world.config.lease_ms, cancel: true });
    assert!(world.claim(key).cancel);
    assert_eq!(world.end(key, Outcome::Cancelled), Reply::Accepted);
    assert_eq!(world.state(1, 0), JobState::Cancelled);
    assert_eq!(world.why(1, 0), "cancelled by alice");
}

#[test]
fn a_job_that_ends_before_it_hears_of_a_cancel_keeps_its_end() {
    let mut world = World::with_slots(1);
    let build = world.build(vec![job("a")]);
    world.claim(attempt(1, 0, 1));
    world.step(Event::Cancel { build, job: None, by: "alice".into() });
    assert_eq!(world.end(attempt(1, 0, 1), Outcome::Passed), Reply::Accepted);
    assert_eq!(world.state(1, 0), JobState::Passed);
}

#[test]
fn a_runner_that_does_not_obey_a_cancel_is_killed() {
    let mut world = World::with_slots(1);
    let build = world.build(vec![job("a")]);
    let key = attempt(1, 0, 1);
    world.claim(key);
    world.step(Event::Cancel { build, job: None, by: "alice".into() });
    world.pass(world.config.grace_ms - 1);
    world.renew(key);
    assert_eq!((world.killed(), world.state(1, 0)), (vec![], JobState::Running));
    world.pass(1);
    assert_eq!((world.killed(), world.state(1, 0)), (vec![key], JobState::Cancelled));
    assert_eq!(world.renew(key), Reply::Conflict);
}

#[test]
fn a_cancelled_job_is_never_tried_again() {
    let mut world = World::with_slots(1);
    let build = world.build(vec![job("a")]);
    world.claim(attempt(1, 0, 1));
    world.step(Event::Cancel { build, job: None, by: "alice".into() });
    world.gone(attempt(1, 0, 1));
    assert_eq!(world.state(1, 0), JobState::Cancelled);
}

#[test]
fn cancelling_what_is_being_launched_ends_it_and_refuses_the_claim() {
    let mut world = World::with_slots(1);
    let build = world.build(vec![job("a")]);
    let key = attempt(1, 0, 1);
    world.step(Event::Cancel { build, job: None, by: "alice".into() });
    assert_eq!((world.killed(), world.state(1, 0)), (vec![key], JobState::Cancelled));
    let reply = world.step(Event::Claimed { attempt: key, instance: "late".into() });
    assert_eq!(reply, Reply::Conflict);
}

#[test]
fn what_is_superseded_stops_as_if_it_was_cancelled() {
    let mut world = World::with_slots(1);
    let build = world.build(vec![job("a"), job("b"), needing("c", &[1])]);
    let key = attempt(1, 0, 1);
    world.claim(key);
    let supersede = || Event::Supersede { build, why: "obsolete: pruned".into() };
    assert_eq!(world.step(supersede()), Reply::Accepted);
    use JobState::{Running, Superseded};
    assert_eq!(world.states(build), [Running, Superseded, Superseded]);
    assert_eq!(world.why(1, 2), "obsolete: pruned");
    assert_eq!(world.step(supersede()), Reply::Repeated);
    let cancel = Event::Cancel { build, job: None, by: "alice".into() };
    assert_eq!(world.step(cancel), Reply::Repeated, "it stops already");
    assert!(matches!(world.renew(key), Reply::Lease { cancel: true, .. }));
    assert_eq!(world.end(key, Outcome::Cancelled), Reply::Accepted);
    assert_eq!((world.state(1, 0), world.why(1, 0)), (Superseded, "obsolete: pruned".into()));
    assert_eq!(world.step(supersede()), Reply::Conflict, "it is over");
    let nowhere = Event::Supersede { build: BuildId(9), why: String::new() };
    assert_eq!(world.step(nowhere), Reply::Unknown);
}

#[test]
fn what_was_cancelled_is_not_superseded_and_a_verdict_goes_before_both() {
    let mut world = World::with_slots(2);
    let build = world.build(vec![job("a"), job("b"), job("c")]);
    world.claim(attempt(1, 0, 1));
    world.claim(attempt(1, 1, 1));
    world.step(Event::Cancel { build, job: Some(0), by: "alice".into() });
    world.step(Event::Supersede { build, why: "obsolete".into() });
    world.gone(attempt(1, 0, 1));
    world.end(attempt(1, 1, 1), Outcome::Failed { exit: Some(1), signal: None });
    use JobState::{Cancelled, Failed, Superseded};
    assert_eq!(world.states(build), [Cancelled, Failed, Superseded]);
}
