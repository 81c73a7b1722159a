//! `hgci-hook` as hg starts it: exit status 0, whatever happens.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use hgci_api::hook::Hint;
use hgci_hooks::spool;

use crate::place::{Place, list, read};

fn hook(place: &Place) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hgci-hook"));
    command.env_clear().current_dir(&place.root).stdin(Stdio::null());
    command.env("HG_HOOKTYPE", "txnclose").env("HG_TXNID", "TXN:1").env("HG_TXNNAME", "serve");
    command
}

/// What it said; it must have ended with 0.
fn said(mut command: Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&stdout), "");
    String::from_utf8(stderr).unwrap()
}

#[test]
fn the_variables_of_hg_become_a_hint() {
    let place = Place::configured();
    let seen = place.serve_json("200 OK", r#"{"push": 1, "line": "push 1 recorded"}"#);
    let first = "0123456789abcdef0123456789abcdef01234567";
    let last = "ffffffffffffffffffffffffffffffffffffffff";
    let mut command = hook(&place);
    command.args(["--deadline", "60s"]);
    command.env("HG_NODE", first).env("HG_NODE_LAST", last).env("HG_SOURCE", "serve");
    command.env("HG_URL", "remote:http:127.0.0.1:al%20ice").env("HG_USERVAR_TRY", "1");
    command.env("HG_BOOKMARK_MOVED", "1").env("HG_PENDING", "");
    assert_eq!(said(command), "ci: push 1 recorded\n");
    let hint: Hint = serde_json::from_slice(&seen.recv().unwrap()).unwrap();
    assert_eq!(hint.txid, "TXN:1");
    assert_eq!(hint.txnname, "serve");
    assert_eq!(hint.source, "serve");
    assert_eq!(hint.url, "remote:http:127.0.0.1:al%20ice");
    assert_eq!((hint.first, hint.last), (first.parse().ok(), last.parse().ok()));
    assert_eq!(hint.pushvars["TRY"], "1");
    assert!(hint.moved);
    assert_eq!(hint.changesets, None);
}

#[test]
fn the_socket_comes_from_the_argument_the_environment_or_the_repository() {
    let place = Place::configured();
    let _seen = place.serve_json("200 OK", r#"{"push": 1, "line": "push 1 recorded"}"#);
    let with = |change: &dyn Fn(&mut Command)| {
        let mut command = hook(&place);
        command.args(["--deadline", "60s"]);
        change(&mut command);
        said(command).contains("recorded\n")
    };
    let socket = place.socket();
    assert!(with(&|_| {}));
    assert!(with(&|command| {
        command.env("HGCI_SOCKET", "");
    }));
    assert!(!with(&|command| {
        command.env("HGCI_SOCKET", "/nowhere");
    }));
    assert!(with(&|command| {
        command.env("HGCI_SOCKET", "/nowhere").arg("--socket").arg(&socket);
    }));
    assert!(with(&|command| {
        command.arg(format!("--socket={}", socket.display()));
    }));
}

#[test]
fn mistakes_of_an_administrator_are_named_and_the_push_is_recorded() {
    for (arguments, named) in [
        (&["--deadline", "300"][..], "--deadline: not a duration"),
        (&["--deadline"], "--deadline: a value is missing"),
        (&["--wait=soon"], "--wait: not a duration"),
        (&["--sokcet", "/x"], "--sokcet: unknown argument"),
        (&["push"], "push: unknown argument"),
    ] {
        let place = Place::configured();
        let mut command = hook(&place);
        command.args(arguments);
        let said = said(command);
        assert!(said.contains(&format!("ci: hgci-hook: {named}")), "{said}");
        assert!(
            said.ends_with("ci: daemon not reachable, push recorded; it will be built later\n")
        );
        assert_eq!(place.spooled().len(), 1);
    }
}

#[test]
fn it_says_what_it_is_for() {
    let place = Place::private();
    for (argument, start) in [("--version", "hgci-hook 0."), ("--help", "Tells hgcid"), ("-h", "T")]
    {
        let mut command = hook(&place);
        let output = command.env_remove("HG_HOOKTYPE").arg(argument).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8(output.stdout).unwrap().starts_with(start));
    }
    let mut command = hook(&place);
    command.env_remove("HG_HOOKTYPE");
    assert_eq!(said(command), "ci: hgci-hook is for [hooks] of Mercurial; see hgci-hook --help\n");
    let mut command = hook(&place);
    command.env("HG_HOOKTYPE", "pretxnclose");
    let wrong = "ci: hgci-hook is a txnclose or changegroup hook, not pretxnclose\n";
    assert_eq!(said(command), wrong);
}

#[test]
fn its_manual_page_has_every_option() {
    let place = Place::private();
    let help = hook(&place).arg("--help").output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/hgci-hook.8");
    let page = fs::read_to_string(page).unwrap().replace('\\', "");
    let options: Vec<_> = help
        .split(|c: char| c.is_whitespace() || ",[]".contains(c))
        .filter(|word| word.starts_with('-') && *word != "-")
        .collect();
    assert!(options.contains(&"--deadline"), "{help}");
    for option in options {
        assert!(page.contains(option), "{option}");
    }
}

#[test]
fn nobody_listening_to_it_is_no_failure() {
    let place = Place::configured();
    for close in ["1>&- 2>&-", "0>&- 1>&- 2>&-", "1>/dev/full 2>/dev/full", "2>&1 | true; exit 0"] {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("\"$0\" {close}"), env!("CARGO_BIN_EXE_hgci-hook")]);
        command.current_dir(&place.root).env("HG_HOOKTYPE", "txnclose").env("HG_TXNID", "TXN:1");
        assert_eq!(command.output().unwrap().status.code(), Some(0), "{close}");
    }
    assert_eq!(place.spooled().len(), 4);
}

