//! What a changeset, its phase and its files are.

use hgci_core::push::Phase;
use hgci_repo::{Error, Repository};

use crate::hg::Hg;

#[test]
fn a_changeset_reads_as_hg_shows_it() {
    let mut hg = Hg::new();
    hg.run("", &["init", "r"]);
    hg.write("r", "a", "a\n");
    hg.write("r", "src/ü", "b\n");
    let root = hg.commit("r", "first\n\nbody");
    hg.run("r", &["branch", "-q", "stable"]);
    hg.write("r", "a", "aa\n");
    hg.run("r", &["rm", "src/ü"]);
    hg.run("r", &["commit", "-q", "-u", "Ångström <a@x>", "-d", "1700000000 -3600", "-m", "zwei"]);
    let second = hg.node("r", ".");
    hg.run("r", &["commit", "-q", "--close-branch", "-m", "close"]);
    let third = hg.node("r", ".");

    let reader = hg.reader("r");
    assert_eq!((reader.len(), reader.tip()), (3, Some(third)));
    let changeset = reader.changeset(&root).unwrap();
    assert_eq!(changeset.description, "first\n\nbody");
    assert_eq!((changeset.parents.len(), changeset.branch.as_str()), (0, "default"));
    let changeset = reader.changeset(&second).unwrap();
    assert_eq!(changeset.parents, [root]);
    assert_eq!((changeset.branch.as_str(), changeset.closes_branch), ("stable", false));
    assert_eq!(changeset.author, "Ångström <a@x>");
    assert_eq!((changeset.date.seconds, changeset.date.offset), (1_700_000_000, -3600));
    assert_eq!(changeset.files, [b"a".to_vec(), "src/ü".as_bytes().to_vec()]);
    assert!(reader.changeset(&third).unwrap().closes_branch);
    let nobody = "1111111111111111111111111111111111111111".parse().unwrap();
    assert!(matches!(reader.changeset(&nobody), Err(Error::UnknownChangeset { .. })));
}

#[test]
fn a_file_reads_as_committed_within_its_limit() {
    let mut hg = Hg::new();
    hg.run("", &["init", "r"]);
    hg.write("r", ".hgci.toml", "version = 1\n");
    hg.write("r", "marked", b"\x01\nnot metadata\n");
    let first = hg.commit("r", "first");
    hg.run("r", &["cp", ".hgci.toml", "copy"]);
    hg.run("r", &["rm", ".hgci.toml"]);
    let second = hg.commit("r", "second");

    let reader = hg.reader("r");
    let read = |node, path| reader.file(node, path, 100).unwrap();
    assert_eq!(read(&first, ".hgci.toml").unwrap(), b"version = 1\n");
    assert_eq!(read(&first, "marked").unwrap(), b"\x01\nnot metadata\n");
    assert_eq!(read(&second, "copy").unwrap(), b"version = 1\n");
    assert_eq!(read(&second, ".hgci.toml"), None);
    let refused = reader.file(&first, ".hgci.toml", 11);
    assert!(matches!(refused, Err(Error::TooLarge { size: 12, limit: 11, .. })), "{refused:?}");
}

#[test]
fn phases_bookmarks_and_markers_read_as_hg_knows_them() {
    let mut hg = Hg::new();
    hg.run("", &["init", "r"]);
    let nodes: Vec<_> = (0..4)
        .map(|n| {
            hg.write("r", "a", n.to_string());
            hg.commit("r", &n.to_string())
        })
        .collect();
    hg.run("r", &["phase", "-p", "-r", "1"]);
    hg.run("r", &["phase", "-s", "-f", "-r", "3"]);
    hg.run("r", &["bookmark", "-r", "2", "with space"]);
    let reader = hg.reader("r");
    let phases: Vec<_> = nodes.iter().map(|node| reader.phase(node).unwrap()).collect();
    assert_eq!(phases, [Phase::Public, Phase::Public, Phase::Draft, Phase::Secret]);
    assert_eq!(reader.bookmarks().unwrap()["with space"], nodes[2]);
    assert_eq!(reader.obsstore(None).unwrap().markers, 0);

    hg.run("r", &["commit", "--amend", "-m", "amended"]);
    let reader = hg.reader("r");
    assert_eq!(reader.len(), 5);
    assert_eq!(reader.obsstore(None).unwrap().markers, 1);
    assert!(reader.is_obsolete(&nodes[3]).unwrap());
    assert!(!reader.is_obsolete(&nodes[2]).unwrap());
}

#[test]
fn an_empty_repository_has_no_changeset() {
    let mut hg = Hg::new();
    hg.run("", &["init", "r"]);
    let reader = hg.reader("r");
    assert!(reader.is_empty());
    assert_eq!(reader.tip(), None);
    assert!(reader.bookmarks().unwrap().is_empty());
}

#[test]
fn a_share_is_read_at_its_source() {
    let mut hg = Hg::new();
    hg.run("", &["init", "r"]);
    hg.write("r", "a", "a");
    let node = hg.commit("r", "a");
    for (name, options) in [("plain", vec![]), ("relative", vec!["--relative"])] {
        let mut args = vec!["share", "-q", "r", name];
        args.extend(options);
        hg.run("", &args);
        let share = hg.repository(name);
        assert!(share.is_share());
        assert_eq!(share.source(), hg.repository("r").path());
        assert_eq!(share.reader().unwrap().tip(), Some(node));
    }
}

#[test]
fn what_is_no_repository_is_named() {
    let hg = Hg::new();
    std::fs::create_dir(hg.path("x")).unwrap();
    let error = Repository::open(&hg.path("x")).unwrap_err();
    assert!(error.to_string().ends_with("x is no Mercurial repository: it has no folder .hg"));
    assert!(matches!(Repository::open(&hg.path("none")), Err(Error::Io { .. })));
}
