//! The local pool, with scripts for runners.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use hgci_core::{AttemptKey, BuildId, JobKey};
use hgcid::hosts::LocalPool;

const ATTEMPT: AttemptKey = AttemptKey { job: JobKey { build: BuildId(1), index: 0 }, n: 1 };

struct World {
    folder: tempfile::TempDir,
    pool: LocalPool,
    ends: mpsc::Receiver<(AttemptKey, String)>,
}

impl World {
    /// A pool whose runners note that they came, and then do as the script says.
    fn with_runner(script: &str) -> World {
        let folder = tempfile::tempdir().unwrap();
        let came = folder.path().join("came");
        let text = format!("#!/bin/sh\nread token\necho $token >>{}\n{script}\n", came.display());
        write_program(&folder.path().join("runner"), &text);
        World::over(folder)
    }

    /// What the next daemon has: another pool over the same folder.
    fn restart(self) -> World {
        World::over(self.folder)
    }

    fn over(folder: tempfile::TempDir) -> World {
        let (to_ends, ends) = mpsc::channel();
        let pool = LocalPool::new(
            folder.path().join("work"),
            folder.path().join("runner"),
            folder.path().join("socket"),
            vec![("PATH".into(), std::env::var("PATH").unwrap())],
            tokio::runtime::Handle::current(),
            Arc::new(move |attempt, why| drop(to_ends.send((attempt, why)))),
        );
        World { pool: pool.unwrap(), folder, ends }
    }

    fn came(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("came")).unwrap_or_default()
    }

    fn next_end(&self) -> (AttemptKey, String) {
        self.ends.recv_timeout(Duration::from_secs(60)).unwrap()
    }

    fn left(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.path().join("work")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

/// By a process of its own: a program that another thread's child still has open for writing cannot
/// be started.
fn write_program(path: &Path, text: &str) {
    let mut shell = Command::new("sh");
    shell.args(["-c", "cat >\"$0\" && chmod 755 \"$0\""]).arg(path).stdin(Stdio::piped());
    let mut shell = shell.spawn().unwrap();
    shell.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(shell.wait().unwrap().success());
}

/// Waits for what must come; the limit is for what hangs.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _time in 0..12_000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("never came: {what}");
}

