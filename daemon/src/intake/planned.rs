//! Tells the engine of pushes that were read, within a turn.

use hgci_core::engine::{Event, JobRow, NewBuild, Reply};
use hgci_core::push::Push;
use hgci_core::{BuildId, JobState, Node, PushId};

use super::taken::Made;
use crate::scheduler::{NotRecorded, Records, Turn};

/// What was planned for a push.
#[derive(Clone, Debug)]
pub struct Planned {
    pub(super) builds: usize,
    jobs: usize,
    /// How many more jobs no pool can take, or need such a one, and why the first.
    skipped: usize,
    why_skipped: Option<String>,
    mistakes: Vec<String>,
    /// How many builds of changesets that have become obsolete were stopped.
    pub(super) superseded: usize,
    no_build: Option<String>,
}

impl Planned {
    /// The line for the pusher, and more lines with mistakes of the pipeline.
    pub fn lines(&self, push: PushId) -> (String, Vec<String>) {
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let mut line = match &self.no_build {
            Some(why) => format!("push {push} recorded, no build: {why}"),
            None => format!(
                "push {push}: {}, {} queued",
                count(self.builds, "build"),
                count(self.jobs, "job")
            ),
        };
        if self.skipped > 0 {
            line += &format!(", {} skipped", self.skipped);
            line.extend(self.why_skipped.iter().map(|why| format!(": {why}")));
        }
        let mut more = self.mistakes.clone();
        if self.superseded > 0 {
            more.push(format!(
                "{} of obsolete changesets stopped",
                count(self.superseded, "build")
            ));
        }
        (line, more)
    }
}

/// A push as it was recorded.
pub(super) struct Recorded {
    pub push: PushId,
    /// The last of its changesets.
    pub last: Option<Node>,
    pub planned: Planned,
    pub made: Vec<Made>,
}

/// Plans builds that were lost, but for those that are there after all; without any there is no
/// push.
pub(super) fn plan_again(
    turn: &mut Turn,
    push: Push,
    builds: Vec<NewBuild>,
) -> Result<Option<Recorded>, NotRecorded> {
    let mut lost = Vec::new();
    for build in builds {
        let (repo, node, trigger) = (&build.repo, build.node, build.trigger);
        let known = Records::known(turn.store(), repo, &node, trigger);
        let known = known.map_err(|error| NotRecorded(error.to_string()))?.is_some();
        if !known && !turn.engine().knows_build(repo, node, trigger) {
            lost.push(build);
        }
    }
    if lost.is_empty() { Ok(None) } else { plan(turn, push, lost).map(Some) }
}

/// Tells the engine of a push and its builds, without those that the history knows.
pub(super) fn plan(
    turn: &mut Turn,
    mut push: Push,
    builds: Vec<NewBuild>,
) -> Result<Recorded, NotRecorded> {
    if push.id == PushId(0) {
        push.id = turn.engine().next_push();
        if let Some(txid) = &push.txid {
            turn.remember(&push.repo.clone(), &txid.clone(), push.id);
        }
        turn.step(Event::Received(push.clone()));
    }
    let mut new = Vec::new();
    let mut known = None;
    for build in builds {
        let before = Records::known(turn.store(), &build.repo, &build.node, build.trigger);
        match before.map_err(|error| NotRecorded(error.to_string()))? {
            None => new.push(build),
            Some(build) => known = Some(build),
        }
    }
    if let (true, Some(BuildId(build))) = (new.is_empty(), known) {
        push.no_build = Some(format!("its changesets were built before: build {build}"));
    }
    let mistakes: Vec<String> = new
        .iter()
        .filter_map(|build| build.plan.as_ref().err())
        .flat_map(|why| why.message().lines().map(str::to_owned))
        .take(20)
        .collect();
    let (id, no_build) = (push.id, push.no_build.clone());
    let last = push.last.filter(|_| push.changesets > 0);
    let builds = match turn.step(Event::Planned { push, builds: new }) {
        Reply::Planned(builds) => builds,
        _ => Vec::new(),
    };
    let jobs: Vec<JobRow> = builds.iter().flat_map(|build| turn.engine().jobs(*build)).collect();
    let (skipped, jobs): (Vec<JobRow>, Vec<JobRow>) =
        jobs.into_iter().partition(|job| job.state == JobState::Skipped);
    let why_skipped = skipped.iter().find_map(|job| job.why.clone());
    let rows = builds.iter().filter_map(|build| turn.engine().build(*build));
    let made =
        rows.map(|row| Made { push: id, build: row.id, node: row.node, trigger: row.trigger });
    let made = made.collect();
    let builds = builds.len();
    let no_build = no_build.filter(|_| builds == 0);
    let (jobs, skipped) = (jobs.len(), skipped.len());
    let planned = Planned { builds, jobs, skipped, why_skipped, mistakes, superseded: 0, no_build };
    Ok(Recorded { push: id, last, planned, made })
}
