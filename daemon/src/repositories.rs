//! From the configuration to the repositories that are served.

use std::collections::{BTreeMap, BTreeSet};

use hgci_core::engine::Event;
use hgci_core::result::Origin;

use crate::app::App;
use crate::config::{self, Names};
use crate::intake::{self, Policy};
use crate::publish::Publish;

/// Serves the repositories of the configuration, ends what is in flight of others, and tells what
/// cannot be served. Returns whether that is nothing: else it is to be tried again.
pub async fn apply(app: &App) -> bool {
    let current = app.current();
    let (served, findings) = config::serve(&current.config);
    for unserved in findings {
        tracing::error!(path = %unserved.path.display(), why = unserved.why, "not served");
    }
    let names = Names::of(&current.config, &served);
    let mut complete = !names.is_incomplete();
    let url = current.url().unwrap_or_default().to_owned();
    let mut logs = BTreeMap::new();
    let mut repos = Vec::new();
    for config::Served { name, path, repo, .. } in served {
        let repository = match hgci_repo::Repository::open(&path) {
            Ok(repository) => repository,
            Err(error) => {
                tracing::error!(repo = name, %error, "this repository is not served");
                complete = false;
                continue;
            }
        };
        let origin = Origin { daemon: app.daemon.clone(), repo: name.clone(), url: url.clone() };
        logs.insert(name.clone(), (repository.source().join(".hg"), origin));
        let policy = Policy { repo: name, build: repo.build, trusted: repo.trusted };
        repos.push(intake::Served {
            repository,
            policy,
            frontends: repo.frontends,
            public: repo.public,
        });
    }
    let _stopping = app.publisher.send(Publish::Serve { logs, names: names.clone() });
    complete &= end_of_others(app, names.clone()).await;
    for (repo, why) in app.intake.serve(repos, names).await {
        tracing::error!(repo, %why, "this repository cannot be looked at; tried again now and then");
    }
    complete
}

/// Ends what is in flight of repositories that the configuration does not speak for. Returns
/// whether that is durable.
async fn end_of_others(app: &App, names: Names) -> bool {
    let ended = app.scheduler.act(move |turn| {
        let pushes = turn.engine().pushes().map(|row| &row.push.repo);
        let repos: BTreeSet<String> =
            pushes.chain(turn.engine().builds().map(|row| &row.repo)).cloned().collect();
        let (kept, others): (BTreeSet<String>, BTreeSet<String>) =
            repos.into_iter().partition(|repo| names.has(repo));
        if !others.is_empty() {
            turn.step(Event::Repositories(kept));
        }
        others
    });
    match ended.await {
        Ok(others) => {
            for repo in others {
                tracing::warn!(
                    repo,
                    "this repository is no longer in the configuration: what was in flight of it \
                     is cancelled"
                );
            }
            true
        }
        Err(error) => {
            tracing::error!(%error, "cannot end what is in flight of other repositories");
            false
        }
    }
}
