//! JUnit reports in a job's tree.

use std::os::fd::AsFd;

use hgci_api::run::Isolation;
use hgci_core::result::{Outcome, Tests};

use crate::scene::{Mode, Scene, failed, job, modes};
use crate::tarball::Tarball;

const XML: &str = r#"<testsuite><testcase name=\"a\"/><testcase name=\"b\"><failure/></testcase><testcase name=\"c\"><skipped/></testcase></testsuite>"#;

#[test]
fn reports_are_counted_also_when_the_job_failed() {
    for mode in modes() {
        let step =
            format!("mkdir -p out/deep; echo \"{XML}\" | tee out/a.xml > out/deep/b.xml; exit 1");
        let mut job = job(&[&step], mode.isolation.clone());
        job.spec.reports = vec!["out/*.xml".into(), "out/**/*.xml".into()];
        let scene = Scene::with(&mode, job, Tarball::small().end());
        let verdict = scene.run();
        assert_eq!(verdict.outcome, failed(1), "{mode:?}");
        assert_eq!(verdict.tests, Some(Tests { passed: 2, failed: 2, skipped: 2 }), "{mode:?}");
        assert_eq!(verdict.notes, [""; 0]);
    }
}

#[test]
fn what_is_no_report_is_a_note_and_changes_nothing() {
    let mode = Mode { isolation: Isolation::None, uid: None };
    let step = format!(
        "echo \"{XML}\" > good.xml; echo '<a' > bad.xml; ln -s /etc/passwd link.xml; \
         ln -s good.xml link2.xml; mkfifo fifo.xml; mkdir dir.xml; : > empty.xml; \
         ln -s . round; echo \"{XML}\" > locked.xml; chmod 0 locked.xml"
    );
    let mut job = job(&[&step], mode.isolation.clone());
    job.spec.reports =
        vec!["*.xml".into(), "round/*.xml".into(), "../*".into(), "nothing/*".into()];
    let scene = Scene::with(&mode, job, Tarball::small().end());
    let verdict = scene.run();
    assert_eq!(verdict.outcome, Outcome::Passed);
    // As root a file without permissions can be read all the same.
    let good = if crate::scene::is_root() { 2 } else { 1 };
    assert_eq!(verdict.tests, Some(Tests { passed: good, failed: good, skipped: good }));
    let notes = verdict.notes.join("\n");
    for part in ["bad.xml", "empty.xml", "\"../*\" is leads out", "nothing matches \"nothing/*\""] {
        assert!(notes.contains(part), "{part}: {notes}");
    }
    for part in ["link", "fifo", "dir.xml", "passwd"] {
        assert!(!notes.contains(part), "{part}: {notes}");
    }
}

#[test]
fn of_many_large_reports_no_more_is_read_than_the_budget() {
    let mode = Mode { isolation: Isolation::None, uid: None };
    // 60 MB each.
    let step = "(printf '<testsuite>'; yes '<testcase/>' | head -n 5000000; printf '</testsuite>') > 1.xml; \
                for i in $(seq 2 200); do ln 1.xml $i.xml; done";
    let mut job = job(&[step], mode.isolation.clone());
    job.spec.reports = vec!["*.xml".into(), "**/*.xml".into()];
    let scene = Scene::with(&mode, job, Tarball::small().end());
    let verdict = scene.run();
    assert_eq!(verdict.outcome, Outcome::Passed);
    assert_eq!(verdict.tests, Some(Tests { passed: 20_000_000, failed: 0, skipped: 0 }));
    let [note] = &verdict.notes[..] else { panic!("{:?}", verdict.notes) };
    assert!(note.starts_with("reports: more than 256 MiB; "), "{note}");
}

#[test]
fn reading_reports_stops_when_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    for n in 0..10 {
        std::fs::write(folder.path().join(format!("{n}.xml")), XML.replace('\\', "")).unwrap();
    }
    let tree = std::fs::File::open(folder.path()).unwrap();
    let mut asked = 0;
    let mut stop = || {
        asked += 1;
        asked > 3
    };
    let patterns = ["*.xml".to_owned(), "nothing".to_owned()];
    let found = hgci_runner::reports::collect(tree.as_fd(), &patterns, &mut stop);
    assert_eq!(found.tests, Some(Tests { passed: 3, failed: 3, skipped: 3 }));
    assert_eq!(found.notes, ["reports: stopped; not all are read"]);
}
