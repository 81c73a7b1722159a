//! The results log of a repository: `.hg/hgci/results`, append-only, and its index beside it.
//!
//! One process writes ([`Writer`], the daemon), any number read ([`Reader`]: hg commands, hgweb, the
//! daemon itself), without a lock and without mmap of the log. The format is described in
//! `docs/results-log.md`; in short:
//!
//! - The log is a header and frames. A frame is byte-stuffed so that the zero byte that ends it is
//!   in no frame: after damage the next frame begins after the next zero byte, whatever text
//!   somebody managed to get into a record ([`frame`]).
//! - What counts is below the *committed length* in the header. It is written after fdatasync, so
//!   what a reader sees is durable ([`header`]).
//! - The index is sorted runs of (first bytes of the node, offset), each page with a checksum. It
//!   may be missing, behind or damaged: then lookups read the log itself ([`index`]).
//!
//! Invariants: nothing below the committed length is ever changed in place; a log is replaced as a
//! whole, under a new log id, by [`Writer::compact`]; the index never claims to cover more than is
//! committed.

mod compact;
mod error;
pub mod exchange;
mod frame;
mod header;
mod index;
mod newest;
mod place;
mod reader;
mod record;
mod recover;
mod scan;
mod states;
mod writer;

pub use error::{Damage, Error};
pub use frame::{Chain, MAX_FRAME};
pub use header::{FORMAT, HEADER_LEN, LogId, Mark};
pub use newest::Newest;
pub use place::Place;
pub use reader::{Found, MAX_FOUND, Reader, Records};
pub use record::{MAX_NAME, MAX_TEXT, Record, RecordId};
pub use states::States;
pub use writer::{Appended, Writer};
