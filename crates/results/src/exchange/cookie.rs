//! What a puller has, in the words of the one that it pulled from.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::frame::Chain;
use crate::header::{LogId, Mark};

/// The first byte of a cookie. Others are from another version, and mean that nothing is known.
const VERSION: u8 = 1;

/// The most logs that a cookie tells of.
const MAX_LOGS: usize = 65;

/// The most ranges that are remembered of a log. Beyond that neighbours become one: what lies
/// between them is sent twice, and dropped by the puller.
const MAX_WITHHELD: usize = 32;

/// The most bytes of a cookie as text.
pub(crate) const MAX_COOKIE: usize = 128 * 1024;

/// Up to where a puller has the logs of a repository. It keeps this text without reading it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cookie {
    /// Stands for the set of changesets that the puller could see.
    pub(crate) view: u64,
    pub(crate) logs: Vec<Seen>,
}

/// What a puller has of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub mark: Mark,
    /// Where records below the mark lie that the puller did not get: start and end, ascending.
    pub withheld: Vec<(u64, u64)>,
}

#[derive(Serialize, Deserialize)]
struct CookieV1 {
    view: u64,
    logs: Vec<SeenV1>,
}

#[derive(Serialize, Deserialize)]
struct SeenV1 {
    log: [u8; 16],
    offset: u64,
    chain: [u8; 16],
    withheld: Vec<(u64, u64)>,
}

impl Cookie {
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
        let cookie: CookieV1 = postcard::from_bytes(payload).ok()?;
        let seen = |seen: SeenV1| {
            let (log, chain) = (LogId(seen.log), Chain(seen.chain));
            Seen { mark: Mark { log, offset: seen.offset, chain }, withheld: seen.withheld }
        };
        let ascending = |seen: &Seen| {
            let mut last = 0;
            seen.withheld.iter().all(|&(start, end)| {
                let fits = last <= start && start < end && end <= seen.mark.offset;
                last = end;
                fits
            })
        };
        let logs: Vec<Seen> = cookie.logs.into_iter().map(seen).collect();
        (logs.len() <= MAX_LOGS && logs.iter().all(ascending))
            .then_some(Cookie { view: cookie.view, logs })
    }

    pub(crate) fn of(&self, log: LogId) -> Option<&Seen> {
        self.logs.iter().find(|seen| seen.mark.log == log)
    }
}

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let logs = self.logs.iter().map(|seen| SeenV1 {
            log: seen.mark.log.0,
            offset: seen.mark.offset,
            chain: seen.mark.chain.0,
            withheld: seen.withheld.clone(),
        });
        let stored = CookieV1 { view: self.view, logs: logs.collect() };
        let payload = postcard::to_stdvec(&stored).map_err(|_| fmt::Error)?;
        write!(f, "{VERSION:02x}")?;
        payload.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Seen {
    /// Remembers that what lies there was not sent.
    pub fn withhold(&mut self, start: u64, end: u64) {
        match self.withheld.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ => self.withheld.push((start, end)),
        }
        if self.withheld.len() > MAX_WITHHELD {
            self.join_nearest();
        }
    }

    fn join_nearest(&mut self) {
        let gaps = self.withheld.windows(2).map(|pair| pair[1].0 - pair[0].1);
        if let Some((at, _)) = gaps.enumerate().min_by_key(|(_, gap)| *gap) {
            self.withheld[at].1 = self.withheld[at + 1].1;
            self.withheld.remove(at + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(withheld: Vec<(u64, u64)>) -> Seen {
        let log = LogId([7; 16]);
        Seen { mark: Mark { log, offset: 1 << 40, chain: log.chain() }, withheld }
    }

    proptest! {
        #[test]
        fn what_was_withheld_stays_covered(steps in prop::collection::vec((1u64..50, 1u64..50), 1..200)) {
            let (mut seen, mut at, mut spans) = (seen(vec![]), 0, Vec::new());
            for (gap, len) in steps {
                spans.push((at + gap, at + gap + len));
                at += gap + len;
                let (start, end) = spans[spans.len() - 1];
                seen.withhold(start, end);
            }
            prop_assert!(seen.withheld.len() <= MAX_WITHHELD);
            for (start, end) in spans {
                prop_assert!(seen.withheld.iter().any(|range| range.0 <= start && end <= range.1));
            }
            let cookie = Cookie { view: 3, logs: vec![seen] };
            prop_assert_eq!(Cookie::parse(cookie.to_string().as_bytes()), cookie);
        }

        #[test]
        fn what_is_no_cookie_knows_nothing(text in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Cookie::parse(&text), Cookie::default());
        }

        #[test]
        fn hexadecimal_nonsense_is_read_or_knows_nothing(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let cookie = Cookie::parse(format!("01{text}").as_bytes());
            prop_assert_eq!(Cookie::parse(cookie.to_string().as_bytes()), cookie);
        }
    }

    #[test]
    fn ranges_that_no_sender_makes_are_refused() {
        for withheld in [vec![(5, 5)], vec![(9, 4)], vec![(1, 8), (3, 9)], vec![(1, 1 << 41)]] {
            let cookie = Cookie { view: 0, logs: vec![seen(withheld)] };
            assert_eq!(Cookie::parse(cookie.to_string().as_bytes()), Cookie::default());
        }
    }
}
