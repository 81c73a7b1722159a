//! What is appended is read back, by every way of reading.

mod support;

use hgci_core::result::{BuildResult, Entry, JobResult, Origin, Tests};
use hgci_core::{BuildId, BuildState, JobKey, JobState, Node, PushId};
use hgci_results::{Damage, Error, Place, Reader, Writer};
use proptest::prelude::*;
use support::{Repository, all, build, entries, job, node, open, origin, reader, stream};

prop_compose! {
    fn any_job()(
        (n, push, build, index) in (0u64..40, any::<u64>(), any::<u64>(), any::<u32>()),
        name in "\\PC{0,40}",
        state in proptest::sample::select(&JobState::ALL[..]),
        attempt in any::<u32>(),
        (exit, signal) in any::<(Option<i32>, Option<i32>)>(),
        (started_ms, duration_ms) in any::<(i64, u64)>(),
        (pool, host) in prop_oneof![
            ("[a-z]{0,9}", "\\PC{0,20}").prop_map(|(pool, host)| (pool, host)),
            "[a-z/]{0,9}".prop_map(|pool| (pool.clone(), format!("{pool}/7"))),
        ],
        tests in proptest::option::of(any::<(u32, u32, u32)>()),
        allow_failure in any::<bool>(),
        why in proptest::option::of("\\PC{0,300}"),
        from in proptest::option::of(any::<(u64, u32)>()),
    ) -> Entry {
        Entry::Job(JobResult {
            node: node(n), push: PushId(push), build: BuildId(build), index, name, state, attempt,
            exit, signal, started_ms, duration_ms, pool, host, allow_failure, why,
            from: from.map(|(build, index)| JobKey { build: BuildId(build), index }),
            tests: tests.map(|(passed, failed, skipped)| Tests { passed, failed, skipped }),
        })
    }
}

