//! What is final becomes known: the results log, the mail, the history.

use crate::result::Entry;
use crate::{BuildId, BuildState, JobKey, PushId};

use super::state::BuildInFlight;
use super::timers::Timer;
use super::{Change, Effect, Engine, Now, Publication, Reply, Stage};

impl Engine {
    /// Notes the end of a build whose jobs are all final.
    pub(super) fn end_build(&mut self, now: Now, id: BuildId) {
        let Some(build) = self.builds.get_mut(&id) else { return };
        if build.row.ended_ms.is_none() {
            build.row.state = build.state_of_jobs();
            if build.row.state == BuildState::Running {
                // Without a plan there are no jobs to wait for.
                build.row.state = BuildState::Skipped;
            }
            build.row.ended_ms = Some(now.wall);
            self.dirty.builds.insert(id);
        }
    }

    /// Publishes these jobs of a build. When the build is final, its end too, and before it every
    /// job that is not known to be published, so that the log never has a build before its jobs.
    pub(super) fn publish_open(&mut self, now: Now, id: BuildId, ended: Vec<u32>) {
        let Some(build) = self.builds.get_mut(&id) else { return };
        let whole = build.row.ended_ms.is_some() && !build.row.published;
        let jobs = if whole { unpublished(build) } else { ended };
        if jobs.is_empty() && !whole {
            return;
        }
        let results = jobs.iter().filter_map(|index| build.result_of(*index));
        let mut entries: Vec<Entry> = results.map(Entry::Job).collect();
        if whole {
            entries.extend(build.row.result(build.jobs.len()).map(Entry::Build));
        }
        let repo = build.row.repo.clone();
        let publication = Publication { build: id, jobs, whole };
        self.effects.push(Effect::Publish { repo, entries, publication });
        if build.due.is_none() || whole {
            build.tries = build.tries.saturating_add(1);
            let at = now.mono.saturating_add(self.config.reissue(build.tries));
            self.timers.set(Timer::Build(id), &mut build.due, Some(at));
        }
    }

    /// Publishes again what nobody has reported as published.
    pub(super) fn publish_again(&mut self, now: Now, id: BuildId) {
        if let Some(build) = self.builds.get(&id) {
            let open = unpublished(build);
            self.publish_open(now, id, open);
        }
    }

    pub(super) fn published(&mut self, now: Now, publication: &Publication) -> Reply {
        let id = publication.build;
        let Some(build) = self.builds.get_mut(&id) else { return Reply::Unknown };
        for index in &publication.jobs {
            let Some(job) = build.jobs.get_mut(*index as usize) else { continue };
            if job.state.is_final() && !job.published {
                job.published = true;
                build.unpublished = build.unpublished.saturating_sub(1);
                self.dirty.jobs.insert(JobKey { build: id, index: *index });
            }
        }
        let whole = publication.whole && build.row.ended_ms.is_some() && build.unpublished == 0;
        if whole && !build.row.published {
            build.row.published = true;
            self.dirty.builds.insert(id);
            let push = build.row.push;
            self.build_published(now, push);
        }
        let Some(build) = self.builds.get_mut(&id) else { return Reply::Accepted };
        let open = build.row.ended_ms.is_some() && !build.row.published;
        if !open && build.unpublished == build.unfinished {
            build.tries = 0;
            self.timers.set(Timer::Build(id), &mut build.due, None);
        }
        self.archive_if_done(id);
        Reply::Accepted
    }

    /// One build less of the push is open. After the last it is time for mail.
    fn build_published(&mut self, now: Now, id: PushId) {
        let Some(push) = self.pushes.get_mut(&id) else { return };
        push.open = push.open.saturating_sub(1);
        if push.open == 0 && push.row.stage == Stage::Building {
            self.stage(id, Stage::Mailing);
            self.ask_push(now, id);
        }
    }

    pub(super) fn mailed(&mut self, id: PushId) -> Reply {
        match self.pushes.get(&id).map(|push| push.row.stage) {
            Some(Stage::Mailing) => {
                self.end_push(id);
                Reply::Accepted
            }
            Some(_) => Reply::Conflict,
            None => self.unknown_push(id),
        }
    }

    /// Adds a build to what is in flight.
    pub(super) fn insert_build(&mut self, build: BuildInFlight) {
        self.counts.builds += 1;
        build.jobs.iter().for_each(|job| self.counts.came(job.state));
        self.builds.insert(build.row.id, Box::new(build));
    }

    /// Moves a build to the history when nothing is left to do for it.
    pub(super) fn archive_if_done(&mut self, id: BuildId) {
        if !self.builds.get(&id).is_some_and(|build| build.row.published && build.holding == 0) {
            return;
        }
        let Some(mut build) = self.builds.remove(&id) else { return };
        self.timers.set(Timer::Build(id), &mut build.due, None);
        self.counts.builds -= 1;
        build.jobs.iter().for_each(|job| self.counts.went(job.state));
        self.by_node.remove(&(build.row.node, id));
        if let Some(plan) = build.row.plan {
            self.dirty.dropped_plans.extend(self.plans.release(plan));
        }
        let count = u32::try_from(build.jobs.len()).unwrap_or(u32::MAX);
        let jobs = (0..count).filter_map(|index| build.job_row(index)).collect();
        let BuildInFlight { row, .. } = *build;
        self.dirty.archived_builds.insert((row.node, row.trigger, row.repo.clone()));
        self.dirty.archived.push(Change::ArchiveBuild { build: Box::new(row), jobs });
    }
}

/// The final jobs of a build that nobody has reported as published.
fn unpublished(build: &BuildInFlight) -> Vec<u32> {
    let jobs = (0..).zip(&build.jobs);
    jobs.filter(|(_, job)| job.state.is_final() && !job.published).map(|(index, _)| index).collect()
}
