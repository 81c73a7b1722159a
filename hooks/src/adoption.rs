//! The mark `.hg/hgci/adopted`: a daemon serves this repository, hooks may act.
//!
//! It is what keeps a setting for the whole machine from touching private clones.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::FOLDER;

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
    let path = hg.join(FOLDER).join(FILE);
    let mut options = File::options();
    // A fifo in its place must not make a push wait.
    let file = options.read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
    let mut text = String::new();
    file.open(path).ok()?.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// Leaves the mark in the folder `hg`; `.hg/hgci` must exist. Written only where it differs.
pub fn write(hg: &Path, adoption: &Adoption) -> io::Result<()> {
    if read(hg).as_ref() == Some(adoption) {
        return Ok(());
    }
    let path = hg.join(FOLDER).join(FILE);
    let fresh = path.with_extension("new");
    let named = |e: io::Error| io::Error::new(e.kind(), format!("write {}: {e}", path.display()));
    let result = (|| {
        let mut text = serde_json::to_vec(adoption)?;
        text.push(b'\n');
        let _ = fs::remove_file(&fresh);
        let mut options = File::options();
        let mut file = options.write(true).create_new(true).mode(0o644).open(&fresh)?;
        file.write_all(&text)?;
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        file.sync_all()?;
        fs::rename(&fresh, &path)
    })();
    result.map_err(named)
}

/// Takes the mark away: the daemon does not serve this repository any more.
pub fn remove(hg: &Path) -> io::Result<()> {
    match fs::remove_file(hg.join(FOLDER).join(FILE)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
