//! Files of the store are damaged, hang, or go away.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hgcid::store::Opened;

use super::*;

/// A state folder with some life in it.
fn lived_in(batches: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    for n in 1..=batches {
        store.commit(&nth_batch(n)).unwrap();
    }
    drop(store);
    // sled writes a snapshot when it has recovered something.
    drop(open(dir.path()));
    dir
}

fn files(state: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(state.join("store"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
}

/// Copies a state folder of plain files.
fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    fs::create_dir_all(to.path().join("store/blobs")).unwrap();
    fs::copy(from.join("store.count"), to.path().join("store.count")).unwrap();
    for file in files(from) {
        fs::copy(&file, to.path().join("store").join(file.file_name().unwrap())).unwrap();
    }
    to
}

/// Opens a damaged store: whatever is in it afterwards is right, or the report says otherwise.
fn open_damaged(state: &Path, model: &Model, what: &str) -> OpenReport {
    let mut options = options();
    options.deadline = Duration::from_secs(30);
    let start = Instant::now();
    let (store, report) = Store::open(state, options).unwrap();
    assert!(start.elapsed() < Duration::from_secs(200), "{what}: took {:?}", start.elapsed());
    let live = |content: &BTreeMap<(Tree, Vec<u8>), Vec<u8>>| -> Vec<_> {
        content
            .iter()
            .filter(|((tree, _), _)| !tree.is_history())
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    };
    let mut now = BTreeMap::new();
    let mut unreadable = false;
    for tree in Tree::ALL {
        // A damaged page of the history is found when it is read, and said then.
        let read = store.visit(tree, Scan::default(), |row| {
            now.insert((tree, row.key), row.value);
            true
        });
        unreadable |= read.is_err();
    }
    if !report.lost_something() && !unreadable {
        assert!(live(&now) == live(&model.content), "{what}: loss of records was not said");
    }
    for (key, value) in &now {
        if !report.lost_something() {
            assert!(model.content.get(key) == Some(value), "{what}: a wrong record: {key:?}");
        }
    }
    // Whatever else is damaged, it takes batches, at the latest when it was opened anew twice.
    let mut refusals = Vec::new();
    for n in model.n + 1..=model.n + 3 {
        while let Err(error) = store.commit(&nth_batch(n)) {
            refusals.push(error.to_string());
            assert!(refusals.len() < 4, "{what}: {refusals:?}");
            store.reopen().unwrap();
        }
    }
    report
}

#[test]
fn flipped_bits_are_survived_wherever_they_are() {
    let whole = lived_in(400);
    let model = Model::after(400);
    let mut dice = Dice(42);
    let mut kinds = [0; 4];
    for round in 0..60 {
        let state = copy(whole.path());
        let files = files(state.path());
        // The data file is most of it, but the small ones matter as much.
        let file = &files[dice.below(files.len() as u64) as usize];
        let mut bytes = fs::read(file).unwrap();
        // Past what was written there are zeros.
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64 + 1;
        let (at, bit) = (dice.below(used) as usize, dice.below(8));
        bytes[at] ^= 1 << bit;
        fs::write(file, bytes).unwrap();
        let what = format!("round {round}: bit {bit} of byte {at} of {}", file.display());
        let report = open_damaged(state.path(), &model, &what);
        kinds[report.how as usize] += 1;
        if report.how == Opened::Fresh {
            assert!(report.set_aside.unwrap().join("store/db").exists(), "{what}");
            assert_eq!(report.lost_batches, 400, "{what}");
        }
    }
    println!("new, kept, mended, fresh: {kinds:?}");
    assert!(kinds[Opened::Fresh as usize] > 0, "no flip mattered: {kinds:?}");
}

#[test]
fn a_truncated_data_file_loses_nothing_silently() {
    let whole = lived_in(200);
    let model = Model::after(200);
    let len = fs::metadata(whole.path().join("store/db")).unwrap().len();
    let mut dice = Dice(7);
    for _ in 0..12 {
        let state = copy(whole.path());
        let to = dice.below(len);
        let db = fs::OpenOptions::new().write(true).open(state.path().join("store/db")).unwrap();
        db.set_len(to).unwrap();
        open_damaged(state.path(), &model, &format!("truncated to {to} of {len}"));
    }
}

#[test]
fn a_damaged_snapshot_costs_nothing() {
    let state = lived_in(200);
    let snapshot = files(state.path())
        .into_iter()
        .find(|path| path.file_name().unwrap().to_string_lossy().starts_with("snap."));
    let Some(snapshot) = snapshot else { panic!("sled has written no snapshot") };
    fs::write(&snapshot, [0xff; 300]).unwrap();
    let report = open_damaged(state.path(), &Model::after(200), "snapshot");
    assert!(matches!(report.how, Opened::Mended | Opened::Kept), "{report:?}");
    assert!(!report.lost_something(), "{report:?}");
}

#[test]
fn an_older_copy_of_the_store_is_noticed() {
    let state = lived_in(100);
    let old = copy(state.path());
    let (store, _) = open(state.path());
    for n in 101..=130 {
        store.commit(&nth_batch(n)).unwrap();
    }
    drop(store);
    fs::remove_dir_all(state.path().join("store")).unwrap();
    fs::rename(old.path().join("store"), state.path().join("store")).unwrap();
    let (_store, report) = open(state.path());
    assert_eq!(report.lost_batches, 30);
    assert!(report.lines().iter().any(|line| line.contains("30 durable batches")), "{report:?}");
}

#[test]
fn a_store_that_is_emptied_or_deleted_starts_anew_and_says_so() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 5] = [
        ("deleted", |store| fs::remove_dir_all(store).unwrap()),
        ("emptied", |store| {
            fs::remove_dir_all(store).unwrap();
            fs::create_dir(store).unwrap();
        }),
        ("data file gone", |store| fs::remove_file(store.join("db")).unwrap()),
        ("data file empty", |store| fs::write(store.join("db"), b"").unwrap()),
        ("a file in its place", |store| {
            fs::remove_dir_all(store).unwrap();
            fs::write(store, b"hello").unwrap();
        }),
    ];
    for (what, harm) in harms {
        let state = lived_in(50);
        harm(&state.path().join("store"));
        let (store, report) = open(state.path());
        assert_eq!(report.lost_batches, 50, "{what}: {report:?}");
        assert!(report.lost_something(), "{what}");
        assert!(content(&store).is_empty(), "{what}");
        store.commit(&nth_batch(1)).unwrap();
        drop(store);
        let (_store, report) = open(state.path());
        assert!(!report.lost_something(), "{what}: said once: {report:?}");
        assert_eq!(report.batches, 51, "{what}");
    }
}

