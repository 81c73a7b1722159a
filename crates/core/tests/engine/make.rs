//! Pushes, plans and pools for tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use hgci_core::engine::{NewBuild, NoPlan, Pool, Trigger};
use hgci_core::job::{JobSpec, Plan};
use hgci_core::push::{Lane, Push, Via};
use hgci_core::result::{Outcome, Verdict};
use hgci_core::{AttemptKey, BuildId, JobKey, Node, PushId};

pub fn job(name: &str) -> JobSpec {
    JobSpec {
        name: name.into(),
        run: vec!["true".into()],
        env: BTreeMap::new(),
        needs: Vec::new(),
        labels: Vec::new(),
        timeout_ms: None,
        reports: Vec::new(),
        allow_failure: false,
    }
}

pub fn needing(name: &str, needs: &[u32]) -> JobSpec {
    JobSpec { needs: needs.to_vec(), ..job(name) }
}

pub fn labelled(name: &str, labels: &[&str]) -> JobSpec {
    JobSpec { labels: labels.iter().map(|label| label.to_string()).collect(), ..job(name) }
}

pub fn may_fail(name: &str) -> JobSpec {
    JobSpec { allow_failure: true, ..job(name) }
}

pub fn pool(name: &str, slots: u32, labels: &[&str]) -> Pool {
    Pool {
        name: name.into(),
        slots,
        labels: labels.iter().map(|label| label.to_string()).collect(),
        lanes: vec![Lane::Trusted, Lane::Try],
    }
}

pub fn push(id: PushId) -> Push {
    Push {
        id,
        repo: "widgets".into(),
        received: 0,
        via: Via::Reconcile,
        txid: None,
        source: String::new(),
        user: None,
        url: None,
        first: None,
        last: None,
        changesets: 1,
        heads: Vec::new(),
        phases: Vec::new(),
        bookmarks: Vec::new(),
        markers: 0,
        pushvars: BTreeMap::new(),
        no_build: None,
    }
}

pub fn node(n: u64) -> Node {
    let mut node = Node::NULL;
    node.0[..8].copy_from_slice(&n.to_be_bytes());
    node
}

pub fn new_build(n: u64, plan: Result<Vec<JobSpec>, &str>) -> NewBuild {
    NewBuild {
        repo: "widgets".into(),
        node: node(n),
        trigger: Trigger::Push,
        branch: "default".into(),
        author: "alice".into(),
        description: "a change".into(),
        lane: Lane::Trusted,
        plan: plan
            .map(|jobs| Arc::new(Plan { jobs }))
            .map_err(|why| NoPlan::Malformed(why.to_owned())),
        by: None,
        kept: BTreeMap::new(),
    }
}

pub fn verdict(outcome: Outcome) -> Verdict {
    Verdict { outcome, started_ms: 1, duration_ms: 2, tests: None, notes: Vec::new() }
}

pub fn failed() -> Outcome {
    Outcome::Failed { exit: Some(1), signal: None }
}

pub fn errored() -> Outcome {
    Outcome::Errored { why: "no checkout".into() }
}

pub fn job_key(build: u64, index: u32) -> JobKey {
    JobKey { build: BuildId(build), index }
}

pub fn attempt(build: u64, index: u32, n: u32) -> AttemptKey {
    AttemptKey { job: job_key(build, index), n }
}
