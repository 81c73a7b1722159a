//! `.hg_archival.txt`, as `mercurial/archival.py` has it.

use hgci_core::Node;

use crate::changeset::Changeset;
use crate::error::Result;
use crate::graph::Rev;
use crate::reader::Reader;
use crate::visible::Hidden;

/// The text for a changeset.
pub(super) fn text(reader: &Reader, rev: Rev, changeset: &Changeset) -> Result<Vec<u8>> {
    let mut hidden = reader.hidden()?;
    if hidden.contains(&rev) {
        // `hg --hidden archive`: then nothing is.
        hidden = Hidden::new();
    }
    let root = (0..reader.len() as u32).map(Rev).find(|rev| !hidden.contains(rev));
    let root = root.and_then(|rev| reader.node(rev)).unwrap_or(Node::NULL);
    let latest = reader.latest_tag(rev, &hidden)?;

    let mut text = format!("repo: {root}\nnode: {}\nbranch: ", changeset.node).into_bytes();
    // The bytes of the branch, not what they were shown as.
    match changeset.extra.get("branch") {
        Some(branch) => text.extend_from_slice(branch),
        None => text.extend_from_slice(b"default"),
    }
    text.push(b'\n');
    let (label, since) = match latest.distance {
        0 => ("tag: ", String::new()),
        distance => (
            "latesttag: ",
            format!("latesttagdistance: {distance}\nchangessincelatesttag: {}\n", latest.changes),
        ),
    };
    for tag in latest.tags {
        text.extend_from_slice(label.as_bytes());
        text.extend_from_slice(&tag);
        text.push(b'\n');
    }
    text.extend_from_slice(since.as_bytes());
    Ok(text)
}
