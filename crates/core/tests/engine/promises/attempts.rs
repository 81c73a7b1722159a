use hgci_core::JobState;
use hgci_core::engine::{Config, Event, Reply};
use hgci_core::result::Outcome;

use super::{World, runner};
use crate::make::{self, attempt, job};

#[test]
fn a_claim_binds_an_attempt_to_one_runner() {
    let mut world = World::with_slots(1);
    world.build(vec![job("a")]);
    let key = attempt(1, 0, 1);
    let grant = world.claim(key);
    assert_eq!(grant.spec().name, "a");
    assert_eq!(grant.timeout_ms, world.config.timeout_ms);
    assert_eq!(world.claim(key), grant, "the same runner gets the same answer");
    let other = |attempt| Event::Claimed { attempt, instance: "another".into() };
    assert_eq!(world.step(other(key)), Reply::Conflict);
    assert_eq!(world.step(other(attempt(1, 0, 2))), Reply::Unknown);
    assert_eq!(world.step(other(attempt(9, 0, 1))), Reply::Unknown);
    let another = "another".to_owned();
    let renewed = world.step(Event::Renewed { attempt: key, instance: another.clone() });
    assert_eq!(renewed, Reply::Conflict);
    let verdict = make::verdict(Outcome::Passed);
    let ended = world.step(Event::Ended { attempt: key, instance: another, verdict });
    assert_eq!(ended, Reply::Conflict);
    assert_eq!(world.state(1, 0), JobState::Running);
    assert!(world.engine.is_held_by(key, &runner(key)));
    assert!(!world.engine.is_held_by(key, "another"));
}

#[test]
fn the_same_verdict_again_is_as_good_as_the_first_and_another_is_refused() {
    let mut world = World::with_slots(1);
    world.build(vec![job("a")]);
    let key = attempt(1, 0, 1);
    world.claim(key);
    assert_eq!(world.end(key, make::failed()), Reply::Accepted);
    assert_eq!(world.end(key, make::failed()), Reply::Repeated);
    assert_eq!(world.end(key, Outcome::Passed), Reply::Conflict);
    assert_eq!(world.state(1, 0), JobState::Failed);
    // And so it is when the history has it.
    world.gone(key);
    world.publish();
    assert_eq!(world.end(key, make::failed()), Reply::Unknown);
    let row = &world.store.history.jobs[&key.job];
    let reply = |outcome| row.reply_to(1, &runner(key), &make::verdict(outcome));
    assert_eq!(reply(make::failed()), Reply::Repeated);
    assert_eq!(reply(Outcome::Passed), Reply::Conflict);
    let stranger = row.reply_to(1, "another", &make::verdict(make::failed()));
    assert_eq!(stranger, Reply::Conflict);
}

#[test]
fn the_same_huge_verdict_again_is_as_good_as_the_first() {
    let mut world = World::with_slots(1);
    world.build(vec![job("a")]);
    let key = attempt(1, 0, 1);
    world.claim(key);
    let huge = || Outcome::Errored { why: "no space left on device ".repeat(100_000) };
    assert_eq!(world.end(key, huge()), Reply::Accepted);
    assert_eq!(world.end(key, huge()), Reply::Repeated);
    let row = serde_json::to_string(&world.store.jobs[&key.job]).unwrap();
    assert!(row.len() < 2048, "a row stays small: {}", row.len());
}

