//! The state of changesets, for people: what is in flight from the engine, what is over from the
//! results log.

use std::sync::Arc;

use axum::extract::State;
use hgci_api::fold::{build_page, job_page};
use hgci_api::read::{JobStatus, MAX_NODES, NodeStatus};
use hgci_core::engine::{Engine, JobRow};
use hgci_core::{BuildState, Node};
use hgci_results::{Place, Reader};

use super::body::Json;
use super::reading::blocking;
use super::{Failure, Query, Sight};
use crate::app::App;
use crate::intake::Served;

pub async fn status(
    State(app): State<Arc<App>>,
    sight: Sight,
    query: Query,
) -> Result<Json<Vec<NodeStatus>>, Failure> {
    let served = sight.served(&app, query.one("repo")?)?;
    let nodes: Vec<Node> = query
        .all("node")
        .map(|text| text.parse().map_err(Failure::bad))
        .collect::<Result<_, _>>()?;
    if nodes.len() > MAX_NODES {
        return Err(Failure::bad(format!("more than {MAX_NODES} nodes in one call")));
    }
    let repo = served.policy.repo.clone();
    let url = app.current().url().map(str::to_owned);
    let (asked, base) = (nodes.clone(), url.clone());
    let live = app.scheduler.ask(move |engine, _| {
        asked.into_iter().map(|node| live(engine, &repo, node, base.as_deref())).collect::<Vec<_>>()
    });
    let live = live.await?;
    let reader = app.clone();
    let found = blocking(&app, move || {
        let log = open(&served)?;
        let mut found = Vec::new();
        for (node, live) in nodes.into_iter().zip(live) {
            let status = match (live, &log) {
                (Some(live), _) => Some(live),
                (None, Some(log)) => final_status(&reader, log, &node, url.as_deref())?,
                (None, None) => None,
            };
            found.extend(status);
        }
        Ok(found)
    });
    found.await.map(Json)
}

/// The newest build in flight of a changeset.
fn live(engine: &Engine, repo: &str, node: Node, url: Option<&str>) -> Option<NodeStatus> {
    let build = engine.builds_of(repo, node).last()?;
    let jobs = engine.jobs(build.id);
    let status = |job: &JobRow| job_status(job, engine.waits_for(job.key).as_deref(), url);
    let jobs = jobs.iter().map(status).collect();
    Some(NodeStatus {
        node,
        state: build.state,
        build: build.id.0,
        push: build.push.0,
        source: if build.state == BuildState::Running { "live" } else { "log" }.into(),
        message: build.message.clone(),
        url: build_page(url.unwrap_or_default(), build.id),
        jobs,
    })
}

/// A job as it is shown, with what it waits for where it does.
pub fn job_status(job: &JobRow, waits: Option<&str>, url: Option<&str>) -> JobStatus {
    let last = job.attempts.last();
    let verdict = last.and_then(|attempt| attempt.verdict.as_deref());
    let started = verdict.map(|verdict| verdict.started_ms).or(last.and_then(|a| a.claimed_ms));
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let (exit, signal) =
        verdict.map(|verdict| verdict.outcome.exit_and_signal()).unwrap_or_default();
    let so_far = started.map(|started| crate::clock::wall_ms().saturating_sub(started).max(0));
    let duration = match verdict {
        Some(verdict) => Some(verdict.duration_ms as f64 / 1000.0),
        None if job.state.is_final() => None,
        None => so_far.map(seconds),
    };
    JobStatus {
        name: job.name.clone(),
        state: job.state,
        attempt: last.map_or(0, |attempt| attempt.n),
        exit,
        signal,
        duration,
        started: started.map(seconds),
        pool: last.map(|attempt| attempt.pool.to_string()),
        host: last.map(hgci_core::engine::AttemptRow::host),
        tests: verdict.and_then(|verdict| verdict.tests),
        allow_failure: job.allow_failure,
        why: job.why.clone().or_else(|| waits.map(str::to_owned)),
        url: job_page(&build_page(url.unwrap_or_default(), job.key.build), &job.name),
    }
}

/// The state of a changeset as the results log has it.
fn final_status(
    app: &App,
    log: &Reader,
    node: &Node,
    url: Option<&str>,
) -> Result<Option<NodeStatus>, Failure> {
    let newest = log.newest(node).map_err(Failure::ours)?;
    if !newest.damage.is_empty()
        && let Some(unsaid) = app.damage.next()
    {
        newest.damage.iter().for_each(|damage| tracing::error!(unsaid, "{damage}"));
    }
    Ok(NodeStatus::from_log(&newest.entries, url.unwrap_or_default()))
}

pub fn open(served: &Served) -> Result<Option<Reader>, Failure> {
    Reader::open(&Place::new(served.repository.source().join(".hg"))).map_err(Failure::ours)
}
