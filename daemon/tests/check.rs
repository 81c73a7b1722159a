//! `hgcid check` on a machine that lacks something.

#![allow(clippy::unwrap_used)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, mkfifoat};
use tempfile::TempDir;

/// A room with a configuration that is fine, `more` beside it, and two repositories in `hg/`.
fn room(more: &str) -> TempDir {
    let room = tempfile::tempdir().unwrap();
    let path = room.path().display();
    for name in ["widgets", "gadgets"] {
        fs::create_dir_all(room.path().join(format!("hg/{name}/.hg/store"))).unwrap();
        let hgrc = format!("[hgci]\nsocket = {path}/s\n");
        fs::write(room.path().join(format!("hg/{name}/.hg/hgrc")), hgrc).unwrap();
    }
    let text = format!(
        "state = \"{path}/state\"\nsocket = \"{path}/s\"\n[[repo]]\npath = \"{path}/hg/*\"\n\
         [[pool]]\nname = \"here\"\nisolation = \"sandbox\"\n{}",
        more.replace("ROOM", &path.to_string())
    );
    fs::write(room.path().join("hgcid.toml"), text).unwrap();
    room
}

/// What `hgcid check` says of a room, with the room's path as `ROOM`, and its exit status. A
/// program that always agrees stands where bubblewrap would.
fn check(room: &TempDir) -> (String, i32) {
    let bwrap = room.path().join("bwrap");
    if !bwrap.exists() {
        fs::write(&bwrap, "#!/bin/sh\nexit 0\n").unwrap();
        fs::set_permissions(&bwrap, Permissions::from_mode(0o755)).unwrap();
    }
    check_with(room, &bwrap)
}

fn check_with(room: &TempDir, bwrap: &Path) -> (String, i32) {
    let output = Command::new(env!("CARGO_BIN_EXE_hgcid"))
        .args(["check", "--config"])
        .arg(room.path().join("hgcid.toml"))
        .env("HGCI_BWRAP", bwrap)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    (said.replace(room.path().to_str().unwrap(), "ROOM"), output.status.code().unwrap())
}

/// That one line is said, besides nothing else that matters.
fn says(room: &TempDir, line: &str, status: i32) {
    let (said, code) = check(room);
    assert!(said.lines().any(|one| one == line), "wanted {line}\n{said}");
    assert_eq!(code, status, "{said}");
}

#[test]
fn a_sound_configuration_is_fine() {
    assert_eq!(check(&room("")), ("ROOM/hgcid.toml is fine\n".to_owned(), 0));
}

#[test]
fn a_repository_without_a_hook_or_with_the_hook_of_another_daemon_is_told() {
    let room = room("");
    fs::remove_file(room.path().join("hg/widgets/.hg/hgrc")).unwrap();
    fs::write(room.path().join("hg/gadgets/.hg/hgrc"), "[hgci]\nsocket = /other\n").unwrap();
    let hint = "see hgrc.example: [hgci] socket, or [hooks] txnclose.hgci";
    says(
        &room,
        &format!(
            "ROOM/hgcid.toml:4:8: warning: ROOM/hg/widgets/.hg/hgrc sets no hook: its pushes are \
             found late ({hint})"
        ),
        0,
    );
    says(
        &room,
        "ROOM/hgcid.toml:4:8: warning: ROOM/hg/gadgets/.hg/hgrc: [hgci] socket is /other (it is \
         not the `socket` of this file)",
        0,
    );
}

#[test]
fn an_hgrc_that_hg_ignores_over_ssh_is_told() {
    let room = room("");
    let store = room.path().join("hg/widgets/.hg/store");
    fs::set_permissions(store, Permissions::from_mode(0o2775)).unwrap();
    let (said, code) = check(&room);
    assert!(said.contains("hg ignores its hooks when another account pushes over ssh"), "{said}");
    assert_eq!(code, 0);
}

#[test]
fn what_is_no_repository_and_what_is_served_twice_is_told() {
    let room =
        room("[[repo]]\npath = \"ROOM/none\"\n[[repo]]\nname = \"again\"\npath = \"ROOM/link\"\n");
    std::os::unix::fs::symlink(room.path().join("hg/widgets"), room.path().join("link")).unwrap();
    says(
        &room,
        "ROOM/hgcid.toml:9:8: ROOM/none is not a Mercurial repository (make it with hg init, or \
         mend the path)",
        2,
    );
    assert!(check(&room).0.contains("is repository again too (serve it once)"));
}

