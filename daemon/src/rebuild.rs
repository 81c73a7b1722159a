//! What a store that lost something is given back from the results logs: the numbers that were
//! used, and the ends of what it believes to be in flight.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hgci_core::engine::{BuildRow, JobRow, Rows};
use hgci_core::result::{Entry, JobResult};
use hgci_core::{BuildId, JobKey, JobState};
use hgci_results::{Place, Reader};

use crate::config::{self, Config};
use crate::intake::taken;
use crate::store::Numbers;

/// The `.hg` folders of the repositories that can be opened, by name.
pub fn folders(config: &Config) -> BTreeMap<String, PathBuf> {
    let (served, _) = config::serve(config);
    let opened = served.into_iter().filter_map(|served| {
        let repository = hgci_repo::Repository::open(&served.path).ok()?;
        Some((served.name, repository.source().join(".hg")))
    });
    opened.collect()
}

/// The highest numbers that repositories and the logs of jobs speak of. Reads all of every results
/// log: for a store that cannot tell.
pub fn numbers(folders: &BTreeMap<String, PathBuf>, newest_log: Option<BuildId>) -> Numbers {
    let mut numbers = Numbers { push: 0, build: newest_log.map_or(0, |build| build.0) };
    let mut count = |push: u64, build: u64| {
        numbers.push = numbers.push.max(push);
        numbers.build = numbers.build.max(build);
    };
    for (repo, hg) in folders {
        match Reader::open(&Place::new(hg)) {
            Ok(Some(log)) => {
                for record in log.records() {
                    // What is damaged is said by those who serve it.
                    let Ok(Ok(record)) = record else { continue };
                    match record.entry {
                        Some(Entry::Job(job)) => count(job.push.0, job.build.0),
                        Some(Entry::Build(build)) => count(build.push.0, build.build.0),
                        Some(Entry::Origin(_)) | None => {}
                    }
                }
            }
            Ok(None) => {}
            Err(error) => tracing::error!(repo, %error, "cannot read the numbers in a results log"),
        }
        let taken = taken::read(hg).ok().flatten().unwrap_or_default();
        taken.builds.iter().for_each(|made| count(made.push.0, made.build.0));
    }
    numbers
}

/// Gives rows that are older than the results logs the ends that this daemon has written there, so
/// that nothing that has an end is run again. Returns how many ends that were.
pub fn refill(rows: &mut Rows, daemon: &str, folder: impl Fn(&str) -> Option<PathBuf>) -> usize {
    let mut logs: BTreeMap<String, Option<Reader>> = BTreeMap::new();
    let mut jobs: BTreeMap<JobKey, JobRow> =
        std::mem::take(&mut rows.jobs).into_iter().map(|row| (row.key, row)).collect();
    let mut ends = 0;
    for build in rows.builds.iter_mut().filter(|build| !build.published) {
        let log = logs
            .entry(build.repo.clone())
            .or_insert_with(|| Reader::open(&Place::new(folder(&build.repo)?)).ok().flatten());
        let newest = log.as_ref().and_then(|log| log.newest(&build.node).ok());
        let Some(newest) = newest.filter(|newest| newest.origin.daemon == daemon) else { continue };
        for entry in newest.entries {
            match entry {
                Entry::Job(result) if result.build == build.id => {
                    let key = JobKey { build: build.id, index: result.index };
                    let row = jobs.entry(key).or_insert_with(|| job_of(build, &result));
                    // Of several ends, after a retry, the last one counts.
                    if !(row.published && row.state == result.state) {
                        end_job(row, &result);
                        ends += 1;
                    }
                }
                Entry::Build(result) if result.build == build.id => {
                    build.state = result.state;
                    build.ended_ms = Some(result.ended_ms);
                    build.published = true;
                    ends += 1;
                }
                _ => {}
            }
        }
    }
    rows.jobs = jobs.into_values().collect();
    ends
}

/// The row of a job of which the store has none.
fn job_of(build: &BuildRow, result: &JobResult) -> JobRow {
    JobRow {
        key: JobKey { build: build.id, index: result.index },
        name: result.name.clone(),
        allow_failure: result.allow_failure,
        state: JobState::Queued,
        queued_ms: build.created_ms,
        ended_ms: None,
        why: None,
        cancelled_by: None,
        superseded: None,
        kept: result.from.map(|JobKey { build, index }| {
            Box::new(JobResult { build, index, from: None, ..result.clone() })
        }),
        attempts: Vec::new(),
        published: false,
    }
}

fn end_job(row: &mut JobRow, result: &JobResult) {
    row.state = result.state;
    row.why = result.why.clone();
    row.published = true;
    let duration = i64::try_from(result.duration_ms).unwrap_or(i64::MAX);
    row.ended_ms = Some(result.started_ms.saturating_add(duration).max(row.queued_ms));
}
