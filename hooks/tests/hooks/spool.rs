//! The spool: whole or not there, whatever else lies in the folder.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use hgci_api::hook::{Hint, MAX_HINT};
use hgci_hooks::adoption::{self, Adoption};
use hgci_hooks::spool::{self, Spool, SpoolError};
use proptest::prelude::*;

use crate::place::{Place, list, read};

fn hint(txid: &str, time_ms: i64) -> Hint {
    Hint { v: 1, repo: "/srv/hg/w".into(), txid: txid.into(), time_ms, ..Hint::default() }
}

#[test]
fn what_is_written_is_read_with_its_owner() {
    let place = Place::private();
    let hint = hint("TXN:ü\n\"", 5);
    let path = spool::write(&place.hg(), &hint).unwrap();
    let spooled = read(&path).unwrap();
    assert_eq!(spooled.hint, hint);
    assert_eq!(spooled.owner, fs::metadata(&path).unwrap().uid());
    let names: Vec<_> = fs::read_dir(spool::folder(&place.hg())).unwrap().collect();
    assert_eq!(names.len(), 1, "nothing but the file stays behind");
}

#[test]
fn files_are_listed_by_time_and_only_so_many() {
    let place = Place::private();
    assert!(list(&place.hg(), 10).is_empty());
    for time in [1_795_204_021_844, 7, 1_795_204_021_843, 999_999_999_999] {
        spool::write(&place.hg(), &hint("TXN", time)).unwrap();
    }
    fs::write(spool::folder(&place.hg()).join("README"), "").unwrap();
    fs::write(spool::folder(&place.hg()).join(".5-1-1.json.new"), "").unwrap();
    let times = |limit| -> Vec<i64> {
        let files = list(&place.hg(), limit);
        files.iter().map(|file| read(file).unwrap().hint.time_ms).collect()
    };
    assert_eq!(times(10), [7, 999_999_999_999, 1_795_204_021_843, 1_795_204_021_844]);
    assert_eq!(times(2), [7, 999_999_999_999]);
}

