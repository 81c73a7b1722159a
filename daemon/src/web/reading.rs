//! What reading calls share: a bounded number of threads, and what is in flight put together with
//! what is over.

use std::collections::BTreeSet;
use std::sync::Arc;

use hgci_core::BuildId;
use hgci_core::engine::{BuildRow, JobRow};

use super::shown::Shown;
use super::{Failure, Query, Sight};
use crate::app::App;
use crate::scheduler::{Part, Records, Slice};

/// How many threads read for people at the same time.
pub const READERS: usize = 8;

/// How many rows a page looks at in search of what the caller may see.
const LOOKS: usize = 2000;

/// Reads from disk on a thread that may wait for it. Few at a time: planning and hooks need
/// threads, too.
pub async fn blocking<T: Send + 'static>(
    app: &App,
    read: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let _permit = app.readers.acquire().await.map_err(Failure::later)?;
    tokio::task::spawn_blocking(read).await.map_err(Failure::ours)?
}

/// Rows of which repositories are wanted, and may be seen.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// Of this one.
    One(String),
    /// Of these.
    Some(Arc<BTreeSet<String>>),
    /// Of all, also of those that are no longer served.
    All,
}

impl Wanted {
    /// What a query asks for and the caller may see.
    pub fn of(app: &App, sight: &Sight, query: &Query) -> Result<Wanted, Failure> {
        if let Some(repo) = query.any("repo") {
            return Ok(Wanted::One(sight.served(app, repo)?.policy.repo.clone()));
        }
        Ok(Wanted::seen(app, sight))
    }

    /// What the caller may see.
    pub fn seen(app: &App, sight: &Sight) -> Wanted {
        if *sight == Sight::All {
            return Wanted::All;
        }
        let all = app.intake.all().into_iter().filter(|served| sight.sees(served));
        Wanted::Some(Arc::new(all.map(|served| served.policy.repo.clone()).collect()))
    }

    /// The one repository that is wanted.
    pub fn one(&self) -> Option<&str> {
        match self {
            Wanted::One(repo) => Some(repo),
            Wanted::Some(_) | Wanted::All => None,
        }
    }

    /// Whether rows of this repository are.
    pub fn has(&self, repo: &str) -> bool {
        match self {
            Wanted::One(one) => one == repo,
            Wanted::Some(some) => some.contains(repo),
            Wanted::All => true,
        }
    }
}

/// A part of a list, and how to look for it.
pub fn part((below, limit): (u64, usize)) -> Part {
    Part { below, limit, looks: LOOKS }
}

/// A part of what is in flight, in the form of a part of what is over. `rows` come with the newest
/// first.
pub fn slice<'r, T: Clone + 'r>(
    rows: impl Iterator<Item = &'r T>,
    part: Part,
    id: impl Fn(&T) -> u64,
    wanted: impl Fn(&T) -> bool,
) -> Slice<T> {
    let mut slice = Slice { rows: Vec::new(), stopped_at: None };
    let mut last = None;
    for (looked, row) in rows.enumerate() {
        if slice.rows.len() == part.limit || looked == part.looks {
            slice.stopped_at = last;
            break;
        }
        last = Some(id(row));
        if wanted(row) {
            slice.rows.push(row.clone());
        }
    }
    slice
}

/// One page of both, the newest first, and the number to go on below.
pub fn merge<T>(
    live: Slice<T>,
    over: Slice<T>,
    limit: usize,
    id: impl Fn(&T) -> u64,
) -> (Vec<T>, Option<u64>) {
    // Below where either has stopped, something may be missing.
    let floor = live.stopped_at.max(over.stopped_at);
    let mut rows: Vec<T> = live.rows.into_iter().chain(over.rows).collect();
    rows.retain(|row| floor.is_none_or(|floor| id(row) >= floor));
    rows.sort_by_key(|row| std::cmp::Reverse(id(row)));
    // What went to the history between the two looks is in both.
    rows.dedup_by_key(|row| id(row));
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = if more { rows.last().map(id) } else { floor };
    (rows, next)
}

