//! The HTML of a message: the same as its text, with colours and links.

use super::compose::Letter;
use super::report::Change;

/// The page of a message.
pub(super) fn page(letter: &Letter<'_>) -> String {
    let mut page = String::from(
        "<!DOCTYPE html>\n<html><body style=\"font-family:sans-serif;font-size:14px;color:#222\">\n",
    );
    page += &format!("<p style=\"font-size:16px\"><b>{}</b></p>\n", escaped(&letter.title));
    for section in &letter.sections {
        page += "<div style=\"margin:1em 0\">\n";
        let node = escaped(&section.node);
        let heading = match letter.links.build(section.build) {
            Some(url) => format!("<a href=\"{}\"><code>{node}</code></a>", escaped(&url)),
            None => format!("<code>{node}</code>"),
        };
        page += &format!(
            "<p>{heading} ({}) {}<br><span style=\"color:#666\">{}</span></p>\n",
            escaped(&section.branch),
            escaped(&section.description),
            escaped(&section.author)
        );
        for block in &section.blocks {
            page += &format!(
                "<p><b style=\"color:{}\">{}</b> {}</p>\n",
                colour(block.change),
                escaped(&block.heading),
                escaped(&block.facts)
            );
            if !block.lines.is_empty() {
                let lines: Vec<String> = block.lines.iter().map(|line| escaped(line)).collect();
                page += &format!(
                    "<pre style=\"background:#f4f4f4;padding:.6em;overflow:auto\">{}</pre>\n",
                    lines.join("\n")
                );
            }
        }
        for line in section.remarks() {
            page += &format!("<p>{}</p>\n", escaped(&line));
        }
        let rows: Vec<String> = section
            .commands()
            .iter()
            .map(|(what, command)| format!("{}: <code>{}</code>", escaped(what), escaped(command)))
            .collect();
        page += &format!("<p>{}</p>\n</div>\n", rows.join("<br>\n"));
    }
    if let Some(more) = &letter.more {
        page += &format!("<p>{}</p>\n", escaped(more));
    }
    page += &format!("<p style=\"color:#666\">{}</p>\n</body></html>\n", escaped(&letter.footer));
    page
}

fn colour(change: Change) -> &'static str {
    match change {
        Change::Broken | Change::Failed | Change::StillFailing => "#b00020",
        Change::Fixed | Change::Well => "#1b7f3b",
        Change::Errored => "#a35f00",
        Change::Silent => "#666",
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}
