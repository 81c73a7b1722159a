//! A message: text, HTML and headers, out of a report. The same report makes the same message.

use std::time::{Duration, SystemTime};

use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use sha2::{Digest, Sha256};

use hgci_core::quantity::format_duration;

use super::html;
use super::lines::{MAX_LINES, MAX_WIDTH, is_invisible};
use super::people::key;
use super::report::{BuildReport, Change, JobReport, PushReport};

/// The most builds of a message that are told one by one, and the most failed jobs of each.
const MAX_BUILDS: usize = 20;
const MAX_FAILED: usize = 10;

/// The most characters of a command; what is longer is better read in the pipeline.
const MAX_COMMAND: usize = 300;

/// The most characters of a subject.
const MAX_SUBJECT: usize = 120;

/// Where a message points to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// The base of web pages, ending in `/`; empty where there are none.
    pub url: String,
}

impl Links {
    /// The page of a build.
    pub(super) fn build(&self, build: u64) -> Option<String> {
        (!self.url.is_empty()).then(|| format!("{}b/{build}", self.url))
    }
}

/// A message that is ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its id, without angle brackets: the same for the same recipient and pushes.
    pub id: String,
    /// The address that it goes to.
    pub to: String,
    /// The address that it comes from.
    pub from: String,
    /// Headers and body, as they are sent.
    pub raw: Vec<u8>,
}

/// What one build comes to.
pub(super) struct Section {
    pub build: u64,
    pub node: String,
    pub branch: String,
    pub description: String,
    pub author: String,
    pub blocks: Vec<Block>,
    /// A line each for what needs no block.
    pub rest: Vec<String>,
    /// What it is for, and the command.
    pub commands: Vec<(String, String)>,
}

/// A job that changed, or a mistake in a pipeline.
pub(super) struct Block {
    pub change: Change,
    pub heading: String,
    pub facts: String,
    pub lines: Vec<String>,
}

/// The message about one push.
///
/// # Errors
///
/// Fails when lettre takes no message of these parts, which would be a bug.
pub fn compose(
    report: &PushReport,
    from: &Mailbox,
    to: &Mailbox,
    links: &Links,
    now_ms: i64,
) -> Result<Message, lettre::error::Error> {
    let subject = subject(report);
    let who = report.user.as_deref().map(|user| format!(" by {}", one_line(user, 60)));
    let title = format!(
        "{}: push {} to {}{}",
        report.change().words(),
        report.push,
        report.repo,
        who.unwrap_or_default()
    );
    let letter = Letter { subject, title, sections: sections(report), links };
    letter.finish(std::slice::from_ref(report), from, to, now_ms)
}

/// The message about the pushes of a digest window, which must be of one repository at least.
///
/// # Errors
///
/// As [`compose`].
pub fn digest(
    reports: &[PushReport],
    from: &Mailbox,
    to: &Mailbox,
    links: &Links,
    now_ms: i64,
) -> Result<Message, lettre::error::Error> {
    if let [report] = reports {
        return compose(report, from, to, links, now_ms);
    }
    // What broke is told first, whichever push did it.
    let mut order: Vec<&PushReport> = reports.iter().collect();
    order.sort_by_key(|report| report.change());
    let worst = order.first().map_or(Change::Silent, |report| report.change());
    let mut repos: Vec<&str> = reports.iter().map(|report| report.repo.as_str()).collect();
    repos.sort_unstable();
    repos.dedup();
    let title = format!("{}: {} pushes to {}", worst.words(), reports.len(), repos.join(", "));
    let subject = one_line(&format!("[{}] {}", repos.join(", "), title), MAX_SUBJECT);
    let mut all: Vec<Section> = order.iter().flat_map(|report| sections(report)).collect();
    all.truncate(3 * MAX_BUILDS);
    Letter { subject, title, sections: all, links }.finish(reports, from, to, now_ms)
}

struct Letter<'l> {
    subject: String,
    title: String,
    sections: Vec<Section>,
    links: &'l Links,
}