#[test]
fn an_infrastructure_fault_is_tried_again_with_growing_pauses_and_then_errored() {
    let mut world = World::with_slots(1);
    world.build(vec![job("a")]);
    for (n, pause) in [(1, 5_000), (2, 10_000)] {
        assert_eq!(world.launched_attempts(), [attempt(1, 0, n)]);
        world.run(attempt(1, 0, n), make::errored());
        assert_eq!(world.state(1, 0), JobState::Queued);
        assert_eq!(world.engine.pools()[0].held, 0, "no slot is held for a pause");
        let waits = world.engine.waits_for(attempt(1, 0, n).job).unwrap();
        assert_eq!(waits, "tried again soon: no checkout");
        let [retry] = world.engine.retries().collect::<Vec<_>>().try_into().unwrap();
        assert_eq!((retry.name.as_str(), retry.why.as_str()), ("a", "no checkout"));
        assert_eq!((retry.job, retry.due), (attempt(1, 0, n).job, world.now.mono + pause));
        world.pass(pause - 1);
        assert_eq!(world.launched_attempts(), []);
        world.pass(1);
    }
    assert_eq!(world.engine.retries().count(), 0);
    assert_eq!(world.publish(), [], "nobody is told before the retries are used up");
    world.claim(attempt(1, 0, 3));
    world.end(attempt(1, 0, 3), make::errored());
    assert_eq!(world.state(1, 0), JobState::Errored);
    assert_eq!(world.why(1, 0), "tried 3 times; the last: no checkout");
}

#[test]
fn what_the_job_itself_says_is_never_tried_again() {
    for (outcome, state) in [
        (make::failed(), JobState::Failed),
        (Outcome::TimedOut, JobState::TimedOut),
        (Outcome::Passed, JobState::Passed),
    ] {
        let mut world = World::with_slots(1);
        world.build(vec![job("a")]);
        world.claim(attempt(1, 0, 1));
        world.end(attempt(1, 0, 1), outcome);
        assert_eq!(world.state(1, 0), state);
    }
}

#[test]
fn a_retry_goes_to_another_host_where_there_is_one() {
    let pools = vec![make::pool("here", 2, &[]), make::pool("there", 1, &[])];
    let mut world = World::with_pools(pools);
    world.build(vec![job("a")]);
    let mut hosts = Vec::new();
    for n in 1..=3 {
        hosts.extend(world.launched().into_iter().map(|(_, pool, slot)| (pool, slot)));
        world.run(attempt(1, 0, n), make::errored());
        world.pass(60_000);
    }
    let expected = [("here", 0), ("there", 0)].map(|(pool, slot)| (pool.to_owned(), slot));
    assert_eq!(hosts[..2], expected);
    // Both pools were tried: the preferred one again, on any slot.
    assert_eq!(hosts[2].0, "here");

    let mut world = World::with_slots(2);
    world.build(vec![job("a")]);
    assert_eq!(world.launched()[0].2, 0);
    world.run(attempt(1, 0, 1), make::errored());
    world.pass(60_000);
    assert_eq!(world.launched()[0].2, 1, "another slot, where there is one pool");
}

#[test]
fn a_launch_that_fails_frees_the_slot_and_is_tried_again() {
    let mut world = World::with_slots(1);
    world.build(vec![job("a")]);
    let key = attempt(1, 0, 1);
    let failed = || Event::LaunchFailed { attempt: key, why: "no such image".into() };
    assert_eq!(world.step(failed()), Reply::Accepted);
    assert_eq!(world.step(failed()), Reply::Repeated);
    assert_eq!((world.state(1, 0), world.engine.pools()[0].held), (JobState::Queued, 0));
    world.pass(world.config.backoff_ms);
    let again = attempt(1, 0, 2);
    assert_eq!(world.launched_attempts(), [key, again]);
    world.claim(again);
    let late = Event::LaunchFailed { attempt: again, why: "repeated".into() };
    assert_eq!(world.step(late), Reply::Conflict, "there is a runner");
}

#[test]
fn a_launch_that_nobody_claims_is_given_up() {
    let mut world = World::with_slots(1);
    world.build(vec![job("a")]);
    let key = attempt(1, 0, 1);
    world.pass(world.config.start_ms);
    assert_eq!((world.state(1, 0), world.killed()), (JobState::Queued, vec![key]));
    let late = world.step(Event::Claimed { attempt: key, instance: "late".into() });
    assert_eq!(late, Reply::Conflict);
    assert_eq!(world.engine.pools()[0].held, 1, "the slot is held until the host is rid of it");
    world.gone(key);
    assert_eq!(world.engine.pools()[0].held, 0);
}

