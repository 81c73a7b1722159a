//! A value of a document, and the kinds that it can be read as.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::{Document, Place, Table, did_you_mean, quoted};
use crate::quantity::{NotAQuantity, parse_duration, parse_size};

/// A key that the user chose.
#[derive(Clone, Copy)]
pub struct Key<'d> {
    document: &'d Document<'d>,
    key: &'d Spanned<Cow<'d, str>>,
}

impl<'d> Key<'d> {
    pub(super) fn new(document: &'d Document<'d>, key: &'d Spanned<Cow<'d, str>>) -> Self {
        Key { document, key }
    }

    /// The key, unquoted.
    pub fn text(&self) -> &'d str {
        self.key.get_ref()
    }

    /// Adds a mistake about the key.
    pub fn mistake(&self, message: impl Into<String>, hint: Option<String>) {
        self.document.add(self.offset(), message.into(), hint);
    }

    pub(super) fn offset(&self) -> usize {
        self.key.span().start
    }
}

/// A value. Reading it as a kind that it is not adds a mistake and gives `None`.
#[derive(Clone)]
pub struct Value<'d> {
    document: &'d Document<'d>,
    value: &'d Spanned<DeValue<'d>>,
    /// How messages call it: the dotted path from the root.
    name: Rc<str>,
}

impl<'d> Value<'d> {
    pub(super) fn new(
        document: &'d Document<'d>,
        value: &'d Spanned<DeValue<'d>>,
        name: Rc<str>,
    ) -> Self {
        Value { document, value, name }
    }

    /// A string.
    pub fn string(&self) -> Option<&'d str> {
        match self.value.get_ref() {
            DeValue::String(text) => Some(text),
            DeValue::Array(_) | DeValue::Table(_) => self.wrong_kind("a string", None),
            _ => self.wrong_kind("a string", Some("put it in quotes")),
        }
    }

    /// `true` or `false`.
    pub fn boolean(&self) -> Option<bool> {
        match self.value.get_ref() {
            DeValue::Boolean(value) => Some(*value),
            _ => self.wrong_kind("`true` or `false`", None),
        }
    }

    /// A whole number.
    pub fn integer(&self) -> Option<i64> {
        let DeValue::Integer(number) = self.value.get_ref() else {
            return self.wrong_kind("a whole number", None);
        };
        let value = i64::from_str_radix(number.as_str(), number.radix());
        value.map_err(|_| self.wrong("the number is too large", None)).ok()
    }

    /// A whole number from 0.
    pub fn count(&self) -> Option<u32> {
        let value = self.integer()?;
        let text = if value < 0 { "must not be negative" } else { "the number is too large" };
        u32::try_from(value).map_err(|_| self.wrong(text, None)).ok()
    }

    /// A duration as [`parse_duration`] reads it.
    pub fn duration(&self) -> Option<Duration> {
        const HINT: &str = "write \"90s\", \"10m\" or \"1h30m\"";
        match self.value.get_ref() {
            DeValue::String(text) => self.quantity(text, parse_duration(text)),
            _ => self.wrong_kind("a duration", Some(HINT)),
        }
    }

    /// A size in bytes as [`parse_size`] reads it.
    pub fn size(&self) -> Option<u64> {
        const HINT: &str = "write \"64KiB\", \"512MiB\" or \"1GiB\"";
        match self.value.get_ref() {
            DeValue::String(text) => self.quantity(text, parse_size(text)),
            _ => self.wrong_kind("a size", Some(HINT)),
        }
    }

    fn quantity<T>(&self, text: &str, read: Result<T, NotAQuantity>) -> Option<T> {
        read.map_err(|error| self.wrong(&format!("{}: {error}", quoted(text)), None)).ok()
    }

    /// One of several words, each with what it stands for.
    pub fn one_of<T: Clone>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.string()?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Some(meaning.clone());
        }
        let list: Vec<_> = words.iter().map(|(word, _)| quoted(word)).collect();
        let hint = did_you_mean(text, words.iter().map(|(word, _)| *word))
            .unwrap_or_else(|| format!("one of {}", list.join(", ")));
        self.wrong(&format!("unknown value {}", quoted(text)), Some(hint));
        None
    }

    /// Whether it is an array without values.
    pub fn is_empty_array(&self) -> bool {
        matches!(self.value.get_ref(), DeValue::Array(values) if values.is_empty())
    }

    /// The values of an array.
    pub fn array(&self) -> Option<Vec<Value<'d>>> {
        match self.value.get_ref() {
            DeValue::Array(values) => Some(self.elements(values.iter())),
            _ => self.wrong_kind("an array", None),
        }
    }

    /// The strings of an array, each with its value for further mistakes. What is no string is
    /// told and left out.
    pub fn strings(&self) -> Option<Vec<(&'d str, Value<'d>)>> {
        match self.value.get_ref() {
            DeValue::Array(values) => {
                let values = self.elements(values.iter());
                Some(values.into_iter().filter_map(|v| Some((v.string()?, v))).collect())
            }
            DeValue::String(text) => {
                let hint = format!("write [{}]", quoted(text).replace('`', "\""));
                self.wrong_kind("an array of strings", Some(&hint))
            }
            _ => self.wrong_kind("an array of strings", None),
        }
    }

    /// A string, or the strings of an array.
    pub fn string_or_strings(&self) -> Option<Vec<(&'d str, Value<'d>)>> {
        match self.value.get_ref() {
            DeValue::String(text) => Some(vec![(text, self.clone())]),
            DeValue::Array(_) => self.strings(),
            _ => self.wrong_kind("a string or an array of strings", None),
        }
    }

    /// A table.
    pub fn table(&self) -> Option<Table<'d>> {
        match self.value.get_ref() {
            DeValue::Table(table) => {
                Some(Table::new(self.document, table, self.name.clone(), self.value.span().start))
            }
            _ => self.wrong_kind("a table", None),
        }
    }

    /// The tables of an array, as `[[repo]]` makes them.
    pub fn tables(&self) -> Option<Vec<Table<'d>>> {
        match self.value.get_ref() {
            DeValue::Array(values) => {
                let values = self.elements(values.iter());
                Some(values.iter().filter_map(Value::table).collect())
            }
            DeValue::Table(_) => {
                let hint = format!("write [[{}]]", self.name);
                self.wrong_kind("an array of tables", Some(&hint))
            }
            _ => self.wrong_kind("an array of tables", None),
        }
    }

    /// Where it is in the file, for what is found out later.
    pub fn place(&self) -> Place {
        self.document.place(self.value.span().start)
    }

    /// Adds a mistake about the value. Its name is put in front of the message.
    pub fn mistake(&self, message: impl AsRef<str>, hint: Option<String>) {
        self.wrong(message.as_ref(), hint);
    }

    fn elements<'v>(
        &self,
        values: impl Iterator<Item = &'d Spanned<DeValue<'d>>>,
    ) -> Vec<Value<'d>> {
        values.map(|value| Value::new(self.document, value, self.name.clone())).collect()
    }

    fn wrong(&self, message: &str, hint: Option<String>) {
        if self.document.is_full() {
            // An array may have half a million wrong values; their messages cost more than reading.
            return;
        }
        let message = format!("{}: {message}", quoted(&self.name));
        self.document.add(self.value.span().start, message, hint);
    }

    fn wrong_kind<T>(&self, expected: &str, hint: Option<&str>) -> Option<T> {
        let found = match self.value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        self.wrong(&format!("expected {expected}, found {found}"), hint.map(str::to_owned));
        None
    }
}
