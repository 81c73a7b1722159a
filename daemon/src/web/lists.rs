//! Repositories, pushes, builds and jobs, as pages and one by one.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use hgci_api::fold::{build_page, push_page};
use hgci_api::list::{
    AttemptInfo, BuildDetail, BuildInfo, JobDetail, Page, PushInfo, RepoInfo, ended_as,
};
use hgci_core::engine::{AttemptRow, AttemptState, BuildRow, JobRow, PushRow, Stage};
use hgci_core::push::{Lane, Via};
use hgci_core::{BuildId, JobState, Node, PushId};

use super::body::Json;
use super::query::{InPath, Query};
use super::read::job_status;
use super::reading::{self, Wanted, Whole, blocking, merge, part, slice};
use super::shown::{Shown, names};
use super::{Failure, Sight};
use crate::app::App;
use crate::config::BuildPolicy;
use crate::scheduler::Records;

pub async fn repos(
    State(app): State<Arc<App>>,
    sight: Sight,
    query: Query,
) -> Result<Json<Page<RepoInfo>>, Failure> {
    let (after, limit) = (query.any("after").unwrap_or_default(), query.limit()?);
    let all = app.intake.all();
    let mut seen = all
        .iter()
        .filter(|served| served.policy.repo.as_str() > after && sight.sees(served))
        .map(|served| RepoInfo {
            name: served.policy.repo.clone(),
            public: served.public,
            build: match served.policy.build {
                BuildPolicy::Heads => "heads",
                BuildPolicy::Every => "every",
                BuildPolicy::Tip => "tip",
            }
            .to_owned(),
        });
    let items: Vec<RepoInfo> = seen.by_ref().take(limit).collect();
    let next = seen.next().and(items.last()).map(|last| last.name.clone());
    Ok(Json(Page { items, next }))
}

pub async fn pushes(
    State(app): State<Arc<App>>,
    sight: Sight,
    query: Query,
) -> Result<Json<Page<PushInfo>>, Failure> {
    let part = part(query.page_below()?);
    let wanted = Wanted::of(&app, &sight, &query)?;
    let of_live = wanted.clone();
    let live = app.scheduler.ask(move |engine, _| {
        let rows = engine.pushes_below(PushId(part.below));
        slice(rows, part, |row| row.push.id.0, |row| of_live.has(&row.push.repo))
    });
    let live = live.await?;
    let store = app.store.clone();
    let over = blocking(&app, move || {
        let has = |row: &PushRow| wanted.has(&row.push.repo);
        Records::pushes(&store, wanted.one(), part, has).map_err(Failure::later)
    });
    let (rows, next) = merge(live, over.await?, part.limit, |row| row.push.id.0);
    let nodes =
        rows.iter().flat_map(|row| names(&row.push).map(|node| (row.push.repo.clone(), node)));
    let shown = shown_of_each(&app, &sight, nodes).await?;
    let rows = rows.into_iter().filter_map(|row| {
        let push = shown.get(&row.push.repo)?.of(row.push)?;
        Some(PushRow { push, ..row })
    });
    let current = app.current();
    let items = rows.map(|row| push_info(&row, &sight, current.url())).collect();
    Ok(Json(Page { items, next: next.map(|next| next.to_string()) }))
}

pub async fn push(
    State(app): State<Arc<App>>,
    sight: Sight,
    InPath(id): InPath<u64>,
) -> Result<Json<PushInfo>, Failure> {
    let row = find_push(&app, &sight, id).await?;
    Ok(Json(push_info(&row, &sight, app.current().url())))
}

/// A push, in flight or over, that the caller may see.
pub async fn find_push(app: &App, sight: &Sight, id: u64) -> Result<PushRow, Failure> {
    let wanted = Wanted::seen(app, sight);
    let live = app.scheduler.ask(move |engine, _| engine.push(PushId(id)).cloned()).await?;
    let found = match live {
        Some(row) => Some(row),
        None => {
            let store = app.store.clone();
            blocking(app, move || Records::push(&store, PushId(id)).map_err(Failure::later)).await?
        }
    };
    let unknown = || Failure::unknown(format!("there is no push {id} here, or not any more"));
    let row = found.filter(|row| wanted.has(&row.push.repo)).ok_or_else(unknown)?;
    let nodes = names(&row.push).collect();
    let shown = Shown::among(app, sight, &row.push.repo, nodes).await?;
    let push = shown.of(row.push).ok_or_else(unknown)?;
    Ok(PushRow { push, ..row })
}

