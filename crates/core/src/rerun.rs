//! Which jobs of a changeset run when somebody asks for them again.

use std::collections::{BTreeMap, BTreeSet};

use crate::JobState;
use crate::job::{JobSpec, Plan};
use crate::result::JobResult;

/// What somebody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rerun<'a> {
    /// These jobs and all that they need, whatever became of them before; without names, every job.
    Run(&'a [String]),
    /// These jobs, and what they need and has not passed; without names, those that did not pass.
    Retry(&'a [String]),
}

/// What is to run, and what is not.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// The jobs that run or are kept. Others of the changeset's plan are not in it.
    pub plan: Plan,
    /// How those ended that are not to run, by place in that plan.
    pub kept: BTreeMap<u32, JobResult>,
}

/// Why nothing is to run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nothing {
    /// A name that no job has.
    #[error("no job {name:?} in the pipeline of that changeset; it has: {}", jobs.join(", "))]
    NoSuchJob {
        /// The name.
        name: String,
        /// The names that there are.
        jobs: Vec<String>,
    },
    /// A retry of what never ran.
    #[error("that changeset has no result to retry; ask for a run")]
    NoResult,
    /// A retry where all is well.
    #[error("no job of that changeset has failed; name the jobs to be retried, or ask for a run")]
    NothingFailed,
    /// The pipeline has no jobs.
    #[error("the pipeline of that changeset has no jobs")]
    NoJobs,
}

impl Selection {
    /// What runs of a changeset's plan, given how its jobs ended in its newest build.
    ///
    /// A name stands for the job of that name, or else for all that a matrix has made of it.
    pub fn of(plan: &Plan, before: &[JobResult], what: Rerun<'_>) -> Result<Selection, Nothing> {
        let known = |spec: &JobSpec| before.iter().find(|result| result.name == spec.name);
        let ends: Vec<Option<&JobResult>> =
            plan.jobs.iter().map(|spec| known(spec).filter(|end| end.state.is_final())).collect();
        let all = 0..plan.jobs.len();
        let run = match what {
            Rerun::Run([]) => all.clone().collect(),
            Rerun::Run(names) => with_needs(plan, named(plan, names)?, |_| true),
            Rerun::Retry(_) if ends.iter().all(Option::is_none) => return Err(Nothing::NoResult),
            Rerun::Retry(names) => {
                let failed = |at: &usize| ends[*at].is_some_and(|e| e.state != JobState::Passed);
                let mut run = match names {
                    [] => all.clone().filter(failed).collect(),
                    names => named(plan, names)?,
                };
                if run.is_empty() {
                    return Err(Nothing::NothingFailed);
                }
                // What was skipped because of them gets its turn. A job comes after what it needs.
                for at in all.clone() {
                    let skipped = ends[at].is_some_and(|end| end.state == JobState::Skipped);
                    if skipped && plan.jobs[at].needs.iter().any(|n| run.contains(&(*n as usize))) {
                        run.insert(at);
                    }
                }
                let open = |at: usize| {
                    ends[at].is_none_or(|end| !end.state.lets_others_go_on(end.allow_failure))
                };
                with_needs(plan, run, open)
            }
        };
        if run.is_empty() {
            return Err(Nothing::NoJobs);
        }
        Ok(Selection::from_parts(plan, &ends, &run))
    }

    fn from_parts(plan: &Plan, ends: &[Option<&JobResult>], run: &BTreeSet<usize>) -> Selection {
        let stay = (0..plan.jobs.len()).filter(|at| run.contains(at) || ends[*at].is_some());
        let places: BTreeMap<usize, u32> = stay.zip(0..).collect();
        let jobs = places.keys().map(|at| {
            let spec = &plan.jobs[*at];
            // What is left out is needed by kept jobs alone.
            let needs = spec.needs.iter().filter_map(|need| places.get(&(*need as usize)).copied());
            JobSpec { needs: needs.collect(), ..spec.clone() }
        });
        let kept = places.iter().filter(|(at, _)| !run.contains(at));
        let kept = kept.filter_map(|(at, place)| Some((*place, ends[*at]?.clone())));
        Selection { plan: Plan { jobs: jobs.collect() }, kept: kept.collect() }
    }

