//! What a message says of one push: as much of its report as people read and a store takes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use hgci_core::JobState;
use hgci_core::quantity::format_duration;

use super::lines::{MAX_LINES, MAX_WIDTH, is_invisible};
use super::report::{BuildReport, Change, JobReport, PushReport};

/// The most builds of a push that are told one by one.
pub(super) const MAX_BUILDS: usize = 20;

/// The most lines about a malformed pipeline.
const MAX_MISTAKES: usize = 10;

/// The most characters of a command; what is longer is better read in the pipeline.
const MAX_COMMAND: usize = 300;

/// The most characters of a subject.
pub(super) const MAX_SUBJECT: usize = 120;

/// Bytes for what is said of the jobs of one push.
const BUDGET: usize = 128 << 10;

/// What a message says of one push. It is bounded, whatever the push was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Account {
    pub(super) push: u64,
    pub(super) repo: String,
    pub(super) received_ms: i64,
    pub(super) change: Change,
    pub(super) subject: String,
    pub(super) title: String,
    pub(super) sections: Vec<Section>,
    /// How many builds are not told of.
    pub(super) more: usize,
}

/// What one build comes to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Section {
    pub build: u64,
    pub node: String,
    pub branch: String,
    pub description: String,
    pub author: String,
    pub blocks: Vec<Block>,
    /// Jobs that changed and have no block.
    pub hidden: usize,
    /// Blocks whose lines were left out to save room.
    pub bare: usize,
    /// A line each for what needs no block.
    pub rest: Vec<String>,
}

/// A job that changed, or a mistake in a pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Block {
    pub change: Change,
    pub heading: String,
    pub facts: String,
    pub lines: Vec<String>,
    /// What it is for, and the command.
    pub commands: Vec<(String, String)>,
}

impl Account {
    /// What is to be said of a push.
    pub fn of(report: &PushReport) -> Account {
        let who = report.user.as_deref().map(|user| format!(" by {}", one_line(user, 60)));
        let title = format!(
            "{}: push {} to {}{}",
            report.change().words(),
            report.push,
            report.repo,
            who.unwrap_or_default()
        );
        let mut builds: Vec<&BuildReport> = report.builds.iter().collect();
        builds.sort_by_key(|build| build.change());
        let more = builds.len().saturating_sub(MAX_BUILDS);
        builds.truncate(MAX_BUILDS);
        let mut sections: Vec<Section> = builds.into_iter().map(section).collect();
        cut(&mut sections, BUDGET);
        Account {
            push: report.push,
            repo: report.repo.clone(),
            received_ms: report.received_ms,
            change: report.change(),
            subject: subject(report),
            title,
            sections,
            more,
        }
    }
}

/// Leaves out what is more than so many bytes of blocks: their lines first, then blocks, and both
/// of the least urgent, which are the last.
pub(super) fn cut(sections: &mut [Section], budget: usize) {
    // A part is kept for headings when there is no more room for lines.
    let (mut left, headings) = (budget, budget / 4);
    for section in sections {
        let (mut hidden, mut bare) = (0, 0);
        section.blocks.retain_mut(|block| {
            let Some(rest) = left.checked_sub(block.size_without_lines()) else {
                hidden += 1;
                return false;
            };
            left = rest;
            match left.checked_sub(block.size_of_lines()).filter(|rest| *rest >= headings) {
                Some(rest) => left = rest,
                None if block.lines.is_empty() => {}
                None => {
                    block.lines.clear();
                    bare += 1;
                }
            }
            true
        });
        section.hidden += hidden;
        section.bare += bare;
    }
}

impl Block {
    fn size_without_lines(&self) -> usize {
        let commands: usize = self.commands.iter().map(|(a, b)| a.len() + b.len()).sum();
        self.heading.len() + self.facts.len() + commands
    }

    fn size_of_lines(&self) -> usize {
        self.lines.iter().map(String::len).sum()
    }
}

impl Section {
    /// What is said below the blocks, a line each.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.bare > 0 {
            let jobs =
                if self.bare == 1 { "1 job".to_owned() } else { format!("{} jobs", self.bare) };
            remarks
                .push(format!("The lines of {jobs} are left out: the message would be too long."));
        }
        match self.hidden {
            0 => {}
            1 => remarks.push("1 more job changed and is not shown.".to_owned()),
            more => remarks.push(format!("{more} more jobs changed and are not shown.")),
        }
        remarks.extend_from_slice(&self.rest);
        remarks
    }

    /// What each command is for, and the command.
    pub fn commands(&self) -> Vec<(String, String)> {
        let see = ("to see".to_owned(), format!("hg ci-status -r {}", self.node));
        std::iter::once(see).chain(self.blocks.iter().flat_map(|b| b.commands.clone())).collect()
    }
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

fn section(build: &BuildReport) -> Section {
    let mut section = Section {
        build: build.build,
        node: build.node.short(),
        branch: one_line(&build.branch, 60),
        description: one_line(&build.description, 200),
        author: one_line(&build.author, 100),
        blocks: Vec::new(),
        hidden: 0,
        bare: 0,
        rest: Vec::new(),
    };
    if let Some(message) = &build.message {
        let heading = match build.change() {
            Change::Errored => "the pipeline cannot be read",
            _ => "the pipeline is malformed",
        };
        section.blocks.push(Block {
            change: build.change(),
            heading: heading.to_owned(),
            facts: String::new(),
            lines: message.lines().take(MAX_MISTAKES).map(|line| one_line(line, 300)).collect(),
            commands: Vec::new(),
        });
        return section;
    }
    let shown = build.shown();
    section.blocks = shown.iter().map(|n| block(&build.jobs[*n], &section.node)).collect();
    let named = |change| {
        let jobs = build.jobs.iter().filter(move |job| job.change() == change);
        jobs.map(|job| one_line(&job.name, 100)).collect::<Vec<_>>()
    };
    let (well, silent) = (named(Change::Well), named(Change::Silent));
    section.hidden = build.jobs.len() - well.len() - silent.len() - shown.len();
    for (what, names) in [("passed", well), ("not run", silent)] {
        if !names.is_empty() {
            section.rest.push(one_line(&format!("{what}: {}", names.join(", ")), 300));
        }
    }
    section
}

fn block(job: &JobReport, node: &str) -> Block {
    let (change, name) = (job.change(), one_line(&job.name, 100));
    let mut commands = Vec::new();
    if change.is_bad() {
        commands.push((format!("log of {name}"), format!("hg ci-log -r {node} '{name}'")));
        commands.extend(again(job, node));
    }
    Block {
        change,
        heading: format!("{} {name}", change.words()),
        facts: facts(job),
        lines: if change.is_bad() { lines(job) } else { Vec::new() },
        commands,
    }
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
        (JobState::Failed, _, Some(signal)) => facts.push(format!("signal {signal}")),
        (JobState::Failed, Some(exit), _) => facts.push(format!("exit {exit}")),
        (JobState::Passed, ..) => {}
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