/// What the caller may see of changesets of several repositories.
async fn shown_of_each(
    app: &App,
    sight: &Sight,
    nodes: impl Iterator<Item = (String, Node)>,
) -> Result<BTreeMap<String, Shown>, Failure> {
    let mut of_each: BTreeMap<String, Vec<Node>> = BTreeMap::new();
    for (repo, node) in nodes {
        of_each.entry(repo).or_default().push(node);
    }
    let mut shown = BTreeMap::new();
    for (repo, nodes) in of_each {
        let among = Shown::among(app, sight, &repo, nodes).await?;
        shown.insert(repo, among);
    }
    Ok(shown)
}

pub async fn builds(
    State(app): State<Arc<App>>,
    sight: Sight,
    query: Query,
) -> Result<Json<Page<BuildInfo>>, Failure> {
    let part = part(query.page_below()?);
    let node: Option<Node> = query.any("node").map(str::parse).transpose().map_err(Failure::bad)?;
    let wanted = Wanted::of(&app, &sight, &query)?;
    if node.is_some() && wanted.one().is_none() {
        return Err(Failure::bad("node= is looked for in one repository: add repo="));
    }
    let of_live = wanted.clone();
    let live = app.scheduler.ask(move |engine, _| {
        let has = |row: &BuildRow| of_live.has(&row.repo) && node.is_none_or(|n| n == row.node);
        match (node, of_live.one()) {
            (Some(node), Some(repo)) => {
                let mut rows: Vec<&BuildRow> = engine.builds_of(repo, node).collect();
                rows.reverse();
                let rows = rows.into_iter().filter(|row| row.id.0 < part.below);
                slice(rows, part, |row| row.id.0, has)
            }
            _ => slice(engine.builds_below(BuildId(part.below)), part, |row| row.id.0, has),
        }
    });
    let live = live.await?;
    let store = app.store.clone();
    let over = blocking(&app, move || {
        let has = |over: &crate::scheduler::ArchivedBuild| wanted.has(&over.build.repo);
        let found = match node {
            Some(node) => Records::builds_of(&store, &node, part, has),
            None => Records::builds(&store, wanted.one(), part, has),
        };
        Ok(found.map_err(Failure::later)?.map(|over| over.build))
    });
    let (rows, next) = merge(live, over.await?, part.limit, |row| row.id.0);
    let nodes = rows.iter().map(|row| (row.repo.clone(), row.node));
    let shown = shown_of_each(&app, &sight, nodes).await?;
    let is_shown = |row: &&BuildRow| shown.get(&row.repo).is_some_and(|shown| shown.has(&row.node));
    let current = app.current();
    let rows = rows.iter().filter(is_shown);
    let items = rows.map(|row| build_info(row, &sight, current.url())).collect();
    Ok(Json(Page { items, next: next.map(|next| next.to_string()) }))
}

pub async fn build(
    State(app): State<Arc<App>>,
    sight: Sight,
    InPath(id): InPath<u64>,
) -> Result<Json<BuildDetail>, Failure> {
    let whole = reading::build(&app, &sight, id).await?;
    let current = app.current();
    let jobs = whole.jobs.iter().zip(&whole.waits);
    Ok(Json(BuildDetail {
        build: build_info(&whole.row, &sight, current.url()),
        jobs: jobs.map(|(job, waits)| job_status(job, waits.as_deref(), current.url())).collect(),
    }))
}

pub async fn jobs(
    State(app): State<Arc<App>>,
    sight: Sight,
    InPath(id): InPath<u64>,
    query: Query,
) -> Result<Json<Page<JobDetail>>, Failure> {
    let (after, limit) = (query.number("after")?.unwrap_or(0), query.limit()?);
    let Whole { jobs, waits, .. } = reading::build(&app, &sight, id).await?;
    let current = app.current();
    // The cursor of jobs counts them, since they have an order of their own.
    let mut rest = jobs.iter().zip(&waits).skip(after);
    let items: Vec<JobDetail> = rest
        .by_ref()
        .take(limit)
        .map(|(job, waits)| job_detail(job, waits.as_deref(), current.url()))
        .collect();
    let next = rest.next().map(|_| (after + items.len()).to_string());
    Ok(Json(Page { items, next }))
}

