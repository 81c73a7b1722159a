//! A writing process dies at any moment.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;

/// Not a test: the process that is killed. It says each batch that it was told is durable.
#[test]
#[ignore = "run by what_was_acknowledged_survives_kill_9"]
fn writer() {
    let Some(state) = std::env::var_os("WRITER_STATE") else { return };
    let (store, report) = open(state.as_ref());
    assert!(!report.lost_something(), "{report:?}");
    for n in report.batches + 1.. {
        store.commit(&nth_batch(n)).unwrap();
        // Not println: the test harness would keep it.
        use std::io::Write;
        std::io::stderr().write_all(&n.to_le_bytes()).unwrap();
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut model = Model::default();
    for round in 0..50 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "death::writer", "--nocapture"])
            .env("WRITER_STATE", dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = child.stderr.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut said = Vec::new();
            pipe.read_to_end(&mut said).unwrap();
            said
        });
        // Some are killed while they open the store.
        std::thread::sleep(Duration::from_millis(dice.below(250)));
        child.kill().unwrap();
        child.wait().unwrap();
        let said = reader.join().unwrap();
        let acknowledged = said
            .chunks_exact(8)
            .last()
            .map_or(model.n, |last| u64::from_le_bytes(last.try_into().unwrap()));
        let (store, report) = open(dir.path());
        assert!(!report.lost_something(), "round {round}: {report:?}");
        let kept = report.batches;
        assert!(
            kept == acknowledged || kept == acknowledged + 1 || kept == model.n,
            "round {round}: {acknowledged} acknowledged, {kept} kept"
        );
        assert!(kept >= acknowledged, "round {round}: {acknowledged} acknowledged, {kept} kept");
        model.advance(kept);
        assert!(content(&store) == model.content, "round {round}: not a whole batch");
    }
    assert!(model.n > 100, "hardly anything was written: {}", model.n);
}
