//! Hostile input for what is read from a repository's files; see `crates/core/tests/fuzz.rs`.
//!
//! The seeds are what the real hg wrote. hg-core's panics are caught by the crate: they are no
//! failures here, nor shown.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "../../core/tests/fuzzing/mod.rs"]
mod fuzzing;
#[path = "repo/hg.rs"]
#[allow(dead_code, reason = "a part of it is used")]
mod hg;

use std::fs;
use std::panic;
use std::path::Path;
use std::sync::Once;

use hgci_repo::mark::{Mark, difference};
use hgci_repo::{Error, Repository, Rev};

use hg::Hg;

#[global_allocator]
static ALLOCATOR: fuzzing::Counting = fuzzing::Counting;

/// Panics of hg-core that are caught are not worth a line each.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let shown = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            // Overflows of its sums are seen in the standard library.
            let ours = |place: &panic::Location<'_>| place.file().contains("crates/");
            if panic.location().is_some_and(ours) {
                shown(panic);
            }
        }));
    });
}

/// A repository with a bit of everything, and the bytes of one of its files.
fn seeded(file: &str) -> (Hg, Vec<u8>) {
    quiet();
    let mut hg = Hg::new();
    hg.run("", &["init", "r"]);
    for n in 0..4 {
        hg.write("r", "a", "line\n".repeat(n * 50));
        hg.commit("r", &format!("changeset {n}"));
    }
    hg.run("r", &["tag", "-r", "1", "one"]);
    hg.run("r", &["bookmark", "-r", "2", "here"]);
    hg.run("r", &["phase", "-p", "-r", "0"]);
    hg.run("r", &["phase", "-s", "-f", "-r", "3"]);
    hg.run("r", &["commit", "--amend", "-q", "-m", "amended"]);
    let bytes = fs::read(hg.path("r/.hg").join(file)).unwrap();
    (hg, bytes)
}

/// Reads all that there is. Returns what came of it, without the parts that differ.
fn read_all(repo: &Path) -> String {
    let read = || -> Result<String, Error> {
        // Damage may look like a format that only hg knows; it is not to be started each time.
        let reader = Repository::open(repo)?.with_hg("/nowhere/hg").reader()?;
        let mark = Mark::of(&reader)?;
        let again = difference(&reader, &mark, |_| None)?;
        assert!(again.is_empty() && !again.stripped);
        let mut texts = 0;
        for rev in (0..reader.len() as u32).take(20).map(Rev) {
            let node = reader.node(rev).unwrap();
            let parents = reader.parent_revs(rev)?;
            assert!(parents.into_iter().flatten().all(|parent| parent < rev));
            reader.phase(&node)?;
            reader.is_obsolete(&node)?;
            texts += u32::from(reader.changeset(&node).is_ok());
        }
        if let Some(tip) = reader.tip()
            && let Ok(Some(content)) = reader.file(&tip, "a", 1 << 20)
        {
            // The tip may be an older one now.
            assert!(content == b"line\n".repeat(content.len() / 5) && content.len() % 250 == 0);
        }
        Ok(format!("{} {texts} {}", reader.len().min(9), mark.obsstore.markers))
    };
    match read() {
        Ok(said) => said,
        Err(error) => {
            error.to_string().chars().filter(|c| c.is_ascii_alphabetic()).take(60).collect()
        }
    }
}

fn fuzz(name: &str, file: &str, words: &[&[u8]]) {
    let (hg, bytes) = seeded(file);
    let repo = hg.path("r");
    let path = repo.join(".hg").join(file);
    let target = fuzzing::Target {
        name,
        seeds: &[&bytes, b""],
        words,
        max_len: 16 << 10,
        max_memory: 300 << 20,
    };
    target.fuzz(|input| {
        fs::write(&path, input).unwrap();
        read_all(&repo)
    });
}

#[test]
fn a_changelog_of_any_bytes_is_read_or_refused() {
    fuzz(
        "changelog",
        "store/00changelog.i",
        &[b"\0\0\0\x01", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"],
    );
}

#[test]
fn a_manifest_of_any_bytes_is_read_or_refused() {
    fuzz("manifest", "store/00manifest.i", &[b"\0\x03\0\x01", b"\xff\xff\xff\xff", b"(\xb5/\xfd"]);
}

#[test]
fn a_filelog_of_any_bytes_is_read_or_refused() {
    fuzz("filelog", "store/data/a.i", &[b"\0\x03\0\x01", b"\xff\xff\xff\xff", b"\x01\n"]);
}

#[test]
fn obsolescence_markers_of_any_bytes_are_read_or_refused() {
    fuzz("obsstore", "store/obsstore", &[b"\x01", b"\0\0\0\x27", b"\xff\xff\xff\xff"]);
}

#[test]
fn phase_roots_of_any_bytes_are_read_or_refused() {
    fuzz("phaseroots", "store/phaseroots", &[b"1 ", b"2 ", b"96 ", b"\n", b"256 "]);
}

#[test]
fn bookmarks_of_any_bytes_are_read_or_refused() {
    fuzz("bookmarks", "bookmarks", &[b" ", b"\n", b"0000000000000000000000000000000000000000"]);
}

#[test]
fn requirements_of_any_bytes_are_read_or_refused() {
    // Those that call for hg would start it each time.
    let (hg, bytes) = seeded("requires");
    let repo = hg.path("r");
    let target = fuzzing::Target {
        name: "requires",
        seeds: &[&bytes, b"shared\n", b"share-safe\n"],
        words: &[b"\n", b"store", b"shared", b"relshared", b"share-safe", b"bookmarksinstore"],
        max_len: 4 << 10,
        max_memory: 16 << 20,
    };
    target.fuzz(|input| {
        fs::write(repo.join(".hg/requires"), input).unwrap();
        let read = hgci_repo::Repository::open(&repo).and_then(|found| found.requirements());
        read.map(|found| found.len().min(5)).map_err(|error| matches!(error, Error::Corrupt { .. }))
    });
}
