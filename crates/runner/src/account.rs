//! Accounts of the host: finding one by name, and making files that belong to it.

use std::fs;
use std::io;
use std::process::{Command, Stdio};

use crate::warden::Account;

/// The first of the user ids that attempts get when the daemon runs as root: one each, at random,
/// from a range that systemd keeps for containers and no distribution gives to people.
const FIRST_UID: u32 = 0x6000_0000;
const UIDS: u32 = 0x0F00_0000;

/// An account that no one else on the host has. `random` chooses it.
pub fn nobody_else(random: u32) -> Account {
    let id = FIRST_UID + random % UIDS;
    Account { uid: id, gid: id, groups: Vec::new() }
}

/// The account of this name: from `/etc/passwd`, else from `getent`, which knows directories.
/// (The C library's own search cannot be used: the runner is linked statically.)
pub fn by_name(name: &str) -> io::Result<Account> {
    let missing = || io::Error::other(format!("there is no account {name:?} on this host"));
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-$@\\".contains(c);
    if name.is_empty() || name.starts_with('-') || !name.chars().all(plain) {
        return Err(missing());
    }
    let known = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let known = known.lines().find_map(|line| ids(line, name));
    let (uid, gid) = match known.or_else(|| ids(&getent(&["passwd", name])?, name)) {
        Some(ids) => ids,
        None => return Err(missing()),
    };
    if uid == 0 {
        return Err(io::Error::other(format!("account {name:?} is root: choose another")));
    }
    Ok(Account { uid, gid, groups: groups_of(name) })
}

/// User and group of a line of passwd(5), if it is the account's.
fn ids(line: &str, name: &str) -> Option<(u32, u32)> {
    let mut fields = line.trim_end().split(':');
    if fields.next()? != name {
        return None;
    }
    let mut fields = fields.skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// The groups of group(5) that have the account as a member.
fn groups_of(name: &str) -> Vec<u32> {
    let text = fs::read_to_string("/etc/group").unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(':').skip(2);
            let id = fields.next()?.parse().ok()?;
            fields.next()?.split(',').any(|member| member == name).then_some(id)
        })
        .take(64)
        .collect()
}

fn getent(arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("/usr/bin/getent");
    command.args(arguments).env_clear().stdin(Stdio::null()).stderr(Stdio::null());
    String::from_utf8(command.output().ok()?.stdout).ok()
}

/// While it lives, files that this thread makes belong to the account and its rights count for
/// them, not root's. Does nothing without an account.
#[derive(Debug)]
pub struct FilesAs {
    active: bool,
}

impl FilesAs {
    /// Needs root.
    pub fn account(account: Option<&Account>) -> io::Result<FilesAs> {
        let Some(account) = account else { return Ok(FilesAs { active: false }) };
        set(account.uid, account.gid);
        let active = FilesAs { active: true };
        // These calls tell no errors; asking with an id that is none tells the current one.
        // SAFETY: as in `set`.
        let now = unsafe { libc::setfsuid(u32::MAX) };
        if now.cast_unsigned() == account.uid {
            Ok(active)
        } else {
            Err(io::Error::other(format!("cannot make files as user {}", account.uid)))
        }
    }
}

impl Drop for FilesAs {
    fn drop(&mut self) {
        if self.active {
            set(0, 0);
        }
    }
}

fn set(uid: u32, gid: u32) {
    // SAFETY: the calls take numbers and change this thread's credentials alone. The group comes
    // first: without user 0 it may not be changed. Back, the user comes first for the same reason,
    // and the order does not matter since being root is asked of the effective user.
    unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
    }
}
