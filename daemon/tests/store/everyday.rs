//! What the daemon relies on every day.

use std::os::unix::fs::PermissionsExt;

use hgcid::store::{MAX_KEY, MAX_VALUE, Numbers, Opened, StoreError};

use super::*;

#[test]
fn a_batch_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (store, report) = open(dir.path());
    assert_eq!(report.how, Opened::New);
    assert!(!report.lost_something(), "{report:?}");
    for n in 1..=200 {
        store.commit(&nth_batch(n)).unwrap();
    }
    let model = Model::after(200);
    assert_eq!(content(&store), model.content);
    drop(store);
    let (store, report) = open(dir.path());
    assert_eq!(report.how, Opened::Kept);
    assert_eq!(report.batches, 200);
    assert!(!report.lost_something() && report.lines().is_empty(), "{report:?}");
    assert_eq!(content(&store), model.content);
}

#[test]
fn values_of_any_size_up_to_the_limit_come_back_and_never_become_blob_files() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let sizes = [0, 1, 4095, 4096, 4097, 8192, 16_384, 100_000, 1 << 20, MAX_VALUE];
    let value = |size: usize, salt: usize| -> Vec<u8> {
        (0..size).map(|i| ((i * 31 + i / 4096 + salt) % 251) as u8).collect()
    };
    for (salt, sizes) in [(0, sizes.to_vec()), (1, sizes.iter().rev().copied().collect())] {
        for (n, size) in sizes.iter().enumerate() {
            let mut batch = Batch::new();
            batch.put(Tree::Plans, n.to_be_bytes(), value(*size, salt));
            batch.put(Tree::BuildHistory, n.to_be_bytes(), value(*size, salt + 1));
            store.commit(&batch).unwrap();
        }
        for (n, size) in sizes.iter().enumerate() {
            let get = |tree| store.get(tree, &n.to_be_bytes()).unwrap().unwrap().value;
            assert!(get(Tree::Plans) == value(*size, salt), "{size}");
            assert!(get(Tree::BuildHistory) == value(*size, salt + 1), "{size}");
        }
    }
    // Many records of the largest size that is not chunked, in one page.
    for n in 0..2000u64 {
        let mut batch = Batch::new();
        for i in 0..4 {
            batch.put(Tree::Jobs, (n % 40 * 4 + i).to_be_bytes(), value(4096, n as usize));
        }
        if n % 5 == 0 {
            store.commit(&batch).unwrap();
        }
    }
    drop(store);
    let blobs = std::fs::read_dir(dir.path().join("store/blobs")).unwrap().count();
    assert_eq!(blobs, 0, "sled never syncs blob files");
    let (store, report) = open(dir.path());
    assert!(!report.lost_something(), "{report:?}");
    assert_eq!(
        store.get(Tree::Plans, &0usize.to_be_bytes()).unwrap().unwrap().value.len(),
        MAX_VALUE
    );
}

#[test]
fn a_batch_that_is_too_large_is_refused_and_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let mut batch = Batch::new();
    batch.put(Tree::Jobs, b"good".to_vec(), b"1".to_vec());
    batch.put(Tree::Jobs, b"bad".to_vec(), vec![0; MAX_VALUE + 1]);
    assert!(matches!(store.commit(&batch), Err(StoreError::TooLarge { .. })));
    let mut batch = Batch::new();
    batch.put(Tree::Jobs, vec![0; MAX_KEY + 1], b"1".to_vec());
    assert!(matches!(store.commit(&batch), Err(StoreError::TooLarge { .. })));
    assert!(content(&store).is_empty());
    store.commit(&nth_batch(1)).unwrap();
}

#[test]
fn lists_are_paged_in_both_directions_within_a_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let mut batch = Batch::new();
    for repo in ["gadgets", "widgets", "widgetsmith"] {
        for n in 0..10u64 {
            let key = [repo.as_bytes(), b"\0", &n.to_be_bytes()].concat();
            batch.put(Tree::BuildsByRepo, key, n.to_string());
        }
    }
    batch.put(Tree::BuildsByNode, b"\xff\xff".to_vec(), b"last".to_vec());
    batch.put(Tree::Transactions, b"\0".to_vec(), b"next tree".to_vec());
    store.commit(&batch).unwrap();
    let page = |backwards, after: Option<&[u8]>, limit| -> Vec<String> {
        let scan = Scan { prefix: b"widgets\0", after, backwards };
        let rows = store.scan(Tree::BuildsByRepo, scan, limit).unwrap();
        rows.into_iter().map(|row| String::from_utf8(row.value).unwrap()).collect()
    };
    assert_eq!(page(false, None, 3), ["0", "1", "2"]);
    assert_eq!(page(true, None, 3), ["9", "8", "7"]);
    let seventh = [b"widgets\0".as_slice(), &7u64.to_be_bytes()].concat();
    assert_eq!(page(true, Some(&seventh), 2), ["6", "5"]);
    assert_eq!(page(false, Some(&seventh), 9), ["8", "9"]);
    assert_eq!(page(false, Some(b"zzz"), 9), [""; 0]);
    assert_eq!(page(true, Some(b"zzz"), 2), [""; 0]);
    assert_eq!(page(true, Some(b"a"), 2), [""; 0]);
    assert_eq!(page(false, None, 0), [""; 0]);
    let all = store.scan(Tree::BuildsByNode, Scan { prefix: b"\xff\xff", ..Scan::default() }, 9);
    assert_eq!(all.unwrap().len(), 1);
}

#[test]
fn a_second_daemon_on_the_same_state_folder_is_told_who_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let error = Store::open(dir.path(), options()).err().unwrap().to_string();
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    drop(store);
    open(dir.path());
}

#[test]
fn nobody_else_may_look_into_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("made/by/us");
    let (_store, _) = open(&state);
    for folder in ["", "store"] {
        let mode = std::fs::metadata(state.join(folder)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{folder:?}");
    }
    for file in ["lock", "store.count"] {
        let mode = std::fs::metadata(state.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file:?}");
    }
}

#[test]
fn numbers_survive_the_loss_of_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let mut batch = nth_batch(1);
    batch.numbers(Numbers { push: 17, build: 40 });
    store.commit(&batch).unwrap();
    store.commit(&nth_batch(2)).unwrap();
    drop(store);
    std::fs::remove_dir_all(dir.path().join("store")).unwrap();
    let (store, report) = open(dir.path());
    assert_eq!(report.how, Opened::Fresh);
    assert_eq!(report.lost_batches, 2);
    assert_eq!(report.numbers, Numbers { push: 17, build: 40 });
    drop(store);
    // Said once, and remembered by the new store too.
    std::fs::remove_file(dir.path().join("store.count")).unwrap();
    let (_store, report) = open(dir.path());
    assert!(!report.lost_something(), "{report:?}");
    assert_eq!(report.numbers, Numbers { push: 17, build: 40 });
}
