//! From records of the results log to what `hg ci-status` shows.

use std::collections::BTreeMap;

use hgci_core::result::{BuildResult, Entry, JobResult};
use hgci_core::{BuildId, BuildState, PushId};

use crate::query;
use crate::read::{JobStatus, NodeStatus};

impl NodeStatus {
    /// The newest build among the entries of one changeset, in the order of the log; `None` where
    /// they have none. `url` is the base of the web pages of the daemon that wrote them, empty
    /// where it has none.
    ///
    /// A build whose jobs are there but not its end is `running`: some job is not final yet.
    pub fn from_log<'e>(
        entries: impl IntoIterator<Item = &'e Entry>,
        url: &str,
    ) -> Option<NodeStatus> {
        let mut newest: Option<Build> = None;
        for entry in entries {
            let id = match entry {
                Entry::Origin(_) => continue,
                Entry::Job(job) => job.build,
                Entry::Build(build) => build.build,
            };
            if newest.as_ref().is_some_and(|build| build.id > id) {
                continue;
            }
            let build = match &mut newest {
                Some(build) if build.id == id => build,
                _ => newest.insert(Build { id, jobs: BTreeMap::new(), end: None }),
            };
            match entry {
                Entry::Origin(_) => {}
                Entry::Build(end) => build.end = Some(end),
                Entry::Job(job) => {
                    let known = build.jobs.entry(job.index).or_insert(job);
                    if job.attempt >= known.attempt {
                        *known = job;
                    }
                    // A job that ends after its build was tried again: the build will end again.
                    build.end = None;
                }
            }
        }
        newest?.status(url)
    }
}

struct Build<'e> {
    id: BuildId,
    jobs: BTreeMap<u32, &'e JobResult>,
    end: Option<&'e BuildResult>,
}

impl Build<'_> {
    fn status(self, url: &str) -> Option<NodeStatus> {
        let first = self.jobs.values().next();
        let (node, push) = match (self.end, first) {
            (Some(end), _) => (end.node, end.push),
            (None, Some(job)) => (job.node, job.push),
            (None, None) => return None,
        };
        let page = build_page(url, self.id);
        Some(NodeStatus {
            node,
            push: push.0,
            build: self.id.0,
            state: self.end.map_or(BuildState::Running, |end| end.state),
            source: "log".to_owned(),
            message: self.end.and_then(|end| end.message.clone()),
            by: self.end.and_then(|end| end.by.clone()),
            jobs: self.jobs.into_values().map(|job| job_status(job, url)).collect(),
            url: page,
        })
    }
}

/// The page of a build: `URL` + `b/12`; empty where there are no web pages.
pub fn build_page(url: &str, build: BuildId) -> String {
    if url.is_empty() { String::new() } else { format!("{}/b/{build}", url.trim_end_matches('/')) }
}

/// The page of a push: `URL` + `p/17`; empty where there are no web pages.
pub fn push_page(url: &str, push: PushId) -> String {
    if url.is_empty() { String::new() } else { format!("{}/p/{push}", url.trim_end_matches('/')) }
}

/// The page of a job below the page of its build. `:` and `,` stay as they are, as in job names.
pub fn job_page(build_page: &str, job: &str) -> Option<String> {
    let name = query(job).replace("%3A", ":").replace("%2C", ",");
    (!build_page.is_empty()).then(|| format!("{build_page}/{name}"))
}

/// A final job as it is shown. `url` is the base of the web pages, empty where there are none.
pub fn job_status(job: &JobResult, url: &str) -> JobStatus {
    let page = build_page(url, job.ran_as().build);
    let ran = job.attempt > 0 && job.started_ms != 0;
    let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
    JobStatus {
        name: job.name.clone(),
        state: job.state,
        attempt: job.attempt,
        exit: job.exit,
        signal: job.signal,
        duration: ran.then_some(job.duration_ms as f64 / 1000.0),
        started: ran.then_some(job.started_ms as f64 / 1000.0),
        pool: named(&job.pool),
        host: named(&job.host),
        tests: job.tests,
        allow_failure: job.allow_failure,
        why: job.why.clone(),
        from: job.from.map(|from| from.build.0),
        url: job_page(&page, &job.name),
    }
}

#[cfg(test)]
mod tests {
    use hgci_core::{JobState, Node};

    use super::*;

    fn job(build: u64, index: u32, attempt: u32, state: JobState) -> Entry {
        Entry::Job(JobResult {
            node: Node([1; 20]),
            push: PushId(9),
            build: BuildId(build),
            index,
            name: format!("test:3.{index},sqlite"),
            state,
            attempt,
            exit: Some(0),
            signal: None,
            started_ms: 1_763_650_000_500,
            duration_ms: 3210,
            pool: "here".into(),
            host: "here/1".into(),
            tests: None,
            allow_failure: false,
            why: None,
            from: None,
        })
    }

    fn end(build: u64, state: BuildState) -> Entry {
        Entry::Build(BuildResult {
            node: Node([1; 20]),
            push: PushId(9),
            build: BuildId(build),
            state,
            ended_ms: 1_763_650_009_000,
            jobs: 2,
            message: None,
            by: None,
        })
    }

    #[test]
    fn the_newest_build_counts_with_its_jobs_in_the_order_of_the_plan() {
        let entries = [
            job(12, 1, 1, JobState::Passed),
            job(12, 0, 1, JobState::Failed),
            job(11, 0, 1, JobState::Passed),
            end(12, BuildState::Failed),
            end(11, BuildState::Passed),
        ];
        let status = NodeStatus::from_log(&entries, "https://ci.example.org/").unwrap();
        assert_eq!((status.build, status.push, status.state), (12, 9, BuildState::Failed));
        assert_eq!(status.url, "https://ci.example.org/b/12");
        let names: Vec<_> = status.jobs.iter().map(|job| job.name.as_str()).collect();
        assert_eq!(names, ["test:3.0,sqlite", "test:3.1,sqlite"]);
        assert_eq!(status.jobs[0].duration, Some(3.21));
        assert_eq!(status.jobs[0].started, Some(1_763_650_000.5));
        let url = "https://ci.example.org/b/12/test:3.0,sqlite";
        assert_eq!(status.jobs[0].url.as_deref(), Some(url));
    }

    #[test]
    fn a_build_without_its_end_runs_and_one_whose_job_was_retried_too() {
        let mut entries = vec![job(12, 0, 1, JobState::Failed)];
        let state = |entries: &[Entry]| NodeStatus::from_log(entries, "").unwrap().state;
        assert_eq!(state(&entries), BuildState::Running);
        entries.push(end(12, BuildState::Failed));
        assert_eq!(state(&entries), BuildState::Failed);
        entries.push(job(12, 0, 2, JobState::Passed));
        assert_eq!(state(&entries), BuildState::Running);
        entries.push(end(12, BuildState::Passed));
        let status = NodeStatus::from_log(&entries, "").unwrap();
        assert_eq!((status.state, status.jobs.len()), (BuildState::Passed, 1));
        assert_eq!((status.jobs[0].state, status.jobs[0].url.as_ref()), (JobState::Passed, None));
    }

    #[test]
    fn without_a_build_there_is_no_status() {
        assert!(NodeStatus::from_log(&[], "").is_none());
        assert!(NodeStatus::from_log(&[Entry::Origin(Default::default())], "").is_none());
    }
}
