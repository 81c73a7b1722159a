//! How many connections are open: `[limits] connections`.
//!
//! A new one is never kept out by those that do nothing: where there is no seat, the one that has
//! been idle longest gives up its own, of the same caller if that one has more than its share, else
//! of whoever has most. Only when all are busy is a new one refused. Those of runners, which have
//! shown the token of an attempt, are counted apart.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::limits::Caller;

const IDLE: u8 = 0;
const BUSY: u8 = 1;
const GONE: u8 = 2;

/// The seats of a socket.
#[derive(Debug, Default)]
pub(super) struct Gate(Mutex<Seats>);

#[derive(Debug, Default)]
struct Seats {
    /// By when they were last used, the longest ago first.
    taken: BTreeMap<u64, Arc<State>>,
    each: HashMap<Caller, u32>,
    runners: u32,
    /// What the next use is.
    next: u64,
}

#[derive(Debug)]
struct State {
    caller: Caller,
    /// Idle, busy, or about to be closed.
    doing: AtomicU8,
    closing: Notify,
}

/// A connection's seat. It is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    gate: Arc<Gate>,
    state: Arc<State>,
    /// Its place among those that are counted.
    place: Mutex<Place>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Counted(u64),
    Runner,
}

/// A call that is under way on a connection, until this is dropped.
#[derive(Debug)]
pub(super) struct Use(Arc<Seat>);

impl Gate {
    /// Takes a seat for a caller, who may have `share` of `limit`; `None` where all are busy.
    pub(super) fn enter(self: &Arc<Gate>, caller: Caller, share: u32, limit: u32) -> Option<Seat> {
        let mut seats = self.0.lock();
        let own = seats.each.get(&caller).copied().unwrap_or(0);
        if own >= share {
            seats.close_one(|state| state.caller == caller)?;
        } else if seats.taken.len() >= limit as usize {
            seats.close_one_of_most()?;
        }
        let state = Arc::new(State { caller, doing: AtomicU8::new(IDLE), closing: Notify::new() });
        let at = seats.add(state.clone());
        Some(Seat { gate: self.clone(), state, place: Mutex::new(Place::Counted(at)) })
    }
}

impl Seats {
    fn add(&mut self, state: Arc<State>) -> u64 {
        let at = self.next;
        self.next += 1;
        *self.each.entry(state.caller).or_default() += 1;
        self.taken.insert(at, state);
        at
    }

    fn remove(&mut self, at: u64) -> Option<Arc<State>> {
        let state = self.taken.remove(&at)?;
        if let Some(each) = self.each.get_mut(&state.caller) {
            *each -= 1;
            if *each == 0 {
                self.each.remove(&state.caller);
            }
        }
        Some(state)
    }

    /// Closes the connection that has been idle longest of those that are meant.
    fn close_one(&mut self, meant: impl Fn(&State) -> bool) -> Option<()> {
        let idle = |state: &State| {
            let swapped =
                state.doing.compare_exchange(IDLE, GONE, Ordering::AcqRel, Ordering::Acquire);
            swapped.is_ok()
        };
        let found = self.taken.iter().find(|(_, state)| meant(state) && idle(state));
        let at = found.map(|(at, _)| *at)?;
        self.remove(at)?.closing.notify_one();
        Some(())
    }

    /// The same of the caller who has most, or else of the next.
    fn close_one_of_most(&mut self) -> Option<()> {
        let mut callers: Vec<(u32, Caller)> =
            self.each.iter().map(|(caller, each)| (*each, *caller)).collect();
        callers.sort_unstable_by_key(|(each, _)| std::cmp::Reverse(*each));
        callers.into_iter().find_map(|(_, caller)| self.close_one(|state| state.caller == caller))
    }
}

impl Seat {
    /// A call begins. `None` when the connection is about to be closed.
    pub(super) fn begin(self: &Arc<Seat>) -> Option<Use> {
        let doing = &self.state.doing;
        match doing.compare_exchange(IDLE, BUSY, Ordering::AcqRel, Ordering::Acquire) {
            Err(GONE) => None,
            _ => Some(Use(self.clone())),
        }
    }

    /// Returns when somebody else needs the seat.
    pub(super) async fn closing(&self) {
        self.state.closing.notified().await;
    }

