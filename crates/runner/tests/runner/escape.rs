//! A sandboxed job tries to see and touch what it must not.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use hgci_api::run::{Isolation, Sandbox};
use hgci_core::result::Outcome;

use crate::scene::{Mode, NOBODY, Scene, is_root, job, sandbox};
use crate::tarball::Tarball;

fn sandboxes() -> Vec<Mode> {
    let mut modes = vec![Mode { isolation: sandbox(), uid: None }];
    if is_root() {
        modes.push(Mode { isolation: sandbox(), uid: Some(NOBODY) });
    }
    modes
}

/// Runs each attack as a step of its own shell; those that succeed are listed.
fn assert_no_escape(mode: &Mode, attacks: &[String]) {
    let mut step = String::from("set +e\n");
    for (n, attack) in attacks.iter().enumerate() {
        step += &format!("if ( {attack} ) >/dev/null 2>&1; then echo ESCAPED {n}; fi\n");
    }
    step += "echo all tried\n";
    let scene = Scene::new(mode, &[&step]);
    // What a job must not see: the store, a repository, another job, beside its own folder.
    for name in ["store", "repository", "other-job"] {
        let folder = scene.folder.path().join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("secret"), "x").unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        fs::set_permissions(folder.join("secret"), fs::Permissions::from_mode(0o666)).unwrap();
    }
    let base = scene.folder.path().to_str().unwrap().to_owned();
    scene.daemon.state().job.spec.env = [("BASE".to_owned(), base)].into();
    let verdict = scene.run();
    let log = scene.log();
    assert_eq!(verdict.outcome, Outcome::Passed, "{log}");
    assert!(log.contains("\nall tried\n"), "{log}");
    let escaped: Vec<String> = log
        .lines()
        .filter_map(|line| line.strip_prefix("ESCAPED ")?.parse::<usize>().ok())
        .map(|n| attacks[n].clone())
        .collect();
    assert!(escaped.is_empty(), "{mode:?} escaped by {escaped:#?}");
}

fn owned(attacks: &[&str]) -> Vec<String> {
    attacks.iter().map(|attack| attack.to_string()).collect()
}

#[test]
fn a_sandboxed_job_sees_no_store_socket_repository_or_other_job() {
    for mode in sandboxes() {
        let mut attacks = owned(&[
            "cat $BASE/store/secret",
            "cat $BASE/repository/secret",
            "ls $BASE",
            "cat $BASE/other-job/secret",
            "test -e $BASE/hgcid.sock",
            "cd $BASE/12.0.1",
            "echo x > $BASE/other-job/secret",
            // By handles and places that lead around the mounts.
            "cat /proc/1/root$BASE/store/secret",
            "cat /proc/1/cwd/../store/secret",
            "cat /proc/self/root$BASE/store/secret",
            "ls /proc/1/fd/ | grep .",
            "ls ../.. | grep -v -e bin -e dev -e etc -e job -e lib -e proc -e run -e sbin -e tmp -e usr -e var",
            "find / -xdev -name secret | grep secret",
            "test -S $BASE/hgcid.sock",
            "cat /etc/shadow",
            "cat /etc/gshadow",
            "ls /etc/ssl/private",
            "ls /etc/ssh",
            "ls /etc/hgci",
            "ls /sys/kernel",
            "ls /boot",
            "ls /mnt",
            "ls /srv",
        ]);
        for folder in ["home", "root", "run", "var/lib", "srv", "opt", "work"] {
            attacks.push(format!("ls -A /{folder} | grep -v '^hgci-runner$' | grep ."));
        }
        assert_no_escape(&mode, &attacks);
    }
}

#[test]
fn a_sandboxed_job_sees_and_touches_no_process_of_others() {
    for mode in sandboxes() {
        let us = std::process::id();
        let attacks = [
            format!("kill -0 {us}"),
            // More than init, its shells and what they run just now.
            "test $(ls -d /proc/[0-9]* | wc -l) -gt 8".into(),
            "grep -l SECRET_OF_THE_DAEMO[N] /proc/*/environ".into(),
            "grep -c 'the-toke[n]' /proc/*/cmdline /proc/*/environ | grep -v ':0$'".into(),
            "kill -9 1; kill -TERM 1; sleep 0.1; ! test -d /proc/1".into(),
            "python3 -c 'import ctypes, sys; sys.exit(ctypes.CDLL(None).ptrace(16, 1, 0, 0))'"
                .into(),
            "head -c 1 /proc/1/mem; cat /proc/1/environ | grep .".into(),
            "echo x > /proc/1/oom_score_adj".into(),
            "echo x > /proc/sys/kernel/core_pattern".into(),
            "echo x > /proc/sysrq-trigger".into(),
            "ls /dev/sda /dev/vda /dev/mem /dev/kmsg /dev/fuse /dev/kvm | grep .".into(),
            "cat /proc/kcore | head -c 1 | grep .".into(),
        ];
        assert_no_escape(&mode, &attacks);
    }
}

#[test]
fn a_sandboxed_job_cannot_change_the_system_or_gain_rights() {
    for mode in sandboxes() {
        assert_no_escape(
            &mode,
            &owned(&[
                "touch /usr/evil",
                "touch /etc/evil",
                "touch /evil",
                "touch /run/evil",
                "mkdir /job/evil",
                "echo x >> /etc/passwd",
                "echo x >> /run/hgci-runner",
                "mount -t tmpfs tmpfs /tmp",
                "mount --bind / /tmp",
                "mount -o remount,rw /usr",
                "umount /usr",
                "umount /proc",
                "chroot / true",
                "mknod /tmp/x b 8 0",
                "mknod /tmp/x c 1 1",
                "su -c true",
                "sudo -n true",
                "chown 0:0 /job/tree",
                "hostname evil",
                "grep -E '^Cap(Prm|Eff|Amb):.*[1-9a-f]' /proc/self/status",
                "grep 'NoNewPrivs:.*0$' /proc/self/status",
                "test $(id -u) = 0",
            ]),
        );
        assert!(!std::path::Path::new("/usr/evil").exists());
    }
}

