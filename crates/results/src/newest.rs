//! What the log says of a changeset now: the records of the daemon that spoke last.

use hgci_core::Node;
use hgci_core::result::{Entry, Origin};

use crate::error::{Damage, Error};
use crate::reader::Reader;
use crate::record::RecordId;

/// The records of one changeset that one daemon wrote.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Newest {
    /// In the order of the log. Numbers of builds and pushes are this daemon's.
    pub entries: Vec<Entry>,
    /// The daemon, as it describes itself in its newest record.
    pub origin: Origin,
    /// As in [`crate::Found`].
    pub damage: Vec<Damage>,
    /// As in [`crate::Found`].
    pub without_index: Option<&'static str>,
}

impl Reader {
    /// The records of a changeset by the daemon whose record of it is the newest.
    pub fn newest(&self, node: &Node) -> Result<Newest, Error> {
        let found = self.find(node)?;
        let mut newest = Newest {
            damage: found.damage,
            without_index: found.without_index,
            ..Newest::default()
        };
        let Some(last) = found.records.last() else { return Ok(newest) };
        let origins = self.origins()?;
        let daemon =
            |offset| before(origins, offset).map_or("", |(_, _, origin)| origin.daemon.as_str());
        let speaker = daemon(last.offset);
        let own = origins.iter().rev().find(|(_, _, origin)| origin.daemon == speaker);
        newest.origin = own.map(|(_, _, origin)| origin.clone()).unwrap_or_default();
        newest.entries = found
            .records
            .iter()
            .filter(|record| daemon(record.offset) == speaker)
            .filter_map(|record| record.entry.clone())
            .collect();
        Ok(newest)
    }

    /// Where the record at `offset` comes from.
    pub(crate) fn origin_before(&self, offset: u64) -> Result<Option<(RecordId, Origin)>, Error> {
        let origins = self.origins()?;
        Ok(before(origins, offset).map(|(_, id, origin)| (*id, origin.clone())))
    }

    /// The daemons that wrote in this log, each with the offset where it began to.
    pub(crate) fn origins(&self) -> Result<&[(u64, RecordId, Origin)], Error> {
        if let Some(origins) = self.origins.get() {
            return Ok(origins);
        }
        let records = self.find(&Node::NULL)?.records;
        let origins = records.into_iter().filter_map(|record| match record.entry {
            Some(Entry::Origin(origin)) => Some((record.offset, record.id, origin)),
            _ => None,
        });
        let origins: Vec<_> = origins.collect();
        Ok(self.origins.get_or_init(|| origins))
    }
}

/// An origin is said before the records that come from it.
fn before(origins: &[(u64, RecordId, Origin)], offset: u64) -> Option<&(u64, RecordId, Origin)> {
    let before = origins.partition_point(|(at, ..)| *at < offset);
    before.checked_sub(1).map(|n| &origins[n])
}
