//! What a results log has lost, from the store's history: for a log that was deleted, cut off,
//! damaged, or replaced by an older one.

use hgci_core::BuildId;
use hgci_core::result::Entry;
use hgci_results::{Error, Place, Reader, Writer};

use crate::scheduler::{Part, Records};
use crate::store::Store;

/// How many builds are looked up at a time.
const BUILDS: usize = 500;

/// How many entries, about, are appended with one sync.
const ENTRIES: usize = 1000;

/// Whether the log is damaged as a whole, or does not have the newest end that the history knows of
/// the repository. Of a log that cannot be opened, and of a history that cannot be read, nothing can
/// be told.
pub fn has_lost(store: &Store, place: &Place, repo: &str) -> bool {
    let part = Part { below: u64::MAX, limit: 1, looks: 1 };
    let newest = Records::builds(store, Some(repo), part, |_| true);
    let Some(newest) = newest.ok().and_then(|slice| slice.rows.into_iter().next()) else {
        return false;
    };
    let is_it = |entry: &Entry| matches!(entry, Entry::Build(end) if end.build == newest.build.id);
    match Reader::open(place) {
        Ok(None) => true,
        Ok(Some(log)) if !log.damage().is_empty() => true,
        Ok(Some(log)) => log.find(&newest.build.node).is_ok_and(|found| {
            !found.records.iter().filter_map(|record| record.entry.as_ref()).any(is_it)
        }),
        // It is set aside when it is opened to be written.
        Err(Error::NotALog { .. }) => true,
        Err(_) => false,
    }
}

/// Appends what the history has and the log has not, the oldest first. Returns how many records
/// that were.
pub fn restore(store: &Store, writer: &mut Writer, repo: &str) -> Result<usize, Error> {
    let (mut written, mut entries) = (0, Vec::new());
    for build in builds(store, repo).into_iter().rev() {
        let Ok(Some(archived)) = Records::build(store, build) else { continue };
        let row = &archived.build;
        entries.extend(archived.jobs.iter().filter_map(|job| job.result(row)).map(Entry::Job));
        let count = u32::try_from(archived.jobs.len()).unwrap_or(u32::MAX);
        entries.extend(row.result(count).map(Entry::Build));
        if entries.len() >= ENTRIES {
            written += writer.append(&entries)?.written;
            entries.clear();
        }
    }
    Ok(written + writer.append(&entries)?.written)
}

/// The builds of a repository that are over, the newest first.
fn builds(store: &Store, repo: &str) -> Vec<BuildId> {
    let mut ids = Vec::new();
    let mut below = u64::MAX;
    loop {
        let part = Part { below, limit: BUILDS, looks: BUILDS };
        let Ok(found) = Records::builds(store, Some(repo), part, |_| true) else { return ids };
        ids.extend(found.rows.iter().map(|archived| archived.build.id));
        match found.stopped_at {
            Some(stopped) if stopped < below => below = stopped,
            _ => return ids,
        }
    }
}
