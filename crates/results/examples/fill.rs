//! Fills the results log of a repository, for measurements: `fill DOT_HG RESULTS [FIRST] < NODES`.
//!
//! So many results are spread evenly over the changesets whose nodes are read, a line each: jobs
//! like those of a small project, and then the build's end. Builds are numbered from FIRST on.

#[path = "../tests/support/mod.rs"]
mod support;

use std::error::Error;
use std::io::BufRead;

use hgci_core::result::Entry;
use hgci_core::{BuildState, JobState, Node};
use hgci_results::{Place, Writer};
use support::{build, job, origin};

/// How many results are appended with one sync.
const GROUP: usize = 5000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: fill DOT_HG RESULTS [FIRST] < NODES";
    let dot_hg = args.next().ok_or(usage)?;
    let results: u64 = args.next().ok_or(usage)?.parse()?;
    let first: u64 = args.next().map_or(Ok(0), |n| n.parse())?;
    let lines = std::io::stdin().lock().lines();
    let nodes =
        lines.map(|line| Ok(line?.parse()?)).collect::<Result<Vec<Node>, Box<dyn Error>>>()?;
    let jobs = (results / nodes.len() as u64).checked_sub(1).ok_or("a build is a result")?;

    let mut writer = Writer::open(&Place::new(dot_hg), &origin())?;
    let mut group = Vec::with_capacity(GROUP);
    for (n, node) in (first..).zip(nodes) {
        group.extend(entries(n, node, jobs as u32));
        if group.len() >= GROUP {
            writer.append(&std::mem::take(&mut group))?;
        }
    }
    writer.append(&group)?;
    Ok(())
}

/// The results of the build with number `n`, of `node`. Every tenth build has a failed job.
fn entries(n: u64, node: Node, jobs: u32) -> Vec<Entry> {
    let failed = n.is_multiple_of(10);
    let jobs_of = (0..jobs).map(|index| match job(n, index) {
        Entry::Job(mut job) => {
            let fails = failed && index == jobs - 1;
            job.node = node;
            job.state = if fails { JobState::Failed } else { JobState::Passed };
            job.exit = Some(if fails { 2 } else { 0 });
            Entry::Job(job)
        }
        other => other,
    });
    let mut entries: Vec<Entry> = jobs_of.collect();
    if let Entry::Build(mut end) = build(n, jobs) {
        end.node = node;
        end.state = if failed { BuildState::Failed } else { BuildState::Passed };
        entries.push(Entry::Build(end));
    }
    entries
}