#[test]
fn a_file_cut_anywhere_is_damaged() {
    let place = Place::private();
    let path = spool::write(&place.hg(), &hint("TXN:1", 5)).unwrap();
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let error = read(&path).unwrap_err();
        assert!(matches!(error, SpoolError::Damaged(..)), "{length}: {error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}

#[test]
fn a_file_with_any_bit_flipped_is_damaged() {
    let place = Place::private();
    let path = spool::write(&place.hg(), &hint("TXN:1", 5)).unwrap();
    let whole = fs::read(&path).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    for (at, byte) in whole.iter().enumerate() {
        for bit in 0..8 {
            file.write_all_at(&[byte ^ (1 << bit)], at as u64).unwrap();
            let error = read(&path).unwrap_err();
            assert!(matches!(error, SpoolError::Damaged(..)), "{at}.{bit}: {error}");
        }
        file.write_all_at(&[*byte], at as u64).unwrap();
    }
    assert!(read(&path).is_ok());
}

#[test]
fn links_and_fifos_and_folders_are_not_read() {
    let place = Place::private();
    let real = spool::write(&place.hg(), &hint("TXN:1", 5)).unwrap();
    let other = |name: &str| spool::folder(&place.hg()).join(name);
    symlink(&real, other("1-1-1.json")).unwrap();
    symlink("/nowhere", other("2-1-1.json")).unwrap();
    fs::create_dir(other("3-1-1.json")).unwrap();
    assert!(Command::new("mkfifo").arg(other("4-1-1.json")).status().unwrap().success());
    let socket = std::os::unix::net::UnixListener::bind(other("5-1-1.json")).unwrap();
    for n in 1..=5 {
        let error = read(&other(&format!("{n}-1-1.json"))).unwrap_err();
        assert!(matches!(error, SpoolError::NotAFile(_)), "{n}: {error}");
    }
    drop(socket);
    // Somebody else's file under a name of mine says nothing about who pushed.
    fs::hard_link(&real, other("6-1-1.json")).unwrap();
    assert!(matches!(read(&real), Err(SpoolError::NotAFile(_))));
    let gone = read(&other("7-1-1.json")).unwrap_err();
    assert!(matches!(gone, SpoolError::Io { .. }), "{gone}");
}

#[test]
fn a_huge_file_is_refused_without_being_read() {
    let place = Place::private();
    let path = spool::write(&place.hg(), &hint("TXN:1", 5)).unwrap();
    // Sparse: reading it would take all memory.
    File::options().write(true).open(&path).unwrap().set_len(1 << 42).unwrap();
    assert!(matches!(read(&path), Err(SpoolError::TooLarge(_))));
}

#[test]
fn a_hint_that_is_too_large_is_refused_and_leaves_nothing() {
    let place = Place::private();
    let large = Hint { url: "x".repeat(MAX_HINT), ..Hint::default() };
    assert!(spool::write(&place.hg(), &large).is_err());
    assert!(list(&place.hg(), 10).is_empty());
    assert_eq!(fs::read_dir(spool::folder(&place.hg())).unwrap().count(), 0);
}

#[test]
fn json_of_any_depth_is_an_error_and_no_more() {
    let place = Place::private();
    let path = spool::write(&place.hg(), &hint("TXN:1", 5)).unwrap();
    for json in ["[".repeat(60_000), format!("{{\"pushvars\": {}", "{\"a\":".repeat(10_000))] {
        let sum = crc32c::crc32c(json.as_bytes());
        fs::write(&path, format!("{json}\ncrc32c {sum:08x}\n")).unwrap();
        assert!(matches!(read(&path), Err(SpoolError::Damaged(..))));
    }
}

#[test]
fn the_spool_follows_the_store_as_hgs_own_files_do() {
    for (store, folder, file) in
        [(0o2770, 0o2770, 0o640), (0o755, 0o755, 0o644), (0o700, 0o700, 0o600)]
    {
        let place = Place::private();
        let set = fs::Permissions::from_mode(store);
        fs::set_permissions(place.hg().join("store"), set).unwrap();
        let path = spool::write(&place.hg(), &hint("TXN:1", 5)).unwrap();
        let mode = |path: &std::path::Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(&path), file, "{store:o}");
        assert_eq!(mode(&spool::folder(&place.hg())), folder, "{store:o}");
        assert_eq!(mode(&place.hg().join("hgci")), folder | 0o1000, "{store:o}");
    }
}

#[test]
fn a_prepared_spool_lets_nobody_remove_what_another_wrote() {
    let place = Place::private();
    let set = fs::Permissions::from_mode(0o2775);
    fs::set_permissions(place.hg().join("store"), set).unwrap();
    let ours = place.hg().join("hgci");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().mode() & 0o7777;
    spool::prepare(&place.hg()).unwrap();
    spool::prepare(&place.hg()).unwrap();
    assert_eq!((mode(&ours), mode(&spool::folder(&place.hg()))), (0o3775, 0o3775));
    // As an earlier release made it.
    fs::set_permissions(&ours, fs::Permissions::from_mode(0o2775)).unwrap();
    spool::prepare(&place.hg()).unwrap();
    assert_eq!(mode(&ours), 0o3775);
    assert!(spool::write(&place.hg(), &hint("TXN:1", 5)).is_ok());
}

#[test]
fn no_symlink_in_the_place_of_a_folder_is_followed() {
    for depth in ["hgci", "hgci/spool"] {
        let place = Place::private();
        // All that is looked for is there, in a folder of somebody else.
        let elsewhere = Place::private();
        let left = spool::write(&elsewhere.hg(), &hint("TXN:1", 5)).unwrap();
        let mark = Adoption { socket: "/x".into(), repo: "w".into() };
        adoption::write(&elsewhere.hg(), &mark).unwrap();
        fs::write(spool::folder(&elsewhere.hg()).join(".0-1-1.json.new"), "{").unwrap();
        let before = tree(&elsewhere.hg());
        fs::create_dir_all(place.hg().join(depth).parent().unwrap()).unwrap();
        symlink(elsewhere.hg().join(depth), place.hg().join(depth)).unwrap();

        let said = [
            spool::write(&place.hg(), &hint("TXN:2", 6)).unwrap_err(),
            spool::prepare(&place.hg()).unwrap_err(),
            Spool::open(&place.hg()).unwrap_err(),
        ];
        for error in said {
            assert!(error.is_no_folder(), "{depth}: {error}");
            let path = place.hg().join(depth);
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
            assert!(error.to_string().contains("remove it"), "{error}");
        }
        if depth == "hgci" {
            assert_eq!(adoption::read(&place.hg()), None);
            let other = Adoption { socket: "/y".into(), repo: "w".into() };
            assert!(adoption::write(&place.hg(), &other).is_err());
            assert!(adoption::remove(&place.hg()).is_err());
        }
        assert_eq!(tree(&elsewhere.hg()), before, "{depth}");
        assert!(left.exists());
    }
}

/// All that lies below a folder, with what tells whether it was changed.
fn tree(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = meta.is_file().then(|| fs::read(&path).unwrap());
        let when = (meta.ctime(), meta.ctime_nsec());
        found.push((path.clone(), format!("{:o} {when:?} {content:?}", meta.mode())));
        if meta.is_dir() {
            found.extend(tree(&path));
        }
    }
    found.sort();
    found
}