#[test]
fn a_runner_that_dies_without_a_verdict_is_a_fault_of_ours() {
    let config = Config { retries: 0, ..World::with_slots(1).config };
    let mut world = World::new(config);
    world.build(vec![job("a")]);
    world.claim(attempt(1, 0, 1));
    let why = "killed by signal 9".to_owned();
    world.step(Event::HostGone { attempt: attempt(1, 0, 1), why });
    assert_eq!(world.state(1, 0), JobState::Errored);
    assert_eq!(world.why(1, 0), "lost here/0: killed by signal 9");
}

#[test]
fn a_lease_ends_a_margin_after_the_runner_has_let_go() {
    let mut world = World::with_slots(1);
    world.build(vec![job("a")]);
    let key = attempt(1, 0, 1);
    world.claim(key);
    let term = world.config.lease_ms + world.config.lease_margin_ms;
    world.pass(term - 1);
    assert_eq!(world.renew(key), Reply::Lease { ms: world.config.lease_ms, cancel: false });
    world.pass(term - 1);
    assert_eq!(world.state(1, 0), JobState::Running);
    world.pass(1);
    assert_eq!((world.state(1, 0), world.killed()), (JobState::Queued, vec![key]));
    assert_eq!(world.renew(key), Reply::Conflict);
}

#[test]
fn a_late_verdict_counts_until_the_next_attempt_is_launched() {
    let mut world = World::with_slots(2);
    world.build(vec![job("a")]);
    let key = attempt(1, 0, 1);
    world.claim(key);
    let term = world.config.lease_ms + world.config.lease_margin_ms;
    world.pass(term);
    assert_eq!(world.state(1, 0), JobState::Queued);
    assert_eq!(world.end(key, Outcome::Passed), Reply::Accepted);
    assert_eq!(world.state(1, 0), JobState::Passed);
    world.pass(60_000);
    assert_eq!(world.launched_attempts(), [key], "there is nothing left to try");

    let mut world = World::with_slots(2);
    world.build(vec![job("a")]);
    world.claim(key);
    world.pass(term + world.config.backoff_ms);
    assert_eq!(world.launched_attempts(), [key, attempt(1, 0, 2)]);
    assert_eq!(world.end(key, Outcome::Passed), Reply::Conflict);
    assert_eq!(world.state(1, 0), JobState::Running);
}

#[test]
fn a_runner_that_keeps_its_lease_and_no_time_is_killed() {
    let config = Config { retries: 0, ..World::with_slots(1).config };
    let mut world = World::new(config);
    world.build(vec![job("a")]);
    let key = attempt(1, 0, 1);
    world.claim(key);
    let most = world.config.timeout_ms + world.config.timeout_margin_ms;
    for _renewal in 0..most / 60_000 {
        assert_eq!(world.state(1, 0), JobState::Running);
        world.renew(key);
        world.pass(60_000);
    }
    assert_eq!((world.state(1, 0), world.killed()), (JobState::Errored, vec![key]));
    assert_eq!(world.why(1, 0), "no verdict from here/0 within 1h15m");
}

#[test]
fn a_slot_is_free_when_the_host_says_so_or_a_lease_later() {
    let mut world = World::with_slots(1);
    world.build(vec![job("a"), job("b")]);
    let (a, b) = (attempt(1, 0, 1), attempt(1, 1, 1));
    assert_eq!(world.launched_attempts(), [a]);
    world.claim(a);
    world.end(a, Outcome::Passed);
    assert_eq!(world.launched_attempts(), [], "its runner has not ended yet");
    world.pass(world.config.grace_ms);
    assert_eq!(world.killed(), [a], "it had time to");
    world.pass(world.config.lease_ms + world.config.lease_margin_ms - world.config.grace_ms);
    assert!(world.killed().len() > 2, "its host is asked again and again");
    assert_eq!(world.launched_attempts(), [b], "it has ended by itself, wherever it is");
    assert_eq!(world.gone(a), Reply::Repeated);
    assert_eq!(world.engine.pools()[0].held, 1);
}
