//! Trees that try to get out, and trees that are hard to remove.

use std::fs;
use std::ops::ControlFlow;
use std::os::fd::AsFd;

use hgci_api::run::Isolation;
use hgci_core::result::Outcome;
use hgci_runner::unpack::{UnpackError, Unpacked, unpack};

use crate::scene::{Mode, Scene, job, modes};
use crate::tarball::Tarball;

fn none() -> Mode {
    Mode { isolation: Isolation::None, uid: None }
}

fn unpacked(stream: &[u8]) -> (tempfile::TempDir, Result<Unpacked, UnpackError>) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("tree")).unwrap();
    let tree = fs::File::open(folder.path().join("tree")).unwrap();
    let result = unpack(tree.as_fd(), stream, &mut || ControlFlow::Continue(()));
    (folder, result)
}

#[test]
fn a_tree_that_leads_out_of_itself_is_refused_and_writes_nothing_outside() {
    let long = "d/".repeat(300) + "x";
    let streams = [
        ("leads out", Tarball::new().file("../evil", b"x")),
        ("leads out", Tarball::new().file("a/../../evil", b"x")),
        ("leads out", Tarball::new().file("a/..", b"x")),
        ("absolute", Tarball::new().file("/evil", b"x")),
        ("no plain path", Tarball::new().file("a//b", b"x")),
        ("no plain path", Tarball::new().file("./a", b"x")),
        ("no plain path", Tarball::new().file("", b"x")),
        ("no directory", Tarball::new().symlink("a", "..").file("a/evil", b"x")),
        ("no directory", Tarball::new().symlink("a", "/tmp").file("a/evil", b"x")),
        ("no directory", Tarball::new().symlink("a", ".").member("a/b", b'5', 0o755, "", b"")),
        ("no directory", Tarball::new().file("a", b"x").file("a/b", b"x")),
        ("twice", Tarball::new().file("a", b"x").file("a", b"y")),
        ("twice", Tarball::new().symlink("a", "../evil").file("a", b"y")),
        ("hard link", Tarball::new().member("a", b'1', 0o644, "/etc/passwd", b"")),
        ("character device", Tarball::new().member("a", b'3', 0o644, "", b"")),
        ("block device", Tarball::new().member("a", b'4', 0o644, "", b"")),
        ("fifo", Tarball::new().member("a", b'6', 0o644, "", b"")),
        ("of a kind", Tarball::new().member("a", b'S', 0o644, "", b"")),
        ("leads out", Tarball::new().pax("path", "../evil").file("a", b"x")),
        ("too deep", Tarball::new().pax("path", &long).file("a", b"x")),
        ("too long", Tarball::new().pax("path", &("a/".repeat(2500) + "b")).file("a", b"x")),
        ("NUL", Tarball::new().pax("path", "a\0b").file("a", b"x")),
        ("extended header", Tarball::new().pax("path", &"a".repeat(70_000)).file("a", b"x")),
        ("pax", Tarball::new().member("p", b'x', 0o644, "", b"99999 path=a\n")),
        ("size", Tarball::new().pax("size", "99999999999999999999").file("a", b"x")),
    ];
    for (wanted, stream) in streams {
        let (folder, result) = unpacked(&stream.end());
        let error = result.expect_err(wanted);
        assert!(matches!(error, UnpackError::Refused(_)), "{wanted}: {error:?}");
        assert!(error.to_string().contains(wanted), "{wanted}: {error}");
        let outside: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(outside.len(), 1, "{wanted}: {outside:?}");
    }
    assert!(!std::path::Path::new("/evil").exists());
}

#[test]
fn long_names_and_sizes_in_pax_headers_are_understood() {
    let long = "folder/".repeat(30) + "file";
    let stream = Tarball::new()
        .pax("path", &long)
        .file("short", b"content")
        .pax("linkpath", &long)
        .symlink("link", "short")
        .member("dir/", b'5', 0o755, "", b"")
        .end();
    let (folder, result) = unpacked(&stream);
    assert_eq!(result.unwrap(), Unpacked { files: 2, bytes: 7 });
    let tree = folder.path().join("tree");
    assert_eq!(fs::read(tree.join(&long)).unwrap(), b"content");
    assert_eq!(fs::read_link(tree.join("link")).unwrap().to_str(), Some(long.as_str()));
    assert!(tree.join("dir").is_dir());
}

