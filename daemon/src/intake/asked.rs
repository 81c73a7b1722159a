//! People who ask for runs, retries and cancels of what is in a repository.
//!
//! A run is a push of its own, of nothing, with one build: so it has a number, somebody who is
//! answerable for it, mail and a place in lists. The build is new, also for a retry: an end that is
//! in the results log stays what it is, and the newest build counts. It becomes durable in one
//! batch, before who asked has an answer; the request's id tells when the same is asked again.

use std::sync::Arc;

use hgci_api::ask::{Ask, Asked, MAX_ID};
use hgci_core::engine::{BuildRow, Event, JobRow, NewBuild, Reply};
use hgci_core::push::{Push, Via};
use hgci_core::rerun::{Nothing, Rerun, Selection, places_of};
use hgci_core::result::{Entry, JobResult};
use hgci_core::{BuildId, JobState, Node, PushId};
use hgci_results::{Place, Reader as Results};

use super::look;
use super::planned::plan;
use super::pusher::pusher;
use super::taken::Made;
use super::worker::Request;
use super::{Handle, Intake, NotTaken, Served};
use crate::scheduler::{NotRecorded, Part, Records, Turn};

/// The most jobs that one request names, and the most bytes of a name.
const MAX_JOBS: usize = 1000;
const MAX_NAME: usize = 200;

