//! An index that is gone costs one reading of the log, and comes back.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::fs;

use support::{Repository, build, entries, job, node, open, origin, reader, stream};

/// Bytes that this process has read so far. The tests of this file run one after the other.
fn bytes_read() -> u64 {
    let text = fs::read_to_string("/proc/self/io").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("rchar: "));
    line.unwrap().parse().unwrap()
}

static IN_TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[test]
fn the_log_is_read_once_for_all_changesets() {
    let _turn = IN_TURN.lock().unwrap();
    let repository = Repository::new();
    open(&repository).append(&(0..20_000).map(stream).collect::<Vec<_>>()).unwrap();
    fs::remove_file(repository.place.index()).unwrap();
    let reader = reader(&repository);
    let before = bytes_read();
    for n in 0..400 {
        let newest = reader.newest(&node(n)).unwrap();
        assert_eq!(newest.entries, (n * 5..n * 5 + 5).map(stream).collect::<Vec<_>>());
        assert_eq!(newest.without_index, Some("is missing"));
    }
    let len = fs::metadata(repository.place.log()).unwrap().len();
    let read = bytes_read() - before;
    assert!(read < 2 * len, "{read} bytes of a log of {len}");
}

#[test]
fn what_no_run_covers_is_read_once_for_all_changesets() {
    let _turn = IN_TURN.lock().unwrap();
    let repository = Repository::new();
    let mut writer = open(&repository);
    for first in (0..12_000).step_by(2000) {
        writer.append(&(first..first + 2000).map(stream).collect::<Vec<_>>()).unwrap();
    }
    let reader = reader(&repository);
    let before = bytes_read();
    // Each of these is in the index, which alone costs a few pages.
    for n in 0..400 {
        assert_eq!(reader.find(&node(n)).unwrap().records.len(), 5);
    }
    let read = bytes_read() - before;
    assert!(read < 400 * 100_000, "{read} bytes");
}

#[test]
fn an_index_that_was_deleted_or_replaced_comes_back_with_the_next_result() {
    let _turn = IN_TURN.lock().unwrap();
    let repository = Repository::new();
    let mut writer = open(&repository);
    writer.append(&(0..3000).map(stream).collect::<Vec<_>>()).unwrap();
    let harms: [&dyn Fn(); 2] = [&|| fs::remove_file(repository.place.index()).unwrap(), &|| {
        let copy = repository.folder.path().join("copy");
        fs::write(&copy, "another").unwrap();
        fs::rename(&copy, repository.place.index()).unwrap();
    }];
    for (n, harm) in (1000..).zip(harms) {
        harm();
        assert!(writer.append(&[job(n, 0)]).unwrap().index.is_none());
        for (wanted, records) in [(7, 5), (599, 5), (n, 1)] {
            let found = reader(&repository).find(&node(wanted)).unwrap();
            assert_eq!((found.records.len(), found.without_index), (records, None));
        }
    }
}

#[test]
fn every_log_that_is_set_aside_is_kept() {
    let _turn = IN_TURN.lock().unwrap();
    let repository = Repository::new();
    for n in 0..3 {
        open(&repository).append(&[build(n, 0)]).unwrap();
        let mut bytes = fs::read(repository.place.log()).unwrap();
        bytes[..1536].fill(n as u8);
        fs::write(repository.place.log(), bytes).unwrap();
    }
    let writer = open(&repository);
    assert!(writer.notes()[0].contains("results.damaged.3"), "{:?}", writer.notes());
    drop(writer);
    for (n, name) in (0..).zip(["results.damaged", "results.damaged.2", "results.damaged.3"]) {
        assert_eq!(fs::read(repository.place.folder().join(name)).unwrap()[0], n);
    }
    let found = reader(&repository).find(&hgci_core::Node::NULL).unwrap();
    assert_eq!(entries(&found.records), [hgci_core::result::Entry::Origin(origin())]);
}

#[test]
fn zeros_in_the_place_of_records_are_one_damaged_place() {
    let _turn = IN_TURN.lock().unwrap();
    let repository = Repository::new();
    open(&repository).append(&(0..500).map(stream).collect::<Vec<_>>()).unwrap();
    let mut bytes = fs::read(repository.place.log()).unwrap();
    let (from, to) = (bytes.len() / 4, bytes.len() / 2);
    bytes[from..to].fill(0);
    fs::write(repository.place.log(), bytes).unwrap();
    fs::remove_file(repository.place.index()).unwrap();
    let found = reader(&repository).find(&node(7)).unwrap();
    // The record that the zeros begin in may be another one.
    assert!((1..=2).contains(&found.damage.len()), "{:?}", found.damage);
    let damaged: u64 = found.damage.iter().map(|place| place.len).sum();
    assert!(damaged >= (to - from) as u64);
}

#[test]
fn a_writer_notices_that_its_log_was_cut_off() {
    let _turn = IN_TURN.lock().unwrap();
    let repository = Repository::new();
    let mut writer = open(&repository);
    writer.append(&(0..50).map(stream).collect::<Vec<_>>()).unwrap();
    let len = fs::metadata(repository.place.log()).unwrap().len();
    fs::File::options().write(true).open(repository.place.log()).unwrap().set_len(len / 2).unwrap();
    assert!(matches!(writer.append(&[job(1000, 0)]), Err(hgci_results::Error::Broken { .. })));
    drop(writer);
    let mut writer = open(&repository);
    assert!(!writer.damage().is_empty());
    // What it still has is known, and the rest is appended.
    let again = writer.append(&(0..50).map(stream).collect::<Vec<_>>()).unwrap();
    assert!(again.known > 0 && again.written > 0 && again.known + again.written == 50);
}
