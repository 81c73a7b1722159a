//! What of a log may reach a terminal: text and colours.
//!
//! A log is written by whoever wrote the job. Sequences that move the cursor, set titles, switch
//! character sets or make the terminal answer are shown, not sent.

/// Filters a log that comes in parts.
#[derive(Clone, Debug, Default)]
pub struct Colours {
    /// The start of something that the next part may complete.
    held: Vec<u8>,
    coloured: bool,
}

/// The longest colour sequence, and so the most that is held back.
const MAX_SEQUENCE: usize = 64;

const RESET: &[u8] = b"\x1b[0m";

impl Colours {
    /// What may be shown of the next part. Bytes that are not UTF-8 become U+FFFD.
    pub fn show(&mut self, part: &[u8]) -> Vec<u8> {
        let mut input = std::mem::take(&mut self.held);
        input.extend_from_slice(part);
        let mut out = Vec::with_capacity(input.len());
        let used = self.filter(&input, &mut out, false);
        self.held = input.split_off(used);
        out
    }

    /// What is left at the end, and the way back to no colour.
    pub fn end(&mut self) -> Vec<u8> {
        let input = std::mem::take(&mut self.held);
        let mut out = Vec::new();
        self.filter(&input, &mut out, true);
        if std::mem::take(&mut self.coloured) {
            out.extend(RESET);
        }
        out
    }

    /// Filters what is complete, all of it at the `end`, and returns how many bytes that is.
    fn filter(&mut self, input: &[u8], out: &mut Vec<u8>, end: bool) -> usize {
        let mut at = 0;
        while at < input.len() {
            let rest = &input[at..];
            let taken = match rest[0] {
                b'\n' | b'\t' | b' '..=b'~' => {
                    let plain = |byte: &u8| matches!(byte, b'\n' | b'\t' | b' '..=b'~');
                    let run = rest.iter().position(|byte| !plain(byte)).unwrap_or(rest.len());
                    out.extend_from_slice(&rest[..run]);
                    Some(run)
                }
                // The end of a line as DOS has it, or a line that was written over: a new line.
                b'\r' if rest.len() == 1 && !end => None,
                b'\r' => {
                    if rest.get(1) != Some(&b'\n') {
                        out.push(b'\n');
                    }
                    Some(1)
                }
                0x1b => self.escape(rest, out, end),
                byte @ (0..=0x1f | 0x7f) => {
                    out.extend([b'^', byte ^ 0x40]);
                    Some(1)
                }
                _ => character(rest, out, end),
            };
            match taken {
                Some(taken) => at += taken,
                None => break,
            }
        }
        at
    }

    /// A colour (`ESC [ numbers m`) passes; of anything else the escape character is shown.
    fn escape(&mut self, rest: &[u8], out: &mut Vec<u8>, end: bool) -> Option<usize> {
        let body = rest.get(1..MAX_SEQUENCE.min(rest.len())).unwrap_or_default();
        let parameters = match body.split_first() {
            Some((b'[', parameters)) => Some(parameters),
            Some(_) => None,
            None if end => None,
            None => return None,
        };
        if let Some(parameters) = parameters {
            let number = |byte: &u8| matches!(byte, b'0'..=b'9' | b';' | b':');
            match parameters.iter().position(|byte| !number(byte)) {
                Some(len) if parameters[len] == b'm' && is_seen(&parameters[..len]) => {
                    let sequence = &rest[..len + 3];
                    out.extend_from_slice(sequence);
                    self.coloured = !matches!(sequence, b"\x1b[m" | RESET);
                    return Some(sequence.len());
                }
                None if rest.len() < MAX_SEQUENCE && !end => return None,
                _ => {}
            }
        }
        out.extend(b"^[");
        Some(1)
    }
}

/// The text of a log that comes in parts, without colours: for pages and files.
#[derive(Clone, Debug, Default)]
pub struct Plain(Colours);

impl Plain {
    /// What may be shown of the next part: UTF-8, of whose controls there are new lines and tabs.
    pub fn show(&mut self, part: &[u8]) -> Vec<u8> {
        without_colours(self.0.show(part))
    }

    /// What is left at the end.
    pub fn end(&mut self) -> Vec<u8> {
        without_colours(self.0.end())
    }
}

/// Colours are all that is left of escape sequences, and they are whole.
fn without_colours(mut shown: Vec<u8>) -> Vec<u8> {
    let mut in_colour = false;
    shown.retain(|byte| {
        let was = in_colour;
        in_colour = *byte == 0x1b || (was && *byte != b'm');
        !was && !in_colour
    });
    shown
}

