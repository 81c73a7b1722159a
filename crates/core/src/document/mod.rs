//! Reading TOML that people write, with the position of everything that is wrong in it.
//!
//! serde stops at the first mistake and forgets where it was. This reader goes on, so that one run
//! names every mistake of a file: syntax, duplicate and unknown keys (with the nearest known one),
//! types, durations and sizes. The pipeline and the daemon's configuration are both read with it.
//!
//! ```
//! use hgci_core::document::Document;
//!
//! let document = Document::parse("demo.toml", b"name = 'x'\nslot = 2\n").unwrap();
//! let mut root = document.root();
//! let name = root.need("name").and_then(|value| value.string());
//! let slots = root.take("slots").and_then(|value| value.count());
//! root.finish(); // names the keys that nobody asked for
//! let mistakes = document.finish((name, slots)).unwrap_err();
//! assert_eq!(
//!     mistakes[0].to_string(),
//!     "demo.toml:2:1: unknown key `slot` (did you mean `slots`?)"
//! );
//! ```
//!
//! Input is hostile: [`MAX_SIZE`], [`MAX_DEPTH`] and [`MAX_MISTAKES`] bound time and memory.

mod mistake;
mod nearest;
mod syntax;
mod table;
mod value;

use std::cell::RefCell;

use toml::de::DeTable;

use mistake::Mistakes;
pub use mistake::{MAX_MISTAKES, Mistake, Place, symlink, too_large};
pub use nearest::{did_you_mean, nearest, quoted};
pub use table::Table;
pub use value::{Key, Value};

/// The most bytes of a document.
pub const MAX_SIZE: usize = 1 << 20;

/// The most levels of tables and arrays inside each other.
pub const MAX_DEPTH: usize = 32;

/// A document whose syntax is sound, and what was found wrong with its content so far.
pub struct Document<'i> {
    file: String,
    text: &'i str,
    table: DeTable<'i>,
    mistakes: RefCell<Mistakes>,
}

impl<'i> Document<'i> {
    /// Reads the syntax of a document. `file` is its name in mistakes.
    ///
    /// The error lists what is wrong with size, encoding or syntax. Keys that are given twice are
    /// found here too, but told by [`Document::finish`] together with what else is wrong.
    pub fn parse(file: &str, bytes: &'i [u8]) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Mistakes::default();
        let text = match mistake::decode(bytes) {
            Ok(text) => text,
            Err((valid, message, hint)) => {
                mistakes.add(valid.len(), message, Some(hint));
                return Err(mistakes.into_sorted(file, valid));
            }
        };
        syntax::check(text, &mut mistakes);
        if !mistakes.is_empty() {
            return Err(mistakes.into_sorted(file, text));
        }
        // What is left to find are keys that exclude each other.
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let span = error.span().unwrap_or_default();
            let (message, hint) = syntax::clash(error.message(), text.get(span.clone()));
            mistakes.add(span.start, message, hint);
        }
        let table = table.into_inner();
        Ok(Document { file: file.to_owned(), text, table, mistakes: RefCell::new(mistakes) })
    }

    /// The table of the whole document.
    pub fn root(&self) -> Table<'_> {
        Table::new(self, &self.table, "".into(), 0)
    }

    /// `value`, if nothing was found wrong; else the mistakes in the order of the file,
    /// which it then forgets.
    pub fn finish<T>(&self, value: T) -> Result<T, Vec<Mistake>> {
        let mistakes = self.mistakes.take();
        if mistakes.is_empty() {
            Ok(value)
        } else {
            Err(mistakes.into_sorted(&self.file, self.text))
        }
    }

    /// Whether there are so many mistakes that no more are kept.
    fn is_full(&self) -> bool {
        self.mistakes.borrow().is_full()
    }

    /// The place of a byte offset of the text.
    fn place(&self, offset: usize) -> Place {
        let (line, column) = mistake::position(self.text, offset);
        Place { line, column }
    }

    /// Adds a mistake at a byte offset of the text.
    fn add(&self, offset: usize, message: String, hint: Option<String>) {
        self.mistakes.borrow_mut().add(offset, message, hint);
    }
}
