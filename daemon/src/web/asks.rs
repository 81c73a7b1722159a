//! `POST` of `run`, `retry` and `cancel`: people who may push ask for work, or for its end.

use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use axum::extract::State;
use hgci_api::ask::{Ask, Asked};
use hgci_api::fold::build_page;
use hgci_core::BuildId;

use super::body::Json;
use super::{Failure, Peer, Role};
use crate::accounts;
use crate::app::App;
use crate::intake::{Served, What};

pub async fn run(app: State<Arc<App>>, peer: Peer, ask: Json<Ask>) -> Result<Json<Asked>, Failure> {
    take(app, peer, ask, What::Run).await
}

pub async fn retry(
    app: State<Arc<App>>,
    peer: Peer,
    ask: Json<Ask>,
) -> Result<Json<Asked>, Failure> {
    take(app, peer, ask, What::Retry).await
}

pub async fn cancel(
    app: State<Arc<App>>,
    peer: Peer,
    ask: Json<Ask>,
) -> Result<Json<Asked>, Failure> {
    take(app, peer, ask, What::Cancel).await
}

async fn take(
    State(app): State<Arc<App>>,
    peer: Peer,
    Json(ask): Json<Ask>,
    what: What,
) -> Result<Json<Asked>, Failure> {
    let Peer::Local { uid, gids } = &peer else {
        return Err(Failure::forbidden("this is answered on the Unix socket alone"));
    };
    let access = &app.current().access;
    if !access.allows(&peer, Role::Hook) {
        return Err(Failure::forbidden("this account may not push ([roles] hook)"));
    }
    let rules = access.allows(&peer, Role::Admin);
    let (uid, groups) = (*uid, gids.clone());
    let account = accounts::look_up(uid).await;
    let may_push = move |served: &Served| rules || may_write(served, uid, &groups);
    let mut asked = app.intake.ask(what, ask, account, may_push).await?;
    if let Some(url) = app.current().url() {
        asked.url = build_page(url, BuildId(asked.build));
    }
    Ok(Json(asked))
}

/// Whether an account may write into the store of a repository, by the bits of its folder.
fn may_write(served: &Served, uid: u32, groups: &[u32]) -> bool {
    let Ok(store) = served.repository.store().metadata() else { return false };
    let bits = match () {
        () if uid == 0 => return true,
        () if store.uid() == uid => store.mode() >> 6,
        () if groups.contains(&store.gid()) => store.mode() >> 3,
        () => store.mode(),
    };
    bits & 0o3 == 0o3
}