/// A process in new namespaces has all capabilities there, but nothing of the host in reach.
#[test]
fn namespaces_that_a_sandboxed_job_makes_give_it_nothing_of_the_host() {
    for mode in sandboxes() {
        let attacks = owned(&[
            "unshare -Urm sh -c 'mount -o remount,rw,bind /usr && touch /usr/evil'",
            "unshare -Urm sh -c 'umount /etc/passwd && cat /etc/shadow'",
            "unshare -Urm sh -c 'umount -l /job/tree && ls $BASE'",
            "unshare -Urm sh -c 'umount -l /proc && kill -9 1'",
            "unshare -Urpf --mount-proc ls /proc/1/root/home/.",
            "unshare -Urm sh -c 'mkdir /tmp/h && mount --bind / /tmp/h && cat /tmp/h$BASE/store/secret'",
            "unshare -Urm sh -c 'mount -t devtmpfs d /tmp && ls /tmp/vda'",
        ]);
        assert_no_escape(&mode, &attacks);
    }
}

#[test]
fn the_network_is_there_only_where_the_pool_gives_it() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let step = format!("bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}'");
    for mode in sandboxes() {
        let scene = Scene::new(&mode, &[&step]);
        assert_eq!(scene.run().outcome, crate::scene::failed(1), "{}", scene.log());
        let with = Sandbox { network: true, ..Sandbox::default() };
        let mode = Mode { isolation: Isolation::Sandbox(with), ..mode };
        let scene = Scene::new(&mode, &[&step]);
        assert_eq!(scene.run().outcome, Outcome::Passed, "{}", scene.log());
    }
}

#[test]
fn readonly_folders_of_the_pool_are_seen_and_not_written() {
    for mode in sandboxes() {
        let tools = tempfile::Builder::new().prefix("hgci-tools").tempdir().unwrap();
        fs::set_permissions(tools.path(), fs::Permissions::from_mode(0o711)).unwrap();
        // Below folders that the sandbox does not have.
        let folder = tools.path().join("opt/python");
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(folder.join("tool"), "x").unwrap();
        let path = folder.to_str().unwrap();
        let step = format!("cat {path}/tool && ! touch {path}/evil");
        let with = Sandbox { readonly: vec![path.to_owned()], ..Sandbox::default() };
        let mode = Mode { isolation: Isolation::Sandbox(with), ..mode };
        let scene = Scene::new(&mode, &[&step]);
        assert_eq!(scene.run().outcome, Outcome::Passed, "{}", scene.log());
    }
}

#[test]
fn a_sandboxed_job_may_read_what_programs_need_of_etc() {
    for mode in sandboxes() {
        let step = "getent passwd root && getent hosts localhost && ls / /etc /etc/ssl /job";
        let scene = Scene::new(&mode, &[step]);
        assert_eq!(scene.run().outcome, Outcome::Passed, "{mode:?} {}", scene.log());
    }
}

#[test]
fn without_a_sandbox_nothing_runs() {
    let mode = Mode { isolation: sandbox(), uid: None };
    let errored = |name: &str, bwrap: Option<&str>, wanted: &str| {
        let scene = Scene::new(&mode, &["echo it ran"]);
        let mut command = scene.command();
        command.env("PATH", "/nonexistent");
        if let Some(bwrap) = bwrap {
            command.env("HGCI_BWRAP", bwrap);
        }
        assert!(scene.start_as(&mut command).wait().success());
        let Outcome::Errored { why } = scene.verdict().outcome else { panic!("{name}: it ran") };
        assert!(why.contains(wanted), "{name}: {why}");
        assert!(!scene.log().contains("it ran\n"), "{name}");
        scene.assert_nothing_left();
    };
    errored("none on PATH", None, "install bubblewrap");
    errored("not there", Some("/nonexistent/bwrap"), "/nonexistent/bwrap");
    errored("fails", Some("/bin/false"), "the job's sandbox did not start");
    // As where the kernel refuses namespaces.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let fake = folder.path().join("bwrap");
    fs::write(
        &fake,
        "#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n",
    )
    .unwrap();
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
    let fake = fake.to_str().unwrap();
    errored("refused", Some(fake), "uid map: Permission denied; this host forbids user namespaces");
}

#[test]
fn another_accounts_job_cannot_touch_runner_daemon_or_its_own_folder() {
    if !is_root() {
        return;
    }
    let mode = Mode { isolation: Isolation::User("nobody".into()), uid: None };
    assert_no_escape(
        &mode,
        &owned(&[
            "kill -0 $PPID",
            "cat /proc/$PPID/environ",
            "cat /proc/$PPID/fd/0",
            "touch ../evil",
            "ls ..",
            "cat /etc/shadow",
            "su -c true",
            "test $(id -u) = 0",
            "id -G | grep -w 0",
        ]),
    );
}

#[test]
fn an_account_that_is_none_is_errored() {
    for name in ["no-such-account", "root", "", "-x"] {
        let isolation = Isolation::User(name.into());
        let mode = Mode { isolation: isolation.clone(), uid: None };
        let scene = Scene::with(&mode, job(&["echo no"], isolation), Tarball::small().end());
        let verdict = scene.run();
        assert!(matches!(verdict.outcome, Outcome::Errored { .. }), "{name} {verdict:?}");
    }
}