#[test]
fn a_store_that_hangs_is_given_up_at_the_deadline() {
    let state = lived_in(20);
    let conf = state.path().join("store/conf");
    fs::remove_file(&conf).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &conf, 0o600.into()).unwrap();
    let mut options = options();
    options.deadline = Duration::from_millis(700);
    let start = Instant::now();
    let (store, report) = Store::open(state.path(), options).unwrap();
    assert!(start.elapsed() < Duration::from_secs(20));
    assert_eq!(report.how, Opened::Fresh);
    assert!(report.failures[0].contains("did not open within"), "{report:?}");
    assert!(report.set_aside.unwrap().join("store/conf").exists());
    store.commit(&nth_batch(1)).unwrap();
}

#[test]
fn a_stopped_probe_is_killed() {
    // A program that stops itself, as a probe that hangs in the kernel's sight.
    let dir = tempfile::tempdir().unwrap();
    let stopping = dir.path().join("stopping");
    fs::write(&stopping, "#!/bin/sh\necho $$ > \"$0.pid\"\nkill -STOP $$\n").unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&stopping, fs::Permissions::from_mode(0o755)).unwrap();
    let state = lived_in(20);
    let mut options = Options::new(&stopping);
    options.deadline = Duration::from_millis(500);
    let (_store, report) = Store::open(state.path(), options).unwrap();
    assert_eq!(report.how, Opened::Fresh);
    let pid = fs::read_to_string(dir.path().join("stopping.pid")).unwrap();
    assert!(!Path::new("/proc").join(pid.trim()).exists(), "the probe is still there");
}

