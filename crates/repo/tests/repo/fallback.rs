//! What hg-core refuses is read by the `hg` command, and said so.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use hgci_core::push::Phase;
use hgci_repo::{Error, ReadBy, Repository};

use crate::hg::Hg;

#[test]
fn large_files_of_lfs_are_read_by_hg() {
    let mut hg = Hg::with_config("[extensions]\nlfs =\n[lfs]\ntrack = size('>1000')");
    hg.run("", &["init", "r"]);
    hg.write("r", "small", "small");
    hg.write("r", "large", "large\n".repeat(1000));
    let node = hg.commit("r", "large");
    let archived = hg.compare("r", &node);
    assert_eq!(archived.read_by, ReadBy::Hg);
    assert_eq!(archived.why.as_deref(), Some("the repository has the requirement lfs"));
    let read = hg.reader("r").file(&node, "large", 1 << 20).unwrap();
    assert_eq!(read, Some(b"large\n".repeat(1000)));
}

#[test]
fn largefiles_are_read_by_hg() {
    let mut hg = Hg::with_config("[extensions]\nlargefiles =");
    hg.run("", &["init", "r"]);
    hg.write("r", "large", "large\n".repeat(1000));
    hg.run("r", &["add", "-q", "--large", "large"]);
    hg.write("r", "small", "small");
    let node = hg.commit("r", "large");
    let archived = hg.compare("r", &node);
    assert_eq!(archived.why.as_deref(), Some("the repository has the requirement largefiles"));
}

#[test]
fn a_censored_file_is_what_hg_says() {
    let mut hg = Hg::with_config("[extensions]\ncensor =");
    hg.run("", &["init", "r"]);
    for n in 0..100 {
        hg.write("r", &format!("f{n}"), "harmless");
    }
    hg.write("r", "f50", "a secret");
    let node = hg.commit("r", "with a secret");
    hg.write("r", "f50", "no secret");
    let after = hg.commit("r", "without");
    hg.run("r", &["censor", "-r", &node.to_string(), "f50"]);

    assert_eq!(hg.compare("r", &after).read_by, ReadBy::HgCore);
    let error = hg.reader("r").archive(&node, &mut io::sink()).unwrap_err();
    assert!(matches!(&error, Error::Hg { why, .. } if why.contains("censored")), "{error}");

    fs::write(hg.path("r/.hg/hgrc"), "[censor]\npolicy = ignore\n").unwrap();
    let archived = hg.compare("r", &node);
    assert_eq!(archived.read_by, ReadBy::Hg);
    assert!(archived.why.unwrap().starts_with("censored"));
    assert_eq!(hg.reader("r").file(&node, "f50", 100).unwrap(), Some(Vec::new()));
}

#[test]
fn a_changelog_that_hg_core_cannot_read_is_read_by_hg() {
    let mut hg = Hg::new();
    hg.run("", &["init", "new"]);
    hg.run("", &["init", "old", "--config", "format.usestore=no"]);
    for repo in ["new", "old"] {
        hg.write(repo, "a", "a");
        hg.run(repo, &["commit", "-q", "-A", "-d", "1700000000 -3600", "-m", "ünd\n\nmore"]);
        hg.run(repo, &["branch", "-q", "stable"]);
        hg.write(repo, "empty", "");
        hg.run(repo, &["commit", "-q", "-A", "-d", "1 0", "-m", "second"]);
        hg.run(repo, &["update", "-q", "0"]);
        hg.write(repo, "b", "b");
        hg.run(repo, &["commit", "-q", "-A", "-d", "1 0", "-m", "third"]);
        hg.run(repo, &["merge", "-q", "1"]);
        hg.run(repo, &["commit", "-q", "-d", "1 0", "-m", "merge"]);
        hg.run(repo, &["phase", "-p", "0"]);
        hg.run(repo, &["bookmark", "-r", "1", "mark"]);
    }
    let (new, old) = (hg.reader("new"), hg.reader("old"));
    assert_eq!(new.read_by(), (ReadBy::HgCore, None));
    assert_eq!(old.read_by(), (ReadBy::Hg, Some("the repository lacks the requirement store")));
    assert_eq!((old.len(), old.tip()), (new.len(), new.tip()));
    for node in hg.nodes("new") {
        assert_eq!(old.changeset(&node).unwrap(), new.changeset(&node).unwrap());
        assert_eq!(old.phase(&node).unwrap(), new.phase(&node).unwrap());
    }
    let tip = new.tip().unwrap();
    for file in ["a", "empty", "none"] {
        assert_eq!(old.file(&tip, file, 9).unwrap(), new.file(&tip, file, 9).unwrap());
    }
    assert_eq!(old.phase(&new.tip().unwrap()).unwrap(), Phase::Draft);
    assert_eq!(old.bookmarks().unwrap(), new.bookmarks().unwrap());
}

