//! From the engine's word that a push is over to its messages: gathers what mail wants to know.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hgci_core::engine::{BuildRow, Event, JobRow, PushRow};
use hgci_core::pipeline::{self, Pipeline};
use hgci_core::{AttemptKey, BuildId, JobState, Node, PushId, document};
use hgci_results::{Place, Reader};
use tokio::sync::mpsc;

use crate::app::App;
use crate::intake::Served;
use crate::mail::{self, BuildReport, JobReport, Mailer, PushReport, failing_lines};
use crate::scheduler::Records;

/// Bytes at the end of a log that are searched for what tells of the failure.
const TAIL: usize = 64 << 10;

/// How long after a failure a push is tried again; the engine asks again, too.
const RETRY: Duration = Duration::from_secs(5);

/// How often the messages that wait are counted for `hgcid status`.
const COUNT: Duration = Duration::from_secs(1);

/// Tells of pushes as the engine asks for it, for ever.
pub async fn tell(app: Arc<App>, mailer: Mailer, mut orders: mpsc::UnboundedReceiver<PushId>) {
    let counter = mailer.clone();
    let counted = app.clone();
    tokio::spawn(async move {
        loop {
            let mailer = counter.clone();
            if let Ok(Ok(waiting)) = tokio::task::spawn_blocking(move || mailer.waiting()).await {
                counted.outbox.store(waiting, Ordering::Relaxed);
            }
            tokio::time::sleep(COUNT).await;
        }
    });
    while let Some(push) = orders.recv().await {
        if let Err(why) = take(&app, &mailer, push).await {
            tracing::error!(%push, %why, "cannot tell of a push; it is tried again");
            tokio::time::sleep(RETRY).await;
        }
    }
}

async fn take(app: &Arc<App>, mailer: &Mailer, push: PushId) -> Result<(), String> {
    if app.current().config.mail.is_some()
        && let Some(gathered) = gather(app, push).await?
    {
        let (app, mailer) = (app.clone(), mailer.clone());
        let taken = tokio::task::spawn_blocking(move || {
            let report = gathered.report(&app)?;
            mailer.take(&report).map_err(|error| error.to_string())
        });
        taken.await.map_err(|error| error.to_string())??;
    }
    app.scheduler.event(Event::Mailed(push)).await.map_err(|error| error.to_string())?;
    Ok(())
}

/// A push with its builds, as rows have them.
struct Gathered {
    push: PushRow,
    builds: Vec<(BuildRow, Vec<JobRow>)>,
}

/// `None` where the push is no longer in flight: then it was told of.
async fn gather(app: &App, id: PushId) -> Result<Option<Gathered>, String> {
    let gathered = app.scheduler.ask(move |engine, store| {
        let Some(push) = engine.push(id).cloned() else { return Ok(None) };
        let first = push.first_build.map_or(0, |build| build.0);
        let mut builds = Vec::new();
        for build in (first..first.saturating_add(u64::from(push.builds))).map(BuildId) {
            match engine.build(build) {
                Some(row) => builds.push((row.clone(), engine.jobs(build))),
                None => {
                    let archived = Records::build(store, build)?;
                    builds.extend(archived.map(|archived| (archived.build, archived.jobs)));
                }
            }
        }
        Ok(Some(Gathered { push, builds }))
    });
    let gathered: Result<_, crate::scheduler::RecordError> =
        gathered.await.map_err(|error| error.to_string())?;
    gathered.map_err(|error| error.to_string())
}

impl Gathered {
    /// With what was built before and the logs say. Blocking.
    fn report(self, app: &App) -> Result<PushReport, String> {
        let push = self.push.push;
        // Without the repository nothing is known of what was before: the rest can be told.
        let served = app.intake.served(&push.repo).ok();
        let log = served.as_ref().and_then(|served| {
            Reader::open(&Place::new(served.repository.source().join(".hg"))).ok().flatten()
        });
        let mut builds = Vec::new();
        for (build, jobs) in self.builds {
            let (mut before, mut pipeline) = (HashMap::new(), None);
            if let (Some(served), true) = (&served, jobs.iter().any(|job| job.state.is_final())) {
                let names: Vec<_> = jobs.iter().map(|job| job.name.as_str()).collect();
                if let Some(log) = &log {
                    before = mail::before(&served.repository, log, &build.node, &names);
                }
                pipeline = pipeline_at(served, &build.node);
            }
            let reports = jobs.iter().map(|job| job_report(job, before.remove(&job.name)));
            let mut report = BuildReport {
                build: build.id.0,
                node: build.node,
                branch: build.branch,
                author: build.author,
                description: build.description,
                state: build.state,
                message: build.message,
                jobs: reports.collect(),
            };
            // A push may have thousands of bad jobs: only of those that are told much is read.
            for n in report.shown() {
                let told = &mut report.jobs[n];
                if told.change().is_bad() {
                    told.lines = lines_of(app, &jobs[n]);
                    told.run = steps_of(pipeline.as_ref(), &told.name);
                }
            }
            builds.push(report);
        }
        Ok(PushReport {
            push: push.id.0,
            repo: push.repo,
            user: push.user,
            received_ms: push.received,
            builds,
        })
    }
}

/// The pipeline of a changeset, for the steps of its jobs; `None` where it can no longer be read.
fn pipeline_at(served: &Served, node: &Node) -> Option<Pipeline> {
    let most = document::MAX_SIZE as u64;
    let bytes = served.repository.read(|reader| reader.file(node, pipeline::FILE, most)).ok()??;
    pipeline::parse(pipeline::FILE, &bytes).ok()
}

/// The steps of a job; none where they are not known.
fn steps_of(pipeline: Option<&Pipeline>, name: &str) -> Vec<String> {
    let jobs = pipeline.map_or(&[][..], Pipeline::jobs);
    let spec = jobs.iter().find(|spec| spec.name == name);
    spec.map(|spec| spec.run.clone()).unwrap_or_default()
}

/// What the log of a job's last attempt says of the failure.
fn lines_of(app: &App, job: &JobRow) -> Vec<String> {
    let tail = job.attempts.last().and_then(|attempt| {
        let key = AttemptKey { job: job.key, n: attempt.n };
        app.logs.tail(key, TAIL).ok()
    });
    tail.map(|tail| failing_lines(&tail)).unwrap_or_default()
}

fn job_report(job: &JobRow, before: Option<JobState>) -> JobReport {
    let verdict = job.attempts.last().and_then(|attempt| attempt.verdict.as_deref());
    let (exit, signal) =
        verdict.map(|verdict| verdict.outcome.exit_and_signal()).unwrap_or_default();
    JobReport {
        kept: job.kept.is_some(),
        before,
        run: Vec::new(),
        exit,
        signal,
        duration_ms: verdict.map_or(0, |verdict| verdict.duration_ms),
        tests: verdict.and_then(|verdict| verdict.tests),
        lines: Vec::new(),
        name: job.name.clone(),
        state: job.state,
        allow_failure: job.allow_failure,
        why: job.why.clone(),
    }
}
