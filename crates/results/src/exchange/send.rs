//! The side that is pulled from.

use hgci_core::Node;
use hgci_core::result::Entry;

use crate::error::Error;
use crate::header::Mark;
use crate::place::Place;
use crate::reader::Reader;
use crate::record::{RecordId, is_origin};
use crate::scan::Scan;
use crate::writer::Raw;

use super::cookie::{Cookie, Seen};
use super::stream;

/// About how many bytes are read from a log, and sent, at a time.
const PIECE: u64 = 128 * 1024;

/// What is sent for one pull, piece by piece.
pub struct Sending {
    had: Cookie,
    now: Cookie,
    left: Vec<Log>,
    /// How many bytes may still be sent.
    room: u64,
    cut: bool,
    done: bool,
}

/// A log that is being sent.
struct Log {
    reader: Reader,
    seen: Seen,
    /// What was withheld earlier and is still to be looked at, the last first.
    again: Vec<(u64, u64)>,
    /// Where records are that were withheld again.
    kept: Vec<(u64, u64)>,
    /// The origin that was sent last, and the one of what is read now.
    told: Option<RecordId>,
    origin: Option<Raw>,
}

impl Sending {
    /// Prepares to send the logs at `places` to whom had `cookie`. `view` stands for the set of
    /// changesets that he may see: while it is the same, what was withheld stays so. After about
    /// `limit` bytes the rest waits for the next pull. A log that cannot be read is left out.
    pub fn new(places: &[Place], cookie: &[u8], view: u64, limit: u64) -> Sending {
        let had = Cookie::parse(cookie);
        let readers = places.iter().filter_map(|place| Reader::open(place).ok().flatten());
        let same_view = view == had.view;
        let logs = readers.map(|reader| {
            let start = Mark::start(reader.end().log);
            let known = had.of(start.log).filter(|seen| reader.since(&seen.mark).is_ok());
            let mut seen = known.cloned().unwrap_or(Seen { mark: start, withheld: Vec::new() });
            let mut again = Vec::new();
            if !same_view {
                again = std::mem::take(&mut seen.withheld);
                again.reverse();
            }
            Log { reader, seen, again, kept: Vec::new(), told: None, origin: None }
        });
        let mut left: Vec<Log> = logs.collect();
        left.reverse();
        let now = Cookie { view, logs: Vec::new() };
        Sending { had, now, left, room: limit, cut: false, done: false }
    }

    /// The next piece of the stream; `None` behind the last. `visible` says which changesets the
    /// puller may see.
    pub fn next<E: From<Error>>(
        &mut self,
        mut visible: impl FnMut(&[Node]) -> Result<Vec<bool>, E>,
    ) -> Result<Option<Vec<u8>>, E> {
        let mut out = Vec::new();
        while let Some(log) = self.left.last_mut() {
            if self.room > 0 && log.step(&mut out, &mut visible)? {
                if out.is_empty() {
                    continue;
                }
                self.room = self.room.saturating_sub(out.len() as u64);
                return Ok(Some(out));
            }
            self.cut |= !log.is_done();
            self.now.logs.extend(self.left.pop().map(Log::seen));
        }
        if std::mem::replace(&mut self.done, true) {
            return Ok(None);
        }
        stream::write_end(&mut out, &self.now.to_string(), self.cut);
        Ok(Some(out))
    }

    /// Whether all has been said, and the puller knew it all, or there is no log.
    pub fn was_nothing_new(&self) -> bool {
        self.done && (self.now == self.had || self.now.logs.is_empty())
    }
}

impl Log {
    fn is_done(&self) -> bool {
        self.again.is_empty() && self.seen.mark.offset >= self.reader.end().offset
    }

    /// Up to where the puller has this log, when it is sent no further.
    fn seen(mut self) -> Seen {
        let rest = self.again.iter().rev().copied();
        let mut ranges: Vec<(u64, u64)> = self.kept.iter().copied().chain(rest).collect();
        ranges.append(&mut self.seen.withheld);
        for (start, end) in ranges {
            self.seen.withhold(start, end);
        }
        self.seen
    }

