//! What a sandbox shows to jobs must not be what it is there to hide.

use std::path::{Path, PathBuf};

use hgci_core::document::Mistake;

use super::{Config, Isolation, serve};

/// What every sandbox shows whole, as the runner's `sandbox` has it.
const SYSTEM: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// A place that no job may see.
struct Hidden {
    what: String,
    /// Where it is configured.
    key: String,
    path: PathBuf,
}

/// The mistakes by which a sandboxed job would see state, socket, a repository or a secret.
pub fn shown(config: &Config) -> Vec<Mistake> {
    let sandboxes: Vec<(usize, &[PathBuf])> = config
        .pools
        .iter()
        .enumerate()
        .filter_map(|(n, pool)| match &pool.isolation {
            Isolation::Sandbox { readonly, .. } => Some((n, readonly.as_slice())),
            Isolation::User(_) | Isolation::None => None,
        })
        .collect();
    if sandboxes.is_empty() {
        return Vec::new();
    }
    let mut mistakes = Vec::new();
    for Hidden { what, key, path } in hidden(config) {
        if let Some(system) = SYSTEM.iter().find(|system| overlap(&real(Path::new(system)), &path))
        {
            let message = format!("every sandboxed job would see {what}: it is below {system}");
            mistakes.push(config.places.mistake(&key, message, Some("put it elsewhere")));
        }
        for (n, readonly) in &sandboxes {
            for folder in readonly.iter().filter(|folder| overlap(&real(folder), &path)) {
                let message = format!("{} shows {what} to jobs", folder.display());
                let key = format!("pool.{n}.readonly");
                let hint = "name folders that have nothing of hgcid's in them";
                mistakes.push(config.places.mistake(&key, message, Some(hint)));
            }
        }
    }
    mistakes
}

fn hidden(config: &Config) -> Vec<Hidden> {
    let hide = |what: &str, key: &str, path: &Path| Hidden {
        what: what.to_owned(),
        key: key.to_owned(),
        path: real(path),
    };
    let mut hidden = vec![
        hide("the state folder", "state", &config.state),
        hide("the socket", "socket", &config.socket),
    ];
    for repo in serve(config).0 {
        let (what, key) =
            (format!("repository {}", repo.name), format!("repo.{}.path", repo.entry));
        hidden.push(hide(&what, &key, &repo.path));
        if let Some(source) = source_of(&repo.path) {
            hidden.push(hide(&what, &key, &source));
        }
    }
    for (name, secret) in &config.secrets {
        let key = format!("secret.{name}.file");
        hidden.push(hide(&format!("the secret {name}"), &key, &secret.file));
    }
    if let Some(smtp) = config.mail.as_ref().map(|mail| &mail.smtp) {
        if let Some(file) = &smtp.password_file {
            hidden.push(hide("the password for mail", "mail.password-file", file));
        }
        if smtp.password.is_some() {
            let file = Path::new(&config.places.file);
            hidden.push(hide("the password in this file", "mail.smtp", file));
        }
    }
    hidden
}

/// The root of the repository that this one is a share of.
pub fn source_of(repository: &Path) -> Option<PathBuf> {
    let shared = std::fs::read_to_string(repository.join(".hg/sharedpath")).ok()?;
    // Relative to `.hg`, where it is.
    Some(repository.join(".hg").join(shared.trim_end()).parent()?.to_owned())
}

/// Whether one is, or lies within, the other.
fn overlap(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// The path without symlinks, as far as it is there.
fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = path.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    match there.and_then(|(above, real)| Some((path.strip_prefix(above).ok()?, real))) {
        // Joining nothing would add a slash.
        Some((rest, real)) if rest.as_os_str().is_empty() => real,
        Some((rest, real)) => real.join(rest),
        None => path,
    }
}
