//! The name of a changeset: Mercurial's 20-byte node, written as 40 hexadecimal digits.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A full node. Revision numbers and short prefixes never stand in for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Node(pub [u8; 20]);

impl Node {
    /// Mercurial's null revision, parent of roots.
    pub const NULL: Node = Node([0; 20]);

    /// The first 12 digits, as hg shows a changeset to people.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(12);
        text
    }
}

/// Text that is not a node.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a node of 40 hexadecimal digits: {0:?}")]
pub struct NotANode(String);

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Node {
    type Err = NotANode;

    fn from_str(text: &str) -> Result<Self, NotANode> {
        let refuse = || NotANode(text.chars().take(64).collect());
        if text.len() != 40 {
            return Err(refuse());
        }
        let mut node = [0; 20];
        for (byte, pair) in node.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digit = |c: u8| (c as char).to_digit(16);
            match (digit(pair[0]), digit(pair[1])) {
                (Some(high), Some(low)) => *byte = (high * 16 + low) as u8,
                _ => return Err(refuse()),
            }
        }
        Ok(Node(node))
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
            text.parse().map_err(D::Error::custom)
        } else {
            <[u8; 20]>::deserialize(deserializer).map(Node)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_survives_being_written_and_read() {
        let text = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(text.parse::<Node>().unwrap().to_string(), text);
        assert_eq!(text.parse::<Node>().unwrap().short(), "0123456789ab");
    }

    #[test]
    fn what_is_no_node_is_refused() {
        for text in [
            "",
            "0123",
            "zz23456789abcdef0123456789abcdef01234567",
            "é123456789abcdef0123456789abcdef0123456",
        ] {
            assert!(text.parse::<Node>().is_err(), "{text}");
        }
    }
}
