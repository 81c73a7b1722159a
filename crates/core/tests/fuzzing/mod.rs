//! A harness that throws mutated input at a parser; see `../fuzz.rs` for how to use it.
//!
//! It needs nothing but stable Rust, so it runs with every `cargo test`. What a coverage-guided
//! fuzzer learns from instrumentation it learns from what the parser says: an input whose outcome
//! was not seen before is kept and mutated further.

#![allow(dead_code, reason = "each crate that includes this file uses a part of it")]

mod memory;
mod mutate;

use std::collections::HashSet;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use memory::{Counting, peak};
use mutate::Mutator;

/// How many inputs a run without `HGCI_FUZZ_SECONDS` tries.
const BRIEF: u64 = 5000;

/// How long one input may keep the parser before the process is stopped. Far above what is slow:
/// it is there so that an endless loop leaves its input behind.
const HANGS: Duration = Duration::from_secs(120);

/// The most inputs that are kept for what they led to.
const MAX_KEPT: usize = 4000;

/// A parser to be tried.
pub struct Target<'a> {
    /// Its name, for messages and for its folder of inputs.
    pub name: &'a str,
    /// Inputs as they should be, and as they once went wrong. At least one.
    pub seeds: &'a [&'a [u8]],
    /// What means something in its language: keywords, magic bytes, separators.
    pub words: &'a [&'a [u8]],
    /// The longest input, in bytes.
    pub max_len: usize,
    /// The most bytes that it may have allocated at a time; only looked at where [`Counting`] is
    /// the global allocator.
    pub max_memory: usize,
}

impl Target<'_> {
    /// Calls `check` with inputs until the time is over.
    ///
    /// `check` panics when a property does not hold; else it says in a few words what came of the
    /// input, such as an error message without the parts that differ from input to input.
    pub fn fuzz<K: Hash>(&self, check: impl Fn(&[u8]) -> K) {
        self.fuzz_briefly(BRIEF, check);
    }

    /// Like [`Target::fuzz`] for a check that takes long: `brief` inputs where no time is given.
    pub fn fuzz_briefly<K: Hash>(&self, brief: u64, check: impl Fn(&[u8]) -> K) {
        let seconds = number("HGCI_FUZZ_SECONDS").filter(|seconds| *seconds > 0);
        let seed = number("HGCI_FUZZ_SEED").unwrap_or_else(|| match seconds {
            Some(_) => {
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_nanos() as u64)
            }
            None => 1,
        });
        let started = Instant::now();
        let folder = self.folder();
        let watch = Watch::start(folder.clone());
        let mut seen = HashSet::new();
        let mut kept: Vec<Vec<u8>> = Vec::new();
        let mut mutator = Mutator::new(seed, self.words, self.max_len);
        let mut tried = 0;
        let running = seconds.and_then(|_| {
            fs::create_dir_all(&folder).ok()?;
            File::create(folder.join("running")).ok()
        });
        let mut once = |input: Vec<u8>, kept: &mut Vec<Vec<u8>>| {
            if let Some(file) = &running {
                // A stack that overflows takes the process with it, and leaves this.
                let _ =
                    file.write_all_at(&input, 0).and_then(|()| file.set_len(input.len() as u64));
            }
            watch.begin(&input);
            let outcome = catch_unwind(AssertUnwindSafe(|| peak(|| check(&input))));
            watch.end();
            tried += 1;
            match outcome {
                Ok((kind, memory)) if memory <= self.max_memory => {
                    let mut hasher = DefaultHasher::new();
                    kind.hash(&mut hasher);
                    if seen.insert(hasher.finish()) && kept.len() < MAX_KEPT {
                        kept.push(input);
                    }
                }
                Ok((_, memory)) => {
                    let path = self.keep_failure(&folder, &input, seed);
                    panic!("{} bytes of memory for {} of input: {path}", memory, input.len());
                }
                Err(panic) => {
                    self.keep_failure(&folder, &input, seed);
                    resume_unwind(panic)
                }
            }
        };
        for input in self.seeds.iter().map(|seed| seed.to_vec()).chain(earlier(&folder)) {
            once(input, &mut kept);
        }
        let mut left = brief;
        while match seconds {
            Some(seconds) => started.elapsed().as_secs() < seconds,
            None => left > 0,
        } {
            left = left.saturating_sub(1);
            let input = mutator.mutate(&kept);
            once(input, &mut kept);
        }
        let _ = fs::remove_file(folder.join("running"));
        eprintln!(
            "{}: {tried} inputs, {} outcomes, {:.1?}, HGCI_FUZZ_SEED={seed}",
            self.name,
            seen.len(),
            started.elapsed()
        );
    }

    /// Where inputs that failed are kept, to be tried first the next time: `fuzz-corpus/NAME` of
    /// the workspace, or of `HGCI_FUZZ_CORPUS`.
    fn folder(&self) -> PathBuf {
        let root = std::env::var_os("HGCI_FUZZ_CORPUS").map(PathBuf::from).unwrap_or_else(|| {
            let here = Path::new(env!("CARGO_MANIFEST_DIR"));
            let root = here.ancestors().find(|folder| folder.join("Cargo.lock").is_file());
            root.unwrap_or(here).join("fuzz-corpus")
        });
        root.join(self.name)
    }

    fn keep_failure(&self, folder: &Path, input: &[u8], seed: u64) -> String {
        let mut hasher = DefaultHasher::new();
        input.hash(&mut hasher);
        let path = save(folder, &format!("failed-{:016x}", hasher.finish()), input);
        eprintln!("{}: failed, HGCI_FUZZ_SEED={seed}; the input is {path}", self.name);
        path
    }
}

/// Inputs that failed in earlier runs.
fn earlier(folder: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().filter_map(|path| fs::read(path).ok()).collect()
}

fn save(folder: &Path, name: &str, input: &[u8]) -> String {
    let path = folder.join(name);
    match fs::create_dir_all(folder).and_then(|()| fs::write(&path, input)) {
        Ok(()) => path.display().to_string(),
        Err(error) => format!("not saved, {error}: {:?}", input.escape_ascii().to_string()),
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

/// Stops the process when one input takes for ever, and leaves that input behind.
struct Watch {
    running: Arc<Running>,
}

/// The input that is being tried, and since when.
type Running = Mutex<Option<(Instant, Vec<u8>)>>;

impl Watch {
    fn start(folder: PathBuf) -> Watch {
        let running: Arc<Running> = Arc::default();
        let watched = Arc::downgrade(&running);
        std::thread::spawn(move || {
            while let Some(running) = watched.upgrade() {
                if let Ok(guard) = running.lock()
                    && let Some((since, input)) = guard.as_ref()
                    && since.elapsed() > HANGS
                {
                    eprintln!("an input takes for ever: {}", save(&folder, "hangs", input));
                    std::process::abort();
                }
                drop(running);
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        Watch { running }
    }

    fn begin(&self, input: &[u8]) {
        if let Ok(mut running) = self.running.lock() {
            *running = Some((Instant::now(), input.to_vec()));
        }
    }

    fn end(&self) {
        if let Ok(mut running) = self.running.lock() {
            *running = None;
        }
    }
}
