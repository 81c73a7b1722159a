//! Reading frames one after the other, past whatever is damaged.

use std::fs::File;
use std::path::Path;

use crate::error::{At, Damage, Error};
use crate::frame::{self, DELIMITER, Frame, MAX_FRAME};
use crate::header::{HEADER_LEN, read_up_to};

/// How much is read at a time.
const CHUNK: usize = 256 * 1024;

/// Reads the frames of a part of a file. Its memory does not depend on what is in the file.
pub(crate) struct Scan<'f> {
    file: &'f File,
    path: &'f Path,
    /// Where the part ends.
    end: u64,
    /// What was read and is not consumed: `buf[start..filled]`, which lies at `offset` in the file.
    buf: Vec<u8>,
    start: usize,
    filled: usize,
    offset: u64,
    body: Vec<u8>,
}

/// A frame, or why there is none, with its place in the file.
pub(crate) struct Piece<'a> {
    pub offset: u64,
    /// Behind the delimiter.
    pub end: u64,
    pub frame: Result<Frame<'a>, &'static str>,
}

impl Piece<'_> {
    pub fn damage(&self) -> Option<Damage> {
        let what = self.frame.as_ref().err()?;
        Some(Damage { offset: self.offset, len: self.end - self.offset, what })
    }
}

impl<'f> Scan<'f> {
    /// Reads `file` from `offset`, which is the start of a frame or a damaged place, to `end`.
    pub fn new(file: &'f File, path: &'f Path, offset: u64, end: u64) -> Scan<'f> {
        // A scan of a short tail should not cost a large buffer.
        let size = (end.saturating_sub(offset)).clamp(1, CHUNK as u64) as usize;
        let buf = vec![0; size.max(MAX_FRAME)];
        Scan { file, path, end, buf, start: 0, filled: 0, offset, body: Vec::new() }
    }

    /// Reads all of a log, up to `end`.
    pub fn from_start(file: &'f File, path: &'f Path, end: u64) -> Scan<'f> {
        Scan::new(file, path, HEADER_LEN, end)
    }

    /// The next frame or damaged piece; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Piece<'_>>, Error> {
        let offset = self.offset;
        let mut searched = 0;
        let mut too_long = false;
        loop {
            let pending = &self.buf[self.start..self.filled];
            if let Some(at) = pending[searched..].iter().position(|&byte| byte == DELIMITER) {
                let stuffed = self.start..self.start + searched + at;
                // A file that lost its blocks reads as zeros: together they are one damaged place.
                let behind = &self.buf[stuffed.end + 1..self.filled];
                let more = match stuffed.is_empty() {
                    true => behind.iter().take_while(|&&byte| byte == DELIMITER).count(),
                    false => 0,
                };
                self.start = stuffed.end + 1 + more;
                self.offset += (searched + at + 1 + more) as u64;
                let end = self.offset;
                let frame = match too_long || stuffed.len() >= MAX_FRAME {
                    true => Err(TOO_LONG),
                    false => frame::unstuff(&self.buf[stuffed], &mut self.body)
                        .and_then(|()| Frame::parse(&self.body)),
                };
                return Ok(Some(Piece { offset, end, frame }));
            }
            if pending.len() >= MAX_FRAME {
                // No frame is so long: pass over it to the next delimiter, keeping nothing.
                too_long = true;
                self.offset += pending.len() as u64;
                self.start = self.filled;
            }
            searched = self.filled - self.start;
            if !self.fill()? {
                let end = self.offset + searched as u64;
                self.offset = end;
                self.start = self.filled;
                let frame = Err("a frame does not end");
                return Ok((end > offset).then_some(Piece { offset, end, frame }));
            }
        }
    }

    /// Reads on. False at the end of the part, or of the file.
    fn fill(&mut self) -> Result<bool, Error> {
        self.buf.copy_within(self.start..self.filled, 0);
        self.filled -= self.start;
        self.start = 0;
        let at = self.offset + self.filled as u64;
        let wanted = self.end.saturating_sub(at).min((self.buf.len() - self.filled) as u64);
        let room = &mut self.buf[self.filled..self.filled + wanted as usize];
        let n = read_up_to(self.file, room, at).at("read", self.path)?;
        self.filled += n;
        Ok(n > 0)
    }
}