#[test]
fn a_probe_that_is_ended_from_outside_says_nothing_about_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let ended = dir.path().join("ended");
    use std::os::unix::fs::PermissionsExt;
    let state = lived_in(20);
    for signal in ["KILL", "TERM"] {
        fs::write(&ended, format!("#!/bin/sh\nkill -{signal} $$\n")).unwrap();
        fs::set_permissions(&ended, fs::Permissions::from_mode(0o755)).unwrap();
        let error = Store::open(state.path(), Options::new(&ended)).err().unwrap();
        assert!(error.to_string().contains("was ended"), "{error}");
    }
    let (store, report) = open(state.path());
    assert!(!report.lost_something() && report.set_aside.is_none(), "{report:?}");
    assert_eq!(content(&store), Model::after(20).content);
}

/// A store whose history is larger than what sled keeps in memory, with damage all over it.
#[test]
fn a_damaged_history_is_left_behind_and_what_is_in_flight_goes_on() {
    let state = tempfile::tempdir().unwrap();
    let (store, _) = open(state.path());
    let value = |n: u64| format!("{n};").repeat(200).into_bytes();
    for n in 0..60u64 {
        let mut batch = Batch::new();
        batch.put(Tree::Jobs, n.to_string(), b"in flight".to_vec());
        for i in 0..100 {
            batch.put(Tree::BuildHistory, (n * 100 + i).to_be_bytes(), value(n));
        }
        store.commit(&batch).unwrap();
    }
    drop(store);
    drop(open(state.path()));
    let db = state.path().join("store/db");
    let mut bytes = fs::read(&db).unwrap();
    let needle = b"17;17;17;17;";
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(needle.len()).position(|part| part == needle) {
        bytes[at + found] ^= 0xff;
        at += found + needle.len();
    }
    assert!(at > 0, "sled has compressed it?");
    fs::write(&db, bytes).unwrap();
    let (store, report) = open(state.path());
    assert_eq!(report.how, Opened::Kept, "{report:?}");
    let (mut reports, mut refusals) = (vec![report], Vec::new());
    for n in 1700..1800u64 {
        let mut batch = Batch::new();
        batch.put(Tree::BuildHistory, n.to_be_bytes(), b"new".to_vec());
        while let Err(error) = store.commit(&batch) {
            refusals.push(error.to_string());
            assert!(refusals.len() < 4, "{refusals:?}");
            reports.push(store.reopen().unwrap());
        }
    }
    let lost: Vec<_> = reports.iter().filter(|report| report.history_lost).collect();
    assert_eq!(lost.len(), 1, "{reports:?}");
    assert!(lost[0].lines().iter().any(|line| line.contains("history")), "{lost:?}");
    assert!(lost[0].set_aside.as_ref().unwrap().join("store/db").exists());
    let mut live = 0;
    store
        .visit(Tree::Jobs, Scan::default(), |_| {
            live += 1;
            true
        })
        .unwrap();
    assert_eq!(live, 60);
    drop(store);
    let (_store, report) = open(state.path());
    assert!(!report.lost_something(), "said once: {report:?}");
}

#[test]
fn a_missing_probe_is_an_error_and_harms_nothing() {
    let state = lived_in(20);
    let error = Store::open(state.path(), Options::new("/nonexistent/hgcid")).err().unwrap();
    assert!(error.to_string().contains("/nonexistent/hgcid"), "{error}");
    let (store, report) = open(state.path());
    assert!(!report.lost_something());
    assert_eq!(content(&store), Model::after(20).content);
}

#[test]
fn only_the_newest_unusable_stores_are_kept() {
    let state = tempfile::tempdir().unwrap();
    for round in 0..6 {
        let (store, _) = open(state.path());
        store.commit(&nth_batch(1)).unwrap();
        drop(store);
        fs::write(state.path().join("store/db"), vec![round; 600_000]).unwrap();
    }
    open(state.path());
    let aside = fs::read_dir(state.path())
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with("store.aside-"))
        .count();
    assert_eq!(aside, options().keep_aside);
}
