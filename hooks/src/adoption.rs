//! The mark `.hg/hgci/adopted`: a daemon serves this repository, hooks may act.
//!
//! It is what keeps a setting for the whole machine from touching private clones.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::FOLDER;
use crate::folder::Folder;

/// The mark's name in the folder `.hg/hgci`.
pub const FILE: &str = "adopted";

const MAX_BYTES: u64 = 16 << 10;

/// Which daemon, and by what name it knows the repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adoption {
    /// The daemon's socket.
    pub socket: String,
    /// The repository's name in its configuration.
    pub repo: String,
}

/// The mark in the folder `hg`, where there is a readable one.
pub fn read(hg: &Path) -> Option<Adoption> {
    let file = Folder::ours(hg).and_then(|ours| ours.open(OsStr::new(FILE), OFlags::RDONLY));
    let mut text = String::new();
    file.ok()?.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// Leaves the mark in the folder `hg`; `.hg/hgci` must exist. Written only where it differs.
pub fn write(hg: &Path, adoption: &Adoption) -> io::Result<()> {
    if read(hg).as_ref() == Some(adoption) {
        return Ok(());
    }
    let mut text = serde_json::to_vec(adoption)?;
    text.push(b'\n');
    let written = Folder::ours(hg).and_then(|ours| ours.replace(FILE, &text, 0o644));
    let path = hg.join(FOLDER).join(FILE);
    written.map_err(|e| io::Error::new(e.kind(), format!("write {}: {e}", path.display())))
}

/// Takes the mark away: the daemon does not serve this repository any more.
pub fn remove(hg: &Path) -> io::Result<()> {
    match Folder::ours(hg).and_then(|ours| ours.remove(OsStr::new(FILE))) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
