//! The Unix socket, made with its permissions.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use crate::accounts;
use crate::config::Config;

/// Makes the socket. Under another name at first, so that nobody connects to one whose permissions
/// are not yet what they should be, and hooks never find it missing between two daemons.
pub(super) fn bind(config: &Config) -> Result<UnixListener, String> {
    let path = &config.socket;
    let cannot = |what: &str, why: &dyn std::fmt::Display| {
        format!("cannot {what} the socket {}: {why}", path.display())
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        std::fs::create_dir_all(folder).map_err(|error| cannot("make the folder of", &error))?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(cannot("make", &"something that is no socket is in its place"));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(cannot("make", &"another program answers on it"));
        }
        _ => {}
    }
    let fresh = fresh_name(path);
    let _left_over = std::fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh).map_err(|error| cannot("make", &error))?;
    let permit = || -> Result<(), String> {
        if let Some(group) = &config.socket_group {
            let gid = accounts::group(group).ok_or_else(|| format!("there is no group {group}"))?;
            std::os::unix::fs::chown(&fresh, None, Some(gid)).map_err(|error| error.to_string())?;
        }
        let mode = std::fs::Permissions::from_mode(config.socket_mode);
        std::fs::set_permissions(&fresh, mode).map_err(|error| error.to_string())?;
        std::fs::rename(&fresh, path).map_err(|error| error.to_string())
    };
    permit().map_err(|why| {
        let _gone = std::fs::remove_file(&fresh);
        cannot("set the permissions of", &why)
    })?;
    Ok(listener)
}

fn fresh_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}
