//! From a pipeline to the jobs of a build.

use crate::job::{JobSpec, Plan};
use crate::pipeline::Pipeline;

/// The plan of a changeset whose pipeline this is: each job after what it needs, otherwise in the
/// order of the file; the same pipeline always gives the same plan.
pub fn plan(pipeline: &Pipeline) -> Plan {
    let mut places = vec![0; pipeline.jobs().len()];
    for (place, job) in (0..).zip(pipeline.order()) {
        places[*job] = place;
    }
    let spec = |job: &usize| {
        let job = &pipeline.jobs()[*job];
        let mut env = pipeline.env().clone();
        env.extend(job.env.clone());
        let mut needs: Vec<u32> = job.needs.iter().map(|need| places[*need]).collect();
        needs.sort_unstable();
        JobSpec {
            name: job.name.clone(),
            run: job.run.clone(),
            env,
            needs,
            labels: job.labels.clone(),
            timeout_ms: job.timeout.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
            reports: job.reports.clone(),
            allow_failure: job.allow_failure,
        }
    };
    Plan { jobs: pipeline.order().iter().map(spec).collect() }
}