/// Whether text stays to be seen: not where it is concealed (8) or blinks (5, 6). What follows 38,
/// 48 and 58 is the number of a colour (`5;N`) or its parts (`2;R;G;B`).
fn is_seen(parameters: &[u8]) -> bool {
    let first = |part: &[u8]| {
        let digits = part.split(|byte| *byte == b':').next().unwrap_or_default();
        std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).unwrap_or(0u32)
    };
    let mut parts = parameters.split(|byte| *byte == b';');
    while let Some(part) = parts.next() {
        match first(part) {
            5 | 6 | 8 => return false,
            38 | 48 | 58 if !part.contains(&b':') => {
                let left = match parts.next().map(first) {
                    Some(5) => 1,
                    Some(2) => 3,
                    _ => 0,
                };
                parts.by_ref().take(left).for_each(drop);
            }
            _ => {}
        }
    }
    true
}

/// A character beyond ASCII. C1 controls are as good as escapes to some terminals.
fn character(rest: &[u8], out: &mut Vec<u8>, end: bool) -> Option<usize> {
    let window = &rest[..rest.len().min(4)];
    let (valid, error) = match std::str::from_utf8(window) {
        Ok(text) => (text, None),
        Err(error) => {
            // Valid, as the error says.
            let text = std::str::from_utf8(&window[..error.valid_up_to()]).unwrap_or_default();
            (text, Some(error))
        }
    };
    if let Some(c) = valid.chars().next() {
        match c.is_control() {
            true => out.extend("\u{fffd}".as_bytes()),
            false => out.extend_from_slice(&rest[..c.len_utf8()]),
        }
        return Some(c.len_utf8());
    }
    match error.and_then(|error| error.error_len()) {
        None if !end => None,
        bad => {
            out.extend("\u{fffd}".as_bytes());
            Some(bad.unwrap_or(window.len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(log: &[u8]) -> String {
        let mut colours = Colours::default();
        let mut out = colours.show(log);
        out.extend(colours.end());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_and_colours_pass() {
        let text = "a\tß\n\x1b[1;31mred\x1b[38:5:208morange\x1b[0m\n";
        assert_eq!(shown(text.as_bytes()), text);
    }

    #[test]
    fn whatever_else_a_terminal_would_obey_is_shown() {
        assert_eq!(shown(b"\x1b[2J\x1b]0;title\x07x"), "^[[2J^[]0;title^Gx");
        assert_eq!(shown(b"\x1b[6n\x1bc\x9b6n\xc2\x9b6n"), "^[[6n^[c\u{fffd}6n\u{fffd}6n");
        assert_eq!(shown(b"\x08\x00\x7f"), "^H^@^?");
        assert_eq!(shown(b"10%\r20%\r\n"), "10%\n20%\n");
    }

    #[test]
    fn text_cannot_be_concealed_and_numbers_of_colours_are_none_of_that() {
        assert_eq!(shown(b"\x1b[8mhidden\x1b[31;8m"), "^[[8mhidden^[[31;8m");
        assert_eq!(shown(b"\x1b[8:1m\x1b[38;5;8;8m"), "^[[8:1m^[[38;5;8;8m");
        let colours = "\x1b[38;5;8m\x1b[48;2;5;6;8;1m\x1b[38:2::5:6:8m\x1b[0m";
        assert_eq!(shown(colours.as_bytes()), colours);
    }

    #[test]
    fn a_colour_that_is_left_on_is_switched_off_at_the_end() {
        assert_eq!(shown(b"\x1b[31mred"), "\x1b[31mred\x1b[0m");
    }

    #[test]
    fn it_does_not_matter_where_the_log_is_cut_into_parts() {
        let log = "ä€\u{1f600}\x1b[1;31mred\x1b[m\r\n\x1b]8;;x\x1b\\\r\x1b[".as_bytes();
        let whole = shown(log);
        for at in 0..=log.len() {
            let mut colours = Colours::default();
            let mut out = colours.show(&log[..at]);
            out.extend(colours.show(&log[at..]));
            out.extend(colours.end());
            assert_eq!(String::from_utf8(out).unwrap(), whole, "cut at {at}");
        }
    }

    #[test]
    fn plain_text_has_neither_colours_nor_controls() {
        let log = "a\tß\n\x1b[1;31mred\x1b[0m m\x1b]0;t\x07\x1b[2J\r\x1b[31".as_bytes();
        for at in 0..=log.len() {
            let mut plain = Plain::default();
            let mut out = plain.show(&log[..at]);
            out.extend(plain.show(&log[at..]));
            out.extend(plain.end());
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text, "a\tß\nred m^[]0;t^G^[[2J\n^[[31", "cut at {at}");
        }
    }

    #[test]
    fn little_is_held_back() {
        let mut colours = Colours::default();
        let long = [b"\x1b[".as_slice(), &[b'1'; 1000]].concat();
        assert_eq!(colours.show(&long).len(), long.len() + 1);
    }
}
