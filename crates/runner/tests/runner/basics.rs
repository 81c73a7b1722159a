//! What every job can rely on.

use hgci_core::result::Outcome;

use crate::scene::{Scene, failed, modes};
use crate::tarball::Tarball;

#[test]
fn a_job_runs_its_steps_in_its_tree_and_passes() {
    for mode in modes() {
        let scene = Scene::new(
            &mode,
            &[
                "./run.sh",
                "cat src/link; test -d src/deep/er; pwd",
                "printf no-newline",
                "echo last",
            ],
        );
        let verdict = scene.run();
        assert_eq!(verdict.outcome, Outcome::Passed, "{mode:?}\n{}", scene.log());
        let log = scene.log();
        assert!(log.starts_with("$ ./run.sh\nI ran\n$ cat src/link;"), "{mode:?} {log}");
        assert!(log.contains("int main;\n"), "{log}");
        assert!(log.ends_with("$ printf no-newline\nno-newline\n$ echo last\nlast\n"), "{log}");
        assert!(verdict.started_ms > 1_500_000_000_000);
        assert_eq!(verdict.notes, [""; 0]);
        let calls = scene.daemon.state().calls.clone();
        for call in ["claim", "source", "verdict"] {
            assert_eq!(calls[call], 1, "{mode:?} {call}");
        }
    }
}

#[test]
fn the_first_step_that_fails_ends_the_job_with_its_status() {
    for mode in modes() {
        let scene = Scene::new(&mode, &["echo one", "false; echo not here", "echo two"]);
        assert_eq!(scene.run().outcome, failed(1), "{mode:?}");
        let log = scene.log();
        assert_eq!(log, "$ echo one\none\n$ false; echo not here\nhgci: exit status 1\n");
        let scene = Scene::new(&mode, &["exit 77"]);
        assert_eq!(scene.run().outcome, failed(77), "{mode:?}");
    }
}

#[test]
fn a_signal_is_told_apart_from_an_exit_status() {
    for mode in modes() {
        let scene = Scene::new(&mode, &["kill -SEGV $$"]);
        let killed = Outcome::Failed { exit: None, signal: Some(11) };
        assert_eq!(scene.run().outcome, killed, "{mode:?}");
        assert!(scene.log().ends_with("\nhgci: killed by signal 11 (SIGSEGV)\n"));
        let scene = Scene::new(&mode, &["exit 139"]);
        assert_eq!(scene.run().outcome, failed(139), "{mode:?}");
    }
}

#[test]
fn a_job_is_what_the_kernel_kills_first_when_memory_is_short() {
    for mode in modes() {
        let scene = Scene::new(&mode, &["test $(cat /proc/self/oom_score_adj) -ge 500"]);
        assert_eq!(scene.run().outcome, Outcome::Passed, "{mode:?}");
    }
}

#[test]
fn the_environment_is_what_the_contract_says_and_nothing_else() {
    for mode in modes() {
        let mut job = crate::scene::job(&["env | sort"], mode.isolation.clone());
        job.spec.env.insert("MINE".into(), "a b\n=c".into());
        job.spec.env.insert("LANG".into(), "de_DE.UTF-8".into());
        job.spec.env.insert("HGCI_FAKE".into(), "1".into());
        job.spec.env.insert("CI".into(), "0".into());
        let scene = Scene::with(&mode, job, Tarball::small().end());
        scene.run();
        let log = scene.log();
        let names: Vec<&str> =
            log.lines().skip(1).filter_map(|line| Some(line.split_once('=')?.0)).collect();
        let mut expected = vec!["", "CI", "HGCI", "HGCI_ATTEMPT", "HGCI_KEY", "HOME", "LANG"];
        expected.extend(["MINE", "PATH", "PWD", "TMPDIR"]);
        let mut names = names;
        names.sort_unstable();
        assert_eq!(names, expected, "{mode:?} {log}");
        assert!(log.contains("CI=1\n") && log.contains("LANG=de_DE.UTF-8\n"), "{log}");
    }
}

#[test]
fn home_and_tmpdir_are_the_jobs_own_and_writable() {
    for mode in modes() {
        let step = "echo x > $HOME/a; echo y > $TMPDIR/b; echo z > c; mktemp; \
                    test $(ls -A $HOME | wc -l) = 1; read x && exit 9; exit 0";
        let scene = Scene::new(&mode, &[step]);
        assert_eq!(scene.run().outcome, Outcome::Passed, "{mode:?} {}", scene.log());
    }
}

#[test]
fn a_step_that_no_machine_can_start_fails_the_job_and_is_no_fault() {
    for mode in modes() {
        let long = format!("echo {}", "x".repeat(200_000));
        for step in [long.as_str(), "echo \0"] {
            let scene = Scene::new(&mode, &[step]);
            assert_eq!(scene.run().outcome, failed(126), "{mode:?}");
        }
    }
}

#[test]
fn standard_error_and_output_come_in_their_order_in_one_log() {
    for mode in modes() {
        let scene = Scene::new(&mode, &["echo a; echo b >&2; echo c; echo d >&2"]);
        scene.run();
        assert!(scene.log().ends_with("\na\nb\nc\nd\n"), "{}", scene.log());
    }
}

#[test]
fn a_step_starts_with_no_signal_blocked_or_ignored() {
    for mode in modes() {
        let scene = Scene::new(&mode, &["grep -E '^Sig(Blk|Ign|Pnd)' /proc/self/status"]);
        scene.run();
        let log = scene.log();
        for line in log.lines().skip(1) {
            let mask = u64::from_str_radix(line.split('\t').nth(1).unwrap(), 16).unwrap();
            // 32 and 33 are the C library's, and whoever starts the tests may ignore them.
            assert_eq!(mask & 0x7fff_ffff, 0, "{mode:?} {log}");
        }
    }
}

#[test]
fn a_step_inherits_no_descriptor_but_the_three() {
    for mode in modes() {
        let scene = Scene::new(&mode, &["echo /proc/self/fd/*; test ! -t 0; test ! -t 1"]);
        assert_eq!(scene.run().outcome, Outcome::Passed, "{mode:?} {}", scene.log());
        let log = scene.log();
        let open = log.lines().nth(1).unwrap().split(' ').count();
        // The fourth is the shell's own, of the folder that it lists.
        assert!(open <= 4, "{mode:?} {log}");
    }
}
