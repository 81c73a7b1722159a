//! The lines of a log that tell why a job failed.

/// The most lines of one job.
pub(super) const MAX_LINES: usize = 25;

/// How many of them are the last of the log, whatever they say.
const LAST: usize = 12;

/// The most characters of a line.
pub(super) const MAX_WIDTH: usize = 200;

/// What lines about failures tend to have, in lower case.
const SIGNS: [&str; 16] = [
    "error",
    "fail",
    "fatal",
    "panick",
    "traceback",
    "exception",
    "assert",
    "no such file",
    "not found",
    "undefined",
    "cannot",
    "denied",
    "segmentation",
    "abort",
    "expected",
    "timed out",
];

/// The lines of the end of a log that tell most: those that look like failures, then the last.
/// Escape codes, control characters and what a carriage return hides are taken out.
pub fn failing_lines(tail: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(tail);
    let lines: Vec<String> =
        text.lines().map(plain).filter(|line| !line.trim_matches([' ', '…']).is_empty()).collect();
    let last = lines.len().saturating_sub(LAST);
    let mut telling: Vec<usize> = (0..last).rev().filter(|n| looks_bad(&lines[*n])).collect();
    telling.truncate(MAX_LINES - LAST - 1);
    telling.reverse();
    let mut chosen = Vec::new();
    let mut next = telling.first().copied().unwrap_or(last);
    for n in telling.into_iter().chain(last..lines.len()) {
        if n > next && !chosen.is_empty() {
            chosen.push("…".to_owned());
        }
        chosen.push(lines[n].clone());
        next = n + 1;
    }
    // Gaps are lines too.
    let surplus = chosen.len().saturating_sub(MAX_LINES);
    chosen.split_off(surplus)
}

fn looks_bad(line: &str) -> bool {
    let line = line.to_lowercase();
    SIGNS.iter().any(|sign| line.contains(sign))
}

/// A line as it would look on a terminal without colours, cut where it is long.
fn plain(line: &str) -> String {
    // What comes after the last carriage return has overwritten the rest, as progress bars do.
    let line = line.trim_end_matches('\r');
    let line = line.rsplit('\r').next().unwrap_or_default();
    let mut plain = String::new();
    let mut width = 0;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape(&mut chars),
            '\u{9b}' => skip_sequence(&mut chars),
            '\t' => plain.push(' '),
            c if c.is_control() || is_invisible(c) => continue,
            c => plain.push(c),
        }
        width += 1;
        if width == MAX_WIDTH {
            plain.push('…');
            break;
        }
    }
    plain.truncate(plain.trim_end().len());
    plain
}

/// Characters that change the direction or the look of what is around them.
pub(super) fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

type Chars<'c> = std::iter::Peekable<std::str::Chars<'c>>;

/// What follows an ESC.
fn skip_escape(chars: &mut Chars<'_>) {
    match chars.next() {
        Some('[') => skip_sequence(chars),
        // Titles and links: up to BEL or ESC \.
        Some(']' | 'P' | '_' | '^' | 'X') => {
            while let Some(c) = chars.next() {
                if c == '\u{7}' || c == '\u{1b}' && chars.next_if_eq(&'\\').is_some() {
                    break;
                }
            }
        }
        Some('(' | ')' | '*' | '+' | '#') => drop(chars.next()),
        _ => {}
    }
}

/// What follows a CSI: parameters up to a letter.
fn skip_sequence(chars: &mut Chars<'_>) {
    for c in chars.by_ref() {
        if ('\u{40}'..='\u{7e}').contains(&c) {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failure_far_above_and_the_last_lines_are_both_shown() {
        let mut log = String::from("configure\ncompile\nsrc/a.c:3: error: no semicolon\n");
        for n in 0..100 {
            log += &format!("line {n}\n");
        }
        let lines = failing_lines(log.as_bytes());
        assert_eq!(lines[0], "src/a.c:3: error: no semicolon");
        assert_eq!(lines[1], "…");
        assert_eq!(lines.len(), 2 + LAST);
        assert_eq!(lines.last().unwrap(), "line 99");
    }

    #[test]
    fn what_a_terminal_would_act_upon_is_taken_out() {
        let log = b"\x1b[31mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x1b\\\n10%\r50%\rdone\r\n\
                    bad \xff bytes\x00\x07\n\xe2\x80\xaetxt\n";
        assert_eq!(failing_lines(log), ["red link", "done", "bad \u{fffd} bytes", "txt"]);
    }

    #[test]
    fn a_hostile_log_is_cut() {
        let lines = failing_lines(&vec![b'x'; 1 << 20]);
        assert_eq!((lines.len(), lines[0].chars().count()), (1, MAX_WIDTH + 1));
        let errors = b"error\n".repeat(10_000);
        assert!(failing_lines(&errors).len() <= MAX_LINES);
        assert_eq!(failing_lines(b"\x1b[".repeat(5000).as_slice()), [""; 0]);
        assert_eq!(failing_lines(b""), [""; 0]);
    }
}
