//! The syntax of a document, checked before anything is built from it.
//!
//! `toml` bounds the depth of its recursion per value and per key, which multiply; and it keeps
//! every error of a file that may consist of nothing else. So the events of its parser are looked
//! at first, and a document that is wrong or too deep is never built.

use std::borrow::Cow;

use toml_parser::decoder::Encoding;
use toml_parser::parser::{EventReceiver, ValidateWhitespace};
use toml_parser::{ErrorSink, Expected, ParseError, Raw, Source, Span};

use super::MAX_DEPTH;
use super::mistake::Mistakes;
use super::quoted;

/// Adds what is wrong with the syntax of `text`: one mistake a line, since what follows on the
/// same line mostly follows from it.
pub(super) fn check(text: &str, mistakes: &mut Mistakes) {
    let source = Source::new(text);
    let tokens = source.lex().into_vec();
    let mut told = 0..0;
    let mut sink = |error: ParseError| {
        let offset = error.unexpected().map_or(0, |span| span.start()).min(text.len());
        if !told.contains(&offset) && !mistakes.is_full() {
            let (before, after) = text.as_bytes().split_at(offset);
            let newline = |byte: &u8| *byte == b'\n';
            told.start = before.iter().rposition(newline).map_or(0, |at| at + 1);
            told.end = offset + after.iter().position(newline).unwrap_or(after.len()) + 1;
            mistakes.add(offset, describe(&error), None);
        }
    };
    let mut depth = Depth::new(source);
    let mut receiver = ValidateWhitespace::new(&mut depth, source);
    toml_parser::parser::parse_document(&tokens, &mut receiver, &mut sink);
}

/// The parser's words for what is wrong.
fn describe(error: &ParseError) -> String {
    // What the parser says of anything that is no number, no date and not quoted, so of nothing too.
    if error.description() == "string values must be quoted" {
        let nothing = error.unexpected().is_none_or(|span| span.is_empty());
        return if nothing { "the value is missing" } else { "a string must be quoted" }.into();
    }
    let mut message = error.description().to_owned();
    for (n, expected) in error.expected().unwrap_or_default().iter().enumerate() {
        message += if n == 0 { ", expected " } else { " or " };
        match expected {
            Expected::Literal("\n") => message += "the end of the line",
            Expected::Literal(text) => message += &quoted(text),
            Expected::Description(text) => message += text,
            _ => message += "something else",
        }
    }
    message
}

/// Message and hint for keys that exclude each other: `error` is what `toml` says, `key` what is
/// written there.
pub(super) fn clash(error: &str, key: Option<&str>) -> (String, Option<String>) {
    match key {
        Some(key) if error == "duplicate key" => (
            format!("{} is given twice", quoted(key)),
            Some("a key or a table may be given once".into()),
        ),
        Some(key) => (format!("{error}: {}", quoted(key)), None),
        None => (error.to_owned(), None),
    }
}

/// Counts how deep the document goes, and has every key and scalar decoded.
struct Depth<'s> {
    source: Source<'s>,
    /// Levels that the current table's header makes.
    header: usize,
    /// The dots of the key that is being read: first the line's, then one for each array and
    /// inline table that is open.
    dots: Vec<usize>,
    in_header: bool,
    /// Whether it was said already that it is too deep.
    told: bool,
    /// Whether the parser skipped something since the last header. It then reports ends of arrays
    /// and tables whose begin it did not report, so `dots` no longer tells how deep it recurses.
    lost: bool,
}

const TOO_DEEP: &str = "nested too deeply, more than 32 levels";
const _: () = assert!(MAX_DEPTH == 32);

impl<'s> Depth<'s> {
    fn new(source: Source<'s>) -> Self {
        Depth { source, header: 0, dots: vec![0], in_header: false, told: false, lost: false }
    }

    /// Whether the document may go as deep as it does at `span`; says so if not.
    fn fits(&mut self, span: Span, error: &mut dyn ErrorSink) -> bool {
        let depth = self.header + self.dots.len() - 1 + self.dots.iter().sum::<usize>();
        let fits = depth <= MAX_DEPTH;
        if !fits && !self.told {
            self.told = true;
            error.report_error(ParseError::new(TOO_DEEP).with_unexpected(span));
        }
        fits
    }

    /// A table or an array begins. The parser skips what is in it if the answer is no, so that
    /// `dots` stays short.
    fn open(&mut self, span: Span, error: &mut dyn ErrorSink) -> bool {
        self.dots.push(0);
        self.fits(span, error) && !self.lost
    }

    /// A header of a table begins, so nothing is open.
    fn begin(&mut self, levels: usize) {
        (self.header, self.in_header, self.lost) = (levels, true, false);
        self.dots.clear();
        self.dots.push(0);
    }

    fn close(&mut self) {
        if self.dots.len() > 1 {
            self.dots.pop();
        }
    }

    /// The next key of the innermost table begins.
    fn next_key(&mut self) {
        if let Some(dots) = self.dots.last_mut() {
            *dots = 0;
        }
    }
}

impl EventReceiver for Depth<'_> {
    fn std_table_open(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.begin(1);
    }

    fn std_table_close(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.in_header = false;
    }

    fn array_table_open(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.begin(2);
    }

    fn array_table_close(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.in_header = false;
    }

    fn inline_table_open(&mut self, span: Span, error: &mut dyn ErrorSink) -> bool {
        self.open(span, error)
    }

    fn inline_table_close(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.close();
    }

    fn array_open(&mut self, span: Span, error: &mut dyn ErrorSink) -> bool {
        self.open(span, error)
    }

    fn array_close(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.close();
    }

    fn simple_key(&mut self, span: Span, encoding: Option<Encoding>, error: &mut dyn ErrorSink) {
        if let Some(raw) = self.source.get(span) {
            let raw = Raw::new_unchecked(raw.as_str(), encoding, span);
            raw.decode_key(&mut Cow::Borrowed(""), error);
        }
    }

    fn key_sep(&mut self, span: Span, error: &mut dyn ErrorSink) {
        if self.in_header {
            self.header += 1;
        } else if let Some(dots) = self.dots.last_mut() {
            *dots += 1;
        }
        self.fits(span, error);
    }

    fn scalar(&mut self, span: Span, encoding: Option<Encoding>, error: &mut dyn ErrorSink) {
        if let Some(raw) = self.source.get(span) {
            let raw = Raw::new_unchecked(raw.as_str(), encoding, span);
            let _ = raw.decode_scalar(&mut Cow::Borrowed(""), error);
        }
    }

    fn value_sep(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.next_key();
    }

    fn error(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.lost = true;
    }

    fn newline(&mut self, _: Span, _: &mut dyn ErrorSink) {
        if self.dots.len() == 1 {
            self.in_header = false;
            self.next_key();
        }
    }
}