const TOO_LONG: &str = "no end of a frame where one must be";

/// Reads the single frame at `offset` into `body`. `limit` is where the log ends.
pub(crate) fn read_one<'a>(
    file: &File,
    path: &Path,
    offset: u64,
    limit: u64,
    body: &'a mut Vec<u8>,
) -> Result<Piece<'a>, Error> {
    let mut buf = vec![0; 512];
    loop {
        let wanted = (limit.saturating_sub(offset)).min(buf.len() as u64) as usize;
        let n = read_up_to(file, &mut buf[..wanted], offset).at("read", path)?;
        if let Some(at) = buf[..n].iter().position(|&byte| byte == DELIMITER) {
            let end = offset + at as u64 + 1;
            let frame = match frame::unstuff(&buf[..at], body) {
                Ok(()) => Frame::parse(body),
                Err(what) => Err(what),
            };
            return Ok(Piece { offset, end, frame });
        }
        if n < buf.len() || n >= MAX_FRAME {
            return Ok(Piece { offset, end: offset + n as u64, frame: Err(TOO_LONG) });
        }
        buf.resize(MAX_FRAME, 0);
    }
}

/// Reads single frames whose offsets ascend: those that lie close to each other with one call.
pub(crate) struct Window<'f> {
    file: &'f File,
    path: &'f Path,
    /// Where the log ends.
    limit: u64,
    /// What was read, which lies at `offset` in the file.
    buf: Vec<u8>,
    offset: u64,
    body: Vec<u8>,
}

impl<'f> Window<'f> {
    pub fn new(file: &'f File, path: &'f Path, limit: u64) -> Window<'f> {
        Window { file, path, limit, buf: Vec::new(), offset: 0, body: Vec::new() }
    }

    /// The frame at `offset`.
    pub fn frame(&mut self, offset: u64) -> Result<Piece<'_>, Error> {
        let mut stuffed = self.stuffed(offset);
        if stuffed.is_none() {
            // As much as a frame may have.
            self.buf.resize(self.limit.saturating_sub(offset).min(MAX_FRAME as u64) as usize, 0);
            let n = read_up_to(self.file, &mut self.buf, offset).at("read", self.path)?;
            self.buf.truncate(n);
            self.offset = offset;
            stuffed = self.stuffed(offset);
        }
        let Some(stuffed) = stuffed else {
            return read_one(self.file, self.path, offset, self.limit, &mut self.body);
        };
        let end = self.offset + stuffed.end as u64 + 1;
        let frame = frame::unstuff(&self.buf[stuffed], &mut self.body)
            .and_then(|()| Frame::parse(&self.body));
        Ok(Piece { offset, end, frame })
    }

    /// Where the frame is in `buf`, if all of it is.
    fn stuffed(&self, offset: u64) -> Option<std::ops::Range<usize>> {
        let start = usize::try_from(offset.checked_sub(self.offset)?).ok()?;
        let len = self.buf.get(start..)?.iter().position(|&byte| byte == DELIMITER)?;
        Some(start..start + len)
    }
}

/// The chain hash of the frame that ends at `end`; `None` where no whole frame does.
pub(crate) fn chain_before(
    file: &File,
    path: &Path,
    start: u64,
    end: u64,
) -> Result<Option<frame::Chain>, Error> {
    let from = end.saturating_sub(MAX_FRAME as u64 + 1).max(start);
    let mut buf = vec![0; end.saturating_sub(from) as usize];
    let n = read_up_to(file, &mut buf, from).at("read", path)?;
    let Some((&DELIMITER, before)) = buf[..n].split_last() else { return Ok(None) };
    if n < buf.len() {
        return Ok(None);
    }
    let begin = before.iter().rposition(|&byte| byte == DELIMITER).map_or(0, |at| at + 1);
    if begin == 0 && from > start {
        return Ok(None);
    }
    let mut body = Vec::new();
    let chain = frame::unstuff(&before[begin..], &mut body)
        .and_then(|()| Frame::parse(&body).map(|frame| frame.chain));
    Ok(chain.ok())
}
