//! What people see of a pipeline.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use hgci_core::document::Mistake;
use hgci_core::job::{JobSpec, Plan};
use hgci_core::quantity::format_duration;

use crate::Color;

/// The most characters of a line that are shown.
const WIDTH: usize = 100;

/// Whether colours are used.
#[derive(Clone, Copy)]
pub(crate) struct Style(bool);

impl Style {
    /// As the user asked; by themselves colours are for terminals whose user does not refuse them.
    pub(crate) fn choose(color: Color) -> Style {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Style(match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => io::stdout().is_terminal() && !set("NO_COLOR") && !dumb(),
        })
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn red(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }
}

/// The jobs that would run, in the order in which they would start.
pub(crate) fn plan(out: &mut impl Write, name: &str, plan: &Plan, style: Style) -> io::Result<()> {
    let name = clean(name);
    if plan.jobs.is_empty() {
        return writeln!(out, "{name}: no job would run");
    }
    writeln!(out, "{name}: {} would run", counted(plan.jobs.len(), "job"))?;
    let width = plan.jobs.iter().map(|job| job.name.len()).max().unwrap_or(0).min(40);
    for job in &plan.jobs {
        let more = details(job, plan);
        let padding = if more.is_empty() { 0 } else { width.saturating_sub(job.name.len()) + 3 };
        writeln!(out, "  {}{:padding$}{}", style.bold(&job.name), "", style.dim(&more))?;
    }
    Ok(())
}

/// What is special about a job.
fn details(job: &JobSpec, plan: &Plan) -> String {
    let mut parts = Vec::new();
    let needs: Vec<_> = job
        .needs
        .iter()
        .filter_map(|need| plan.jobs.get(*need as usize))
        .map(|job| job.name.as_str())
        .collect();
    if !needs.is_empty() {
        parts.push(format!("needs {}", needs.join(", ")));
    }
    if !job.labels.is_empty() {
        parts.push(format!("labels {}", job.labels.join(", ")));
    }
    if let Some(timeout) = job.timeout_ms {
        parts.push(format!("timeout {}", format_duration(Duration::from_millis(timeout))));
    }
    if job.allow_failure {
        parts.push("may fail".to_owned());
    }
    parts.join("; ")
}

/// The mistakes, each with the line that it is in.
pub(crate) fn mistakes(
    out: &mut impl Write,
    name: &str,
    bytes: &[u8],
    mistakes: &[Mistake],
    style: Style,
) -> io::Result<()> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut lines = text.split('\n');
    let mut next = 1;
    let mut line = "";
    let margin = mistakes.iter().map(|m| m.line.to_string().len()).max().unwrap_or(1);
    for mistake in mistakes {
        // In the order of the file, so one pass finds all their lines.
        while next <= mistake.line {
            line = lines.next().unwrap_or("");
            next += 1;
        }
        let place = format!("{}:{}:{}:", clean(&mistake.file), mistake.line, mistake.column);
        writeln!(out, "{} {}", style.bold(&place), style.red(&mistake.message))?;
        let (shown, before) = excerpt(line, mistake.column as usize);
        let bar = style.dim("|");
        writeln!(out, " {:>margin$} {bar} {shown}", mistake.line)?;
        writeln!(out, " {:margin$} {bar} {:before$}{}", "", "", style.red("^"))?;
        if let Some(hint) = &mistake.hint {
            writeln!(out, " {:margin$} {} {hint}", "", style.dim("="))?;
        }
    }
    writeln!(out, "{}: {}", clean(name), counted(mistakes.len(), "mistake"))
}

/// The part of a line around a column, and how many characters of it are before the column.
fn excerpt(line: &str, column: usize) -> (String, usize) {
    let line = line.strip_suffix('\r').unwrap_or(line);
    let at = column.saturating_sub(1);
    let skipped = if at > WIDTH * 3 / 4 { at - WIDTH / 2 } else { 0 };
    let mut shown = String::new();
    let mut before = 0;
    if skipped > 0 {
        shown.push('…');
    }
    let mut chars = line.chars().skip(skipped);
    for (place, c) in chars.by_ref().take(WIDTH).enumerate() {
        if place + skipped == at {
            before = shown.chars().count();
        }
        match c {
            '\t' => shown.push(' '),
            _ if harmless(c) => shown.push(c),
            _ => shown.push('\u{fffd}'),
        }
    }
    if at >= line.chars().count() {
        before = shown.chars().count();
    }
    if chars.next().is_some() {
        shown.push('…');
    }
    (shown, before)
}

/// A name for a terminal.
fn clean(name: &str) -> String {
    name.chars().fold(String::new(), |mut text, c| {
        let _ =
            if harmless(c) { write!(text, "{c}") } else { write!(text, "{}", c.escape_default()) };
        text
    })
}

/// Whether a terminal only shows the character: it neither acts on it nor turns the text around.
fn harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