#[test]
fn a_sandbox_that_cannot_be_made_is_told() {
    let room = room("");
    let (said, code) = check_with(&room, Path::new("/nonexistent/bwrap"));
    assert!(said.contains("hgcid.toml:7:13: /nonexistent/bwrap is not installed"), "{said}");
    assert_eq!(code, 2);
    let broken = room.path().join("broken");
    fs::write(&broken, "#!/bin/sh\necho 'no permissions' >&2\nexit 1\n").unwrap();
    fs::set_permissions(&broken, Permissions::from_mode(0o755)).unwrap();
    let (said, _) = check_with(&room, &broken);
    assert!(said.contains("cannot make a sandbox here: no permissions"), "{said}");
}

/// That `hgcid serve` refuses to start for what `hgcid check` says.
fn refuses_to_start(room: &TempDir, line: &str) {
    says(room, line, 2);
    let output = Command::new(env!("CARGO_BIN_EXE_hgcid"))
        .args(["serve", "--config"])
        .arg(room.path().join("hgcid.toml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.replace(room.path().to_str().unwrap(), "ROOM");
    assert!(said.contains(line), "{said}");
    assert!(!output.status.success() && !room.path().join("state").exists());
}

#[test]
fn a_readonly_folder_that_shows_jobs_what_is_hidden_is_refused() {
    let hint = "(name folders that have nothing of hgcid's in them)";
    for (folder, shows) in [
        ("", "the state folder"),
        ("", "the socket"),
        ("state", "the state folder"),
        ("state/work", "the state folder"),
        ("s", "the socket"),
        ("hg", "repository gadgets"),
        ("hg/widgets", "repository widgets"),
        ("hg/widgets/.hg", "repository widgets"),
        ("keys", "the secret KEY"),
        ("keys/key", "the secret KEY"),
        ("link", "repository widgets"),
    ] {
        let folder = format!("ROOM/{folder}");
        let room = room(&format!(
            "readonly = [\"/usr/share\", \"{folder}\"]\n\
             [secret.KEY]\nfile = \"ROOM/keys/key\"\nrepos = [\"widgets\"]\n"
        ));
        std::os::unix::fs::symlink("hg/widgets", room.path().join("link")).unwrap();
        let folder = folder.trim_end_matches('/');
        let line = format!("ROOM/hgcid.toml:8:12: {folder} shows {shows} to jobs {hint}");
        refuses_to_start(&room, &line.replace("ROOM shows", "ROOM/ shows"));
    }
}

#[test]
fn what_is_below_a_folder_that_sandboxes_show_is_refused() {
    let room = room("[secret.KEY]\nfile = \"/usr/share/key\"\nrepos = [\"widgets\"]\n");
    let line = "ROOM/hgcid.toml:9:8: every sandboxed job would see the secret KEY: it is below \
                /usr (put it elsewhere)";
    refuses_to_start(&room, line);
}

#[test]
fn a_readonly_folder_beside_what_is_hidden_is_fine() {
    let room = room("readonly = [\"ROOM/state-of-the-art\"]\n");
    fs::create_dir(room.path().join("state-of-the-art")).unwrap();
    assert_eq!(check(&room), ("ROOM/hgcid.toml is fine\n".to_owned(), 0));
}

#[test]
fn a_port_in_use_is_told() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let room = room(&format!("[web]\nlisten = \"127.0.0.1:{port}\"\n"));
    says(
        &room,
        &format!(
            "ROOM/hgcid.toml:9:10: 127.0.0.1:{port} is in use (stop what listens there, or choose \
             another port)"
        ),
        2,
    );
}

#[test]
fn a_web_server_in_front_that_is_not_named_is_told() {
    let web = "[web]\nlisten = \"127.0.0.1:0\"\nurl = \"https://ci.example.org/\"\n";
    let line = "ROOM/hgcid.toml:9:10: warning: who comes through a web server in front is counted \
                as one (name its address: proxies = [\"127.0.0.1\"])";
    says(&room(web), line, 0);
    let (said, _) = check(&room(&format!("{web}proxies = [\"127.0.0.1\"]\n")));
    assert!(!said.contains("web server"), "{said}");
}

#[test]
fn secrets_that_everybody_can_read_are_told() {
    let room = room(
        "[mail]\nsmtp = \"smtp://ci:word@localhost\"\nfrom = \"ci@example.org\"\n\
         [secret.KEY]\nfile = \"ROOM/key\"\nrepos = [\"widgets\"]\n",
    );
    fs::write(room.path().join("key"), "x").unwrap();
    let mode = |name: &str, mode| {
        fs::set_permissions(room.path().join(name), Permissions::from_mode(mode)).unwrap();
    };
    mode("key", 0o644);
    mode("hgcid.toml", 0o644);
    says(&room, "ROOM/hgcid.toml:12:8: every account can read ROOM/key (chmod o-r it)", 2);
    says(
        &room,
        "ROOM/hgcid.toml:9:8: every account can read the password in this file (chmod o-r the \
         file, or use `password-file`)",
        2,
    );
    mode("key", 0o640);
    mode("hgcid.toml", 0o600);
    assert_eq!(check(&room).1, 0);
}

#[test]
fn a_fifo_in_the_place_of_a_file_is_told_and_not_waited_for() {
    let room = room(
        "[mail]\nsmtp = \"smtps://ci@localhost\"\nfrom = \"ci@example.org\"\n\
         password-file = \"ROOM/password\"\nca-file = \"ROOM/ca\"\n\
         [secret.KEY]\nfile = \"ROOM/key\"\nrepos = [\"widgets\"]\n",
    );
    for name in ["password", "ca", "key"] {
        mkfifoat(CWD, room.path().join(name), 0o600.into()).unwrap();
    }
    for (line, name, hint) in [
        ("11:17", "password", "name a file"),
        ("12:11", "ca", "it must have certificates as PEM"),
        ("14:8", "key", "name a file"),
    ] {
        let line =
            format!("ROOM/hgcid.toml:{line}: read ROOM/{name}: it is not a regular file ({hint})");
        says(&room, &line, 2);
    }
}

#[test]
fn accounts_that_do_not_exist_are_told() {
    let room = room(
        "[[pool]]\nname = \"other\"\nisolation = \"user:no-such-one\"\n\
         [roles]\nadmin = [\"@no-such-group\"]\n",
    );
    says(
        &room,
        "ROOM/hgcid.toml:10:13: this machine has no account no-such-one (make it with useradd, or \
         name another)",
        2,
    );
    assert!(check(&room).0.contains(": this machine has no group no-such-group (make it, or"));
}

#[test]
fn a_file_in_the_way_of_the_state_folder_is_told() {
    let room = room("");
    fs::write(room.path().join("state"), "").unwrap();
    says(
        &room,
        "ROOM/hgcid.toml:1:9: ROOM/state is not a folder (move it away, or name another folder)",
        2,
    );
}

#[test]
fn a_file_that_is_not_there_is_said_and_the_defaults_are_printed() {
    let hgcid = || Command::new(env!("CARGO_BIN_EXE_hgcid"));
    let missing = hgcid().args(["check", "--config", "/nonexistent/hgcid.toml"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nonexistent/hgcid.toml"));
    let missing = hgcid().args(["check", "--json", "--config", "/nonexistent/hgcid.toml"]).output();
    let missing = missing.unwrap();
    assert_eq!((missing.status.code(), missing.stderr.as_slice()), (Some(2), &b""[..]));
    let report: serde_json::Value = serde_json::from_slice(&missing.stdout).unwrap();
    assert_eq!(report["errors"][0]["file"], "/nonexistent/hgcid.toml");
    assert_eq!(report["errors"][0]["severity"], "error");
    let message = report["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("No such file or directory"), "{message}");
    let defaults = hgcid().args(["check", "--defaults"]).output().unwrap();
    assert_eq!(defaults.stdout, hgcid::config::DEFAULTS.as_bytes());
}

#[test]
fn every_finding_is_told_as_json_too() {
    let room = room("[[repo]]\npath = \"ROOM/none\"\n");
    let output = Command::new(env!("CARGO_BIN_EXE_hgcid"))
        .args(["check", "--json", "--config"])
        .arg(room.path().join("hgcid.toml"))
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let errors = report["errors"].as_array().unwrap();
    let found = errors.iter().find(|error| error["line"] == 9).unwrap();
    assert_eq!(found["severity"], "error");
    assert_eq!(found["column"], 8);
    assert!(found["message"].as_str().unwrap().contains("is not a Mercurial repository"));
    assert!(found["hint"].is_string() && found["file"].is_string());
    assert_eq!(output.status.code(), Some(2));
}