pub async fn job(
    State(app): State<Arc<App>>,
    sight: Sight,
    InPath((id, name)): InPath<(u64, String)>,
) -> Result<Json<JobDetail>, Failure> {
    let whole = reading::build(&app, &sight, id).await?;
    let (job, waits) = whole.job(&name)?;
    Ok(Json(job_detail(job, waits, app.current().url())))
}

fn push_info(row: &PushRow, sight: &Sight, url: Option<&str>) -> PushInfo {
    let push = &row.push;
    let first = row.first_build.map_or(0, |build| build.0);
    let stage = match row.stage {
        Stage::Planning => "planning",
        Stage::Building => "building",
        Stage::Mailing => "mailing",
        Stage::Done => "done",
    };
    let via = match push.via {
        Via::Hook => "hook",
        Via::Spool => "spool",
        Via::Reconcile => "reconcile",
        Via::Asked => "asked",
    };
    PushInfo {
        push: push.id.0,
        repo: push.repo.clone(),
        stage: stage.to_owned(),
        received: seconds(push.received),
        via: via.to_owned(),
        source: push.source.clone(),
        // Accounts of the server are nobody's business who only reads what is public.
        user: push.user.clone().filter(|_| *sight == Sight::All),
        first: push.first,
        last: push.last,
        changesets: push.changesets,
        heads: push.heads.clone(),
        phases: push.phases.clone(),
        bookmarks: push.bookmarks.clone(),
        markers: push.markers,
        builds: (first..first.saturating_add(u64::from(row.builds))).collect(),
        no_build: push.no_build.clone(),
        url: url.map(|url| push_page(url, push.id)),
    }
}

pub fn build_info(row: &BuildRow, sight: &Sight, url: Option<&str>) -> BuildInfo {
    BuildInfo {
        build: row.id.0,
        push: row.push.0,
        repo: row.repo.clone(),
        node: row.node,
        branch: row.branch.clone(),
        author: row.author.clone(),
        description: row.description.clone(),
        lane: match row.lane {
            Lane::Trusted => "trusted",
            Lane::Try => "try",
        }
        .to_owned(),
        by: row.by.clone().filter(|_| *sight == Sight::All),
        state: row.state,
        message: row.message.clone(),
        created: seconds(row.created_ms),
        ended: row.ended_ms.map(seconds),
        url: url.map(|url| build_page(url, row.id)),
    }
}

fn job_detail(job: &JobRow, waits: Option<&str>, url: Option<&str>) -> JobDetail {
    JobDetail {
        job: job_status(job, waits, url),
        queued: seconds(job.queued_ms),
        ended: job.ended_ms.map(seconds),
        attempts: job.attempts.iter().map(attempt_info).collect(),
    }
}

fn attempt_info(row: &AttemptRow) -> AttemptInfo {
    let verdict = row.verdict.as_deref();
    let state = match (row.state, verdict) {
        (AttemptState::Launching, _) => "launching",
        (AttemptState::Running, _) => "running",
        (AttemptState::Over, Some(verdict)) => ended_as(&verdict.outcome).name(),
        (AttemptState::Over, None) => JobState::Errored.name(),
    };
    let said = verdict.and_then(|verdict| match &verdict.outcome {
        hgci_core::result::Outcome::Errored { why } => Some(why.clone()),
        _ => None,
    });
    AttemptInfo {
        attempt: row.n,
        state: state.to_owned(),
        pool: row.pool.to_string(),
        host: row.host(),
        launched: seconds(row.launched_ms),
        claimed: row.claimed_ms.map(seconds),
        ended: row.ended_ms.map(seconds),
        why: row.why.clone().or(said),
        notes: verdict.map(|verdict| verdict.notes.clone()).unwrap_or_default(),
    }
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}