/// `alive` of [`LocalPool::adopt`], for one attempt that was claimed.
fn claimed(attempt: AttemptKey) -> BTreeMap<AttemptKey, Option<String>> {
    [(attempt, Some("an instance".to_owned()))].into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_that_comes_again_after_the_end_starts_no_other_runner() {
    let world = World::with_runner("exit 3");
    world.pool.launch(ATTEMPT, "secret").unwrap();
    let (attempt, why) = world.next_end();
    assert_eq!(attempt, ATTEMPT);
    assert!(why.contains("exit status: 3"), "{why}");
    for _time in 0..2 {
        world.pool.launch(ATTEMPT, "secret").unwrap();
        assert_eq!(world.next_end(), (ATTEMPT, "its runner has ended".into()));
    }
    assert_eq!(world.came(), "secret\n");
    assert!(world.left().is_empty());
    // The next attempt of the job is another matter.
    world.pool.launch(AttemptKey { n: 2, ..ATTEMPT }, "other").unwrap();
    assert_eq!(world.next_end().0, AttemptKey { n: 2, ..ATTEMPT });
    assert_eq!(world.came(), "secret\nother\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_that_comes_twice_starts_one_runner() {
    let world = World::with_runner("exec sleep 1000");
    world.pool.launch(ATTEMPT, "secret").unwrap();
    world.pool.launch(ATTEMPT, "secret").unwrap();
    world.pool.kill(ATTEMPT);
    let (attempt, why) = world.next_end();
    assert_eq!(attempt, ATTEMPT);
    assert!(why.contains("signal: 15"), "{why}");
    assert!(world.came().lines().count() <= 1);
    assert!(world.ends.try_recv().is_err(), "one runner has one end");
    // A kill that is late is no error, and neither is a launch after it.
    world.pool.kill(ATTEMPT);
    assert_eq!(world.next_end(), (ATTEMPT, "it has no runner".into()));
    world.pool.launch(ATTEMPT, "secret").unwrap();
    assert_eq!(world.next_end(), (ATTEMPT, "its runner has ended".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_runner_says_after_it_has_cleared_up_is_the_reason_of_its_end() {
    let world = World::with_runner("rm -r $6; echo the disk hangs >&2; exit 1");
    world.pool.launch(ATTEMPT, "secret").unwrap();
    let why = "the runner ended without a verdict: exit status: 1: the disk hangs";
    assert_eq!(world.next_end(), (ATTEMPT, why.into()));
    assert!(world.left().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_daemon_takes_up_its_runner_and_hears_its_last_words() {
    let world =
        World::with_runner("while test ! -e $6/go; do sleep 0.01; done; rm -r $6; echo bye >&2");
    world.pool.launch(ATTEMPT, "secret").unwrap();
    eventually("the runner", || world.came() == "secret\n");
    let world = world.restart();
    assert_eq!(world.pool.adopt(&claimed(ATTEMPT)), []);
    // It is watched, so it is not started again.
    world.pool.launch(ATTEMPT, "secret").unwrap();
    std::fs::write(world.pool.folder(ATTEMPT).join("go"), "").unwrap();
    let why = "the runner ended without a verdict: bye";
    assert_eq!(world.next_end(), (ATTEMPT, why.into()));
    assert_eq!(world.came(), "secret\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_that_looks_like_a_runner_is_neither_taken_up_nor_killed() {
    let world = World::with_runner("exec sleep 1000");
    world.pool.launch(ATTEMPT, "secret").unwrap();
    eventually("the runner", || world.came() == "secret\n");
    let second = AttemptKey { n: 2, ..ATTEMPT };
    let third = AttemptKey { n: 3, ..ATTEMPT };
    std::fs::create_dir(world.pool.folder(second)).unwrap();
    // What a job can do: command lines that name the attempts of others, of its own, of nobody.
    let mut strangers: Vec<_> = [ATTEMPT, second, third]
        .map(|attempt| {
            Command::new("sh")
                .args(["-c", "sleep 1000; :", "x", "--attempt", &attempt.to_string(), "--work"])
                .arg(world.pool.folder(attempt))
                .spawn()
                .unwrap()
        })
        .into();
    let world = world.restart();
    let alive = [ATTEMPT, second].map(|attempt| (attempt, Some("an instance".to_owned())));
    assert_eq!(world.pool.adopt(&alive.into()), [second]);
    assert_eq!(world.left(), [world.pool.folder(ATTEMPT)]);
    // The one that is watched is the runner.
    world.pool.kill(ATTEMPT);
    assert_eq!(world.next_end(), (ATTEMPT, "the runner ended without a verdict".into()));
    for stranger in &mut strangers {
        assert!(stranger.try_wait().unwrap().is_none(), "a stranger was killed");
        let pid = rustix::process::Pid::from_child(stranger);
        for child in
            hgci_runner::procs::descendants(stranger.id().cast_signed(), &hgci_runner::procs::all())
        {
            child.signal(rustix::process::Signal::KILL).unwrap();
        }
        let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        stranger.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_about_another_process_makes_it_no_runner() {
    let world = World::with_runner("exec sleep 1000");
    world.pool.launch(ATTEMPT, "secret").unwrap();
    let line = std::fs::read_to_string(world.pool.folder(ATTEMPT).join("runner.pid")).unwrap();
    let (pid, start) = line.split_once(' ').unwrap();
    let second = AttemptKey { n: 2, ..ATTEMPT };
    let third = AttemptKey { n: 3, ..ATTEMPT };
    // The number is another's by now; the runner died between the start and the writing.
    for (attempt, line) in
        [(second, format!("{} {start}", std::process::id())), (third, String::new())]
    {
        let folder = world.pool.folder(attempt);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("runner.pid"), line).unwrap();
    }
    let world = world.restart();
    let alive = [second, third].map(|attempt| (attempt, None));
    assert_eq!(world.pool.adopt(&alive.into()), [second, third]);
    // The first is nobody's any more: it is killed, and we are not.
    assert_eq!(world.next_end().0, ATTEMPT);
    assert!(Path::new("/proc").join(pid).join("exe").read_link().is_err());
    assert!(world.left().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_of_a_stray_runner_goes_however_long_its_job_takes_to_die() {
    // As a job does that its warden has not killed yet: each goes on to write while it can.
    let script = "w() { (n=0; while :; do : >$W/$1$n; n=$((n+1)); done) 2>/dev/null & }; W=$6; \
                  w a; w b; w c; echo on >$W.on; wait";
    let mut world = World::with_runner(script);
    for n in 1..=20 {
        let attempt = AttemptKey { n, ..ATTEMPT };
        world.pool.launch(attempt, "secret").unwrap();
        let on = world.folder.path().join(format!("work/{attempt}.on"));
        eventually("the writers", || on.exists());
        world = world.restart();
        assert_eq!(world.pool.adopt(&BTreeMap::new()), []);
        assert_eq!(world.next_end().0, attempt);
        eventually("an end of the folder", || !world.pool.folder(attempt).exists());
    }
}
