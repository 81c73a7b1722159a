//! Files that are taken away under an open store.

use std::fs;
use std::path::Path;

use hgcid::store::{Opened, StoreError};

use super::*;

type Take<'a> = &'a dyn Fn(&Path);

/// A store with ten batches, from which something is taken.
fn robbed(take: impl Fn(&Path)) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    for n in 1..=10 {
        store.commit(&nth_batch(n)).unwrap();
    }
    store.commit(&Batch::new()).unwrap();
    take(dir.path());
    (dir, store)
}

fn is_gone<T: std::fmt::Debug>(result: Result<T, StoreError>, name: &str) {
    let error = result.unwrap_err();
    assert!(matches!(&error, StoreError::Gone { path, .. } if path.ends_with(name)), "{error}");
}

#[test]
fn what_is_written_into_deleted_files_is_not_acknowledged_and_the_store_is_made_anew() {
    let takes: [(&str, Take<'_>); 3] = [
        ("store/db", &|state| fs::remove_file(state.join("store/db")).unwrap()),
        ("store/db", &|state| fs::remove_dir_all(state.join("store")).unwrap()),
        ("store/db", &|state| {
            fs::remove_dir_all(state.join("store")).unwrap();
            fs::remove_file(state.join("store.count")).unwrap();
        }),
    ];
    for (name, take) in takes {
        for batch in [nth_batch(11), Batch::new()] {
            let (dir, store) = robbed(take);
            is_gone(store.commit(&batch), name);
            assert!(store.is_closed());
            let report = store.reopen().unwrap();
            assert_eq!(report.how, Opened::Fresh);
            assert!(report.lost_something());
            store.commit(&nth_batch(12)).unwrap();
            drop(store);
            assert_eq!(content(&open(dir.path()).0).len(), nth_batch(12).changes().count());
        }
    }
}

#[test]
fn a_counter_that_is_deleted_is_written_anew_and_nothing_is_lost() {
    let (dir, store) = robbed(|state| fs::remove_file(state.join("store.count")).unwrap());
    is_gone(store.commit(&nth_batch(11)), "store.count");
    let report = store.reopen().unwrap();
    assert!(!report.lost_something(), "{report:?}");
    assert_eq!(report.how, Opened::Kept);
    store.commit(&nth_batch(12)).unwrap();
    assert!(dir.path().join("store.count").exists());
}

#[test]
fn a_state_folder_that_is_replaced_is_not_used_and_one_that_comes_back_is() {
    let dir = tempfile::tempdir().unwrap();
    let (state, away) = (dir.path().join("state"), dir.path().join("away"));
    let (store, _) = open(&state);
    store.commit(&nth_batch(1)).unwrap();
    fs::rename(&state, &away).unwrap();
    is_gone(store.commit(&nth_batch(2)), "lock");
    // Another daemon may have it by now.
    let (other, _) = open(&state);
    is_gone(store.commit(&nth_batch(2)), "lock");
    is_gone(store.commit(&Batch::new()), "lock");
    is_gone(store.reopen(), "lock");
    drop(other);
    fs::remove_dir_all(&state).unwrap();
    fs::rename(&away, &state).unwrap();
    assert!(!store.reopen().unwrap().lost_something());
    store.commit(&nth_batch(2)).unwrap();
    assert_eq!(content(&store), Model::after(2).content);
}
