//! The Unix socket, made with its permissions.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use crate::accounts;
use crate::config::Config;

/// The socket under another name, so that nobody connects to one whose permissions are not yet what
/// they should be, nothing is served before all is ready, and hooks never find it missing between
/// two daemons. It is removed where it is not opened.
pub struct Bound {
    listener: Option<UnixListener>,
    fresh: PathBuf,
    path: PathBuf,
}

/// Makes the socket, with its permissions. Says what stands in the way.
pub fn bind(config: &Config) -> Result<Bound, String> {
    let path = config.socket.clone();
    let cannot = |what: &str, why: &dyn std::fmt::Display| {
        format!("cannot {what} the socket {}: {why}", path.display())
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        std::fs::create_dir_all(folder).map_err(|error| cannot("make the folder of", &error))?;
    }
    match std::fs::symlink_metadata(&path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(cannot("make", &"something that is no socket is in its place"));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(&path).is_ok() => {
            return Err(cannot("make", &"another program answers on it"));
        }
        _ => {}
    }
    let fresh = fresh_name(&path);
    let _left_over = std::fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh).map_err(|error| cannot("make", &error))?;
    let bound = Bound { listener: Some(listener), fresh, path: path.clone() };
    let permit = || -> Result<(), String> {
        if let Some(group) = &config.socket_group {
            let gid = accounts::group(group).ok_or_else(|| format!("there is no group {group}"))?;
            let made = std::os::unix::fs::chown(&bound.fresh, None, Some(gid));
            made.map_err(|error| error.to_string())?;
        }
        let mode = std::fs::Permissions::from_mode(config.socket_mode);
        std::fs::set_permissions(&bound.fresh, mode).map_err(|error| error.to_string())
    };
    permit().map_err(|why| cannot("set the permissions of", &why))?;
    Ok(bound)
}

impl Bound {
    /// Puts the socket where clients look for it.
    pub(super) fn open(mut self) -> Result<UnixListener, String> {
        let cannot = |why: &dyn std::fmt::Display| {
            format!("cannot make the socket {}: {why}", self.path.display())
        };
        std::fs::rename(&self.fresh, &self.path).map_err(|error| cannot(&error))?;
        self.listener.take().ok_or_else(|| cannot(&"it is open"))
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if self.listener.is_some() {
            let _gone = std::fs::remove_file(&self.fresh);
        }
    }
}

fn fresh_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}