/// A build with its jobs.
pub struct Whole {
    /// The build.
    pub row: BuildRow,
    /// Its jobs, in the order of the plan.
    pub jobs: Vec<JobRow>,
    /// What each waits for, where it does.
    pub waits: Vec<Option<String>>,
}

/// A build, in flight or over, that the caller may see.
pub async fn build(app: &App, sight: &Sight, id: u64) -> Result<Whole, Failure> {
    let wanted = Wanted::seen(app, sight);
    let live = app.scheduler.ask(move |engine, _| {
        let row = engine.build(BuildId(id))?.clone();
        let jobs = engine.jobs(row.id);
        let waits = jobs.iter().map(|job| engine.waits_for(job.key)).collect();
        Some(Whole { row, jobs, waits })
    });
    let found = match live.await? {
        Some(live) => Some(live),
        None => {
            let store = app.store.clone();
            let over =
                blocking(app, move || Records::build(&store, BuildId(id)).map_err(Failure::later));
            over.await?.map(|over| Whole {
                waits: vec![None; over.jobs.len()],
                row: over.build,
                jobs: over.jobs,
            })
        }
    };
    let unknown = || Failure::unknown(format!("there is no build {id} here, or not any more"));
    let found = found.filter(|whole| wanted.has(&whole.row.repo)).ok_or_else(unknown)?;
    let node = found.row.node;
    let shown = Shown::among(app, sight, &found.row.repo, vec![node]).await?;
    if shown.has(&node) { Ok(found) } else { Err(unknown()) }
}

impl Whole {
    /// The job of this name, with what it waits for.
    pub fn job(&self, name: &str) -> Result<(&JobRow, Option<&str>), Failure> {
        let found = self.jobs.iter().zip(&self.waits).find(|(job, _)| job.name == name);
        let found = found.map(|(job, waits)| (job, waits.as_deref()));
        found.ok_or_else(|| no_such_job(name, self.jobs.iter().map(|job| job.name.as_str())))
    }
}

/// That a build has no such job, but others.
pub fn no_such_job<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Failure {
    let names: Vec<&str> = names.collect();
    Failure::unknown(format!("no job {name:?} in that build; it has: {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rows: &[u64], stopped_at: Option<u64>) -> Slice<u64> {
        Slice { rows: rows.to_vec(), stopped_at }
    }

    #[test]
    fn a_page_has_the_newest_of_both_once() {
        let page = merge(of(&[9, 7], None), of(&[8, 7, 5], None), 10, |id| *id);
        assert_eq!(page, (vec![9, 8, 7, 5], None));
    }

    #[test]
    fn the_next_page_goes_on_where_this_one_ends() {
        let page = merge(of(&[9, 7], None), of(&[8, 6, 5], Some(5)), 3, |id| *id);
        assert_eq!(page, (vec![9, 8, 7], Some(7)));
        let page = merge(of(&[], None), of(&[6, 5], Some(5)), 3, |id| *id);
        assert_eq!(page, (vec![6, 5], Some(5)));
    }

    #[test]
    fn below_where_looking_has_stopped_nothing_is_shown_yet() {
        // Among what is in flight there may be a 4 that was not looked at.
        let page = merge(of(&[9], Some(6)), of(&[8, 3], None), 3, |id| *id);
        assert_eq!(page, (vec![9, 8], Some(6)));
    }

    #[test]
    fn a_list_is_walked_to_its_end_whatever_is_wanted_of_it() {
        let rows: Vec<u64> = (1..=100).rev().collect();
        let mut below = u64::MAX;
        let mut seen = Vec::new();
        loop {
            let part = Part { below, limit: 3, looks: 7 };
            let rest = rows.iter().filter(|id| **id < below);
            let found = slice(rest, part, |id| *id, |id| id % 10 == 0);
            let (page, next) = merge(found, of(&[], None), part.limit, |id| *id);
            seen.extend(page);
            match next {
                Some(next) => below = next,
                None => break,
            }
        }
        assert_eq!(seen, [100, 90, 80, 70, 60, 50, 40, 30, 20, 10]);
    }
}
