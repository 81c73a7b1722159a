//! The HTTP API of `hgci_api`, on the Unix socket and, where configured, on TCP.
//!
//! - `access`: who is calling, and what that one may do and see
//! - `routes`: the table of calls; `body`, `query`, `problem`: what comes in and what goes wrong
//! - `hints`: the calls of hooks; `run`: of runners; `admin`: of administrators; `asks`: of people
//!   who want something done
//! - `read`, `lists`, `log`, `pages`: of people, with what they share in `reading`
//! - `metrics`: numbers for Prometheus; `openapi`: the document that describes it all
//!
//! Nothing is decided here: calls become events or questions.

pub mod access;
mod admin;
mod asks;
mod body;
mod hints;
mod lists;
mod log;
mod metrics;
mod openapi;
mod pages;
mod problem;
mod query;
mod read;
mod reading;
mod routes;
mod run;

use std::sync::Arc;

use axum::Router;
use hgci_api::{ask, hook, list, read as reading_api, run as running};

pub use access::{Access, Peer, Role, Sight};
pub use admin::{
    DRAIN, DaemonStatus, Drain as DrainOrder, RELOAD, RetryStatus, STATUS, UnwrittenStatus,
};
pub use problem::Failure;
pub use query::Query;
pub use reading::READERS;

use crate::app::App;
use routes::Routes;

/// The routes, of the Unix socket and of TCP: each call looks at who is calling.
pub fn routes(app: Arc<App>) -> Router {
    table().into_router(app)
}

/// Every call that is served: its method in lower case, and its path as the document writes it.
pub fn calls() -> Vec<(&'static str, String)> {
    table().into_calls()
}

fn table() -> Routes {
    let attempt = |call: &str| format!("/api/v1/attempts/{{attempt}}/{call}");
    let (pushes, builds) = (list::PUSHES, list::BUILDS);
    let job = format!("{builds}/{{build}}/jobs/{{job}}");
    Routes::default()
        .post(hook::HINTS, hook::MAX_HINT, hints::hint)
        .post(ask::RUN, ask::MAX_ASK, asks::run)
        .post(ask::RETRY, ask::MAX_ASK, asks::retry)
        .post(ask::CANCEL, ask::MAX_ASK, asks::cancel)
        .post(attempt("claim"), running::MAX_BODY, run::claim)
        .get(attempt("source"), run::source)
        .post(attempt("log"), running::MAX_LOG_CHUNK, run::log)
        .post(attempt("renew"), running::MAX_BODY, run::renew)
        .post(attempt("verdict"), running::MAX_BODY, run::verdict)
        .get(reading_api::STATUS, read::status)
        .get(reading_api::LOG, log::by_node)
        .get(list::REPOS, lists::repos)
        .get(pushes, lists::pushes)
        .get(format!("{pushes}/{{push}}"), lists::push)
        .get(builds, lists::builds)
        .get(format!("{builds}/{{build}}"), lists::build)
        .get(format!("{builds}/{{build}}/jobs"), lists::jobs)
        .get(job.clone(), lists::job)
        .get(format!("{job}/log"), log::of_build)
        .get(admin::STATUS, admin::status)
        .post(admin::DRAIN, admin::MAX_BODY, admin::drain)
        .post(admin::RELOAD, admin::MAX_BODY, admin::reload)
        .get("/api/v1/openapi.json", openapi::document)
        .get("/healthz", admin::health)
        .get("/metrics", metrics::metrics)
        .get("/p/{push}", pages::push)
        .get("/b/{build}", pages::build)
        .get("/b/{build}/{job}", pages::job)
        .get("/b/{build}/{job}/log", log::whole)
}
