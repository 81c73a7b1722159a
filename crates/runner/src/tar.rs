//! Reading the source tree's tar stream: ustar with pax and GNU long names, nothing else.
//!
//! The stream comes from the daemon, but the names in it come from whoever wrote the changeset.
//! Memory is bounded by one buffer and one extended header, whatever the stream says.

use std::io::{self, Read};

/// The size of a header, and the unit that content is padded to.
const BLOCK: usize = 512;

/// Read and handed on at once.
const BUFFER: usize = 256 * 1024;

/// The most bytes of one extended header (pax or GNU long name).
const MAX_EXTENDED: u64 = 64 * 1024;

/// What may come after the end marker; GNU tar pads to 10 KiB.
const MAX_TRAILER: usize = 1 << 20;

/// A stream that cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The connection broke, or the stream ended too early: another try may go well.
    #[error("reading the source stream: {0}")]
    Read(#[source] io::Error),
    /// The stream is not one that the daemon would write.
    #[error("source stream: {0}")]
    Malformed(String),
}

/// One member of the stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// The path as it stands in the stream, without a slash at the end.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
}

/// What a member is. Other kinds end the reading.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; its content comes from [`Tar::chunk`].
    File {
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A symlink and where it points, not to be followed.
    Symlink(Vec<u8>),
    /// A directory.
    Directory,
}

/// Reads one tar stream.
pub struct Tar<R> {
    source: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Bytes of the current file that are not handed out yet, and the padding after them.
    content: u64,
    padding: usize,
}

impl<R: Read> Tar<R> {
    /// Reads from `source`, with a buffer of its own.
    pub fn new(source: R) -> Self {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Tar { source, buffer, start: 0, end: 0, content: 0, padding: 0 }
    }

    /// The next member; what is left of the one before is skipped. `None` at the end marker, when
    /// the stream is read to its end.
    pub fn entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut long_path = None;
        let mut long_link = None;
        let mut long_size = None;
        loop {
            while !self.chunk()?.is_empty() {}
            self.skip_padding()?;
            let header = self.header()?;
            let Some(header) = header else {
                self.drain()?;
                return Ok(None);
            };
            match header.kind {
                b'x' => {
                    let text = self.extended(header.size)?;
                    for (key, value) in pax_records(&text)? {
                        match key {
                            b"path" => long_path = Some(value.to_vec()),
                            b"linkpath" => long_link = Some(value.to_vec()),
                            b"size" => long_size = Some(decimal(value)?),
                            _ => {}
                        }
                    }
                }
                b'g' => drop(self.extended(header.size)?),
                b'L' => long_path = Some(until_nul(&self.extended(header.size)?).to_vec()),
                b'K' => long_link = Some(until_nul(&self.extended(header.size)?).to_vec()),
                kind => {
                    let mut path = long_path.unwrap_or(header.path);
                    let size = long_size.unwrap_or(header.size);
                    if path.contains(&0) {
                        return Err(malformed("a name with a NUL byte"));
                    }
                    let kind = match kind {
                        b'0' | 0 => {
                            self.content = size;
                            self.padding = padding_of(size);
                            Kind::File { executable: header.mode & 0o100 != 0 }
                        }
                        b'2' => Kind::Symlink(long_link.unwrap_or(header.link)),
                        b'5' => {
                            while path.last() == Some(&b'/') {
                                path.pop();
                            }
                            Kind::Directory
                        }
                        other => {
                            return Err(TarError::Malformed(format!(
                                "{} is {}",
                                path.escape_ascii(),
                                refused(other)
                            )));
                        }
                    };
                    return Ok(Some(Entry { path, kind }));
                }
            }
        }
    }

    /// More of the current file's content; empty at its end.
    pub fn chunk(&mut self) -> Result<&[u8], TarError> {
        if self.content == 0 {
            return Ok(&[]);
        }
        if self.start == self.end {
            self.fill()?;
        }
        let available = self.end - self.start;
        let take = usize::try_from(self.content).map_or(available, |left| left.min(available));
        self.content -= take as u64;
        self.start += take;
        Ok(&self.buffer[self.start - take..self.start])
    }

    fn skip_padding(&mut self) -> Result<(), TarError> {
        while self.padding > 0 {
            if self.start == self.end {
                self.fill()?;
            }
            let take = self.padding.min(self.end - self.start);
            self.start += take;
            self.padding -= take;
        }
        Ok(())
    }

    /// Reads at least one more byte; the buffer must be used up or have room.
    fn fill(&mut self) -> Result<(), TarError> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        loop {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) => {
                    let why = "it ended before its end marker";
                    return Err(TarError::Read(io::Error::new(io::ErrorKind::UnexpectedEof, why)));
                }
                Ok(n) => {
                    self.end += n;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TarError::Read(error)),
            }
        }
    }

    fn header(&mut self) -> Result<Option<Header>, TarError> {
        while self.end - self.start < BLOCK {
            self.fill()?;
        }
        let block = &self.buffer[self.start..self.start + BLOCK];
        let header = Header::parse(block)?;
        self.start += BLOCK;
        Ok(header)
    }

    fn extended(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > MAX_EXTENDED {
            return Err(malformed("an extended header that is too long"));
        }
        self.content = size;
        self.padding = padding_of(size);
        let mut text = Vec::new();
        loop {
            let chunk = self.chunk()?;
            if chunk.is_empty() {
                return Ok(text);
            }
            text.extend_from_slice(chunk);
        }
    }

    /// Reads what follows the end marker, so that the connection can be used again.
    fn drain(&mut self) -> Result<(), TarError> {
        let mut left = MAX_TRAILER;
        loop {
            match self.source.read(&mut self.buffer) {
                Ok(0) => return Ok(()),
                Ok(n) if n <= left => left -= n,
                Ok(_) => return Err(malformed("more after its end marker")),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TarError::Read(error)),
            }
        }
    }
}

