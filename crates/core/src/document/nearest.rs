//! Names as they are shown to people, and the one that they may have meant.

/// Longer names are not compared: nobody mistypes them, and comparing costs the square.
const MAX_COMPARED: usize = 64;

/// The most characters of a name that a message repeats.
const MAX_SHOWN: usize = 100;

/// The candidate that `name` looks most like, if one is near enough to be meant.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = name.chars().count();
    if length == 0 || name.len() > MAX_COMPARED {
        return None;
    }
    let folded = fold(name);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= MAX_COMPARED)
        .filter_map(|candidate| {
            let other = fold(candidate);
            let distance = strsim::damerau_levenshtein(&folded, &other);
            let shorter = length.min(candidate.chars().count());
            let near = if shorter <= 3 { 1 } else { (shorter / 3).max(2) };
            // `environment` means `env`, and `label` means `labels`.
            let begins = shorter >= 3 && (folded.starts_with(&other) || other.starts_with(&folded));
            (distance <= near || begins).then_some((distance, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// "did you mean …?", if one of the candidates may have been meant.
pub fn did_you_mean<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    nearest(name, candidates).map(|candidate| format!("did you mean {}?", quoted(candidate)))
}

/// A name from a file for a message: in backquotes, cut where it is long, and without characters
/// that a terminal would act upon.
pub fn quoted(name: &str) -> String {
    let mut text = String::from("`");
    let mut chars = name.chars();
    for c in chars.by_ref().take(MAX_SHOWN) {
        match c {
            '"' | '\'' | '\\' => text.push(c),
            _ => text.extend(c.escape_debug()),
        }
    }
    if chars.next().is_some() {
        text.push('…');
    }
    text.push('`');
    text
}

/// What does not count as a difference: case, and `_` for `-`.
fn fold(name: &str) -> String {
    name.to_lowercase().replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_the_one_that_was_meant() {
        let keys =
            ["run", "env", "needs", "labels", "timeout", "reports", "allow-failure", "matrix"];
        let near = |name| nearest(name, keys);
        assert_eq!(near("lables"), Some("labels"));
        assert_eq!(near("label"), Some("labels"));
        assert_eq!(near("need"), Some("needs"));
        assert_eq!(near("environment"), Some("env"));
        assert_eq!(near("allow_failure"), Some("allow-failure"));
        assert_eq!(near("Timeout"), Some("timeout"));
        assert_eq!(near("time-out"), Some("timeout"));
        assert_eq!(near("rnu"), Some("run"));
        for name in ["", "x", "command", "stage", "services", &"run".repeat(100)] {
            assert_eq!(near(name), None, "{name}");
        }
    }

    #[test]
    fn a_shown_name_cannot_steer_a_terminal() {
        assert_eq!(quoted("a\u{1b}[31m\n\u{202e}b"), "`a\\u{1b}[31m\\n\\u{202e}b`");
        assert_eq!(quoted("it's \"é\""), "`it's \"é\"`");
        assert_eq!(quoted(&"x".repeat(101)), format!("`{}…`", "x".repeat(100)));
    }
}
