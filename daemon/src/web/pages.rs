//! What the links in lines for pushers, in results and in mails lead to: the same as plain text.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use hgci_api::fold::{build_page, job_page};
use hgci_api::read::JobStatus;
use hgci_core::push::Phase;

use super::lists::{self, build_info};
use super::query::InPath;
use super::read::job_status;
use super::reading;
use super::{Failure, Sight};
use crate::app::App;

/// The most builds of a push that are shown.
const MOST_BUILDS: usize = 100;

/// `GET /p/17`.
pub async fn push(
    State(app): State<Arc<App>>,
    sight: Sight,
    InPath(id): InPath<u64>,
) -> Result<Response, Failure> {
    let row = lists::find_push(&app, &sight, id).await?;
    let current = app.current();
    let mut text = format!("push {id} to {}\n", row.push.repo);
    let _infallible = writeln!(text, "changesets: {}", row.push.changesets);
    for moved in &row.push.phases {
        let _infallible = writeln!(text, "phase: {} is {}", moved.node, phase(moved.to));
    }
    for moved in &row.push.bookmarks {
        let to = moved.to.map_or_else(|| "deleted".to_owned(), |node| node.to_string());
        let _infallible = writeln!(text, "bookmark: {} {to}", moved.name);
    }
    if row.push.markers > 0 {
        let _infallible = writeln!(text, "obsolescence markers: {}", row.push.markers);
    }
    if let Some(why) = &row.push.no_build {
        let _infallible = writeln!(text, "no build: {why}");
    }
    let first = row.first_build.map_or(0, |build| build.0);
    for build in (first..first.saturating_add(row.builds.into())).take(MOST_BUILDS) {
        // One that is past what is kept leaves its number.
        let Ok(whole) = reading::build(&app, &sight, build).await else {
            let _infallible = writeln!(text, "\nbuild {build}: not here any more");
            continue;
        };
        let info = build_info(&whole.row, &sight, current.url());
        let _infallible = writeln!(text, "\nbuild {build}: {}", info.state);
        let _infallible = writeln!(text, "  {} {}", info.node, info.description);
        text.extend(info.url.map(|url| format!("  {url}\n")));
    }
    let more = usize::try_from(row.builds).unwrap_or(usize::MAX).saturating_sub(MOST_BUILDS);
    if more > 0 {
        let _infallible = writeln!(text, "\nand {more} more builds");
    }
    Ok(plain(&text))
}

/// `GET /b/12`.
pub async fn build(
    State(app): State<Arc<App>>,
    sight: Sight,
    InPath(id): InPath<u64>,
) -> Result<Response, Failure> {
    let whole = reading::build(&app, &sight, id).await?;
    let current = app.current();
    let url = current.url();
    let info = build_info(&whole.row, &sight, url);
    let mut text = format!("build {id} of {}: {}\n", info.repo, info.state);
    let _infallible = writeln!(text, "changeset {} on {}", info.node, info.branch);
    let _infallible = writeln!(text, "by {}: {}", info.author, info.description);
    text.extend(info.by.map(|by| format!("asked for by {by}\n")));
    text.extend(info.message.map(|message| format!("\n{message}\n")));
    text.push('\n');
    for (job, waits) in whole.jobs.iter().zip(&whole.waits) {
        text += &line(&job_status(job, waits.as_deref(), url));
    }
    Ok(plain(&text))
}

/// `GET /b/12/NAME`.
pub async fn job(
    State(app): State<Arc<App>>,
    sight: Sight,
    InPath((id, name)): InPath<(u64, String)>,
) -> Result<Response, Failure> {
    let whole = reading::build(&app, &sight, id).await?;
    let current = app.current();
    let (job, waits) = whole.job(&name)?;
    let status = job_status(job, waits, current.url());
    let mut text = format!("job {name} of build {id} of {}\n", whole.row.repo);
    text += &line(&status);
    let attempts = job.attempts.iter().filter_map(|attempt| {
        Some(format!("attempt {} on {}: {}\n", attempt.n, attempt.host(), attempt.why.as_ref()?))
    });
    text.extend(attempts);
    let page = job_page(&build_page(current.url().unwrap_or_default(), whole.row.id), &name);
    let log = page.unwrap_or_else(|| format!("/b/{id}/{name}"));
    let _infallible = writeln!(text, "log: {log}/log");
    Ok(plain(&text))
}

/// A job in a line.
fn line(job: &JobStatus) -> String {
    let mut details = Vec::new();
    details.extend(job.exit.filter(|exit| *exit != 0).map(|exit| format!("exit {exit}")));
    details.extend(job.signal.map(|signal| format!("signal {signal}")));
    details.extend(job.duration.map(|seconds| format!("{seconds:.1} s")));
    details.extend(job.tests.map(|tests| {
        format!("{} of {} tests failed", tests.failed, tests.passed + tests.failed + tests.skipped)
    }));
    details.extend(job.why.clone());
    details.extend(job.from.map(|build| format!("kept from build {build}")));
    let details =
        if details.is_empty() { String::new() } else { format!(" ({})", details.join(", ")) };
    let url = job.url.as_ref().map_or_else(String::new, |url| format!("\n  {url}"));
    format!("{:10} {}{details}{url}\n", job.state.name(), job.name)
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Public => "public",
        Phase::Draft => "draft",
        Phase::Secret => "secret",
    }
}

/// Text for whatever shows it: names and descriptions are other people's, and may have what a
/// terminal would obey.
fn plain(text: &str) -> Response {
    let shown = |c: char| if c.is_control() && c != '\n' { '\u{fffd}' } else { c };
    let text: String = text.chars().map(shown).collect();
    let headers = [
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"),
    ];
    (headers, text).into_response()
}
