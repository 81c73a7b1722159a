//! The side that is pulled from.

use hgci_core::Node;
use hgci_core::result::Entry;

use crate::error::Error;
use crate::header::Mark;
use crate::place::Place;
use crate::reader::Reader;
use crate::record::{RecordId, is_origin};
use crate::scan::{Piece, Scan, Window};
use crate::writer::Raw;

use super::cookie::{Cookie, Seen, in_order};
use super::stream;

/// About how many bytes are read from a log, and sent, at a time.
const PIECE: u64 = 128 * 1024;

/// What is sent for one pull, piece by piece.
pub struct Sending {
    had: Cookie,
    now: Cookie,
    /// What was sent, and what is left.
    seen: Vec<Seen>,
    left: Vec<Log>,
    /// How many bytes may still be sent.
    room: u64,
    cut: bool,
    done: bool,
}

/// A log that is being sent.
struct Log {
    reader: Reader,
    view: u64,
    seen: Seen,
    /// Where records below the mark lie that the puller may not have, the last first.
    again: Vec<(u64, u64)>,
    /// The origin that was sent last, and the one of what is read now.
    told: Option<RecordId>,
    origin: Option<Raw>,
}

/// A record, and where it begins and ends.
type Placed = (Raw, u64, u64);

impl Sending {
    /// Prepares to send the logs at `places` to whom had `cookie`. `view` stands for the set of
    /// changesets that he may see: while it is the same, what was withheld stays so. `coming` are
    /// changesets that he gets now: what is known of them may have been withheld. After about
    /// `limit` bytes the rest waits for the next pull. A log that cannot be read is left out.
    pub fn new(places: &[Place], cookie: &[u8], view: u64, coming: &[Node], limit: u64) -> Sending {
        let had = Cookie::parse(cookie);
        let readers = places.iter().filter_map(|place| Reader::open(place).ok().flatten());
        let logs = readers.map(|reader| {
            let log = reader.end().log;
            let known = had.of(log).filter(|seen| reader.since(&seen.mark).is_ok());
            let mut seen = known.cloned().unwrap_or_else(|| Seen::nothing(log));
            let mut again = match seen.view == Some(view) {
                true => Vec::new(),
                false => std::mem::take(&mut seen.withheld),
            };
            again.extend(places_of(&reader, coming, seen.mark.offset));
            let mut again = in_order(again);
            again.reverse();
            Log { reader, view, seen, again, told: None, origin: None }
        });
        let mut left: Vec<Log> = logs.collect();
        left.reverse();
        let (now, seen) = (Cookie::default(), Vec::new());
        Sending { had, now, seen, left, room: limit, cut: false, done: false }
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
            self.seen.extend(self.left.pop().map(Log::seen));
        }
        if std::mem::replace(&mut self.done, true) {
            return Ok(None);
        }
        self.now = Cookie::of_logs(std::mem::take(&mut self.seen));
        stream::write_end(&mut out, &self.now.to_string(), self.cut);
        Ok(Some(out))
    }

    /// Whether all has been said, and the puller knew it all, or there is no log.
    pub fn was_nothing_new(&self) -> bool {
        self.done && (self.now == self.had || self.now.logs.is_empty())
    }
}

/// Where a log has something of these changesets below `end`. What cannot be looked up is not sent.
fn places_of(reader: &Reader, nodes: &[Node], end: u64) -> Vec<(u64, u64)> {
    if end <= Mark::start(reader.end().log).offset {
        return Vec::new();
    }
    let offsets = nodes.iter().filter_map(|node| Some(reader.offsets(node).ok()?.0));
    // A frame is read from its first byte on, wherever it ends.
    offsets.flatten().filter(|at| *at < end).map(|at| (at, at + 1)).collect()
}

impl Log {
    fn is_done(&self) -> bool {
        self.again.is_empty() && self.seen.mark.offset >= self.reader.end().offset
    }

    /// Up to where the puller has this log, when it is sent no further.
    fn seen(self) -> Seen {
        let Log { mut seen, again, view, .. } = self;
        // What was not looked at is looked at next time, whatever can be seen then.
        seen.view = again.is_empty().then_some(view);
        seen.withheld.extend(again);
        seen.withheld = in_order(seen.withheld);
        if seen.withheld.is_empty() {
            // Whatever can be seen, nothing comes of it.
            seen.view = None;
        }
        seen
    }

