//! How many calls of people are under way at a time: a part of the connections, so that hooks and
//! runners find some that are free.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Caller;

/// Calls under way.
#[derive(Debug, Default)]
pub struct Busy(Arc<Mutex<Count>>);

#[derive(Debug, Default)]
struct Count {
    all: u32,
    each: HashMap<Caller, u32>,
}

/// A call that is under way until this is dropped.
#[derive(Debug)]
pub struct UnderWay {
    busy: Arc<Mutex<Count>>,
    caller: Caller,
}

impl Busy {
    /// Starts a call, unless there are `most` of all callers or `share` of this one.
    pub fn start(&self, caller: Caller, most: u32, share: u32) -> Option<UnderWay> {
        let mut count = self.0.lock();
        let each = count.each.get(&caller).copied().unwrap_or(0);
        if count.all >= most || each >= share {
            return None;
        }
        count.all += 1;
        count.each.insert(caller, each + 1);
        Some(UnderWay { busy: self.0.clone(), caller })
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut count = self.busy.lock();
        count.all = count.all.saturating_sub(1);
        let Some(each) = count.each.get_mut(&self.caller) else { return };
        *each -= 1;
        if *each == 0 {
            count.each.remove(&self.caller);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_all_nor_one_take_more_than_their_part() {
        let busy = Busy::default();
        let start = |uid| busy.start(Caller::Account(uid), 5, 3);
        let mut first: Vec<_> = (0..3).map(|_| start(1).unwrap()).collect();
        assert!(start(1).is_none());
        let _second = [start(2).unwrap(), start(2).unwrap()];
        assert!(start(3).is_none());
        first.pop();
        assert!(start(3).is_some());
        // What has ended leaves nothing behind.
        assert_eq!(busy.0.lock().each.len(), 2);
    }
}