/// Who asks where a front end has authenticated nobody.
const NOBODY: &str = "somebody who did not log in";

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Jobs, whatever became of them before.
    Run,
    /// Those that did not pass.
    Retry,
    /// That what is queued or running stops.
    Cancel,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum NotDone {
    /// It was not even looked at.
    #[error(transparent)]
    NotTaken(#[from] NotTaken),
    /// The account may not push there.
    #[error("{0}")]
    Forbidden(String),
    /// There is no such changeset or job.
    #[error("{0}")]
    Unknown(String),
    /// Not as things are.
    #[error("{0}")]
    Conflict(String),
    /// There is nothing to be run.
    #[error("{0}")]
    Unfit(String),
}

impl From<NotRecorded> for NotDone {
    fn from(error: NotRecorded) -> NotDone {
        NotDone::NotTaken(error.into())
    }
}

impl From<Nothing> for NotDone {
    fn from(nothing: Nothing) -> NotDone {
        let why = nothing.to_string();
        match nothing {
            Nothing::NoSuchJob { .. } => NotDone::Unknown(why),
            Nothing::NoResult | Nothing::NothingFailed => NotDone::Conflict(why),
            Nothing::NoJobs => NotDone::Unfit(why),
        }
    }
}

impl Intake {
    /// Does what a process of `account` asks for. `may_push` tells whether that account may write
    /// into a repository; front ends answer for theirs. The answer is durable.
    pub async fn ask(
        &self,
        what: What,
        ask: Ask,
        account: String,
        may_push: impl FnOnce(&Served) -> bool,
    ) -> Result<Asked, NotDone> {
        check(&ask)?;
        let Handle { served, requests } = match self.workers().get(&ask.repo).cloned() {
            Some(handle) => handle,
            None => self.by_path(&ask.repo)?,
        };
        if !served.frontends.contains(&account) && !may_push(&served) {
            let repo = &served.policy.repo;
            return Err(NotDone::Forbidden(format!("{account} may not push to {repo}")));
        }
        let user = pusher(&ask.url, Some(&account), &served.frontends);
        if what == What::Cancel {
            return self.cancel(served, ask, user).await;
        }
        let push = push_of(what, &served, &ask, user);
        if let Some(known) = self.asked_before(&push).await? {
            return Ok(known);
        }
        let (build, before) = self.read(served, push.user.clone(), ask.node).await?;
        let scheduler = &self.inner.scheduler;
        let (asked, made) =
            scheduler.act(move |turn| rerun(turn, what, push, build, before, &ask.jobs)).await??;
        let _ended = requests.send(Request::Made(made));
        Ok(asked)
    }

    /// What came of the same request before.
    async fn asked_before(&self, push: &Push) -> Result<Option<Asked>, NotDone> {
        let (repo, txid) = (push.repo.clone(), push.txid.clone().unwrap_or_default());
        if txid.is_empty() {
            return Ok(None);
        }
        let known = self.inner.scheduler.act(move |turn| match turn.push_of(&repo, &txid) {
            Ok(Some(push)) => known(turn, push).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(NotRecorded(error.to_string())),
        });
        Ok(known.await??)
    }

    /// What the repository has for the changeset, and how its jobs ended as the results log has it.
    async fn read(
        &self,
        served: Arc<Served>,
        user: Option<String>,
        node: Node,
    ) -> Result<(NewBuild, Vec<JobResult>), NotDone> {
        let read = tokio::task::spawn_blocking(move || {
            let there = served.repository.read(|reader| match reader.rev(&node) {
                None => Ok(None),
                Some(_) => look::asked(reader, &served.policy, user.as_deref(), node).map(Some),
            });
            let later = |error: &dyn std::fmt::Display| NotRecorded(error.to_string());
            let found = there.map_err(|error| later(&error))?;
            let unknown = || NotDone::Unknown(format!("there is no changeset {node} here"));
            let build = found.ok_or_else(unknown)?.map_err(|why| NotDone::Unfit(why.to_owned()))?;
            if let Err(why) = &build.plan {
                return Err(NotDone::Unfit(why.message().to_owned()));
            }
            // A log that cannot be read has nothing to retry; whoever writes it says so.
            let log = Results::open(&Place::new(served.repository.source().join(".hg")));
            let newest = log.ok().flatten().and_then(|log| log.newest(&node).ok());
            Ok((build, newest.map(|newest| ends(newest.entries)).unwrap_or_default()))
        });
        read.await.map_err(|error| NotRecorded(error.to_string()))?
    }

    async fn cancel(
        &self,
        served: Arc<Served>,
        ask: Ask,
        user: Option<String>,
    ) -> Result<Asked, NotDone> {
        let by = user.clone().unwrap_or_else(|| NOBODY.to_owned());
        let repo = served.policy.repo.clone();
        let done = self.inner.scheduler.act(move |turn| cancel(turn, &repo, &ask, &by));
        Ok(Asked { by: user, ..done.await?? })
    }
}

fn check(ask: &Ask) -> Result<(), NotTaken> {
    let malformed = |why: String| Err(NotTaken::Malformed(why));
    if ask.v != hgci_api::PROTOCOL {
        return malformed(format!(
            "the request is of protocol {}, this daemon speaks {}; install both from one release",
            ask.v,
            hgci_api::PROTOCOL
        ));
    }
    let id_is_sound = ask.id.len() <= MAX_ID && ask.id.bytes().all(|byte| byte.is_ascii_graphic());
    if !id_is_sound || ask.url.len() > 4096 {
        return malformed("the id or the url of the request is too long, or no plain text".into());
    }
    if ask.jobs.len() > MAX_JOBS || ask.jobs.iter().any(|name| name.len() > MAX_NAME) {
        return malformed(format!("more than {MAX_JOBS} jobs, or one with a longer name than any"));
    }
    Ok(())
}

/// The push that stands for a request. Its id cannot be that of a transaction of hg.
fn push_of(what: What, served: &Served, ask: &Ask, user: Option<String>) -> Push {
    let hint = hgci_api::hook::Hint::default();
    let source = if what == What::Retry { "ci-retry" } else { "ci-run" };
    Push {
        txid: (!ask.id.is_empty()).then(|| format!("ask:{}", ask.id)),
        source: source.to_owned(),
        url: (!ask.url.is_empty()).then(|| ask.url.clone()),
        heads: vec![ask.node],
        ..super::blank(&served.policy.repo, &hint, Via::Asked, user)
    }
}

/// Makes the build, within a turn.
fn rerun(
    turn: &mut Turn,
    what: What,
    push: Push,
    build: NewBuild,
    logged: Vec<JobResult>,
    names: &[String],
) -> Result<(Asked, Vec<Made>), NotDone> {
    if let Some(txid) = &push.txid
        && let Some(id) = turn.push_of(&push.repo, txid).map_err(not_recorded)?
    {
        // The same came twice at the same time.
        return Ok((known(turn, id)?, Vec::new()));
    }
    let (repo, node) = (build.repo.clone(), build.node);
    if let Some(open) = open_build(turn, &repo, node) {
        return Err(NotDone::Conflict(format!(
            "build {} of that changeset has not ended: wait for it, or cancel it first",
            open.id
        )));
    }
    let before = before(turn, &repo, node, logged)?;
    let what = match what {
        What::Retry => Rerun::Retry(names),
        What::Run | What::Cancel => Rerun::Run(names),
    };
    let whole = build.plan.as_ref().map_err(|why| NotDone::Unfit(why.message().to_owned()))?;
    let selection = Selection::of(whole, &before, what)?;
    let jobs = selection.run().map(str::to_owned).collect();
    let kept = selection.kept.len();
    let (by, plan_of_it) = (build.by.clone(), Ok(Arc::new(selection.plan)));
    let build = NewBuild { plan: plan_of_it, kept: selection.kept, ..build };
    let recorded = plan(turn, push, vec![build])?;
    match recorded.made.as_slice() {
        [made] => {
            let asked = Asked { build: made.build.0, jobs, kept, by, ..Asked::default() };
            Ok((asked, recorded.made))
        }
        _ => Err(NotDone::Conflict("another build of that changeset was made meanwhile".into())),
    }
}

/// What came of a request that is recorded as this push.
fn known(turn: &Turn, id: PushId) -> Result<Asked, NotRecorded> {
    let live = turn.engine().push(id).cloned();
    let row = match live {
        Some(row) => Some(row),
        None => Records::push(turn.store(), id).map_err(not_recorded)?,
    };
    let build = row.and_then(|row| row.first_build);
    let build = build.map(|build| rows(turn, build)).transpose()?.flatten();
    let Some((build, jobs)) = build else {
        return Err(NotRecorded(format!("request {id} is no longer known; ask anew")));
    };
    let run = jobs.iter().filter(|job| job.kept.is_none());
    Ok(Asked {
        build: build.id.0,
        jobs: run.map(|job| job.name.clone()).collect(),
        kept: jobs.iter().filter(|job| job.kept.is_some()).count(),
        by: build.by,
        again: true,
        url: String::new(),
    })
}

/// A build with its jobs, in flight or over.
fn rows(turn: &Turn, id: BuildId) -> Result<Option<(BuildRow, Vec<JobRow>)>, NotRecorded> {
    if let Some(row) = turn.engine().build(id) {
        return Ok(Some((row.clone(), turn.engine().jobs(id))));
    }
    let over = Records::build(turn.store(), id).map_err(not_recorded)?;
    Ok(over.map(|over| (over.build, over.jobs)))
}

/// The build of a changeset that has not ended.
fn open_build<'t>(turn: &'t Turn, repo: &str, node: Node) -> Option<&'t BuildRow> {
    turn.engine().builds_of(repo, node).filter(|build| !build.state.is_final()).last()
}

