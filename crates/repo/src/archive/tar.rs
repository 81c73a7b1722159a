//! Writing tar: ustar headers, and pax records for what does not fit into them.

use std::io::{self, Read, Write};

use super::Kind;

const BLOCK: usize = 512;

/// A name longer than this goes into a pax record.
const MAX_NAME: usize = 100;

/// The largest number of seconds that eleven octal digits hold.
const MAX_TIME: i64 = 0o777_7777_7777;

/// A tar of regular files and symlinks, all of one time and of nobody.
pub(super) struct Writer<W> {
    out: W,
    mtime: u64,
}

impl<W: Write> Writer<W> {
    /// `mtime`: seconds since 1970; earlier becomes 1970.
    pub(super) fn new(out: W, mtime: i64) -> Self {
        Writer { out, mtime: mtime.clamp(0, MAX_TIME) as u64 }
    }

    /// Adds a file; of a symlink, the content is its target.
    pub(super) fn file(&mut self, path: &[u8], kind: Kind, content: &[u8]) -> io::Result<()> {
        let link = match kind {
            Kind::Symlink => content,
            Kind::Plain | Kind::Executable => &[],
        };
        let mut records = Vec::new();
        if path.len() > MAX_NAME {
            record(&mut records, "path", path);
        }
        if link.len() > MAX_NAME {
            record(&mut records, "linkpath", link);
        }
        if !records.is_empty() {
            self.header(b"././@PaxHeader", b'x', 0o644, records.len() as u64, &[])?;
            self.content(&records)?;
        }
        match kind {
            Kind::Symlink => self.header(path, b'2', 0o777, 0, link),
            Kind::Plain | Kind::Executable => {
                let mode = if kind == Kind::Executable { 0o755 } else { 0o644 };
                self.header(path, b'0', mode, content.len() as u64, &[])?;
                self.content(content)
            }
        }
    }

    /// Adds the members of another tar, as they are.
    pub(super) fn copy(&mut self, from: &mut dyn Read) -> Result<(), CopyError> {
        let mut buffer = vec![0; 256 << 10];
        loop {
            let header = &mut buffer[..BLOCK];
            from.read_exact(header).map_err(CopyError::Read)?;
            if header.iter().all(|byte| *byte == 0) {
                // Read to its end, or hg would complain of a broken pipe.
                return io::copy(from, &mut io::sink()).map(drop).map_err(CopyError::Read);
            }
            let size = content_size(header).map_err(CopyError::Read)?;
            self.out.write_all(header).map_err(CopyError::Write)?;
            let mut left = size.next_multiple_of(BLOCK as u64);
            while left > 0 {
                let most =
                    usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
                from.read_exact(&mut buffer[..most]).map_err(CopyError::Read)?;
                self.out.write_all(&buffer[..most]).map_err(CopyError::Write)?;
                left -= most as u64;
            }
        }
    }

    /// Ends the tar with two empty blocks.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()
    }

    pub(super) fn into_inner(self) -> W {
        self.out
    }

    fn content(&mut self, content: &[u8]) -> io::Result<()> {
        self.out.write_all(content)?;
        let rest = content.len() % BLOCK;
        if rest != 0 {
            self.out.write_all(&[0; BLOCK][rest..])?;
        }
        Ok(())
    }

    fn header(
        &mut self,
        path: &[u8],
        kind: u8,
        mode: u64,
        size: u64,
        link: &[u8],
    ) -> io::Result<()> {
        let mut block = [0; BLOCK];
        put(&mut block[..MAX_NAME], path);
        octal(&mut block[100..108], mode);
        octal(&mut block[108..116], 0);
        octal(&mut block[116..124], 0);
        octal(&mut block[124..136], size);
        octal(&mut block[136..148], self.mtime);
        block[148..156].fill(b' ');
        block[156] = kind;
        put(&mut block[157..257], link);
        put(&mut block[257..265], b"ustar\x0000");
        let sum = block.iter().map(|byte| u64::from(*byte)).sum();
        octal(&mut block[148..155], sum);
        self.out.write_all(&block)
    }
}

/// Why a tar could not be copied.
pub(super) enum CopyError {
    /// It cannot be read, or is none.
    Read(io::Error),
    /// It could not be passed on.
    Write(io::Error),
}

/// How many bytes of content follow a header. Of a file of 8 GiB and more, the header does not say
/// it; then what follows is no header.
fn content_size(header: &[u8]) -> io::Result<u64> {
    let number = |field: &[u8]| {
        let text = std::str::from_utf8(field).ok()?;
        u64::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok()
    };
    let sum = header.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    let own = header[148..156].iter().map(|byte| u64::from(*byte)).sum::<u64>();
    let claimed = number(&header[148..156]);
    match (number(&header[124..136]), claimed == Some(sum - own + 8 * u64::from(b' '))) {
        (Some(size), true) => Ok(size),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not the header of a tar")),
    }
}

/// As much as fits: what is longer has its pax record.
fn put(field: &mut [u8], value: &[u8]) {
    let len = value.len().min(field.len());
    field[..len].copy_from_slice(&value[..len]);
}

/// Octal digits up to the NUL that ends the field.
fn octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    put(field, format!("{value:0digits$o}").as_bytes());
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = 1 + key.len() + 1 + value.len() + 1;
    let mut len = rest;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    records.extend_from_slice(format!("{len} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}
