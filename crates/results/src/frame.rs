//! Frames: how a record lies in the log.
//!
//! A frame is its body, byte-stuffed (COBS: consistent overhead byte stuffing) and then a zero
//! byte. The stuffed body has no zero byte, so the end of a frame can be found from anywhere, in
//! both directions, and nothing inside a record can look like a frame. The body is
//!
//! | bytes | what |
//! |---|---|
//! | 1 | kind |
//! | 1 | version of that kind's payload |
//! | 16 | record id |
//! | n | payload |
//! | 16 | chain hash: SHA-256 of the chain before and all of the above, its first 16 bytes |
//! | 4 | CRC-32C of all of the above, little endian |

use std::fmt;

use sha2::{Digest, Sha256};

use crate::record::RecordId;

/// Ends every frame, and is in none.
pub(crate) const DELIMITER: u8 = 0;

/// The most bytes of a frame in the file, its delimiter included.
pub const MAX_FRAME: usize = 16 * 1024;

/// The most bytes of a payload: with what goes around it, and the most that stuffing adds, the frame
/// is one that is read.
pub(crate) const MAX_PAYLOAD: usize = MAX_FRAME - MAX_FRAME / 254 - 3 - PREFIX - SUFFIX;

const PREFIX: usize = 2 + 16;
const SUFFIX: usize = 16 + 4;

/// What stands for the log up to and including a frame.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Chain(pub [u8; 16]);

impl Chain {
    /// The chain after a frame whose body starts with `linked`.
    fn link(&self, linked: &[u8]) -> Chain {
        Chain(first_16(Sha256::new().chain_update(self.0).chain_update(linked)))
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The first 16 bytes of a digest.
pub(crate) fn first_16(hash: Sha256) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&hash.finalize()[..16]);
    short
}

/// A frame that was read and whose checksum holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub kind: u8,
    pub version: u8,
    pub id: RecordId,
    pub payload: &'a [u8],
    pub chain: Chain,
    linked: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads a body, unstuffed.
    pub fn parse(body: &'a [u8]) -> Result<Frame<'a>, &'static str> {
        if body.len() < PREFIX + SUFFIX {
            return Err("too short for a frame");
        }
        let (checked, crc) = body.split_at(body.len() - 4);
        if crc32c::crc32c(checked).to_le_bytes() != crc {
            return Err("the checksum does not match");
        }
        let (linked, chain) = checked.split_at(checked.len() - 16);
        let mut id = [0; 16];
        id.copy_from_slice(&linked[2..PREFIX]);
        let mut hash = [0; 16];
        hash.copy_from_slice(chain);
        Ok(Frame {
            kind: linked[0],
            version: linked[1],
            id: RecordId(id),
            payload: &linked[PREFIX..],
            chain: Chain(hash),
            linked,
        })
    }

    /// Whether this frame was written right after the one with chain `before`.
    pub fn follows(&self, before: &Chain) -> bool {
        before.link(self.linked) == self.chain
    }
}

/// Appends a frame to `out` and returns the chain after it.
pub(crate) fn write(
    out: &mut Vec<u8>,
    before: &Chain,
    (kind, version): (u8, u8),
    id: &RecordId,
    payload: &[u8],
) -> Chain {
    let mut body = Vec::with_capacity(PREFIX + payload.len() + SUFFIX);
    body.extend([kind, version]);
    body.extend(id.0);
    body.extend(payload);
    let chain = before.link(&body);
    body.extend(chain.0);
    body.extend(crc32c::crc32c(&body).to_le_bytes());
    stuff(&body, out);
    out.push(DELIMITER);
    chain
}

/// Byte stuffing: every zero byte becomes the distance to the next one, with an extra distance at
/// the start and after each 254 bytes without a zero.
fn stuff(body: &[u8], out: &mut Vec<u8>) {
    let mut distance_at = out.len();
    out.push(1);
    for &byte in body {
        if byte != 0 {
            out.push(byte);
            out[distance_at] += 1;
        }
        if byte == 0 || out[distance_at] == 255 {
            distance_at = out.len();
            out.push(1);
        }
    }
}

/// Undoes [`stuff`]. Any bytes without a zero are accepted or refused, none panic.
pub(crate) fn unstuff(stuffed: &[u8], body: &mut Vec<u8>) -> Result<(), &'static str> {
    body.clear();
    let mut rest = stuffed;
    while let Some((&distance, after)) = rest.split_first() {
        let run = (distance as usize).wrapping_sub(1);
        let Some((bytes, next)) = after.split_at_checked(run) else {
            return Err("a frame is cut short");
        };
        body.extend_from_slice(bytes);
        if distance < 255 && !next.is_empty() {
            body.push(0);
        }
        rest = next;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_largest_payload_fits_whatever_it_is() {
        for byte in [0, 1] {
            let mut out = Vec::new();
            write(&mut out, &Chain::default(), (2, 1), &RecordId([1; 16]), &[byte; MAX_PAYLOAD]);
            assert!(out.len() <= MAX_FRAME, "{}", out.len());
        }
    }

    proptest! {
        #[test]
        fn stuffing_leaves_no_zero_and_is_undone(
            body in proptest::collection::vec(prop_oneof![Just(0u8), any::<u8>(), Just(7)], 0..1200),
        ) {
            let (mut stuffed, mut back) = (Vec::new(), Vec::new());
            stuff(&body, &mut stuffed);
            prop_assert!(!stuffed.contains(&0));
            prop_assert!(stuffed.len() <= body.len() + body.len() / 254 + 1);
            unstuff(&stuffed, &mut back).unwrap();
            prop_assert_eq!(back, body);
        }

        #[test]
        fn runs_around_the_longest_distance_are_undone(n in 250usize..260, m in 250usize..260) {
            let mut body = vec![1; n];
            body.push(0);
            body.extend(vec![2; m]);
            let (mut stuffed, mut back) = (Vec::new(), Vec::new());
            stuff(&body, &mut stuffed);
            unstuff(&stuffed, &mut back).unwrap();
            prop_assert_eq!(back, body);
        }

        #[test]
        fn any_bytes_can_be_unstuffed_or_refused(bytes in proptest::collection::vec(1u8.., 0..600)) {
            let mut body = Vec::new();
            if unstuff(&bytes, &mut body).is_ok() {
                prop_assert!(body.len() <= bytes.len());
                let _ = Frame::parse(&body);
            }
        }
    }
}
