//! Pushes come in and become builds.

use crate::push::{Lane, Push};
use crate::{BuildId, BuildState, JobKey, JobState, Node, PushId};

use super::restore::needs_of_waiting;
use super::state::{BuildInFlight, Job, PushInFlight};
use super::timers::Timer;
use super::{
    Amendment, BuildRow, Change, Effect, Engine, NewBuild, NoPlan, Now, PushRow, Reply, Stage,
    Trigger, bound,
};

impl Engine {
    pub(super) fn received(&mut self, now: Now, push: Push) -> Reply {
        let id = push.id;
        if id < self.meta.next_push {
            // In flight, or done and in the history.
            return Reply::Repeated;
        }
        // The last number of all has no next one, and so could not be told to be used.
        let Some(next) = id.0.checked_add(1) else { return Reply::Conflict };
        self.meta.next_push = PushId(next);
        self.dirty.meta = true;
        self.tally.received(push.via);
        let row = PushRow {
            push,
            stage: Stage::Planning,
            first_build: None,
            builds: 0,
            trusted: Vec::new(),
        };
        self.pushes.insert(id, Box::new(PushInFlight::new(row)));
        self.dirty.pushes.insert(id);
        self.ask_push(now, id);
        Reply::Accepted
    }

    pub(super) fn planned(&mut self, now: Now, push: Push, builds: Vec<NewBuild>) -> Reply {
        let id = push.id;
        let Some(known) = self.pushes.get_mut(&id) else { return self.unknown_push(id) };
        if known.row.stage != Stage::Planning {
            return Reply::Repeated;
        }
        let before = std::mem::replace(&mut known.row.push, push);
        let push = &mut known.row.push;
        // A hook may have spoken while the push was being read.
        push.user = push.user.take().or(before.user);
        push.txid = push.txid.take().or(before.txid);
        push.url = push.url.take().or(before.url);
        if push.source.is_empty() {
            push.source = before.source;
        }
        if push.pushvars.is_empty() {
            push.pushvars = before.pushvars;
        }
        let trusted = std::mem::take(&mut known.row.trusted);
        let wanted = builds.len();
        let made: Vec<BuildId> = builds
            .into_iter()
            .filter_map(|build| self.add_build(now, id, build, &trusted))
            .collect();
        let Some(known) = self.pushes.get_mut(&id) else { return Reply::Unknown };
        known.row.first_build = made.first().copied();
        known.row.builds = u32::try_from(made.len()).unwrap_or(u32::MAX);
        known.open = known.row.builds;
        self.dirty.pushes.insert(id);
        if let Some(push) = self.pushes.get_mut(&id) {
            self.timers.set(Timer::Push(id), &mut push.due, None);
        }
        if made.is_empty() {
            self.end_without_build(id, wanted);
        } else {
            self.stage(id, Stage::Building);
            for build in &made {
                self.start_build(now, *build);
            }
        }
        Reply::Planned(made)
    }

    /// Makes a build of the push, unless there is one already.
    fn add_build(
        &mut self,
        now: Now,
        push: PushId,
        new: NewBuild,
        trusted: &[Node],
    ) -> Option<BuildId> {
        if self.knows_build(&new.repo, new.node, new.trigger) {
            return None;
        }
        let id = self.meta.next_build;
        self.meta.next_build = BuildId(id.0.checked_add(1)?);
        self.dirty.meta = true;
        let planned = new.plan.and_then(|plan| self.plans.add(&plan).map_err(NoPlan::Malformed));
        let (shape, state, message) = match planned {
            Ok((shape, new_to_store)) => {
                if new_to_store {
                    self.dirty.plans.push((shape.id, shape.plan.clone()));
                }
                (Some(shape), BuildState::Running, None)
            }
            Err(NoPlan::Malformed(message)) => (None, BuildState::Failed, Some(message)),
            Err(NoPlan::Unreadable(message)) => (None, BuildState::Errored, Some(message)),
        };
        let lane = if trusted.contains(&new.node) { Lane::Trusted } else { new.lane };
        let row = BuildRow {
            id,
            push,
            repo: new.repo,
            node: new.node,
            trigger: new.trigger,
            branch: bound::text(new.branch, bound::LINE),
            author: bound::text(new.author, bound::LINE),
            description: bound::text(new.description, bound::LINE),
            lane,
            plan: shape.as_ref().map(|shape| shape.id),
            state,
            message: message.map(|message| bound::text(message, bound::MESSAGE)),
            // Its place in the queue, too: a clock that went back puts nobody in front.
            created_ms: self.latest.wall,
            ended_ms: None,
            by: new.by.map(|by| bound::text(by, bound::LINE)),
            published: false,
        };
        self.by_node.insert((row.node, id));
        let mut build = BuildInFlight::new(row, shape);
        build.keep(new.kept, now.wall);
        self.insert_build(build);
        self.dirty.builds.insert(id);
        Some(id)
    }

    /// Puts the jobs of a new build that need nothing more into line; ends a build without any.
    fn start_build(&mut self, now: Now, id: BuildId) {
        let Some(build) = self.builds.get_mut(&id) else { return };
        if build.jobs.is_empty() {
            self.end_build(now, id);
            self.publish_open(now, id, Vec::new());
            return;
        }
        let of = |is: fn(&Job) -> bool| -> Vec<u32> {
            let jobs = (0..).zip(&build.jobs);
            jobs.filter(|(_, job)| is(job)).map(|(index, _)| index).collect()
        };
        let queued = of(|job| job.state == JobState::Queued);
        let kept = of(|job| job.kept.is_some());
        if kept.is_empty() {
            return self.enqueue(now, id, queued);
        }
        let met = needs_of_waiting(build);
        let is_over = build.unfinished == 0;
        self.dirty.jobs.extend(kept.iter().map(|index| JobKey { build: id, index: *index }));
        if is_over {
            self.end_build(now, id);
        }
        self.publish_open(now, id, kept);
        self.enqueue(now, id, queued);
        self.settle(now, id, met);
    }

