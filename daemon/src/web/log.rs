//! Logs: in parts by offset, waiting for more where that is asked for, and whole.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use hgci_api::read::{LOG_ATTEMPT, LOG_DONE, LOG_NEXT, MAX_LOG_READ};
use hgci_core::engine::{AttemptState, JobRow};
use hgci_core::quantity::format_duration;
use hgci_core::result::Entry;
use hgci_core::{AttemptKey, BuildId, JobState, Node};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::query::InPath;
use super::read::open;
use super::reading::{self, blocking, no_such_job};
use super::shown::Shown;
use super::{Failure, Query, Sight};
use crate::app::App;
use crate::intake::Served;

/// The longest that a call may wait for more of a log.
const LONGEST_WAIT: Duration = Duration::from_secs(55);

/// Bytes of a whole log that are read at a time, and how many such parts wait for a slow client.
const PART: usize = 256 << 10;
const AHEAD: usize = 2;

/// What a log is the log of.
enum Of {
    /// A job of the newest build of a changeset.
    Changeset { sight: Sight, served: Arc<Served>, node: Node, job: String },
    /// A job of a build.
    Build { sight: Sight, id: u64, job: String },
}

/// The attempt whose log is asked for.
struct Which {
    attempt: AttemptKey,
    /// Nothing will be added to it.
    done: bool,
    /// How many attempts the job has.
    attempts: u32,
    /// What became of a job that is over and never ran.
    never_ran: Option<String>,
}

impl Which {
    /// Refuses what has no log: an attempt that is asked for by number and that there is not, and a
    /// job that never ran.
    fn must_be(self, n: Option<u32>) -> Result<Which, Failure> {
        let Which { attempts, .. } = self;
        if let Some(end) = &self.never_ran {
            return Err(Failure::unknown(format!("it never ran: {end}")));
        }
        match n {
            Some(n) if n == 0 || n > attempts => {
                let error = format!("no attempt {n} of that job; it has {attempts}");
                Err(Failure::new(StatusCode::NOT_FOUND, error))
            }
            _ => Ok(self),
        }
    }
}

/// `GET LOG`: by changeset.
pub async fn by_node(
    State(app): State<Arc<App>>,
    sight: Sight,
    query: Query,
) -> Result<Response, Failure> {
    let served = sight.served(&app, query.one("repo")?)?;
    let node: Node = query.one("node")?.parse().map_err(Failure::bad)?;
    let job = query.one("job")?.to_owned();
    part(&app, Of::Changeset { sight, served, node, job }, &query).await
}

/// `GET BUILDS/12/jobs/NAME/log`.
pub async fn of_build(
    State(app): State<Arc<App>>,
    sight: Sight,
    InPath((id, job)): InPath<(u64, String)>,
    query: Query,
) -> Result<Response, Failure> {
    part(&app, Of::Build { sight, id, job }, &query).await
}

/// The log as it is now, from its first byte to its last.
pub async fn whole(
    State(app): State<Arc<App>>,
    sight: Sight,
    InPath((id, job)): InPath<(u64, String)>,
    query: Query,
) -> Result<Response, Failure> {
    let Which { attempt, .. } =
        Of::Build { sight, id, job }.asked(&app, query.number("attempt")?).await?;
    removed(&app, attempt).await?;
    let (parts, rest) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        let mut offset = 0;
        loop {
            let logs = app.logs.clone();
            let read =
                blocking(&app, move || logs.read(attempt, offset, PART).map_err(Failure::ours));
            let part = match read.await {
                Ok(part) if part.is_empty() => return,
                Ok(part) => Ok(Bytes::from(part)),
                Err(failure) => Err(std::io::Error::other(failure.to_string())),
            };
            offset += part.as_ref().map_or(0, |part| part.len() as u64);
            let broken = part.is_err();
            if parts.send(part).await.is_err() || broken {
                return;
            }
        }
    });
    let headers = [(LOG_ATTEMPT, attempt.n.to_string())];
    let body = Body::from_stream(ReceiverStream::new(rest));
    Ok((headers, attachment(attempt), body).into_response())
}

/// Bytes from the offset, or from what comes there in the time that is given.
async fn part(app: &App, of: Of, query: &Query) -> Result<Response, Failure> {
    let (n, tail) = (query.number("attempt")?, query.number::<u64>("tail")?);
    let offset = query.number("offset")?;
    if offset.is_some() && tail.is_some() {
        return Err(Failure::bad("an offset, or a tail, not both"));
    }
    let wait = Duration::from_millis(query.number("wait")?.unwrap_or(0)).min(LONGEST_WAIT);
    let Which { attempt, mut done, .. } = of.asked(app, n).await?;
    let offset = match tail {
        Some(most) => app.logs.len(attempt).saturating_sub(most.min(MAX_LOG_READ as u64)),
        None => offset.unwrap_or(0),
    };
    let mut watch = app.logs.watch(attempt);
    let mut stopping = app.stopping.subscribe();
    let until = tokio::time::Instant::now() + wait;
    let bytes = loop {
        let logs = app.logs.clone();
        let read = move || logs.read(attempt, offset, MAX_LOG_READ).map_err(Failure::ours);
        let bytes = blocking(app, read).await?;
        if !bytes.is_empty() || done {
            break bytes;
        }
        tokio::select! {
            _ = watch.changed() => {}
            () = tokio::time::sleep_until(until) => break bytes,
            _ = stopping.wait_for(|stopping| *stopping) => break bytes,
        }
        done = of.which(app, Some(attempt.n)).await?.done;
    };
    if bytes.is_empty() && done {
        removed(app, attempt).await?;
    }
    let next = offset.saturating_add(bytes.len() as u64);
    let last = done && next >= app.logs.len(attempt);
    let headers = [
        (LOG_ATTEMPT, attempt.n.to_string()),
        (LOG_NEXT, next.to_string()),
        (LOG_DONE, u8::from(last).to_string()),
    ];
    Ok((headers, attachment(attempt), bytes).into_response())
}

