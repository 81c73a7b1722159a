//! The results logs of a repository, in the order in which they are believed.

use hgci_hooks::Repository;
use hgci_results::Place;

/// Its own, what it received from `default`, what it received from elsewhere.
pub fn of(repo: &Repository, default: Option<&str>) -> Vec<Place> {
    let default = default.map(|source| Place::received(repo.hg(), source));
    let elsewhere = Place::all_received(repo.hg());
    let elsewhere = elsewhere.into_iter().filter(|place| Some(place) != default.as_ref());
    let mut logs = vec![Place::new(repo.hg())];
    // Of very many sources some are left out, but not this one.
    logs.extend(default.clone().filter(|place| place.folder().is_dir()));
    logs.extend(elsewhere);
    logs
}

/// The name of the file with the summary of a log, in Mercurial's folder of caches.
pub fn cache_name(place: &Place) -> String {
    let folder = place.folder();
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    format!("hgci-{name}.states")
}
