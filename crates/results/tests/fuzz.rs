//! Hostile input for the results log and its index. See `crates/core/tests/fuzz.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "../../core/tests/fuzzing/mod.rs"]
mod fuzzing;
mod support;

use std::fs;
use std::path::Path;

use hgci_results::{Reader, Writer};
use support::{Repository, build, entries, job, node, origin};

#[global_allocator]
static ALLOCATOR: fuzzing::Counting = fuzzing::Counting;

/// In memory where that can be had: thousands of files are made and synced.
fn repository() -> Repository {
    let memory = Path::new("/dev/shm");
    let made = tempfile::Builder::new().prefix("hgci-fuzz").tempdir_in(memory);
    Repository::on(made.unwrap_or_else(|_| tempfile::tempdir().unwrap()))
}

/// A log with the results of some changesets, and its index.
fn whole() -> (Vec<u8>, Vec<u8>) {
    let repository = repository();
    let mut writer = Writer::open(&repository.place, &origin()).unwrap();
    for n in 0..12 {
        writer.append(&[job(n, 0), job(n, 1), build(n, 2)]).unwrap();
    }
    drop(writer);
    (fs::read(repository.place.log()).unwrap(), fs::read(repository.place.index()).unwrap())
}

/// What is wrong, without the numbers and paths that differ from input to input.
fn kind(error: &hgci_results::Error) -> String {
    let text = error.to_string();
    text.split(['/', '`']).next().unwrap_or_default().chars().filter(|c| !c.is_numeric()).collect()
}

#[test]
fn a_log_of_any_bytes_is_served_as_far_as_it_is_whole_and_can_be_written_on() {
    let (log, _) = whole();
    let target = fuzzing::Target {
        name: "results-log",
        seeds: &[&log, &log[..log.len() - 7], &log[..64], b""],
        words: &[&log[..16], &[0; 32], &[0xff; 8]],
        max_len: 16 << 10,
        max_memory: 16 << 20,
    };
    let repository = repository();
    let place = &repository.place;
    drop(Writer::open(place, &origin()).unwrap());
    target.fuzz_briefly(500, |input| {
        fs::write(place.log(), input).unwrap();
        let _ = fs::remove_file(place.index());
        let read = match Reader::open(place) {
            Ok(Some(reader)) => {
                let all: Vec<_> = reader.records().collect();
                let good = all.iter().filter(|one| matches!(one, Ok(Ok(_)))).count();
                assert!(good as u64 <= input.len() as u64 / 16);
                let found = reader.find(&node(3)).unwrap();
                format!("{good} {} {}", found.records.len(), found.damage.len())
            }
            Ok(None) => "no log".to_owned(),
            Err(error) => kind(&error),
        };
        // Writing takes a hundred times as long as reading, so of the inputs one in 16 is written on.
        if input.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) % 16 != 0 {
            return (read, None);
        }
        // Who writes mends it or refuses it; what is written then is there.
        let written = match Writer::open(place, &origin()) {
            Ok(mut writer) => {
                writer.append(&[job(4711, 0)]).unwrap();
                drop(writer);
                let reader = Reader::open(place).unwrap().unwrap();
                let found = reader.find(&node(4711)).unwrap();
                assert_eq!(entries(&found.records).last(), Some(&job(4711, 0)));
                "written".to_owned()
            }
            Err(error) => kind(&error),
        };
        (read, Some(written))
    });
}

#[test]
fn an_index_of_any_bytes_changes_no_answer() {
    let (log, index) = whole();
    let target = fuzzing::Target {
        name: "results-index",
        seeds: &[&index, &index[..4096.min(index.len())], b""],
        words: &[&[0; 8], &[0xff; 8], &[1, 0, 0, 0, 0, 0, 0, 0]],
        max_len: 24 << 10,
        max_memory: 16 << 20,
    };
    let repository = repository();
    let place = &repository.place;
    drop(Writer::open(place, &origin()).unwrap());
    fs::write(place.log(), &log).unwrap();
    let expected = [job(5, 0), job(5, 1), build(5, 2)];
    target.fuzz_briefly(1000, |input| {
        fs::write(place.index(), input).unwrap();
        let found = Reader::open(place).unwrap().unwrap().find(&node(5)).unwrap();
        assert_eq!(entries(&found.records), expected);
        found.without_index
    });
}