/// Says so where a log was removed: nobody is to take it for one of a job that wrote nothing.
async fn removed(app: &App, attempt: AttemptKey) -> Result<(), Failure> {
    let (logs, build) = (app.logs.clone(), attempt.job.build);
    let gone = blocking(app, move || Ok(!logs.is_there(attempt) && logs.was_removed(build)));
    if !gone.await? {
        return Ok(());
    }
    let keep = format_duration(app.current().config.limits.keep);
    let error = format!("the logs of build {build} were past [limits] keep ({keep}) and removed");
    Err(Failure::new(StatusCode::GONE, error))
}

/// A log is what a job wrote, which may be a page with scripts: a browser keeps it as a file, and
/// does nothing with what is in it.
fn attachment(attempt: AttemptKey) -> impl axum::response::IntoResponseParts {
    [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{attempt}.log\"")),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox".to_owned()),
    ]
}

impl Of {
    /// The attempt that a caller asks for.
    async fn asked(&self, app: &App, n: Option<u32>) -> Result<Which, Failure> {
        self.which(app, n).await?.must_be(n)
    }

    async fn which(&self, app: &App, n: Option<u32>) -> Result<Which, Failure> {
        match self {
            Of::Changeset { sight, served, node, job } => {
                let shown = Shown::among(app, sight, &served.policy.repo, vec![*node]).await?;
                if !shown.has(node) {
                    return Err(no_such_job(job, [].into_iter()));
                }
                of_changeset(app, served, *node, job, n).await
            }
            Of::Build { sight, id, job } => {
                let whole = reading::build(app, sight, *id).await?;
                Ok(of_row(whole.job(job)?.0, n))
            }
        }
    }
}

fn of_row(row: &JobRow, n: Option<u32>) -> Which {
    let kept = row.kept.as_ref().map(|kept| kept.attempt);
    let last = kept.or(row.attempts.last().map(|attempt| attempt.n)).unwrap_or(0);
    let n = n.unwrap_or(last.max(1));
    let over =
        row.attempts.iter().any(|attempt| attempt.n == n && attempt.state == AttemptState::Over);
    let attempt = AttemptKey { job: row.ran_as(), n };
    let never_ran = never_ran(row.state, last, row.why.as_deref());
    Which { attempt, done: over || row.state.is_final(), attempts: last, never_ran }
}

/// How a job without attempts ended, if it did.
fn never_ran(state: JobState, attempts: u32, why: Option<&str>) -> Option<String> {
    let ended = attempts == 0 && state.is_final();
    ended.then(|| why.map_or_else(|| state.to_string(), |why| format!("{state}: {why}")))
}

async fn of_changeset(
    app: &App,
    served: &Arc<Served>,
    node: Node,
    name: &str,
    n: Option<u32>,
) -> Result<Which, Failure> {
    let (repo, job) = (served.policy.repo.clone(), name.to_owned());
    let live = app.scheduler.ask(move |engine, _| {
        let build = engine.builds_of(&repo, node).last()?;
        let jobs = engine.jobs(build.id);
        let names = jobs.iter().map(|job| job.name.clone()).collect::<Vec<_>>();
        Some((jobs.into_iter().find(|row| row.name == job), names))
    });
    if let Some((row, names)) = live.await? {
        let row = row.ok_or_else(|| no_such_job(name, names.iter().map(String::as_str)))?;
        return Ok(of_row(&row, n));
    }
    let served = served.clone();
    let found = blocking(app, move || {
        let Some(log) = open(&served)? else { return Ok(Vec::new()) };
        let newest = log.newest(&node).map_err(Failure::ours)?;
        let build = newest.entries.iter().filter_map(build_of).max();
        let jobs = newest.entries.into_iter().filter_map(|entry| match entry {
            Entry::Job(job) if Some(job.build) == build => Some(job),
            _ => None,
        });
        Ok(jobs.collect::<Vec<_>>())
    });
    let jobs = found.await?;
    let names = jobs.iter().map(|job| job.name.as_str());
    let job = jobs.iter().find(|job| job.name == name).ok_or_else(|| no_such_job(name, names))?;
    let attempt = AttemptKey { job: job.ran_as(), n: n.unwrap_or(job.attempt) };
    let never_ran = never_ran(job.state, job.attempt, job.why.as_deref());
    Ok(Which { attempt, done: true, attempts: job.attempt, never_ran })
}

fn build_of(entry: &Entry) -> Option<BuildId> {
    match entry {
        Entry::Job(job) => Some(job.build),
        Entry::Build(build) => Some(build.build),
        Entry::Origin(_) => None,
    }
}