    /// Notes why a push has no build, and ends it.
    fn end_without_build(&mut self, id: PushId, wanted: usize) {
        if let Some(known) = self.pushes.get_mut(&id) {
            let reason = known.row.push.no_build.take().unwrap_or_else(|| match wanted {
                0 => "nothing to build".into(),
                _ => "every changeset to build has a build already".into(),
            });
            known.row.push.no_build = Some(bound::text(reason, bound::MESSAGE));
        }
        self.end_push(id);
    }

    /// Moves a push to the history.
    pub(super) fn end_push(&mut self, id: PushId) {
        let Some(mut push) = self.pushes.remove(&id) else { return };
        self.timers.set(Timer::Push(id), &mut push.due, None);
        push.row.stage = Stage::Done;
        self.dirty.archived.push(Change::ArchivePush(Box::new(push.row)));
    }

    pub(super) fn plan_failed(&mut self, now: Now, id: PushId, why: String) -> Reply {
        let Some(push) = self.pushes.get_mut(&id) else { return self.unknown_push(id) };
        if push.row.stage != Stage::Planning {
            return Reply::Repeated;
        }
        let why = Some(format!("not planned yet: {}", bound::text(why, bound::REASON)));
        if push.row.push.no_build != why {
            push.row.push.no_build = why;
            self.dirty.pushes.insert(id);
        }
        let at = now.mono.saturating_add(self.config.backoff(push.tries));
        self.timers.set(Timer::Push(id), &mut push.due, Some(at));
        Reply::Accepted
    }

    pub(super) fn amended(&mut self, now: Now, id: PushId, mut amendment: Amendment) -> Reply {
        let Some(known) = self.pushes.get_mut(&id) else { return self.unknown_push(id) };
        let mut trusted = std::mem::take(&mut amendment.trusted);
        trusted.truncate(Push::MAX_LISTED);
        amendment.apply(&mut known.row.push);
        self.dirty.pushes.insert(id);
        if known.row.stage == Stage::Planning {
            trusted.retain(|node| !known.row.trusted.contains(node));
            trusted.truncate(Push::MAX_LISTED.saturating_sub(known.row.trusted.len()));
            known.row.trusted.append(&mut trusted);
            return Reply::Accepted;
        }
        trusted.sort_unstable();
        let first = known.row.first_build.unwrap_or_default();
        let end = BuildId(first.0.saturating_add(known.row.builds.into()));
        let lifted: Vec<BuildId> = self
            .builds
            .range(first..end)
            .filter(|(_, build)| build.row.push == id && build.row.lane == Lane::Try)
            .filter(|(_, build)| trusted.binary_search(&build.row.node).is_ok())
            .map(|(build, _)| *build)
            .collect();
        for build in lifted {
            self.lift(now, build);
        }
        Reply::Accepted
    }

    /// Moves what has not started of a build from the try lane to the trusted one.
    fn lift(&mut self, now: Now, id: BuildId) {
        let Some(build) = self.builds.get_mut(&id) else { return };
        build.row.lane = Lane::Trusted;
        self.dirty.builds.insert(id);
        let mut again = Vec::new();
        for (index, job) in (0..).zip(&mut build.jobs) {
            let key = JobKey { build: id, index };
            if let Some(standing) = job.standing.take() {
                self.ready.remove(standing, key);
                again.push(index);
            } else if job.retry.is_some() && job.attempts.is_empty() {
                // It was waiting for exactly this.
                self.timers.set(Timer::Job(key), &mut job.retry, None);
                again.push(index);
            }
        }
        self.enqueue(now, id, again);
    }

    /// Whether a changeset has a build that stands in the way of one for this trigger: because of
    /// a push, one that is in flight or on its way to the history; for who asks, any that has not
    /// ended.
    pub fn knows_build(&self, repo: &str, node: Node, trigger: Trigger) -> bool {
        if trigger == Trigger::Asked {
            return self.builds_of(repo, node).any(|build| !build.state.is_final());
        }
        let same = |build: &BuildRow| build.repo == repo && build.trigger == trigger;
        self.builds_of(repo, node).any(same)
            || (!self.dirty.archived_builds.is_empty()
                && self.dirty.archived_builds.contains(&(node, trigger, repo.to_owned())))
    }

    /// The answer for a push that is not in flight.
    pub(super) fn unknown_push(&self, id: PushId) -> Reply {
        if id < self.meta.next_push { Reply::Repeated } else { Reply::Unknown }
    }

    /// Moves a push on and asks for what the new stage needs.
    pub(super) fn stage(&mut self, id: PushId, stage: Stage) {
        if let Some(push) = self.pushes.get_mut(&id) {
            push.row.stage = stage;
            push.tries = 0;
            self.dirty.pushes.insert(id);
        }
    }

    /// Asks for the effect of the push's stage, for the first time or again.
    pub(super) fn ask_push(&mut self, now: Now, id: PushId) {
        let Some(push) = self.pushes.get_mut(&id) else { return };
        let effect = match push.row.stage {
            Stage::Planning => Effect::Plan(Box::new(push.row.push.clone())),
            Stage::Mailing => Effect::Mail(id),
            Stage::Building | Stage::Done => return,
        };
        self.effects.push(effect);
        push.tries = push.tries.saturating_add(1);
        let at = now.mono.saturating_add(self.config.reissue(push.tries));
        self.timers.set(Timer::Push(id), &mut push.due, Some(at));
    }
}
