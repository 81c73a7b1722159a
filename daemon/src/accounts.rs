//! Names of accounts and groups of this machine.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Group, Uid, User};
use parking_lot::Mutex;

/// How long a name is taken from memory: a push waits for it.
const REMEMBERED: Duration = Duration::from_secs(60);

/// The most names that are in memory.
const MOST: usize = 1000;

/// Names that were asked for, and when.
static NAMES: Mutex<BTreeMap<u32, (String, Instant)>> = Mutex::new(BTreeMap::new());

/// The name of a user id, or the number where the machine does not know it. It may have to ask
/// another machine, so that happens on a thread of its own, and not for each push.
pub async fn look_up(uid: u32) -> String {
    let known = NAMES.lock().get(&uid).cloned();
    if let Some((name, since)) = known
        && since.elapsed() < REMEMBERED
    {
        return name;
    }
    let name = tokio::task::spawn_blocking(move || name_of(uid)).await.ok().flatten();
    let mut names = NAMES.lock();
    match &name {
        Some(name) => {
            if names.len() >= MOST {
                names.clear();
            }
            names.insert(uid, (name.clone(), Instant::now()));
        }
        None => drop(names.remove(&uid)),
    }
    name.unwrap_or_else(|| uid.to_string())
}

fn name_of(uid: u32) -> Option<String> {
    Some(User::from_uid(Uid::from_raw(uid)).ok().flatten()?.name)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_account_has_its_name_and_who_is_none_its_number() {
        for _ in 0..2 {
            assert_eq!(look_up(0).await, "root");
            assert_eq!(look_up(4_000_000_123).await, "4000000123");
        }
        assert!(NAMES.lock().contains_key(&0) && !NAMES.lock().contains_key(&4_000_000_123));
    }
}