/// The newest build of a changeset that the store knows.
fn newest(
    turn: &Turn,
    repo: &str,
    node: Node,
) -> Result<Option<(BuildRow, Vec<JobRow>)>, NotRecorded> {
    let live = turn.engine().builds_of(repo, node).last().map(|build| build.id);
    let part = Part { below: u64::MAX, limit: 1, looks: 100 };
    let over = Records::builds_of(turn.store(), &node, part, |over| over.build.repo == repo);
    let over = over.map_err(not_recorded)?.rows.pop();
    match live {
        Some(id) if over.as_ref().is_none_or(|over| over.build.id < id) => rows(turn, id),
        _ => Ok(over.map(|over| (over.build, over.jobs))),
    }
}

/// How the jobs of a changeset ended in its newest build: as the store has it, or the results log
/// where that knows of a later one, or alone.
fn before(
    turn: &Turn,
    repo: &str,
    node: Node,
    logged: Vec<JobResult>,
) -> Result<Vec<JobResult>, NotRecorded> {
    let Some((build, jobs)) = newest(turn, repo, node)? else { return Ok(logged) };
    if logged.first().is_some_and(|result| result.build > build.id) {
        return Ok(logged);
    }
    Ok(jobs.iter().filter_map(|job| job.result(&build)).collect())
}

