//! Logs of every kind.

use hgci_core::result::Outcome;

use crate::scene::{Mode, Scene, job, modes, sandbox};
use crate::tarball::Tarball;

fn none() -> Mode {
    Mode { isolation: hgci_api::run::Isolation::None, uid: None }
}

#[test]
fn colours_and_bytes_that_are_no_text_pass_as_they_are() {
    for mode in modes() {
        let step = r"printf '\033[31mred\033[0m\n\377\376\000\001\r\n'";
        let scene = Scene::new(&mode, &[step]);
        scene.run();
        let log = scene.daemon.state().log.clone();
        let wanted = b"\x1b[31mred\x1b[0m\n\xff\xfe\x00\x01\r\n";
        assert!(log.ends_with(wanted), "{}", log.escape_ascii());
    }
}

#[test]
fn a_line_of_10_mb_arrives_whole() {
    for mode in [none(), Mode { isolation: sandbox(), uid: None }] {
        let scene = Scene::new(&mode, &["head -c 10000000 /dev/zero | tr '\\0' x; echo"]);
        assert_eq!(scene.run().outcome, Outcome::Passed);
        let state = scene.daemon.state();
        let line = state.log.split(|byte| *byte == b'\n').nth(1).unwrap();
        assert_eq!(line.len(), 10_000_000);
        assert!(line.iter().all(|byte| *byte == b'x'));
    }
}

#[test]
fn a_log_of_200_mb_arrives_whole_and_is_not_held_in_memory() {
    let scene = Scene::new(&none(), &["yes 0123456789abcde | head -c 200000000"]);
    scene.daemon.state().count_log = Some(0);
    let mut running = scene.start();
    let mut most = 0;
    while running.child.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid()));
        let status = status.unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kb = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0);
        most = most.max(kb);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    scene.assert_nothing_left();
    assert_eq!(scene.verdict().outcome, Outcome::Passed);
    let header = "$ yes 0123456789abcde | head -c 200000000\n".len() as u64;
    assert_eq!(scene.daemon.state().count_log, Some(200_000_000 + header));
    assert!(most > 0 && most < 24_000, "the runner had {most} kB resident");
}

#[test]
fn what_exceeds_the_limit_is_dropped_counted_and_named() {
    let mut job = job(&["yes | head -c 1000000; echo the end"], none().isolation);
    job.limits.log = 100_000;
    let scene = Scene::with(&none(), job, Tarball::small().end());
    let verdict = scene.run();
    assert_eq!(verdict.outcome, Outcome::Passed);
    assert!(scene.log().len() <= 100_000 && scene.log().len() > 90_000);
    let note = &verdict.notes[0];
    assert!(note.starts_with("log cut: the limit of 97.7KiB is reached; "), "{note}");
    assert!(scene.log().ends_with(&format!("hgci: {note}\n")));
}

#[test]
fn the_log_can_be_followed_while_the_job_runs() {
    for mode in modes() {
        let scene = Scene::new(&mode, &["echo first; while ! test -e go; do sleep 0.01; done"]);
        let mut running = scene.start();
        scene.daemon.wait_for("the first line", |state| state.log.ends_with(b"\nfirst\n"));
        // As root we can write where the job is; an ordinary runner's tree is ours too, or root's.
        std::fs::write(scene.work.join("tree/go"), "").unwrap();
        assert!(running.wait().success());
        scene.assert_nothing_left();
        assert_eq!(scene.verdict().outcome, Outcome::Passed);
    }
}

#[test]
fn a_daemon_that_hangs_holds_up_neither_output_nor_timeout() {
    let mut job = job(
        &["yes 0123456789 | head -c 50000000; echo done > ../written; sleep 100"],
        none().isolation,
    );
    job.limits.timeout_ms = 10_000;
    job.lease.ms = 25_000;
    let scene = Scene::with(&none(), job, Tarball::small().end());
    scene.daemon.state().mute = true;
    let mut running = scene.start();
    let written = scene.work.join("written");
    while !written.exists() {
        assert!(running.child.try_wait().unwrap().is_none(), "the runner ended");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // It never gets a word in, so at last it lets go, with nothing left.
    assert_eq!(running.wait().code(), Some(3));
    scene.assert_nothing_left();
}

#[test]
fn the_log_is_sent_again_from_where_the_daemon_says() {
    let scene = Scene::new(&none(), &["for i in $(seq 2000); do echo line $i; sleep 0.001; done"]);
    let mut running = scene.start();
    for _ in 0..5 {
        let before = scene.daemon.state().log.len();
        scene.daemon.wait_for("more", |state| state.log.len() > before);
        // The daemon's machine crashed and lost what was not synced.
        let mut state = scene.daemon.state();
        let keep = state.log.len() / 2;
        state.log.truncate(keep);
    }
    assert!(running.wait().success());
    let log = scene.log();
    assert_eq!(log.lines().skip(1).collect::<Vec<_>>().len(), 2000);
    assert!(log.lines().skip(1).enumerate().all(|(n, line)| line == format!("line {}", n + 1)));
}