    /// The names of the jobs that run.
    pub fn run(&self) -> impl Iterator<Item = &str> {
        let jobs = (0..).zip(&self.plan.jobs);
        jobs.filter(|(at, _)| !self.kept.contains_key(at)).map(|(_, spec)| spec.name.as_str())
    }
}

/// The places of the jobs that these names stand for.
pub fn named(plan: &Plan, names: &[String]) -> Result<BTreeSet<usize>, Nothing> {
    let all: Vec<&str> = plan.jobs.iter().map(|spec| spec.name.as_str()).collect();
    let mut places = BTreeSet::new();
    for name in names {
        let found = places_of(&all, name);
        if found.is_empty() {
            let jobs = all.iter().map(|name| (*name).to_owned()).collect();
            return Err(Nothing::NoSuchJob { name: name.clone(), jobs });
        }
        places.extend(found);
    }
    Ok(places)
}

/// The places among these jobs that a name stands for.
pub fn places_of(jobs: &[&str], name: &str) -> Vec<usize> {
    if let Some(at) = jobs.iter().position(|job| *job == name) {
        return vec![at];
    }
    let variant = |job: &str| job.strip_prefix(name).is_some_and(|rest| rest.starts_with(':'));
    (0..jobs.len()).filter(|at| variant(jobs[*at])).collect()
}

/// These jobs, and all that they need and is to run as well.
fn with_needs(plan: &Plan, jobs: BTreeSet<usize>, runs: impl Fn(usize) -> bool) -> BTreeSet<usize> {
    let mut open: Vec<usize> = jobs.iter().copied().collect();
    let mut all = jobs;
    while let Some(at) = open.pop() {
        let needs = plan.jobs[at].needs.iter().map(|need| *need as usize);
        open.extend(needs.filter(|need| runs(*need) && all.insert(*need)));
    }
    all
}

#[cfg(test)]
mod tests {
    use crate::{BuildId, Node, PushId};

    use super::*;

    /// `build`, then `test:a` and `test:b` that need it, `lint`, and `deploy` that needs `test:b`.
    fn plan() -> Plan {
        let job = |name: &str, needs: &[u32]| JobSpec {
            name: name.into(),
            run: vec!["true".into()],
            env: BTreeMap::new(),
            needs: needs.to_vec(),
            labels: Vec::new(),
            timeout_ms: None,
            reports: Vec::new(),
            allow_failure: false,
        };
        let jobs = vec![
            job("build", &[]),
            job("test:a", &[0]),
            job("test:b", &[0]),
            job("lint", &[]),
            job("deploy", &[2]),
        ];
        Plan { jobs }
    }

    fn ended(states: &[JobState]) -> Vec<JobResult> {
        let results = (0..).zip(plan().jobs).zip(states).map(|((index, spec), state)| JobResult {
            node: Node::NULL,
            push: PushId(1),
            build: BuildId(1),
            index,
            name: spec.name,
            state: *state,
            attempt: 1,
            exit: None,
            signal: None,
            started_ms: 0,
            duration_ms: 0,
            pool: String::new(),
            host: String::new(),
            tests: None,
            allow_failure: false,
            why: None,
            from: None,
        });
        results.collect()
    }

