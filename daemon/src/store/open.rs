//! Opening: the probe, setting aside what is damaged, and saying what was lost.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use super::disk::{COUNTER, Counter, Disk, guarded};
use super::error::{IoContext, StoreError};
use super::mirror::{Count, Mirror, Numbers};
use super::probe::{self, Failure, Found};
use super::record::Stored;
use super::{MAX_VALUE, Options, Tree, record};

/// How long handles of an earlier opening may take to be given back.
const HANDLES: Duration = Duration::from_secs(10);

/// Where a database is made that is to take the place of the old one.
const REPLACEMENT: &str = "store.new";

/// How many records are copied into it in one batch.
const COPIED_AT_ONCE: usize = 1000;

/// What opening came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// There was no store, nor a sign that there had been one.
    New,
    /// The store that was there.
    Kept,
    /// The store that was there, without its snapshot.
    Mended,
    /// An empty store, since the old one could not be used.
    Fresh,
}

/// What happened at opening, and what is missing since.
#[derive(Clone, Debug)]
pub struct OpenReport {
    /// What opening came to.
    pub how: Opened,
    /// Why the store that was there could not be used as it was: one sentence for each try.
    pub failures: Vec<String>,
    /// Where the files that could not be used are now.
    pub set_aside: Option<PathBuf>,
    /// Batches in the store that is open now.
    pub batches: u64,
    /// Batches that were acknowledged as durable and are not there.
    pub lost_batches: u64,
    /// Records in flight that were damaged, and are removed: tree and key.
    pub damaged: Vec<(Tree, Vec<u8>)>,
    /// Records in flight are missing, or old ones came back, although the counter is right.
    pub inconsistent: bool,
    /// What is over was damaged and is gone; what is in flight is not affected.
    pub history_lost: bool,
    /// The highest numbers of pushes and builds that were ever given.
    pub numbers: Numbers,
    /// How long opening took.
    pub took: Duration,
}

impl OpenReport {
    /// Whether something that had been acknowledged may be gone.
    pub fn lost_something(&self) -> bool {
        self.how == Opened::Fresh
            || self.lost_batches > 0
            || self.inconsistent
            || self.history_lost
            || !self.damaged.is_empty()
    }

    /// What happened, for the log and for `hgcid status`: nothing where all is well.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.failures.iter().map(|why| format!("the store could not be used: {why}")).collect();
        if let Some(aside) = &self.set_aside {
            lines.push(format!("what could not be used was set aside in {}", aside.display()));
        }
        match self.how {
            Opened::New | Opened::Kept => {}
            Opened::Mended => lines.push("the store opened without its snapshot".to_owned()),
            Opened::Fresh => lines.push(
                "the store starts empty and is rebuilt from repositories, results logs and spools; \
                 mail that was not sent and the lists of what is over are gone"
                    .to_owned(),
            ),
        }
        if self.lost_batches > 0 {
            lines.push(format!("{} durable batches are lost", self.lost_batches));
        }
        for (tree, key) in self.damaged.iter().take(20) {
            lines.push(format!("a damaged record of {tree} was removed: {}", key.escape_ascii()));
        }
        if self.damaged.len() > 20 {
            lines.push(format!("{} damaged records were removed", self.damaged.len()));
        }
        if self.inconsistent {
            lines.push("records in flight are not those that were last written".to_owned());
        }
        if self.history_lost {
            lines.push(
                "the history was damaged and begins anew: the lists of what is over are gone, what \
                 is in flight and the results logs are not affected"
                    .to_owned(),
            );
        }
        lines
    }
}

/// All that is open.
pub(super) struct Parts {
    pub disk: Disk,
    pub mirror: Mirror,
    pub counter: Counter,
}

/// Opens the store of a state folder whose lock is held; with `anew`, without its history.
pub(super) fn open(
    state: &Path,
    options: &Options,
    anew: bool,
) -> Result<(Parts, OpenReport), StoreError> {
    let start = Instant::now();
    let dir = state.join("store");
    finish_replacing(state, &dir)?;
    let (mut mirror, count) = Mirror::open(&state.join("store.count"))?;
    let mut report = OpenReport {
        how: Opened::Kept,
        failures: Vec::new(),
        set_aside: None,
        batches: 0,
        lost_batches: 0,
        damaged: Vec::new(),
        inconsistent: false,
        history_lost: false,
        numbers: Numbers::default(),
        took: Duration::ZERO,
    };
    let found = find(state, &dir, count, options, &mut report)?;
    let mut disk = open_in_time(&dir, options)?;
    let mut counter = found.counter.unwrap_or_default();
    if !found.sound {
        let sum = remove_damaged(&disk, &mut report)?;
        report.inconsistent = found.counter.is_some() && report.damaged.is_empty();
        counter.sum = sum;
    }
    let expected = count.unwrap_or_default();
    report.lost_batches = expected.batches.saturating_sub(counter.batches);
    counter.batches = counter.batches.max(expected.batches);
    counter.numbers = counter.numbers.max(expected.numbers);
    report.batches = counter.batches;
    report.numbers = counter.numbers;
    if !found.sound || report.lost_batches > 0 || count.is_none() {
        // What was lost is said once: from here on the new state is the one to keep.
        let mut batch = sled::Batch::default();
        for (tree, key) in &report.damaged {
            batch.remove(record::stored_key(*tree, key));
        }
        batch.insert(COUNTER, counter.encode());
        disk.write(batch, None)?;
        mirror.write(Count { batches: counter.batches, numbers: counter.numbers }, true)?;
    }
    if anew || !found.history {
        disk = without_history(state, &dir, disk, options, &mut report)?;
        report.history_lost = true;
    }
    report.took = start.elapsed();
    Ok((Parts { disk, mirror, counter }, report))
}