#[test]
fn a_stream_cut_anywhere_is_broken_not_empty() {
    let whole = Tarball::small().end();
    for cut in (0..whole.len() - 1024).step_by(100) {
        let (_folder, result) = unpacked(&whole[..cut]);
        assert!(matches!(result, Err(UnpackError::Broken(_))), "{cut}: {result:?}");
    }
    let mut flipped = whole.clone();
    flipped[10] ^= 1;
    let (_folder, result) = unpacked(&flipped);
    assert!(matches!(result, Err(UnpackError::Refused(_))), "{result:?}");
}

#[test]
fn garbage_is_refused_without_much_memory() {
    let mut random = 7_u64;
    for _ in 0..200 {
        let mut stream = Tarball::small().end();
        for _ in 0..20 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (random >> 33) as usize % stream.len();
            stream[at] = (random >> 24) as u8;
        }
        // Whatever it says: no panic, nothing outside.
        let (folder, _) = unpacked(&stream);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_refused_tree_is_errored_and_leaves_nothing() {
    for mode in modes() {
        let source = Tarball::small().file("../../evil", b"x").end();
        let scene = Scene::with(&mode, job(&["echo no"], mode.isolation.clone()), source);
        let verdict = scene.run();
        let Outcome::Errored { why } = verdict.outcome else { panic!("{verdict:?}") };
        assert!(why.contains("leads out of the tree"), "{why}");
        assert_eq!(scene.log(), format!("hgci: {why}\n"));
    }
}

#[test]
fn whatever_a_job_leaves_on_disk_is_removed() {
    for mode in modes() {
        let step = "mkdir -p a/b/c && touch a/b/c/d && chmod 0 a/b/c a/b a; \
             mkdir ro && touch ro/x && chmod 500 ro; chmod 0 $TMPDIR $HOME; \
             ln -s / root; ln -s /etc etc; mkfifo fifo; \
             python3 -c 'import os
for _ in range(400): os.mkdir(14*\"d\"); os.chdir(14*\"d\")
os.chmod(\".\", 0o500)'; \
             mkdir many && (cd many && seq 2000 | xargs touch); chmod 0 .; true";
        let scene = Scene::new(&mode, &[step]);
        let verdict = scene.run();
        assert_eq!(verdict.outcome, Outcome::Passed, "{mode:?} {}", scene.log());
    }
}

#[test]
fn symlinks_to_the_outside_are_removed_and_not_what_they_name() {
    let scene = Scene::new(
        &none(),
        &["ln -s $PRECIOUS link; ln -s link dir; rmdir ../tmp; ln -s $PRECIOUS ../tmp"],
    );
    let precious = scene.folder.path().join("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("file"), "x").unwrap();
    scene.daemon.state().job.spec.env =
        [("PRECIOUS".to_owned(), precious.to_str().unwrap().to_owned())].into();
    assert_eq!(scene.run().outcome, Outcome::Passed, "{}", scene.log());
    assert_eq!(fs::read(precious.join("file")).unwrap(), b"x");
}

#[test]
fn a_full_disk_is_errored_with_its_name() {
    // A tmpfs of 2 MiB in a mount namespace of its own, which takes root.
    if !crate::scene::is_root() {
        return;
    }
    let big = vec![7; 4 << 20];
    let source = Tarball::small().file("big", &big).end();
    let scene = Scene::with(&none(), job(&["echo no"], Isolation::None), source);
    let mut unshare = std::process::Command::new("unshare");
    unshare.args(["-m", "sh", "-c"]);
    unshare.arg(
        "mount -t tmpfs -o size=2m tmpfs \"$0\" && mkdir \"$0/w\" && exec \"$@\" --work \"$0/w\"",
    );
    unshare.arg(&scene.work);
    let command = scene.command();
    unshare.arg(command.get_program());
    unshare.args(command.get_args().take(4));
    let mut running = scene.start_as(&mut unshare);
    assert!(running.wait().success());
    let Outcome::Errored { why } = scene.verdict().outcome else { panic!() };
    assert!(why.contains("No space left on device") && why.contains("big"), "{why}");
}
