//! From the variables of a hook to a [`Hint`].

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use hgci_api::PROTOCOL;
use hgci_api::hook::{Hint, MAX_HINT};

use crate::Repository;

/// The most bytes of each text; only a forged or broken one is longer.
const MAX_TEXT: usize = 4096;
/// The most variables of `hg push --pushvars` that are passed on.
const MAX_PUSHVARS: usize = 1000;

/// Makes a hint of what hg gave to a hook: names as in `hg help config.hooks` without `HG_`
/// (`TXNID`, `NODE_LAST`, `USERVAR_DEBUG`, …), values as they are. Others are passed over.
///
/// Everything is made to fit into [`MAX_HINT`]; what is not UTF-8 is replaced.
pub fn from_variables<K, V>(repo: &Repository, variables: impl Iterator<Item = (K, V)>) -> Hint
where
    K: AsRef<str>,
    V: AsRef<[u8]>,
{
    let mut hint =
        Hint { v: PROTOCOL, repo: repo.root().to_owned(), time_ms: now_ms(), ..Hint::default() };
    for (name, value) in variables {
        let value = value.as_ref();
        match name.as_ref() {
            "TXNID" => hint.txid = text(value),
            "TXNNAME" => hint.txnname = text(value),
            "SOURCE" => hint.source = text(value),
            "URL" => hint.url = text(value),
            "NODE" => hint.first = text(value).parse().ok(),
            "NODE_LAST" => hint.last = text(value).parse().ok(),
            "PHASES_MOVED" | "BOOKMARK_MOVED" | "NEW_OBSMARKERS" => hint.moved = true,
            name => {
                if let Some(variable) = name.strip_prefix("USERVAR_")
                    && hint.pushvars.len() < MAX_PUSHVARS
                {
                    hint.pushvars.insert(text(variable.as_bytes()), text(value));
                }
            }
        }
    }
    // A transaction of one changeset has no NODE_LAST in some hooks of some versions.
    hint.last = hint.last.or(hint.first);
    fit(&mut hint);
    hint
}

/// Milliseconds since 1970.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn text(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(end.unwrap_or(0));
    }
    text
}

/// Push variables go first: they are the only part that a pusher makes as large as he likes.
fn fit(hint: &mut Hint) {
    let size = |hint: &Hint| serde_json::to_vec(hint).map_or(0, |json| json.len());
    if size(hint) > MAX_HINT {
        hint.pushvars = BTreeMap::new();
    }
    // Four texts of 4 KiB, escaped at worst to six times that, would still be too much.
    for text in [&mut hint.url, &mut hint.txnname, &mut hint.source, &mut hint.txid] {
        if serde_json::to_string(&*text).map_or(0, |json| json.len()) > 2 * MAX_TEXT {
            text.clear();
        }
    }
}
