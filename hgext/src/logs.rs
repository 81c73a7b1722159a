//! The results logs of a repository, in the order in which they are believed.

use hgci_hooks::Repository;
use hgci_results::Place;
use hgci_results::exchange::received_from;

/// Its own, what it received from `default`, what it received from elsewhere.
pub fn of(repo: &Repository, default: Option<&str>) -> Vec<Place> {
    let mut received = Place::all_received(repo.hg());
    // False sorts first; the order of the others stays.
    received.sort_by_key(|place| match (default, received_from(place)) {
        (Some(default), Some((source, _))) => source != default,
        _ => true,
    });
    let mut logs = vec![Place::new(repo.hg())];
    logs.extend(received);
    logs
}

/// The name of the file with the summary of a log, in Mercurial's folder of caches.
pub fn cache_name(place: &Place) -> String {
    let folder = place.folder();
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    format!("hgci-{name}.states")
}
