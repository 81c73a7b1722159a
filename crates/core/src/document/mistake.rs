//! One thing that is wrong in a file, and the list of them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::MAX_SIZE;

/// The most mistakes of one file that are kept; one more says that there are more.
pub const MAX_MISTAKES: usize = 100;

/// One thing that is wrong in a file. Shown as `FILE:LINE:COLUMN: message (hint)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mistake {
    /// The file, as the reader was told to call it.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column, in characters from 1. A tab is one character; a byte order mark is none.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// A place in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The line, from 1.
    pub line: u32,
    /// The column, as in [`Mistake`].
    pub column: u32,
}

/// The mistakes of one text, as they are found: byte offset, message, hint.
#[derive(Default)]
pub(super) struct Mistakes {
    found: Vec<(usize, String, Option<String>)>,
    more: Option<usize>,
}

impl Mistakes {
    /// Keeps the mistake, unless there are enough already.
    pub(super) fn add(&mut self, offset: usize, message: String, hint: Option<String>) {
        if self.found.len() < MAX_MISTAKES {
            self.found.push((offset, message, hint));
        } else {
            self.more.get_or_insert(offset);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Whether what would be added now is dropped, so that looking for more is in vain.
    pub(super) fn is_full(&self) -> bool {
        self.more.is_some()
    }

    /// The mistakes in the order of the file, without repetitions.
    pub(super) fn into_sorted(mut self, file: &str, text: &str) -> Vec<Mistake> {
        // Stable: what was found first at one place is told first.
        self.found.sort_by_key(|(offset, ..)| *offset);
        self.found.dedup();
        if let Some(offset) = self.more {
            let message = format!("more mistakes than {MAX_MISTAKES}; the rest is not shown");
            self.found.push((offset, message, None));
        }
        self.found
            .into_iter()
            .map(|(offset, message, hint)| {
                let (line, column) = position(text, offset);
                Mistake { file: file.to_owned(), line, column, message, hint }
            })
            .collect()
    }
}

/// Line and column, both from 1, of a byte offset; one past the end is a position too.
pub(super) fn position(text: &str, offset: usize) -> (u32, u32) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let mut columns = before[start..].chars().count();
    if start == 0 && before.starts_with('\u{feff}') {
        columns -= 1;
    }
    let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    (narrow(line), narrow(columns + 1))
}

/// What is said of a document that is too large to be read, without reading it.
pub fn too_large(file: &str, size: u64) -> Mistake {
    Mistake {
        file: file.to_owned(),
        line: 1,
        column: 1,
        message: format!("the file is too large: {size} bytes, at most {MAX_SIZE} are read"),
        hint: Some("put what is long into files of its own".to_owned()),
    }
}

/// What is said of a symbolic link where a document should be: what it leads to is not in the
/// changeset, or is read by nobody else who looks there.
pub fn symlink(file: &str) -> Mistake {
    Mistake {
        file: file.to_owned(),
        line: 1,
        column: 1,
        message: format!("`{file}` is a symbolic link; it must be a regular file"),
        hint: Some("put the content itself there".to_owned()),
    }
}

/// The text of a document, or what is wrong with its bytes: the part before that is text, a
/// message and a hint.
pub(super) fn decode(bytes: &[u8]) -> Result<&str, (&str, String, String)> {
    if bytes.len() > MAX_SIZE {
        let Mistake { message, hint, .. } = too_large("", bytes.len() as u64);
        return Err(("", message, hint.unwrap_or_default()));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let (valid, rest) = bytes.split_at(error.valid_up_to());
        // What from_utf8 has just found valid.
        let valid = std::str::from_utf8(valid).unwrap_or_default();
        let byte = rest.first().copied().unwrap_or_default();
        (valid, format!("byte 0x{byte:02x} is not UTF-8"), "save the file as UTF-8".into())
    })
}
