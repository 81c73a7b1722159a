//! Source trees, compared with those of `hg archive`.

use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use hgci_core::Node;
use hgci_repo::{Archived, Error, ReadBy, Repository};

use crate::hg::Hg;

/// An entry of a tar.
#[derive(Debug, PartialEq, Eq)]
pub struct Item {
    pub path: Vec<u8>,
    kind: tar::EntryType,
    mode: u32,
    mtime: u64,
    link: Option<Vec<u8>>,
    pub content: Vec<u8>,
}

pub fn items(tar: &[u8]) -> Vec<Item> {
    let mut archive = tar::Archive::new(tar);
    let item = |entry: io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        Item {
            path: entry.path_bytes().into_owned(),
            kind: entry.header().entry_type(),
            mode: entry.header().mode().unwrap(),
            mtime: entry.header().mtime().unwrap(),
            link: entry.link_name_bytes().map(|name| name.into_owned()),
            content,
        }
    };
    archive.entries().unwrap().map(item).collect()
}

impl Hg {
    /// What `hg archive` makes of a changeset.
    pub fn archive(&mut self, repo: &str, node: &Node) -> Vec<Item> {
        items(&fs::read(self.archive_to(repo, node)).unwrap())
    }

    /// The same as a file.
    fn archive_to(&mut self, repo: &str, node: &Node) -> PathBuf {
        let out = self.path("hg.tar");
        let rev = node.to_string();
        let args = ["archive", "--no-decode", "-t", "tar", "-p", ".", "-r", &rev];
        self.run(repo, &[&args[..], &[out.to_str().unwrap()]].concat());
        out
    }

    /// Fails unless ours is the same. Returns what was said of ours.
    pub fn compare(&mut self, repo: &str, node: &Node) -> Archived {
        let reader = self.reader(repo);
        let mut tar = Vec::new();
        let archived = reader.archive(node, &mut tar).unwrap();
        assert_eq!(archived.bytes, tar.len() as u64);
        let (ours, theirs) = (items(&tar), self.archive(repo, node));
        let names = |items: &[Item]| {
            let lossy = |item: &Item| String::from_utf8_lossy(&item.path).into_owned();
            items.iter().map(lossy).collect::<Vec<_>>()
        };
        assert_eq!(names(&ours), names(&theirs));
        for (ours, theirs) in ours.iter().zip(&theirs) {
            let name = String::from_utf8_lossy(&ours.path);
            let shown = |item: &Item| String::from_utf8_lossy(&item.content).into_owned();
            assert!(ours == theirs, "{name}: {ours:.300?}\n{}\n{}", shown(ours), shown(theirs));
        }
        archived
    }

