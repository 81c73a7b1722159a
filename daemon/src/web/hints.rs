//! `POST /api/v1/hints`: a hook says that something happened.

use std::sync::Arc;

use axum::extract::State;
use hgci_api::hook::{Hint, Hinted};
use hgci_core::PushId;

use super::body::Json;
use super::{Failure, Peer, Role};
use crate::accounts;
use crate::app::App;

pub async fn hint(
    State(app): State<Arc<App>>,
    peer: Peer,
    Json(hint): Json<Hint>,
) -> Result<Json<Hinted>, Failure> {
    let Peer::Local { uid, .. } = peer else {
        return Err(Failure::forbidden("hints are taken on the Unix socket alone"));
    };
    if !app.current().access.allows(&peer, Role::Hook) {
        return Err(Failure::forbidden("this account may not tell of pushes ([roles] hook)"));
    }
    let account = accounts::look_up(uid).await;
    let since = std::time::Instant::now();
    let taken = app.intake.hint(hint, account).await;
    match taken {
        Ok(_) => app.metrics.hints.took(since.elapsed()),
        Err(_) => app.metrics.hints_refused.one(),
    }
    let mut hinted = taken?;
    if let (Some(push), Some(url)) = (hinted.push, app.current().url()) {
        hinted.line += &format!(": {}", hgci_api::fold::push_page(url, PushId(push)));
    }
    Ok(Json(hinted))
}
