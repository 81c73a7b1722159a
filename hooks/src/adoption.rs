//! The mark `.hg/hgci/adopted`: a daemon serves this repository, hooks may act.
//!
//! It is what keeps a setting for the whole machine from touching private clones.

use std::fs::Permissions;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::FOLDER;
use crate::folder::Folder;

/// The mark's name in the folder `.hg/hgci`.
pub const FILE: &str = "adopted";

/// Its name until it is whole.
const FRESH: &str = "adopted.new";

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
    let file = Folder::open(hg, &[]).and_then(|folder| folder.file(FILE.as_ref(), false));
    let mut text = String::new();
    file.ok()?.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// Leaves the mark in the folder `hg`; `.hg/hgci` must exist. Written only where it differs.
pub fn write(hg: &Path, adoption: &Adoption) -> io::Result<()> {
    if read(hg).as_ref() == Some(adoption) {
        return Ok(());
    }
    let (name, fresh) = (FILE.as_ref(), FRESH.as_ref());
    let result = (|| {
        let mut text = serde_json::to_vec(adoption)?;
        text.push(b'\n');
        let folder = Folder::open(hg, &[])?;
        let _ = folder.remove(fresh);
        let mut file = folder.create(fresh)?;
        file.write_all(&text)?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.sync_all()?;
        folder.rename(fresh, name)
    })();
    let path = hg.join(FOLDER).join(FILE);
    result.map_err(|e| io::Error::new(e.kind(), format!("write {}: {e}", path.display())))
}

/// Takes the mark away: the daemon does not serve this repository any more.
pub fn remove(hg: &Path) -> io::Result<()> {
    match Folder::open(hg, &[]).and_then(|folder| folder.remove(FILE.as_ref())) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
