//! How a record is stored: a header with versions and a checksum, and chunks for long values.
//!
//! ```text
//! 0  u8      0x10 + kind: 0 a whole value, 1 the head of a chunked value, 2 a chunk
//! 1  u8      version of the value, see Tree::version
//! 2  u32 le  crc32c over the stored key, both bytes above, and the rest
//! 6  …       the value; of a head: u32 le length, u32 le crc32c of the whole value
//! ```
//!
//! sled keeps up to 17 records in a page, and writes a page of more than 128 KiB into a file of
//! its own that it never syncs. So that no page grows that large, a record has at most
//! [`CHUNK`] bytes of value; longer values are spread over records of their own.

use super::{MAX_KEY, Tree};

/// The most bytes of value in one stored record.
pub(super) const CHUNK: usize = 4096;

/// First byte of the stored keys of chunks.
const CHUNK_PREFIX: u8 = 0x02;
const HEADER: usize = 6;
const WHOLE: u8 = 0x10;
const HEAD: u8 = 0x11;
const PART: u8 = 0x12;

/// The key under which a record is stored.
pub(super) fn stored_key(tree: Tree, key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(1 + key.len());
    stored.push(tree.byte());
    stored.extend_from_slice(key);
    stored
}

/// The key under which the n-th chunk of a record is stored.
fn chunk_key(stored: &[u8], n: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(stored.len() + 5);
    key.push(CHUNK_PREFIX);
    // Keys have at most MAX_KEY bytes and values MAX_VALUE, so that both numbers fit.
    key.extend_from_slice(&(stored.len() as u16).to_be_bytes());
    key.extend_from_slice(stored);
    key.extend_from_slice(&(n as u16).to_be_bytes());
    key
}

/// The stored key of the record that a chunk is of; `None` for all but chunks.
pub(super) fn head_of(key: &[u8]) -> Option<&[u8]> {
    let rest = key.strip_prefix(&[CHUNK_PREFIX])?;
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let (stored, n) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    (n.len() == 2).then_some(stored)
}

/// What is at a stored key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stored<'a> {
    /// The value itself.
    Whole { version: u8, value: &'a [u8] },
    /// The value is in chunks.
    Head { version: u8, len: usize, crc: u32 },
    /// A chunk.
    Part { value: &'a [u8] },
}

/// Reads a stored record, or says what is wrong with it.
pub(super) fn decode<'a>(key: &[u8], bytes: &'a [u8]) -> Result<Stored<'a>, &'static str> {
    let Some((header, value)) = bytes.split_at_checked(HEADER) else {
        return Err("shorter than a header");
    };
    if checksum(key, header[0], header[1], value) != crc_of(bytes).unwrap_or_default() {
        return Err("wrong checksum");
    }
    let version = header[1];
    match header[0] {
        WHOLE => Ok(Stored::Whole { version, value }),
        PART => Ok(Stored::Part { value }),
        HEAD => match value {
            [a, b, c, d, e, f, g, h] => Ok(Stored::Head {
                version,
                len: u32::from_le_bytes([*a, *b, *c, *d]) as usize,
                crc: u32::from_le_bytes([*e, *f, *g, *h]),
            }),
            _ => Err("head of a wrong length"),
        },
        _ => Err("written by a newer version"),
    }
}

/// The stored records for a value: itself, or head and chunks.
pub(super) fn encode(key: &[u8], version: u8, value: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    if value.len() <= CHUNK {
        return vec![(key.to_vec(), frame(key, WHOLE, version, value))];
    }
    let mut head = (value.len() as u32).to_le_bytes().to_vec();
    head.extend_from_slice(&crc32c::crc32c(value).to_le_bytes());
    let mut records = vec![(key.to_vec(), frame(key, HEAD, version, &head))];
    for (n, part) in value.chunks(CHUNK).enumerate() {
        let key = chunk_key(key, n);
        let framed = frame(&key, PART, version, part);
        records.push((key, framed));
    }
    records
}

/// The stored keys of the chunks of a value of that length.
pub(super) fn chunk_keys(key: &[u8], len: usize) -> impl Iterator<Item = Vec<u8>> {
    (0..len.div_ceil(CHUNK)).map(move |n| chunk_key(key, n))
}

/// The tree and key of a stored key; `None` for the store's own records and unknown trees.
pub(super) fn parse_key(stored: &[u8]) -> Option<(Tree, &[u8])> {
    let (byte, key) = stored.split_first()?;
    let tree = Tree::ALL.into_iter().find(|tree| tree.byte() == *byte)?;
    (key.len() <= MAX_KEY).then_some((tree, key))
}

/// The checksum that a stored record claims to have.
pub(super) fn crc_of(bytes: &[u8]) -> Option<u32> {
    let crc = bytes.get(2..HEADER)?;
    Some(u32::from_le_bytes([crc[0], crc[1], crc[2], crc[3]]))
}

/// What a stored record adds to the sum over all of them: its checksum, spread over 64 bits so
/// that sums of different sets of records differ.
pub(super) fn weight(bytes: &[u8]) -> u64 {
    // The finaliser of splitmix64.
    let mut z = u64::from(crc_of(bytes).unwrap_or_default()) | ((bytes.len() as u64) << 32);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn frame(key: &[u8], kind: u8, version: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + value.len());
    bytes.extend_from_slice(&[kind, version]);
    bytes.extend_from_slice(&checksum(key, kind, version, value).to_le_bytes());
    bytes.extend_from_slice(value);
    bytes
}

fn checksum(key: &[u8], kind: u8, version: u8, value: &[u8]) -> u32 {
    let crc = crc32c::crc32c(key);
    let crc = crc32c::crc32c_append(crc, &[kind, version]);
    crc32c::crc32c_append(crc, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_anywhere_in_key_or_record_is_seen() {
        let key = stored_key(Tree::Jobs, b"12.0");
        let record = encode(&key, 1, b"some value").remove(0).1;
        for bit in 0..record.len() * 8 {
            let mut bad = record.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&key, &bad).is_err(), "bit {bit}");
        }
        for bit in 0..key.len() * 8 {
            let mut bad = key.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad, &record).is_err(), "bit {bit} of the key");
        }
        for len in 0..record.len() {
            assert!(decode(&key, &record[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn records_of_version_1_are_read_as_they_were_written() {
        // Worked out from the format by another program. It stays as it is when the format moves on.
        let key = [0x13, 0x31, 0x32];
        let record = hex("1001e5743aea 68656c6c6f");
        assert_eq!(decode(&key, &record), Ok(Stored::Whole { version: 1, value: b"hello" }));
        let head = hex("1101cf0291d8 0110000050b904bd");
        assert_eq!(
            decode(&key, &head),
            Ok(Stored::Head { version: 1, len: 4097, crc: 0xbd04_b950 })
        );
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|b| *b != b' ').collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }
}
