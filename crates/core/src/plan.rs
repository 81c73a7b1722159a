//! From a pipeline to the jobs of a build.

use crate::job::{JobSpec, Plan};
use crate::pipeline::Pipeline;

/// The plan of a changeset whose pipeline this is: each job after what it needs, otherwise in the
/// order of the file; the same pipeline always gives the same plan.
pub fn plan(pipeline: &Pipeline) -> Plan {
    Plan { jobs: specs(pipeline).collect() }
}

/// How many bytes the plan's jobs have as JSON, which is how they are stored. Each has a copy of the
/// pipeline's `[env]`, so that a small file can give a large plan.
pub(crate) fn size(pipeline: &Pipeline) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    for spec in specs(pipeline) {
        // Strings, numbers, lists and maps with text for keys always have a JSON form.
        let _cannot_fail = serde_json::to_writer(&mut count, &spec);
    }
    count.0
}

fn specs(pipeline: &Pipeline) -> impl Iterator<Item = JobSpec> {
    let mut places = vec![0; pipeline.jobs().len()];
    for (place, job) in (0..).zip(pipeline.order()) {
        places[*job] = place;
    }
    pipeline.order().iter().map(move |job| {
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
    })
}
