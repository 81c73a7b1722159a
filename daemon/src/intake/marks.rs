//! What was seen of each repository, in the store: the mark by name, and its pages of nodes.
//!
//! A mark grows with bookmarks and roots of phases. One that is long is cut into parts, of which
//! those are written that changed; its own record then says how many there are.

use serde::{Deserialize, Serialize};

use super::look::Seen;
use crate::store::{Batch, Store, StoreError, Tree};

/// How many bytes a part has, and a mark at most that is not cut.
const PART: usize = 256 << 10;

/// The record of a mark that is cut.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cut {
    /// How many parts there are.
    parts: u32,
}

/// What was seen of a repository; `None` at first, and where the record is unreadable.
pub fn load(store: &Store, repo: &str) -> Result<Option<Seen>, StoreError> {
    let Some(row) = store.get(Tree::Marks, repo.as_bytes())? else { return Ok(None) };
    let mut json = row.value;
    if let Ok(Cut { parts }) = serde_json::from_slice(&json) {
        json.clear();
        for number in 0..parts {
            let part = store.get(Tree::Marks, &part_key(repo, number))?;
            json.extend(part.map(|row| row.value).unwrap_or_default());
        }
    }
    let seen = serde_json::from_slice(&json);
    Ok(seen.inspect_err(|error| tracing::error!(repo, %error, "the mark is unreadable")).ok())
}

/// A page of nodes.
pub fn page(store: &Store, repo: &str, number: u32) -> Option<Vec<u8>> {
    let row = store.get(Tree::Marks, &page_key(repo, number));
    let row = row.inspect_err(|error| tracing::error!(repo, %error, "a page of the mark is lost"));
    Some(row.ok()??.value)
}

/// Changes what the store has to what is seen now.
pub fn save(
    store: &Store,
    repo: &str,
    seen: &Seen,
    pages: Vec<(u32, Vec<u8>)>,
) -> serde_json::Result<Batch> {
    let mut batch = Batch::new();
    let stored = |key: &[u8]| store.get(Tree::Marks, key).ok().flatten().map(|row| row.value);
    let before = stored(repo.as_bytes()).and_then(|json| serde_json::from_slice(&json).ok());
    let Cut { parts: before } = before.unwrap_or(Cut { parts: 0 });
    let json = serde_json::to_vec(seen)?;
    let mut parts = 0;
    if json.len() <= PART {
        batch.put(Tree::Marks, repo.as_bytes(), json);
    } else {
        for part in json.chunks(PART) {
            let key = part_key(repo, parts);
            if parts >= before || stored(&key).as_deref() != Some(part) {
                batch.put(Tree::Marks, key, part);
            }
            parts += 1;
        }
        batch.put(Tree::Marks, repo.as_bytes(), serde_json::to_vec(&Cut { parts })?);
    }
    (parts..before).for_each(|number| batch.delete(Tree::Marks, part_key(repo, number)));
    for (number, page) in pages {
        batch.put(Tree::Marks, page_key(repo, number), page);
    }
    Ok(batch)
}

/// A repository's name has no NUL.
fn page_key(repo: &str, number: u32) -> Vec<u8> {
    [repo.as_bytes(), b"\0", &number.to_be_bytes()].concat()
}

/// Longer than the key of any page.
fn part_key(repo: &str, number: u32) -> Vec<u8> {
    [repo.as_bytes(), b"\0part", &number.to_be_bytes()].concat()
}
