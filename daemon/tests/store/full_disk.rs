//! The file system of the state folder is full.

use std::fs;
use std::process::Command;

use hgcid::store::StoreError;

use super::*;

/// A small file system of its own. Runs the test again in a user and mount namespace where it is
/// not root, and fails where neither can be had: it is never skipped.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(test: &str, mib: u64) -> Option<Tmpfs> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(dir.path())
            .output()
            .unwrap();
        if mounted.status.success() {
            return Some(Tmpfs(dir));
        }
        assert!(
            std::env::var_os("IN_NAMESPACE").is_none(),
            "cannot mount: {}",
            String::from_utf8_lossy(&mounted.stderr)
        );
        let again = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env("IN_NAMESPACE", "1")
            .status()
            .unwrap();
        assert!(again.success(), "in a namespace: {again}");
        None
    }

    /// Leaves that many bytes free.
    fn fill(&self, leave: u64) {
        let room = rustix::fs::statvfs(self.0.path()).unwrap();
        let free = room.f_bavail * room.f_frsize;
        let ballast = vec![1; free.saturating_sub(leave) as usize];
        fs::write(self.0.path().join("ballast"), ballast).unwrap();
    }

    fn empty(&self) {
        fs::remove_file(self.0.path().join("ballast")).unwrap();
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_batch_is_refused_before_the_disk_is_full_and_taken_when_there_is_room() {
    let test = "full_disk::a_batch_is_refused_before_the_disk_is_full_and_taken_when_there_is_room";
    let Some(disk) = Tmpfs::mount(test, 64) else { return };
    let state = disk.0.path().join("state");
    let (store, _) = open(&state);
    for n in 1..=100 {
        store.commit(&nth_batch(n)).unwrap();
    }
    disk.fill(1 << 20);
    let error = store.commit(&nth_batch(101)).unwrap_err();
    assert!(matches!(error, StoreError::NoRoom { .. }), "{error}");
    assert!(error.to_string().contains(state.to_str().unwrap()), "{error}");
    assert!(!store.is_closed());
    assert_eq!(content(&store), Model::after(100).content);
    disk.empty();
    for n in 101..=110 {
        store.commit(&nth_batch(n)).unwrap();
    }
    assert_eq!(content(&store), Model::after(110).content);
}

#[test]
fn a_disk_that_fills_up_under_sled_loses_nothing_acknowledged() {
    let test = "full_disk::a_disk_that_fills_up_under_sled_loses_nothing_acknowledged";
    let Some(disk) = Tmpfs::mount(test, 48) else { return };
    let state = disk.0.path().join("state");
    let mut options = options();
    options.reserve = 0;
    let (store, _) = Store::open(&state, options).unwrap();
    let mut model = Model::default();
    for round in 0..4 {
        for n in model.n + 1..=model.n + 40 {
            store.commit(&nth_batch(n)).unwrap();
            model.advance(n);
        }
        disk.fill(round * 300_000);
        let failed =
            (model.n + 1..model.n + 5000).find_map(|n| match store.commit(&nth_batch(n)) {
                Ok(()) => {
                    model.advance(n);
                    None
                }
                Err(error) => Some(error),
            });
        let failed = failed.expect("the disk never filled up");
        println!("round {round}: after {} batches: {failed}", model.n);
        assert!(store.is_closed());
        assert!(matches!(store.commit(&nth_batch(1)), Err(StoreError::Closed)));
        // While the disk is full the store may open or not; it is not taken for damaged.
        let _ = store.reopen();
        let aside = fs::read_dir(&state)
            .unwrap()
            .any(|e| e.unwrap().file_name().to_string_lossy().starts_with("store.aside-"));
        assert!(!aside, "a store was set aside because the disk is full");
        disk.empty();
        let report = store.reopen().unwrap();
        assert!(!report.lost_something(), "round {round}: {report:?}");
        assert!(report.batches == model.n || report.batches == model.n + 1, "{report:?}");
        model.advance(report.batches);
        assert!(content(&store) == model.content, "round {round}");
    }
}
