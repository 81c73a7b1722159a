//! What people are told, and that it reaches them: by a real mail server.

#![allow(clippy::unwrap_used)]

mod composing;
mod delivery;
mod front;
mod server;
mod trouble;

use hgci_core::result::Tests;
use hgci_core::{BuildState, JobState, Node};
use hgcid::config::{Config, Mail, parse};
use hgcid::mail::{BuildReport, JobReport, PushReport};

/// `[mail]` with these lines.
fn mail(lines: &str) -> Mail {
    let text = format!("[mail]\nfrom = \"CI <ci@ci.example.org>\"\n{lines}\n");
    let config: Result<Config, _> = parse("hgcid.toml", text.as_bytes());
    config.unwrap().mail.unwrap()
}

fn job(name: &str, state: JobState, before: Option<JobState>) -> JobReport {
    JobReport {
        kept: false,
        name: name.to_owned(),
        state,
        before,
        exit: (state == JobState::Failed).then_some(2),
        signal: None,
        duration_ms: 3210,
        tests: None,
        allow_failure: false,
        why: None,
        lines: Vec::new(),
        run: Vec::new(),
    }
}

fn build(n: u64, author: &str, jobs: Vec<JobReport>) -> BuildReport {
    let states = jobs.iter().map(|job| (job.state, job.allow_failure));
    BuildReport {
        build: n,
        node: Node([n as u8; 20]),
        branch: "default".to_owned(),
        author: author.to_owned(),
        description: "fix the frobnicator".to_owned(),
        state: BuildState::of_jobs(states),
        message: None,
        jobs,
    }
}

fn push(n: u64, builds: Vec<BuildReport>) -> PushReport {
    PushReport {
        push: n,
        repo: "widgets".to_owned(),
        user: Some("alice".to_owned()),
        received_ms: 1_795_203_000_000,
        builds,
    }
}

/// A push with more bad jobs than anybody reads, and as much to say of each as there can be.
fn huge(n: u64, line: &str) -> PushReport {
    let jobs = |n: u64| -> Vec<JobReport> {
        (0..300)
            .map(|i| {
                let mut job = job(&format!("job-{n}-{i}"), JobState::Failed, None);
                job.lines = vec![line.repeat(200); 25];
                job.run = vec!["make it's".repeat(20)];
                job
            })
            .collect()
    };
    push(n, (0..60).map(|n| build(n, "alice@example.org", jobs(n))).collect())
}

/// A push that broke a job, with the lines that say so.
fn broken(n: u64) -> PushReport {
    let mut test = job("test:3.9", JobState::Failed, Some(JobState::Passed));
    test.lines = vec!["FAILED tests/test_a.py".to_owned(), "make: *** [check] Error 2".to_owned()];
    test.run = vec!["make it's".to_owned()];
    test.tests = Some(Tests { passed: 40, failed: 2, skipped: 1 });
    let jobs = vec![
        job("build", JobState::Passed, Some(JobState::Passed)),
        test,
        job("docs", JobState::Passed, Some(JobState::Failed)),
        job("lint", JobState::Failed, Some(JobState::Failed)),
        job("deploy", JobState::Skipped, None),
    ];
    push(n, vec![build(n, "Alice <alice@example.org>", jobs)])
}
