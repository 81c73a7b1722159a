//! The side that pulls.

use std::collections::HashSet;
use std::io::{self, BufReader, Read, Seek};
use std::path::PathBuf;

use hgci_core::Node;
use hgci_core::result::Origin;

use crate::error::{At, Error};
use crate::frame::MAX_PAYLOAD;
use crate::index;
use crate::place::Place;
use crate::record::{RecordId, decode, is_origin};
use crate::writer::{Raw, Writer};

use super::stream::{self, Item};

/// How many records are appended with one sync.
const GROUP: usize = 65_536;

/// With more records than this, what is there of their changesets is looked up at once instead of
/// for each.
const MANY: u64 = 4096;

/// What a stream is, read to its end before anything of it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// How many records it has.
    pub records: u64,
    /// What the sender wants to be told at the next pull.
    pub cookie: String,
    /// Whether the sender has more, for the next pull.
    pub more: bool,
}

/// What was taken in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// How many records are new.
    pub written: u64,
    /// How many were there already, or make no sense.
    pub dropped: u64,
}

impl Staged {
    /// Reads a stream to its end. An error of kind `UnexpectedEof` where it was cut, `InvalidData`
    /// where it is none.
    pub fn read(from: impl Read) -> io::Result<Staged> {
        let mut from = BufReader::new(from);
        let mut records = 0;
        loop {
            match stream::read(&mut from)? {
                Item::Record(_) => records += 1,
                Item::End { cookie, more } => return Ok(Staged { records, cookie, more }),
            }
        }
    }
}

/// Appends the records of a stream that [`Staged::read`] found whole to the log of what was
/// received from `source`, and remembers its cookie. A record whose id is there is dropped. Whoever
/// calls this again with the same stream changes nothing.
pub fn take_in(
    place: &Place,
    source: &str,
    mut from: impl Read + Seek,
    staged: &Staged,
) -> Result<Taken, Error> {
    let log = place.log();
    let mut taken = Taken::default();
    if staged.records > 0 {
        from.rewind().at("read what was received for", &log)?;
        let mut from = BufReader::new(from);
        let mut writer = Writer::open_as_it_is(place, &Origin::default())?;
        let known = match staged.records > MANY {
            true => {
                let mut nodes = HashSet::new();
                while let Item::Record(raw) =
                    stream::read(&mut from).at("read what was received for", &log)?
                {
                    nodes.extend(raw.node().as_ref().map(index::prefix));
                }
                from.rewind().at("read what was received for", &log)?;
                Some(writer.ids_among(&nodes)?)
            }
            false => None,
        };
        let mut group = Group::new(&mut writer, known)?;
        while let Item::Record(raw) =
            stream::read(&mut from).at("read what was received for", &log)?
        {
            group.add(&mut writer, raw)?;
        }
        group.flush(&mut writer)?;
        taken = group.taken;
    }
    remember(place, source, &staged.cookie)?;
    Ok(taken)
}

/// Records that are appended together.
struct Group {
    fresh: Vec<Raw>,
    /// Those of `fresh`, or of all that is there or comes.
    ids: HashSet<RecordId>,
    all: bool,
    /// The origin of what the log says last, and of what comes.
    said: Option<RecordId>,
    origin: Option<Raw>,
    taken: Taken,
}

impl Group {
    /// `known`: the ids of what is there of the changesets that come; `None`: each is looked up.
    fn new(writer: &mut Writer, known: Option<HashSet<RecordId>>) -> Result<Group, Error> {
        let (all, ids) = (known.is_some(), known.unwrap_or_default());
        let said = writer.last_origin()?.map(|record| record.id);
        Ok(Group { fresh: Vec::new(), ids, all, said, origin: None, taken: Taken::default() })
    }

    fn add(&mut self, writer: &mut Writer, raw: Raw) -> Result<(), Error> {
        let makes_sense =
            raw.payload.len() <= MAX_PAYLOAD && decode(raw.kind, &raw.payload).is_ok();
        let Some(node) = raw.node().filter(|_| makes_sense) else {
            self.taken.dropped += 1;
            return Ok(());
        };
        if node == Node::NULL && is_origin(raw.kind) {
            // It is said only before a record that comes from there.
            self.origin = Some(raw);
            return Ok(());
        }
        let known = !self.all && writer.ids_of(&node)?.contains(&raw.id);
        if known || !self.ids.insert(raw.id) {
            self.taken.dropped += 1;
            return Ok(());
        }
        if let Some(origin) = &self.origin
            && self.said != Some(origin.id)
        {
            self.said = Some(origin.id);
            self.fresh.push(origin.clone());
        }
        self.fresh.push(raw);
        self.taken.written += 1;
        if self.fresh.len() >= GROUP { self.flush(writer) } else { Ok(()) }
    }

    fn flush(&mut self, writer: &mut Writer) -> Result<(), Error> {
        // An index that is behind makes lookups slower, and is mended by the next append.
        let _ = writer.append_raw(&self.fresh)?;
        self.fresh.clear();
        if !self.all {
            self.ids.clear();
        }
        Ok(())
    }
}

/// The file that says where the records of a folder come from.
fn file(place: &Place) -> PathBuf {
    place.folder().join("source")
}

/// Its first line.
const TITLE: &str = "hgci results from";

fn remember(place: &Place, source: &str, cookie: &str) -> Result<(), Error> {
    place.prepare()?;
    let (path, source) = (file(place), source.replace(char::is_control, " "));
    let new = path.with_extension(format!("{}.new", std::process::id()));
    place.remove(&new)?;
    let mut file = place.create(&new)?;
    io::Write::write_all(&mut file, format!("{TITLE}\n{source}\n{cookie}\n").as_bytes())
        .at("write", &new)?;
    place.rename(&new, &path).at("rename", &new)
}

/// From where the records at a place were received, and what the source is to be told at the next
/// pull; `None` where that is not known.
pub fn received_from(place: &Place) -> Option<(String, String)> {
    let mut text = String::new();
    let file = place.open_file(&file(place), false).ok()?;
    file.take(1 << 20).read_to_string(&mut text).ok()?;
    let mut lines = text.lines();
    let whole = lines.next() == Some(TITLE);
    let (source, cookie) = (lines.next()?, lines.next()?);
    whole.then(|| (source.to_owned(), cookie.to_owned()))
}