    /// Makes a repository with all that is hard to store, in a few changesets.
    pub fn hard(&mut self, repo: &str, config: &[&str]) -> Vec<Node> {
        let mut args = vec!["init", repo];
        config.iter().for_each(|config| args.extend(["--config", config]));
        self.run("", &args);
        let long = "long/".to_owned() + &"name ".repeat(40);
        let deep = "Deep/DIRECTORY/".repeat(12) + "File.TXT";
        let names = [
            "plain",
            "UPPER",
            "MiXed/Case",
            "aux",
            "con.txt",
            "dir/nul.h",
            "trailing.",
            "dots./a..",
            "space end ",
            " space",
            ".hidden",
            ".d/x",
            "a.i/b",
            "a.d/b",
            "a.hg/b",
            "_under/_score",
            "til~de",
            "ünïcode/ß",
            "100%",
            "back\\slash",
            "semi;colon:",
            "q\"uote'",
            "tab\there",
            "com1",
            "lpt9.x",
            "data/data",
            &long,
            &deep,
        ];
        for name in names {
            self.write(repo, name, format!("content of {name}\n"));
        }
        let root = self.path(repo);
        use std::os::unix::ffi::OsStrExt;
        let bytes = std::ffi::OsStr::from_bytes(b"latin-\xe9\xff");
        fs::write(root.join(bytes), "latin").unwrap();
        self.write(repo, "empty", "");
        self.write(repo, "marked", b"\x01\nlooks like metadata\n\x01\nbut is none");
        self.write(repo, "crlf", b"a\r\nb\r\n\0\xff");
        self.write(repo, "bin/run", "#!/bin/sh\n");
        fs::set_permissions(root.join("bin/run"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("../plain", root.join("bin/link")).unwrap();
        symlink("x".repeat(150), root.join("long-link")).unwrap();
        symlink("/nowhere", root.join("dangling")).unwrap();
        self.write(repo, "growing", lines(0, 2000));
        let mut nodes = vec![self.commit(repo, "first")];
        self.run(repo, &["cp", "plain", "copied"]);
        self.run(repo, &["mv", "UPPER", "upper"]);
        self.run(repo, &["cp", "marked", "marked too"]);
        self.write(repo, "growing", lines(3, 2500));
        nodes.push(self.commit(repo, "second"));
        for n in 0..12 {
            self.write(repo, "growing", lines(n, 2500 + n * 10));
            self.write(repo, "copied", format!("{n}"));
            nodes.push(self.commit(repo, "more"));
        }
        self.run(repo, &["rm", "plain", "aux"]);
        fs::set_permissions(root.join("bin/run"), fs::Permissions::from_mode(0o644)).unwrap();
        fs::remove_file(root.join("dangling")).unwrap();
        self.write(repo, "dangling", "a file now");
        nodes.push(self.commit(repo, "last"));
        nodes
    }
}

/// Text that compresses and whose versions differ a little.
fn lines(from: usize, count: usize) -> String {
    (0..count).map(|n| format!("line {} of {}\n", n * 7919 % 1000, from + n / 100)).collect()
}

fn all_alike(config: &[&str], by: ReadBy) {
    let mut hg = Hg::new();
    let nodes = hg.hard("r", config);
    let last = nodes[nodes.len() - 1];
    // Starting hg takes its time.
    let looked_at =
        if by == ReadBy::Hg { vec![last] } else { vec![nodes[0], nodes[1], nodes[7], last] };
    for node in looked_at {
        let archived = hg.compare("r", &node);
        assert_eq!(archived.read_by, by, "{archived:?}");
    }
}

#[test]
fn a_tree_of_a_default_repository_is_that_of_hg() {
    all_alike(&[], ReadBy::HgCore);
}

#[test]
fn a_tree_compressed_with_zlib_is_that_of_hg() {
    all_alike(&["format.revlog-compression=zlib"], ReadBy::HgCore);
}

#[test]
fn a_tree_compressed_with_zstd_is_that_of_hg() {
    all_alike(&["format.revlog-compression=zstd"], ReadBy::HgCore);
}

#[test]
fn an_uncompressed_tree_is_read_by_hg() {
    all_alike(&["format.revlog-compression=none"], ReadBy::Hg);
}

#[test]
fn a_tree_without_sparse_revlogs_is_that_of_hg() {
    all_alike(&["format.sparse-revlog=no"], ReadBy::HgCore);
}

#[test]
fn a_tree_without_generaldelta_is_that_of_hg() {
    all_alike(&["format.usegeneraldelta=no", "format.sparse-revlog=no"], ReadBy::HgCore);
}

#[test]
fn a_tree_with_delta_info_is_that_of_hg() {
    all_alike(&["format.use-delta-info-flags=yes"], ReadBy::HgCore);
}

#[test]
fn a_tree_with_a_file_index_is_that_of_hg() {
    all_alike(&["format.use-fileindex-v1=yes"], ReadBy::HgCore);
}

#[test]
fn a_tree_with_dirstate_v2_and_nodemap_is_that_of_hg() {
    all_alike(&["format.use-dirstate-v2=yes", "format.use-persistent-nodemap=yes"], ReadBy::HgCore);
}

#[test]
fn a_tree_of_the_oldest_format_that_hg_core_reads_is_that_of_hg() {
    all_alike(&["format.use-share-safe=no", "format.bookmarks-in-store=no"], ReadBy::HgCore);
}

#[test]
fn a_tree_with_internal_phases_is_that_of_hg() {
    all_alike(&["format.use-internal-phase=yes", "format.exp-archived-phase=yes"], ReadBy::HgCore);
}

#[test]
fn a_tree_with_an_old_encoding_of_names_is_read_by_hg() {
    all_alike(&["format.dotencode=no"], ReadBy::Hg);
}

#[test]
fn a_tree_without_a_store_folder_is_read_by_hg() {
    all_alike(&["format.usestore=no"], ReadBy::Hg);
}

#[test]
fn a_tree_with_tree_manifests_is_read_by_hg() {
    all_alike(&["experimental.treemanifest=yes"], ReadBy::Hg);
}

#[test]
fn a_tree_of_changelog_v2_is_read_by_hg() {
    let enable = "enable-unstable-format-and-corrupt-my-data";
    all_alike(&[&format!("format.exp-use-changelog-v2={enable}")], ReadBy::Hg);
}

#[test]
fn a_tree_of_revlog_v2_is_read_by_hg() {
    let enable = "enable-unstable-format-and-corrupt-my-data";
    all_alike(&[&format!("experimental.revlogv2={enable}")], ReadBy::Hg);
}

#[test]
fn a_tree_of_a_share_is_that_of_hg() {
    let mut hg = Hg::new();
    let nodes = hg.hard("r", &[]);
    hg.run("", &["share", "-q", "-U", "r", "s"]);
    hg.compare("s", &nodes[3]);
}

#[test]
fn a_tree_of_a_pulled_clone_is_that_of_hg() {
    let mut hg = Hg::new();
    let nodes = hg.hard("r", &[]);
    hg.run("", &["clone", "-q", "--pull", "-U", "r", "c"]);
    hg.compare("c", &nodes[3]);
    hg.compare("c", &nodes[nodes.len() - 1]);
}

#[test]
fn many_files_come_in_order() {
    let mut hg = Hg::new();
    hg.run("", &["init", "r"]);
    for n in 0..1500 {
        hg.write("r", &format!("d{}/f{n}", n % 37), lines(n, n % 400));
    }
    let node = hg.commit("r", "many");
    assert_eq!(hg.compare("r", &node).files, Some(1501));
}

#[test]
fn big_files_are_streamed_with_bounded_memory() {
    let mut hg = Hg::new();
    hg.run("", &["init", "r"]);
    let compressible = b"all the same bytes\n".repeat(100 << 20 >> 4);
    let mut state = 1_u64;
    let mut random = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    let incompressible: Vec<u8> = (0..100 << 20).map(|_| random()).collect();
    hg.write("r", "same", &compressible);
    hg.write("r", "random", &incompressible);
    // More than is held in memory, though it takes little of the store.
    fs::File::create(hg.path("r/zeros")).unwrap().set_len(400 << 20).unwrap();
    for n in 0..200 {
        hg.write("r", &format!("small/{n}"), "small");
    }
    let node = hg.commit("r", "big");
    drop((compressible, incompressible));
    fs::remove_file(hg.path("r/zeros")).unwrap();
    // In a process of its own, so that its peak is its own.
    let out = hg.path("ours.tar");
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "archive::archives_what_the_environment_names", "--ignored"])
        .env("ARCHIVE_REPO", hg.path("r"))
        .env("ARCHIVE_NODE", node.to_string())
        .env("ARCHIVE_OUT", &out)
        .env("ARCHIVE_HG", crate::hg::command())
        .status();
    assert!(child.unwrap().success());
    let theirs = hg.archive_to("r", &node);
    check_alike(&out, &theirs);
    let peak: u64 = fs::read_to_string(out.with_extension("peak")).unwrap().parse().unwrap();
    assert!(peak < 400 << 10, "{peak} KiB");
}