struct Header {
    path: Vec<u8>,
    link: Vec<u8>,
    kind: u8,
    mode: u64,
    size: u64,
}

impl Header {
    /// `None` for a block of zeros, the end marker.
    fn parse(block: &[u8]) -> Result<Option<Header>, TarError> {
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        if sum == 0 {
            return Ok(None);
        }
        let field: u64 = block[148..156].iter().map(|byte| u64::from(*byte)).sum();
        if number(&block[148..156])? != sum - field + 8 * u64::from(b' ') {
            return Err(malformed("a header with a wrong checksum"));
        }
        let mut path = until_nul(&block[..100]).to_vec();
        let prefix = until_nul(&block[345..500]);
        // GNU's own format, `ustar ` with a blank, keeps times where POSIX has the prefix.
        if &block[257..263] == b"ustar\0" && !prefix.is_empty() {
            path = [prefix, &path].join(&b'/');
        }
        Ok(Some(Header {
            path,
            link: until_nul(&block[157..257]).to_vec(),
            kind: block[156],
            mode: number(&block[100..108])?,
            size: number(&block[124..136])?,
        }))
    }
}

/// The name of a kind of member that no source tree has.
fn refused(kind: u8) -> &'static str {
    match kind {
        b'1' => "a hard link",
        b'3' => "a character device",
        b'4' => "a block device",
        b'6' => "a fifo",
        _ => "of a kind that source trees do not have",
    }
}

fn malformed(what: &str) -> TarError {
    TarError::Malformed(what.to_owned())
}

fn padding_of(size: u64) -> usize {
    // Below the block's size, so it fits.
    (BLOCK - (size % BLOCK as u64) as usize) % BLOCK
}

fn until_nul(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|byte| *byte == 0).unwrap_or(field.len())]
}

/// A numeric field: octal text, or big-endian with the first bit set.
fn number(field: &[u8]) -> Result<u64, TarError> {
    let wrong = || malformed("a header with a number that is none");
    if field[0] & 0x80 != 0 {
        let (high, low) = field.split_at(field.len() - field.len().min(8));
        let high_is_zero = match high.split_first() {
            Some((first, rest)) => first & 0x7f == 0 && rest.iter().all(|byte| *byte == 0),
            None => false,
        };
        let value = low.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        return if high_is_zero && value <= i64::MAX as u64 { Ok(value) } else { Err(wrong()) };
    }
    let text = until_nul(field).trim_ascii();
    if text.len() > 12 {
        return Err(wrong());
    }
    text.iter().try_fold(0_u64, |value, byte| match byte {
        b'0'..=b'7' => Ok(value << 3 | u64::from(byte - b'0')),
        _ => Err(wrong()),
    })
}

fn decimal(text: &[u8]) -> Result<u64, TarError> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .filter(|size| *size <= i64::MAX as u64)
        .ok_or_else(|| malformed("a pax header with a size that is none"))
}

/// Key and value of a pax header.
type Record<'a> = (&'a [u8], &'a [u8]);

/// The records of a pax header: `LENGTH KEY=VALUE\n`, where LENGTH counts the whole record.
fn pax_records(mut text: &[u8]) -> Result<Vec<Record<'_>>, TarError> {
    let wrong = || malformed("a pax header that cannot be read");
    let mut records = Vec::new();
    while !text.is_empty() {
        let blank = text.iter().position(|byte| *byte == b' ').ok_or_else(wrong)?;
        let length = usize::try_from(decimal(&text[..blank])?).map_err(|_| wrong())?;
        if length <= blank + 1 || length > text.len() || text[length - 1] != b'\n' {
            return Err(wrong());
        }
        let record = &text[blank + 1..length - 1];
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(wrong)?;
        records.push((&record[..equals], &record[equals + 1..]));
        text = &text[length..];
    }
    Ok(records)
}