    /// Sends a piece. False when there is no more.
    fn step<E: From<Error>>(
        &mut self,
        out: &mut Vec<u8>,
        visible: &mut impl FnMut(&[Node]) -> Result<Vec<bool>, E>,
    ) -> Result<bool, E> {
        if let Some((start, end)) = self.again.pop() {
            let stop = end.min(start + PIECE);
            self.origin = None;
            let mut kept = std::mem::take(&mut self.kept);
            let at = self.send(start, stop, out, visible, |start, end| match kept.last_mut() {
                Some(last) if last.1 == start => last.1 = end,
                _ => kept.push((start, end)),
            })?;
            self.kept = kept;
            if at.offset < end {
                self.again.push((at.offset, end));
            }
            return Ok(true);
        }
        let (start, end) = (self.seen.mark.offset, self.reader.end().offset);
        if start >= end {
            return Ok(false);
        }
        let mut seen = self.seen.clone();
        let at = self.send(start, end.min(start + PIECE), out, visible, |start, end| {
            seen.withhold(start, end);
        })?;
        seen.mark = at;
        // Nothing but damage up to the end: it is looked at again next time.
        let stuck = at.offset == start;
        self.seen = seen;
        Ok(!stuck)
    }

    /// Sends what may be seen of the records that begin in a part of the log, and calls `withhold`
    /// for the others. Returns the end of the last one.
    fn send<E: From<Error>>(
        &mut self,
        start: u64,
        stop: u64,
        out: &mut Vec<u8>,
        visible: &mut impl FnMut(&[Node]) -> Result<Vec<bool>, E>,
        mut withhold: impl FnMut(u64, u64),
    ) -> Result<Mark, E> {
        let mut records = Vec::new();
        let mut at = Mark { offset: start, ..self.seen.mark };
        let mut scan =
            Scan::new(&self.reader.file, &self.reader.path, start, self.reader.end().offset);
        while let Some(piece) = scan.next()? {
            // A damaged place is passed over, and is no place to go on from.
            if let Ok(frame) = &piece.frame {
                let (id, kind) = (frame.id, (frame.kind, frame.version));
                records.push((
                    Raw { id, kind, payload: frame.payload.to_vec() },
                    piece.offset,
                    piece.end,
                ));
                at = Mark { offset: piece.end, chain: frame.chain, ..at };
            }
            if piece.end >= stop {
                break;
            }
        }
        drop(scan);
        let mut nodes: Vec<Node> = records.iter().filter_map(|(raw, ..)| raw.node()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let seen = visible(&nodes)?;
        let may_see = |node: &Node| match nodes.binary_search(node) {
            Ok(at) => seen.get(at).copied().unwrap_or(false),
            Err(_) => false,
        };
        for (raw, offset, end) in records {
            match raw.node() {
                Some(Node::NULL) if is_origin(raw.kind) => self.origin = Some(raw),
                Some(node) if node != Node::NULL && !may_see(&node) => withhold(offset, end),
                // What this program cannot attribute to a changeset, it cannot show to anybody.
                None => {}
                Some(_) => {
                    self.tell_origin(offset, out)?;
                    stream::write_record(out, &raw);
                }
            }
        }
        Ok(at)
    }

    /// Says where the record at `offset` comes from, unless that was said.
    fn tell_origin(&mut self, offset: u64, out: &mut Vec<u8>) -> Result<(), Error> {
        if self.origin.is_none() {
            let before = self.reader.origin_before(offset)?;
            let raw = before.map(|(id, origin)| Raw::of(id, &Entry::Origin(origin)));
            self.origin = raw.and_then(Result::ok);
        }
        if let Some(origin) = &self.origin
            && self.told != Some(origin.id)
        {
            stream::write_record(out, origin);
            self.told = Some(origin.id);
        }
        Ok(())
    }
}
