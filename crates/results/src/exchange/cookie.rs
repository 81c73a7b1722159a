//! What a puller has, in the words of the one that it pulled from.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::frame::Chain;
use crate::header::{HEADER_LEN, LogId, Mark};

/// The first byte of a cookie. Others are from another version, and mean that nothing is known.
const VERSION: u8 = 2;

/// The most logs that a cookie tells of.
const MAX_LOGS: usize = 65;

/// The most ranges that are remembered, of all logs together. Beyond that the oldest are forgotten:
/// what lies there comes when the puller gets its changesets, and not when it has them already.
const MAX_WITHHELD: usize = 512;

/// The most bytes of a cookie as text. A pull over http sends it as headers, of which servers take
/// some ten thousand bytes.
pub(crate) const MAX_COOKIE: usize = 24 * 1024;

/// Up to where a puller has the logs of a repository. It keeps this text without reading it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cookie {
    pub(crate) logs: Vec<Seen>,
}

/// What a puller has of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub mark: Mark,
    /// Stands for the set of changesets that the puller could see; `None` where some of what was
    /// withheld before is still to be looked at.
    pub view: Option<u64>,
    /// Where records below the mark lie that the puller did not get: start and end, ascending and
    /// apart from each other.
    pub withheld: Vec<(u64, u64)>,
}

#[derive(Serialize, Deserialize)]
struct CookieV2 {
    logs: Vec<SeenV2>,
}

#[derive(Serialize, Deserialize)]
struct SeenV2 {
    log: [u8; 16],
    offset: u64,
    chain: [u8; 16],
    view: Option<u64>,
    /// Of each range, how far it is behind the one before, and how long it is.
    withheld: Vec<(u64, u64)>,
}

impl Cookie {
    /// Of these logs, with the newest of what was withheld.
    pub(crate) fn of_logs(mut logs: Vec<Seen>) -> Cookie {
        let most = MAX_WITHHELD / logs.len().max(1);
        for seen in &mut logs {
            seen.withheld.drain(..seen.withheld.len().saturating_sub(most));
        }
        Cookie { logs }
    }

    /// Reads a cookie. Whatever is no cookie of this version is one that knows nothing: then all
    /// is sent, which is never wrong.
    pub fn parse(text: &[u8]) -> Cookie {
        Cookie::try_parse(text).unwrap_or_default()
    }

    fn try_parse(text: &[u8]) -> Option<Cookie> {
        if text.len() > MAX_COOKIE || !text.len().is_multiple_of(2) {
            return None;
        }
        let digit = |byte: u8| (byte as char).to_digit(16);
        let byte = |pair: &[u8]| u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok();
        let bytes = text.chunks_exact(2).map(byte).collect::<Option<Vec<u8>>>()?;
        let (&VERSION, payload) = bytes.split_first()? else { return None };
        let cookie: CookieV2 = postcard::from_bytes(payload).ok()?;
        let logs = cookie.logs.into_iter().map(Seen::parse).collect::<Option<Vec<Seen>>>()?;
        let ranges: usize = logs.iter().map(|seen| seen.withheld.len()).sum();
        (logs.len() <= MAX_LOGS && ranges <= MAX_WITHHELD).then_some(Cookie { logs })
    }

