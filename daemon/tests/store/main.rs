//! The promises of the store, tried against real files, processes and file systems.

#![allow(clippy::unwrap_used)]

mod damage;
mod death;
mod everyday;
mod full_disk;
mod gone;

use std::collections::BTreeMap;
use std::path::Path;

use hgcid::store::{Batch, OpenReport, Options, Scan, Store, Tree};

/// The options of the product with the `hgcid` of this build.
fn options() -> Options {
    Options::new(env!("CARGO_BIN_EXE_hgcid"))
}

fn open(state: &Path) -> (Store, OpenReport) {
    Store::open(state, options()).unwrap()
}

/// Everything in a store.
fn content(store: &Store) -> BTreeMap<(Tree, Vec<u8>), Vec<u8>> {
    let mut all = BTreeMap::new();
    for tree in Tree::ALL {
        store
            .visit(tree, Scan::default(), |row| {
                all.insert((tree, row.key), row.value);
                true
            })
            .unwrap();
    }
    all
}

/// The n-th batch of a made-up life: records come, change, grow, move to the history and go.
fn nth_batch(n: u64) -> Batch {
    let mut batch = Batch::new();
    let text = |len: usize| format!("{n};").repeat(len).into_bytes();
    batch.put(Tree::Pushes, n.to_be_bytes(), text(60));
    batch.put(Tree::Jobs, (n % 50).to_be_bytes(), text(1 + (n % 7) as usize));
    if n.is_multiple_of(20) {
        batch.put(Tree::Plans, (n % 100).to_be_bytes(), text(1000 * (1 + n as usize % 9)));
    }
    if n > 30 {
        batch.delete(Tree::Pushes, (n - 30).to_be_bytes());
        batch.put(Tree::PushHistory, (n - 30).to_be_bytes(), text(40));
    }
    if n.is_multiple_of(33) {
        batch.delete(Tree::Plans, (n / 20 % 5 * 20).to_be_bytes());
    }
    batch
}

/// A generator of numbers that is the same on every run: xorshift64*.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % limit
    }
}

/// What a store holds after the first n batches.
#[derive(Default)]
struct Model {
    n: u64,
    content: BTreeMap<(Tree, Vec<u8>), Vec<u8>>,
}

impl Model {
    fn after(n: u64) -> Model {
        let mut model = Model::default();
        model.advance(n);
        model
    }

    fn advance(&mut self, n: u64) {
        while self.n < n {
            self.n += 1;
            for (tree, key, value) in changes(self.n) {
                match value {
                    Some(value) => self.content.insert((tree, key), value),
                    None => self.content.remove(&(tree, key)),
                };
            }
        }
    }
}

/// The changes of a batch.
fn changes(n: u64) -> Vec<(Tree, Vec<u8>, Option<Vec<u8>>)> {
    nth_batch(n).changes().map(|(t, k, v)| (t, k.to_vec(), v.map(<[u8]>::to_vec))).collect()
}