#[test]
fn a_folder_without_repository_is_said_in_one_line() {
    let place = Place::private();
    let mut command = hook(&place);
    command.current_dir("/");
    assert_eq!(said(command), "ci: no Mercurial repository in .\n");
}

/// Accounts that no system has.
const ACCOUNTS: [u32; 2] = [54_321, 54_322];
const GROUP: u32 = 54_320;

#[test]
fn accounts_that_share_a_repository_cannot_touch_what_another_spooled() {
    if !rustix::process::getuid().is_root() {
        eprintln!("not tested: other accounts need root");
        return;
    }
    let place = Place::configured();
    // Where another account can reach it.
    let program = place.root.join("hgci-hook");
    // By another process: what this one has open for writing, a fork of another test would keep
    // open, and a program that is open for writing cannot be started.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_hgci-hook")).arg(&program).status();
    assert!(copied.unwrap().success());
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&place.root, 0o755);
    for folder in [place.hg(), place.hg().join("store")] {
        chown(&folder, None, Some(GROUP)).unwrap();
        mode(&folder, 0o2770);
    }
    spool::prepare(&place.hg()).unwrap();
    let run_as = |uid, command: &mut Command| {
        command.uid(uid).gid(GROUP).current_dir(&place.root).env_clear();
        command.env("HG_HOOKTYPE", "txnclose").env("HG_TXNID", format!("TXN:{uid}"));
        command.env("PATH", "/usr/bin:/bin").output().unwrap()
    };
    for uid in ACCOUNTS {
        let Output { status, stderr, .. } = run_as(uid, &mut Command::new(&program));
        assert!(status.success());
        let said = String::from_utf8(stderr).unwrap();
        assert_eq!(said, "ci: daemon not reachable, push recorded; it will be built later\n");
    }
    let files = list(&place.hg(), 10);
    assert_eq!(files.len(), 2);
    for file in &files {
        let spooled = read(file).unwrap();
        assert_eq!(spooled.hint.txid, format!("TXN:{}", spooled.owner), "the owner pushed");
        let meta = fs::metadata(file).unwrap();
        assert_eq!((meta.gid(), meta.mode() & 0o7777), (GROUP, 0o640));
        let other = ACCOUNTS.into_iter().find(|&uid| uid != spooled.owner).unwrap();
        for attempt in ["echo >>\"$0\"", "rm -f \"$0\"", "mv \"$0\" \"$0.x\""] {
            let mut shell = Command::new("sh");
            let Output { status, .. } = run_as(other, shell.args(["-c", attempt]).arg(file));
            assert!(!status.success(), "{attempt}");
        }
        assert_eq!(read(file).unwrap(), spooled);
    }
    // The daemon's account made the folder: it may remove what it read.
    fs::remove_file(&files[0]).unwrap();
}

#[test]
fn a_private_repository_hears_nothing() {
    let place = Place::private();
    let mut command = hook(&place);
    command.env("HGCI_SOCKET", place.socket());
    assert_eq!(said(command), "");
    assert!(!place.hg().join("hgci").exists());
}
