//! Looking a changeset up in the index.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use hgci_core::Node;

use super::{Header, KEYS_PER_PAGE, Key, Page, Run};
use crate::error::{At, Error};
use crate::header::LogId;
use crate::place::Place;

/// How often a header is read again that the writer may just be changing, 1 ms apart.
const RETRIES: u32 = 5;

/// An index as a reader sees it: a snapshot of its header, and the file.
pub(crate) struct Index {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) header: Header,
}

impl Index {
    /// Opens the index of the log named `log`. The inner error says why there is none to use.
    pub fn open(place: &Place, log: LogId) -> Result<Result<Index, &'static str>, Error> {
        let path = &place.index();
        let file = match place.open_file(path, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Err("is missing")),
            result => result.at("open", path)?,
        };
        for tried in 1.. {
            match Header::read(&file, path)? {
                Some(header) if header.log == log => {
                    return Ok(Ok(Index { path: path.to_owned(), file, header }));
                }
                Some(_) => return Ok(Err("belongs to another log")),
                None if tried >= RETRIES => break,
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        Ok(Err("is damaged"))
    }

    /// Up to where the log is covered.
    pub fn covered(&self) -> u64 {
        self.header.covered
    }

    /// The offsets of the records of `node` (and, rarely, of one that starts with the same bytes),
    /// ascending; the last `most` of each run. The inner error says that the index cannot be used.
    pub fn offsets(
        &self,
        node: &Node,
        most: usize,
    ) -> Result<Result<Vec<u64>, &'static str>, Error> {
        let mut offsets = Vec::new();
        for run in &self.header.runs {
            if let Err(why) = self.search(run, node, most, &mut offsets)? {
                return Ok(Err(why));
            }
        }
        // Runs follow each other as the log does, so this is sorted unless the file is forged.
        offsets.sort_unstable();
        Ok(Ok(offsets))
    }

    /// Adds the offsets of one run: reads backwards from the last key of `node`, so
    /// that what is cut off is what is oldest.
    pub(super) fn search(
        &self,
        run: &Run,
        node: &Node,
        most: usize,
        offsets: &mut Vec<u64>,
    ) -> Result<Result<(), &'static str>, Error> {
        let behind = Key::new(node, u64::MAX);
        let mut left = most;
        let Some((mut n, mut page)) = self.find_page(run, &behind)? else {
            return Ok(Err("is damaged"));
        };
        let mut position = page.lower_bound(&behind);
        while left > 0 {
            if position == 0 {
                if n == 0 {
                    break;
                }
                n -= 1;
                match self.page(run, n)? {
                    Some(before) => page = before,
                    None => return Ok(Err("is damaged")),
                }
                position = page.keys;
            }
            position -= 1;
            let key = page.key(position);
            if !key.is_of(node) {
                break;
            }
            offsets.push(key.offset());
            left -= 1;
        }
        Ok(Ok(()))
    }

    /// The first page whose last key is not below `key`; else the last page. Nodes are spread
    /// evenly, so the search starts where the page would be if they were perfectly so, and from
    /// there in steps of 1, 2, 4, … pages; then by halves, since somebody may have made nodes that
    /// are not spread evenly.
    fn find_page(&self, run: &Run, key: &Key) -> Result<Option<(u64, Page)>, Error> {
        // Pages before `low` end below the key; those from `high` on do not.
        let (mut low, mut high) = (0, run.pages());
        let mut guess = self.expected_page(run, key);
        let mut step = 1;
        let (mut found, mut below) = (None, None);
        while low < high {
            let Some(page) = self.page(run, guess)? else { return Ok(None) };
            let gallop = if page.last() < *key {
                low = guess + 1;
                below = Some((guess, page));
                guess.saturating_add(step)
            } else {
                high = guess;
                found = Some((guess, page));
                guess.saturating_sub(step)
            };
            step *= 2;
            if low < high {
                guess = if step > 64 { (low + high) / 2 } else { gallop.clamp(low, high - 1) };
            }
        }
        Ok(found.or(below))
    }

    fn expected_page(&self, run: &Run, key: &Key) -> u64 {
        let [a, b, c, d, e, f, ..] = key.0;
        let prefix = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        let position = (u128::from(prefix) * u128::from(run.keys)) >> 48;
        (position as u64 / KEYS_PER_PAGE as u64).min(run.pages().saturating_sub(1))
    }

    pub(super) fn page(&self, run: &Run, n: u64) -> Result<Option<Page>, Error> {
        Page::read(&self.file, &self.path, &self.header.id, run, n)
    }
}