    /// The other end is a runner: it is counted apart, as long as there are fewer than `most`.
    pub(super) fn is_runner(&self, most: u32) {
        let mut place = self.place.lock();
        let Place::Counted(at) = *place else { return };
        let mut seats = self.gate.0.lock();
        if seats.runners < most && seats.remove(at).is_some() {
            seats.runners += 1;
            *place = Place::Runner;
        }
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let Use(seat) = self;
        let mut place = seat.place.lock();
        if let Place::Counted(at) = *place {
            // To the end of the line of those that are idle.
            let mut seats = seat.gate.0.lock();
            if let Some(state) = seats.remove(at) {
                *place = Place::Counted(seats.add(state));
            }
        }
        seat.state.doing.store(IDLE, Ordering::Release);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.gate.0.lock();
        match *self.place.get_mut() {
            Place::Counted(at) => drop(seats.remove(at)),
            Place::Runner => seats.runners = seats.runners.saturating_sub(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Caller = Caller::Account(1);
    const BOB: Caller = Caller::Account(2);

    struct Room(Arc<Gate>);

    impl Room {
        fn enter(&self, caller: Caller) -> Option<Arc<Seat>> {
            self.0.enter(caller, 3, 4).map(Arc::new)
        }

        /// How many are counted as runners, and how many as others.
        fn counts(&self) -> (u32, usize) {
            let seats = self.0.0.lock();
            (seats.runners, seats.taken.len())
        }
    }

    fn is_closed(seat: &Seat) -> bool {
        seat.state.doing.load(Ordering::Acquire) == GONE
    }

    #[test]
    fn who_has_a_share_gives_up_an_own_seat_for_a_new_one() {
        let room = Room(Arc::default());
        let alices: Vec<_> = (0..3).map(|_| room.enter(ALICE).unwrap()).collect();
        // The first was used last, so the second goes.
        drop(alices[0].begin().unwrap());
        let fourth = room.enter(ALICE).unwrap();
        assert_eq!([false, true, false], [0, 1, 2].map(|n| is_closed(&alices[n])));
        assert!(alices[1].begin().is_none());
        assert!(fourth.begin().is_some());
    }

    #[test]
    fn where_all_seats_are_taken_who_has_most_gives_one_up() {
        let room = Room(Arc::default());
        let bob = room.enter(BOB).unwrap();
        let alices: Vec<_> = (0..3).map(|_| room.enter(ALICE).unwrap()).collect();
        let second = room.enter(BOB).unwrap();
        assert!(is_closed(&alices[0]) && !is_closed(&bob) && !is_closed(&second));
    }

    #[test]
    fn what_is_busy_is_never_closed_and_then_nobody_enters() {
        let room = Room(Arc::default());
        let seats = [ALICE, ALICE, ALICE, BOB].map(|caller| room.enter(caller).unwrap());
        let mut busy: Vec<_> = seats.iter().map(|seat| seat.begin().unwrap()).collect();
        assert!(room.enter(ALICE).is_none() && room.enter(BOB).is_none());
        busy.pop();
        assert!(room.enter(ALICE).is_none(), "over her share, with no idle seat of her own");
        assert!(room.enter(Caller::Nobody).is_some(), "in the place of the idle one");
        assert!(is_closed(&seats[3]));
    }

    #[test]
    fn a_seat_is_free_again_when_its_connection_ends() {
        let room = Room(Arc::default());
        for _ in 0..100 {
            let seat = room.enter(ALICE).unwrap();
            drop(seat.begin());
        }
        let seats = room.0.0.lock();
        assert!(seats.taken.is_empty() && seats.each.is_empty());
    }

    #[test]
    fn runners_take_no_seats_up_to_their_number() {
        let room = Room(Arc::default());
        let runners: Vec<_> = (0..3).map(|_| room.enter(ALICE).unwrap()).collect();
        runners.iter().for_each(|seat| seat.is_runner(2));
        runners.iter().for_each(|seat| seat.is_runner(2));
        assert_eq!(room.counts(), (2, 1));
        let using = runners[0].begin().unwrap();
        drop(using);
        drop(runners);
        assert_eq!(room.counts(), (0, 0));
    }

    #[tokio::test]
    async fn who_must_go_hears_of_it() {
        let room = Room(Arc::default());
        let alices: Vec<_> = (0..4).map(|_| room.enter(ALICE).unwrap()).collect();
        alices[0].closing().await;
    }
}
