//! What is written together.

use std::collections::BTreeMap;

use super::Tree;
use super::mirror::Numbers;

/// Changes to any trees that become durable together or not at all. Of several changes to one
/// key the last one counts.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(super) changes: BTreeMap<(Tree, Vec<u8>), Option<Vec<u8>>>,
    pub(super) numbers: Numbers,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Sets a record. Keys have at most [`super::MAX_KEY`] bytes, values [`super::MAX_VALUE`].
    pub fn put(&mut self, tree: Tree, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changes.insert((tree, key.into()), Some(value.into()));
    }

    /// Removes a record, if it is there.
    pub fn delete(&mut self, tree: Tree, key: impl Into<Vec<u8>>) {
        self.changes.insert((tree, key.into()), None);
    }

    /// Says which numbers of pushes and builds are in use now. They are kept beside the store
    /// too, so that no number is given twice even when the store itself is lost.
    pub fn numbers(&mut self, numbers: Numbers) {
        self.numbers = self.numbers.max(numbers);
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.numbers == Numbers::default()
    }

    /// How many records it touches.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// What it changes, in the order of trees and keys: `None` removes.
    pub fn changes(&self) -> impl Iterator<Item = (Tree, &[u8], Option<&[u8]>)> {
        self.changes.iter().map(|((tree, key), value)| (*tree, key.as_slice(), value.as_deref()))
    }

    /// Adds the changes of another batch, as if they had been made after these.
    pub fn append(&mut self, other: Batch) {
        self.changes.extend(other.changes);
        self.numbers(other.numbers);
    }
}
