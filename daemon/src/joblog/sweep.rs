//! Removing logs that are past `[limits] keep`, a thousand builds at a time.
//!
//! A bit for each build whose logs were removed stays behind, in `logs/THOUSAND/removed`: so it can
//! be told from a job that wrote nothing, whatever the clock and the configuration say later.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use hgci_core::BuildId;

use super::{GROUP, JobLogs, LogError};

/// Bytes of the file that has a bit for each build.
const BITS: usize = GROUP.div_ceil(8) as usize;

/// What was found among some builds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Logs that were removed.
    pub logs: u64,
    /// Their bytes.
    pub freed: u64,
    /// Bytes of logs that are kept.
    pub kept: u64,
    /// What could not be done, the first of it; it is tried again the next time.
    pub failure: Option<String>,
}

/// The logs of a build.
struct Found {
    build: BuildId,
    folder: PathBuf,
    logs: u64,
    bytes: u64,
    newest: SystemTime,
}

impl JobLogs {
    /// The groups of builds that have logs, the oldest first.
    pub fn groups(&self) -> Result<Vec<u64>, LogError> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|source| LogError {
                doing: "list",
                path: self.root.clone(),
                source,
            })?,
        };
        let mut groups: Vec<u64> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        groups.sort_unstable();
        Ok(groups)
    }

    /// The newest build that has logs.
    pub fn newest(&self) -> Option<BuildId> {
        let group = self.groups().ok()?.pop()?;
        let entries = fs::read_dir(self.root.join(group.to_string())).ok()?.flatten();
        let builds = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        builds.max().map(BuildId)
    }

    /// The builds of a group.
    pub fn builds_of(group: u64) -> std::ops::Range<u64> {
        let first = group.saturating_mul(GROUP);
        first..first.saturating_add(GROUP)
    }

    /// Removes the logs of builds of a group to which nothing was added since `before`, but for
    /// those of `spared` ones. Blocking.
    pub fn sweep(&self, group: u64, before: SystemTime, spared: &BTreeSet<BuildId>) -> Swept {
        let mut swept = Swept::default();
        let (old, young): (Vec<Found>, Vec<Found>) = self
            .find(group, &mut swept)
            .into_iter()
            .partition(|found| found.newest < before && !spared.contains(&found.build));
        swept.kept = young.iter().map(|found| found.bytes).sum();
        if old.is_empty() {
            return swept;
        }
        // First: what is gone must be known to be removed.
        if let Err(error) = self.note_removed(group, old.iter().map(|found| found.build)) {
            swept.fail(error.to_string());
            return swept;
        }
        for found in old {
            match fs::remove_dir_all(&found.folder) {
                Ok(()) => {
                    (swept.logs, swept.freed) = (swept.logs + found.logs, swept.freed + found.bytes)
                }
                Err(error) => {
                    swept.kept += found.bytes;
                    swept.fail(format!("cannot remove {}: {error}", found.folder.display()));
                }
            }
        }
        swept
    }

    /// Whether the logs of a build were removed.
    pub fn was_removed(&self, build: BuildId) -> bool {
        let bits = fs::read(self.bits(build.0 / GROUP)).unwrap_or_default();
        let (byte, bit) = place(build);
        bits.get(byte).is_some_and(|byte| byte & bit != 0)
    }

    fn find(&self, group: u64, swept: &mut Swept) -> Vec<Found> {
        let folder = self.root.join(group.to_string());
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                swept.fail(format!("cannot list {}: {error}", folder.display()));
                return Vec::new();
            }
        };
        let range = JobLogs::builds_of(group);
        let builds = entries.flatten().filter_map(|entry| {
            let build: u64 = entry.file_name().to_str()?.parse().ok()?;
            (range.contains(&build) && entry.file_type().ok()?.is_dir())
                .then(|| (BuildId(build), entry.path()))
        });
        let mut all = Vec::new();
        for (build, folder) in builds {
            match measure(build, folder.clone()) {
                Ok(found) => all.push(found),
                Err(error) => swept.fail(format!("cannot look at {}: {error}", folder.display())),
            }
        }
        all
    }

    fn note_removed(
        &self,
        group: u64,
        builds: impl Iterator<Item = BuildId>,
    ) -> Result<(), LogError> {
        let path = self.bits(group);
        let mut bits = fs::read(&path).unwrap_or_default();
        bits.resize(BITS, 0);
        for build in builds {
            let (byte, bit) = place(build);
            bits[byte] |= bit;
        }
        let fresh = path.with_extension("new");
        let written = fs::write(&fresh, bits).and_then(|()| fs::rename(&fresh, &path));
        written.map_err(|source| LogError { doing: "write", path, source })
    }

    fn bits(&self, group: u64) -> PathBuf {
        self.root.join(group.to_string()).join("removed")
    }
}

