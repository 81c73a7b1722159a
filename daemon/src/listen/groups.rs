//! The groups of the process at the other end of a Unix socket, as the kernel vouches for them.

use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd as _};
use std::sync::Arc;

use nix::libc;

/// The most groups of a process: Linux' `NGROUPS_MAX`.
const MOST: usize = 65536;

/// The effective group, and the others that the process was in when it connected
/// (`SO_PEERGROUPS`, Linux 4.13).
pub(super) fn of(socket: &impl AsFd, effective: u32) -> Arc<[u32]> {
    let others = supplementary(socket).unwrap_or_default();
    std::iter::once(effective).chain(others).collect()
}

/// `None` where the kernel does not say.
fn supplementary(socket: &impl AsFd) -> Option<Vec<u32>> {
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let mut bytes = libc::socklen_t::try_from(groups.len() * size_of::<libc::gid_t>()).ok()?;
        // SAFETY: the kernel writes at most `bytes` bytes, which is how long `groups` is, and how
        // many it wrote, or would have, to `bytes`; both outlive the call.
        let status = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let needed = bytes as usize / size_of::<libc::gid_t>();
        if status == 0 {
            groups.truncate(needed);
            return Some(groups);
        }
        if needed <= groups.len() || needed > MOST {
            return None;
        }
        groups.resize(needed, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_peer_has_the_groups_that_its_process_is_in() {
        let (near, _far) = UnixStream::pair().unwrap();
        let own: Vec<u32> =
            rustix::process::getgroups().unwrap().iter().map(|gid| gid.as_raw()).collect();
        let found = of(&near, 7);
        assert_eq!((found[0], &found[1..]), (7, own.as_slice()));
    }
}
