//! What a changeset says of itself.

use std::collections::BTreeMap;
use std::path::Path;

use hgci_core::Node;

use crate::error::{Error, Result};

/// When a changeset was made, as its author's clock said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    /// Seconds since 1970, UTC.
    pub seconds: i64,
    /// The author's time zone: seconds *west* of UTC, as Mercurial has it.
    pub offset: i32,
}

/// A changeset, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changeset {
    /// Its name.
    pub node: Node,
    /// Its parents: none for a root, two for a merge.
    pub parents: Vec<Node>,
    /// The named branch. Bytes that are not UTF-8 are replaced here and in other texts.
    pub branch: String,
    /// Whether it closes its branch.
    pub closes_branch: bool,
    /// The author as given to `hg commit -u`.
    pub author: String,
    /// When it was made.
    pub date: Date,
    /// The commit message.
    pub description: String,
    /// The files that it touches, removed ones too, as bytes relative to the root, sorted.
    pub files: Vec<Vec<u8>>,
    /// What extensions keep with it (`topic`, `source`, …); `branch` and `close` too.
    pub extra: BTreeMap<String, Vec<u8>>,
    /// Its manifest.
    pub manifest: Node,
}

impl Changeset {
    /// The value of an extra as text.
    pub fn extra_text(&self, key: &str) -> Option<String> {
        self.extra.get(key).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// The first line of the description.
    pub fn summary(&self) -> &str {
        self.description.lines().next().unwrap_or_default()
    }

    /// Parses a revision of the changelog: manifest, author, date with extras, files, an empty
    /// line, the description.
    pub(crate) fn parse(repo: &Path, node: Node, parents: Vec<Node>, text: &[u8]) -> Result<Self> {
        let corrupt = |what: &str| Error::Corrupt {
            path: repo.to_owned(),
            why: format!("changeset {node}: {what}"),
        };
        // A changeset that was made without any data has no text at all.
        let text = if text.is_empty() {
            b"0000000000000000000000000000000000000000\n\n0 0\n\n".as_slice()
        } else {
            text
        };
        let mut rest = text;
        let mut line = || {
            let end = rest.iter().position(|byte| *byte == b'\n')?;
            let line = &rest[..end];
            rest = &rest[end + 1..];
            Some(line)
        };
        let manifest = line()
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| hex.parse().ok())
            .ok_or_else(|| corrupt("no manifest in the first line"))?;
        let author = line().ok_or_else(|| corrupt("no author"))?;
        let date = line().ok_or_else(|| corrupt("no date"))?;
        let mut files = Vec::new();
        loop {
            match line() {
                Some(b"") => break,
                Some(file) => files.push(file.to_vec()),
                None => return Err(corrupt("no empty line after the files")),
            }
        }
        let mut date = date.splitn(3, |byte| *byte == b' ');
        let seconds = number(date.next()).ok_or_else(|| corrupt("no time in its date"))?;
        let offset = zone(date.next());
        let extra = date.next().map(decode_extra).unwrap_or_default();
        let branch = match extra.get("branch") {
            Some(branch) => String::from_utf8_lossy(branch).into_owned(),
            None => "default".to_owned(),
        };
        Ok(Changeset {
            node,
            parents,
            branch,
            closes_branch: extra.contains_key("close"),
            author: String::from_utf8_lossy(author).into_owned(),
            date: Date { seconds, offset },
            description: String::from_utf8_lossy(rest).into_owned(),
            files,
            extra,
            manifest,
        })
    }
}

/// A time may be written as a float; Mercurial drops its fraction.
fn number(text: Option<&[u8]>) -> Option<i64> {
    let text = std::str::from_utf8(text?).ok()?;
    text.parse().ok().or_else(|| {
        let float: f64 = text.parse().ok()?;
        float.is_finite().then_some(float as i64)
    })
}

/// Various tools wrote nonsense for the zone; like Mercurial, that is taken as UTC.
fn zone(text: Option<&[u8]>) -> i32 {
    text.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok()).unwrap_or(0)
}

/// Pairs `key:value`, each escaped, between NULs. What is no pair is left out.
fn decode_extra(text: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let pair = |text: &[u8]| {
        let text = unescape(text);
        let colon = text.iter().position(|byte| *byte == b':')?;
        Some((String::from_utf8_lossy(&text[..colon]).into_owned(), text[colon + 1..].to_vec()))
    };
    text.split(|byte| *byte == 0).filter_map(pair).collect()
}

/// Undoes the escapes that Mercurial writes into extras: NUL, newline, carriage return, backslash.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'0') => out.push(0),
            Some(b'n') => out.push(b'\n'),
            Some(b'r') => out.push(b'\r'),
            Some(b'\\') => out.push(b'\\'),
            Some(other) => out.extend([b'\\', other]),
            None => out.push(b'\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Changeset> {
        let hex = "0123456789abcdef0123456789abcdef01234567";
        let text = text.replace("MANIFEST", hex);
        Changeset::parse(Path::new("/r"), Node::NULL, vec![], text.as_bytes())
    }

    #[test]
    fn a_changeset_is_parsed_with_its_extras() {
        let changeset = parse(
            "MANIFEST\nJane <j@x>\n1700000000 -3600 branch:stable\0close:1\0note:a\\nb\\\\0c\nsrc/a b\nz\n\nfirst\n\nthird",
        )
        .unwrap();
        assert_eq!(changeset.author, "Jane <j@x>");
        assert_eq!(changeset.date, Date { seconds: 1_700_000_000, offset: -3600 });
        assert_eq!((changeset.branch.as_str(), changeset.closes_branch), ("stable", true));
        assert_eq!(changeset.extra["note"], b"a\nb\\0c");
        assert_eq!(changeset.files, [b"src/a b".to_vec(), b"z".to_vec()]);
        assert_eq!(changeset.description, "first\n\nthird");
        assert_eq!(changeset.summary(), "first");
    }

    #[test]
    fn a_changeset_without_author_files_or_text_is_parsed() {
        let changeset = parse("MANIFEST\n\n0 0\n\nmessage").unwrap();
        assert_eq!((changeset.author.as_str(), changeset.description.as_str()), ("", "message"));
        assert!(changeset.files.is_empty());
        assert_eq!(parse("").unwrap().branch, "default");
        assert_eq!(parse("MANIFEST\nx\n0 0\n\n").unwrap().description, "");
    }

    #[test]
    fn a_zone_that_is_none_is_utc() {
        for (zone, offset) in [("EST", 0), ("-3600", -3600), ("1.5", 0), ("99999999999", 0)] {
            let changeset = parse(&format!("MANIFEST\nx\n1700000000 {zone}\n\n")).unwrap();
            assert_eq!(changeset.date, Date { seconds: 1_700_000_000, offset }, "{zone}");
        }
    }

    #[test]
    fn what_is_no_changeset_is_refused() {
        for text in
            ["x", "MANIFEST\n\n", "MANIFEST\nx\n\n", "MANIFEST\nx\nnever\n\n", "no\nx\n0 0\n\n"]
        {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
