//! What runners call: claim, source, log, renew, verdict. The token of the attempt is the right.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use hgci_api::run::{Claim, Ended, Job, Lease, LogOffset, READ_BY_HG, Renew};
use hgci_core::AttemptKey;
use hgci_core::engine::{Event, Reply};
use tokio::sync::oneshot;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::body::{Json, Raw};
use super::{Failure, Query};
use crate::app::App;
use crate::scheduler::Records;
use crate::source;

/// The attempt that a call is about, with its token checked.
pub struct Authorized(AttemptKey);

impl FromRequestParts<Arc<App>> for Authorized {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        // Put there where the call was taken in, for whose token fits.
        if let Some(attempt) = parts.extensions.get::<AttemptKey>() {
            return Ok(Authorized(*attempt));
        }
        let Path(name) =
            Path::<String>::from_request_parts(parts, app).await.map_err(Failure::bad)?;
        let attempt: AttemptKey = name.parse().map_err(Failure::bad)?;
        let error = format!("this call needs the token of attempt {attempt}");
        Err(Failure::new(StatusCode::UNAUTHORIZED, error))
    }
}

pub async fn claim(
    State(app): State<Arc<App>>,
    Authorized(attempt): Authorized,
    Json(claim): Json<Claim>,
) -> Result<Json<Job>, Failure> {
    if claim.v != hgci_api::PROTOCOL {
        return Err(Failure::bad(format!(
            "the runner speaks protocol {}, this daemon {}; install both from one release",
            claim.v,
            hgci_api::PROTOCOL
        )));
    }
    let instance = claim.instance.clone();
    match app.scheduler.event(Event::Claimed { attempt, instance: claim.instance }).await? {
        Reply::Claimed(grant) => {
            app.pools.claimed(attempt, &instance);
            Ok(Json(app.job(&grant)))
        }
        _ => Err(Failure::let_go()),
    }
}

pub async fn source(
    State(app): State<Arc<App>>,
    Authorized(attempt): Authorized,
) -> Result<Response, Failure> {
    let work = app.scheduler.ask(move |engine, _| App::source_of(engine, attempt)).await?;
    let (repo, node) = work.ok_or_else(Failure::let_go)?;
    let served = app.intake.served(&repo).map_err(Failure::later)?;
    let not_to_be_had = |why| Failure::new(StatusCode::UNPROCESSABLE_ENTITY, why);
    if let Some(why) = app.unreadable.take(attempt) {
        return Err(not_to_be_had(why));
    }
    let (writer, mut chunks) = source::channel();
    let (say, why) = oneshot::channel();
    let reading = app.clone();
    tokio::task::spawn_blocking(move || {
        let _caller_left = say.send(source::why_hg(&served.repository));
        source::archive(&served.repository, node, writer, |error| {
            reading.unreadable.complain(attempt, &served.policy.repo, error);
            reading.unreadable.add(attempt, error.to_string());
        });
    });
    // What fails at once is an answer of its own; what fails later breaks the stream off, and is the
    // answer to the next call. A runner keeps its slot while it calls again, so that is only for what
    // may pass by itself.
    let first = match chunks.recv().await {
        Some(Ok(first)) => first,
        Some(Err(error)) => {
            if let Some(why) = app.unreadable.take(attempt) {
                return Err(not_to_be_had(why));
            }
            app.unreadable.complain(attempt, &repo, &error);
            return Err(Failure::later(error));
        }
        None => return Err(Failure::ours("the source tree is empty")),
    };
    let rest = ReceiverStream::new(chunks);
    let body = Body::from_stream(tokio_stream::once(Ok(first)).chain(rest));
    let why = why.await.ok().flatten().and_then(|why| HeaderValue::from_str(&why).ok());
    let by_hg = why.map(|why| [(HeaderName::from_static(READ_BY_HG), why)]);
    Ok(([(CONTENT_TYPE, "application/x-tar")], by_hg, body).into_response())
}

pub async fn log(
    State(app): State<Arc<App>>,
    Authorized(attempt): Authorized,
    query: Query,
    Raw(bytes): Raw,
) -> Result<Json<LogOffset>, Failure> {
    let offset = query.number("offset")?.unwrap_or(0);
    let logs = app.logs.clone();
    let appended = if bytes.len() < 16 * 1024 {
        // Into the page cache: less than handing it to another thread would cost.
        logs.append(attempt, offset, &bytes)
    } else {
        tokio::task::spawn_blocking(move || logs.append(attempt, offset, &bytes))
            .await
            .map_err(Failure::ours)?
    };
    match appended {
        Ok(offset) => Ok(Json(offset)),
        Err(error) if error.is_full() => {
            tracing::error!(%error, "no room for a log; its runner waits");
            Err(Failure::later(error))
        }
        Err(error) => Err(Failure::ours(error)),
    }
}

pub async fn renew(
    State(app): State<Arc<App>>,
    Authorized(attempt): Authorized,
    Json(Renew { instance }): Json<Renew>,
) -> Result<Json<Lease>, Failure> {
    match app.scheduler.renew(attempt, instance).await? {
        Reply::Lease { ms, cancel } => Ok(Json(Lease { ms, cancel })),
        _ => Err(Failure::let_go()),
    }
}

pub async fn verdict(
    State(app): State<Arc<App>>,
    Authorized(attempt): Authorized,
    Json(ended): Json<Ended>,
) -> Result<Json<serde_json::Value>, Failure> {
    let again = ended.clone();
    let event = Event::Ended { attempt, instance: ended.instance, verdict: ended.verdict };
    let reply = app.scheduler.event_published(attempt.job.build, event).await?;
    app.logs.finished(attempt);
    match reply {
        Reply::Accepted | Reply::Repeated => Ok(Json(serde_json::json!({}))),
        // The build is over and in the history: there the first verdict is kept.
        Reply::Unknown if known(&app, attempt, again).await? => Ok(Json(serde_json::json!({}))),
        _ => Err(Failure::let_go()),
    }
}

/// Whether this is the verdict that the history has of the attempt.
async fn known(app: &App, attempt: AttemptKey, ended: Ended) -> Result<bool, Failure> {
    let build = attempt.job.build;
    let archived = app.scheduler.ask(move |_, store| Records::build(store, build)).await?;
    let archived = archived.map_err(Failure::ours)?;
    let jobs = archived.map_or_else(Vec::new, |archived| archived.jobs);
    let job = jobs.get(attempt.job.index as usize);
    let reply = job.map(|job| job.reply_to(attempt.n, &ended.instance, &ended.verdict));
    Ok(reply == Some(Reply::Repeated))
}