impl Letter<'_> {
    fn finish(
        self,
        reports: &[PushReport],
        from: &Mailbox,
        to: &Mailbox,
        now_ms: i64,
    ) -> Result<Message, lettre::error::Error> {
        let domain = from.email.domain().to_owned();
        let first = reports.first();
        let repo = first.map_or("", |report| report.repo.as_str());
        let footer = format!("hgci told you because of what was pushed to {repo}.");
        let text = text(&self.title, &self.sections, self.links, &footer);
        let page = html::page(&self.title, &self.sections, self.links, &footer);
        let id = message_id(reports, to, &domain);
        let thread: Vec<String> =
            reports.iter().map(|r| format!("<{}>", thread_id(r, &domain))).collect();
        let now = Duration::from_millis(u64::try_from(now_ms).unwrap_or_default());
        let mut builder = lettre::Message::builder()
            .from(from.clone())
            .to(to.clone())
            .date(SystemTime::UNIX_EPOCH + now)
            .subject(self.subject)
            .message_id(Some(format!("<{id}>")))
            .references(thread.join(" "))
            .in_reply_to(thread.first().cloned().unwrap_or_default());
        let list = format!("{repo}.hgci.{domain}");
        for (name, value) in [
            (HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()),
            (HeaderName::new_from_ascii_str("Precedence"), "bulk".to_owned()),
            (HeaderName::new_from_ascii_str("List-Id"), format!("<{list}>")),
            // Of well-meaning vacation programs, some know this one alone.
            (HeaderName::new_from_ascii_str("X-Auto-Response-Suppress"), "All".to_owned()),
        ] {
            builder = builder.raw_header(HeaderValue::new(name, value));
        }
        let message = builder.multipart(MultiPart::alternative_plain_html(text, page))?;
        Ok(Message {
            id,
            to: to.email.to_string(),
            from: from.email.to_string(),
            raw: message.formatted(),
        })
    }
}

/// The id of the thread of a push. No message has it: all messages about the push refer to it.
fn thread_id(report: &PushReport, domain: &str) -> String {
    format!("hgci.{}.{}.{}@{domain}", report.repo, report.push, report.received_ms)
}

