//! Leases, cancels, timeouts, and daemons that come and go.

use std::time::Duration;

use hgci_api::run::Isolation;
use hgci_core::result::Outcome;
use rustix::process::Signal;

use crate::scene::{Mode, Scene, job, modes};
use crate::tarball::Tarball;

fn none() -> Mode {
    Mode { isolation: Isolation::None, uid: None }
}

const SLEEP: &str = "echo started; sleep 1000 & sleep 1000";

#[test]
fn a_timeout_kills_the_whole_tree() {
    for mode in modes() {
        let mut job = job(
            &["(sleep 999 & sleep 999) & setsid sleep 999 & sleep 999"],
            mode.isolation.clone(),
        );
        job.spec.timeout_ms = Some(3000);
        let scene = Scene::with(&mode, job, Tarball::small().end());
        let verdict = scene.run();
        assert_eq!(verdict.outcome, Outcome::TimedOut, "{mode:?}");
        assert!(scene.log().ends_with("\nhgci: timed out after 3s\n"), "{}", scene.log());
    }
}

#[test]
fn a_job_may_clean_up_at_a_timeout_but_not_refuse_it() {
    // One with a process 1 of its own and one without: each takes the whole grace.
    for mode in modes().into_iter().take(2) {
        let mut job = job(
            &["trap 'echo cleaning; exit 0' TERM; (trap '' TERM; while :; do sleep 1; done) & \
               while :; do sleep 0.05; done"],
            mode.isolation.clone(),
        );
        job.spec.timeout_ms = Some(3000);
        let scene = Scene::with(&mode, job, Tarball::small().end());
        assert_eq!(scene.run().outcome, Outcome::TimedOut, "{mode:?}");
        assert!(scene.log().contains("\ncleaning\n"), "{mode:?} {}", scene.log());
    }
}

#[test]
fn a_cancel_that_comes_with_a_renewal_stops_the_job() {
    for mode in modes() {
        let mut job = job(&[SLEEP], mode.isolation.clone());
        job.lease.ms = 3000;
        let scene = Scene::with(&mode, job, Tarball::small().end());
        let mut running = scene.start();
        scene.daemon.wait_for("a start", |state| state.log.ends_with(b"started\n"));
        scene.daemon.state().cancel = true;
        assert!(running.wait().success());
        scene.assert_nothing_left();
        assert_eq!(scene.verdict().outcome, Outcome::Cancelled, "{mode:?}");
        assert!(scene.log().ends_with("\nhgci: cancelled\n"));
    }
}

#[test]
fn sigterm_to_the_runner_cancels_the_job() {
    for mode in modes() {
        let scene = Scene::new(&mode, &[SLEEP]);
        let mut running = scene.start();
        scene.daemon.wait_for("a start", |state| state.log.ends_with(b"started\n"));
        running.signal(Signal::TERM);
        assert!(running.wait().success());
        scene.assert_nothing_left();
        assert_eq!(scene.verdict().outcome, Outcome::Cancelled, "{mode:?}");
    }
}

#[test]
fn a_job_that_was_cancelled_before_its_claim_never_starts() {
    let mut job = job(&["echo no"], Isolation::None);
    job.lease.cancel = true;
    let scene = Scene::with(&none(), job, Tarball::small().end());
    assert_eq!(scene.run().outcome, Outcome::Cancelled);
    assert_eq!(scene.log(), "");
}

#[test]
fn a_runner_lets_go_at_409() {
    for mode in modes() {
        let mut job = job(&[SLEEP], mode.isolation.clone());
        job.lease.ms = 3000;
        let scene = Scene::with(&mode, job, Tarball::small().end());
        let mut running = scene.start();
        scene.daemon.wait_for("a start", |state| state.log.ends_with(b"started\n"));
        scene.daemon.state().refuse = Some(409);
        assert_eq!(running.wait().code(), Some(3), "{mode:?}");
        scene.assert_nothing_left();
        assert_eq!(scene.daemon.state().verdict, None);
    }
}

#[test]
fn a_second_instance_is_refused_and_leaves_quietly() {
    let scene = Scene::new(&none(), &["echo no"]);
    scene.daemon.state().instance = Some("another".into());
    assert_eq!(scene.start().wait().code(), Some(3));
    assert!(!scene.work.exists());
}

#[test]
fn a_lease_is_renewed_every_third_of_it() {
    let mut job = job(&["while ! test -e ../go; do sleep 0.05; done"], Isolation::None);
    job.lease.ms = 3000;
    let scene = Scene::with(&none(), job, Tarball::small().end());
    let mut running = scene.start();
    // More than the one or two that fit into a lease that is renewed at its end.
    scene.daemon.wait_for("renewals", |state| state.renewals >= 3);
    std::fs::write(scene.work.join("go"), "").unwrap();
    assert!(running.wait().success());
    assert_eq!(scene.verdict().outcome, Outcome::Passed);
}

#[test]
fn a_daemon_away_for_longer_than_the_lease_ends_the_job() {
    for mode in modes() {
        let mut job = job(&[SLEEP], mode.isolation.clone());
        job.lease.ms = 5000;
        let scene = Scene::with(&mode, job, Tarball::small().end());
        let mut running = scene.start();
        scene.daemon.wait_for("a start", |state| state.log.ends_with(b"started\n"));
        scene.daemon.down();
        assert_eq!(running.wait().code(), Some(3), "{mode:?}");
        scene.assert_nothing_left();
    }
}

