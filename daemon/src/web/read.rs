//! The state of changesets, for people: what is in flight from the engine, what is over from the
//! results log.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hgci_api::fold::{self, build_page, job_page};
use hgci_api::read::{JobStatus, MAX_NODES, NodeStatus, STATUS_PLANNING, STATUS_TAG};
use hgci_core::engine::{Engine, JobRow, Stage};
use hgci_core::result::JobResult;
use hgci_core::{BuildState, Node};
use hgci_results::{Damage, Place, Reader};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout_at};

use super::body::Json;
use super::reading::blocking;
use super::{Failure, Query, Sight};
use crate::app::App;
use crate::intake::Served;

/// The longest that a call may wait for a change.
const LONGEST_WAIT: Duration = Duration::from_secs(55);

/// Changes come in flocks: how long after the first one it is looked again.
const GATHER: Duration = Duration::from_millis(100);

pub async fn status(
    State(app): State<Arc<App>>,
    sight: Sight,
    query: Query,
) -> Result<Response, Failure> {
    let served = sight.served(&app, query.one("repo")?)?;
    let nodes: Vec<Node> = query
        .all("node")
        .map(|text| text.parse().map_err(Failure::bad))
        .collect::<Result<_, _>>()?;
    if nodes.len() > MAX_NODES {
        return Err(Failure::bad(format!("more than {MAX_NODES} nodes in one call")));
    }
    let wait = Duration::from_millis(query.number("wait")?.unwrap_or(0)).min(LONGEST_WAIT);
    let (until, seen) = (Instant::now() + wait, query.any("seen"));
    let mut changes = app.scheduler.changes();
    let mut stopping = app.stopping.subscribe();
    loop {
        changes.mark_unchanged();
        let (found, planning) = look(&app, &sight, &served, &nodes).await?;
        let tag = tag(&found, planning);
        if seen == Some(tag.as_str()) {
            let changed = tokio::select! {
                changed = timeout_at(until, changes.changed()) => matches!(changed, Ok(Ok(()))),
                _ = stopping.wait_for(|stopping| *stopping) => false,
            };
            if changed {
                tokio::time::sleep(GATHER).await;
                continue;
            }
        }
        let headers = [(STATUS_TAG, tag), (STATUS_PLANNING, u8::from(planning).to_string())];
        return Ok((headers, Json(found)).into_response());
    }
}

/// What is known of these changesets, and whether pushes of the repository wait for their plan.
async fn look(
    app: &Arc<App>,
    sight: &Sight,
    served: &Arc<Served>,
    nodes: &[Node],
) -> Result<(Vec<NodeStatus>, bool), Failure> {
    let repo = served.policy.repo.clone();
    let url = app.current().url().map(str::to_owned);
    let (asked, base) = (nodes.to_vec(), url.clone());
    let live = app.scheduler.ask(move |engine, _| {
        let planning =
            engine.pushes().any(|push| push.stage == Stage::Planning && push.push.repo == repo);
        let live = asked.into_iter().map(|node| live(engine, &repo, node, base.as_deref()));
        (live.collect::<Vec<_>>(), planning)
    });
    let (live, planning) = live.await?;
    let (reader, served, nodes) = (app.clone(), served.clone(), nodes.to_vec());
    let found = blocking(app, move || {
        // What is in flight is known without the log, also where that cannot be read.
        let is_over = live.iter().any(Option::is_none);
        let log = if is_over { open(&served)? } else { None };
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
    let mut found = found.await?;
    if *sight != Sight::All {
        // Accounts of the server are nobody's business who only reads what is public.
        found.iter_mut().for_each(|build| build.by = None);
    }
    Ok((found, planning))
}

/// What stays the same while nothing but time goes by.
fn tag(found: &[NodeStatus], planning: bool) -> String {
    let mut found = found.to_vec();
    let jobs = found.iter_mut().flat_map(|build| &mut build.jobs);
    for job in jobs.filter(|job| !job.state.is_final()) {
        job.duration = None;
    }
    let mut hash = Sha256::new();
    // Strings, numbers and lists have a JSON form, and the hash takes whatever is written into it.
    let _cannot_fail = serde_json::to_writer(&mut hash, &(found, planning));
    hash.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect()
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
        by: build.by.clone(),
        jobs,
    })
}

/// A job as it is shown, with what it waits for where it does.
pub fn job_status(job: &JobRow, waits: Option<&str>, url: Option<&str>) -> JobStatus {
    if let Some(kept) = &job.kept {
        let result = JobResult { from: Some(kept.ran_as()), ..(**kept).clone() };
        return fold::job_status(&result, url.unwrap_or_default());
    }
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
        from: None,
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
        let line = Damage::line(log.path(), &newest.damage).unwrap_or_default();
        tracing::error!(unsaid, "{line}");
    }
    Ok(NodeStatus::from_log(&newest.entries, url.unwrap_or_default()))
}

pub fn open(served: &Served) -> Result<Option<Reader>, Failure> {
    Reader::open(&Place::new(served.repository.source().join(".hg"))).map_err(Failure::ours)
}