/// How the jobs of the newest build among these entries ended.
fn ends(entries: Vec<Entry>) -> Vec<JobResult> {
    let jobs = entries.into_iter().filter_map(|entry| match entry {
        Entry::Job(job) => Some(job),
        Entry::Build(_) | Entry::Origin(_) => None,
    });
    let mut jobs: Vec<JobResult> = jobs.collect();
    let newest = jobs.iter().map(|job| job.build).max();
    jobs.retain(|job| Some(job.build) == newest);
    jobs
}

/// Cancels jobs of the build that has not ended, within a turn.
fn cancel(turn: &mut Turn, repo: &str, ask: &Ask, by: &str) -> Result<Asked, NotDone> {
    let open = open_build(turn, repo, ask.node).map(|build| build.id);
    let build = match open {
        Some(id) => rows(turn, id)?,
        None => newest(turn, repo, ask.node)?,
    };
    let Some((build, jobs)) = build else {
        let why = "no build of that changeset is queued or running";
        return Err(NotDone::Conflict(why.into()));
    };
    let wanted = wanted(&jobs, &ask.jobs)?;
    let of = |keep: fn(&JobRow) -> bool| -> Vec<&JobRow> {
        wanted.iter().filter_map(|at| jobs.get(*at)).filter(|job| keep(job)).collect()
    };
    let is_cancelled = |job: &JobRow| {
        job.is_stopping() || job.cancelled_by.is_some() || job.state == JobState::Cancelled
    };
    let open = of(|job| !job.state.is_final() && !job.is_stopping());
    let names = |jobs: &[&JobRow]| jobs.iter().map(|job| job.name.clone()).collect();
    let asked = Asked { build: build.id.0, ..Asked::default() };
    if open.is_empty() {
        let cancelled = of(is_cancelled);
        if cancelled.is_empty() {
            let what = match ask.jobs.is_empty() {
                true => format!("build {} of that changeset has ended", build.id),
                false => format!("these jobs of build {} have ended", build.id),
            };
            return Err(NotDone::Conflict(format!("{what}: there is nothing to cancel")));
        }
        return Ok(Asked { jobs: names(&cancelled), again: true, ..asked });
    }
    // The last first: a job that needs another is cancelled, too, and not skipped because of it.
    for job in open.iter().rev() {
        let event = Event::Cancel { build: build.id, job: Some(job.key.index), by: by.to_owned() };
        if turn.step(event) == Reply::Unknown {
            return Err(NotRecorded("the build has ended meanwhile".into()).into());
        }
    }
    Ok(Asked { jobs: names(&open), ..asked })
}

/// The places of the jobs of a build that are meant.
fn wanted(jobs: &[JobRow], names: &[String]) -> Result<Vec<usize>, NotDone> {
    if names.is_empty() {
        return Ok((0..jobs.len()).collect());
    }
    let all: Vec<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
    let mut wanted = std::collections::BTreeSet::new();
    for name in names {
        let found = places_of(&all, name);
        if found.is_empty() {
            let jobs = all.join(", ");
            return Err(NotDone::Unknown(format!("no job {name:?} in that build; it has: {jobs}")));
        }
        wanted.extend(found);
    }
    Ok(wanted.into_iter().collect())
}

fn not_recorded(error: crate::scheduler::RecordError) -> NotRecorded {
    NotRecorded(error.to_string())
}