    fn select(
        before: &[JobResult],
        what: Rerun<'_>,
    ) -> Result<(Vec<String>, Vec<String>), Nothing> {
        let selection = Selection::of(&plan(), before, what)?;
        let kept = selection.kept.values().map(|result| result.name.clone()).collect();
        Ok((selection.run().map(str::to_owned).collect(), kept))
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    use JobState::{Failed, Passed, Skipped};

    #[test]
    fn a_run_takes_everything_or_what_is_named_with_what_it_needs() {
        let all = names(&["build", "test:a", "test:b", "lint", "deploy"]);
        assert_eq!(select(&[], Rerun::Run(&[])).unwrap(), (all, vec![]));
        let deploy = names(&["deploy"]);
        let run = names(&["build", "test:b", "deploy"]);
        assert_eq!(select(&[], Rerun::Run(&deploy)).unwrap(), (run.clone(), vec![]));
        // What passed before runs again when it is needed; the rest keeps its end.
        let before = ended(&[Passed, Failed, Passed, Passed, Passed]);
        let kept = names(&["test:a", "lint"]);
        assert_eq!(select(&before, Rerun::Run(&deploy)).unwrap(), (run, kept));
    }

    #[test]
    fn a_retry_takes_what_did_not_pass_and_what_was_skipped_because_of_it() {
        let before = ended(&[Passed, Passed, Failed, Passed, Skipped]);
        let expected = (names(&["test:b", "deploy"]), names(&["build", "test:a", "lint"]));
        assert_eq!(select(&before, Rerun::Retry(&[])).unwrap(), expected);
        assert_eq!(select(&before, Rerun::Retry(&names(&["test:b"]))).unwrap(), expected);
    }

    #[test]
    fn a_retry_of_a_job_takes_what_it_needs_only_where_that_has_not_passed() {
        let before = ended(&[Passed, Passed, Passed, Failed, Passed]);
        let (run, _) = select(&before, Rerun::Retry(&names(&["deploy"]))).unwrap();
        assert_eq!(run, names(&["deploy"]));
        let before = ended(&[Failed, Skipped, Skipped, Passed, Skipped]);
        let (run, kept) = select(&before, Rerun::Retry(&names(&["deploy"]))).unwrap();
        assert_eq!(run, names(&["build", "test:b", "deploy"]));
        assert_eq!(kept, names(&["test:a", "lint"]));
    }

    #[test]
    fn a_job_that_may_fail_is_not_run_for_those_that_need_it() {
        let mut before = ended(&[Failed, Failed, Passed, Passed, Passed]);
        before[0].allow_failure = true;
        let (run, _) = select(&before, Rerun::Retry(&names(&["test:a"]))).unwrap();
        assert_eq!(run, names(&["test:a"]));
        let (run, _) = select(&before, Rerun::Retry(&[])).unwrap();
        assert_eq!(run, names(&["build", "test:a"]), "it did fail");
    }

    #[test]
    fn a_name_stands_for_a_job_or_for_all_of_a_matrix() {
        let (run, _) = select(&[], Rerun::Run(&names(&["test"]))).unwrap();
        assert_eq!(run, names(&["build", "test:a", "test:b"]));
        let (run, _) = select(&[], Rerun::Run(&names(&["test:a"]))).unwrap();
        assert_eq!(run, names(&["build", "test:a"]));
        let refused = select(&[], Rerun::Run(&names(&["tes"]))).unwrap_err();
        assert!(refused.to_string().contains("it has: build, test:a, test:b"), "{refused}");
    }

    #[test]
    fn there_may_be_nothing_to_retry() {
        assert_eq!(select(&[], Rerun::Retry(&[])), Err(Nothing::NoResult));
        let well = ended(&[Passed; 5]);
        assert_eq!(select(&well, Rerun::Retry(&[])), Err(Nothing::NothingFailed));
        let none = Plan { jobs: Vec::new() };
        assert_eq!(Selection::of(&none, &[], Rerun::Run(&[])), Err(Nothing::NoJobs));
    }

    #[test]
    fn what_was_left_out_before_stays_out_and_is_needed_by_nobody_who_runs() {
        // An earlier run was of test:a alone.
        let before: Vec<JobResult> =
            ended(&[Passed, Failed, Passed, Passed, Passed]).into_iter().take(2).collect();
        let selection = Selection::of(&plan(), &before, Rerun::Retry(&[])).unwrap();
        let jobs: Vec<&str> = selection.plan.jobs.iter().map(|job| job.name.as_str()).collect();
        assert_eq!(jobs, ["build", "test:a"]);
        let last = ended(&[Passed, Passed, Passed, Passed, Passed]).split_off(4);
        let lint = names(&["lint"]);
        let selection = Selection::of(&plan(), &last, Rerun::Run(&lint)).unwrap();
        let jobs: Vec<&str> = selection.plan.jobs.iter().map(|job| job.name.as_str()).collect();
        assert_eq!(jobs, ["lint", "deploy"]);
        assert_eq!(selection.plan.jobs[1].needs, [0; 0]);
    }
}