/// Compares two tars with little memory.
fn check_alike(ours: &Path, theirs: &Path) {
    let open = |path| tar::Archive::new(io::BufReader::new(fs::File::open(path).unwrap()));
    let (mut ours, mut theirs) = (open(ours), open(theirs));
    let mut theirs = theirs.entries().unwrap();
    let mut count = 0;
    for entry in ours.entries().unwrap() {
        let (mut ours, mut theirs) = (entry.unwrap(), theirs.next().unwrap().unwrap());
        let path = ours.path_bytes().into_owned();
        assert_eq!(path, theirs.path_bytes().into_owned());
        assert_eq!(ours.size(), theirs.size());
        let (mut one, mut other) = (vec![0; 1 << 20], vec![0; 1 << 20]);
        loop {
            let read = ours.read(&mut one).unwrap();
            theirs.read_exact(&mut other[..read]).unwrap();
            assert!(one[..read] == other[..read], "{}", String::from_utf8_lossy(&path));
            if read == 0 {
                break;
            }
        }
        count += 1;
    }
    assert!(theirs.next().is_none());
    assert_eq!(count, 204);
}

/// Not a test of its own: what the one above runs.
#[test]
#[ignore = "run by big_files_are_streamed_with_bounded_memory"]
fn archives_what_the_environment_names() {
    let (Some(repo), Ok(node)) = (env::var_os("ARCHIVE_REPO"), env::var("ARCHIVE_NODE")) else {
        return;
    };
    let out = PathBuf::from(env::var_os("ARCHIVE_OUT").unwrap());
    let repository = Repository::open(Path::new(&repo)).unwrap();
    let reader = repository.with_hg(env::var_os("ARCHIVE_HG").unwrap()).reader().unwrap();
    reader.archive(&node.parse().unwrap(), &mut fs::File::create(&out).unwrap()).unwrap();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    fs::write(out.with_extension("peak"), peak.trim().trim_end_matches(" kB")).unwrap();
}

