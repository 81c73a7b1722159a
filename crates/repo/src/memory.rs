//! How much content of files is held in memory, by all source trees that are streamed together.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A file that needs more than this is not read here: the `hg` command streams it, in a process of
/// its own.
pub(crate) const LARGEST: u64 = 128 << 20;

/// So much is held of files that streams wait for. Each stream waits for one at a time, and holds
/// none of these meanwhile, so that all come to their turn.
const NOW: u64 = 192 << 20;

/// So much is held of files that were read before it was their turn.
const AHEAD: u64 = 64 << 20;

/// The memory of this process, of which there is one.
pub(crate) static MEMORY: Memory = Memory::new(NOW, AHEAD);

/// What may be held.
pub(crate) struct Memory {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Free bytes.
    now: u64,
    ahead: u64,
    /// Who waits has a number, and gets room in their order: else the large would wait for ever.
    last: u64,
    served: u64,
}

/// Something that is held. Dropping it makes room.
pub(crate) struct Held<'a> {
    memory: &'a Memory,
    size: u64,
    is_ahead: bool,
}

impl Memory {
    const fn new(now: u64, ahead: u64) -> Self {
        let state = State { now, ahead, last: 0, served: 0 };
        Memory { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Room for a file that is waited for, as soon as there is. Whoever calls this holds nothing
    /// that came of it before.
    pub(crate) fn now(&self, size: u64) -> Held<'_> {
        let mut state = self.lock();
        let number = state.last;
        state.last += 1;
        while state.served != number || state.now < size {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.served += 1;
        state.now -= size;
        if state.served != state.last {
            self.changed.notify_all();
        }
        Held { memory: self, size, is_ahead: false }
    }

    /// Room for a file that nobody waits for yet, if there is.
    pub(crate) fn ahead(&self, size: u64) -> Option<Held<'_>> {
        let mut state = self.lock();
        state.ahead = state.ahead.checked_sub(size)?;
        Some(Held { memory: self, size, is_ahead: true })
    }

    /// A panic of another thread leaves the state whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut state = self.memory.lock();
        if self.is_ahead {
            state.ahead += self.size;
            return;
        }
        state.now += self.size;
        if state.served != state.last {
            self.memory.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn who_waits_gets_room_in_order_and_never_more_than_there_is() {
        let memory = Memory::new(10, 0);
        thread::scope(|scope| {
            let (done, order) = mpsc::channel();
            let first = memory.now(6);
            let waiting = |count| {
                while memory.lock().last != count {
                    thread::yield_now();
                }
            };
            for (number, size) in [(2, 10), (3, 1)] {
                let (memory, done) = (&memory, done.clone());
                scope.spawn(move || {
                    let _held = memory.now(size);
                    done.send(size).unwrap();
                });
                waiting(number);
            }
            // The small one had room, but the large one was there before.
            assert!(order.try_recv().is_err());
            drop(first);
            assert_eq!((order.recv().unwrap(), order.recv().unwrap()), (10, 1));
        });
        assert_eq!(memory.lock().now, 10);
    }

    #[test]
    fn what_nobody_waits_for_gets_what_is_free() {
        let memory = Memory::new(0, 10);
        let held = memory.ahead(7);
        assert!(held.is_some() && memory.ahead(4).is_none());
        drop(held);
        assert!(memory.ahead(10).is_some());
    }
}