#[test]
fn a_job_goes_on_while_the_daemon_restarts() {
    for mode in modes() {
        let step = "i=0; while ! test -e go; do i=$((i+1)); echo line $i; sleep 0.01; done";
        let scene = Scene::new(&mode, &[step]);
        let mut running = scene.start();
        for _ in 0..3 {
            let before = scene.daemon.state().log.len();
            scene.daemon.wait_for("more", |state| state.log.len() > before);
            scene.daemon.down();
            std::thread::sleep(Duration::from_millis(100));
            scene.daemon.up();
        }
        std::fs::write(scene.work.join("tree/go"), "").unwrap();
        assert!(running.wait().success(), "{mode:?}");
        scene.assert_nothing_left();
        assert_eq!(scene.verdict().outcome, Outcome::Passed);
        let log = scene.log();
        assert!(log.lines().skip(1).enumerate().all(|(n, line)| line == format!("line {}", n + 1)));
        assert!(log.lines().count() > 4, "{log}");
    }
}

#[test]
fn a_verdict_waits_for_the_daemon() {
    let scene =
        Scene::new(&none(), &["echo hi > ../began; while ! test -e ../go; do sleep 0.01; done"]);
    let mut running = scene.start();
    while !scene.work.join("began").exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    scene.daemon.down();
    std::fs::write(scene.work.join("go"), "").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(running.child.try_wait().unwrap().is_none());
    scene.daemon.up();
    assert!(running.wait().success());
    assert_eq!(scene.verdict().outcome, Outcome::Passed);
}

#[test]
fn a_claim_waits_for_the_daemon() {
    let scene = Scene::new(&none(), &["echo hi"]);
    scene.daemon.down();
    let mut running = scene.start();
    std::thread::sleep(Duration::from_millis(200));
    scene.daemon.up();
    assert!(running.wait().success());
    assert_eq!(scene.verdict().outcome, Outcome::Passed);
}

#[test]
fn a_source_stream_that_breaks_off_is_fetched_again() {
    for mode in modes() {
        let scene = Scene::new(&mode, &["ls -A src run.sh; cat src/main.c"]);
        scene.daemon.state().break_source = (3000, 2);
        assert_eq!(scene.run().outcome, Outcome::Passed, "{mode:?}");
        assert_eq!(scene.daemon.state().calls["source"], 3);
    }
}

#[test]
fn a_source_tree_that_never_comes_is_errored_at_once_with_the_reason() {
    let scene = Scene::new(&none(), &["echo no"]);
    scene.daemon.state().refuse_call = Some(("source", 422, "/srv/hg/w has no changeset 12"));
    let Outcome::Errored { why } = scene.run().outcome else { panic!("{:?}", scene.verdict()) };
    assert!(why.ends_with("/srv/hg/w has no changeset 12"), "{why}");
    assert_eq!(scene.log(), format!("hgci: {why}\n"));
    assert_eq!(scene.daemon.state().calls["source"], 1);
}

/// A call fails for longer than the lease, at a daemon that is there.
fn outlasts_its_lease_while_a_call_fails(call: &'static str) {
    let mut job = job(&["echo hi"], Isolation::None);
    job.lease.ms = 6000;
    let scene = Scene::with(&none(), job, Tarball::small().end());
    scene.daemon.state().refuse_call = Some((call, 500, "the disk hangs"));
    let mut running = scene.start();
    scene.daemon.wait_for("four renewals", |state| state.renewals >= 4);
    scene.daemon.state().refuse_call = None;
    assert!(running.wait().success(), "{call}");
    scene.assert_nothing_left();
    assert_eq!(scene.verdict().outcome, Outcome::Passed, "{call}");
}

#[test]
fn a_lease_is_renewed_while_the_source_tree_does_not_come() {
    outlasts_its_lease_while_a_call_fails("source");
}

#[test]
fn a_lease_is_renewed_while_the_verdict_is_not_taken() {
    outlasts_its_lease_while_a_call_fails("verdict");
}

#[test]
fn a_job_that_leaves_no_thread_to_the_runner_goes_on() {
    // The kernel counts no process of root, and must count none of another test.
    if !crate::scene::is_root() {
        return;
    }
    let uid = 61_000 + std::process::id() % 4000;
    let mode = Mode { isolation: Isolation::None, uid: Some(uid) };
    let scene = Scene::new(&mode, &["exec sleep 1"]);
    let mut command = scene.command();
    // Runner, warden and step, and not one more.
    let limit = rustix::process::Rlimit { current: Some(3), maximum: Some(3) };
    let set = move || Ok(rustix::process::setrlimit(rustix::process::Resource::Nproc, limit)?);
    // SAFETY: between fork and exec this makes one system call.
    unsafe { std::os::unix::process::CommandExt::pre_exec(&mut command, set) };
    assert!(scene.start_as(&mut command).wait().success());
    scene.assert_nothing_left();
    assert_eq!(scene.verdict().outcome, Outcome::Passed);
}

#[test]
fn a_wrong_token_ends_the_runner_at_once() {
    let scene = Scene::new(&none(), &["echo no"]);
    scene.daemon.state().token = "another".into();
    assert_eq!(scene.start().wait().code(), Some(3));
    assert!(!scene.work.exists());
}

#[test]
fn a_runner_without_a_daemon_can_be_stopped() {
    let scene = Scene::new(&none(), &["echo no"]);
    scene.daemon.down();
    let mut running = scene.start();
    // Before it has blocked the signal it would die of it; it waits for its daemon after that.
    let blocks_it = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap().trim();
        u64::from_str_radix(mask, 16).unwrap() & (1 << (libc::SIGTERM - 1)) != 0
    };
    while !blocks_it() {
        std::thread::sleep(Duration::from_millis(1));
    }
    running.signal(Signal::TERM);
    assert_eq!(running.wait().code(), Some(3));
    assert!(!scene.work.exists());
}
