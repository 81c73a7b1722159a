//! A table of a document, read key by key.

use std::rc::Rc;

use toml::de::DeTable;

use super::{Document, Key, Place, Value, did_you_mean, nearest, quoted};

/// A table that is being read. Ask for every key that it may have, then [`Table::finish`] it:
/// what nobody asked for is a mistake.
pub struct Table<'d> {
    document: &'d Document<'d>,
    table: &'d DeTable<'d>,
    /// How messages call it: the dotted path from the root, empty for the root.
    name: Rc<str>,
    at: usize,
    known: Vec<&'static str>,
    refused: Vec<&'static str>,
}

impl<'d> Table<'d> {
    pub(super) fn new(
        document: &'d Document<'d>,
        table: &'d DeTable<'d>,
        name: Rc<str>,
        at: usize,
    ) -> Self {
        Table { document, table, name, at, known: Vec::new(), refused: Vec::new() }
    }

    /// The value of a key that may be missing.
    pub fn take(&mut self, key: &'static str) -> Option<Value<'d>> {
        self.known.push(key);
        let value = self.table.get(key)?;
        Some(Value::new(self.document, value, self.path(key)))
    }

    /// The value of a key that must be there; a mistake if it is missing.
    pub fn need(&mut self, key: &'static str) -> Option<Value<'d>> {
        self.need_or(key, None)
    }

    /// As [`Table::need`], with a hint for who left it out.
    pub fn need_or(&mut self, key: &'static str, hint: Option<&str>) -> Option<Value<'d>> {
        let value = self.take(key);
        // A misspelt key is told as such, not as a missing one too.
        if value.is_none() && !self.keys().any(|name| nearest(name, [key]).is_some()) {
            let message = format!("{}{} is missing", quoted(key), self.inside());
            self.mistake(message, hint.map(str::to_owned));
        }
        value
    }

    /// A key that is understood but not allowed here: a mistake if it is given. Returns whether
    /// it is.
    pub fn refuse(&mut self, key: &'static str, message: &str, hint: Option<&str>) -> bool {
        self.refused.push(key);
        let Some((key, _)) = self.table.get_key_value(key) else { return false };
        self.document.add(key.span().start, message.to_owned(), hint.map(str::to_owned));
        true
    }

    /// Every key and its value in the order of the file, for tables whose keys are the user's.
    pub fn entries(&self) -> Vec<(Key<'d>, Value<'d>)> {
        let mut entries: Vec<_> = self
            .table
            .iter()
            .map(|(key, value)| {
                let path = self.path(key.get_ref());
                (Key::new(self.document, key), Value::new(self.document, value, path))
            })
            .collect();
        entries.sort_by_key(|(key, _)| key.offset());
        entries
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether it has no keys.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Where its header is in the file, for what is found out later.
    pub fn place(&self) -> Place {
        self.document.place(self.at)
    }

    /// Adds a mistake about the table as a whole, at its header.
    pub fn mistake(&self, message: impl Into<String>, hint: Option<String>) {
        self.document.add(self.at, message.into(), hint);
    }

    /// Adds a mistake for each key that was not asked for.
    pub fn finish(self) {
        let names = || self.known.iter().chain(&self.refused).copied();
        for (key, _) in self.table {
            let name: &str = key.get_ref();
            if names().any(|known| known == name) {
                continue;
            }
            // Rather one that is not there yet.
            let missing = names().filter(|known| !self.table.contains_key(*known));
            let hint = did_you_mean(name, missing)
                .or_else(|| did_you_mean(name, names()))
                .or_else(|| self.list());
            let message = format!("unknown key {}{}", quoted(name), self.inside());
            self.document.add(key.span().start, message, hint);
            if self.document.is_full() {
                break;
            }
        }
    }

    /// The keys that it may have, for a hint.
    fn list(&self) -> Option<String> {
        let mut known: Vec<_> = self.known.iter().map(|key| quoted(key)).collect();
        known.sort();
        (!known.is_empty()).then(|| format!("known here: {}", known.join(", ")))
    }

    fn keys(&self) -> impl Iterator<Item = &'d str> {
        self.table.keys().map(|key| key.get_ref().as_ref())
    }

    /// " in `job.test`", or nothing for the root.
    fn inside(&self) -> String {
        if self.name.is_empty() { String::new() } else { format!(" in {}", quoted(&self.name)) }
    }

    fn path(&self, key: &str) -> Rc<str> {
        if self.name.is_empty() { key.into() } else { format!("{}.{key}", self.name).into() }
    }
}
