//! Limits of what others say, so that no row and no memory grows with it.

use crate::result::{Outcome, Verdict};

/// The longest reason, in bytes.
pub(super) const REASON: usize = 500;
/// The longest name of a person or branch and the longest line of a description, in bytes.
pub(super) const LINE: usize = 200;
/// The longest message about a pipeline, in bytes.
pub(super) const MESSAGE: usize = 4000;
/// How many notes of a verdict are kept, each of at most [`LINE`] bytes.
const NOTES: usize = 8;

/// The text, cut before the character that would make it longer than `most` bytes.
pub(super) fn text(mut text: String, most: usize) -> String {
    if text.len() > most {
        let mut end = most;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        // What was cut off is not to stay allocated.
        text.shrink_to_fit();
    }
    text
}

/// The verdict with its texts cut. The same verdict gives the same again.
pub(super) fn verdict(mut verdict: Verdict) -> Verdict {
    if let Outcome::Errored { why } = &mut verdict.outcome {
        *why = text(std::mem::take(why), REASON);
    }
    verdict.notes.truncate(NOTES);
    verdict.notes.shrink_to_fit();
    for note in &mut verdict.notes {
        *note = text(std::mem::take(note), LINE);
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(text("äöü".into(), 3), "ä");
        assert_eq!(text("äöü".into(), 6), "äöü");
        assert_eq!(text("äöü".into(), 0), "");
    }

    #[test]
    fn a_verdict_of_any_size_becomes_a_small_one() {
        let huge = Verdict {
            outcome: Outcome::Errored { why: "x".repeat(1 << 20) },
            started_ms: 0,
            duration_ms: 0,
            tests: None,
            notes: vec!["y".repeat(1 << 10); 1000],
        };
        let small = verdict(huge.clone());
        assert!(serde_json::to_string(&small).unwrap().len() < 4096);
        assert_eq!(verdict(huge), small);
        assert_eq!(verdict(small.clone()), small);
    }
}
