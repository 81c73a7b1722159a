//! `hgci check` as a person and as a script see it.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const HGCI: &str = env!("CARGO_BIN_EXE_hgci");

const GOOD: &str = "\
version = 1
[job.test]
run = 'make check'
needs = ['build']
labels = ['linux', 'x86_64']
timeout = '90m'
[job.build]
run = 'make'
[job.lint]
run = 'make lint'
allow-failure = true
";

const BAD: &str = "\
version = 1

[job.build]
\trun = 'make'
\tneed = [] # ö

[job.test]
run = 7
needs = ['biuld']
";

/// A folder with a pipeline.
fn folder(pipeline: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join(".hgci.toml"), pipeline).unwrap();
    folder
}

/// hgci in a folder, with nothing of the environment that could change what it prints.
fn hgci(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(HGCI);
    command.args(args).current_dir(folder).stdin(Stdio::null());
    command.env_remove("NO_COLOR").env_remove("HG").env("TERM", "xterm");
    command
}

/// What is printed, and the exit status. Nothing may go to stderr.
fn run(folder: &Path, args: &[&str]) -> (String, i32) {
    let Output { status, stdout, stderr } = hgci(folder, args).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&stderr), "");
    (String::from_utf8(stdout).unwrap(), status.code().unwrap())
}

/// The complaint when there is nothing to check, and that the exit status is 2.
fn refused(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert_eq!((status.code(), stdout.as_slice()), (Some(2), &b""[..]));
    String::from_utf8(stderr).unwrap()
}

#[test]
fn a_fine_pipeline_is_shown_as_the_jobs_that_would_run() {
    let folder = folder(GOOD);
    let text = "\
.hgci.toml: 3 jobs would run
  build
  test    needs build; labels linux, x86_64; timeout 1h30m
  lint    may fail
";
    assert_eq!(run(folder.path(), &["check"]), (text.into(), 0));
    fs::write(folder.path().join("other.toml"), "version = 1\n").unwrap();
    let text = "other.toml: no job would run\n";
    assert_eq!(run(folder.path(), &["check", "other.toml"]), (text.into(), 0));
}

#[test]
fn the_manual_shows_what_is_printed() {
    let manual = include_str!("../../../docs/pipeline.md");
    let block = |text: &str| text.split("\n```\n").next().unwrap().to_owned() + "\n";
    let (before, after) = manual.split_once("```console\n$ hgci check\n").unwrap();
    let pipeline = block(before.rsplit_once("```toml\n").unwrap().1);
    assert_eq!(run(folder(&pipeline).path(), &["check"]), (block(after), 0));
}

#[test]
fn each_mistake_is_shown_with_its_line() {
    let folder = folder(BAD);
    let text = "\
.hgci.toml:5:2: unknown key `need` in `job.build`
 5 |  need = [] # ö
   |  ^
   = did you mean `needs`?
.hgci.toml:8:7: `job.test.run`: expected a string or an array of strings, found an integer
 8 | run = 7
   |       ^
.hgci.toml:9:10: `job.test.needs`: there is no job `biuld`
 9 | needs = ['biuld']
   |          ^
   = did you mean `build`?
.hgci.toml: 3 mistakes
";
    assert_eq!(run(folder.path(), &["check"]), (text.into(), 2));
}

#[test]
fn json_has_the_same_keys_whatever_comes() {
    let good = folder(GOOD);
    let (text, status) = run(good.path(), &["check", "--json"]);
    assert_eq!(status, 0);
    assert_eq!(
        text,
        "{\"jobs\":[{\"name\":\"build\",\"when\":true},{\"name\":\"test\",\"when\":true},\
         {\"name\":\"lint\",\"when\":true}],\"errors\":[]}\n"
    );
    let bad = folder("version = 1\njobs = 1\nx = 1\n");
    let (text, status) = run(bad.path(), &["check", "--json"]);
    assert_eq!(status, 2);
    assert_eq!(
        text,
        "{\"jobs\":[],\"errors\":[\
         {\"file\":\".hgci.toml\",\"line\":2,\"column\":1,\"message\":\"unknown key `jobs`\",\
         \"hint\":\"did you mean `job`?\"},\
         {\"file\":\".hgci.toml\",\"line\":3,\"column\":1,\"message\":\"unknown key `x`\",\
         \"hint\":\"known here: `env`, `job`, `version`\"}]}\n"
    );
    let (text, status) = run(bad.path(), &["check", "--json", "missing.toml"]);
    assert_eq!(status, 2);
    assert_eq!(
        text,
        "{\"jobs\":[],\"errors\":[{\"file\":\"missing.toml\",\"line\":1,\"column\":1,\
         \"message\":\"cannot read missing.toml: No such file or directory (os error 2)\",\
         \"hint\":null}]}\n"
    );
}

