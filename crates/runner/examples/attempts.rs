//! How many no-op attempts a second the runner does, against the small daemon of the tests:
//! `cargo run --release -p hgci-runner --example attempts [COUNT]`.
//!
//! Prints, for two attempts at a time: plain `sh -c true`, then whole attempts (start of the
//! runner, claim, source, sandbox, sh, log, verdict, removal) in each isolation, and the latency of
//! a single one. With `unpack FILE.tar` it unpacks that ten times instead.
#![allow(clippy::unwrap_used, dead_code)]

#[path = "../tests/runner/daemon.rs"]
mod daemon;
#[path = "../tests/runner/scene.rs"]
mod scene;
#[path = "../tests/runner/tarball.rs"]
mod tarball;

use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

use scene::{Scene, modes};

fn main() {
    if let Some("unpack") = std::env::args().nth(1).as_deref() {
        return unpack(&std::fs::read(std::env::args().nth(2).unwrap()).unwrap());
    }
    let count = std::env::args().nth(1).map_or(200, |text| text.parse().unwrap());
    let spawn = || {
        assert!(Command::new("/bin/sh").args(["-c", "true"]).status().unwrap().success());
    };
    print("sh -c true", count * 5, &spawn);
    for mode in modes() {
        let name = format!("{:?}, uid {:?}", mode.isolation, mode.uid.unwrap_or(0));
        print(&name, count, &|| {
            let scene = Scene::new(&mode, &["true"]);
            let status = scene.start().child.wait().unwrap();
            assert!(status.success(), "{}", scene.log());
        });
    }
}

fn print(name: &str, count: u32, action: &(dyn Fn() + Sync)) {
    let mut times: Vec<Duration> = (0..count.min(100))
        .map(|_| {
            let start = Instant::now();
            action();
            start.elapsed()
        })
        .collect();
    times.sort();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..count / 2).for_each(|_| action()));
        }
    });
    let rate = f64::from(count) / start.elapsed().as_secs_f64();
    println!("{rate:7.0}/s  median {:6.2?}  {name}", times[times.len() / 2]);
}

fn unpack(stream: &[u8]) {
    let above = tempfile::tempdir().unwrap();
    let _ = hgci_runner::ground::spread(above.path());
    for _ in 0..10 {
        let folder = tempfile::tempdir_in(above.path()).unwrap();
        let tree = std::fs::File::open(folder.path()).unwrap();
        let start = Instant::now();
        let done =
            hgci_runner::unpack::unpack(tree.as_fd(), stream, &mut || ControlFlow::Continue(()));
        let unpacked = start.elapsed();
        let start = Instant::now();
        hgci_runner::remove::empty(tree.as_fd()).unwrap();
        println!("{done:?} in {unpacked:.2?}, removed in {:.2?}", start.elapsed());
    }
}