    /// Sends a piece. False when there is no more.
    fn step<E: From<Error>>(
        &mut self,
        out: &mut Vec<u8>,
        visible: &mut impl FnMut(&[Node]) -> Result<Vec<bool>, E>,
    ) -> Result<bool, E> {
        if !self.again.is_empty() {
            let records = self.read_again()?;
            self.send(records, true, out, visible)?;
            return Ok(true);
        }
        let (start, end) = (self.seen.mark.offset, self.reader.end().offset);
        if start >= end {
            return Ok(false);
        }
        let records = self.read_on(end.min(start.saturating_add(PIECE)))?;
        self.send(records, false, out, visible)?;
        // Nothing but damage up to the end: it is looked at again next time.
        Ok(self.seen.mark.offset > start)
    }

    /// Reads what may have been withheld, about a piece of it. What cannot be read any more is lost.
    fn read_again(&mut self) -> Result<Vec<Placed>, Error> {
        let mut records = Vec::new();
        let mut read = 0;
        let Reader { file, path, .. } = &self.reader;
        let mut window = Window::new(file, path, self.reader.end().offset);
        while let Some((start, end)) = self.again.pop() {
            let piece = window.frame(start)?;
            let next = piece.end;
            records.extend(placed(&piece));
            if start < next && next < end {
                self.again.push((next, end));
            }
            read += next - start;
            if read >= PIECE {
                break;
            }
        }
        Ok(records)
    }

    /// Reads on from the mark, which moves.
    fn read_on(&mut self, stop: u64) -> Result<Vec<Placed>, Error> {
        let mut records = Vec::new();
        let Reader { file, path, .. } = &self.reader;
        let mark = &mut self.seen.mark;
        let mut scan = Scan::new(file, path, mark.offset, self.reader.end().offset);
        while let Some(piece) = scan.next()? {
            // A damaged place is passed over, and is no place to go on from.
            if let Ok(frame) = &piece.frame {
                *mark = Mark { offset: piece.end, chain: frame.chain, ..*mark };
            }
            records.extend(placed(&piece));
            if piece.end >= stop && !records.is_empty() {
                break;
            }
        }
        Ok(records)
    }

    /// Sends what may be seen of these records, and remembers where the others lie. `again`: they
    /// do not follow each other.
    fn send<E: From<Error>>(
        &mut self,
        records: Vec<Placed>,
        again: bool,
        out: &mut Vec<u8>,
        visible: &mut impl FnMut(&[Node]) -> Result<Vec<bool>, E>,
    ) -> Result<(), E> {
        let mut nodes: Vec<Node> = records.iter().filter_map(|(raw, ..)| raw.node()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let seen = visible(&nodes)?;
        let may_see = |node: &Node| match nodes.binary_search(node) {
            Ok(at) => seen.get(at).copied().unwrap_or(false),
            Err(_) => false,
        };
        for (raw, offset, end) in records {
            if again {
                self.origin = None;
            }
            match raw.node() {
                Some(Node::NULL) if is_origin(raw.kind) => self.origin = Some(raw),
                Some(node) if node != Node::NULL && !may_see(&node) => {
                    self.seen.withhold(offset, end);
                }
                // What this program cannot attribute to a changeset, it cannot show to anybody.
                None => {}
                Some(_) => {
                    self.tell_origin(offset, out)?;
                    stream::write_record(out, &raw);
                }
            }
        }
        if again {
            self.origin = None;
        }
        Ok(())
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

fn placed(piece: &Piece<'_>) -> Option<Placed> {
    let frame = piece.frame.as_ref().ok()?;
    let (id, kind) = (frame.id, (frame.kind, frame.version));
    Some((Raw { id, kind, payload: frame.payload.to_vec() }, piece.offset, piece.end))
}

#[cfg(test)]
mod tests {
    use hgci_core::result::Origin;

    use super::*;
    use crate::header::HEADER_LEN;
    use crate::writer::Writer;

    #[test]
    fn a_cookie_that_names_no_frames_comes_to_an_end() {
        let hg = tempfile::tempdir().unwrap();
        std::fs::create_dir(hg.path().join("store")).unwrap();
        let place = Place::new(hg.path());
        // The origin is a frame.
        let mark = Writer::open(&place, &Origin::default()).unwrap().end();
        for range in [(HEADER_LEN + 7, HEADER_LEN + 8), (HEADER_LEN + 7, mark.offset)] {
            let forged = Seen { mark, view: Some(1), withheld: vec![range] };
            let cookie = Cookie::of_logs(vec![forged]).to_string();
            let places = [place.clone()];
            let mut sending = Sending::new(&places, cookie.as_bytes(), 2, &[], u64::MAX);
            let visible = |nodes: &[Node]| Ok::<_, Error>(vec![true; nodes.len()]);
            // All that is said is the end.
            assert!(sending.next(visible).unwrap().is_some());
            assert!(sending.next(visible).unwrap().is_none());
            assert_eq!(sending.now.logs[0].withheld, []);
        }
    }
}