fn message_id(reports: &[PushReport], to: &Mailbox, domain: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(key(to));
    for report in reports {
        hash.update(format!("\0{}\0{}\0{}", report.repo, report.push, report.received_ms));
    }
    let hash: String = hash.finalize()[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("hgci.{hash}@{domain}")
}

fn subject(report: &PushReport) -> String {
    let change = report.change();
    let mut names: Vec<&str> = report
        .builds
        .iter()
        .flat_map(|build| &build.jobs)
        .filter(|job| job.change() == change && !matches!(change, Change::Well | Change::Silent))
        .map(|job| job.name.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    let more = names.len().saturating_sub(3);
    names.truncate(3);
    let mut what = change.words().to_owned();
    if !names.is_empty() {
        what += &format!(": {}", names.join(", "));
    }
    if more > 0 {
        what += &format!(" and {more} more");
    }
    let build = report.builds.iter().min_by_key(|build| build.change());
    let which = build
        .map_or(String::new(), |build| format!(" ({} {})", build.node.short(), build.description));
    one_line(&format!("[{}] {what}{which}", report.repo), MAX_SUBJECT)
}

fn sections(report: &PushReport) -> Vec<Section> {
    let mut builds: Vec<&BuildReport> = report.builds.iter().collect();
    builds.sort_by_key(|build| build.change());
    let more = builds.len().saturating_sub(MAX_BUILDS);
    builds.truncate(MAX_BUILDS);
    let mut sections: Vec<Section> = builds.into_iter().map(section).collect();
    if let (Some(last), 1..) = (sections.last_mut(), more) {
        last.rest.push(format!("{more} more builds of this push are not shown."));
    }
    sections
}

fn section(build: &BuildReport) -> Section {
    let node = build.node.short();
    let mut section = Section {
        build: build.build,
        branch: one_line(&build.branch, 60),
        description: one_line(&build.description, 200),
        author: one_line(&build.author, 100),
        blocks: Vec::new(),
        rest: Vec::new(),
        commands: vec![("to see".to_owned(), format!("hg ci-status -r {node}"))],
        node,
    };
    if let Some(message) = &build.message {
        let lines = message.lines().take(MAX_FAILED).map(|line| one_line(line, 300)).collect();
        let heading = match build.change() {
            Change::Errored => "the pipeline cannot be read",
            _ => "the pipeline is malformed",
        };
        section.blocks.push(Block {
            change: build.change(),
            heading: heading.to_owned(),
            facts: String::new(),
            lines,
        });
        return section;
    }
    let mut jobs: Vec<&JobReport> = build.jobs.iter().collect();
    jobs.sort_by_key(|job| job.change());
    let (mut shown, mut well, mut silent) = (0, Vec::new(), Vec::new());
    for job in jobs {
        let name = one_line(&job.name, 100);
        match job.change() {
            Change::Well => well.push(name),
            Change::Silent => silent.push(name),
            _ if shown == MAX_FAILED => {}
            change => {
                shown += 1;
                section.blocks.push(Block {
                    change,
                    heading: format!("{} {name}", change.words()),
                    facts: facts(job),
                    lines: if change.is_bad() { lines(job) } else { Vec::new() },
                });
                if change.is_bad() {
                    let arguments = format!("-r {} '{name}'", section.node);
                    let commands = [(format!("log of {name}"), format!("hg ci-log {arguments}"))];
                    section.commands.extend(commands);
                    section.commands.extend(again(job, &section.node));
                }
            }
        }
    }
    let loud = build.jobs.len() - well.len() - silent.len();
    if loud > shown {
        section.rest.push(format!("{} more jobs changed and are not shown.", loud - shown));
    }
    for (what, names) in [("passed", well), ("not run", silent)] {
        if !names.is_empty() {
            section.rest.push(one_line(&format!("{what}: {}", names.join(", ")), 300));
        }
    }
    section
}

/// How to run the job's steps in a clone, where they are short enough for a line.
fn again(job: &JobReport, node: &str) -> Option<(String, String)> {
    let quoted = |step: &String| format!("'{}'", step.trim_end().replace('\'', r"'\''"));
    let steps: Vec<_> = job.run.iter().map(|step| format!("sh -e -c {}", quoted(step))).collect();
    let command = format!("hg update -r {node} && {}", steps.join(" && "));
    let fits = !steps.is_empty() && one_line(&command, MAX_COMMAND) == command;
    fits.then(|| (format!("{} here", one_line(&job.name, 100)), command))
}

/// What the log says, as much as a message takes.
fn lines(job: &JobReport) -> Vec<String> {
    job.lines.iter().take(MAX_LINES).map(|line| one_line(line, MAX_WIDTH)).collect()
}

/// `exit 2, 3s210ms, 40 passed, 2 failed`.
fn facts(job: &JobReport) -> String {
    let mut facts = Vec::new();
    match (job.state, job.exit, job.signal) {
        (hgci_core::JobState::Failed, _, Some(signal)) => facts.push(format!("signal {signal}")),
        (hgci_core::JobState::Failed, Some(exit), _) => facts.push(format!("exit {exit}")),
        (hgci_core::JobState::Passed, ..) => {}
        (state, ..) => facts.push(state.name().to_owned()),
    }
    facts.push(format_duration(Duration::from_millis(job.duration_ms)));
    if let Some(tests) = job.tests {
        facts.push(format!("tests: {} passed, {} failed", tests.passed, tests.failed));
        if tests.skipped > 0 {
            facts.push(format!("{} skipped", tests.skipped));
        }
    }
    facts.extend(job.why.as_deref().map(|why| one_line(why, 200)));
    facts.join(", ")
}

fn text(title: &str, sections: &[Section], links: &Links, footer: &str) -> String {
    let mut text = format!("{title}\n");
    for section in sections {
        text += &format!(
            "\n{} ({}) {}\n    {}\n",
            section.node, section.branch, section.description, section.author
        );
        for block in &section.blocks {
            let facts =
                if block.facts.is_empty() { String::new() } else { format!(": {}", block.facts) };
            text += &format!("\n  {}{facts}\n", block.heading);
            for line in &block.lines {
                text += &format!("    | {line}\n");
            }
        }
        for line in &section.rest {
            text += &format!("\n  {line}\n");
        }
        text += "\n";
        for (what, command) in &section.commands {
            text += &format!("  {what}: {command}\n");
        }
        if let Some(url) = links.build(section.build) {
            text += &format!("  {url}\n");
        }
    }
    // The line that mail programs take for the start of a signature.
    text + &format!("\n-- \n{footer}\n")
}

/// Text from somebody as one line without control characters, cut where it is long.
pub(super) fn one_line(text: &str, most: usize) -> String {
    let mut line = String::new();
    let mut chars = text.chars().filter(|c| !is_invisible(*c));
    for c in chars.by_ref().take(most) {
        line.push(if c.is_control() { ' ' } else { c });
    }
    if chars.next().is_some() {
        line.push('…');
    }
    line.truncate(line.trim_end().len());
    line
}
