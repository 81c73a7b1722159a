//! Reading on all cores, handing on in order.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::{Entry, content};
use crate::error::Result;
use crate::files::{Content, Files};
use crate::memory::{Held, MEMORY};

/// Below so many files, starting a thread costs more than it gains.
const FILES_PER_THREAD: usize = 32;

/// More threads than this only fight for the disk.
const MAX_THREADS: usize = 16;

/// What readers and writer share. Files are named by their place in the list.
struct Desk {
    state: Mutex<State>,
    /// Something of the state changed for those who wait.
    changed: Condvar,
    /// So many bytes may be read and not yet handed on, by this stream; and no more than there is
    /// room for in the memory of all. The next file to hand on only waits for the latter.
    ahead: u64,
}

struct State {
    /// The first file that nobody reads.
    unclaimed: usize,
    /// The file that the writer needs next.
    next: usize,
    /// The room of files that are being read or lie here.
    reserved: BTreeMap<usize, (u64, Held<'static>)>,
    /// Their sum.
    bytes: u64,
    /// How many readers wait for room.
    waiting: usize,
    /// What was read.
    ready: BTreeMap<usize, Result<Content>>,
    /// The writer does not want more.
    stopped: bool,
}

/// Reads `entries` and calls `take` with each in order, on this thread. Stops at its first error.
pub(super) fn in_order(
    files: &Files,
    entries: &[Entry<'_>],
    ahead: u64,
    mut take: impl FnMut(&Entry<'_>, Result<Content>) -> Result<()>,
) -> Result<()> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS);
    let threads = cores.min(entries.len() / FILES_PER_THREAD);
    if threads < 2 {
        return one_by_one(files, entries, take);
    }
    let desk = Desk {
        state: Mutex::new(State {
            unclaimed: 0,
            next: 0,
            reserved: BTreeMap::new(),
            bytes: 0,
            waiting: 0,
            ready: BTreeMap::new(),
            stopped: false,
        }),
        changed: Condvar::new(),
        ahead,
    };
    thread::scope(|scope| {
        // Readers end when the writer is done, for whatever reason.
        let _stop = Stop(&desk);
        let mut started = 0;
        for _ in 0..threads {
            // A machine that has no thread to spare may have one fewer to spare.
            match thread::Builder::new().spawn_scoped(scope, || desk.read(files, entries)) {
                Ok(_) => started += 1,
                Err(_) => break,
            }
        }
        if started == 0 {
            return one_by_one(files, entries, take);
        }
        for (place, entry) in entries.iter().enumerate() {
            take(entry, desk.fetch(place))?;
            desk.handed_on(place);
        }
        Ok(())
    })
}

/// The same, all on this thread.
fn one_by_one(
    files: &Files,
    entries: &[Entry<'_>],
    mut take: impl FnMut(&Entry<'_>, Result<Content>) -> Result<()>,
) -> Result<()> {
    for entry in entries {
        let mut held = None;
        let reserve = |size| {
            held = Some(MEMORY.now(size));
            true
        };
        if let Some(content) = content(files, entry, reserve).transpose() {
            take(entry, content)?;
        }
    }
    Ok(())
}

struct Stop<'a>(&'a Desk);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.changed.notify_all();
    }
}

impl Desk {
    /// A panic of another thread leaves the state whole: each change of it is one statement.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// What a reader does.
    fn read(&self, files: &Files, entries: &[Entry<'_>]) {
        loop {
            let place = {
                let mut state = self.lock();
                if state.stopped || state.unclaimed == entries.len() {
                    return;
                }
                state.unclaimed += 1;
                state.unclaimed - 1
            };
            let read = content(files, &entries[place], |size| self.reserve(place, size));
            let Some(read) = read.transpose() else { return };
            let mut state = self.lock();
            state.ready.insert(place, read);
            if state.next == place {
                self.changed.notify_all();
            }
        }
    }

    /// Waits until a file of that size may be read; false when nobody wants it any more.
    fn reserve(&self, place: usize, size: u64) -> bool {
        let mut state = self.lock();
        let held = loop {
            if state.stopped {
                return false;
            }
            if state.next == place {
                // Only this may wait for other streams: all else that this one holds is of files
                // that were read ahead, and takes no room from those that are waited for.
                drop(state);
                let held = MEMORY.now(size);
                state = self.lock();
                break held;
            }
            let fits = state.bytes + size <= self.ahead;
            if let Some(held) = fits.then(|| MEMORY.ahead(size)).flatten() {
                break held;
            }
            state.waiting += 1;
            state = self.wait(state);
            state.waiting -= 1;
        };
        state.reserved.insert(place, (size, held));
        state.bytes += size;
        true
    }

    /// Waits for a file.
    fn fetch(&self, place: usize) -> Result<Content> {
        let mut state = self.lock();
        if state.next != place {
            state.next = place;
            self.changed.notify_all();
        }
        loop {
            match state.ready.remove(&place) {
                Some(content) => return content,
                None => state = self.wait(state),
            }
        }
    }

    /// Makes room, once the content is gone.
    fn handed_on(&self, place: usize) {
        let mut state = self.lock();
        if let Some((size, _held)) = state.reserved.remove(&place) {
            state.bytes -= size;
        }
        if state.waiting > 0 {
            self.changed.notify_all();
        }
    }
}
