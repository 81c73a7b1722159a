//! What is no regular file is an error that names it, and never waited for.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use hgci_core::push::Phase;
use hgci_repo::{Error, Reader, Repository};
use rustix::fs::{CWD, mkfifoat};

use crate::hg::Hg;

/// Everything that a look at a repository reads.
fn read_all(repo: &Path) -> hgci_repo::Result<usize> {
    let repository = Repository::open(repo)?.with_hg(crate::hg::command());
    let reader = repository.reader()?;
    reader.obsstore(None)?;
    reader.bookmarks()?;
    let tip = reader.tip().unwrap();
    let file = reader.file(&tip, "a", 100)?;
    reader.phase(&tip)?;
    reader.is_obsolete(&tip)?;
    reader.archive(&tip, &mut std::io::sink())?;
    Ok(file.map_or(0, |text| text.len()))
}

fn served(hg: &mut Hg) {
    hg.run("", &["init", "r"]);
    hg.write("r", "a", "a\n");
    hg.commit("r", "first");
    hg.run("r", &["bookmark", "here"]);
    assert_eq!(read_all(&hg.path("r")).unwrap(), 2);
}

#[test]
fn a_fifo_in_the_place_of_a_file_is_named_and_not_waited_for() {
    let mut hg = Hg::new();
    served(&mut hg);
    let files = [
        "requires",
        "bookmarks",
        "localtags",
        "store/requires",
        "store/00changelog.i",
        "store/00manifest.i",
        "store/phaseroots",
        "store/obsstore",
        "store/data/a.i",
    ];
    for file in files {
        let path = hg.path("r/.hg").join(file);
        let kept = path.with_extension("kept");
        let was_there = path.exists();
        if was_there {
            fs::rename(&path, &kept).unwrap();
        }
        mkfifoat(CWD, &path, 0o600.into()).unwrap();
        let error = read_all(&hg.path("r")).expect_err(file);
        assert!(matches!(&error, Error::NotAFile { path: named } if *named == path), "{error}");
        fs::remove_file(&path).unwrap();
        if was_there {
            fs::rename(&kept, &path).unwrap();
        }
        assert_eq!(read_all(&hg.path("r")).unwrap(), 2, "{file}");
    }
}

#[test]
fn a_fifo_does_not_keep_the_hg_command_waiting() {
    let mut hg = Hg::new();
    served(&mut hg);
    let requires = hg.path("r/.hg/requires");
    let text = fs::read_to_string(&requires).unwrap();
    fs::write(&requires, text + "some-requirement-of-tomorrow\n").unwrap();
    fs::remove_file(hg.path("r/.hg/bookmarks")).unwrap();
    mkfifoat(CWD, hg.path("r/.hg/bookmarks"), 0o600.into()).unwrap();
    let error = Reader::open(&hg.path("r")).err().unwrap();
    assert!(matches!(error, Error::NotAFile { .. }), "{error}");
}

#[test]
fn a_device_without_end_is_refused() {
    let mut hg = Hg::new();
    served(&mut hg);
    for file in ["requires", "bookmarks", "store/phaseroots", "store/00changelog.i"] {
        let path = hg.path("r/.hg").join(file);
        let kept = path.with_extension("kept");
        fs::rename(&path, &kept).unwrap();
        symlink("/dev/zero", &path).unwrap();
        let error = read_all(&hg.path("r")).expect_err(file);
        assert!(matches!(error, Error::NotAFile { .. }), "{file}: {error}");
        fs::rename(&kept, &path).unwrap();
    }
}

#[test]
fn a_list_of_requirements_without_end_is_refused() {
    let mut hg = Hg::new();
    served(&mut hg);
    fs::write(hg.path("r/.hg/requires"), "store\n".repeat(20_000)).unwrap();
    let error = Repository::open(&hg.path("r")).err().unwrap();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}

#[test]
fn a_store_and_files_that_lie_elsewhere_are_read_through_their_symlinks() {
    let mut hg = Hg::new();
    served(&mut hg);
    for (name, elsewhere) in [("store", "store-of-r"), ("bookmarks", "bookmarks-of-r")] {
        let path = hg.path("r/.hg").join(name);
        fs::rename(&path, hg.path(elsewhere)).unwrap();
        symlink(hg.path(elsewhere), &path).unwrap();
    }
    assert_eq!(read_all(&hg.path("r")).unwrap(), 2);
    let reader = hg.reader("r");
    assert!(reader.bookmarks().unwrap().contains_key("here"));
    assert_eq!(reader.phase(&reader.tip().unwrap()).unwrap(), Phase::Draft);
}
