//! What the calls of the API share.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, PoisonError, RwLock};

use hgci_api::fold::{build_page, job_page};
use hgci_api::run::{Isolation, Job, Lease, Limits, Sandbox};
use hgci_core::engine::{Engine, Grant};
use hgci_core::{AttemptKey, Node};

use crate::complaints::Complaints;
use crate::config::{self, Config};
use crate::effects::StoreFailure;
use crate::hosts::Pools;
use crate::intake::Intake;
use crate::joblog::JobLogs;
use crate::losses::Losses;
use crate::metrics::Metrics;
use crate::publish::{Publish, Unwritten};
use crate::scheduler::Scheduler;
use crate::source::Unreadable;
use crate::store::Store;
use crate::sweep::SweepStatus;
use crate::token::Tokens;
use crate::web::Access;

/// Everything that a request may need.
pub struct App {
    /// The loop.
    pub scheduler: Scheduler,
    /// What came into the repositories.
    pub intake: Intake,
    /// Logs of attempts.
    pub logs: Arc<JobLogs>,
    /// Where attempts run.
    pub pools: Pools,
    /// The rights of runners.
    pub tokens: Tokens,
    /// Why the store fails, while it does.
    pub failure: StoreFailure,
    /// What was lost lately.
    pub losses: Arc<Losses>,
    /// The store, for reading.
    pub store: Arc<Store>,
    /// This daemon's name in results logs.
    pub daemon: String,
    /// How many messages are not sent.
    pub outbox: AtomicUsize,
    /// What the mailer goes by.
    pub mail: tokio::sync::watch::Sender<crate::mail::Settings>,
    /// The results logs.
    pub publisher: std::sync::mpsc::Sender<Publish>,
    /// What waits for one that cannot be written.
    pub unwritten: Unwritten,
    /// What the configuration says now.
    pub current: RwLock<Arc<Current>>,
    /// Asks the daemon to read its configuration again.
    pub reload: tokio::sync::mpsc::Sender<crate::reload::Asked>,
    /// When this daemon was started: milliseconds since 1970.
    pub started_ms: i64,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Who reads from disk for people.
    pub readers: tokio::sync::Semaphore,
    /// The last sweep.
    pub swept: tokio::sync::watch::Sender<Option<SweepStatus>>,
    /// Asks for a sweep: other things may be past their time now.
    pub sweep_now: tokio::sync::Notify,
    /// Asks for a look at the free space, which may now be enough or too little.
    pub look_at_disk: tokio::sync::Notify,
    /// Of results logs that people read.
    pub damage: Complaints,
    /// Source trees that cannot be read.
    pub unreadable: Unreadable,
    /// Set when the daemon stops: calls that wait for something are answered with what there is.
    pub stopping: tokio::sync::watch::Sender<bool>,
}

/// The configuration, and what follows from it.
pub struct Current {
    /// As it was read.
    pub config: Config,
    /// Who may do what on the socket.
    pub access: Access,
}

impl Current {
    /// The base of links, ending in `/`; `None` without `[web]`.
    pub fn url(&self) -> Option<&str> {
        self.config.web.as_ref().map(|web| web.url.as_str()).filter(|url| !url.is_empty())
    }
}

impl App {
    /// The configuration as it is now.
    pub fn current(&self) -> Arc<Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the configuration.
    pub fn replace(&self, current: Current) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(current);
    }

    /// Why the store fails, while it does.
    pub fn store_failure(&self) -> Option<String> {
        self.failure.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the runner of a granted attempt is to do.
    pub fn job(&self, grant: &Grant) -> Job {
        let current = self.current();
        let pool = current.config.pools.iter().find(|pool| *pool.name == *grant.pool);
        Job {
            spec: grant.spec().clone(),
            env: environment(grant, current.url()),
            node: grant.node,
            lane: grant.lane,
            // A pool that left the configuration meanwhile must not run unprotected.
            isolation: pool.map_or(Isolation::Sandbox(Sandbox::default()), isolation),
            limits: Limits { timeout_ms: grant.timeout_ms, log: current.config.limits.log },
            lease: Lease { ms: grant.lease_ms, cancel: grant.cancel },
        }
    }

    /// The repository and the changeset of an attempt that is not over.
    pub fn source_of(engine: &Engine, attempt: AttemptKey) -> Option<(String, Node)> {
        let job = engine.job_row(attempt.job)?;
        let current = job.attempts.last().filter(|last| last.n == attempt.n)?;
        if job.state.is_final() || current.instance.is_none() {
            return None;
        }
        let build = engine.build(attempt.job.build)?;
        Some((build.repo.clone(), build.node))
    }
}

fn isolation(pool: &config::Pool) -> Isolation {
    match &pool.isolation {
        config::Isolation::Sandbox { network, readonly } => Isolation::Sandbox(Sandbox {
            network: *network,
            readonly: readonly.iter().map(|path| path.to_string_lossy().into_owned()).collect(),
        }),
        config::Isolation::User(name) => Isolation::User(name.clone()),
        config::Isolation::None => Isolation::None,
    }
}

/// The variables that hgci sets, as the manual lists them.
fn environment(grant: &Grant, url: Option<&str>) -> BTreeMap<String, String> {
    let build = grant.attempt.job.build;
    let name = &grant.spec().name;
    let page = build_page(url.unwrap_or_default(), build);
    let url = job_page(&page, name).unwrap_or_default();
    [
        ("CI", "1".to_owned()),
        ("HGCI", "1".to_owned()),
        ("HGCI_NODE", grant.node.to_string()),
        ("HGCI_BRANCH", grant.branch.clone()),
        ("HGCI_PUSH", grant.push.to_string()),
        ("HGCI_BUILD", build.to_string()),
        ("HGCI_JOB", name.clone()),
        ("HGCI_ATTEMPT", grant.attempt.n.to_string()),
        ("HGCI_REPO", grant.repo.clone()),
        ("HGCI_URL", url),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}
