//! Hostile input for what the runner reads: reports, source streams, patterns, all of them written
//! by whoever wrote the changeset. See `crates/core/tests/fuzz.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "../../core/tests/fuzzing/mod.rs"]
mod fuzzing;

use hgci_runner::glob::Pattern;
use hgci_runner::junit;
use hgci_runner::tar::{Kind, Tar};

#[global_allocator]
static ALLOCATOR: fuzzing::Counting = fuzzing::Counting;

/// What is wrong, without the parts that differ from input to input.
fn kind(why: &str) -> String {
    let parts: Vec<_> = why.split('"').step_by(2).collect();
    parts.concat().chars().filter(|c| !c.is_ascii_digit()).take(60).collect()
}

#[test]
fn a_report_of_any_bytes_is_counted_or_refused() {
    let target = fuzzing::Target {
        name: "junit",
        seeds: &[
            b"<?xml version=\"1.0\"?><testsuites><testsuite name='a'><testcase name='b'/>\
              <testcase><failure message='&lt;'>x</failure></testcase><testcase><skipped/>\
              </testcase></testsuite></testsuites>",
            b"<!DOCTYPE t [<!ENTITY a 'b'><!ENTITY c '&a;&a;'>]><testsuite>&c;<![CDATA[<x>]]></testsuite>",
            b"\xff\xfe<\0t\0e\0s\0t\0",
        ],
        words: &[
            b"<testcase>", b"</testcase>", b"<testsuite>", b"<failure/>", b"<error>", b"<skipped/>",
            b"<![CDATA[", b"]]>", b"<!--", b"-->", b"<!DOCTYPE ", b"<!ENTITY ", b"&a;", b"&#x0;",
            b"<?xml ", b"?>", b"xmlns:a='b'",
        ],
        max_len: 16 << 10,
        max_memory: 1 << 20,
    };
    target.fuzz(|input| match junit::count(input, &mut { u64::MAX }) {
        Ok(tests) => {
            // Each case takes at least the bytes of its tag.
            let cases = tests.passed + tests.failed + tests.skipped;
            assert!(cases as usize * "<testcase/>".len() <= input.len());
            format!("fine {} {} {}", tests.passed > 0, tests.failed > 0, tests.skipped > 0)
        }
        Err(why) => kind(&why.to_string()),
    });
}

#[test]
fn a_source_stream_of_any_bytes_is_read_or_refused() {
    let target = fuzzing::Target {
        name: "tar",
        seeds: &[&member("src/a", b'0', b"content"), &member("pax", b'x', b"13 path=a/b\n"), b""],
        words: &[b"ustar\x0000", b"path=", b"linkpath=", b"size=", b"0000644\0", b"\x80\0\0\0"],
        max_len: 16 << 10,
        max_memory: 1 << 20,
    };
    target.fuzz(|input| {
        // Most mutations only break a checksum; with it mended they reach what lies behind.
        let input = with_checksums(input);
        let mut tar = Tar::new(input.as_slice());
        let mut members = 0;
        loop {
            match tar.entry() {
                Ok(Some(entry)) => {
                    assert!(!entry.path.contains(&0));
                    assert!(entry.kind != Kind::Directory || entry.path.last() != Some(&b'/'));
                    members += 1;
                }
                Ok(None) => return format!("fine {}", members.min(3)),
                Err(why) => return kind(&why.to_string()),
            }
        }
    });
}

#[test]
fn any_pattern_takes_any_name_or_not() {
    let target = fuzzing::Target {
        name: "glob",
        seeds: &[b"build/**/TEST-*.xml", b"[a-z]?[!0-9]*", b"../x", b"[]-a]"],
        words: &[b"**/", b"*", b"[!", b"]", b"-", b"?", b"/"],
        max_len: 1100,
        max_memory: 1 << 20,
    };
    target.fuzz(|input| {
        let text = String::from_utf8_lossy(input);
        match Pattern::parse(&text) {
            Ok(pattern) => {
                let mut progress = pattern.start();
                for part in text.split('/').take(8) {
                    progress = pattern.enter(&progress, part.as_bytes());
                }
                let end = &input[input.len().saturating_sub(255)..];
                format!("fine {}", pattern.accepts(&pattern.start(), end))
            }
            Err(why) => why.to_owned(),
        }
    });
}

/// A ustar member with its content and no more.
fn member(path: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 512];
    bytes[..path.len()].copy_from_slice(path.as_bytes());
    bytes[100..108].copy_from_slice(b"0000644\0");
    bytes[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    bytes[156] = kind;
    bytes[257..265].copy_from_slice(b"ustar\x0000");
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
    with_checksums(&bytes)
}

/// Every block that is not empty with the checksum that it would have as a header.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for block in bytes.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    bytes
}
