//! Patterns of report files: `build/junit/*.xml`, `**/TEST-*.xml`.
//!
//! `?` is one character, `*` any number of them, `[a-z]` and `[!a-z]` one of a set, none of them
//! a `/`; `**` as a whole component is any number of directories. Matching takes time in the
//! product of the lengths at most, whatever the pattern.

/// A pattern, cut into components.
#[derive(Clone, Debug)]
pub struct Pattern {
    parts: Vec<Vec<u8>>,
}

/// The longest pattern, in bytes.
const MAX_PATTERN: usize = 1024;

impl Pattern {
    /// A pattern relative to the tree's root. What leads out of it is refused.
    pub fn parse(text: &str) -> Result<Pattern, &'static str> {
        if text.len() > MAX_PATTERN {
            return Err("too long");
        }
        if text.starts_with('/') {
            return Err("absolute; write it from the root of the source tree");
        }
        let mut parts: Vec<Vec<u8>> = Vec::new();
        for part in text.split('/').filter(|part| !part.is_empty() && *part != ".") {
            if part == ".." {
                return Err("leads out of the source tree");
            }
            let again = part == "**" && parts.last().is_some_and(|last| last == b"**");
            if !again {
                parts.push(part.as_bytes().to_vec());
            }
        }
        if parts.is_empty() { Err("empty") } else { Ok(Pattern { parts }) }
    }

    /// How far a path may be matched before its first component is seen.
    pub fn start(&self) -> Progress {
        self.closure(vec![0])
    }

    /// What is left to match below a directory of this name.
    pub fn enter(&self, progress: &Progress, name: &[u8]) -> Progress {
        let mut next = Vec::new();
        for &at in &progress.0 {
            match self.parts.get(at) {
                Some(part) if part == b"**" => next.push(at),
                Some(part) if matches(part, name) => next.push(at + 1),
                _ => {}
            }
        }
        self.closure(next)
    }

    /// Whether a file of this name matches to the end.
    pub fn accepts(&self, progress: &Progress, name: &[u8]) -> bool {
        let last = self.parts.len() - 1;
        progress.0.iter().any(|&at| {
            // `a/**` takes every file below `a`.
            at == last && (self.parts[at] == b"**" || matches(&self.parts[at], name))
        })
    }

    /// `**` also matches no directory at all.
    fn closure(&self, mut places: Vec<usize>) -> Progress {
        let mut at = 0;
        while let Some(&place) = places.get(at) {
            if self.parts.get(place).is_some_and(|part| part == b"**")
                && place + 1 < self.parts.len()
            {
                places.push(place + 1);
            }
            at += 1;
        }
        places.sort_unstable();
        places.dedup();
        Progress(places)
    }
}

/// The components of a pattern that may come next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress(Vec<usize>);

impl Progress {
    /// Whether nothing below here can match.
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}

/// One component against one name, going back to the last `*` alone.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
                continue;
            }
            None if n == name.len() => return true,
            Some(_) if n < name.len() => one(&pattern[p..], name[n]),
            _ => None,
        };
        match (step, star) {
            (Some(length), _) => {
                p += length;
                n += 1;
            }
            (None, Some((after, from))) if from < name.len() => {
                star = Some((after, from + 1));
                (p, n) = (after, from + 1);
            }
            (None, _) => return false,
        }
    }
}

/// The length of the pattern's first element if it takes the byte.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern[0] {
        b'?' => Some(1),
        b'[' => {
            // A `]` that comes first stands for itself; a `[` that is never closed does too.
            let negated = matches!(pattern.get(1), Some(b'!' | b'^'));
            let first = 1 + usize::from(negated);
            let Some(close) = (first + 1..pattern.len()).find(|at| pattern[*at] == b']') else {
                return (byte == b'[').then_some(1);
            };
            let mut set = &pattern[first..close];
            let mut found = false;
            while let [low, rest @ ..] = set {
                match rest {
                    [b'-', high, rest @ ..] => {
                        found |= (*low..=*high).contains(&byte);
                        set = rest;
                    }
                    _ => {
                        found |= *low == byte;
                        set = rest;
                    }
                }
            }
            (found != negated).then_some(close + 1)
        }
        plain => (plain == byte).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(pattern: &str, path: &str) -> bool {
        let pattern = Pattern::parse(pattern).unwrap();
        let mut progress = pattern.start();
        let mut parts: Vec<&str> = path.split('/').collect();
        let name = parts.pop().unwrap();
        for part in parts {
            progress = pattern.enter(&progress, part.as_bytes());
        }
        pattern.accepts(&progress, name.as_bytes())
    }

    #[test]
    fn patterns_take_what_their_description_says() {
        for (pattern, path) in [
            ("a.xml", "a.xml"),
            ("build/junit/*.xml", "build/junit/a.xml"),
            ("./build//*.xml", "build/a.xml"),
            ("**/TEST-*.xml", "TEST-1.xml"),
            ("**/TEST-*.xml", "a/b/TEST-1.xml"),
            ("a/**/b/*.xml", "a/b/c.xml"),
            ("a/**/b/*.xml", "a/x/b/y/b/c.xml"),
            ("a/**", "a/b/c"),
            ("**/**/c", "c"),
            ("?[0-9].[!a]", "x7.b"),
            ("[]x].y", "].y"),
            ("[x", "[x"),
            ("*a*b*c*", "xxaxxbxxcxx"),
        ] {
            assert!(takes(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("*.xml", "a/b.xml"),
            ("build/*", "build"),
            ("a/**/b", "a/x/c"),
            ("?", ""),
            ("[!a]", "a"),
            ("a*b", "ac"),
            ("**/x", "y"),
        ] {
            assert!(!takes(pattern, path), "{pattern} {path}");
        }
    }

    #[test]
    fn patterns_that_lead_out_are_refused() {
        for pattern in ["", ".", "/etc/passwd", "../x", "a/../../x"] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
        assert!(Pattern::parse(&"a".repeat(2000)).is_err());
    }

    #[test]
    fn a_pattern_made_to_be_slow_is_not() {
        let pattern = format!("{}b", "*a".repeat(400));
        assert!(!takes(&pattern, &"a".repeat(255)));
    }
}