#[test]
fn the_pipeline_is_found_at_the_root_of_the_repository() {
    let folder = folder("version = 1\n[job.a]\nrun = 'x'\n");
    let deep = folder.path().join("a/b");
    fs::create_dir_all(&deep).unwrap();
    assert_eq!(
        refused(&mut hgci(&deep, &["check"])),
        "hgci: there is no .hgci.toml here, and this is not in a Mercurial repository\n"
    );
    fs::create_dir(folder.path().join(".hg")).unwrap();
    let text = "../../.hgci.toml: 1 job would run\n  a\n";
    assert_eq!(run(&deep, &["check"]), (text.into(), 0));
    assert_eq!(run(&deep, &["check", "-R", "../.."]), (text.into(), 0));
    assert_eq!(
        refused(&mut hgci(&deep, &["check", "-R", ".."])),
        "hgci: .. is no Mercurial repository: it has no .hg\n"
    );
    fs::remove_file(folder.path().join(".hgci.toml")).unwrap();
    let root = folder.path().canonicalize().unwrap();
    assert_eq!(
        refused(&mut hgci(&deep, &["check"])),
        format!("hgci: there is no .hgci.toml in the repository {}\n", root.display())
    );
}

#[test]
fn a_pipeline_comes_from_standard_input_too() {
    let folder = TempDir::new().unwrap();
    let mut child = hgci(folder.path(), &["check", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"version = 2\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("<stdin>:1:11: `version`: 2 is not a version"), "{text}");
}

#[test]
fn hostile_files_cost_little_and_cannot_steer_a_terminal() {
    let folder = folder("version = 1\n'\u{202e}x' = '\u{85}' # \u{9b}31m \u{2066}\n");
    let (text, status) = run(folder.path(), &["check"]);
    assert_eq!(status, 2);
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    assert!(!text.contains(['\u{202e}', '\u{2066}']), "{text:?}");
    // An endless file is read up to the limit.
    let (text, status) = run(folder.path(), &["check", "/dev/zero"]);
    assert_eq!(status, 2);
    assert!(text.starts_with("/dev/zero:1:1: the file is too large"), "{text}");
    assert!(text.len() < 1000, "{}", text.len());
    // A long line is cut around the mistake.
    let long = format!("version = 1 {}", "x".repeat(500_000));
    fs::write(folder.path().join(".hgci.toml"), long).unwrap();
    let (text, status) = run(folder.path(), &["check"]);
    assert_eq!(status, 2);
    assert!(text.len() < 1000, "{text}");
    fs::write(folder.path().join(".hgci.toml"), b"version = 1\n# \xff\n").unwrap();
    let (text, status) = run(folder.path(), &["check"]);
    assert_eq!(status, 2);
    assert!(text.starts_with(".hgci.toml:2:3: byte 0xff is not UTF-8\n"), "{text}");
}

#[test]
fn the_caret_is_under_the_mistake_in_a_long_line() {
    let needs: Vec<_> = (0..40).map(|n| format!("'é{n}'")).collect();
    let folder =
        folder(&format!("version = 1\n[job.a]\nrun = 'x'\nneeds = [{}]\n", needs.join(", ")));
    let (text, _) = run(folder.path(), &["check"]);
    let lines: Vec<_> = text.lines().collect();
    for (n, three) in lines.chunks_exact(3).enumerate() {
        let [_, line, caret] = three else { unreachable!() };
        let at = caret.chars().position(|c| c == '^').unwrap();
        let under: String = line.chars().skip(at).take(needs[n].chars().count()).collect();
        assert_eq!(under, needs[n], "{line}\n{caret}");
    }
    assert_eq!(lines.len(), 3 * 40 + 1);
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let folder = folder(BAD);
    let coloured = |command: &mut Command| {
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stdout).contains("\x1b[")
    };
    assert!(!coloured(&mut hgci(folder.path(), &["check"])));
    assert!(coloured(&mut hgci(folder.path(), &["check", "--color", "always"])));
    // `script` gives the command a terminal.
    let terminal = |args: &str| {
        let mut command = Command::new("script");
        command.args(["-qec", &format!("{HGCI} check {args}"), "/dev/null"]);
        command.current_dir(folder.path()).env_remove("NO_COLOR").env("TERM", "xterm");
        command.stdin(Stdio::null());
        command
    };
    assert!(coloured(&mut terminal("")));
    assert!(!coloured(&mut terminal("--color never")));
    assert!(!coloured(terminal("").env("NO_COLOR", "1")));
    assert!(!coloured(terminal("").env("TERM", "dumb")));
}

#[test]
fn a_reader_who_goes_away_is_no_error() {
    let mut text = String::from("version = 1\n");
    for n in 0..1000 {
        text += &format!("[job.a-job-with-quite-a-long-name-{n}]\nrun = 'x'\ntimeout = '1m'\n");
    }
    let folder = folder(&text);
    let mut child = hgci(folder.path(), &["check"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    child.wait().unwrap();
    assert_eq!(stderr, "");
    // While a disk without room is one.
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = hgci(folder.path(), &["check"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("No space left on device"), "{stderr}");
}

/// The hg of the tests: `HGCI_TEST_HG`, else the one on PATH, else the checkout's.
fn hg() -> PathBuf {
    if let Some(hg) = std::env::var_os("HGCI_TEST_HG") {
        return hg.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([Path::new(env!("CARGO_MANIFEST_DIR")).join("../../build/venv/bin")])
        .map(|folder| folder.join("hg"))
        .find(|hg| hg.is_file())
        .expect("this test needs Mercurial: set HGCI_TEST_HG, or run `make test`")
}

#[test]
fn a_symlink_is_a_mistake_where_hg_would_track_it_and_nowhere_else() {
    let folder = folder("");
    let root = folder.path();
    fs::create_dir(root.join(".hg")).unwrap();
    fs::create_dir(root.join("sub")).unwrap();
    fs::write(root.join("ci.toml"), GOOD).unwrap();
    symlink("ci.toml", root.join("link.toml")).unwrap();
    assert_eq!(run(root, &["check", "link.toml"]).1, 0);
    let what = "`.hgci.toml` is a symbolic link; it must be a regular file";
    for target in ["ci.toml", "leads/nowhere"] {
        fs::remove_file(root.join(".hgci.toml")).unwrap();
        symlink(target, root.join(".hgci.toml")).unwrap();
        for (place, args) in
            [("", &["check"][..]), ("", &["check", ".hgci.toml"]), ("sub", &["check"])]
        {
            let (text, status) = run(&root.join(place), args);
            assert_eq!((text.matches(what).count(), status), (1, 2), "{text}");
            let (text, status) = run(&root.join(place), &[args, &["--json"]].concat());
            assert_eq!(status, 2);
            let report: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(report["errors"][0]["message"], what);
            assert_eq!(report["errors"].as_array().unwrap().len(), 1);
        }
    }
}

#[test]
fn a_pipeline_is_read_as_it_is_in_a_changeset() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    // What would break a script's hg: an alias, and a decoding of what is printed.
    let config = "[ui]\nusername = a\n[alias]\ncat = log\n[defaults]\ncat = --decode\n";
    fs::write(root.join("hgrc"), config).unwrap();
    let hg_run = |args: &[&str]| {
        let mut command = Command::new(hg());
        command.args(args).current_dir(root).env("HGRCPATH", root.join("hgrc"));
        assert!(command.status().unwrap().success(), "{args:?}");
    };
    hg_run(&["init", "-q"]);
    fs::write(root.join("a"), "").unwrap();
    hg_run(&["commit", "-qAm", "none"]);
    fs::write(root.join(".hgci.toml"), BAD).unwrap();
    hg_run(&["commit", "-qAm", "bad"]);
    fs::write(root.join(".hgci.toml"), GOOD).unwrap();
    hg_run(&["commit", "-qm", "good"]);
    fs::write(root.join(".hgci.toml"), "nothing that could be read").unwrap();
    fs::create_dir(root.join("sub")).unwrap();
    let check = |args: &[&str]| {
        let mut command = hgci(&root.join("sub"), &["check", "--json"]);
        command.args(args).env("HG", hg()).env("HGRCPATH", root.join("hgrc"));
        let output = command.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        (String::from_utf8(output.stdout).unwrap(), output.status.code())
    };
    let (text, status) = check(&["-r", "tip"]);
    assert_eq!((text.contains("\"name\":\"lint\""), status), (true, Some(0)), "{text}");
    let (text, status) = check(&["-r", "desc('bad')"]);
    assert_eq!((text.matches("\"line\":").count(), status), (3, Some(2)), "{text}");
    assert!(text.contains("\"file\":\".hgci.toml\",\"line\":5,\"column\":2"), "{text}");
    let (text, status) = check(&["-r", "0"]);
    assert_eq!(status, Some(2));
    assert!(text.contains("cannot read .hgci.toml at \\\"0\\\": "), "{text}");
    assert!(text.contains("no such file in rev"), "{text}");
    for rev in ["--version", "no-such-thing", "all(", ""] {
        let (text, status) = check(&[&format!("--rev={rev}")]);
        assert_eq!(status, Some(2), "{rev}: {text}");
        assert!(text.contains(&format!("cannot read .hgci.toml at \\\"{rev}\\\": ")), "{text}");
    }
    // A folder of that name is no pipeline, whatever is in it.
    fs::remove_file(root.join(".hgci.toml")).unwrap();
    fs::create_dir(root.join(".hgci.toml")).unwrap();
    fs::write(root.join(".hgci.toml/jobs"), GOOD).unwrap();
    hg_run(&["commit", "-qAm", "folder"]);
    let (text, status) = check(&["-r", "desc('folder')"]);
    assert_eq!(status, Some(2), "{text}");
    assert!(text.contains("there is no such file"), "{text}");
    fs::remove_dir_all(root.join(".hgci.toml")).unwrap();
    symlink("a", root.join(".hgci.toml")).unwrap();
    hg_run(&["commit", "-qAm", "link"]);
    let (text, status) = check(&["-r", "desc('link')"]);
    assert_eq!(status, Some(2), "{text}");
    assert!(text.contains("`.hgci.toml` is a symbolic link; it must be a regular file"), "{text}");
    hg_run(&["update", "-q", "desc('good')"]);
    hg_run(&["commit", "-q", "--config", "ui.allowemptycommit=yes", "-m", "good again"]);
    let mut elsewhere = hgci(Path::new("/"), &["check", "-r", "tip", "-R"]);
    elsewhere.arg(root).env("HG", hg()).env("HGRCPATH", root.join("hgrc"));
    assert_eq!(elsewhere.output().unwrap().status.code(), Some(0));
    let mut missing = hgci(root, &["check", "-r", "tip"]);
    assert_eq!(
        refused(missing.env("HG", "/none/hg")),
        "hgci: cannot run /none/hg: No such file or directory (os error 2)\n"
    );
}

#[test]
fn pages_and_completions_come_from_the_command_itself() {
    let folder = TempDir::new().unwrap();
    assert_eq!(run(folder.path(), &["--version"]), ("hgci 0.1.0\n".into(), 0));
    assert_eq!(run(folder.path(), &["man", "share/man1"]), (String::new(), 0));
    let page = fs::read_to_string(folder.path().join("share/man1/hgci-check.1")).unwrap();
    for option in ["\\-\\-rev", "\\-\\-json", "\\-\\-repository", "\\-\\-color"] {
        assert!(page.contains(option), "{option}");
    }
    assert!(folder.path().join("share/man1/hgci.1").is_file());
    for shell in ["bash", "zsh", "fish"] {
        let (text, status) = run(folder.path(), &["completions", shell]);
        assert_eq!(status, 0);
        assert!(text.contains("check") && text.contains("json"), "{shell}");
    }
}