/// Sees to it that what is at `dir` opens: the store that is there, or none.
fn find(
    state: &Path,
    dir: &Path,
    count: Option<Count>,
    options: &Options,
    report: &mut OpenReport,
) -> Result<Found, StoreError> {
    let nothing = Found { counter: None, sound: true, history: true };
    match std::fs::symlink_metadata(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            report.how = if count.is_some() { Opened::Fresh } else { Opened::New };
            if count.is_some() {
                report.failures.push(format!("{} is gone", dir.display()));
            }
            return Ok(nothing);
        }
        Err(error) => return Err(error).on("examine", dir),
        Ok(is) if !is.is_dir() => {
            report.failures.push(format!("{} is not a folder", dir.display()));
        }
        Ok(_) if !dir.join("db").exists() => {
            // Where no batch was ever acknowledged, somebody may have been killed at creation.
            if count.is_some_and(|count| count.batches > 0) {
                report.failures.push(format!("{} has no data file", dir.display()));
            }
        }
        Ok(_) => {
            match try_patiently(dir, options)? {
                Ok(found) => return Ok(found),
                Err(why) => report.failures.push(why),
            }
            let snapshots = snapshots(dir)?;
            if !snapshots.is_empty() {
                let aside = aside(state, options, report)?;
                for snapshot in snapshots {
                    move_into(&snapshot, &aside)?;
                }
                match try_patiently(dir, options)? {
                    Ok(found) => {
                        report.how = Opened::Mended;
                        return Ok(found);
                    }
                    Err(why) => report.failures.push(format!("without its snapshot: {why}")),
                }
            }
        }
    }
    report.how = if report.failures.is_empty() { Opened::New } else { Opened::Fresh };
    let aside = aside(state, options, report)?;
    move_into(dir, &aside)?;
    Ok(nothing)
}

/// Tries in a child, and again while handles of an earlier opening are still held.
fn try_patiently(dir: &Path, options: &Options) -> Result<Result<Found, String>, StoreError> {
    let start = Instant::now();
    loop {
        match probe::try_in_child(dir, options)? {
            Ok(found) => return Ok(Ok(found)),
            Err(Failure::Damaged(why)) => return Ok(Err(why)),
            Err(Failure::Held) if start.elapsed() < HANDLES => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(Failure::Held) => {
                let busy = std::io::Error::from(std::io::ErrorKind::ResourceBusy);
                return Err(busy).on("lock", &dir.join("db"));
            }
            Err(Failure::Elsewhere(why)) => {
                return Err(std::io::Error::other(why)).on("open the store in", dir);
            }
        }
    }
}

/// Opens here what a child has opened before. It should do the same; but a thread can be left
/// behind, and a daemon that hangs at start cannot.
fn open_in_time(dir: &Path, options: &Options) -> Result<Disk, StoreError> {
    let size = std::fs::metadata(dir.join("db")).map_or(0, |data| data.len());
    let deadline = HANDLES + options.deadline + Duration::from_secs(size / (20 << 20));
    let (opened, open) = mpsc::channel();
    let (path, cache) = (dir.to_owned(), options.cache);
    std::thread::spawn(move || {
        let patience = Instant::now() + HANDLES;
        let result = loop {
            match Disk::open(&path, cache) {
                Err(error) if probe::is_held(&error) && Instant::now() < patience => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                result => break result,
            }
        };
        let _ = opened.send(result);
    });
    open.recv_timeout(deadline).unwrap_or_else(|_| {
        Err(StoreError::Hanging { dir: dir.to_owned(), seconds: deadline.as_secs() })
    })
}

