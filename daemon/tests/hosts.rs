//! The local pool, with scripts for runners.

#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
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
        let runner = folder.path().join("runner");
        let came = folder.path().join("came");
        let text = format!("#!/bin/sh\nread token\necho $token >>{}\n{script}\n", came.display());
        std::fs::write(&runner, text).unwrap();
        std::fs::set_permissions(&runner, std::fs::Permissions::from_mode(0o755)).unwrap();
        let (to_ends, ends) = mpsc::channel();
        let pool = LocalPool::new(
            folder.path().join("work"),
            runner,
            folder.path().join("socket"),
            vec![("PATH".into(), std::env::var("PATH").unwrap())],
            tokio::runtime::Handle::current(),
            Arc::new(move |attempt, why| to_ends.send((attempt, why)).unwrap()),
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
