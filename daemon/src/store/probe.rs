//! Opening a store in a child process first: sled hangs, panics or allocates without end on some
//! damaged files, and a child can be killed.

use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal};

use super::disk::{Counter, Disk, guarded};
use super::mirror::Numbers;
use super::record;
use super::{Options, StoreError};

/// The most memory that a child may map: a damaged length is not worth more.
const MAX_MEMORY: u64 = 4 << 30;

/// The most of a child's words that are kept.
const MAX_WORDS: u64 = 4096;

/// Exit status of a child that failed for want of room or permission, not for damage.
const NOT_THE_STORE: u8 = 3;

/// Exit status of a child that found a handle of the store held.
const HELD: u8 = 4;

/// What a child found in a store that opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The counter record; `None` where it is missing or damaged.
    pub counter: Option<Counter>,
    /// Whether every record in flight is sound, and together they are what the counter says.
    pub sound: bool,
    /// Whether the history can be looked at.
    pub history: bool,
}

/// Why a store was not opened.
#[derive(Debug)]
pub(super) enum Failure {
    /// It is damaged, in the words of the child.
    Damaged(String),
    /// It may be well; something around it is not.
    Elsewhere(String),
    /// A handle of it is still held.
    Held,
}

/// Tries a store in a child process.
pub(super) fn try_in_child(
    dir: &Path,
    options: &Options,
) -> Result<Result<Found, Failure>, StoreError> {
    let size = std::fs::metadata(dir.join("db")).map_or(0, |data| data.len());
    let deadline = options.deadline + Duration::from_secs(size / (20 << 20));
    let no_probe = |source| StoreError::NoProbe { exe: options.probe.clone(), source };
    let mut child = Command::new(&options.probe)
        .arg("store-probe")
        .arg(dir)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // What a terminal sends to the daemon's group says nothing about the store.
        .process_group(0)
        .spawn()
        .map_err(no_probe)?;
    // Both pipes end when the child does. A reader that is left behind by a deadline ends when
    // the child is killed.
    let (said, ended) = mpsc::channel();
    let (out, err) = (child.stdout.take(), child.stderr.take());
    std::thread::spawn(move || {
        let err = std::thread::spawn(move || words(err));
        let _ = said.send((words(out), err.join().unwrap_or_default()));
    });
    let Ok((out, err)) = ended.recv_timeout(deadline) else {
        child.kill().map_err(no_probe)?;
        child.wait().map_err(no_probe)?;
        let seconds = deadline.as_secs_f64();
        return Ok(Err(Failure::Damaged(format!("it did not open within {seconds:.1} s"))));
    };
    let status = child.wait().map_err(no_probe)?;
    let why = last_line(&err).unwrap_or_else(|| status.to_string());
    // Somebody ended it, or the kernel for want of memory: sled itself ends by other signals.
    let others = [libc::SIGKILL, libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];
    if status.signal().is_some_and(|signal| others.contains(&signal)) {
        return Ok(Err(Failure::Elsewhere(format!(
            "the program that tries it was ended: {status}"
        ))));
    }
    Ok(match status.code() {
        Some(0) => parse(&out).ok_or(Failure::Damaged(format!("the probe said {out:?}"))),
        Some(code) if code == i32::from(HELD) => Err(Failure::Held),
        Some(code) if code == i32::from(NOT_THE_STORE) => Err(Failure::Elsewhere(why)),
        _ => Err(Failure::Damaged(why)),
    })
}

/// The child: opens the store in a folder and looks at each record in flight. Prints one line.
///
/// This is what the hidden command `hgcid store-probe DIR` runs.
pub fn run(dir: &Path) -> ! {
    // Nobody else would end a child that hangs once its parent is gone.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let limit = Rlimit { current: Some(MAX_MEMORY), maximum: Some(MAX_MEMORY) };
    let _ = rustix::process::setrlimit(Resource::As, limit);
    match look(dir) {
        Ok((found, records)) => {
            let counter = found.counter.unwrap_or_default();
            let said = writeln!(
                std::io::stdout(),
                "{} {} {} {} {} {} {records} {}",
                u8::from(found.counter.is_some()),
                u8::from(found.sound),
                counter.batches,
                counter.sum,
                counter.numbers.push,
                counter.numbers.build,
                u8::from(found.history),
            );
            // What follows in a destructor cannot matter any more, and could hang.
            std::process::exit(if said.is_ok() { 0 } else { 1 });
        }
        Err(error) => {
            eprintln!("{}", error.to_string().replace('\n', " "));
            let status = match () {
                () if is_held(&error) => HELD,
                () if error.is_elsewhere() => NOT_THE_STORE,
                () => 1,
            };
            std::process::exit(status.into());
        }
    }
}

/// Looks at every record in flight: what is there, and how many records.
fn look(dir: &Path) -> Result<(Found, u64), StoreError> {
    let disk = Disk::open(dir, Options::CACHE)?;
    let counter = disk.counter()?;
    let (mut sound, mut sum, mut records) = (counter.is_some(), 0u64, 0u64);
    // One look at the history, so that a damaged root of it is found now. What is in flight does
    // not depend on it.
    let history = match guarded("read", || disk.history.iter().next().transpose()) {
        Err(error) if error.is_elsewhere() => return Err(error),
        looked => looked.is_ok(),
    };
    guarded("read", || {
        for entry in disk.live.iter() {
            let (key, bytes) = entry?;
            if *key != *super::disk::COUNTER {
                sum = sum.wrapping_add(record::weight(&bytes));
                sound &= record::decode(&key, &bytes).is_ok();
                records += 1;
            }
        }
        Ok(())
    })?;
    // A store without a batch has no counter.
    sound |= counter.is_none() && records == 0;
    sound &= counter.is_none_or(|counter| counter.sum == sum);
    Ok((Found { counter, sound, history }, records))
}

/// Whether another handle of the store holds sled's own lock. sled gives an error no kind for it.
pub(super) fn is_held(error: &StoreError) -> bool {
    matches!(error, StoreError::Sled { source: sled::Error::Io(source), .. }
        if source.to_string().contains("could not acquire lock"))
}

fn words(pipe: Option<impl Read>) -> String {
    let mut words = Vec::new();
    if let Some(mut pipe) = pipe {
        let _ = pipe.by_ref().take(MAX_WORDS).read_to_end(&mut words);
        // The rest is read too, or the child would wait for ever to be heard.
        let _ = std::io::copy(&mut pipe, &mut std::io::sink());
    }
    String::from_utf8_lossy(&words).into_owned()
}

fn last_line(text: &str) -> Option<String> {
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.trim().chars().filter(|c| !c.is_control()).take(300).collect())
}

fn parse(line: &str) -> Option<Found> {
    let fields: Option<Vec<u64>> = line.split_whitespace().map(|f| f.parse().ok()).collect();
    let [has_counter, sound, batches, sum, push, build, _, history] = fields?[..] else {
        return None;
    };
    let counter = Counter { batches, sum, numbers: Numbers { push, build } };
    let counter = (has_counter == 1).then_some(counter);
    Some(Found { counter, sound: sound == 1, history: history == 1 })
}