/// Lists the damaged records in flight, removes chunks that belong to none, and returns the sum
/// over what is left.
fn remove_damaged(disk: &Disk, report: &mut OpenReport) -> Result<u64, StoreError> {
    let mut heads: BTreeMap<Vec<u8>, (u64, usize)> = BTreeMap::new();
    let mut chunks: BTreeMap<Vec<u8>, Vec<(sled::IVec, u64)>> = BTreeMap::new();
    let (mut sum, mut strays) = (0u64, sled::Batch::default());
    guarded("read", || {
        for entry in disk.live.iter() {
            let (key, bytes) = entry?;
            if *key == *COUNTER {
                continue;
            }
            let weight = record::weight(&bytes);
            match (record::decode(&key, &bytes), record::head_of(&key)) {
                (Ok(Stored::Part { .. }), Some(head)) => {
                    chunks.entry(head.to_vec()).or_default().push((key, weight));
                }
                (Ok(Stored::Head { len, .. }), None) => {
                    let count = record::chunk_keys(&key, len.min(MAX_VALUE)).count();
                    heads.insert(key.to_vec(), (weight, count));
                }
                (Ok(Stored::Whole { .. }), None) => sum = sum.wrapping_add(weight),
                _ => match record::parse_key(&key) {
                    Some((tree, key)) => report.damaged.push((tree, key.to_vec())),
                    None => strays.remove(&key),
                },
            }
        }
        Ok(())
    })?;
    for (key, (weight, count)) in heads {
        let whole = chunks.get(&key).is_some_and(|chunks| chunks.len() == count);
        match record::parse_key(&key) {
            _ if whole => {
                let chunks = chunks.remove(&key).unwrap_or_default();
                let weights = chunks.iter().map(|(_, weight)| *weight);
                sum = weights.fold(sum.wrapping_add(weight), u64::wrapping_add);
            }
            Some((tree, key)) => report.damaged.push((tree, key.to_vec())),
            None => strays.remove(&key[..]),
        }
    }
    chunks.into_values().flatten().for_each(|(key, _)| strays.remove(key));
    disk.write(strays, None)?;
    Ok(sum)
}

/// Takes what is in flight into a new database and sets the old one aside, with the history.
fn without_history(
    state: &Path,
    dir: &Path,
    old: Disk,
    options: &Options,
    report: &mut OpenReport,
) -> Result<Disk, StoreError> {
    let path = state.join(REPLACEMENT);
    let new = Disk::open(&path, options.cache)?;
    let mut entries = old.live.iter();
    loop {
        let mut batch = sled::Batch::default();
        let copied = guarded("read", || {
            let mut copied = 0;
            for entry in entries.by_ref().take(COPIED_AT_ONCE) {
                let (key, bytes) = entry?;
                copied += 1;
                // Last of all: without it the rest counts for nothing.
                if *key != *COUNTER {
                    batch.insert(key, bytes);
                }
            }
            Ok(copied)
        })?;
        if copied == 0 {
            break;
        }
        new.write(batch, None)?;
    }
    let mut last = sled::Batch::default();
    if let Some(counter) = guarded("read", || old.live.get(COUNTER))? {
        last.insert(COUNTER, counter);
    }
    new.write(last, None)?;
    drop(entries);
    drop((old, new));
    let aside = aside(state, options, report)?;
    move_into(dir, &aside)?;
    finish_replacing(state, dir)?;
    open_in_time(dir, options)
}

/// Puts a new database in the place of the one that was set aside for it; one that is not whole is
/// removed, for then the old one is still there.
fn finish_replacing(state: &Path, dir: &Path) -> Result<(), StoreError> {
    let new = state.join(REPLACEMENT);
    if !new.exists() {
        return Ok(());
    }
    if dir.exists() {
        return std::fs::remove_dir_all(&new).on("remove", &new);
    }
    std::fs::rename(&new, dir).on("rename", &new)?;
    std::fs::File::open(state).and_then(|state| state.sync_all()).on("sync", state)
}

fn snapshots(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).on("list", dir)? {
        let entry = entry.on("list", dir)?;
        if entry.file_name().as_encoded_bytes().starts_with(b"snap.") {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// The folder for what cannot be used this time; makes it, and removes the oldest of its kind.
fn aside(state: &Path, options: &Options, report: &mut OpenReport) -> Result<PathBuf, StoreError> {
    if let Some(aside) = &report.set_aside {
        return Ok(aside.clone());
    }
    let mut old = Vec::new();
    for entry in std::fs::read_dir(state).on("list", state)? {
        let entry = entry.on("list", state)?;
        if entry.file_name().as_encoded_bytes().starts_with(b"store.aside-") {
            old.push(entry.path());
        }
    }
    old.sort();
    let surplus = (old.len() + 1).saturating_sub(options.keep_aside.max(1));
    for path in old.iter().take(surplus) {
        std::fs::remove_dir_all(path).on("remove", path)?;
    }
    let date = stamp(SystemTime::now());
    let path = (0..1000)
        .map(|n| state.join(format!("store.aside-{date}-{n:03}")))
        .find(|path| !path.exists())
        .unwrap_or_else(|| state.join("store.aside-last"));
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(&path).on("create folder", &path)?;
    report.set_aside = Some(path.clone());
    Ok(path)
}

fn move_into(path: &Path, folder: &Path) -> Result<(), StoreError> {
    let to = folder.join(path.file_name().unwrap_or_default());
    std::fs::rename(path, to).on("set aside", path)
}

/// `20261120T193000Z`, in UTC.
fn stamp(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant's days-to-civil, for dates after 1970.
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (h, m, s) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{day:02}T{h:02}{m:02}{s:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |seconds| stamp(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "19700101T000000Z");
        assert_eq!(at(951_826_199), "20000229T120959Z");
        assert_eq!(at(1_795_203_000), "20261120T193000Z");
    }
}
