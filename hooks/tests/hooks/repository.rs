//! Finding the repository, and for a share its source.

use std::fs;
use std::os::unix::ffi::OsStrExt;

use hgci_hooks::Repository;
use hgci_hooks::repository::NoRepository;

use crate::place::Place;

#[test]
fn a_share_stands_for_its_source() {
    let source = Place::configured();
    let share = Place::private();
    let sharedpath = share.hg().join("sharedpath");
    fs::write(&sharedpath, format!("{}\n", source.hg().display())).unwrap();
    let repo = Repository::at(&share.root).unwrap();
    assert_eq!(repo.root(), source.root.to_str().unwrap());
    assert_eq!(repo.hg(), source.hg());
    assert_eq!(repo.own_socket().as_deref(), source.socket().to_str());

    // Requirement `relshared`: the path is as seen from the share's `.hg`.
    let name = source.root.file_name().unwrap().to_str().unwrap();
    fs::write(&sharedpath, format!("../../{name}/.hg")).unwrap();
    assert_eq!(Repository::at(&share.root).unwrap().root(), source.root.to_str().unwrap());
}

#[test]
fn the_root_is_the_real_path() {
    let place = Place::private();
    let link = place.root.join("link");
    std::os::unix::fs::symlink(&place.root, &link).unwrap();
    assert_eq!(Repository::at(&link).unwrap().root(), place.root.to_str().unwrap());
}

#[test]
fn what_is_no_repository_is_said() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Repository::at(folder.path()), Err(NoRepository::None(_))));

    let share = Place::private();
    fs::write(share.hg().join("sharedpath"), "/nowhere/at/all/.hg").unwrap();
    assert!(matches!(Repository::at(&share.root), Err(NoRepository::Share { .. })));
    fs::write(share.hg().join("sharedpath"), "x".repeat(100_000)).unwrap();
    assert!(matches!(Repository::at(&share.root), Err(NoRepository::Share { .. })));

    let odd = folder.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    fs::create_dir_all(odd.join(".hg")).unwrap();
    let error = Repository::at(&odd).unwrap_err();
    assert!(matches!(error, NoRepository::NotUtf8(_)), "{error}");
}