    pub(crate) fn of(&self, log: LogId) -> Option<&Seen> {
        self.logs.iter().find(|seen| seen.mark.log == log)
    }
}

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let logs = self.logs.iter().map(|seen| {
            let mut last = HEADER_LEN;
            let deltas = seen.withheld.iter().map(|&(start, end)| {
                let delta = (start - last, end - start);
                last = end;
                delta
            });
            let withheld = deltas.collect();
            let Mark { log, offset, chain } = seen.mark;
            SeenV2 { log: log.0, offset, chain: chain.0, view: seen.view, withheld }
        });
        let stored = CookieV2 { logs: logs.collect() };
        let payload = postcard::to_stdvec(&stored).map_err(|_| fmt::Error)?;
        write!(f, "{VERSION:02x}")?;
        payload.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Seen {
    /// Nothing of a log.
    pub fn nothing(log: LogId) -> Seen {
        Seen { mark: Mark::start(log), view: None, withheld: Vec::new() }
    }

    /// Remembers that what lies there was not sent. Of a log that was never pulled there may be much
    /// more than is kept in the end.
    pub fn withhold(&mut self, start: u64, end: u64) {
        match self.withheld.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ => self.withheld.push((start, end)),
        }
        if self.withheld.len() > 4 * MAX_WITHHELD {
            self.withheld = in_order(std::mem::take(&mut self.withheld));
            let most = self.withheld.len().min(MAX_WITHHELD);
            self.withheld.drain(..self.withheld.len() - most);
        }
    }

    /// `None` where no sender wrote that.
    fn parse(stored: SeenV2) -> Option<Seen> {
        let mark =
            Mark { log: LogId(stored.log), offset: stored.offset, chain: Chain(stored.chain) };
        let mut last = HEADER_LEN;
        let mut withheld = Vec::new();
        for (gap, len) in stored.withheld {
            let start = last.checked_add(gap)?;
            last = start.checked_add(len).filter(|end| start < *end && *end <= mark.offset)?;
            withheld.push((start, last));
        }
        Some(Seen { mark, view: stored.view, withheld })
    }
}

/// The same ranges, ascending and apart from each other.
pub(crate) fn in_order(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for (start, end) in ranges {
        match joined.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => joined.push((start, end)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(n: u8, withheld: Vec<(u64, u64)>) -> Seen {
        let log = LogId([n; 16]);
        Seen { mark: Mark { log, offset: 1 << 40, chain: log.chain() }, view: Some(3), withheld }
    }

    proptest! {
        #[test]
        fn what_was_withheld_is_read_again(
            ranges in prop::collection::vec((HEADER_LEN..100_000, 1u64..50), 0..100),
        ) {
            let ranges: Vec<(u64, u64)> = ranges.into_iter().map(|(at, len)| (at, at + len)).collect();
            let joined = in_order(ranges.clone());
            prop_assert!(joined.windows(2).all(|pair| pair[0].1 < pair[1].0));
            for (start, end) in ranges {
                prop_assert!(joined.iter().any(|range| range.0 <= start && end <= range.1));
            }
            let cookie = Cookie::of_logs(vec![seen(7, joined)]);
            prop_assert_eq!(Cookie::parse(cookie.to_string().as_bytes()), cookie);
        }

        #[test]
        fn what_is_no_cookie_knows_nothing(text in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Cookie::parse(&text), Cookie::default());
        }

        #[test]
        fn hexadecimal_nonsense_is_read_or_knows_nothing(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let cookie = Cookie::parse(format!("02{text}").as_bytes());
            prop_assert_eq!(Cookie::parse(cookie.to_string().as_bytes()), cookie);
        }
    }

    #[test]
    fn the_largest_cookie_can_be_sent_and_has_what_is_newest() {
        // Far apart and long.
        let many: Vec<(u64, u64)> = (1..2000).map(|n| (n << 28, (n << 28) + (1 << 27))).collect();
        let logs: Vec<Seen> = (0..MAX_LOGS as u8).map(|n| seen(n, many.clone())).collect();
        for logs in [logs[..1].to_vec(), logs] {
            let cookie = Cookie::of_logs(logs);
            assert!(cookie.logs.iter().all(|seen| seen.withheld.last() == many.last()));
            let text = cookie.to_string();
            assert!(text.len() <= MAX_COOKIE, "{}", text.len());
            assert_eq!(Cookie::parse(text.as_bytes()), cookie);
        }
    }

    #[test]
    fn ranges_that_no_sender_makes_are_refused() {
        let refused = |offset: u64, withheld: Vec<(u64, u64)>| {
            let Mark { log, chain, .. } = seen(7, vec![]).mark;
            let stored = SeenV2 { log: log.0, offset, chain: chain.0, view: None, withheld };
            let bytes = postcard::to_stdvec(&CookieV2 { logs: vec![stored] }).unwrap();
            let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            Cookie::parse(format!("{VERSION:02x}{text}").as_bytes()) == Cookie::default()
        };
        assert!(!refused(1 << 20, vec![(5, 5)]));
        for withheld in [vec![(5, 0)], vec![(1, 1 << 21)], vec![(u64::MAX, 9)], vec![(9, 1); 513]] {
            assert!(refused(1 << 20, withheld));
        }
    }
}
