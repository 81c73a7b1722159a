//! Which repositories the entries of a configuration stand for.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;

use super::words::check_name;
use super::{Config, Repo};

/// The most repositories that one `*` stands for.
const MAX_MATCHES: usize = 10_000;

/// A repository that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Its name, unique among all.
    pub name: String,
    /// Its root folder as configured; symlinks are not resolved.
    pub path: PathBuf,
    /// The entry it comes from, by its place in [`Config::repos`].
    pub entry: usize,
    /// The entry it comes from.
    pub repo: Repo,
}

/// Something that looks like a repository and cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unserved {
    /// The folder.
    pub path: PathBuf,
    /// The entry it comes from, by its place in [`Config::repos`].
    pub entry: usize,
    /// Why it cannot.
    pub why: String,
}

/// Which names a configuration speaks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    known: BTreeSet<String>,
    /// Patterns that stand for nothing now: a file system that is not mounted looks like that, so
    /// whatever fits may come back.
    empty: Vec<String>,
}

impl Names {
    /// The names of what is served, and of what may be again.
    pub fn of(config: &Config, served: &[Served]) -> Names {
        let known = served.iter().map(|served| served.name.clone()).collect();
        let stands_for_nothing =
            |entry: &usize| !served.iter().any(|served| served.entry == *entry);
        let many = config.repos.iter().enumerate().filter(|(entry, _)| stands_for_nothing(entry));
        Names { known, empty: many.filter_map(|(_, repo)| pattern(repo)).collect() }
    }

    /// Whether the configuration speaks for a repository of this name.
    pub fn has(&self, name: &str) -> bool {
        let fits = |pattern: &String| fits(pattern.as_bytes(), name.as_bytes());
        self.known.contains(name) || self.empty.iter().any(fits)
    }

    /// Whether a pattern stands for nothing now.
    pub fn is_incomplete(&self) -> bool {
        !self.empty.is_empty()
    }
}

/// The repositories of a configuration as they are now: entries with a plain path, whether it
/// exists or not, and every repository that an entry with `*` stands for. An earlier entry wins.
pub fn serve(config: &Config) -> (Vec<Served>, Vec<Unserved>) {
    let (mut served, mut unserved) = (Vec::new(), Vec::new());
    let (mut names, mut paths) = (HashSet::new(), HashSet::new());
    // Plain entries first: one of them may name settings for a folder that a * covers too.
    let (plain, many): (Vec<_>, Vec<_>) =
        config.repos.iter().enumerate().partition(|(_, repo)| pattern(repo).is_none());
    for (entry, repo) in plain {
        let folder = repo.path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = repo.name.clone().or(folder).unwrap_or_default();
        if !names.insert(name.clone()) {
            let why = format!("another repository has the name {name}");
            unserved.push(Unserved { path: repo.path.clone(), entry, why });
            continue;
        }
        paths.insert(repo.path.clone());
        served.push(Served { name, path: repo.path.clone(), entry, repo: repo.clone() });
    }
    for (entry, repo) in many {
        for path in matches(repo, entry, &mut unserved) {
            if paths.contains(&path) {
                continue;
            }
            let refuse = |why: String| Unserved { path: path.clone(), entry, why };
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                unserved.push(refuse("its path is not UTF-8".to_owned()));
                continue;
            };
            if let Err(why) = check_name(name) {
                unserved.push(refuse(format!("its folder cannot be a name: {why}")));
            } else if !names.insert(name.to_owned()) {
                unserved.push(refuse(format!("another repository has the name {name}")));
            } else {
                paths.insert(path.clone());
                served.push(Served { name: name.into(), path, entry, repo: repo.clone() });
            }
        }
    }
    (served, unserved)
}

/// The last part of a path, where it has `*`.
fn pattern(repo: &Repo) -> Option<String> {
    let last = repo.path.file_name()?.to_string_lossy().into_owned();
    last.contains('*').then_some(last)
}

/// The folders with a `.hg` that a path with `*` stands for, sorted. Hidden ones are not meant.
fn matches(repo: &Repo, entry: usize, unserved: &mut Vec<Unserved>) -> Vec<PathBuf> {
    let (Some(pattern), Some(folder)) = (pattern(repo), repo.path.parent()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    match std::fs::read_dir(folder) {
        Ok(entries) => {
            for name in entries.filter_map(|entry| Some(entry.ok()?.file_name())) {
                let bytes = name.as_encoded_bytes();
                let path = folder.join(&name);
                if !bytes.starts_with(b".")
                    && fits(pattern.as_bytes(), bytes)
                    && path.join(".hg").is_dir()
                {
                    found.push(path);
                }
            }
        }
        Err(error) => unserved.push(Unserved {
            path: folder.to_owned(),
            entry,
            why: format!("list {}: {error}", folder.display()),
        }),
    }
    found.sort();
    if found.len() > MAX_MATCHES {
        let why = format!("more than {MAX_MATCHES} repositories; the rest is not served");
        unserved.push(Unserved { path: repo.path.clone(), entry, why });
        found.truncate(MAX_MATCHES);
    }
    found
}

/// Whether a name fits a pattern in which `*` stands for any bytes. Linear but for the last `*`.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(byte) if *byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_without_repositories_may_have_them_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["srv/widgets/.hg", "away", "lib/readme"] {
            std::fs::create_dir_all(path(name)).unwrap();
        }
        let mut text = "state = \"/s\"\nsocket = \"/r\"\n".to_owned();
        for (name, at) in [("name = \"one\"", "not-there"), ("", "srv/*"), ("", "away/lib-*")] {
            text += &format!("[[repo]]\n{name}\npath = \"{}\"\n", path(at).display());
        }
        let config = crate::config::parse("hgcid.toml", text.as_bytes()).unwrap();
        let names = Names::of(&config, &serve(&config).0);
        let has = ["one", "widgets", "lib-a", "gadgets", "lib"].map(|name| names.has(name));
        assert_eq!(has, [true, true, true, false, false]);
        assert!(names.is_incomplete());
    }

    #[test]
    fn a_star_stands_for_any_bytes() {
        for (pattern, name, expected) in [
            ("*", "widgets", true),
            ("lib-*", "lib-a", true),
            ("lib-*", "lib", false),
            ("*-lib-*", "a-lib-lib-b", true),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXbX", false),
            ("widgets", "widgets", true),
            ("**", "", true),
        ] {
            assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}
