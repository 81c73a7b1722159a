//! Counting the test cases of a JUnit XML report.
//!
//! A report is written by the job, so by anyone. It is read as a stream, and every dimension of
//! it has a limit: bytes, bytes of one token, depth. Entities are never expanded, external ones
//! never fetched.

use std::cell::Cell;
use std::io::{self, BufRead, Read};

use hgci_core::result::Tests;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// The most bytes of one report.
pub const MAX_REPORT: u64 = 64 << 20;

/// The most bytes of one token: a tag with its attributes, a text (a test's whole output), a
/// comment. It is what has to be in memory.
const MAX_TOKEN: usize = 16 << 20;

/// How deep elements may be nested.
const MAX_DEPTH: usize = 128;

/// Why a report has no counts.
#[derive(Debug, thiserror::Error)]
pub enum JunitError {
    /// It cannot be read from disk.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// It is not XML.
    #[error("not XML, at byte {at}: {why}")]
    Malformed {
        /// How far reading came.
        at: u64,
        /// What is wrong there.
        why: String,
    },
    /// It is XML, but no JUnit report.
    #[error("no JUnit report: its root is <{0}>, not <testsuites> or <testsuite>")]
    NotJunit(String),
    /// More than [`MAX_REPORT`].
    #[error("larger than 64 MiB")]
    TooLarge,
    /// More than what was left of the budget.
    #[error("larger than what may be read of all reports")]
    Spent,
    /// One text or tag is too long.
    #[error("a text or tag longer than 16 MiB")]
    TokenTooLong,
    /// Nested too deep.
    #[error("elements nested deeper than 128")]
    TooDeep,
}

/// Counts the `<testcase>` elements of one report, which takes its bytes from the `budget`. One with an `<error>` or a `<failure>` has
/// failed, else one with a `<skipped>` was skipped, else it passed.
pub fn count(report: impl BufRead, budget: &mut u64) -> Result<Tests, JunitError> {
    let limit = MAX_REPORT.min(*budget);
    let whole = Cell::new(limit);
    let counted = count_within(report, &whole);
    *budget -= limit - whole.get();
    match counted {
        Err(JunitError::TooLarge) if *budget == 0 => Err(JunitError::Spent),
        counted => counted,
    }
}

fn count_within(report: impl BufRead, whole: &Cell<u64>) -> Result<Tests, JunitError> {
    let token = Cell::new(MAX_TOKEN);
    let limit = whole.get();
    let mut reader = Reader::from_reader(Limited { inner: report, token: &token, whole });
    let mut buffer = Vec::new();
    let mut tests = Tests::default();
    let mut depth: usize = 0;
    // The depth of the test case that we are in, and what was seen in it.
    let mut case: Option<(usize, Seen)> = None;
    loop {
        buffer.clear();
        token.set(MAX_TOKEN);
        let event = match reader.read_event_into(&mut buffer) {
            Ok(event) => event,
            Err(_) if whole.get() == 0 => return Err(JunitError::TooLarge),
            Err(_) if token.get() == 0 => return Err(JunitError::TokenTooLong),
            Err(quick_xml::Error::Io(error)) => {
                return Err(io::Error::new(error.kind(), error.to_string()).into());
            }
            Err(error) => return Err(malformed(reader.error_position(), &error)),
        };
        match event {
            Event::Start(tag) => {
                enter(&tag, depth, &mut case)?;
                depth += 1;
            }
            Event::Empty(tag) => {
                enter(&tag, depth, &mut case)?;
                leave(depth, &mut case, &mut tests);
            }
            Event::End(_) => {
                depth = depth.saturating_sub(1);
                leave(depth, &mut case, &mut tests);
            }
            Event::Eof if depth > 0 => {
                let at = reader.buffer_position();
                return Err(malformed(at, &"it ends in the middle"));
            }
            Event::Eof if whole.get() == limit => {
                return Err(malformed(0, &"it is empty"));
            }
            Event::Eof => return Ok(tests),
            _ => {}
        }
    }
}

fn malformed(at: u64, why: &dyn std::fmt::Display) -> JunitError {
    let why = why.to_string().chars().take(200).collect();
    JunitError::Malformed { at, why }
}

#[derive(Clone, Copy, Default)]
struct Seen {
    failed: bool,
    skipped: bool,
}

fn enter(
    tag: &BytesStart<'_>,
    depth: usize,
    case: &mut Option<(usize, Seen)>,
) -> Result<(), JunitError> {
    if depth == MAX_DEPTH {
        return Err(JunitError::TooDeep);
    }
    let name = tag.local_name();
    let name = name.as_ref();
    if depth == 0 && name != b"testsuites" && name != b"testsuite" {
        let name = name[..name.len().min(64)].escape_ascii().to_string();
        return Err(JunitError::NotJunit(name));
    }
    match (name, case) {
        (b"testcase", case @ None) => *case = Some((depth, Seen::default())),
        (b"failure" | b"error", Some((at, seen))) if depth == *at + 1 => seen.failed = true,
        (b"skipped", Some((at, seen))) if depth == *at + 1 => seen.skipped = true,
        _ => {}
    }
    Ok(())
}