prop_compose! {
    fn any_build()(
        (n, push, build, jobs) in (0u64..40, any::<u64>(), any::<u64>(), any::<u32>()),
        state in proptest::sample::select(&BuildState::ALL[..]),
        ended_ms in any::<i64>(),
        (message, by) in (
            proptest::option::of("\\PC{0,300}"), proptest::option::of("\\PC{0,40}"),
        ),
    ) -> Entry {
        Entry::Build(BuildResult {
            node: node(n), push: PushId(push), build: BuildId(build), state, ended_ms, jobs, message,
            by,
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_entries_are_read_back_in_order_and_by_node(
        groups in proptest::collection::vec(
            proptest::collection::vec(prop_oneof![any_job(), any_build()], 0..20), 0..12),
    ) {
        let repository = Repository::new();
        let mut writer = open(&repository);
        for group in &groups {
            let appended = writer.append(group).unwrap();
            prop_assert!(appended.index.is_none());
        }
        let reader = reader(&repository);
        let written: Vec<Entry> = groups.concat();
        let read = all(&reader);
        prop_assert_eq!(&read[0], &Entry::Origin(origin()));
        prop_assert_eq!(&read[1..], &written[..]);
        for n in 0..40 {
            let of_node = |entry: &&Entry| match entry {
                Entry::Job(job) => job.node == node(n),
                Entry::Build(build) => build.node == node(n),
                Entry::Origin(_) => false,
            };
            let expected: Vec<Entry> = written.iter().filter(of_node).cloned().collect();
            prop_assert_eq!(entries(&reader.find(&node(n)).unwrap().records), expected);
        }
    }
}

#[test]
fn a_lookup_finds_what_is_in_every_part_of_the_index_and_behind_it() {
    let repository = Repository::new();
    let mut writer = open(&repository);
    // Runs of 2500, the first multiple of 500 that fills 6 pages: enough for a merge of 32 of them
    // and several runs behind it; 1234 more are in no run.
    let count = 40 * 2500 + 1234;
    for first in (0..count).step_by(500) {
        let group: Vec<Entry> = (first..count.min(first + 500)).map(stream).collect();
        writer.append(&group).unwrap();
    }
    let reader = reader(&repository);
    for n in (0..count / 5).step_by(61).chain([count / 5 - 1]) {
        let found = reader.find(&node(n)).unwrap();
        let expected: Vec<Entry> = (n * 5..n * 5 + 5).map(stream).collect();
        assert_eq!(entries(&found.records), expected, "{n}");
        assert_eq!((found.without_index, found.damage), (None, vec![]));
    }
    assert_eq!(reader.find(&node(count)).unwrap().records, []);
    assert_eq!(reader.len(), count + 1);

    // The writer finds the same after it was opened again, and says the same without an index.
    drop(writer);
    let mut writer = open(&repository);
    assert!(writer.contains(&stream(0)).unwrap() && writer.contains(&stream(count - 1)).unwrap());
    assert!(!writer.contains(&stream(count)).unwrap());
    drop(writer);
    std::fs::remove_file(repository.place.index()).unwrap();
    let found = support::reader(&repository).find(&node(7)).unwrap();
    assert_eq!(entries(&found.records), (35..40).map(stream).collect::<Vec<_>>());
    assert_eq!(found.without_index, Some("is missing"));
}

#[test]
fn a_thousand_jobs_of_one_changeset_are_found_in_order() {
    let repository = Repository::new();
    let mut writer = open(&repository);
    let jobs: Vec<Entry> = (0..3000).map(|index| job(1, index)).collect();
    for (n, group) in jobs.chunks(100).enumerate() {
        writer.append(group).unwrap();
        writer.append(&[build(1000 + n as u64, 1)]).unwrap();
    }
    assert_eq!(entries(&reader(&repository).find(&node(1)).unwrap().records), jobs);
}

#[test]
fn the_same_result_is_appended_once() {
    let repository = Repository::new();
    let mut writer = open(&repository);
    let group = [job(1, 0), job(1, 1), job(1, 0)];
    let appended = writer.append(&group).unwrap();
    assert_eq!((appended.written, appended.known), (2, 1));
    drop(writer);
    let mut writer = open(&repository);
    let appended = writer.append(&[job(1, 1), build(1, 2)]).unwrap();
    assert_eq!((appended.written, appended.known), (1, 1));
    let Entry::Job(mut retried) = job(1, 1) else { unreachable!() };
    retried.attempt = 2;
    assert_eq!(writer.append(&[Entry::Job(retried)]).unwrap().written, 1);
    // Origin, two jobs, the build, the retried job.
    assert_eq!(all(&reader(&repository)).len(), 5);
}

#[test]
fn another_daemon_may_use_the_same_numbers() {
    let repository = Repository::new();
    open(&repository).append(&[job(1, 0)]).unwrap();
    let other = Origin { daemon: "f".repeat(32), ..origin() };
    let mut writer = Writer::open(&repository.place, &other).unwrap();
    assert_eq!(writer.append(&[job(1, 0)]).unwrap().written, 1);
}

#[test]
fn the_daemon_that_spoke_last_of_a_changeset_is_believed() {
    let repository = Repository::new();
    open(&repository).append(&[job(1, 0), job(1, 1), job(2, 0)]).unwrap();
    let other = Origin { daemon: "f".repeat(32), url: "http://other/".into(), ..origin() };
    Writer::open(&repository.place, &other).unwrap().append(&[job(1, 1)]).unwrap();
    let moved = Origin { url: "http://moved/".into(), ..origin() };
    Writer::open(&repository.place, &moved).unwrap();
    let reader = reader(&repository);
    let of_one = reader.newest(&node(1)).unwrap();
    assert_eq!((of_one.entries, of_one.origin), (vec![job(1, 1)], other));
    let of_two = reader.newest(&node(2)).unwrap();
    assert_eq!((of_two.entries, of_two.origin), (vec![job(2, 0)], moved));
    assert_eq!(reader.newest(&node(3)).unwrap(), hgci_results::Newest::default());
}

#[test]
fn there_is_one_writer_at_a_time() {
    let repository = Repository::new();
    let writer = open(&repository);
    let second = Writer::open(&repository.place, &origin());
    assert!(matches!(second, Err(Error::Locked { .. })));
    drop(writer);
    open(&repository);
}

#[test]
fn a_writer_refuses_when_the_log_is_not_its_own_any_more() {
    let repository = Repository::new();
    let mut writer = open(&repository);
    writer.append(&[job(1, 0)]).unwrap();
    std::fs::rename(repository.place.log(), repository.folder.path().join("away")).unwrap();
    assert!(matches!(writer.append(&[job(1, 1)]), Err(Error::Replaced { .. })));
    // Another log in its place, made by somebody else.
    let mut other = open(&repository);
    assert!(matches!(writer.append(&[job(1, 1)]), Err(Error::Replaced { .. })));
    other.append(&[job(2, 0)]).unwrap();
    assert_eq!(all(&reader(&repository)).len(), 2);
}

#[test]
fn a_writer_refuses_when_the_log_was_cut() {
    let repository = Repository::new();
    let mut writer = open(&repository);
    let kept = writer.append(&(0..50).map(stream).collect::<Vec<_>>()).unwrap().end;
    writer.append(&(50..100).map(stream).collect::<Vec<_>>()).unwrap();
    let file = std::fs::File::options().write(true).open(repository.place.log()).unwrap();
    file.set_len(kept.offset + 7).unwrap();
    assert!(matches!(writer.check(), Err(Error::Shortened { .. })));
    let Err(Error::Shortened { is, was, .. }) = writer.append(&[stream(100)]) else { panic!() };
    assert_eq!((is, was), (kept.offset + 7, writer.end().offset));
    drop(writer);
    // What is left of it is written to again, and no mark from before is taken for one of it.
    let mut writer = open(&repository);
    assert_eq!(writer.end(), kept);
    let missing = "the end of the log is missing";
    assert!(writer.damage().iter().any(|damage| damage.what == missing), "{:?}", writer.damage());
    let again: Vec<_> = (0..101).map(stream).collect();
    assert_eq!(writer.append(&again).unwrap().written, 51);
    assert_eq!(all(&reader(&repository)).len(), 102);
}

#[test]
fn zeros_and_rubbish_are_one_damage_each() {
    let repository = Repository::new();
    let mut writer = open(&repository);
    let ends: Vec<u64> =
        (0..300).map(|i| writer.append(&[stream(i)]).unwrap().end.offset).collect();
    drop(writer);
    let mut bytes = std::fs::read(repository.place.log()).unwrap();
    // As a disk gives back what it has lost; and what has zeros here and there.
    bytes[ends[49] as usize..ends[149] as usize].fill(0);
    for (at, byte) in bytes[ends[199] as usize..ends[219] as usize].iter_mut().enumerate() {
        *byte = if at % 3 == 0 { 0 } else { 0xfe };
    }
    std::fs::write(repository.place.log(), &bytes).unwrap();
    std::fs::remove_file(repository.place.index()).unwrap();
    let spans = |damage: &[Damage]| -> Vec<(u64, u64)> {
        damage.iter().map(|damage| (damage.offset, damage.offset + damage.len)).collect()
    };
    let wanted = [(ends[49], ends[149]), (ends[199], ends[219])];

    let reader = reader(&repository);
    let read: Vec<_> = reader.records().map(Result::unwrap).collect();
    let damage: Vec<Damage> = read.iter().filter_map(|item| item.clone().err()).collect();
    assert_eq!(spans(&damage), wanted);
    assert_eq!(read.iter().filter(|item| item.is_ok()).count(), 301 - 120);
    let found = reader.find(&node(1000)).unwrap();
    assert_eq!(spans(&found.damage), wanted);
    let line = Damage::line(reader.path(), &found.damage).unwrap();
    let log = repository.place.log();
    let (from, to) = (ends[49], ends[219]);
    let named = format!("{}: damaged in 2 places from byte {from} to {to};", log.display());
    assert!(line.starts_with(&named), "{line}");
    assert_eq!(Damage::line(reader.path(), &[]), None);

    // The same of a log whose commits are gone, which is read as a whole when it is opened.
    bytes[512..1536].fill(0xff);
    std::fs::write(repository.place.log(), &bytes).unwrap();
    let writer = open(&repository);
    let behind_header: Vec<_> =
        spans(writer.damage()).into_iter().filter(|(start, _)| *start >= 1536).collect();
    assert_eq!(behind_header, wanted);
}

#[test]
fn a_reader_sees_what_was_there_and_after_refresh_what_came() {
    let repository = Repository::new();
    assert!(Reader::open(&repository.place).unwrap().is_none());
    let mut writer = open(&repository);
    let mut reader = reader(&repository);
    writer.append(&[job(1, 0)]).unwrap();
    assert_eq!(reader.find(&node(1)).unwrap().records, []);
    reader.refresh().unwrap();
    assert_eq!(reader.find(&node(1)).unwrap().records.len(), 1);
    assert_eq!(reader.end(), writer.end());
}

#[test]
fn reading_goes_on_from_a_mark_and_refuses_another_history() {
    let repository = Repository::new();
    let mut writer = open(&repository);
    let mut marks = vec![writer.end()];
    for i in 0..20 {
        marks.push(writer.append(&[stream(i)]).unwrap().end);
    }
    let reader = reader(&repository);
    for (n, mark) in marks.iter().enumerate() {
        assert_eq!(reader.since(mark).unwrap().count(), 20 - n);
        for bad in [
            hgci_results::Mark { offset: mark.offset - 1, ..*mark },
            hgci_results::Mark { offset: mark.offset + 100_000, ..*mark },
            hgci_results::Mark { chain: marks[(n + 1) % 21].chain, ..*mark },
            hgci_results::Mark { log: hgci_results::LogId([7; 16]), ..*mark },
        ] {
            assert!(matches!(reader.since(&bad), Err(Error::Mismatch { .. })));
        }
    }
    assert_eq!(reader.since(&hgci_results::Mark::start(marks[0].log)).unwrap().count(), 21);
}

#[test]
fn compaction_keeps_what_is_wanted_under_a_new_log_id() {
    let repository = Repository::new();
    let mut writer = open(&repository);
    writer.append(&(0..6000).map(stream).collect::<Vec<_>>()).unwrap();
    let before = reader(&repository);
    let end = writer
        .compact(|record| matches!(&record.entry, Some(Entry::Job(job)) if job.index == 0))
        .unwrap();
    assert_ne!(end.log, before.end().log);
    assert!(matches!(reader(&repository).since(&before.end()), Err(Error::Mismatch { .. })));
    // Who has the old file open still sees all of it.
    assert_eq!(before.find(&node(7)).unwrap().records.len(), 5);
    let mut after = before;
    after.refresh().unwrap();
    assert_eq!(entries(&after.find(&node(7)).unwrap().records), [job(7, 0)]);
    assert_eq!(after.find(&node(7)).unwrap().without_index, None);
    assert_eq!(all(&after).len(), 1201);
    // Ours to write, still.
    assert!(matches!(Writer::open(&repository.place, &origin()), Err(Error::Locked { .. })));
    writer.append(&[job(7000, 0), job(7, 0)]).unwrap();
    after.refresh().unwrap();
    assert_eq!(all(&after).len(), 1202);
}

#[test]
fn texts_longer_than_the_log_keeps_are_cut() {
    let repository = Repository::new();
    let Entry::Job(mut long) = job(1, 0) else { unreachable!() };
    long.why = Some("é".repeat(100_000));
    long.name = "x".repeat(100_000);
    open(&repository).append(&[Entry::Job(long)]).unwrap();
    let found = reader(&repository).find(&node(1)).unwrap();
    let Some(Entry::Job(read)) = &found.records[0].entry else { panic!("{found:?}") };
    assert_eq!(read.why.as_ref().map(String::len), Some(hgci_results::MAX_TEXT));
    assert_eq!(read.name.len(), hgci_results::MAX_NAME);
}

#[test]
fn what_is_no_file_of_ours_is_neither_followed_nor_waited_for() {
    use std::os::unix::fs::symlink;
    let elsewhere = tempfile::tempdir().unwrap();
    let victim = elsewhere.path().join("results");
    std::fs::write(&victim, "mine").unwrap();

    // A folder that leads elsewhere.
    let repository = Repository::new();
    symlink(elsewhere.path(), repository.place.folder()).unwrap();
    assert!(Writer::open(&repository.place, &origin()).is_err());
    assert!(!matches!(Reader::open(&repository.place), Ok(Some(_))));

    // A log that does, and one whose opening would wait for ever.
    let fifo = |path: &std::path::Path| {
        let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
    };
    for place_it in [&|path: &std::path::Path| symlink(&victim, path).unwrap(), &fifo]
        as [&dyn Fn(&std::path::Path); 2]
    {
        let repository = Repository::new();
        std::fs::create_dir(repository.place.folder()).unwrap();
        place_it(&repository.place.log());
        assert!(Writer::open(&repository.place, &origin()).is_err());
        assert!(Reader::open(&repository.place).is_err());
    }

    // An index like that is as good as none.
    let repository = Repository::new();
    open(&repository).append(&[job(1, 0)]).unwrap();
    std::fs::remove_file(repository.place.index()).unwrap();
    fifo(&repository.place.index());
    let found = reader(&repository).find(&node(1)).unwrap();
    assert_eq!(entries(&found.records), [job(1, 0)]);
    assert_eq!(std::fs::read(&victim).unwrap(), b"mine");
}

#[test]
fn a_folder_that_becomes_a_link_leads_nobody_astray() {
    use std::os::unix::fs::symlink;
    let elsewhere = tempfile::tempdir().unwrap();
    let mine = ["results", "results.idx", "results.1.new", "source"];
    for name in mine {
        std::fs::write(elsewhere.path().join(name), "mine").unwrap();
    }
    let untouched = || {
        let names = std::fs::read_dir(elsewhere.path()).unwrap();
        let content = names.map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
        content.collect::<Vec<_>>() == vec![b"mine"; mine.len()]
    };

    let repository = Repository::new();
    let mut writer = open(&repository);
    writer.append(&[job(1, 0)]).unwrap();
    std::fs::rename(repository.place.folder(), repository.folder.path().join("away")).unwrap();
    symlink(elsewhere.path(), repository.place.folder()).unwrap();
    assert!(matches!(writer.append(&[job(1, 1)]), Err(Error::Replaced { .. })));
    assert!(matches!(writer.compact(|_| true), Err(Error::Replaced { .. })));
    drop(writer);
    for place in [&repository.place, &Place::received(repository.folder.path(), "https://h/r")] {
        let error = Writer::open(place, &origin()).err().unwrap().to_string();
        assert!(error.contains("symbolic link") && error.contains("remove it"), "{error}");
        assert!(Reader::open(place).is_err());
    }
    assert!(untouched());

    // The same below: where what was received is.
    let repository = Repository::new();
    std::fs::create_dir(repository.place.folder()).unwrap();
    symlink(elsewhere.path(), repository.place.folder().join("from")).unwrap();
    let received = Place::received(repository.folder.path(), "https://h/r");
    assert!(Writer::open(&received, &origin()).is_err());
    assert_eq!(Place::all_received(repository.folder.path()), []);
    assert!(untouched());
}

#[test]
fn whoever_may_read_the_store_may_read_the_results() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let repository = Repository::new();
    let store = repository.folder.path().join("store");
    std::fs::set_permissions(&store, PermissionsExt::from_mode(0o2770)).unwrap();
    open(&repository).append(&(0..3000).map(stream).collect::<Vec<_>>()).unwrap();
    let mode = |path: std::path::PathBuf| std::fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(repository.place.folder()), 0o3770, "and replace nothing of others");
    assert_eq!(mode(repository.place.log()), 0o640, "and write nothing");
    assert_eq!(mode(repository.place.index()), 0o640);
}

#[test]
fn a_result_costs_at_most_150_bytes_with_its_index() {
    let repository = Repository::new();
    let mut writer = open(&repository);
    let count = 20_460;
    writer.append(&(0..count).map(|n| job(n, 3)).collect::<Vec<_>>()).unwrap();
    let len = |path: std::path::PathBuf| std::fs::metadata(path).unwrap().len();
    let each = (len(repository.place.log()) + len(repository.place.index())) / count;
    assert!(each <= 150, "{each} bytes");
}

#[test]
fn the_null_node_is_no_changeset() {
    let repository = Repository::new();
    open(&repository).append(&[job(1, 0)]).unwrap();
    let found = reader(&repository).find(&Node::NULL).unwrap();
    assert_eq!(entries(&found.records), [Entry::Origin(origin())]);
}