#[test]
fn an_hg_that_is_not_there_is_named() {
    let mut hg = Hg::new();
    hg.run("", &["init", "r", "--config", "format.usestore=no"]);
    let repository = Repository::open(&hg.path("r")).unwrap().with_hg("/nowhere/hg");
    let error = repository.reader().err().unwrap().to_string();
    assert!(error.contains("could not start /nowhere/hg"), "{error}");
}

#[test]
fn configuration_of_the_user_changes_nothing() {
    let mut hg = Hg::new();
    let nodes = hg.hard("r", &[]);
    fs::write(
        hg.path("r/.hg/hgrc"),
        "[storage]\nrevlog.mmap.index = yes\nrevlog.mmap.index:size-threshold = 1\n\
         [censor]\npolicy = ignore\n[ui]\narchivemeta = yes\n[encode]\n** = tr a b\n\
         [decode]\n** = tr a b\nthis is [no configuration at all",
    )
    .unwrap();
    let reader = hg.reader("r");
    let mut tar = Vec::new();
    reader.archive(&nodes[0], &mut tar).unwrap();
    fs::remove_file(hg.path("r/.hg/hgrc")).unwrap();
    assert!(crate::archive::items(&tar) == hg.archive("r", &nodes[0]));
}

#[test]
fn a_folder_with_the_name_of_a_file_is_no_file() {
    let mut hg = Hg::new();
    for config in ["format.dotencode=yes", "format.dotencode=no"] {
        let name = config.replace(['.', '='], "-");
        hg.run("", &["init", &name, "--config", config]);
        hg.write(&name, ".hgci.toml/jobs", "version = 1");
        hg.write(&name, "xhgci.toml", "not it");
        let node = hg.commit(&name, "a folder");
        assert_eq!(hg.reader(&name).file(&node, ".hgci.toml", 100).unwrap(), None, "{config}");
    }
}

#[test]
fn a_symlink_is_told_from_a_file() {
    let mut hg = Hg::new();
    for config in ["format.dotencode=yes", "format.dotencode=no"] {
        let name = config.replace(['.', '='], "-");
        hg.run("", &["init", &name, "--config", config]);
        hg.write(&name, "a", "a");
        symlink("a", hg.path(&name).join(".hgci.toml")).unwrap();
        hg.write(&name, "folder/a", "a");
        let node = hg.commit(&name, "a link");
        let reader = hg.reader(&name);
        let found = [".hgci.toml", "a", "folder", "none"];
        let found = found.map(|path| reader.is_symlink(&node, path).unwrap());
        assert_eq!(found, [true, false, false, false], "{config}");
    }
}

#[test]
fn an_hg_that_hangs_is_killed_with_what_it_started() {
    let mut hg = Hg::new();
    hg.run("", &["init", "r", "--config", "format.usestore=no"]);
    let (program, pids) = (hg.path("hangs"), hg.path("pids"));
    let script = format!("#!/bin/sh\nsleep 1000 &\necho $$ $! > {}\nwait\n", pids.display());
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    // Longer than the script takes to write its numbers, on any machine.
    let patience = Duration::from_secs(3);
    let repository = hg.repository("r").with_hg(&program).with_hg_patience(patience);
    let error = repository.reader().err().unwrap().to_string();
    assert!(error.contains("it hung"), "{error}");
    let pids = fs::read_to_string(pids).unwrap();
    for pid in pids.split_whitespace() {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        assert!(stat.is_err() || stat.unwrap().contains(") Z "), "{pid} is alive");
    }
}