impl Swept {
    /// Adds what was found elsewhere.
    pub fn add(&mut self, other: Swept) {
        self.logs += other.logs;
        self.freed += other.freed;
        self.kept += other.kept;
        other.failure.into_iter().for_each(|why| self.fail(why));
    }

    fn fail(&mut self, why: String) {
        self.failure.get_or_insert(why);
    }
}

/// How many and how large the logs in a build's folder are, and when one was last added to.
fn measure(build: BuildId, folder: PathBuf) -> io::Result<Found> {
    let newest = fs::symlink_metadata(&folder)?.modified()?;
    let mut found = Found { build, folder, logs: 0, bytes: 0, newest: SystemTime::UNIX_EPOCH };
    for entry in fs::read_dir(&found.folder)? {
        let metadata = entry?.metadata()?;
        found.logs += 1;
        found.bytes += metadata.len();
        found.newest = found.newest.max(metadata.modified()?);
    }
    if found.logs == 0 {
        // Its first log may be about to be made.
        found.newest = newest;
    }
    Ok(found)
}

/// Which byte and which bit of it is a build's.
fn place(build: BuildId) -> (usize, u8) {
    let at = build.0 % GROUP;
    ((at / 8) as usize, 1 << (at % 8))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::Duration;

    use hgci_core::{AttemptKey, JobKey};

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn attempt(build: u64, index: u32) -> AttemptKey {
        AttemptKey { job: JobKey { build: BuildId(build), index }, n: 1 }
    }

    /// Logs of one byte for each day of age; each build has two.
    fn aged(now: SystemTime, ages: &[(u64, u32)]) -> (tempfile::TempDir, JobLogs) {
        let folder = tempfile::tempdir().unwrap();
        let logs = JobLogs::new(folder.path(), 1000);
        for (build, days) in ages {
            for index in 0..2 {
                let attempt = attempt(*build, index);
                logs.append(attempt, 0, &vec![b'x'; *days as usize]).unwrap();
                let file = File::options().append(true).open(logs.path(attempt)).unwrap();
                file.set_modified(now - DAY * *days).unwrap();
            }
        }
        (folder, logs)
    }

    fn has(logs: &JobLogs, build: u64) -> bool {
        logs.folder(BuildId(build)).exists()
    }

    #[test]
    fn logs_past_their_time_are_removed_and_known_to_be() {
        let now = SystemTime::now();
        let (_folder, logs) = aged(now, &[(1, 91), (2, 89), (1000, 100), (2007, 1)]);
        assert_eq!(logs.groups().unwrap(), [0, 1, 2]);
        let mut swept = Swept::default();
        for group in logs.groups().unwrap() {
            swept.add(logs.sweep(group, now - DAY * 90, &BTreeSet::new()));
        }
        assert_eq!(swept, Swept { logs: 4, freed: 2 * 191, kept: 2 * 90, failure: None });
        for (build, removed) in [(1, true), (2, false), (1000, true), (2007, false), (3, false)] {
            assert_eq!(logs.was_removed(BuildId(build)), removed, "{build}");
            assert!(!(removed && has(&logs, build)), "{build}");
        }
        assert!(has(&logs, 2) && has(&logs, 2007));
        // Once more finds nothing, and forgets nothing.
        let again = logs.sweep(0, now - DAY * 90, &BTreeSet::new());
        assert_eq!(again, Swept { kept: 2 * 89, ..Swept::default() });
        assert!(logs.was_removed(BuildId(1)));
        logs.sweep(0, now, &BTreeSet::new());
        assert!(logs.was_removed(BuildId(1)) && logs.was_removed(BuildId(2)));
    }

    #[test]
    fn what_is_in_flight_is_spared_however_old() {
        let now = SystemTime::now();
        let (_folder, logs) = aged(now, &[(1, 91), (2, 91)]);
        let swept = logs.sweep(0, now - DAY * 90, &[BuildId(2)].into());
        assert_eq!((swept.logs, swept.kept), (2, 2 * 91));
        assert!(!has(&logs, 1) && has(&logs, 2));
    }

    #[test]
    fn one_young_log_keeps_those_of_its_build() {
        let now = SystemTime::now();
        let (_folder, logs) = aged(now, &[(1, 91)]);
        logs.append(attempt(1, 0), 91, b"more").unwrap();
        assert_eq!(logs.sweep(0, now - DAY * 90, &BTreeSet::new()).logs, 0);
        assert_eq!(logs.len(attempt(1, 1)), 91);
    }

    #[test]
    fn what_else_lies_there_is_left_alone() {
        let now = SystemTime::now();
        let (_folder, logs) = aged(now, &[(1, 91)]);
        let odd = logs.root.join("0");
        fs::create_dir(odd.join("notes")).unwrap();
        fs::create_dir(odd.join("1234")).unwrap();
        let swept = logs.sweep(0, now + DAY, &BTreeSet::new());
        assert_eq!((swept.logs, swept.failure), (2, None));
        assert!(odd.join("notes").exists() && odd.join("1234").exists());
    }
}
