//! Nothing of a job outlives it, whoever dies first.

use std::time::Duration;

use hgci_api::run::Isolation;
use hgci_core::result::Outcome;
use rustix::process::Signal;

use crate::scene::{Mode, Scene, modes};

/// Leaves processes behind in every way there is, each with a tag in its arguments.
const ORPHANS: &str = "
    sleep 10071 &
    (sleep 10072 &)
    setsid sleep 10073 &
    (setsid sh -c 'sleep 10074 & sleep 10075' >/dev/null 2>&1 </dev/null &)
    nohup sh -c 'trap \"\" TERM HUP INT; setsid sleep 10076' >/dev/null 2>&1 &
    env -i setsid sleep 10077 >/dev/null 2>&1 &
    sh -c 'kill -STOP $$; sleep 10078' &
";

/// The orphans of [`ORPHANS`], by their arguments: also one without an environment.
fn orphans() -> Vec<String> {
    let mut found = Vec::new();
    for process in hgci_runner::procs::all() {
        let line = std::fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.starts_with("sleep 1007") {
            found.push(format!("{} {line}", process.pid));
        }
    }
    found
}

/// Other tests of this program may have such orphans, so only one of them runs at a time.
fn alone() -> std::fs::File {
    // Of each account its own: another's could not be opened.
    let uid = rustix::process::geteuid().as_raw();
    let path = std::env::temp_dir().join(format!("hgci-runner-orphans-{uid}.lock"));
    let file = std::fs::File::options().create(true).append(true).open(path).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    file
}

#[test]
fn what_a_job_leaves_in_the_background_ends_with_it() {
    let _alone = alone();
    for mode in modes() {
        let scene = Scene::new(&mode, &[ORPHANS, "sleep 0.2; echo second step"]);
        assert_eq!(scene.run().outcome, Outcome::Passed, "{mode:?} {}", scene.log());
        assert_eq!(orphans(), [""; 0], "{mode:?}");
    }
}

#[test]
fn a_runner_that_is_killed_takes_its_job_along() {
    let _alone = alone();
    for mode in modes() {
        let scene = Scene::new(&mode, &[ORPHANS, "echo started; sleep 10079"]);
        let mut running = scene.start();
        scene.daemon.wait_for("a start", |state| state.log.ends_with(b"started\n"));
        running.kill();
        // Without any sweep.
        for _ in 0..2000 {
            if orphans().is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(orphans(), [""; 0], "{mode:?}");
        scene.sweep();
        scene.assert_nothing_left();
    }
}

#[test]
fn runner_and_warden_killed_at_once_leave_what_the_sweep_finds() {
    let _alone = alone();
    for mode in modes() {
        let scene = Scene::new(&mode, &["setsid sleep 10071 & echo started; sleep 10079"]);
        let running = scene.start();
        scene.daemon.wait_for("a start", |state| state.log.ends_with(b"started\n"));
        let all = hgci_runner::procs::all();
        let below = hgci_runner::procs::descendants(running.pid(), &all);
        let own = hgci_runner::procs::Process::of(running.pid()).unwrap();
        let wardens = below.iter().filter(|process| {
            let line = std::fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
            String::from_utf8_lossy(&line).contains("--warden")
        });
        // Stopped first, so that none sees the other die.
        let both: Vec<_> = wardens.chain([&own]).collect();
        for signal in [Signal::STOP, Signal::KILL] {
            for process in &both {
                process.signal(signal).unwrap();
            }
        }
        drop(running);
        scene.sweep();
        scene.assert_nothing_left();
        assert_eq!(orphans(), [""; 0], "{mode:?}");
    }
}

#[test]
fn a_runner_killed_at_any_moment_leaves_nothing_after_a_sweep() {
    let _alone = alone();
    let modes = modes();
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for round in 0..200 {
        let mode = &modes[round % modes.len()];
        let scene = Scene::new(mode, &[ORPHANS, "sleep 0.01", "sleep 10079"]);
        let mut running = scene.start();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        std::thread::sleep(Duration::from_micros(random % 40_000));
        running.kill();
        // The kernel and the warden may need a moment; the sweep does not wait for them.
        scene.sweep();
        for _ in 0..2000 {
            if orphans().is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(orphans(), [""; 0], "round {round} {mode:?}");
        scene.sweep();
        scene.assert_nothing_left();
    }
}

#[test]
fn a_job_that_kills_its_warden_is_errored_and_leaves_nothing() {
    let _alone = alone();
    let mode = Mode { isolation: Isolation::None, uid: None };
    let scene = Scene::new(&mode, &["setsid sleep 10071 & kill -9 $PPID; sleep 10079"]);
    let verdict = scene.run();
    assert!(matches!(verdict.outcome, Outcome::Errored { .. }), "{verdict:?}");
    assert_eq!(orphans(), [""; 0]);
}

#[test]
fn a_burst_of_processes_is_killed_to_the_last() {
    let _alone = alone();
    for mode in modes() {
        // 127 shells and 64 sleepers, and not one more.
        let burst = "b() { if test $1 = 0; then exec sleep 10071; fi; \
                     b $(($1-1)) & b $(($1-1)) & wait; }; \
                     b 6 & sleep 0.2; grep processes /proc/self/limits; exit 3";
        let scene = Scene::new(&mode, &[burst]);
        assert_eq!(scene.run().outcome, crate::scene::failed(3), "{mode:?}");
        assert!(scene.log().contains(" 8192 "), "{}", scene.log());
        assert_eq!(orphans(), [""; 0], "{mode:?}");
    }
}
