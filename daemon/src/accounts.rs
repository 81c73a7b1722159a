//! Names of accounts and groups of this machine.

use nix::unistd::{Gid, Group, Uid, User};

/// The name of a user id, or the number where the machine does not know it. It may have to ask
/// another machine, so that happens on a thread of its own.
pub async fn look_up(uid: u32) -> String {
    let name = tokio::task::spawn_blocking(move || name_of(uid)).await;
    name.unwrap_or_else(|_| uid.to_string())
}

fn name_of(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

/// The groups that an account is in, with the one that it runs as. On a thread of its own, too.
pub async fn groups(account: &str, gid: u32) -> Vec<u32> {
    let account = account.to_owned();
    let groups = tokio::task::spawn_blocking(move || {
        let name = std::ffi::CString::new(account).ok()?;
        nix::unistd::getgrouplist(&name, Gid::from_raw(gid)).ok()
    });
    let groups = groups.await.ok().flatten().unwrap_or_default();
    groups.into_iter().map(Gid::as_raw).chain([gid]).collect()
}

/// The ids of a user and of its first group.
pub fn user(name: &str) -> Option<(u32, u32)> {
    let user = User::from_name(name).ok().flatten()?;
    Some((user.uid.as_raw(), user.gid.as_raw()))
}

/// The id of a group.
pub fn group(name: &str) -> Option<u32> {
    Some(Gid::as_raw(Group::from_name(name).ok().flatten()?.gid))
}
