//! What was seen of each repository, in the store: the mark by name, and its pages of nodes.

use super::look::Seen;
use crate::store::{Batch, Store, StoreError, Tree};

/// What was seen of a repository; `None` at first, and where the record is unreadable.
pub fn load(store: &Store, repo: &str) -> Result<Option<Seen>, StoreError> {
    let Some(row) = store.get(Tree::Marks, repo.as_bytes())? else { return Ok(None) };
    let seen = serde_json::from_slice(&row.value);
    Ok(seen.inspect_err(|error| tracing::error!(repo, %error, "the mark is unreadable")).ok())
}

/// A page of nodes.
pub fn page(store: &Store, repo: &str, number: u32) -> Option<Vec<u8>> {
    let row = store.get(Tree::Marks, &page_key(repo, number));
    let row = row.inspect_err(|error| tracing::error!(repo, %error, "a page of the mark is lost"));
    Some(row.ok()??.value)
}

/// Adds what is seen now to a batch.
pub fn save(
    batch: &mut Batch,
    repo: &str,
    seen: &Seen,
    pages: Vec<(u32, Vec<u8>)>,
) -> serde_json::Result<()> {
    batch.put(Tree::Marks, repo.as_bytes(), serde_json::to_vec(seen)?);
    for (number, page) in pages {
        batch.put(Tree::Marks, page_key(repo, number), page);
    }
    Ok(())
}

/// A repository's name has no NUL.
fn page_key(repo: &str, number: u32) -> Vec<u8> {
    [repo.as_bytes(), b"\0", &number.to_be_bytes()].concat()
}
