//! Hooks that speak late: their changesets were found before, and have a push that is nobody's.
//!
//! One such push may hold what several people pushed, so a hook speaks for its own changesets alone.

use std::collections::BTreeSet;

use hgci_core::engine::{Amendment, Change, Event};
use hgci_core::push::{Lane, Push, Via};
use hgci_core::{Node, PushId};
use hgci_repo::Reader;

use super::look;
use super::pusher::lane;
use crate::scheduler::{NotRecorded, Records, Turn};

/// Adds what a hook says to a push that was found before, where all of it is the hook's and no
/// other has spoken for it.
pub fn amend(turn: &mut Turn, id: PushId, hint: &Push) -> Result<(), NotRecorded> {
    let is_its = |push: &Push| {
        push.via == Via::Reconcile && (push.first, push.last) == (hint.first, hint.last)
    };
    if let Some(row) = turn.engine().push(id) {
        if is_its(&row.push) {
            turn.step(Event::Amended { push: id, amendment: amendment(hint) });
        }
        return Ok(());
    }
    let over = Records::push(turn.store(), id);
    let over = over.map_err(|error| NotRecorded(error.to_string()))?;
    if let Some(mut row) = over.filter(|row| is_its(&row.push)) {
        amendment(hint).apply(&mut row.push);
        Records::add(&mut turn.batch, vec![Change::ArchivePush(Box::new(row))])
            .map_err(|error| NotRecorded(error.to_string()))?;
    }
    Ok(())
}

/// All that a hook knows.
fn amendment(hint: &Push) -> Amendment {
    Amendment {
        via: Some(hint.via),
        txid: hint.txid.clone(),
        source: Some(hint.source.clone()),
        user: hint.user.clone(),
        url: hint.url.clone(),
        pushvars: hint.pushvars.clone(),
        trusted: Vec::new(),
    }
}

/// Those of `built`, changesets with builds in the try lane, that belong into the trusted one: the
/// hook has named them, they are public, and its pusher is trusted.
pub fn lifted(
    reader: &Reader,
    built: &BTreeSet<Node>,
    hint: &Push,
    trusted: Option<&[String]>,
) -> hgci_repo::Result<Vec<Node>> {
    let Some(span) = look::span(reader, hint.first, hint.last) else { return Ok(Vec::new()) };
    let mut lifted = Vec::new();
    for node in built {
        if reader.rev(node).is_some_and(|rev| span.contains(&rev.0))
            && lane(reader.phase(node)?, hint.user.as_deref(), trusted) == Lane::Trusted
        {
            lifted.push(*node);
        }
    }
    Ok(lifted)
}