#[test]
fn a_folder_that_is_open_stays_the_one_that_is_worked_in() {
    let place = Place::private();
    spool::prepare(&place.hg()).unwrap();
    spool::write(&place.hg(), &hint("TXN:1", 5)).unwrap();
    let spool = Spool::open(&place.hg()).unwrap().unwrap();
    let names = spool.list(10).unwrap();
    // Somebody puts a link to his own choice in its place, after it was opened.
    let elsewhere = tempfile::tempdir().unwrap();
    let victim = elsewhere.path().join(&names[0]);
    fs::write(&victim, "mine").unwrap();
    let away = place.hg().join("hgci/away");
    fs::rename(spool::folder(&place.hg()), &away).unwrap();
    symlink(elsewhere.path(), spool::folder(&place.hg())).unwrap();
    assert_eq!(spool.read(&names[0]).unwrap().hint.txid, "TXN:1");
    spool.set_aside(&names[0]).unwrap();
    assert_eq!(fs::read(&victim).unwrap(), b"mine");
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);
    assert_eq!(fs::read_dir(&away).unwrap().count(), 1);
}

#[test]
fn dot_hg_may_be_a_link_as_hg_itself_takes_it() {
    let (place, real) = (Place::private(), Place::private());
    fs::remove_dir_all(place.hg()).unwrap();
    symlink(real.hg(), place.hg()).unwrap();
    spool::write(&place.hg(), &hint("TXN:1", 5)).unwrap();
    assert_eq!(real.spooled().len(), 1);
}

#[test]
fn what_a_killed_hook_left_is_swept_up() {
    let place = Place::private();
    let kept = spool::write(&place.hg(), &hint("TXN:1", 5)).unwrap();
    let half = spool::folder(&place.hg()).join(".0000000000005-1-1.json.new");
    fs::write(&half, "{").unwrap();
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let (now, hour) = (since_1970.as_millis() as i64, 3_600_000);
    let spool = Spool::open(&place.hg()).unwrap().unwrap();
    assert_eq!(spool.sweep(now - hour).unwrap(), 0);
    assert_eq!(spool.sweep(now + hour).unwrap(), 1);
    assert!(kept.exists() && !half.exists());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_content_makes_reading_panic(content in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let place = Place::private();
        let path = spool::write(&place.hg(), &hint("TXN:1", 5)).unwrap();
        fs::write(&path, &content).unwrap();
        prop_assert!(read(&path).is_err());
        let mut summed = content.clone();
        summed.extend(format!("\ncrc32c {:08x}\n", crc32c::crc32c(&content)).bytes());
        fs::write(&path, &summed).unwrap();
        let _ = read(&path);
    }
}