fn leave(depth: usize, case: &mut Option<(usize, Seen)>, tests: &mut Tests) {
    let Some((at, seen)) = *case else { return };
    if at == depth {
        let count = match seen {
            Seen { failed: true, .. } => &mut tests.failed,
            Seen { skipped: true, .. } => &mut tests.skipped,
            _ => &mut tests.passed,
        };
        *count = count.saturating_add(1);
        *case = None;
    }
}

/// Ends the reading when a token or the whole is too long. The cells hold what is left of each.
struct Limited<'a, R> {
    inner: R,
    token: &'a Cell<usize>,
    whole: &'a Cell<u64>,
}

impl<R: BufRead> Read for Limited<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let n = available.len().min(buffer.len());
        buffer[..n].copy_from_slice(&available[..n]);
        self.consume(n);
        Ok(n)
    }
}

impl<R: BufRead> BufRead for Limited<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let available = self.inner.fill_buf()?;
        if !available.is_empty() && (self.token.get() == 0 || self.whole.get() == 0) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let whole = usize::try_from(self.whole.get()).unwrap_or(usize::MAX);
        Ok(&available[..available.len().min(self.token.get()).min(whole)])
    }

    fn consume(&mut self, n: usize) {
        self.inner.consume(n);
        self.token.set(self.token.get().saturating_sub(n));
        self.whole.set(self.whole.get().saturating_sub(n as u64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(u32, u32, u32), JunitError> {
        count(text.as_bytes(), &mut { u64::MAX }).map(|t| (t.passed, t.failed, t.skipped))
    }

    #[test]
    fn cases_are_counted_as_mercurial_pytest_and_junit_write_them() {
        let text = r#"<?xml version="1.0" encoding="utf-8"?>
            <testsuites><testsuite name="run-tests" tests="5" errors="0">
            <testcase name="a" time="0.1"/>
            <testcase name="b"><failure message="x"><![CDATA[<testcase/>]]></failure></testcase>
            <testcase name="c"><error/><skipped/></testcase>
            <testcase name="d"><skipped><![CDATA[missing feature]]></skipped></testcase>
            <testcase name="e"><system-out>&lol; <failure/></system-out></testcase>
            </testsuite></testsuites>"#;
        assert_eq!(read(text).unwrap(), (2, 2, 1));
        assert_eq!(read("<testsuite/>").unwrap(), (0, 0, 0));
    }

    #[test]
    fn entities_are_not_expanded() {
        let mut text = String::from("<!DOCTYPE t [<!ENTITY a0 \"lol\">");
        for n in 1..100 {
            text += &format!("<!ENTITY a{n} \"&a{0};&a{0};&a{0};&a{0};\">", n - 1);
        }
        text += "<!ENTITY x SYSTEM \"file:///etc/passwd\">]>";
        text += "<testsuite><testcase>&a99;&x;</testcase></testsuite>";
        assert_eq!(read(&text).unwrap(), (1, 0, 0));
    }

    #[test]
    fn what_is_no_report_says_so() {
        let refused = |text: &str| read(text).unwrap_err().to_string();
        assert!(refused("").contains("empty"));
        assert!(refused("<html></html>").contains("<html>"));
        assert!(refused("<testsuite><testcase>").contains("ends in the middle"));
        assert!(refused("<testsuite></testcase>").contains("not XML"));
        assert!(refused("\u{0}\u{1}<<<<").contains("not XML"));
    }

    #[test]
    fn depth_length_and_size_are_limited() {
        assert!(matches!(read(&"<testsuite>".repeat(100_000)), Err(JunitError::TooDeep)));
        let start: &[u8] = b"<testsuite><testcase><system-out>";
        let endless = start.chain(io::repeat(b'x'));
        let mut budget = u64::MAX;
        let mut read = |report: &mut dyn Read| count(io::BufReader::new(report), &mut budget);
        assert!(matches!(read(&mut { endless }), Err(JunitError::TokenTooLong)));
        let cases = || (b"<testsuite>" as &[u8]).chain(Cases(0));
        assert!(matches!(read(&mut cases()), Err(JunitError::TooLarge)));
        let mut budget = 1000;
        let spent = count(io::BufReader::new(cases()), &mut budget);
        assert!(matches!(spent, Err(JunitError::Spent)));
        assert_eq!(budget, 0);
    }

    /// `<testcase/>` for ever.
    struct Cases(usize);

    impl Read for Cases {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            for byte in buffer.iter_mut() {
                *byte = b"<testcase/>"[self.0 % 11];
                self.0 += 1;
            }
            Ok(buffer.len())
        }
    }
}
