//! The trees of the store: which kinds of record there are.

use std::fmt;

/// A kind of record. Keys are unique within a tree and sorted as bytes.
///
/// The byte of a tree is part of every stored key: it is never changed and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tree {
    /// Pushes whose builds are not all final.
    Pushes,
    /// Plans of builds that are not final.
    Plans,
    /// Builds that are not final.
    Builds,
    /// Jobs of builds that are not final.
    Jobs,
    /// Numbers and secrets of the daemon itself.
    Meta,
    /// What has been seen of each repository.
    Marks,
    /// Mail that is not yet sent.
    Outbox,
    /// Repository, node and trigger, to the build that was made for them.
    Known,
    /// Pushes that are over, by number.
    PushHistory,
    /// Builds that are over, by number.
    BuildHistory,
    /// Their jobs: lists of some of them, by the build's number and the first one's place.
    JobHistory,
    /// Repository and number, of pushes that are over.
    PushesByRepo,
    /// Repository and number, of builds that are over.
    BuildsByRepo,
    /// Node and number, of builds that are over.
    BuildsByNode,
    /// Transactions of which a push was made, so that none is made twice.
    Transactions,
}

impl Tree {
    /// Every tree.
    pub const ALL: [Tree; 15] = [
        Tree::Pushes,
        Tree::Plans,
        Tree::Builds,
        Tree::Jobs,
        Tree::Meta,
        Tree::Marks,
        Tree::Outbox,
        Tree::Known,
        Tree::PushHistory,
        Tree::BuildHistory,
        Tree::JobHistory,
        Tree::PushesByRepo,
        Tree::BuildsByRepo,
        Tree::BuildsByNode,
        Tree::Transactions,
    ];

    /// The byte in front of its keys. Those below 0x10 are the store's own; 0x14 and 0x17 were
    /// those of trees that never had a record.
    pub(super) fn byte(self) -> u8 {
        match self {
            Tree::Pushes => 0x10,
            Tree::Plans => 0x11,
            Tree::Builds => 0x12,
            Tree::Jobs => 0x13,
            Tree::Meta => 0x15,
            Tree::Marks => 0x16,
            Tree::Outbox => 0x18,
            Tree::Known => 0x40,
            Tree::PushHistory => 0x41,
            Tree::BuildHistory => 0x42,
            Tree::PushesByRepo => 0x43,
            Tree::BuildsByRepo => 0x44,
            Tree::BuildsByNode => 0x45,
            Tree::Transactions => 0x46,
            Tree::JobHistory => 0x47,
        }
    }

    /// Whether it grows for ever, and so is not read at start.
    pub fn is_history(self) -> bool {
        self.byte() >= 0x40
    }

    /// The version of the records that this program writes into it. A program reads every version
    /// from 1 to its own; [`super::Row::version`] tells which one a record has.
    pub fn version(self) -> u8 {
        1
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_trees_share_a_byte() {
        let bytes: std::collections::BTreeSet<u8> = Tree::ALL.iter().map(|t| t.byte()).collect();
        assert_eq!(bytes.len(), Tree::ALL.len());
        assert!(bytes.iter().all(|byte| *byte >= 0x10));
    }
}
