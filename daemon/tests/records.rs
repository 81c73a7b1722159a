//! Records as each version of the program has written them, which every later one reads.
//!
//! A file in `records/` is never changed: when a record gets a new version, it gets a new file.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use hgci_core::engine::{BuildRow, JobRow, Meta, PushRow, Trigger};
use hgci_core::job::Plan;
use hgci_core::push::Via;
use hgci_core::{BuildId, JobKey, PushId};
use hgci_repo::Mark;
use hgcid::Records;
use hgcid::mail::Outbox;
use hgcid::store::{Batch, Options, Store, Tree};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn file(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/records");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

/// Reads a record; nothing of it is passed over.
fn read<T: Serialize + DeserializeOwned>(name: &str) -> T {
    let text = file(name);
    let value: T = serde_json::from_str(&text).unwrap();
    let again = serde_json::to_value(&value).unwrap();
    let before: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(contains(&again, &before), "{name}: {again}");
    value
}

/// Whether all of one value is in the other, which may have more, and not what is its default.
fn contains(all: &serde_json::Value, part: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Bool, Null, Object};
    match (all, part) {
        (Object(all), Object(part)) => part.iter().all(|(key, value)| {
            let found = all.get(key);
            found.map_or(matches!(value, Null | Bool(false)), |found| contains(found, value))
        }),
        (Array(all), Array(part)) => {
            all.len() == part.len() && all.iter().zip(part).all(|(all, part)| contains(all, part))
        }
        _ => all == part,
    }
}

#[test]
fn records_of_version_1_are_read_with_all_that_they_say() {
    let push: PushRow = read("push-1.json");
    let build: BuildRow = read("build-1.json");
    let job: JobRow = read("job-1.json");
    let meta: Meta = read("meta-1.json");
    let plan: Plan = read("plan-1.json");
    let mark: Mark = read("mark-1.json");
    assert_eq!((push.push.id, build.id, meta.next_build), (PushId(5), BuildId(7), BuildId(8)));
    assert_eq!((job.attempts.len(), plan.jobs.len(), mark.len), (2, 2, 3));
}

#[test]
fn records_of_what_was_asked_for_are_read_with_all_that_they_say() {
    let push: PushRow = read("push-2.json");
    let build: BuildRow = read("build-2.json");
    let job: JobRow = read("job-2.json");
    assert_eq!((push.push.via, push.first_build), (Via::Asked, Some(build.id)));
    assert_eq!((build.trigger, build.by.as_deref()), (Trigger::Asked, Some("alice")));
    assert_eq!(job.ran_as(), JobKey { build: BuildId(7), index: 0 });
}

#[test]
fn records_of_what_was_superseded_are_read_with_all_that_they_say() {
    let job: JobRow = read("job-3.json");
    assert!(job.is_stopping());
    assert_eq!(job.superseded.as_deref(), Some("the changeset is obsolete: pruned"));
}

#[test]
fn a_store_of_version_1_is_taken_up_whole() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new(env!("CARGO_BIN_EXE_hgcid"));
    let (store, _) = Store::open(folder.path(), options).unwrap();
    let build: BuildRow = read("build-1.json");
    let mut batch = Batch::new();
    batch.put(Tree::Meta, *b"engine", file("meta-1.json"));
    batch.put(Tree::Plans, build.plan.unwrap().0, file("plan-1.json"));
    batch.put(Tree::Pushes, 5_u64.to_be_bytes(), file("push-1.json"));
    batch.put(Tree::Builds, 7_u64.to_be_bytes(), file("build-1.json"));
    let job = [&7_u64.to_be_bytes()[..], &0_u32.to_be_bytes()].concat();
    batch.put(Tree::Jobs, job, file("job-1.json"));
    let message: Vec<u8> = file("outbox-1.hex")
        .trim()
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    batch.put(Tree::Outbox, [b"m", &1_i64.to_be_bytes()[..], b"x"].concat(), message);
    store.commit(&batch).unwrap();
    let (rows, lost) = Records::load(&store).unwrap();
    assert_eq!(lost, [""; 0]);
    assert_eq!((rows.plans.len(), rows.pushes.len()), (1, 1));
    assert_eq!((rows.builds.len(), rows.jobs.len()), (1, 1));
    assert_eq!(hgci_core::engine::PlanId::of(&rows.plans[0].1), rows.plans[0].0);
    let waiting = Outbox::new(&store).first().unwrap().unwrap();
    assert_eq!((waiting.message().to.as_str(), waiting.tries()), ("alice@example.org", 1));
}

#[test]
fn what_cannot_be_read_is_lost_once() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new(env!("CARGO_BIN_EXE_hgcid"));
    let (store, _) = Store::open(folder.path(), options).unwrap();
    let mut batch = Batch::new();
    batch.put(Tree::Builds, 7_u64.to_be_bytes(), *b"{\"id\": \"seven\"}");
    store.commit(&batch).unwrap();
    assert_eq!(Records::load(&store).unwrap().1.len(), 1);
    assert_eq!(Records::load(&store).unwrap().1, [""; 0]);
}
