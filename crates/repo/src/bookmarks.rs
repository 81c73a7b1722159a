//! Bookmarks: lines of node and name.

use std::collections::BTreeMap;
use std::path::Path;

use hgci_core::Node;

use crate::error::Result;
use crate::open;

/// More bookmarks than this are no repository that we serve.
const MAX_BOOKMARKS: u64 = 64 << 20;

/// Reads the file; one that is missing has none. Lines that make no sense are left out, as hg does.
pub(crate) fn read(repo: &Path, file: &Path) -> Result<BTreeMap<String, Node>> {
    let Some(text) = open::small(repo, file, MAX_BOOKMARKS)? else { return Ok(BTreeMap::new()) };
    Ok(text.split(|byte| *byte == b'\n').filter_map(parse).collect())
}

fn parse(line: &[u8]) -> Option<(String, Node)> {
    let line = line.trim_ascii();
    let (node, name) = (line.get(..40)?, line.get(41..)?);
    let node = std::str::from_utf8(node).ok()?.parse().ok()?;
    (line[40] == b' ').then(|| (String::from_utf8_lossy(name).into_owned(), node))
}
