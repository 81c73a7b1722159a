//! The stream of a pull: items, each preceded by its length in four bytes, little endian. The
//! first byte of an item says what it is.
//!
//! | first byte | rest |
//! |---|---|
//! | 1, a record | kind, version, record id (16 bytes), payload |
//! | 0, the end | 1 where there is more to come with the next pull, else 0; the cookie as text |
//!
//! A record of kind 1, an origin, says from which daemon those after it come. A stream without its
//! end was cut, and nothing of it counts.

use std::io::{self, Read};

use crate::frame::MAX_FRAME;
use crate::record::RecordId;
use crate::writer::Raw;

use super::cookie::MAX_COOKIE;

const END: u8 = 0;
const RECORD: u8 = 1;

/// An item that was read.
#[derive(Debug, PartialEq)]
pub(super) enum Item {
    Record(Raw),
    End { cookie: String, more: bool },
}

pub(super) fn write_record(out: &mut Vec<u8>, raw: &Raw) {
    let len = 1 + 2 + 16 + raw.payload.len();
    out.extend((len as u32).to_le_bytes());
    out.extend([RECORD, raw.kind.0, raw.kind.1]);
    out.extend(raw.id.0);
    out.extend(&raw.payload);
}

pub(super) fn write_end(out: &mut Vec<u8>, cookie: &str, more: bool) {
    out.extend((2 + cookie.len() as u32).to_le_bytes());
    out.extend([END, u8::from(more)]);
    out.extend(cookie.as_bytes());
}

/// Reads the next item. `UnexpectedEof` where the stream was cut, `InvalidData` where it is none.
pub(super) fn read(from: &mut impl Read) -> io::Result<Item> {
    let mut len = [0; 4];
    from.read_exact(&mut len)?;
    let len = u32::from_le_bytes(len) as usize;
    if !(2..=MAX_FRAME.max(MAX_COOKIE)).contains(&len) {
        return Err(invalid("no item has such a length"));
    }
    let mut item = vec![0; len];
    from.read_exact(&mut item)?;
    match (item[0], item.split_at_checked(19)) {
        (RECORD, Some((head, payload))) if len <= MAX_FRAME => {
            let mut id = [0; 16];
            id.copy_from_slice(&head[3..]);
            let kind = (head[1], head[2]);
            Ok(Item::Record(Raw { id: RecordId(id), kind, payload: payload.to_vec() }))
        }
        (END, _) => {
            let cookie = item.get(2..).unwrap_or_default();
            match std::str::from_utf8(cookie) {
                Ok(text) if text.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                    Ok(Item::End { cookie: text.to_owned(), more: item[1] == 1 })
                }
                _ => Err(invalid("the cookie is no hexadecimal number")),
            }
        }
        _ => Err(invalid("an item of an unknown sort")),
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