#[test]
fn a_reader_that_goes_away_ends_the_archive() {
    struct Gone(usize);
    impl Write for Gone {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for config in ["format.dotencode=yes", "format.dotencode=no"] {
        let mut hg = Hg::new();
        hg.run("", &["init", "r", "--config", config]);
        for n in 0..300 {
            hg.write("r", &format!("f{n}"), "x".repeat(5000));
        }
        let node = hg.commit("r", "files");
        let reader = hg.reader("r");
        let error = reader.archive(&node, &mut Gone(700_000)).unwrap_err();
        assert!(matches!(error, Error::Sink(_)), "{error}");
    }
}

#[test]
fn subrepositories_are_left_out_as_hg_does() {
    let mut hg = Hg::new();
    for config in ["format.dotencode=yes", "format.dotencode=no"] {
        let name = config.replace(['.', '='], "-");
        hg.run("", &["init", &name, "--config", config]);
        hg.run("", &["init", &format!("{name}/lib")]);
        hg.write(&name, "lib/a", "a");
        hg.run(&format!("{name}/lib"), &["commit", "-A", "-q", "-m", "a"]);
        hg.write(&name, ".hgsub", "lib = lib\n");
        let node = hg.commit(&name, "with a subrepository");
        hg.compare(&name, &node);
        let mut tar = Vec::new();
        hg.reader(&name).archive(&node, &mut tar).unwrap();
        let paths: Vec<_> = items(&tar).into_iter().map(|item| item.path).collect();
        assert_eq!(paths, [&b".hg_archival.txt"[..], b".hgsub", b".hgsubstate"]);
    }
}

#[test]
fn a_tracked_hg_archival_txt_is_there_once_with_its_own_content() {
    let mut hg = Hg::new();
    for config in ["format.dotencode=yes", "format.dotencode=no", "format.usestore=no"] {
        let name = config.replace(['.', '='], "-");
        hg.run("", &["init", &name, "--config", config]);
        hg.write(&name, ".hg_archival.txt", "node: another\n");
        hg.write(&name, "a", "a");
        let node = hg.commit(&name, "unpacked from an archive");
        let repository = hg.repository(&name);
        let mut tar = Vec::new();
        let archived = repository.archive(&node, &mut tar).unwrap();
        assert!(archived.files.is_none_or(|files| files == 2));
        let items = items(&tar);
        let told: Vec<_> = items.iter().map(|item| (&item.path[..], &item.content[..])).collect();
        let expected = [(&b".hg_archival.txt"[..], &b"node: another\n"[..]), (b"a", b"a")];
        assert_eq!(told, expected, "{config}");
    }
}

#[test]
fn a_tree_that_hg_alone_can_read_is_read_without_the_list_of_changesets() {
    let mut hg = Hg::new();
    hg.run("", &["init", "r", "--config", "format.usestore=no"]);
    hg.write("r", "a", "1");
    let node = hg.commit("r", "first");
    hg.write("r", "a", "2");
    hg.run("r", &["commit", "--amend", "-q", "-m", "amended"]);
    // hg, with a word about what it is asked.
    let (told, program) = (hg.path("told"), hg.path("hg-that-tells"));
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {}\nexec {} \"$@\"\n",
        told.display(),
        crate::hg::command().display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let repository = hg.repository("r").with_hg(&program);
    // Hidden, and there all the same.
    let mut tar = Vec::new();
    repository.archive(&node, &mut tar).unwrap();
    assert_eq!(items(&tar)[1].content, b"1");
    let error = repository.archive(&Node([7; 20]), &mut io::sink()).unwrap_err();
    assert!(matches!(error, Error::UnknownChangeset { .. }), "{error}");
    let told = fs::read_to_string(told).unwrap();
    assert!(told.contains("archive") && !told.contains("all()"), "{told}");
}

#[test]
fn what_is_not_there_is_not_archived() {
    let mut hg = Hg::new();
    hg.run("", &["init", "r"]);
    let reader = hg.reader("r");
    let error = reader.archive(&Node::NULL, &mut io::sink()).unwrap_err();
    assert!(matches!(error, Error::UnknownChangeset { .. }), "{error}");
}
